"""Fits over folds where something is missing: units that do not vary, folds without a score, useless predictions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from cerebridge import encoding
from cerebridge.encoding.crossvalidation import mean_over_folds
from cerebridge.encoding.significance import p_values

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 6))
Y = X @ RNG.standard_normal((6, 4)) + 0.5 * RNG.standard_normal((40, 4))


def test_mean_over_folds_leaves_out_folds_without_a_score():
    mean = mean_over_folds([np.array([1.0, np.nan, np.nan]), np.array([3.0, 4.0, np.nan])])
    np.testing.assert_array_equal(mean, [2.0, 4.0, np.nan])


@pytest.mark.parametrize("estimator", [Ridge(), encoding.RidgeCV()], ids=["scikit-learn", "ours"])
def test_a_constant_unit_is_named_once_and_takes_nothing_with_it(estimator):
    constant = Y.copy()
    constant[:, 1] = 3.0
    with pytest.warns(UserWarning) as caught:
        result = encoding.evaluate(estimator, X, constant, permutations=9)
    (warning,) = caught
    assert str(warning.message).startswith(
        "1 of 4 units (first 1) do not vary in the test rows of some folds"
    )
    others = encoding.evaluate(estimator, X, Y[:, [0, 2, 3]], permutations=9)
    for name in ("score", "p", "p_fdr", "p_max"):
        kept = result.dataset[name].isel(unit=[0, 2, 3])
        np.testing.assert_allclose(kept.values, others.dataset[name].values, rtol=1e-9)
        assert np.isnan(result.dataset[name].isel(unit=1)).all()
    assert result.audit["units_without_score_in_some_folds"] == 1
    row = result.summary().iloc[0]
    assert row["n_units"] == 3
    assert row["score"] == others.summary().iloc[0]["score"]


def test_a_rare_response_has_a_score_where_it_varies():
    rare = np.zeros((40, 1))
    rare[:4] = X[:4, :1]
    with pytest.warns(UserWarning, match="do not vary in the test rows of some folds"):
        result = encoding.evaluate(Ridge(), X, rare, cv=2, groups=np.arange(40) // 20, permutations=19)
    assert np.isnan(result.score.values).ravel().tolist() == [False, True]
    assert 0 < result.dataset["p"].item() <= 1


def test_draws_without_a_score_never_make_p_smaller():
    values = p_values(np.array([0.5, 0.5]), np.array([[np.nan, 0.1], [np.nan, 0.2], [0.1, np.nan]]))
    np.testing.assert_allclose(values["p"], [3 / 4, 2 / 4])
    np.testing.assert_allclose(values["p_max"], [1 / 4, 1 / 4])


def test_rounding_never_makes_p_smaller():
    assert p_values(np.array([0.3]), np.array([[0.1 + 0.2 - 1e-16], [0.3 * (1 - 1e-15)]]))["p"] == [1.0]


def test_single_held_out_rows_are_refused():
    with pytest.raises(ValueError, match="fold 0 holds out a single row, on which pearsonr is undefined"):
        encoding.evaluate(Ridge(), X, Y, cv=40)


class Diverging(RegressorMixin, BaseEstimator):
    def fit(self, x, y):
        return self

    def predict(self, x):
        return np.full((len(x), 4), np.nan)


def test_useless_predictions_are_an_error_not_a_score():
    with pytest.raises(ValueError, match="Diverging predicts missing or infinite values in fold 0"):
        encoding.evaluate(Diverging(), X, Y)


def test_exchanged_labels_leave_two_classes_to_learn():
    group = np.repeat(np.arange(4), 10)
    labels = np.where(group % 2, "a", "b")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = encoding.evaluate(
            NearestCentroid(),
            X,
            labels,
            groups=group,
            cv=[(np.arange(20), np.arange(20, 40))],
            permutations=30,
        )
    assert 0 < result.dataset["p"].item() <= 1


@pytest.mark.parametrize("permutations", [-1, 2.5, "many"])
def test_numbers_of_permutations_are_checked(permutations):
    with pytest.raises(ValueError, match="permutations is .*; give how many, 0 for none"):
        encoding.evaluate(Ridge(), X, Y, permutations=permutations)
