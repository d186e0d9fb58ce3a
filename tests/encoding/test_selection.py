"""Selection inside the training rows: grouped like the outer split, and reported in the unit of the choice."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cerebridge import encoding

RNG = np.random.default_rng(0)
GROUPS = np.repeat(np.arange(8), 6)
LABELS = np.tile(["a", "b"], 24)
VALUES = RNG.standard_normal((48, 4)) + (LABELS == "a")[:, None]
TOLERANCES = {"tol": [1e-4, 1e-3]}


def evaluate(estimator, y=LABELS, **kwargs):
    return encoding.evaluate(estimator, VALUES, y, groups=GROUPS, cv=4, control=False, **kwargs)


class Watcher(GroupKFold):
    """Remembers the groups that it was given."""

    seen: list[np.ndarray] = []

    def split(self, X, y=None, groups=None):
        Watcher.seen.append(np.unique(groups))
        return super().split(X, y, groups)


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (encoding.RidgeCV(cv=Watcher(3)), VALUES),
        (make_pipeline(StandardScaler(), encoding.RidgeCV(cv=Watcher(3))), VALUES),
        (GridSearchCV(LinearDiscriminantAnalysis(), TOLERANCES, cv=Watcher(3)), LABELS),
        (make_pipeline(StandardScaler(), GridSearchCV(Ridge(), {"alpha": [1, 10]}, cv=Watcher(3))), VALUES),
    ],
    ids=["ridge", "pipeline", "search", "search in a pipeline"],
)
def test_what_is_selected_inside_gets_the_groups_of_the_training_rows(estimator, y):
    Watcher.seen.clear()
    evaluate(estimator, y)
    assert [len(groups) for groups in Watcher.seen] == [6] * 4


def test_one_group_left_for_training_is_no_group():
    result = encoding.evaluate(encoding.RidgeCV(), VALUES, VALUES, groups=GROUPS // 4, cv=2, control=False)
    assert (result.score > 0.9).all()


@pytest.mark.parametrize(
    ("selection", "scoring"),
    [("accuracy", "roc_auc"), ("roc_auc", "accuracy"), ("balanced_accuracy", "accuracy"), (None, "roc_auc")],
)
def test_selection_and_nested_score_are_in_the_same_unit(selection, scoring):
    search = GridSearchCV(LinearDiscriminantAnalysis(), TOLERANCES, scoring=selection, cv=3)
    audit = evaluate(search, scoring=scoring).audit["selection"]
    assert audit["scoring"] == (selection or "accuracy")
    direct = evaluate(LinearDiscriminantAnalysis(), scoring=selection).score.median().item()
    assert audit["nested_score"]["model"] == pytest.approx(direct)


def test_a_selection_in_another_unit_is_not_set_beside_the_score():
    search = GridSearchCV(LinearDiscriminantAnalysis(), TOLERANCES, scoring="neg_log_loss", cv=3)
    assert (
        evaluate(search).audit["selection"]
        == "by 'neg_log_loss', which cannot be set beside the nested score"
    )


def test_the_unit_of_a_selection_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), encoding.RidgeCV(scoring="r2"))
    audit = evaluate(pipeline, VALUES, scoring="pearsonr").audit["selection"]
    assert audit["scoring"] == "r2"
    assert audit["nested_score"]["model"] == evaluate(pipeline, VALUES, scoring="r2").score.median().item()


def test_penalties_at_the_end_of_the_grid_are_told():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5))
    y = x @ rng.standard_normal((5, 8)) + 3 * rng.standard_normal((60, 8))
    with pytest.warns(
        UserWarning, match=r"9\d% of fits took the smallest alpha \(1000\), 0% the largest.*extend the"
    ):
        encoding.evaluate(encoding.RidgeCV([1e3, 1e6]), x, y, control=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wide = encoding.evaluate(encoding.RidgeCV(np.logspace(-3, 5, 9)), x, y, control=False)
        noise = encoding.evaluate(
            encoding.RidgeCV(np.logspace(-3, 5, 9)), x, rng.permutation(y), control=False
        )
    low, high = wide.audit["alpha_grid"].split("smallest alpha (0.001), ")
    assert int(low.split("%")[0]) < 10
    assert high == "0% the largest (100000)"
    assert "alpha_grid" in noise.audit
    assert "alpha_grid" not in encoding.evaluate(Ridge(), x, y, control=False).audit


def test_one_penalty_of_all_targets_belongs_to_each_of_their_scores():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 5))
    y = x @ rng.standard_normal((5, 8)) + 3 * rng.standard_normal((60, 8))
    with pytest.warns(UserWarning, match=r"100% of fits took the smallest alpha \(1000\), 0% the largest"):
        encoding.evaluate(encoding.ReducedRankRegression(2, [1e3, 1e6]), x, y, control=False)
