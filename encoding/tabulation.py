"""Scores of all fits as one labelled dataset, with what chance and new draws of rows say of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..neuro.assembly import quoted
from ..neuro.progress import track
from .bootstrap import blocks_of, score_intervals
from .crossvalidation import CrossValidation, FoldFit, ModelRun, mean_over_folds
from .scorers import Scorer
from .significance import p_values
from .tasks import Task

Array = NDArray[Any]


def missing_scores(dataset: xr.Dataset, scorer: Scorer) -> dict[str, int]:
    """Refuse scores that are all missing, and say once which are."""
    missing = np.isnan(dataset["score"].values)
    if missing.all():
        raise ValueError(
            f"no unit has a score, because {scorer.name} is undefined in every fold, as where the truth of the test "
            "rows does not vary; use fewer or other folds."
        )
    units = np.flatnonzero(missing.any(axis=(0, 1)))
    if not units.size:
        return {}
    first = quoted(dataset["neuroid_id"].values[units[0]])
    warnings.warn(
        f"{units.size} of {missing.shape[-1]} units (first {first}) do not vary in the test rows of some folds, so "
        f"their {scorer.name} is missing there (NaN); all other scores stand.",
        stacklevel=4,
    )
    return {"units_without_score_in_some_folds": int(units.size)}


def tabulate(task: Task, runs: dict[str, ModelRun], scorer: Scorer) -> xr.Dataset:
    """Scores, seconds, penalties and confusions of all models, with the labels of units."""
    fits = [run.fits for run in runs.values()]
    score = np.array([[fit.score for fit in folds] for folds in fits])
    dims = ("model", "split", "unit")
    n_units = len(task.units["neuroid_id"][1])
    if score.shape[-1] != n_units:
        raise ValueError(
            f"scoring={scorer.name!r} gave {score.shape[-1]} values for {n_units} units; it must give one a unit."
        )
    coords = {"model": list(runs), "split": np.arange(score.shape[1]), **task.units}
    variables: dict[str, Any] = {
        "score": (dims, score),
        "fit_seconds": (dims[:2], [[fit.seconds for fit in folds] for folds in fits]),
    }
    alphas = [[np.atleast_1d(fit.selected.get("alpha_", np.nan)) for fit in folds] for folds in fits]
    if all(alpha.size in (1, n_units) and np.isfinite(alpha).all() for folds in alphas for alpha in folds):
        variables["alpha"] = (dims, [[np.broadcast_to(a, n_units) for a in folds] for folds in alphas])
    if task.labels is not None:
        classes = np.unique(task.labels)
        coords |= {"true": classes, "predicted": classes}
        variables["confusion"] = (
            ("model", "true", "predicted"),
            [_confusion(folds, classes) for folds in fits],
        )
    return xr.Dataset(variables, coords)


def _confusion(folds: list[FoldFit], classes: Array) -> Array:
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for fit in folds:
        np.add.at(counts, (np.searchsorted(classes, fit.truth), np.searchsorted(classes, fit.prediction)), 1)
    return counts


def attach_p(dataset: xr.Dataset, runs: dict[str, ModelRun]) -> None:
    """Put p-values beside the scores."""
    values = [
        p_values(mean_over_folds([fit.score for fit in run.fits]), run.null)
        for run in runs.values()
        if run.null is not None
    ]
    for key in values[0]:
        dataset[key] = (("model", "unit"), np.array([of_model[key] for of_model in values]))


def attach_intervals(
    dataset: xr.Dataset,
    runs: dict[str, ModelRun],
    task: Task,
    crossvalidation: CrossValidation,
    exchange: str | None,
    n: int,
    random_state: int | None,
) -> str:
    """Put the limits of 95 % intervals beside the scores, and say what was drawn."""
    fits = [run.fits for run in runs.values()]
    splits, scorer = crossvalidation.splits, crossvalidation.scorer
    blocks, what = blocks_of(task.rows, fits, splits, exchange, task.labels)
    shown = track(fits, "drawing rows again", show=crossvalidation.progress)
    limits = [score_intervals(folds, scorer, splits, blocks, n, random_state) for folds in shown]
    for name, values in zip(("score_low", "score_high"), zip(*limits, strict=True), strict=True):
        dataset[name] = (("model", "unit"), np.stack(values))
    return f"{n} draws of held-out {what}; the fits stay as they are"
