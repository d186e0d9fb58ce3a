"""Recordings and features over time, read from plain arrays: runs side by side, filtered and standardised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ... import neuro
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
    runs = labels.get("run", np.zeros(len(flat), dtype=int))
    for run in np.unique(runs):
        flat[runs == run] = _cleaned(flat[runs == run], entry)
    starts = _starts(runs) / entry["sfreq"]
    return neuro.assemble(
        flat,
        time_bin={"time_bin_start": starts, "time_bin_end": starts + 1 / entry["sfreq"], **labels},
        neuroid={"neuroid_id": np.arange(n_units)},
        modality=modality,
        units=units,
        sfreq=float(entry["sfreq"]),
        provenance=f"read from {path.name}",
    )


def _cleaned(values: Array, entry: Mapping[str, Any]) -> Array:
    """One run, band-passed without a shift in time and standardised, where that is wanted."""
    if "band_pass" in entry:
        import mne

        low, high = entry["band_pass"]
        values = mne.filter.filter_data(values.T.copy(), entry["sfreq"], low, high, verbose="error").T
    if entry["standardize"]:
        spread = values.std(axis=0)
        values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return values


def _labels(path: Path, key: str, n: int) -> Array:
    labels = np.asarray(load_values(path, key))
    if labels.shape != (n,):
        raise ValueError(
            f"the labels {key!r} in {path.name} have the shape {labels.shape}; give one for each of {n} time bins."
        )
    return labels


def _starts(runs: Array) -> Array:
    """Number of each row within its run."""
    starts = np.empty(len(runs), dtype=np.float64)
    for run in np.unique(runs):
        here = np.flatnonzero(runs == run)
        starts[here] = np.arange(len(here))
    return starts
