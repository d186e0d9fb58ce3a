"""Presentations of one stimulus brought together: arrays aligned by stimulus, repeats averaged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .assembly import duplicated


@dataclass(frozen=True)
class AlignReport:
    """What :func:`align` kept, dropped and met more than once, as lists of stimulus ids.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> brain = neuro.simulate(n_stimuli=3, n_units=2, random_state=0)
    >>> neuro.align(brain, brain[:2])[2].dropped_a == [brain.stimulus_id.values[2]]
    True
    """

    on: str
    common: list[Any]
    dropped_a: list[Any] = field(default_factory=list)
    dropped_b: list[Any] = field(default_factory=list)
    duplicated_a: list[Any] = field(default_factory=list)
    duplicated_b: list[Any] = field(default_factory=list)
    missing: list[Any] = field(default_factory=list)

    def __str__(self) -> str:
        """One sentence."""
        return (
            f"{len(self.common)} common {self.on}; dropped {len(self.dropped_a)} of the first and "
            f"{len(self.dropped_b)} of the second; repeated {len(self.duplicated_a)} and {len(self.duplicated_b)}; "
            f"{len(self.missing)} without any value."
        )


def align(
    a: xr.DataArray,
    b: xr.DataArray,
    on: str = "stimulus_id",
    repeats: Literal["average", "keep"] = "average",
) -> tuple[xr.DataArray, xr.DataArray, AlignReport]:
    """Bring two arrays to the same presentations, in the order of the first.

    Parameters
    ----------
    a, b
        Arrays with a ``presentation`` dimension.
    on
        The coordinate that says which presentations belong together.
    repeats
        ``"average"`` (default) leaves one row a stimulus on both sides. ``"keep"`` keeps every row of the side
        that repeats stimuli and repeats the other side's rows to match; if both repeat, rows are paired by
        ``repetition``.

    Returns
    -------
    a, b : xarray.DataArray
        With as many presentations as each other, row by row the same stimulus.
    report : AlignReport
        Which stimuli were dropped, duplicated, or have no value at all (``missing``).

    Raises
    ------
    ValueError
        If nothing overlaps, ``on`` is missing, or repeats of both sides cannot be paired.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> brain = neuro.simulate(n_stimuli=6, n_units=3, n_repeats=2, random_state=0)
    >>> first, second, report = neuro.align(brain, brain.isel(presentation=slice(0, 8)))
    >>> first.sizes["presentation"] == second.sizes["presentation"] == len(report.common)
    True
    """
    if repeats not in ("average", "keep"):
        raise ValueError(f"repeats is {repeats!r}; it must be 'average' or 'keep'.")
    ids_a, ids_b = _ids(a, on, "first"), _ids(b, on, "second")
    unique_a, unique_b = _listed(pd.unique(ids_a)), _listed(pd.unique(ids_b))
    in_b = set(unique_b)
    common = [i for i in unique_a if i in in_b]
    if not common:
        raise ValueError(
            f"the two arrays share no {on} (first: {_some(unique_a)}; second: {_some(unique_b)}); "
            "check that both name the stimuli alike, with the same type."
        )
    in_common = set(common)
    empty = _empty(a, ids_a) | _empty(b, ids_b)
    report = AlignReport(
        on=on,
        common=common,
        dropped_a=[i for i in unique_a if i not in in_common],
        dropped_b=[i for i in unique_b if i not in in_common],
        duplicated_a=duplicated(ids_a),
        duplicated_b=duplicated(ids_b),
        missing=[i for i in common if i in empty],
    )
    a = a.isel(presentation=np.flatnonzero(pd.Series(ids_a).isin(common).to_numpy()))
    b = b.isel(presentation=np.flatnonzero(pd.Series(ids_b).isin(common).to_numpy()))
    if repeats == "average":
        a, b = average_repeats(a, on=on), average_repeats(b, on=on)
    keys_a, keys_b = _pairing_keys(a, b, on)
    position = {key: row for row, key in enumerate(keys_b)}
    if len(position) == len(keys_b):
        rows = [(row, position[key]) for row, key in enumerate(keys_a)]
    else:
        first = {key: row for row, key in enumerate(keys_a)}
        rows = sorted((first[key], row) for row, key in enumerate(keys_b))
    rows_a, rows_b = zip(*rows, strict=True)
    return a.isel(presentation=list(rows_a)), b.isel(presentation=list(rows_b)), report


def average_repeats(array: xr.DataArray, on: str = "stimulus_id") -> xr.DataArray:
    """Average the presentations of each stimulus, leaving missing values out.

    Parameters
    ----------
    array
        ``presentation × neuroid`` or ``presentation × neuroid × time_bin``; repeats may be unbalanced.
    on
        The coordinate whose equal values are repeats.

    Returns
    -------
    xarray.DataArray
        One row a stimulus in order of first appearance, float; ``n_repeats`` counts the averaged rows. Labels
        that are constant within a stimulus stay; a value missing in all repeats stays NaN. Where ``on`` joins
        different stimuli, its labels become ``stimulus_id``.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> brain = neuro.simulate(n_stimuli=6, n_units=3, n_repeats=2, random_state=0)
    >>> neuro.average_repeats(brain).sizes["presentation"]
    6
    """
    codes, unique = pd.factorize(_ids(array, on, "given"))
    counts = np.bincount(codes, minlength=len(unique))
    first = np.unique(codes, return_index=True)[1]
    out = array.isel(presentation=first)
    for name, coord in array.coords.items():
        if "presentation" in coord.dims and name != "n_repeats":
            labels = pd.factorize(coord.values.ravel())[0].reshape(coord.shape)
            labels = np.moveaxis(labels, coord.dims.index("presentation"), 0)
            if (labels != labels[first][codes]).any():
                out = out.drop_vars([name])
    if "stimulus_id" not in out.coords:
        out = out.assign_coords(stimulus_id=("presentation", out.coords[on].values))
    out = out.assign_coords(n_repeats=("presentation", _repeats(array, codes, counts)))
    if (counts == 1).all():  # nothing to average, so that a file stays unread
        return out if array.dtype.kind == "f" else out.astype(np.result_type(array.dtype, np.float32))
    values = np.asarray(array.values, dtype=np.result_type(array.dtype, np.float32))
    present = ~np.isnan(values)
    total = np.zeros((len(unique), *values.shape[1:]), dtype=np.float64)
    n = np.zeros(total.shape, dtype=np.int64)
    np.add.at(total, codes, np.where(present, values, 0))
    np.add.at(n, codes, present)
    mean = np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0).astype(values.dtype)
    return out.copy(data=mean)


def _ids(array: xr.DataArray, on: str, which: str) -> NDArray[Any]:
    if not isinstance(array, xr.DataArray):
        raise TypeError(
            f"the {which} array is no xarray.DataArray but a {type(array).__name__}; build one with neuro.assemble."
        )
    if "presentation" not in array.dims:
        raise ValueError(
            f"the {which} array has no presentations (it is {' × '.join(map(str, array.dims))})."
        )
    if on not in array.coords or array.coords[on].dims != ("presentation",):
        raise ValueError(f"the {which} array has no coordinate {on!r} along 'presentation'.")
    ids = cast(NDArray[Any], array.coords[on].values)
    absent = np.flatnonzero(pd.isna(ids))
    if absent.size:
        raise ValueError(
            f"{on!r} is missing at presentation {absent[0]} of the {which} array; leave such presentations out."
        )
    return ids


def _listed(ids: NDArray[Any]) -> list[Any]:
    """Plain Python values; dates stay dates."""
    return cast(list[Any], pd.Series(ids).tolist())


def _some(ids: list[Any], most: int = 3) -> str:
    return ", ".join(repr(i) for i in ids[:most]) + (", …" if len(ids) > most else "")


def _empty(array: xr.DataArray, ids: NDArray[Any]) -> set[Any]:
    """The stimuli that have no value in any repeat and unit."""
    if array.dtype.kind != "f":
        return set()
    values = array.values.reshape(array.sizes["presentation"], -1)
    missing = pd.Series(np.isnan(values).all(axis=1)).groupby(ids).all()
    return set(missing.index[missing].tolist())


def _pairing_keys(a: xr.DataArray, b: xr.DataArray, on: str) -> tuple[list[Any], list[Any]]:
    """Keys by which rows are paired: the stimulus, and the repetition where both sides repeat."""
    ids_a, ids_b = _listed(a.coords[on].values), _listed(b.coords[on].values)
    if len(set(ids_a)) == len(ids_a) or len(set(ids_b)) == len(ids_b):
        return ids_a, ids_b
    if "repetition" not in a.coords or "repetition" not in b.coords:
        raise ValueError(
            f"both arrays repeat {on}, and without a 'repetition' coordinate on both their rows cannot be paired; "
            "use repeats='average' or add the coordinate."
        )
    keys_a = list(zip(ids_a, a.coords["repetition"].values.tolist(), strict=True))
    keys_b = list(zip(ids_b, b.coords["repetition"].values.tolist(), strict=True))
    if len(set(keys_a)) < len(keys_a) or len(set(keys_b)) < len(keys_b) or set(keys_a) != set(keys_b):
        raise ValueError(
            f"the repetitions of the two arrays do not match one to one by {on} and 'repetition'; "
            "use repeats='average'."
        )
    return keys_a, keys_b


def _repeats(array: xr.DataArray, codes: NDArray[Any], counts: NDArray[Any]) -> NDArray[Any]:
    if "n_repeats" not in array.coords:
        return counts
    return np.bincount(codes, weights=array.coords["n_repeats"].values).astype(np.int64)
