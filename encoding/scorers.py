"""Scores: what is compared, what guessing gives, and in which unit the ceiling must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .engine import counts, resampling
from .engine import scoring as engine

Array = NDArray[Any]


@dataclass(frozen=True)
class Scorer:
    """A named score.

    ``function(truth, prediction)`` gives one value a unit (truth: rows × units) or one value for class labels, larger
    where the prediction is better. With ``needs_decision`` it gets two arrays rows × classes: whether a row is of a
    class, how much speaks for it. With ``null(training truth)``, one value a unit, it gets that as third argument: what
    is predicted without features. ``chance(truth)`` is what guessing gives; ``ceiling`` says in which unit a noise
    ceiling bounds it, if one does; ``sums`` are what it can be computed from for many draws of rows at once.
    """

    name: str
    function: Callable[..., Any]
    chance: Callable[[Array], float]
    ceiling: Literal["pearsonr", "r2"] | None = None
    labels: bool = False
    needs_decision: bool = False
    null: Callable[[Array], Array] | None = None
    sums: resampling.Sums | None = None


def _columns(
    function: Callable[..., torch.Tensor],
) -> Callable[..., Array]:
    def scored(*arrays: Array) -> Array:
        return function(*map(torch.as_tensor, arrays)).numpy()

    return scored


def _mean_rate(training: Array) -> Array:
    """Mean count of each unit on the training rows where it has one."""
    if not np.isnan(training).any():
        return counts.mean_rate(torch.as_tensor(training)).numpy()
    units = [torch.as_tensor(unit[~np.isnan(unit), None]) for unit in training.T]
    return np.array([counts.mean_rate(unit).item() if len(unit) else np.nan for unit in units])


def _accuracy(truth: Array, prediction: Array) -> float:
    return float(np.mean(truth == prediction))


def _balanced_accuracy(truth: Array, prediction: Array) -> float:
    return float(np.mean([np.mean(prediction[truth == label] == label) for label in np.unique(truth)]))


def _roc_auc(truth: Array, decision: Array) -> float:
    """Mean over classes of one against the rest; both are rows × classes, ``truth`` says which class a row is of."""
    from sklearn.metrics import roc_auc_score

    known = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    if not known.size:
        return float("nan")
    return float(np.mean([roc_auc_score(truth[:, k], decision[:, k]) for k in known]))


def _most_frequent(truth: Array) -> float:
    return float(np.unique(truth, return_counts=True)[1].max() / len(truth))


def _one_class(truth: Array) -> float:
    return 1.0 / len(np.unique(truth))


SCORERS = {
    scorer.name: scorer
    for scorer in (
        Scorer(
            "pearsonr",
            _columns(engine.pearsonr),
            lambda truth: 0.0,
            ceiling="pearsonr",
            sums=resampling.PEARSONR,
        ),
        Scorer("r2", _columns(engine.r2), lambda truth: 0.0, ceiling="r2", sums=resampling.R2),
        Scorer(
            "pseudo_r2",
            _columns(counts.pseudo_r2),
            lambda truth: 0.0,
            null=_mean_rate,
            sums=resampling.PSEUDO_R2,
        ),
        Scorer(
            "neg_mean_poisson_deviance",
            lambda truth, prediction: -_columns(counts.poisson_deviance)(truth, prediction),
            lambda truth: float("nan"),
            sums=resampling.POISSON_DEVIANCE,
        ),
        Scorer("accuracy", _accuracy, _most_frequent, labels=True, sums=resampling.ACCURACY),
        Scorer(
            "balanced_accuracy",
            _balanced_accuracy,
            _one_class,
            labels=True,
            sums=resampling.BALANCED_ACCURACY,
        ),
        Scorer("roc_auc", _roc_auc, lambda truth: 0.5, labels=True, needs_decision=True),
    )
}


def score_units(scorer: Scorer, truth: Array, prediction: Array, null: Array | None = None) -> Array:
    """Score each unit, or the class labels as a whole; a unit with missing responses on the rows where it has some.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.scorers import SCORERS, score_units
    >>> truth = np.array([[1.0, 1.0], [2.0, np.nan], [3.0, 3.0]])
    >>> score_units(SCORERS["r2"], truth, np.array([[1.0, 1.0], [2.0, 9.0], [3.0, 3.0]])).tolist()
    [1.0, 1.0]
    """
    given = [truth, prediction, *([] if null is None else [null])]
    known = np.isfinite(truth) if truth.dtype.kind == "f" else np.ones(truth.shape, dtype=bool)
    if known.all():
        return np.atleast_1d(np.asarray(scorer.function(*given), dtype=np.float64))
    scores = np.full(truth.shape[1], np.nan)
    # units that miss the same rows are scored together
    patterns, of_unit = np.unique(known, axis=1, return_inverse=True)
    for pattern, rows in enumerate(patterns.T):
        units = np.flatnonzero(of_unit.ravel() == pattern)
        if rows.sum() > 1:
            scores[units] = scorer.function(
                *(a[units] if a.ndim == 1 else a[np.ix_(rows, units)] for a in given)
            )
    return scores


def find_scorer(scoring: str | Callable[[Array, Array], Any] | None, labels: bool) -> Scorer:
    """The scorer of a name or function; ``None`` is accuracy for class labels and Pearson's r else.

    Raises
    ------
    ValueError
        If the name is unknown or does not fit what is predicted.
    """
    if scoring is None:
        scoring = "accuracy" if labels else "pearsonr"
    if callable(scoring):
        name = getattr(scoring, "__name__", "score")
        return Scorer(name, scoring, lambda truth: float("nan"), labels=labels)
    fitting = [name for name, scorer in SCORERS.items() if scorer.labels == labels]
    if scoring not in fitting:
        what = "class labels" if labels else "responses"
        raise ValueError(
            f"scoring={scoring!r} does not score {what}; use {', '.join(map(repr, fitting))} or a function."
        )
    return SCORERS[scoring]
