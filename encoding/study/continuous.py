"""Recordings and features over time, read from plain arrays: runs side by side, filtered and standardised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ... import neuro
from ...neuro.filtering import band_pass, standardize
from .files import load_values

Array = NDArray[Any]


def read_continuous(path: Path, entry: Mapping[str, Any], modality: str, units: str) -> xr.DataArray:
    """Read one array over time.

    Parameters
    ----------
    path
        The file.
    entry
        ``dims`` (``time_bin``, and any of ``run`` and ``neuroid``), ``sfreq`` in Hz, ``key`` of the array, ``along``
        (label: key of an array with one value a time bin), ``band_pass`` (Hz) and ``standardize`` (in each run).
    modality, units
        Of the array.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``; time begins at zero in every run.

    Raises
    ------
    ValueError
        If axes do not fit the file, or a label has another length.
    """
    values = load_values(path, entry.get("key"))
    dims = list(entry["dims"])
    if values.ndim != len(dims):
        raise ValueError(
            f"{path.name} has {values.ndim} axes of lengths {values.shape}, but dims names {len(dims)}."
        )
    if "sfreq" not in entry:
        raise ValueError(
            f"{path.name} is over time without presentations, which needs 'sfreq', its bins a second."
        )
    order = [dim for dim in ("run", "time_bin", "neuroid") if dim in dims]
    values = values.transpose([dims.index(dim) for dim in order]).astype(np.float64)
    values = values if "run" in dims else values[None]
    values = values if "neuroid" in dims else values[..., None]
    n_runs, n_times, n_units = values.shape
    flat = values.reshape(n_runs * n_times, n_units)
    labels = {name: _labels(path, key, len(flat)) for name, key in entry["along"].items()}
    if "run" in dims:
        labels["run"] = np.repeat(np.arange(n_runs), n_times)
    runs = pd.Series(labels.get("run", np.zeros(len(flat), dtype=int)))
    starts = runs.groupby(runs).cumcount().to_numpy() / entry["sfreq"]
    array = neuro.assemble(
        flat,
        time_bin={"time_bin_start": starts, "time_bin_end": starts + 1 / entry["sfreq"], **labels},
        neuroid={"neuroid_id": np.arange(n_units)},
        modality=modality,
        units=units,
        sfreq=float(entry["sfreq"]),
        provenance=f"read from {path.name}",
    )
    if "band_pass" in entry:
        array = band_pass(array, *entry["band_pass"])
    return standardize(array) if entry["standardize"] else array


def _labels(path: Path, key: str, n: int) -> Array:
    labels = np.asarray(load_values(path, key))
    if labels.shape != (n,):
        raise ValueError(
            f"the labels {key!r} in {path.name} have the shape {labels.shape}; give one for each of {n} time bins."
        )
    return labels
