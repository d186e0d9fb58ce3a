"""Model RDMs: what a hypothesis about stimuli says of their dissimilarities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import assemble, concat, quoted
from .metrics import METRICS
from .pairs import pair_table
from .rdms import rdm

Array = NDArray[Any]
#: measures of features: one pattern a stimulus, nothing to cross-validate or whiten
OF_FEATURES = tuple(name for name, how in METRICS.items() if how.of == "means" and how.noise != "needed")


def model_rdm(
    values: Any, stimuli: Any = None, metric: str = "auto", name: str | None = None
) -> xr.DataArray:
    """Dissimilarities that a category, a rating or features of stimuli predict.

    Parameters
    ----------
    values
        What the model says of each stimulus: a mapping of ``stimulus_id`` to it; a pandas ``Series`` or ``DataFrame``
        indexed by stimulus (one RDM a column); a labelled array along ``presentation`` (``array.coords["animate"]``)
        or ``presentation × neuroid``; or a sequence in the order of ``stimuli``. Each is a category (text or
        boolean), a rating (number), or features (one vector a stimulus).
    stimuli
        ``stimulus_id`` of each value, where ``values`` does not say.
    metric
        ``"category"`` (0 within, 1 between), ``"difference"`` (absolute, of ratings), or for features a metric of
        :func:`rdm` such as ``"correlation"``. Default ``"auto"``: by the kind of the values; for features
        ``"euclidean"``.
    name
        ``neuroid_id`` of the RDM. Default: the name of the table's columns or of the array, else ``"model"``.

    Returns
    -------
    xarray.DataArray
        ``rdm × pair``, as of :func:`rdm`.

    Raises
    ------
    ValueError
        If stimuli are missing or occur twice with other values, a value is missing, or the metric does not fit.

    Examples
    --------
    >>> from cerebridge.encoding import rsa
    >>> rsa.model_rdm({"cat": "animal", "dog": "animal", "car": "thing"}, name="category").values.tolist()
    [[0.0, 1.0, 1.0]]
    >>> rsa.model_rdm({"cat": 0.4, "dog": 0.7, "car": 1.0}).values.round(3).tolist()
    [[0.3, 0.6, 0.3]]
    """
    if isinstance(values, pd.DataFrame):
        return _of_table(values, stimuli, metric, name)
    if isinstance(values, xr.DataArray):
        if values.ndim == 2:
            metric = "euclidean" if metric == "auto" else metric
            return _of_features(_check_features(metric, values), metric, name or str(values.name or "model"))
        name = name or (None if values.name is None else str(values.name))
        stimuli = _ids_of(values) if stimuli is None else stimuli
        values = values.values
    elif isinstance(values, pd.Series):
        name = name or (None if values.name is None else str(values.name))
        stimuli = values.index.to_numpy() if stimuli is None else stimuli
        values = values.to_numpy()
    elif isinstance(values, Mapping):
        stimuli, values = list(values), list(values.values())
    name = name or "model"
    if stimuli is None:
        raise ValueError(f"nothing says which stimuli the values of model {name!r} belong to; give stimuli=.")
    ids, kept, rows = _one_a_stimulus(np.asarray(stimuli), _tidied(values, name), name)
    return _of_values(rows[kept], ids, metric, name)


def _of_table(table: pd.DataFrame, stimuli: Any, metric: str, name: str | None) -> xr.DataArray:
    """One RDM a column."""
    if stimuli is None:
        stimuli = table.get("stimulus_id", table.index)
    columns = [column for column in table if column != "stimulus_id"]
    if not columns:
        raise ValueError("the table of models has no column besides the stimuli; give one column a model.")
    if name is not None and len(columns) > 1:
        raise ValueError(f"name={name!r} is one name, and the table has {len(columns)} models; leave it out.")
    parts = [
        model_rdm(table[column].to_numpy(), np.asarray(stimuli), metric, name or str(column))
        for column in columns
    ]
    return parts[0] if len(parts) == 1 else concat(parts, "rdm")


def _of_values(values: Array, stimuli: Array, metric: str, name: str) -> xr.DataArray:
    if len(stimuli) < 2:
        raise ValueError(f"model {name!r} is of {len(stimuli)} stimulus; a dissimilarity needs two.")
    if metric == "auto":
        metric = (
            "euclidean" if values.ndim == 2 else "difference" if values.dtype.kind in "fiu" else "category"
        )
    if values.ndim == 2:
        _check_features(metric, values)
        features = assemble(
            values,
            presentation={"stimulus_id": stimuli},
            neuroid={"neuroid_id": np.arange(values.shape[1])},
            modality="model",
            units="a.u.",
        )
        return _of_features(features, metric, name)
    rows, columns = np.triu_indices(len(stimuli), 1)
    if metric == "category":
        found = (values[rows] != values[columns]).astype(np.float64)
    elif metric == "difference" and values.dtype.kind in "fiub":
        numbers = values.astype(np.float64)
        found = np.abs(numbers[rows] - numbers[columns])
    elif metric == "difference":
        raise ValueError(
            f"metric='difference' is of numbers, and model {name!r} has text; use metric='category'."
        )
    else:
        raise ValueError(
            f"metric={metric!r} does not fit model {name!r}, which has one value a stimulus; use 'category' or "
            "'difference'."
        )
    return assemble(
        found[None],
        rdm={"neuroid_id": [name]},
        pair=pair_table(stimuli),
        modality="model",
        units="a.u.",
        provenance=f"rsa.model_rdm(metric={metric!r})",
    ).assign_attrs(metric=metric)


def _of_features(array: xr.DataArray, metric: str, name: str) -> xr.DataArray:
    # predictions of any kind are in arbitrary units, so that models join into one array
    return rdm(array, metric).assign_coords(neuroid_id=("rdm", [name])).assign_attrs(units="a.u.")


def _check_features(metric: str, values: Any) -> Any:
    if metric not in OF_FEATURES:
        raise ValueError(
            f"metric={metric!r} does not fit features, a vector a stimulus; use {', '.join(map(repr, OF_FEATURES))}."
        )
    return values


def _tidied(values: Any, name: str) -> Array:
    """Text, truth values, numbers, or rows of numbers; nothing missing."""
    parts = list(values)
    missing = [k for k, part in enumerate(parts) if np.ndim(part) == 0 and pd.isna(part)]
    if missing:
        raise ValueError(
            f"model {name!r} has no value for {len(missing)} of {len(parts)} stimuli, the first at row {missing[0]}; "
            "leave those stimuli out."
        )
    if len({np.shape(part) for part in parts}) > 1 or any(np.ndim(part) > 1 for part in parts):
        raise ValueError(f"the features of model {name!r} must be vectors of one length.")
    found = np.asarray(parts)
    if found.dtype.kind in "fiub":
        return found
    if found.ndim == 2:
        raise ValueError(f"the features of model {name!r} are not all numbers.")
    if not all(isinstance(part, str) for part in parts):
        found = np.empty(len(parts), dtype=object)
        found[:] = parts
    return found


def _ids_of(values: xr.DataArray) -> Array:
    if "stimulus_id" not in values.coords:
        raise ValueError(f"the array of dimensions {values.dims} has no stimulus_id; give stimuli=.")
    return np.asarray(values.coords["stimulus_id"].values)


def _one_a_stimulus(stimuli: Array, values: Array, name: str) -> tuple[Array, NDArray[np.intp], Array]:
    """Stimuli in order of first appearance, where each is, and the values; repeats must agree."""
    if len(stimuli) != len(values):
        raise ValueError(
            f"model {name!r} has {len(values)} values for {len(stimuli)} stimuli; give one for each."
        )
    codes, ids = pd.factorize(stimuli)
    if (codes < 0).any():
        raise ValueError(f"stimulus {int(np.argmin(codes))} of model {name!r} has no name.")
    first = np.unique(codes, return_index=True)[1]
    differs = np.flatnonzero(np.atleast_2d((values != values[first][codes]).T).any(axis=0))
    if differs.size:
        raise ValueError(
            f"model {name!r} has several values for stimulus {quoted(stimuli[differs[0]])}; give one for each."
        )
    return np.asarray(ids), first, values
