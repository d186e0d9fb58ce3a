"""Fits over folds where something is missing: units that do not vary, folds without a score, useless predictions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cerebridge import encoding, neuro
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


class OwnRows(RegressorMixin, BaseEstimator):
    """Least squares of each unit on the rows that it has."""

    handles_missing = True

    def fit(self, x, y):
        self.units_ = [LinearRegression().fit(x[~np.isnan(unit)], unit[~np.isnan(unit)]) for unit in y.T]
        return self

    def predict(self, x):
        return np.stack([unit.predict(x) for unit in self.units_], axis=1)


HOLES = np.where(np.random.default_rng(1).random(Y.shape) < [0.0, 0.2, 0.2, 0.5], np.nan, Y)
FOLDS = [(np.arange(20, 40), np.arange(20)), (np.arange(20), np.arange(20, 40))]


@pytest.mark.parametrize("scoring", ["pearsonr", "r2"])
def test_units_with_missing_responses_are_scored_on_their_own_rows(scoring):
    with pytest.warns(
        UserWarning, match=r"responses are missing, in 3 of 4 units \(first: unit 1 in"
    ) as caught:
        result = encoding.evaluate(OwnRows(), X, HOLES, cv=FOLDS, scoring=scoring, permutations=4)
    assert len(caught) == 1
    assert result.audit["missing"].endswith("each unit was fitted and scored on its own rows")
    for unit in range(4):
        rows = np.flatnonzero(~np.isnan(HOLES[:, unit]))
        folds = [tuple(np.flatnonzero(np.isin(rows, part)) for part in fold) for fold in FOLDS]
        alone = encoding.evaluate(
            LinearRegression(), X[rows], HOLES[rows, unit], cv=folds, scoring=scoring, control=False
        )
        np.testing.assert_allclose(result.score.values[0, :, unit], alone.score.values[0, :, 0], rtol=1e-10)
    assert np.isfinite(result.dataset["p"]).all()


class OwnRidge(encoding.RidgeCV):
    handles_missing = True


def test_ridge_fits_units_with_missing_responses_on_their_own_rows():
    model = OwnRidge(np.logspace(-3, 3, 7), cv=3)
    with pytest.warns(UserWarning, match="responses are missing, in 3 of 4 units"):
        result = encoding.evaluate(model, X, HOLES, cv=FOLDS, permutations=4, bootstrap=20)
    for unit in range(4):
        rows = np.flatnonzero(~np.isnan(HOLES[:, unit]))
        folds = [tuple(np.flatnonzero(np.isin(rows, part)) for part in fold) for fold in FOLDS]
        alone = encoding.evaluate(model, X[rows], HOLES[rows, unit], cv=folds, control=False)
        np.testing.assert_allclose(result.score.values[0, :, unit], alone.score.values[0, :, 0], rtol=1e-9)
    assert np.isfinite(result.dataset["score_low"]).all()


def test_closed_forms_of_leaving_one_out_are_no_strangers_to_groups():
    single = encoding.evaluate(encoding.RidgeCV(np.logspace(-3, 3, 7), cv="loo"), X, Y, control=False)
    assert single.audit["split"].startswith("5 folds over stimuli")
    with pytest.raises(ValueError, match="leaves out single samples, but there are groups"):
        encoding.evaluate(encoding.RidgeCV(cv="loo"), X, Y, groups=np.arange(40) // 4, control=False)


def test_missing_responses_need_an_estimator_that_takes_them():
    with pytest.raises(
        ValueError, match=r"3 of 4 units have missing.*\(first: unit 1 in row \d+\).*as RidgeCV does"
    ):
        encoding.evaluate(LinearRegression(), X, HOLES)
    with pytest.raises(ValueError, match="missing or infinite"):
        encoding.evaluate(OwnRows(), X, np.where(np.isnan(HOLES), np.inf, Y))
    nothing = np.where([True, False, True, True], Y, np.nan)
    with pytest.raises(
        ValueError, match="1 of 4 units have no responses at all .first: unit 1.; leave them out"
    ):
        encoding.evaluate(OwnRows(), X, nothing)


def test_units_that_cannot_be_learned_in_a_fold_are_refused():
    late = Y.copy()
    late[:20, 2] = np.nan
    with (
        pytest.warns(UserWarning, match="responses are missing"),
        pytest.raises(
            ValueError, match=r"1 units have no responses in the training rows of fold 1 \(first: unit 2\)"
        ),
    ):
        encoding.evaluate(OwnRows(), X, late, cv=FOLDS)


def test_a_ceiling_of_missing_responses_is_of_those_that_are_there():
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(40)]
    features = neuro.assemble(
        X,
        presentation={"stimulus_id": ids},
        neuroid={"neuroid_id": np.arange(6)},
        modality="activation",
        units="a.u.",
    )
    values = np.repeat(Y, 3, axis=0) + 0.3 * rng.standard_normal((120, 4))
    values[:6, 0] = np.nan
    values[::3, 1] = np.nan
    responses = neuro.assemble(
        values,
        presentation={"stimulus_id": np.repeat(ids, 3), "repetition": np.tile(np.arange(3), 40)},
        neuroid={"neuroid_id": np.arange(4)},
        modality="spikes",
        units="spikes/s",
    )
    with pytest.warns(UserWarning, match="2 of 160 responses are missing, in 1 of 4 units"):
        result = encoding.evaluate(OwnRows(), features, responses, control=False)
    expected = neuro.noise_ceiling(responses, method="split-half", scoring="pearsonr", random_state=0)
    np.testing.assert_array_equal(result.dataset["ceiling"].values, expected.values)
    assert np.isfinite(result.dataset["normalised"]).all()


class Lagged(RegressorMixin, BaseEstimator):
    """Predicts the feature of the row before, within a recording."""

    def fit(self, x, y, groups=None):
        Lagged.fitted.append(groups)
        self.units_ = y.shape[1]
        return self

    def predict(self, x, groups=None):
        Lagged.predicted.append(groups)
        groups = np.zeros(len(x)) if groups is None else groups
        before = np.concatenate([[0], np.where(groups[1:] == groups[:-1], x[:-1, 0], 0)])
        return np.repeat(before[:, None], self.units_, axis=1)


def recording(n_runs=3, n_times=10):
    start = np.tile(np.arange(float(n_times)), n_runs)
    return neuro.assemble(
        np.random.default_rng(0).standard_normal((n_runs * n_times, 1)),
        time_bin={
            "time_bin_start": start,
            "time_bin_end": start + 1,
            "run": np.repeat(np.arange(n_runs), n_times),
        },
        neuroid={"neuroid_id": [0]},
        modality="fmri",
        units="a.u.",
    )


def test_models_with_lags_are_told_where_recordings_begin():
    Lagged.fitted, Lagged.predicted = [], []
    x = recording()
    y = x.copy(data=np.where(x["time_bin_start"].values[:, None] == 0, 0, np.roll(x.values, 1, axis=0)))
    result = encoding.evaluate(Lagged(), x, y, cv="run", control=False)
    np.testing.assert_allclose(result.score, 1)
    assert [groups.tolist() for groups in Lagged.fitted] == [[0] * 10 + [1] * 10] * 3
    assert Lagged.predicted == [None] * 3, "one recording needs no groups"
    two = encoding.evaluate(Lagged(), x, y, cv=[(np.arange(20, 30), np.arange(20))], control=False)
    np.testing.assert_allclose(two.score, 1)
    assert Lagged.predicted[-1].tolist() == [0] * 10 + [1] * 10


def test_a_fold_in_the_middle_of_a_recording_cuts_it_in_two():
    Lagged.fitted, Lagged.predicted = [], []
    x = recording(n_runs=1, n_times=30)
    encoding.evaluate(make_pipeline(StandardScaler(), Lagged()), x, x, cv=3, control=False)
    assert [None if groups is None else groups.tolist() for groups in Lagged.fitted] == [
        None, [0] * 10 + [1] * 10, None
    ]  # fmt: skip


class Labelled(RegressorMixin, BaseEstimator):
    """Keeps the labels that it is given."""

    takes_labels = True
    seen: list = []

    def fit(self, x, y):
        Labelled.seen.append((x, y))
        self.units_ = y.shape[1]
        return self

    def predict(self, x):
        Labelled.seen.append((x, None))
        return np.repeat(np.asarray(x)[:, :1], self.units_, axis=1)


def test_estimators_that_read_labels_get_them():
    Labelled.seen = []
    ids = [f"s{k}" for k in range(40)]
    features = neuro.assemble(
        X,
        presentation={"stimulus_id": ids},
        neuroid={"neuroid_id": np.arange(6), "layer": list("aabbbc")},
        modality="activation",
        units="a.u.",
    )
    responses = neuro.assemble(
        np.stack([Y, 2 * Y], axis=2),
        presentation={"stimulus_id": ids},
        neuroid={"neuroid_id": np.arange(4), "region": ["V1", "V1", "V4", "IT"]},
        time_bin={"time_bin_start": [0.0, 0.1], "time_bin_end": [0.1, 0.2]},
        modality="spikes",
        units="spikes/s",
    )
    encoding.evaluate(Labelled(), features, responses, cv=FOLDS)
    for x, y in Labelled.seen[::2]:
        assert x.dims == y.dims == ("presentation", "neuroid")
        assert x["layer"].values.tolist() == list("aabbbc")
        assert y["region"].values.tolist() == ["V1"] * 4 + ["V4"] * 2 + ["IT"] * 2
    x, y = Labelled.seen[0]
    assert x["stimulus_id"].values.tolist() == y["stimulus_id"].values.tolist() == ids[20:]
    np.testing.assert_array_equal(y.values, np.stack([Y, 2 * Y], axis=2).reshape(40, 8)[20:])
    Labelled.seen = []
    encoding.evaluate(Labelled(), X, Y, cv=FOLDS, control=False)
    assert isinstance(Labelled.seen[0][0], np.ndarray), "plain arrays have none"
