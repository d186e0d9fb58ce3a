"""Rows that belong together: features and responses aligned and checked before anything is fitted."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import is_classifier

from ..neuro.alignment import align, average_repeats
from ..neuro.assembly import quoted, validate
from .containers import labels_along, to_tensor
from .pipelines import last_step, takes_labels
from .splits import RECORDING_GROUPS

Array = NDArray[Any]

#: names of a Result; labels of units that are called so get a prefix
TAKEN = (
    "model",
    "split",
    "unit",
    "score",
    "score_low",
    "score_high",
    "ceiling",
    "normalised",
    "p",
    "p_fdr",
    "p_max",
    "alpha",
    "fit_seconds",
)


@dataclass
class Task:
    """Rows that belong together: each model's array, truth, and the labels of rows and units.

    With ``labelled`` the estimator is handed labelled arrays where there are any, because it reads the labels;
    with ``maps`` plain arrays keep their shape.
    """

    models: dict[str, Any]
    truth: Array
    rows: xr.DataArray
    units: dict[str, tuple[str, Array]]
    labels: Array | None = None
    responses: xr.DataArray | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    labelled: bool = False
    maps: bool = False

    @property
    def n_units(self) -> int:
        """How many units are predicted; one for a classifier."""
        return len(self.units["neuroid_id"][1])

    def features(self, name: str) -> Array | xr.DataArray:
        """Values of one model, read now and not before, so that models need not fit into memory together.

        Raises
        ------
        ValueError
            If a value is missing or infinite.
        """
        x = _numbers(self.models[name], f"model {name!r}")
        if self.labels is None and not (self.maps and x.ndim > 2):
            x = x.reshape(len(x), -1)
        if not np.isfinite(x).all():
            raise ValueError(
                f"model {name!r} has {int((~np.isfinite(x)).sum())} missing or infinite features; remove or fill them."
            )
        return self._with_labels(x, self.models[name]) if self.labelled else x

    def _with_labels(self, x: Array, model: Any) -> Array | xr.DataArray:
        """Features with the labels of their rows, and those of the neuroids that they come from."""
        if not isinstance(model, xr.DataArray) or x.ndim != 2:
            return x
        columns = {name: ("neuroid", values) for name, (_, values) in _unit_labels(model, taken=()).items()}
        return xr.DataArray(
            x, columns | labels_along(model, model.dims[0]), (model.dims[0], "neuroid"), attrs=model.attrs
        )


def prepare_task(estimator: Any, X: Any, Y: Any, repeats: str, by: str | None = None) -> Task:
    """Align the features of every model with the truth row by row, and refuse what cannot be fitted.

    Raises
    ------
    ValueError
        If nothing overlaps, rows do not match, a value is missing, or there is one class only.
    """
    if isinstance(estimator, type) or not all(
        hasattr(estimator, f) for f in ("fit", "predict", "get_params")
    ):
        raise TypeError(
            f"estimator is {estimator!r}, not an estimator with fit and predict; give one, e.g. encoding.RidgeCV()."
        )
    if repeats not in ("average", "keep"):
        raise ValueError(f"repeats is {repeats!r}; it must be 'average' or 'keep'.")
    models = dict(X) if isinstance(X, Mapping) else {"model": X}
    if not models:
        raise ValueError("X holds no model; give at least one array of features.")
    if by is not None:
        models = {name: part for key, x in models.items() for name, part in _parts(x, by, key, len(models))}
    for name, x in models.items():
        if isinstance(x, xr.DataArray):
            validate(x)
        elif np.ndim(x) < 1:
            raise TypeError(f"model {name!r} is a {type(x).__name__}; give an array of rows × features.")
    if is_classifier(estimator):
        return _checked(_classification(models, Y), estimator)
    if isinstance(Y, str):
        raise ValueError(
            f"Y={Y!r} names class labels, and {type(estimator).__name__} is no classifier; give one, or responses as Y."
        )
    if all(isinstance(array, xr.DataArray) for array in (*models.values(), Y)):
        return _checked(_labelled_encoding(models, Y, repeats), estimator)
    if any(isinstance(array, xr.DataArray) for array in (*models.values(), Y)):
        raise ValueError(
            "X and Y must both be labelled arrays or both plain ones, so that rows can be matched."
        )
    truth = _numbers(Y, "Y")
    if truth.ndim not in (1, 2):
        raise ValueError(f"Y has {truth.ndim} dimensions; give rows × units, or a labelled array.")
    truth = truth[:, None] if truth.ndim == 1 else truth
    coords = {"stimulus_id": ("presentation", np.arange(len(truth)))}
    rows = xr.DataArray(truth, dims=("presentation", "neuroid"), coords=coords)
    units = {"neuroid_id": ("unit", np.arange(truth.shape[1]))}
    return _checked(Task(models, truth, rows, units), estimator)


def _parts(x: Any, by: str, key: str, n_models: int) -> Iterator[tuple[str, xr.DataArray]]:
    """One array for each value of a label along the neuroids, named by the value."""
    if not isinstance(x, xr.DataArray) or by not in x.coords or x.coords[by].dims != ("neuroid",):
        raise ValueError(f"model {key!r} has no label {by!r} along 'neuroid' to make a model of each value.")
    labels = x.coords[by].values
    for value in pd.unique(labels):
        name = str(value) if n_models == 1 else f"{key}: {value}"
        yield name, x.isel(neuroid=np.flatnonzero(labels == value))


def _classification(models: dict[str, Any], Y: Any) -> Task:
    """Class labels and the rows that they belong to."""
    first = next(iter(models.values()))
    own: tuple[str, ...] = ()
    if isinstance(Y, str):
        if not isinstance(first, xr.DataArray) or first.coords.get(Y, first).dims != first.dims[:1]:
            raise ValueError(
                f"there is no coordinate {Y!r} along the rows of X to classify; give its name or one label a row."
            )
        own, Y = (Y,), first.coords[Y]
    labels = _labels(Y)
    if isinstance(first, xr.DataArray):
        rows = first.isel({dim: [0] for dim in first.dims[1:]})
        rows = rows.isel(time_bin=0) if first.ndim == 3 else rows
        for name, x in {**models, "Y": Y}.items():
            if isinstance(x, xr.DataArray):
                _require_same_rows(x, first, name, "the first model", own)
    else:
        rows = xr.DataArray(np.zeros((len(labels), 1)), dims=("presentation", "neuroid"))
    return Task(models, labels, rows, {"neuroid_id": ("unit", np.array(["classifier"]))}, labels)


def _labels(Y: Any) -> Array:
    labels = np.asarray(Y.detach().cpu() if hasattr(Y, "detach") else Y)
    if labels.ndim != 1:
        raise ValueError(
            f"Y has {labels.ndim} dimensions; a classifier needs one class label a row, or the name of a coordinate."
        )
    missing = np.flatnonzero(pd.isna(labels))
    if missing.size:
        raise ValueError(f"the class label of row {missing[0]} is missing; leave such rows out.")
    kinds = sorted({type(label).__name__ for label in labels.tolist()})
    if labels.dtype == object and len(kinds) > 1:
        raise ValueError(
            f"the class labels are of several types ({', '.join(kinds)}); make all of them text."
        )
    if labels.dtype.kind == "f" and (labels % 1).any():
        raise ValueError(
            "Y holds fractions, which are no class labels; cut them into classes, or predict them by an encoder."
        )
    if len(np.unique(labels)) < 2:
        raise ValueError("all rows have the same class label; a classifier needs at least two classes.")
    return labels


def _require_same_rows(
    array: xr.DataArray, other: xr.DataArray, name: str, other_name: str, labels: tuple[str, ...] = ()
) -> None:
    """Raise a ``ValueError`` for the first label along the rows in which two arrays differ, where both have it."""
    dim = other.dims[0]
    if array.dims[0] != dim or len(array) != len(other):
        raise ValueError(
            f"{name!r} has {len(array)} rows along {array.dims[0]!r}, {other_name} {len(other)} along {dim!r}; "
            "they must match row by row."
        )
    for label in ("stimulus_id", "repetition", *RECORDING_GROUPS, "time_bin_start", *labels):
        if any(label not in side.coords or side.coords[label].dims != (dim,) for side in (array, other)):
            continue
        a, b = array.coords[label].values, other.coords[label].values
        if label == "time_bin_start":
            width = other.coords["time_bin_end"].values - b
            differing = np.flatnonzero(np.abs(a - b) > width / 2)
        else:
            differing = np.flatnonzero(a != b)
        if differing.size:
            k = differing[0]
            raise ValueError(
                f"{name!r} has another {label} than {other_name} in {differing.size} rows (first row {k}: "
                f"{quoted(a[k])} and {quoted(b[k])}); bring both to the same rows in the same order first."
            )


def _labelled_encoding(models: dict[str, xr.DataArray], Y: xr.DataArray, repeats: str) -> Task:
    validate(Y)
    if Y.dims[0] == "rdm":
        raise ValueError("Y is rdm × pair; dissimilarities are compared by rsa.compare and rsa.infer.")
    notes: dict[str, Any] = {}
    for name, x in models.items():
        if x.dims[0] != Y.dims[0]:
            raise ValueError(
                f"model {name!r} is {' × '.join(map(str, x.dims))} and the recording {' × '.join(map(str, Y.dims))}; "
                f"both must begin with {Y.dims[0]!r}."
            )
    target, responses, aligned = Y, Y, models
    if Y.dims[0] == "presentation":
        stimuli = Y.coords["stimulus_id"].values
        common = _common_stimuli(models, stimuli)
        responses = Y.isel(presentation=np.flatnonzero(pd.Series(stimuli).isin(common)))
        target = average_repeats(responses) if repeats == "average" else responses
        reports = {}
        aligned = {}
        for name, x in models.items():
            _, aligned[name], report = align(target, average_repeats(x), repeats="keep")
            reports[name] = str(report)
        kept = (
            f"{len(common)} of the recording's {len(pd.unique(stimuli))} stimuli have features in every model"
        )
        notes = {"stimuli": kept, "alignment": reports, "repeats": repeats}
    else:
        for name, x in models.items():
            _require_same_rows(x, Y, name, "the recording")
    truth = _numbers(target, "Y").reshape(target.sizes[target.dims[0]], -1)
    return Task(aligned, truth, target, _unit_labels(target), None, responses, notes)


def _common_stimuli(models: dict[str, xr.DataArray], stimuli: Array) -> list[Any]:
    common = pd.Series(pd.unique(stimuli))
    for name, x in models.items():
        ids = x.coords["stimulus_id"].values
        here = common[common.isin(ids)]
        if here.empty:
            raise ValueError(
                f"model {name!r} and the recording share no stimulus_id (model: {ids[:3].tolist()}, recording: "
                f"{common[:3].tolist()}); check that both name the stimuli alike, with the same type."
            )
        common = here
    return common.tolist()


def _unit_labels(target: xr.DataArray, taken: tuple[str, ...] = TAKEN) -> dict[str, tuple[str, Array]]:
    """Coordinates of units; responses over time become neuroid × time_bin units."""
    n_times = target.sizes["time_bin"] if target.ndim == 3 else 1
    units: dict[str, tuple[str, Array]] = {}
    for name, coord in target.coords.items():
        key = f"unit_{name}" if name in taken else str(name)
        if coord.dims == ("neuroid",):
            units[key] = ("unit", np.repeat(coord.values, n_times))
        elif coord.dims == ("time_bin",) and target.ndim == 3:
            units[key] = ("unit", np.tile(coord.values, target.sizes["neuroid"]))
    return units


def _numbers(array: Any, what: str) -> Array:
    """Values of an array of any kind as floats."""
    try:
        return to_tensor(array, "cpu").numpy()
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None


def _checked(task: Task, estimator: Any) -> Task:
    last = last_step(estimator)[1]
    task.labelled = takes_labels(estimator)
    task.maps = getattr(last, "takes_maps", False)
    for name, x in task.models.items():
        if len(x) != len(task.truth):
            raise ValueError(
                f"model {name!r} has {len(x)} rows, Y has {len(task.truth)}; they must match row by row."
            )
    if task.labels is not None:
        return task
    _check_missing(task, last)
    if (np.isnan(task.truth) | (task.truth == np.nanmax(task.truth, axis=0))).all():
        raise ValueError(
            "the responses do not vary at all, so that no unit can have a score; check what Y holds."
        )
    return task


def _check_missing(task: Task, estimator: Any) -> None:
    """Refuse responses that are not there, unless the estimator fits every unit on the rows where it has some."""
    ids, wrong = task.units["neuroid_id"][1], ~np.isfinite(task.truth)
    if not wrong.any():
        return
    units = np.flatnonzero(wrong.any(axis=0))
    first = f"first: unit {quoted(ids[units[0]])} in row {wrong[:, units[0]].argmax()}"
    if np.isinf(task.truth).any() or not getattr(last_step(estimator)[1], "handles_missing", False):
        raise ValueError(
            f"{len(units)} of {len(ids)} units have missing or infinite responses ({first}); select complete units "
            "or stimuli first, or fit each unit on the rows that it has, as RidgeCV does with missing ones (NaN)."
        )
    empty = np.flatnonzero(wrong.all(axis=0))
    if empty.size:
        raise ValueError(
            f"{empty.size} of {len(ids)} units have no responses at all (first: unit {quoted(ids[empty[0]])}); "
            "leave them out."
        )
    share = f"{int(wrong.sum())} of {wrong.size} responses are missing, in {len(units)} of {len(ids)} units ({first})"
    task.notes["missing"] = f"{share}: each unit was fitted and scored on its own rows"
    warnings.warn(f"{share}: each unit is fitted and scored on the rows that it has.", stacklevel=5)
