"""The one evaluation: any estimator, any recording, held-out scores with ceiling, chance, p and audit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .audit import audit_splits, fingerprint, provenance
from .crossvalidation import CrossValidation, FoldFit, ModelRun
from .normalisation import attach_ceiling
from .results import Result
from .scorers import SCORERS, Scorer, find_scorer
from .significance import find_exchange, p_values
from .splits import make_splits
from .tasks import Task, prepare_task

Array = NDArray[Any]


def evaluate(
    estimator: Any,
    X: xr.DataArray | Array | Mapping[str, Any],
    Y: xr.DataArray | Array | str,
    *,
    by: str | None = None,
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
    by
        Label along the neuroids of ``X`` that makes a model of each of its values: ``"layer"`` gives a layer profile.
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
    task = prepare_task(estimator, X, Y, repeats, by)
    scorer = find_scorer(scoring, task.labels is not None)
    splits = make_splits(task.rows, cv, groups, labels=task.labels, random_state=random_state)
    crossvalidation = CrossValidation(estimator, splits, scorer, progress)
    n_null = max(permutations, int(control))
    if n_null:
        exchange = "stimulus_id" if repeats == "keep" and task.labels is None else exchange
        order = find_exchange(task.rows, exchange, within_recordings=task.labels is not None)
    runs: dict[str, ModelRun] = {}
    for name in task.models:
        x = task.features(name)
        fits = crossvalidation.fits(x, task.truth, name)
        null = crossvalidation.null(x, task.truth, order, n_null, random_state, name) if n_null else None
        runs[name] = ModelRun(fits, null, fingerprint(x), str(x.dtype))
    dataset = _dataset(task, runs, scorer)
    notes: dict[str, Any] = {
        "ceiling": attach_ceiling(dataset, task.responses, ceiling, scorer, random_state)
    }
    if n_null:
        notes["shuffle_control"] = {name: float(np.nanmedian(run.null)) for name, run in runs.items()}
    if permutations:
        _attach_p(dataset, runs)
    dataset.attrs.update(
        scoring=scorer.name,
        chance=scorer.chance(task.truth),
        unit_kind="classifier" if task.labels is not None else "neuroid",
        audit=task.notes
        | audit_splits(task.rows, splits, task.labels)
        | notes
        | _selection(estimator, runs, scorer),
        provenance=provenance(estimator, runs, task.truth, splits, random_state, time.time() - started),
    )
    return Result(dataset)


def _dataset(task: Task, runs: dict[str, ModelRun], scorer: Scorer) -> xr.Dataset:
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
    if task.labels is not None and not scorer.needs_decision:
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


def _attach_p(dataset: xr.Dataset, runs: dict[str, ModelRun]) -> None:
    observed = dataset["score"].mean("split", skipna=False)
    values = [p_values(observed.sel(model=name).values, run.null) for name, run in runs.items()]
    for key in values[0]:
        dataset[key] = (("model", "unit"), np.array([of_model[key] for of_model in values]))


def _selection(estimator: Any, runs: dict[str, ModelRun], scorer: Scorer) -> dict[str, Any]:
    """The score by which hyperparameters were chosen beside the nested one, both in the unit of the choice."""
    name = getattr(estimator, "scoring", None)
    by = SCORERS[name] if isinstance(name, str) and name in SCORERS else scorer
    selected, nested = {}, {}
    for model, run in runs.items():
        best = [
            np.atleast_1d(fit.selected["best_score_"]) for fit in run.fits if "best_score_" in fit.selected
        ]
        if best:
            selected[model] = float(np.nanmedian(np.concatenate(best)))
            scores = [np.atleast_1d(by.function(fit.truth, fit.prediction)) for fit in run.fits]
            nested[model] = float(np.nanmedian(np.concatenate(scores)))
    if not selected:
        return {"selection": "no hyperparameter was selected by a score"}
    return {"selection": {"scoring": by.name, "selection_score": selected, "nested_score": nested}}
