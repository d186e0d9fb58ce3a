"""StackedEncoder: the right space gets the weight, nothing held out is seen, mixtures are what they say."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.optimize import minimize
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import encoding, neuro
from cerebridge.encoding.ridge import RidgeCV
from cerebridge.encoding.stacking import StackedEncoder

SPACES = {"first": slice(0, 5), "second": slice(5, 12), "noise": slice(12, 20)}


@parametrize_with_checks([StackedEncoder(RidgeCV(cv=2)), StackedEncoder(Ridge(), cv=2)])
def test_the_contract_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def simulate(n: int = 300, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A target of each of two spaces, one of both, and one of noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 20)) + 1
    first, second = X[:, :5].sum(1), X[:, 5:12].sum(1)
    Y = np.stack([first, second, first + second, np.zeros(n)], 1)
    return X, Y + noise * rng.standard_normal(Y.shape) + 3


def test_weights_find_the_right_space():
    model = StackedEncoder(bands=SPACES).fit(*simulate())
    np.testing.assert_allclose(model.weights_[:, 0], [1, 0, 0], atol=0.05)
    np.testing.assert_allclose(model.weights_[:, 1], [0, 1, 0], atol=0.05)
    assert model.weights_[:2, 2].min() > 0.3 > 0.1 > model.weights_[2, 2]
    np.testing.assert_allclose(model.weights_.sum(0), 1)


def test_agrees_with_fits_by_hand():
    X, Y = simulate(60)
    model = StackedEncoder(Ridge(2.0), SPACES, cv=KFold(3)).fit(X, Y)
    for t, y in enumerate(Y.T):
        errors = np.zeros((60, 3))
        for train, test in KFold(3).split(X):
            for b, columns in enumerate(SPACES.values()):
                fitted = Ridge(2.0).fit(X[train, columns], y[train])
                errors[test, b] = y[test] - fitted.predict(X[test, columns])
        found = minimize(
            lambda w, errors=errors: np.square(errors @ w).mean(),
            np.full(3, 1 / 3),
            bounds=[(0, 1)] * 3,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-13},
        )
        assert np.square(errors @ model.weights_[:, t]).mean() <= found.fun * (1 + 1e-8)
        np.testing.assert_allclose(model.weights_[:, t], found.x, atol=2e-3)
        parts = [
            weight * Ridge(2.0).fit(X[:, columns], y).predict(X[:, columns])
            for weight, columns in zip(model.weights_[:, t], SPACES.values(), strict=True)
        ]
        np.testing.assert_allclose(model.predict(X)[:, t], sum(parts))


def test_the_mixture_is_no_worse_than_the_best_space():
    X, Y = simulate(600, seed=1, noise=2)
    train, test = slice(0, 300), slice(300, 600)

    def held_out(model, columns):
        predicted = model.fit(X[train, columns], Y[train]).predict(X[test, columns])
        return 1 - np.square(Y[test] - predicted).sum(0) / np.square(Y[test] - Y[test].mean(0)).sum(0)

    stacked = held_out(StackedEncoder(bands=SPACES), slice(None))
    best = np.max([held_out(RidgeCV(), columns) for columns in SPACES.values()], axis=0)
    assert (stacked > best - 0.02).all()
    assert stacked[2] > best[2] + 0.05  # what both spaces know, no single one does


def test_weights_never_see_held_out_rows():
    X, Y = simulate(120)
    seen = []

    class Watching(Ridge):
        def fit(self, X, y):
            seen.append(X)
            return super().fit(X, y)

    splits = [(train, test) for train, test in KFold(4).split(X)]
    StackedEncoder(Watching(), SPACES, cv=splits).fit(X, Y)
    assert len(seen) == (4 + 1) * 3
    for k, (_, test) in enumerate(splits):
        for fitted, columns in zip(seen[3 * k : 3 * k + 3], SPACES.values(), strict=True):
            assert not np.isin(fitted[:, 0], X[test, columns][:, 0]).any()


def test_what_it_promises_is_what_an_evaluation_finds():
    X, Y = simulate(400)
    model = StackedEncoder(bands=SPACES).fit(X, Y)
    result = encoding.evaluate(StackedEncoder(bands=SPACES), X, Y, cv=4, scoring="r2", permutations=3)
    np.testing.assert_allclose(result.unit_scores().values[0], model.best_score_, atol=0.06)
    assert abs(result.unit_scores().values[0, 3]) < 0.05


def test_labels_kinds_and_files(tmp_path):
    X, Y = simulate(60)
    features = neuro.assemble(
        X,
        presentation={"stimulus_id": [f"s{i}" for i in range(60)], "run": np.arange(60) // 12},
        neuroid={"neuroid_id": [f"f{i}" for i in range(20)], "layer": ["a"] * 5 + ["b"] * 15},
        modality="activation",
        units="a.u.",
    )
    model = StackedEncoder(bands="layer").fit(features, Y, groups="run")
    assert model.weights_.dims == ("band", "neuroid")
    assert model.weights_.band.values.tolist() == ["a", "b"]
    assert model.independent_targets
    assert StackedEncoder(Ridge()).independent_targets
    assert not StackedEncoder(PLSRegression()).independent_targets
    encoding.save(tmp_path / "stacked.skops", model)
    for again in (copy.deepcopy(model), encoding.load(tmp_path / "stacked.skops")):
        xr.testing.assert_identical(again.predict(features), model.predict(features))
    tensors = StackedEncoder(bands=SPACES).fit(torch.from_numpy(X).float(), torch.from_numpy(Y).float())
    assert tensors.coef_.dtype == torch.float32
    assert tensors.weights_.shape == (3, 4)


def test_a_model_without_coefficients():
    X, Y = simulate(60)
    with pytest.raises(
        TypeError, match="KNeighborsRegressor has no coef_ and intercept_; give a linear model"
    ):
        StackedEncoder(KNeighborsRegressor(), SPACES).fit(X, Y)
