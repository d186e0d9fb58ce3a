"""Rows that belong together: features and responses aligned and checked before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import is_classifier

from ..neuro.alignment import align, average_repeats
from ..neuro.assembly import validate

Array = NDArray[Any]


@dataclass
class Task:
    """Rows that belong together: each model's array, truth, and the labels of rows and units."""

    models: dict[str, Any]
    truth: Array
    rows: xr.DataArray
    units: dict[str, tuple[str, Array]]
    labels: Array | None = None
    responses: xr.DataArray | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def features(self, name: str) -> Array:
        """Values of one model, read now and not before, so that models need not fit into memory together.

        Raises
        ------
        ValueError
            If a value is missing or infinite.
        """
        x = np.asarray(getattr(self.models[name], "values", self.models[name]))
        if self.labels is None:
            x = x.reshape(len(x), -1)
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise ValueError(
                f"model {name!r} has {int((~np.isfinite(x)).sum())} missing or infinite features; remove or fill them."
            )
        return x


def prepare_task(estimator: Any, X: Any, Y: Any, repeats: str, by: str | None = None) -> Task:
    """Align the features of every model with the truth row by row, and refuse what cannot be fitted.

    Raises
    ------
    ValueError
        If nothing overlaps, rows do not match, a value is missing, or there is one class only.
    """
    models = dict(X) if isinstance(X, Mapping) else {"model": X}
    if not models:
        raise ValueError("X holds no model; give at least one array of features.")
    if by is not None:
        models = {name: part for key, x in models.items() for name, part in _parts(x, by, key, len(models))}
    if isinstance(Y, str) or is_classifier(estimator):
        return _classification(models, Y)
    if all(isinstance(array, xr.DataArray) for array in (*models.values(), Y)):
        return _labelled_encoding(models, Y, repeats)
    if any(isinstance(array, xr.DataArray) for array in (*models.values(), Y)):
        raise ValueError(
            "X and Y must both be labelled arrays or both plain ones, so that rows can be matched."
        )
    truth = np.asarray(Y)
    truth = truth[:, None] if truth.ndim == 1 else truth
    rows = xr.DataArray(
        truth,
        dims=("presentation", "neuroid"),
        coords={"stimulus_id": ("presentation", np.arange(len(truth)))},
    )
    units = {"neuroid_id": ("unit", np.arange(truth.shape[1]))}
    return _checked(Task(models, truth, rows, units))


def _parts(x: Any, by: str, key: str, n_models: int) -> Iterator[tuple[str, xr.DataArray]]:
    """One array for each value of a label along the neuroids, named by the value."""
    if not isinstance(x, xr.DataArray) or by not in x.coords or x.coords[by].dims != ("neuroid",):
        raise ValueError(f"model {key!r} has no label {by!r} along 'neuroid' to make a model of each value.")
    labels = x.coords[by].values
    for value in pd.unique(labels):
        name = str(value) if n_models == 1 else f"{key}: {value}"
        yield name, x.isel(neuroid=np.flatnonzero(labels == value))


def _classification(models: dict[str, Any], Y: Any) -> Task:
    first = next(iter(models.values()))
    if isinstance(Y, str):
        if not isinstance(first, xr.DataArray) or Y not in first.coords:
            raise ValueError(
                f"there is no coordinate {Y!r} in X to classify; give its name or one label a row."
            )
        Y = first.coords[Y].values
    labels = np.asarray(Y)
    if isinstance(first, xr.DataArray):
        rows = first.isel(dict.fromkeys(first.dims[1:], 0)) if first.ndim == 3 else first
        rows = rows if rows.ndim > 1 else rows.expand_dims("neuroid", axis=1)
    else:
        rows = xr.DataArray(np.zeros((len(labels), 1)), dims=("presentation", "neuroid"))
    if len(np.unique(labels)) < 2:
        raise ValueError("all rows have the same class label; a classifier needs at least two classes.")
    return _checked(Task(models, labels, rows, {"neuroid_id": ("unit", np.array(["classifier"]))}, labels))


def _labelled_encoding(models: dict[str, xr.DataArray], Y: xr.DataArray, repeats: str) -> Task:
    validate(Y)
    notes: dict[str, Any] = {}
    aligned: dict[str, xr.DataArray] = {}
    responses = Y
    if Y.dims[0] == "presentation":
        common = _common_stimuli(models, Y)
        responses = Y.isel(presentation=np.flatnonzero(np.isin(Y.coords["stimulus_id"].values, common)))
        target = average_repeats(responses) if repeats == "average" else responses
        reports = {}
        for name, x in models.items():
            _, aligned[name], report = align(target, average_repeats(x), repeats="keep")
            reports[name] = str(report)
        notes = {"alignment": reports, "repeats": repeats}
    else:
        target = Y
        for name, x in models.items():
            if x.sizes.get("time_bin") != Y.sizes["time_bin"]:
                raise ValueError(
                    f"model {name!r} has {x.sizes.get('time_bin')} time bins, the recording {Y.sizes['time_bin']}; "
                    "resample first."
                )
        aligned = models
    truth = target.values.reshape(target.sizes[target.dims[0]], -1)
    return _checked(
        Task(
            aligned,
            truth,
            target,
            _unit_labels(target),
            None,
            responses,
            notes,
        )
    )


def _common_stimuli(models: dict[str, xr.DataArray], Y: xr.DataArray) -> Array:
    common = np.unique(Y.coords["stimulus_id"].values)
    for name, x in models.items():
        ids = validate(x).coords["stimulus_id"].values if "stimulus_id" in x.coords else np.array([])
        here = np.intersect1d(common, ids)
        if not here.size:
            raise ValueError(
                f"model {name!r} and the recording share no stimulus_id (model: {ids[:3].tolist()}, recording: "
                f"{common[:3].tolist()}); check that both name the stimuli alike, with the same type."
            )
        common = here
    return common


def _unit_labels(target: xr.DataArray) -> dict[str, tuple[str, Array]]:
    """Coordinates of units; responses over time become neuroid × time_bin units."""
    n_times = target.sizes["time_bin"] if target.ndim == 3 else 1
    units: dict[str, tuple[str, Array]] = {}
    for name, coord in target.coords.items():
        if coord.dims == ("neuroid",):
            units[str(name)] = ("unit", np.repeat(coord.values, n_times))
        elif coord.dims == ("time_bin",) and target.ndim == 3:
            units[str(name)] = ("unit", np.tile(coord.values, target.sizes["neuroid"]))
    return units


def _checked(task: Task) -> Task:
    for name, x in task.models.items():
        if len(x) != len(task.truth):
            raise ValueError(
                f"model {name!r} has {len(x)} rows, Y has {len(task.truth)}; they must match row by row."
            )
    if task.labels is None and task.truth.dtype.kind == "f":
        wrong = np.flatnonzero(~np.isfinite(task.truth).all(axis=0))
        if wrong.size:
            ids = task.units["neuroid_id"][1]
            raise ValueError(
                f"{wrong.size} units have missing responses (first: {ids[wrong[0]]!r}); "
                "select complete units or stimuli first."
            )
    return task
