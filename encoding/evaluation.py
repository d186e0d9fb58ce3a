"""The one evaluation: any estimator, any recording, held-out scores with ceiling, chance, p and audit."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..neuro.assembly import quoted
from .audit import audit_splits, provenance
from .cluster import check_client
from .crossvalidation import Chance, CrossValidation
from .exchange import find_exchange
from .normalisation import attach_ceiling, find_ceiling
from .results import Result, median_or_nan
from .runs import run_models
from .scorers import SCORERS, Scorer, find_scorer
from .selection import find_selector, selection_audit
from .significance import check_count
from .splits import Splits, make_splits
from .tabulation import attach_intervals, attach_p, missing_scores, tabulate
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
    bootstrap: int = 0,
    exchange: str | None = None,
    control: bool = True,
    random_state: int | None = 0,
    client: Any = None,
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
        Encoders get it as rows × features, classifiers as it is (rows × neuroids [× time bins]), all in floats.
    Y
        Responses (an encoder; NaN where missing, for estimators that handle it), or class labels (a classifier):
        the name of a coordinate of ``X``, or one label a row.
        Responses to presentations are aligned with features by ``stimulus_id``; everything else must match row by
        row, which its labels (``stimulus_id``, ``run``, times, …) are checked for.
    by
        Label along the neuroids of ``X`` that makes a model of each of its values: ``"layer"`` gives a layer profile.
    cv, groups
        Passed to :func:`make_splits`; the default never separates repeats, runs, or neighbours in time at random.
    scoring
        ``"pearsonr"`` (default for responses), ``"r2"``; for counts ``"pseudo_r2"`` (share of the Poisson deviance
        of the training rows' mean rate that is explained) and ``"neg_mean_poisson_deviance"``; ``"accuracy"``
        (default for labels), ``"balanced_accuracy"``, ``"roc_auc"`` (mean over classes of one against the rest); or
        ``function(truth, prediction)``.
    ceiling
        ``"auto"`` estimates it from repeats where there are any; a method of :func:`cerebridge.neuro.noise_ceiling`,
        values (one a unit, in the unit of the scoring), or ``None``.
    repeats
        ``"average"`` (default) predicts the mean response to a stimulus, ``"keep"`` single presentations.
    permutations
        Number of times that the truth is exchanged between rows and everything is fitted and scored again; gives
        ``p``, ``p_fdr`` and ``p_max``. Estimators that fit every target alone (``RidgeCV``, scikit-learn's ``Ridge``,
        also after a scaler) fit many exchanges at once, as further targets of one fit.
    bootstrap
        Number of times that the held-out rows are drawn again with replacement, without fitting anything again; gives
        ``score_low`` and ``score_high``, the limits of a 95 % interval (1000 draws are usual). What belongs together
        is drawn together: repeats, blocks, or stretches of a recording as long as it depends on its past.
    exchange
        Coordinate whose equal values move together (volumes of one block). By default what the recording says: see
        :func:`find_exchange`; the audit tells what it was.
    control
        Exchange the truth at least once; the audit says which score that gives.
    random_state
        Seeds folds, permutations and control.
    client
        A ``distributed.Client``: folds, models, permutations and, for estimators that fit every target alone, blocks
        of targets are computed by its workers, each on one thread. Scores are those of this process on one thread up
        to rounding (equal to the last bit where nothing is divided into blocks), also when workers die.
    progress
        ``None`` shows a bar on terminals.

    Returns
    -------
    Result
        ``score`` is model × split × unit; units are the neuroids (and time bins) of ``Y``, or one for a classifier.

    Raises
    ------
    ValueError
        If nothing overlaps, a value is missing, a fold is empty, a split would leak, or no unit can have a score.

    Warns
    -----
    UserWarning
        If some units do not vary in some folds, so that their score is missing there; or a class is not among the
        training rows of a fold.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(n_stimuli=60, n_units=5, n_repeats=2, random_state=0)
    >>> result = encoding.evaluate(encoding.RidgeCV(), {"itself": brain}, brain, cv=5, permutations=20)
    >>> sorted(result.dataset.data_vars)[:3]
    ['alpha', 'ceiling', 'fit_seconds']
    """
    started = time.time()
    check_count(permutations, "permutations")
    check_count(bootstrap, "bootstrap")
    check_client(client)
    task = prepare_task(estimator, X, Y, repeats, by)
    scorer = find_scorer(scoring, task.labels is not None)
    bound, source = find_ceiling(
        task.responses, ceiling, scorer, task.n_units, single=repeats == "keep", random_state=random_state
    )
    splits = make_splits(task.rows, cv, groups, labels=task.labels, random_state=random_state)
    _check_folds(task, splits, scorer)
    notes: dict[str, Any] = {"ceiling": source}
    chance = _chance(task, splits, exchange, (permutations, control, random_state), notes)
    selector = find_selector(estimator, task.labels is not None)
    crossvalidation = CrossValidation(
        estimator, splits, scorer, task.rows[:, :0], selector, task.units, progress
    )
    runs = run_models(crossvalidation, task, chance, client)
    dataset = tabulate(task, runs, scorer)
    notes |= missing_scores(dataset, scorer)
    if bound is not None:
        attach_ceiling(dataset, bound)
    if bootstrap:
        notes["bootstrap"] = attach_intervals(
            dataset, runs, task, crossvalidation, exchange, bootstrap, random_state
        )
    if chance is not None:
        notes["shuffle_control"] = {name: median_or_nan(run.null) for name, run in runs.items()}
    if permutations:
        attach_p(dataset, runs)
    dataset.attrs.update(
        scoring=scorer.name,
        chance=scorer.chance(task.truth),
        unit_kind="classifier" if task.labels is not None else "neuroid",
        audit=task.notes
        | audit_splits(task.rows, splits, task.labels)
        | notes
        | selection_audit(crossvalidation, runs),
        provenance=provenance(estimator, runs, task.truth, splits, random_state, time.time() - started),
    )
    return Result(dataset)


