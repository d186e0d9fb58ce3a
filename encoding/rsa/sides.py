"""The two sides of a comparison of representations: patterns of the same stimuli, in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...models.devices import resolve_device
from ...neuro.alignment import average_repeats
from ...neuro.assembly import quoted
from ..containers import kind_of, ndim_of, to_tensor
from .comparison import precision
from .grams import Gram, is_gram
from .patterns import split_labels

Array = NDArray[Any]


@dataclass(frozen=True)
class Side:
    """Representations of one side: values ``(stimuli, units)``, names, labels, and whether it is a single one.

    ``rows`` labels the stimuli (their first dimension), ``units`` names the units for messages; ``turned`` names the
    first representation whose inner products alone are known, so that its values have units of no meaning.
    """

    values: list[torch.Tensor]
    names: list[Any]
    labels: dict[str, Array]
    single: bool
    rows: xr.DataArray
    units: list[Array]
    turned: Any = None

    @property
    def continuous(self) -> bool:
        """Whether rows are moments, which must not be shuffled."""
        return self.rows.dims[0] == "time_bin"


def read_sides(
    a: Any, b: Any, by: str | Sequence[str] | None, device: str | torch.device
) -> tuple[Side, Side]:
    """Both sides, rows matched by stimulus; without ``b`` the same twice."""
    names = [] if by is None else [by] if isinstance(by, str) else list(by)
    given = [_listed(side, which) for side, which in ((a, "a"), (b, "b")) if side is not None]
    arrays = [array for entries, _ in given for _, array in entries]
    labelled = {isinstance(array, xr.DataArray) for array in arrays}
    if len(labelled) > 1:
        raise TypeError(
            "some representations are labelled and others are not, so their stimuli cannot be matched; label all or "
            "pass the values of all."
        )
    known = {str(name) for array in arrays for name in getattr(array, "coords", ())}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"by={unknown[0]!r} is no coordinate of the representations; leave it out.")
    reference: xr.DataArray | None = None
    sides = []
    for entries, single in given:
        side, reference = _read(entries, single, names, reference, device)
        sides.append(side)
    return sides[0], sides[-1]


def _listed(side: Any, which: str) -> tuple[list[tuple[Any, Any]], bool]:
    """Named arrays of a side, and whether it was one array."""
    if isinstance(side, Mapping):
        entries = list(side.items())
    elif isinstance(side, list | tuple) and side and ndim_of(side[0]) > 1:
        entries = [(getattr(array, "name", None) or k, array) for k, array in enumerate(side)]
    else:
        return [(which, side)], True
    if not entries:
        raise ValueError(f"{which} holds no representation; give at least one array of stimuli × units.")
    return entries, False


def _read(
    entries: list[tuple[Any, Any]],
    single: bool,
    by: list[str],
    reference: xr.DataArray | None,
    device: str | torch.device,
) -> tuple[Side, xr.DataArray]:
    values: list[torch.Tensor] = []
    names: list[Any] = []
    units: list[Array] = []
    tables: list[dict[str, Any]] = []
    turned = None
    for name, given in entries:
        array = given if isinstance(given, xr.DataArray) else _wrapped(given, name)
        array, reference = _matched(array, name, reference)
        grouped = [coordinate for coordinate in by if coordinate in array.coords]
        for part, table in _groups(array, grouped):
            label = " | ".join(str(table[coordinate]) for coordinate in grouped)
            full = (label if single else f"{name} | {label}") if grouped else name
            values.append(_values(part, full, given, device))
            if is_gram(part) and turned is None:
                turned = full
            names.append(full)
            units.append(part.coords["neuroid_id"].values)
            tables.append(table)
        single = single and not grouped
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    labels = {key: np.array([table[key] for table in tables]) for key in shared}
    assert reference is not None
    return Side(values, names, labels, single, reference, units, turned), reference


def _groups(array: xr.DataArray, by: list[str]) -> list[tuple[xr.DataArray, dict[str, Any]]]:
    """Units of each combination of labels, in order of first appearance, and the labels that all of them share."""
    along = {str(name): c.values for name, c in array.coords.items() if c.dims == ("neuroid",)}
    if missing := [name for name in by if name not in along]:
        raise ValueError(f"by={missing[0]!r} is no coordinate along 'neuroid'; there are {', '.join(along)}.")
    groups, table = split_labels(array, "neuroid", by)
    parts = []
    for k, units in enumerate(groups):
        # neighbours by a slice, so that a file is read where they lie
        whole = units[-1] - units[0] + 1 == len(units)
        place: Any = slice(int(units[0]), int(units[-1]) + 1) if whole else units
        parts.append((array.isel(neuroid=place), {name: labels[k] for name, labels in table.items()}))
    return parts


def _wrapped(given: Any, name: Any) -> xr.DataArray:
    """Plain values as rows of unknown order; a tensor's values are only looked at where it lies."""
    shape = given.shape if kind_of(given) == "torch" else np.shape(given)
    if len(shape) != 2:
        raise ValueError(f"{name!r} has the shape {tuple(shape)}; a representation is stimuli × units.")
    blank = np.broadcast_to(np.float32(0), tuple(shape))
    return xr.DataArray(blank, {"neuroid_id": ("neuroid", np.arange(shape[1]))}, ("row", "neuroid"))


