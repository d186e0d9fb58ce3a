"""Patterns of conditions: what dissimilarities are computed from, taken out of a labelled array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.alignment import average_repeats
from ...neuro.assembly import quoted
from ..containers import to_tensor

Array = NDArray[Any]


def unit_groups(
    array: xr.DataArray, by: str | Sequence[str] | None
) -> tuple[list[NDArray[np.intp]], dict[str, Array]]:
    """Units of each RDM, and a table of the RDMs' labels.

    Parameters
    ----------
    array
        With a ``neuroid`` dimension.
    by
        Coordinates along it whose equal values make one group; ``None``: all units are one.

    Returns
    -------
    groups
        Positions along ``neuroid``, in order of first appearance.
    table
        ``neuroid_id`` (the values of ``by``, or the name of the array) and every label that is constant within
        all groups.
    """
    names = [] if by is None else [by] if isinstance(by, str) else list(by)
    along = {str(name): c.values for name, c in array.coords.items() if c.dims == ("neuroid",)}
    unknown = [name for name in names if name not in along]
    if unknown:
        raise ValueError(
            f"by={unknown[0]!r} is no coordinate along 'neuroid'; there are {', '.join(map(repr, along))}."
        )
    codes = np.zeros(array.sizes["neuroid"], dtype=np.intp)
    if names:
        frame = pd.DataFrame({name: along[name] for name in names})
        codes = frame.groupby(names, sort=False, dropna=False).ngroup().to_numpy()
    first = np.unique(codes, return_index=True)[1]
    groups = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    table: dict[str, Array] = {}
    for name, labels in along.items():
        same = pd.factorize(labels)[0]
        if name != "neuroid_id" and (same == same[first][codes]).all():
            table[name] = labels[first]
    ids = [" | ".join(str(along[name][k]) for name in names) for k in first]
    table["neuroid_id"] = np.array(ids) if names else np.array([str(array.name or array.attrs["modality"])])
    return groups, table


def select_units(array: xr.DataArray, units: NDArray[np.intp]) -> xr.DataArray:
    """``array`` of some units; neighbours by a slice, so that a file is read where they lie and nowhere else."""
    if units[-1] - units[0] + 1 == len(units):
        return array.isel(neuroid=slice(int(units[0]), int(units[-1]) + 1))
    return array.isel(neuroid=units)


def mean_patterns(array: xr.DataArray, label: str, device: torch.device) -> tuple[torch.Tensor, Array]:
    """Mean pattern of each stimulus, ``(time bins or 1, stimuli, units)``, and the stimuli."""
    stimuli = array.coords["stimulus_id"].values
    mean = array if len(pd.unique(stimuli)) == len(stimuli) else average_repeats(array)
    check_finite(mean, label)
    return _time_first(to_tensor(mean, device)), mean.coords["stimulus_id"].values


def run_patterns(
    array: xr.DataArray, cv: str, label: str, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, Array]:
    """Mean pattern of each stimulus in each run, ``(time bins or 1, stimuli, runs, units)``, counts, the stimuli."""
    if cv not in array.coords or array.coords[cv].dims != ("presentation",):
        raise ValueError(
            f"metric='crossnobis' needs the coordinate {cv!r} along 'presentation' to cross-validate over; "
            "name the one that tells independent recordings apart with cv=."
        )
    check_finite(array, label)
    codes, stimuli = pd.factorize(array.coords["stimulus_id"].values)
    folds, runs = pd.factorize(array.coords[cv].values)
    counts = np.zeros((len(stimuli), len(runs)), dtype=np.int64)
    np.add.at(counts, (codes, folds), 1)
    lonely = np.flatnonzero((counts > 0).sum(axis=1) < 2)
    if lonely.size:
        raise ValueError(
            f"{lonely.size} of {len(stimuli)} stimuli occur in one {cv} only, the first {quoted(stimuli[lonely[0]])}; "
            "metric='crossnobis' needs every stimulus in at least two."
        )
    patterns = _time_first(to_tensor(array, device))
    cells = torch.as_tensor(codes * len(runs) + folds, device=patterns.device)
    total = patterns.new_zeros(len(patterns), counts.size, patterns.shape[-1]).index_add_(1, cells, patterns)
    n = torch.as_tensor(counts, device=patterns.device)
    mean = total.view(len(patterns), *counts.shape, -1) / n.clamp(min=1)[..., None]
    return mean, n, np.asarray(stimuli)


def noise_covariance(
    noise: Any, array: xr.DataArray, units: NDArray[np.intp], n_units: int, label: str
) -> Array | None:
    """Covariance (units × units) or variances (units) of the noise of some of ``n_units``."""
    if noise is None:
        return None
    if isinstance(noise, str):
        if noise != "residual":
            raise ValueError(
                f"noise={noise!r} is unknown; use 'residual', a covariance (units × units) or variances."
            )
        return _residual_covariance(array, label)
    noise = np.asarray(noise, dtype=np.float64)
    if noise.shape not in ((n_units,), (n_units, n_units)):
        raise ValueError(
            f"noise has the shape {noise.shape}; for {n_units} units it must be {(n_units, n_units)} or {(n_units,)}."
        )
    noise = noise[units] if noise.ndim == 1 else noise[np.ix_(units, units)]
    variances = noise if noise.ndim == 1 else noise.diagonal()
    if not np.isfinite(noise).all() or (variances <= 0).any():
        raise ValueError(
            f"the noise of {label!r} has missing values or variances that are not positive; leave such units out."
        )
    if noise.ndim == 2 and not np.allclose(noise, noise.T, rtol=1e-5, atol=1e-8 * np.abs(noise).max()):
        raise ValueError(
            "the noise covariance is not symmetric; give the covariance of the units, not their loadings."
        )
    return noise


def check_finite(array: xr.DataArray, label: str) -> None:
    """Refuse missing and infinite values, naming the first."""
    wrong = ~np.isfinite(array.values)
    if wrong.any():
        first = np.argwhere(wrong)[0]
        stimulus, unit = (
            array.coords["stimulus_id"].values[first[0]],
            array.coords["neuroid_id"].values[first[1]],
        )
        raise ValueError(
            f"{label!r} has {int(wrong.sum())} missing or infinite values, the first at stimulus {quoted(stimulus)}, "
            f"unit {quoted(unit)}; leave out such units (array.dropna('neuroid')) or presentations first."
        )


def _residual_covariance(array: xr.DataArray, label: str) -> Array:
    """Deviations of presentations from the mean of their stimulus, pooled over time, shrunk (Ledoit & Wolf, 2004)."""
    from sklearn.covariance import ledoit_wolf

    check_finite(array, label)
    codes = pd.factorize(array.coords["stimulus_id"].values)[0]
    counts = np.bincount(codes)
    free = len(codes) - len(counts)
    if free < 1:
        raise ValueError(
            f"noise='residual' needs repeated stimuli, and {label!r} has one presentation of each."
        )
    values = np.asarray(array.values, dtype=np.float64)
    means = np.zeros((len(counts), *values.shape[1:]))
    np.add.at(means, codes, values)
    residuals = values - (means / counts.reshape(-1, *[1] * (values.ndim - 1)))[codes]
    rows = np.moveaxis(residuals, 1, -1).reshape(-1, values.shape[1])
    quiet = np.flatnonzero(~(rows.std(axis=0) > 0))
    if quiet.size:
        unit = array.coords["neuroid_id"].values[quiet[0]]
        raise ValueError(
            f"unit {quoted(unit)} of {label!r} has no noise at all, so noise='residual' cannot scale it; leave it out."
        )
    return np.asarray(ledoit_wolf(rows, assume_centered=True)[0]) * (len(codes) / free)


def _time_first(values: torch.Tensor) -> torch.Tensor:
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1)