def _check_folds(task: Task, splits: Splits, scorer: Scorer) -> None:
    """Refuse folds on which nothing can be learned or scored; warn of classes that were not there to be learned."""
    unknown: dict[Any, int] = {}
    for number, (train, test) in enumerate(splits.folds):
        if task.labels is None and scorer.name in SCORERS and len(test) < 2:
            raise ValueError(
                f"fold {number} holds out a single row, on which {scorer.name} is undefined; use fewer folds."
            )
        if task.labels is None and (empty := np.isnan(task.truth[train]).all(axis=0)).any():
            first = quoted(task.units["neuroid_id"][1][empty.argmax()])
            raise ValueError(
                f"{int(empty.sum())} units have no responses in the training rows of fold {number} (first: unit "
                f"{first}); leave them out, or use other folds."
            )
        if task.labels is not None:
            known = np.unique(task.labels[train])
            if len(known) < 2:
                raise ValueError(
                    f"the training rows of fold {number} are all of class {quoted(known[0])}; use folds that hold "
                    "every class."
                )
            for label in np.setdiff1d(task.labels[test], known).tolist():
                unknown.setdefault(label, number)
    if unknown:
        label, number = next(iter(unknown.items()))
        warnings.warn(
            f"class {label!r} is tested but not among the training rows of fold {number}"
            f"{f', and so are {len(unknown) - 1} more classes' if len(unknown) > 1 else ''}: there it can only be "
            "missed; use folds that hold every class.",
            stacklevel=3,
        )


def _chance(
    task: Task,
    splits: Splits,
    exchange: str | None,
    wanted: tuple[int, bool, int | None],
    notes: dict[str, Any],
) -> Chance | None:
    """How many times and how the truth is exchanged, said in the audit; ``wanted``: permutations, control, seed."""
    permutations, control, random_state = wanted
    n = max(permutations, int(control))
    if not n:
        return None
    try:
        found = find_exchange(task.rows, exchange, labels=task.labels, groups=splits.groups)
    except ValueError as error:
        if permutations or exchange is not None:
            raise
        notes["exchange"] = f"none: {error}"
        return None
    notes["exchange"] = found.description
    return Chance(found, n, random_state)