def _matched(
    array: xr.DataArray, name: Any, reference: xr.DataArray | None
) -> tuple[xr.DataArray, xr.DataArray]:
    """``array`` with one row a stimulus, in the order of the first array that was read."""
    if array.ndim != 2 or array.dims[0] not in ("presentation", "time_bin", "row"):
        raise ValueError(
            f"{name!r} is {' × '.join(map(str, array.dims))}; give presentation × neuroid (choose a time bin first) or "
            "time_bin × neuroid."
        )
    if array.dims[0] == "presentation":
        array = average_repeats(array)
    if reference is None:
        return array, array
    if array.dims[0] != reference.dims[0] or array.dims[0] != "presentation":
        if array.dims[0] != reference.dims[0] or len(array) != len(reference):
            raise ValueError(
                f"{name!r} has {len(array)} rows along {array.dims[0]!r} and another representation {len(reference)} "
                f"along {reference.dims[0]!r}; give the same stimuli in the same order."
            )
        sides = (array, reference)
        starts = [side.coords["time_bin_start"].values for side in sides if "time_bin_start" in side.coords]
        if len(starts) == 2 and not np.allclose(*starts):
            raise ValueError(f"{name!r} has other time bins than another representation; resample it first.")
        return array, reference
    ids, wanted = (side.coords["stimulus_id"].values for side in (array, reference))
    if np.array_equal(ids, wanted):
        return array, reference
    place = {stimulus: row for row, stimulus in enumerate(ids.tolist())}
    absent = [stimulus for stimulus in wanted.tolist() if stimulus not in place]
    if absent or len(ids) != len(wanted):
        other = absent[0] if absent else next(iter(set(ids.tolist()) - set(wanted.tolist())))
        raise ValueError(
            f"{name!r} and another representation do not have the same stimuli (only one of them has "
            f"{quoted(other)}); bring them together with neuro.align first."
        )
    return array.isel(presentation=[place[stimulus] for stimulus in wanted.tolist()]), reference


def _values(part: xr.DataArray, name: str, given: Any, device: str | torch.device) -> torch.Tensor:
    """Finite values that vary, in the precision for comparing."""
    if is_gram(part):
        x = to_tensor(Gram.of(part).patterns(), resolve_device(device))
    elif isinstance(given, xr.DataArray):
        x = to_tensor(part, resolve_device(device))
    else:
        x = to_tensor(given, given.device if kind_of(given) == "torch" else resolve_device(device))
    x = x.to(precision(x.device))
    wrong = ~x.isfinite()
    if bool(wrong.any()):
        row, unit = wrong.nonzero()[0].tolist()
        stimuli = part.coords["stimulus_id"].values if "stimulus_id" in part.coords else np.arange(len(x))
        raise ValueError(
            f"{name!r} has {int(wrong.sum())} missing or infinite values, the first at stimulus "
            f"{quoted(stimuli[row])}, unit {quoted(part.coords['neuroid_id'].values[unit])}; leave out such units or "
            "stimuli first."
        )
    if len(x) < 3:
        raise ValueError(f"{name!r} has {len(x)} stimuli; comparing representations needs at least three.")
    if not bool((x != x[0]).any()):
        raise ValueError(f"{name!r} is the same for all stimuli; leave it out.")
    return x
