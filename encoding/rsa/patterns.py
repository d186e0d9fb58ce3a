"""Patterns of conditions: what dissimilarities are computed from, taken out of a labelled array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import quoted
from ..containers import to_tensor

Array = NDArray[Any]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Design:
    """Which stimulus and which run each presentation belongs to.

    Attributes
    ----------
    codes, folds
        Positions in ``stimuli`` and ``runs``, one a presentation.
    stimuli, runs
        In order of first appearance.
    """

    codes: Indices
    folds: Indices
    stimuli: Array
    runs: Array

    @classmethod
    def of(cls, array: xr.DataArray, cv: str | None = None) -> Design:
        """That of an array; without ``cv`` all presentations are one run."""
        codes, stimuli = _factorized(array, "stimulus_id")
        folds, runs = (np.zeros_like(codes), np.zeros(1)) if cv is None else _factorized(array, cv)
        return cls(codes, folds, stimuli, runs)

    def select(self, presentations: Indices) -> Design:
        """The design of some presentations, with those stimuli and runs that they hold."""
        kept, codes = np.unique(self.codes[presentations], return_inverse=True)
        here, folds = np.unique(self.folds[presentations], return_inverse=True)
        return Design(codes, folds, self.stimuli[kept], self.runs[here])

    @property
    def pooled(self) -> Design:
        """The same with all presentations in one run."""
        return replace(self, folds=np.zeros_like(self.folds), runs=self.runs[:1])

    @cached_property
    def order(self) -> Indices | None:
        """Presentations by stimulus and run, where each of both meet in one presentation."""
        cells = self.codes * len(self.runs) + self.folds
        order = np.argsort(cells)
        return order if np.array_equal(cells[order], np.arange(self.counts.size)) else None

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Presentations of each stimulus in each run."""
        counts = np.zeros((len(self.stimuli), len(self.runs)), dtype=np.int64)
        np.add.at(counts, (self.codes, self.folds), 1)
        return counts

    def means(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of each stimulus in each run, ``(..., stimuli, runs, units)``, of ``(..., presentations, units)``.

        Missing values are left out; NaN where all are missing, 0 where there is no presentation.
        """
        shape = (*values.shape[:-2], len(self.stimuli), len(self.runs), values.shape[-1])
        if self.order is not None:
            if (np.diff(self.order) == 1).all():
                return values.reshape(shape)
            return values[..., torch.as_tensor(self.order, device=values.device), :].reshape(shape)
        cells = torch.as_tensor(self.codes * len(self.runs) + self.folds, device=values.device)
        n_cells = self.counts.size
        missing = values.isnan()
        n = torch.as_tensor(self.counts, device=values.device).view(-1, 1)
        if bool(missing.any()):
            known = (~missing).to(values.dtype)
            n = values.new_zeros(*values.shape[:-2], n_cells, shape[-1]).index_add_(-2, cells, known)
            n = n.masked_fill(n == 0, torch.nan)
            values = values.nan_to_num(nan=0.0)
        total = values.new_zeros(*values.shape[:-2], n_cells, shape[-1]).index_add_(-2, cells, values)
        return (total / n.clamp(min=1)).reshape(shape)


@dataclass(frozen=True)
class Groups:
    """What each RDM is computed from.

    Attributes
    ----------
    presentations, units
        Positions along both dimensions, one of each an RDM.
    table
        Labels of the RDMs.
    """

    presentations: list[Indices]
    units: list[Indices]
    table: dict[str, Array]


def find_groups(array: xr.DataArray, by: str | Sequence[str] | None) -> Groups:
    """Presentations and units of each RDM, and a table of the RDMs' labels.

    Parameters
    ----------
    array
        ``presentation × neuroid [× time_bin]``.
    by
        Coordinates along ``neuroid`` or ``presentation`` whose equal values make one group; ``None``: all are one.

    Returns
    -------
    Groups
        In order of first appearance. ``table`` has ``neuroid_id`` (the values of ``by``, or the name of the array)
        and every label that is constant within all groups.
    """
    names = [] if by is None else [by] if isinstance(by, str) else list(by)
    dims = {
        dim: [name for name in names if is_along(array, name, dim)] for dim in ("presentation", "neuroid")
    }
    unknown = [name for name in names if name not in dims["presentation"] + dims["neuroid"]]
    if unknown:
        known = [repr(str(name)) for name, c in array.coords.items() if c.dims == ("neuroid",)]
        raise ValueError(
            f"by={unknown[0]!r} is no coordinate along 'neuroid' or 'presentation'; along 'neuroid' there are "
            f"{', '.join(known)}."
        )
    rows, row_table = split_labels(array, "presentation", dims["presentation"])
    units, table = split_labels(array, "neuroid", dims["neuroid"])
    n_rows, n_units = len(rows), len(units)
    table = {name: np.tile(labels, n_rows) for name, labels in table.items()}
    if dims["presentation"]:
        table |= {name: np.repeat(labels, n_units) for name, labels in row_table.items()}
    table["neuroid_id"] = (
        np.array(
            [" | ".join(map(str, labels)) for labels in zip(*(table[name] for name in names), strict=True)]
        )
        if names
        else np.array([str(array.name or array.attrs["modality"])])
    )
    return Groups([part for part in rows for _ in units], units * n_rows, table)


def read_values(
    array: xr.DataArray, rows: Indices, units: list[Indices], device: torch.device
) -> torch.Tensor:
    """Values of groups of equally many units, ``(groups, time bins or 1, presentations, units)``.

    Neighbours are read by a slice, so that a file is read where they lie and nowhere else.
    """
    part = _isel(_isel(array, "presentation", rows), "neuroid", np.concatenate(units))
    values = to_tensor(part, device)
    values = values.reshape(len(rows), len(units), -1, *values.shape[2:])
    return values.permute(1, 0, 2)[:, None] if values.ndim == 3 else values.permute(1, 3, 0, 2)


def mean_patterns(array: xr.DataArray, label: str, device: torch.device) -> tuple[torch.Tensor, Array]:
    """Mean pattern of each stimulus, ``(time bins or 1, stimuli, units)``, and the stimuli."""
    design = Design.of(array)
    mean = design.means(_all_values(array, device))[..., 0, :]
    check_finite(mean, label, design.stimuli, array.coords["neuroid_id"].values)
    return mean, design.stimuli


def run_patterns(
    array: xr.DataArray, cv: str, label: str, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, Array]:
    """Mean pattern of each stimulus in each run, ``(time bins or 1, stimuli, runs, units)``, counts, the stimuli."""
    check_runs(array, cv, "crossnobis")
    design = Design.of(array, cv)
    check_repeated(design, cv, "crossnobis")
    values = _all_values(array, device)
    check_finite(values, label, design.stimuli[design.codes], array.coords["neuroid_id"].values)
    return design.means(values), torch.as_tensor(design.counts, device=values.device), design.stimuli


def check_runs(array: xr.DataArray, cv: str, metric: str) -> None:
    """Refuse an array whose runs are not labelled."""
    if not is_along(array, cv, "presentation"):
        raise ValueError(
            f"metric={metric!r} needs the coordinate {cv!r} along 'presentation' to cross-validate over; "
            "name the one that tells independent recordings apart with cv=."
        )


def check_repeated(design: Design, cv: str, metric: str) -> None:
    """Refuse stimuli that occur in one run only: there is nothing to test them on."""
    lonely = np.flatnonzero((design.counts > 0).sum(axis=1) < 2)
    if lonely.size:
        raise ValueError(
            f"{lonely.size} of {len(design.stimuli)} stimuli occur in one {cv} only, the first "
            f"{quoted(design.stimuli[lonely[0]])}; metric={metric!r} needs every stimulus in at least two."
        )


def check_finite(values: torch.Tensor, label: str, stimuli: Array, units: Array) -> None:
    """Refuse missing and infinite ``(..., rows, units)``, naming the first."""
    if bool(values.sum().isfinite()):
        return
    wrong = ~values.isfinite()
    n = int(wrong.sum())
    if n:
        row, unit = (int(k) for k in wrong.flatten(0, -3).any(dim=0).nonzero()[0])
        raise ValueError(
            f"{label!r} has {n} missing or infinite values, the first at stimulus {quoted(stimuli[row])}, "
            f"unit {quoted(units[unit])}; leave out such units (array.dropna('neuroid')) or presentations first."
        )


def is_along(array: xr.DataArray, name: str, dim: str) -> bool:
    """Whether ``array`` has the coordinate ``name`` along ``dim``."""
    return name in array.coords and array.coords[name].dims == (dim,)


def split_labels(array: xr.DataArray, dim: str, names: list[str]) -> tuple[list[Indices], dict[str, Array]]:
    """Positions of each combination of labels along ``dim``, and the labels that are constant within all of them."""
    along = {str(name): c.values for name, c in array.coords.items() if c.dims == (dim,)}
    codes = np.zeros(array.sizes[dim], dtype=np.intp)
    if names:
        frame = pd.DataFrame({name: along[name] for name in names})
        codes = frame.groupby(names, sort=False, dropna=False).ngroup().to_numpy()
    first = np.unique(codes, return_index=True)[1]
    groups = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    table: dict[str, Array] = {}
    for name, labels in along.items():
        same = pd.factorize(labels)[0]
        if name in names or (
            name not in ("neuroid_id", "stimulus_id") and (same == same[first][codes]).all()
        ):
            table[name] = labels[first]
    return groups, table


def _all_values(array: xr.DataArray, device: torch.device) -> torch.Tensor:
    rows, units = (np.arange(array.sizes[dim]) for dim in ("presentation", "neuroid"))
    return read_values(array, rows, [units], device)[0]


def _factorized(array: xr.DataArray, name: str) -> tuple[Indices, Array]:
    labels = array.coords[name].values
    codes, unique = pd.factorize(labels)
    if (codes < 0).any():
        raise ValueError(
            f"{name!r} is missing at presentation {int(np.argmin(codes))}; leave such presentations out."
        )
    return codes, np.asarray(unique)


def _isel(array: xr.DataArray, dim: str, where: Indices) -> xr.DataArray:
    if len(where) == 1 or (np.diff(where) == 1).all():
        return array.isel({dim: slice(int(where[0]), int(where[-1]) + 1)})
    return array.isel({dim: where})
