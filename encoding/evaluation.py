"""The one evaluation: any estimator, any recording, held-out scores with ceiling, chance, p and audit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from ..neuro.progress import track
from .audit import audit_splits, provenance
from .normalisation import attach_ceiling
from .results import Result
from .scorers import SCORERS, Scorer, find_scorer
from .significance import Order, find_exchange, null_scores, p_values
from .splits import Splits, make_splits
from .tasks import Task, prepare_task

Array = NDArray[Any]

#: values of exchanged truth that are fitted side by side, which bounds memory to a few times 8 bytes each
STACKED_VALUES = 4_000_000


def evaluate(
    estimator: Any,
    X: xr.DataArray | Array | Mapping[str, Any],
    Y: xr.DataArray | Array | str,
    *,
    cv: Any = None,
    groups: str | Array | None = None,
    scoring: str | Callable[[Array, Array], Any] | None = None,
    ceiling: str | xr.DataArray | Array | None = "auto",
    repeats: Literal["average", "keep"] = "average",
    permutations: int = 0,
    exchange: str | None = "block",
    control: bool = True,
    random_state: int | None = 0,
    progress: bool | None = None,
) -> Result:
    """Score an estimator on held-out rows, with everything that makes the score believable.

    Parameters
    ----------
    estimator
        Anything with ``fit`` and ``predict``, cloned for every fold; hyperparameters that it selects itself
        (``RidgeCV``, ``GridSearchCV``) are selected inside the training rows, so scores are nested.
    X
        What is predicted from: a labelled array, a plain array, or a dictionary of them, one a model.
        Encoders get it as rows × features, classifiers as it is (rows × neuroids [× time bins]).
    Y
        Responses (an encoder), or class labels (a classifier): the name of a coordinate of ``X``, or one label a row.
        Labelled arrays with presentations are aligned by ``stimulus_id``.
    cv, groups
        Passed to :func:`make_splits`; the default never separates repeats, runs, or neighbours in time at random.
    scoring
        ``"pearsonr"`` (default for responses), ``"r2"``, ``"accuracy"`` (default for labels),
        ``"balanced_accuracy"``, ``"roc_auc"``, or ``function(truth, prediction)``.
    ceiling
        ``"auto"`` estimates it from repeats where there are any; a method of :func:`cerebridge.neuro.noise_ceiling`,
        values (one a unit, in the unit of the scoring), or ``None``.
    repeats
        ``"average"`` (default) predicts the mean response to a stimulus, ``"keep"`` single presentations.
    permutations
        Number of times that the truth is exchanged between rows and everything is fitted and scored again; gives
        ``p``, ``p_fdr`` and ``p_max``. Estimators that fit every target alone (``RidgeCV``) fit many at once.
    exchange
        Coordinate whose equal values move together (volumes of one block), where it exists.
    control
        Exchange the truth at least once; the audit says which score that gives.
    random_state
        Seeds folds, permutations and control.
    progress
        ``None`` shows a bar on terminals.

    Returns
    -------
    Result
        ``score`` is model × split × unit; units are the neuroids (and time bins) of ``Y``, or one for a classifier.

    Raises
    ------
    ValueError
        If nothing overlaps, a value is missing, a fold is empty, or a split would leak.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(n_stimuli=60, n_units=5, n_repeats=2, random_state=0)
    >>> result = encoding.evaluate(encoding.RidgeCV(), {"itself": brain}, brain, cv=5, permutations=20)
    >>> sorted(result.dataset.data_vars)[:3]
    ['alpha', 'ceiling', 'fit_seconds']
    """
    started = time.time()
    task = prepare_task(estimator, X, Y, repeats)
    scorer = find_scorer(scoring, task.labels is not None)
    splits = make_splits(task.rows, cv, groups, labels=task.labels, random_state=random_state)
    jobs = track([(name, k) for name in task.models for k in range(len(splits))], "evaluating", show=progress)
    fits: dict[str, list[FoldFit]] = {name: [] for name in task.models}
    for name, k in jobs:
        fits[name].append(_fit_fold(estimator, task.models[name], task.truth, splits, k, scorer))
    dataset = _dataset(task, fits, scorer)
    notes: dict[str, Any] = {
        "ceiling": attach_ceiling(dataset, task.responses, ceiling, scorer, random_state)
    }
    if permutations or control:
        exchange = "stimulus_id" if repeats == "keep" and task.labels is None else exchange
        order = find_exchange(task.rows, exchange, within_recordings=task.labels is not None)
        null = _null(estimator, task, splits, scorer, order, max(permutations, 1), random_state, progress)
        notes["shuffle_control"] = {name: float(np.nanmedian(scores)) for name, scores in null.items()}
        if permutations:
            _attach_p(dataset, null)
    dataset.attrs.update(
        scoring=scorer.name,
        chance=scorer.chance(task.truth),
        unit_kind="classifier" if task.labels is not None else "neuroid",
        audit=task.notes | audit_splits(task.rows, splits, task.labels) | notes | _selection(fits, dataset),
        provenance=provenance(
            estimator, task.models, task.truth, splits, random_state, time.time() - started
        ),
    )
    return Result(dataset)


@dataclass
class FoldFit:
    """What one fit on one fold left behind."""

    score: Array
    truth: Array
    prediction: Array
    seconds: float
    selected: dict[str, Any]


def _fit_fold(estimator: Any, x: Array, truth: Array, splits: Splits, k: int, scorer: Scorer) -> FoldFit:
    train, test = splits.folds[k]
    fitted = clone(estimator)
    kwargs: dict[str, Any] = {}
    if splits.groups is not None and has_fit_parameter(fitted, "groups"):
        kwargs["groups"] = splits.groups[train]
    started = time.perf_counter()
    fitted.fit(x[train], truth[train], **kwargs)
    seconds = time.perf_counter() - started
    if scorer.needs_decision:
        respond = getattr(fitted, "decision_function", None) or fitted.predict_proba
        prediction = np.asarray(respond(x[test]))
    else:
        prediction = np.asarray(fitted.predict(x[test]))
    if truth.ndim == 2:
        prediction = prediction.reshape(truth[test].shape)
    score = np.atleast_1d(np.asarray(scorer.function(truth[test], prediction), dtype=np.float64))
    return FoldFit(score, truth[test], prediction, seconds, _selected(fitted))


def _selected(fitted: Any) -> dict[str, Any]:
    """Hyperparameters that a fit chose itself: those of the last step that has any."""
    for step in [s for _, s in reversed(getattr(fitted, "steps", []))] or [fitted]:
        found = {
            name: getattr(step, name)
            for name in ("alpha_", "best_score_", "best_params_")
            if hasattr(step, name)
        }
        if found:
            return found
    return {}


def _dataset(task: Task, fits: dict[str, list[FoldFit]], scorer: Scorer) -> xr.Dataset:
    score = np.array([[fit.score for fit in folds] for folds in fits.values()])
    dims = ("model", "split", "unit")
    n_units = len(task.units["neuroid_id"][1])
    if score.shape[-1] != n_units:
        raise ValueError(
            f"scoring={scorer.name!r} gave {score.shape[-1]} values for {n_units} units; it must give one a unit."
        )
    coords = {"model": list(fits), "split": np.arange(score.shape[1]), **task.units}
    variables: dict[str, Any] = {
        "score": (dims, score),
        "fit_seconds": (dims[:2], [[fit.seconds for fit in folds] for folds in fits.values()]),
    }
    alphas = [[np.atleast_1d(fit.selected.get("alpha_", np.nan)) for fit in folds] for folds in fits.values()]
    if all(alpha.size in (1, n_units) and np.isfinite(alpha).all() for folds in alphas for alpha in folds):
        variables["alpha"] = (dims, [[np.broadcast_to(a, n_units) for a in folds] for folds in alphas])
    if task.labels is not None and not scorer.needs_decision:
        classes = np.unique(task.labels)
        coords |= {"true": classes, "predicted": classes}
        variables["confusion"] = (
            ("model", "true", "predicted"),
            [_confusion(folds, classes) for folds in fits.values()],
        )
    return xr.Dataset(variables, coords)


def _confusion(folds: list[FoldFit], classes: Array) -> Array:
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for fit in folds:
        np.add.at(counts, (np.searchsorted(classes, fit.truth), np.searchsorted(classes, fit.prediction)), 1)
    return counts


def _null(
    estimator: Any,
    task: Task,
    splits: Splits,
    scorer: Scorer,
    order: Order,
    n: int,
    random_state: int | None,
    progress: bool | None,
) -> dict[str, Array]:
    """Scores of every model when the truth is exchanged and everything is fitted again, permutations × units."""
    alone = getattr(estimator, "independent_targets", False) and scorer.name in SCORERS
    n_together = max(1, STACKED_VALUES // task.truth.size) if alone and task.truth.ndim == 2 else 1
    null = {}
    for name, x in task.models.items():

        def score(truth: Array, x: Array = x) -> Array:
            folds = [_fit_fold(estimator, x, truth, splits, k, scorer).score for k in range(len(splits))]
            return np.mean(folds, axis=0)

        draws = null_scores(score, task.truth, order, n, n_together=n_together, random_state=random_state)
        null[name] = np.array(list(track(draws, f"permuting for {name}", total=n, show=progress)))
    return null


def _attach_p(dataset: xr.Dataset, null: dict[str, Array]) -> None:
    observed = dataset["score"].mean("split", skipna=False)
    values = [p_values(observed.sel(model=name).values, scores) for name, scores in null.items()]
    for key in values[0]:
        dataset[key] = (("model", "unit"), np.array([of_model[key] for of_model in values]))


def _selection(fits: dict[str, list[FoldFit]], dataset: xr.Dataset) -> dict[str, Any]:
    """The score by which hyperparameters were chosen, beside the nested one; choosing makes the first too good."""
    nested = {name: float(np.median(dataset["score"].sel(model=name))) for name in fits}
    selection = {
        name: float(np.median(np.concatenate([np.atleast_1d(fit.selected["best_score_"]) for fit in folds])))
        for name, folds in fits.items()
        if all("best_score_" in fit.selected for fit in folds)
    }
    return {"nested_score": nested, "selection_score": selection or "nothing was selected"}
