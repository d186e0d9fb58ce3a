"""Hyperparameters that an estimator chooses itself: by which score, and how that looks beside the nested one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .crossvalidation import CrossValidation, ModelRun
from .pipelines import last_step
from .results import median_or_nan
from .scorers import SCORERS, Scorer

#: share of fits at an end of the grid from which a longer one is suggested
MANY = 0.5


def find_selector(estimator: Any, labels: bool) -> Scorer | None:
    """The score by which an estimator chooses among hyperparameters, ``None`` where it is not one of ours.

    Parameters
    ----------
    estimator
        Anything with ``scoring``, at the end of pipelines too.
    labels
        Whether class labels are predicted.
    """
    last = last_step(estimator)[1]
    name = getattr(last, "scoring", None)
    if name is None and hasattr(last, "refit"):  # scikit-learn's searches: the score of what they search
        name = "accuracy" if labels else "r2"
    scorer = SCORERS.get(name) if isinstance(name, str) else None
    return scorer if scorer is not None and scorer.labels == labels else None


def selection_audit(crossvalidation: CrossValidation, runs: dict[str, ModelRun]) -> dict[str, Any]:
    """The score of the choice of hyperparameters beside the nested one, and how many penalties end their grid."""
    return _beside_nested(crossvalidation, runs) | _grid_ends(crossvalidation.estimator, runs)


def _beside_nested(crossvalidation: CrossValidation, runs: dict[str, ModelRun]) -> dict[str, Any]:
    """The score by which hyperparameters were chosen beside the nested one, both in the unit of the choice."""
    selected, nested = {}, {}
    for model, run in runs.items():
        best = [fit.selected["best_score_"] for fit in run.fits if "best_score_" in fit.selected]
        if best:
            selected[model] = median_or_nan(np.concatenate([np.ravel(score) for score in best]))
            nested[model] = median_or_nan([fit.nested for fit in run.fits if fit.nested is not None])
    if not selected:
        return {"selection": "no hyperparameter was selected by a score"}
    if crossvalidation.selector is None:
        by = getattr(last_step(crossvalidation.estimator)[1], "scoring", None)
        return {"selection": f"by {by!r}, which cannot be set beside the nested score"}
    name = crossvalidation.selector.name
    return {"selection": {"scoring": name, "selection_score": selected, "nested_score": nested}}


def _grid_ends(estimator: Any, runs: dict[str, ModelRun]) -> dict[str, str]:
    """How many fits would rather have had a penalty that is not on the grid, warned of where they are many.

    A target that nothing predicts rightly takes the largest penalty, so there only scores above 0 count.
    """
    alphas = np.ravel(getattr(last_step(estimator)[1], "alphas", []))
    chosen = [fit.selected for run in runs.values() for fit in run.fits if "alpha_" in fit.selected]
    if alphas.dtype.kind not in "fiu" or alphas.size < 2 or not chosen:
        return {}
    # where one penalty serves all targets, each of their scores belongs to it
    pairs = [
        np.broadcast_arrays(np.ravel(fit["alpha_"]), np.ravel(fit.get("best_score_", 1.0))) for fit in chosen
    ]
    alpha, best = (np.concatenate(side) for side in zip(*pairs, strict=True))
    low = float((alpha == alphas.min()).mean())
    high = float(((alpha == alphas.max()) & (best > 0)).mean())
    said = f"{low:.0%} of fits took the smallest alpha ({alphas.min():g}), {high:.0%} the largest ({alphas.max():g})"
    if max(low, high) > MANY:
        warnings.warn(f"{said}; extend the grid on that side.", stacklevel=4)
    return {"alpha_grid": said}
