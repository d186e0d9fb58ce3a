"""Intervals of scores against loops over draws, and what moves together when rows are drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from cerebridge import encoding, neuro
from cerebridge.encoding import bootstrap
from cerebridge.encoding.bootstrap import score_intervals
from cerebridge.encoding.crossvalidation import CrossValidation, FoldFit
from cerebridge.encoding.scorers import SCORERS, find_scorer, score_units
from cerebridge.encoding.splits import Splits, make_splits
from cerebridge.encoding.tasks import prepare_task

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4))
Y = X @ RNG.standard_normal((4, 3)) + 2 * RNG.standard_normal((60, 3))
LABELS = np.where(X[:, 0] + RNG.standard_normal(60) > 0, "a", "b")


class Rates(RegressorMixin, BaseEstimator):
    """Positive predictions that use the features."""

    handles_missing = True

    def fit(self, x, y):
        self.units_ = y.shape[1]
        return self

    def predict(self, x):
        return np.exp(0.4 * x[:, : self.units_])


def crossvalidated(estimator, y, scoring, cv=4):
    task = prepare_task(estimator, X, y, "average")
    splits = make_splits(task.rows, cv, labels=task.labels, random_state=0)
    scorer = find_scorer(scoring, task.labels is not None)
    crossvalidation = CrossValidation(estimator, splits, scorer, task.rows)
    return [crossvalidation.fit(X, task.truth, k) for k in range(len(splits))], scorer, splits


@pytest.mark.parametrize(
    ("estimator", "y", "scoring"),
    [
        (Ridge(), Y, "pearsonr"),
        (Ridge(), Y, "r2"),
        (Rates(), np.round(np.abs(Y)), "pseudo_r2"),
        (Rates(), np.round(np.abs(Y)), "neg_mean_poisson_deviance"),
        (LinearDiscriminantAnalysis(), LABELS, "accuracy"),
        (LinearDiscriminantAnalysis(), LABELS, "balanced_accuracy"),
    ],
)
def test_all_draws_at_once_equal_one_by_one(estimator, y, scoring, monkeypatch):
    fits, scorer, splits = crossvalidated(estimator, y, scoring)
    blocks = np.arange(60) // 2
    together = score_intervals(fits, scorer, splits, blocks, 80, 0)
    alone = score_intervals(fits, replace(scorer, sums=None), splits, blocks, 80, 0)
    np.testing.assert_allclose(together, alone, rtol=1e-9)
    assert (together[0] < together[1]).all()
    monkeypatch.setattr(bootstrap, "VALUES", 1)
    np.testing.assert_allclose(score_intervals(fits, scorer, splits, blocks, 80, 0), together, rtol=1e-12)


@pytest.mark.parametrize("scoring", ["pearsonr", "r2", "pseudo_r2", "neg_mean_poisson_deviance"])
def test_missing_responses_are_drawn_as_missing(scoring):
    holes = np.where(np.random.default_rng(1).random(Y.shape) < [0.0, 0.3, 0.3], np.nan, np.round(np.abs(Y)))
    with pytest.warns(UserWarning, match="responses are missing"):
        fits, scorer, splits = crossvalidated(Rates(), holes, scoring, cv=3)
    together = score_intervals(fits, scorer, splits, np.arange(60), 60, 0)
    alone = score_intervals(fits, replace(scorer, sums=None), splits, np.arange(60), 60, 0)
    np.testing.assert_allclose(together, alone, rtol=1e-9)
    assert np.isfinite(together).all()


def test_units_that_hardly_ever_vary_count_where_they_do():
    rare = Y.copy()
    rare[:, 0] = 0.1
    rare[::20, 0] = 5.1
    fits, scorer, splits = crossvalidated(Ridge(), rare, "pearsonr", cv=2)
    together = score_intervals(fits, scorer, splits, np.arange(60), 60, 0)
    alone = score_intervals(fits, replace(scorer, sums=None), splits, np.arange(60), 60, 0)
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_one_fold_by_hand():
    """Drawn with the same numbers, rows repeated, correlated by numpy."""
    folds = [(np.arange(30), np.arange(30, 60))]
    fits, scorer, splits = crossvalidated(Ridge(), Y, "pearsonr", cv=folds)
    low, high = score_intervals(fits, scorer, splits, np.arange(60), 500, 3)
    counts = np.random.default_rng(3).multinomial(29, np.full(30, 1 / 30), size=500)
    predicted = Ridge().fit(X[:30], Y[:30]).predict(X[30:])
    for unit in range(3):
        drawn = [np.repeat(np.arange(30), weight) for weight in counts]
        draws = np.sort([np.corrcoef(Y[30:, unit][d], predicted[d, unit])[0, 1] for d in drawn])
        assert (draws < low[unit]).mean() == pytest.approx(0.025, abs=0.03)
        assert (draws > high[unit]).mean() == pytest.approx(0.025, abs=0.03)
        assert draws[0] <= low[unit] < fits[0].score[unit] < high[unit] <= draws[-1]


def test_accuracy_has_the_width_of_a_binomial():
    fits, scorer, splits = crossvalidated(LinearDiscriminantAnalysis(), LABELS, "accuracy", cv=3)
    low, high = score_intervals(fits, scorer, splits, np.arange(60), 4000, 0)
    share = np.mean([fit.score for fit in fits])
    assert (high - low).item() == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 60), rel=0.1)
    pairs = score_intervals(fits, scorer, splits, np.arange(60) // 2 * 2, 4000, 0)
    assert (pairs[1] - pairs[0]).item() != (high - low).item(), "pairs move together"


def test_runs_that_are_folds_are_drawn_as_such():
    """The interval of a mean over folds of one block each is that of a mean of so many values."""
    folds = [(np.setdiff1d(np.arange(60), test), test) for test in np.split(np.arange(60), 10)]
    fits, scorer, splits = crossvalidated(Ridge(), Y, "pearsonr", cv=folds)
    low, high = score_intervals(fits, scorer, splits, np.arange(60) // 6, 4000, 0)
    scores = np.array([fit.score for fit in fits])
    error = scores.std(axis=0, ddof=1) / np.sqrt(10)
    np.testing.assert_allclose(high - low, 2 * 2.26 * error, rtol=0.2)


def test_coverage_of_independent_stimuli():
    """About 95 % of intervals hold what the same prediction scores on very many new stimuli."""
    splits = Splits([(np.arange(0), np.arange(60))], None, "all rows")
    noise = np.array([0.5, 1.0, 2.0, 4.0])
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = rng.standard_normal((60, 4))
        prediction = truth + noise * rng.standard_normal((60, 4))
        score = score_units(SCORERS["pearsonr"], truth, prediction)
        fit = FoldFit(score, None, truth, prediction, (truth, prediction), 0.0, {})
        low, high = score_intervals([fit], SCORERS["pearsonr"], splits, np.arange(60), 300, seed)
        held.append((low < 1 / np.sqrt(1 + noise**2)) & (1 / np.sqrt(1 + noise**2) < high))
    assert 0.91 < np.mean(held) < 0.98


def recording(n=300, memory=0.9):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((n, 4))
    for k in range(1, n):
        values[k] += memory * values[k - 1]
    start = np.arange(float(n))
    return neuro.assemble(
        values,
        time_bin={"time_bin_start": start, "time_bin_end": start + 1},
        neuroid={"neuroid_id": np.arange(4)},
        modality="fmri",
        units="a.u.",
    )


def test_neighbours_in_time_are_drawn_together():
    x = recording()
    slow = encoding.evaluate(Ridge(), x, x, bootstrap=100, control=False).audit["bootstrap"]
    fast = encoding.evaluate(
        Ridge(), x, x.copy(data=RNG.standard_normal(x.shape)), bootstrap=100, control=False
    )
    lengths = [
        int(said.split("stretches of about ")[1].split()[0]) for said in (slow, fast.audit["bootstrap"])
    ]
    assert 20 < lengths[0] <= 30
    assert lengths[1] < 15
    blocks = x.assign_coords(block=("time_bin", np.arange(300) // 20))
    named = encoding.evaluate(Ridge(), blocks, blocks, bootstrap=100, control=False)
    assert named.audit["bootstrap"].startswith("100 draws of held-out blocks")


def test_repeats_of_a_stimulus_are_drawn_together():
    brain = neuro.simulate(n_stimuli=40, n_units=3, n_repeats=4, random_state=0)
    kept = encoding.evaluate(Ridge(), brain, brain, repeats="keep", bootstrap=50, control=False, ceiling=None)
    assert kept.audit["bootstrap"].startswith("50 draws of held-out groups of rows")


def test_intervals_are_in_the_result_its_summary_and_its_file(tmp_path):
    result = encoding.evaluate(
        LinearDiscriminantAnalysis(), {"a": X, "b": X[:, ::-1]}, LABELS, bootstrap=200, control=False
    )
    assert result.dataset["score_low"].dims == ("model", "unit")
    np.testing.assert_array_equal(result.dataset["score_low"][0], result.dataset["score_low"][1])
    table = result.summary()
    assert table["low"].tolist() == result.dataset["score_low"].values.ravel().tolist()
    assert table["high"].tolist() == result.dataset["score_high"].values.ravel().tolist()
    result.save(tmp_path / "result.nc")
    assert "score_high" in encoding.Result.load(tmp_path / "result.nc").dataset


def test_scores_without_sums_are_drawn_one_by_one():
    def largest_error(truth, prediction):
        return -np.abs(truth - prediction).max(axis=0)

    result = encoding.evaluate(Ridge(), X, Y, scoring=largest_error, bootstrap=20, control=False)
    assert (result.dataset["score_low"] <= result.dataset["score_high"]).all()
    auc = encoding.evaluate(
        LinearDiscriminantAnalysis(), X, LABELS, scoring="roc_auc", bootstrap=20, control=False
    )
    assert 0 < auc.dataset["score_low"].item() < auc.dataset["score_high"].item() <= 1
    assert SCORERS["roc_auc"].sums is None


def test_bad_requests_get_one_sentence():
    with pytest.raises(ValueError, match="bootstrap is -1; give how many, 0 for none"):
        encoding.evaluate(Ridge(), X, Y, bootstrap=-1)
    with pytest.raises(ValueError, match="held-out rows are 3 blocks that move together, too few"):
        encoding.evaluate(Ridge(), X, Y, groups=np.arange(60) // 20, cv=3, bootstrap=10)
