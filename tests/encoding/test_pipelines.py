"""What estimators say of themselves, and that stacking their targets changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cerebridge import encoding
from cerebridge.encoding import crossvalidation, pipelines
from cerebridge.encoding.pipelines import exchange_bytes, fits_targets_alone

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 6)) * [1, 2, 3, 4, 5, 6]
Y = X @ RNG.standard_normal((6, 3)) + 8 * RNG.standard_normal((40, 3))
SELECTED = make_pipeline(SelectKBest(lambda x, y: f_regression(x, y[:, 0]), k=2), Ridge())


@pytest.mark.parametrize(
    "estimator",
    [
        Ridge(),
        LinearRegression(),
        KernelRidge(),
        KNeighborsRegressor(),
        encoding.RidgeCV(),
        make_pipeline(StandardScaler(), encoding.RidgeCV()),
        make_pipeline(StandardScaler(), "passthrough", make_pipeline(PCA(4), Ridge())),
    ],
    ids=str,
)
def test_permutations_in_one_fit_equal_refits(estimator, monkeypatch):
    assert fits_targets_alone(estimator)
    fits = []
    fit = crossvalidation.CrossValidation.fit
    monkeypatch.setattr(crossvalidation.CrossValidation, "fit", lambda *args: fits.append(args) or fit(*args))
    together = encoding.evaluate(estimator, X, Y, permutations=9)
    assert len(fits) == 10, "five folds, and five more for all permutations"
    monkeypatch.setattr(pipelines, "STACK", 1)
    alone = encoding.evaluate(estimator, X, Y, permutations=9)
    assert len(fits) == 10 + 5 + 45
    for name in ("p", "p_max"):
        np.testing.assert_array_equal(together.dataset[name], alone.dataset[name])
    assert together.audit["shuffle_control"]["model"] == pytest.approx(
        alone.audit["shuffle_control"]["model"]
    )


@pytest.mark.parametrize(
    "estimator",
    [PLSRegression(), SELECTED, Ridge(np.array([1.0, 2.0, 3.0]))],
    ids=["partial least squares", "features chosen by one target", "one alpha a target"],
)
def test_targets_that_are_fitted_together_stay_by_themselves(estimator):
    """With the targets of several permutations side by side these would fit something else, or nothing."""
    assert not fits_targets_alone(estimator)
    result = encoding.evaluate(estimator, X, Y, permutations=3)
    assert np.isfinite(result.dataset["p"]).all()


def test_a_stack_keeps_to_the_memory_of_the_estimator():
    assert pipelines.stack_bytes(encoding.RidgeCV(memory="2MiB")) == 2**21
    assert pipelines.stack_bytes(make_pipeline(StandardScaler(), Ridge())) == pipelines.STACK
    assert exchange_bytes((40, 6), Y) == 8 * 3 * (5 * 40 + 2 * 6 + 200)
