"""The labelled array that recordings and activations share: built, checked, joined."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

Table: TypeAlias = pd.DataFrame | Mapping[str, Any]

EPOCHED = ("presentation", "neuroid")
TIMED = ("presentation", "neuroid", "time_bin")
CONTINUOUS = ("time_bin", "neuroid")
DISSIMILARITIES = ("rdm", "pair")
FORMS = (EPOCHED, TIMED, CONTINUOUS, DISSIMILARITIES)

#: the coordinates without which a dimension has no meaning
REQUIRED = {
    "presentation": ("stimulus_id",),
    "neuroid": ("neuroid_id",),
    "time_bin": ("time_bin_start", "time_bin_end"),
    "rdm": ("neuroid_id",),
    "pair": ("stimulus_a", "stimulus_b"),
}


def assemble(
    values: Any,
    *,
    presentation: Table | None = None,
    neuroid: Table | None = None,
    time_bin: Table | None = None,
    rdm: Table | None = None,
    pair: Table | None = None,
    modality: str,
    units: str,
    sfreq: float | None = None,
    provenance: str = "",
    name: str | None = None,
) -> xr.DataArray:
    """Build a labelled array from plain values and one table for each dimension.

    Parameters
    ----------
    values
        numpy array, torch tensor or nested list. Its axes are the dimensions whose tables are given, in the
        order presentation, neuroid, time_bin; a recording without presentations is ``time_bin × neuroid``;
        dissimilarities are ``rdm × pair``.
    presentation, neuroid, time_bin, rdm, pair
        ``DataFrame`` or mapping of column name to one value a row. Required columns: ``stimulus_id``;
        ``neuroid_id`` (unique; for ``rdm`` too); ``time_bin_start`` and ``time_bin_end`` in seconds;
        ``stimulus_a`` and ``stimulus_b``.
    modality
        What was measured: ``"fmri"``, ``"eeg"``, ``"meg"``, ``"spikes"``, ``"activation"``, …
    units
        SI units inside: ``"V"``, ``"T"``, ``"spikes/s"``, ``"a.u."``, …
    sfreq
        Sampling rate in Hz of a continuous recording.
    provenance
        Where the values came from, in words.

    Returns
    -------
    xarray.DataArray
        Checked by :func:`validate`.

    Raises
    ------
    ValueError
        If tables and values do not fit, or a label is missing or duplicated.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> spikes = neuro.assemble(
    ...     np.ones((3, 2)),
    ...     presentation={"stimulus_id": ["a", "b", "c"]},
    ...     neuroid={"neuroid_id": [0, 1], "region": "V4"},
    ...     modality="spikes",
    ...     units="spikes/s",
    ... )
    >>> spikes.dims
    ('presentation', 'neuroid')
    """
    tables = {
        "presentation": presentation,
        "neuroid": neuroid,
        "time_bin": time_bin,
        "rdm": rdm,
        "pair": pair,
    }
    given = {dim for dim, table in tables.items() if table is not None}
    dims = next((form for form in FORMS if set(form) == given), None)
    if dims is None:
        raise ValueError(
            f"assemble was given tables for {sorted(given)}; give one table for each dimension of "
            f"{' or '.join(' × '.join(form) for form in FORMS)}."
        )
    data = _as_numpy(values)
    if data.ndim != len(dims):
        raise ValueError(f"values have {data.ndim} axes, but the tables describe {' × '.join(dims)}.")
    coords: dict[Hashable, tuple[str, NDArray[Any]]] = {}
    for dim, size in zip(dims, data.shape, strict=True):
        for column, labels in _columns(cast(Table, tables[dim]), dim, size).items():
            if column in coords:
                raise ValueError(
                    f"the column {column!r} is in the tables of both {coords[column][0]!r} and {dim!r}; rename one."
                )
            coords[column] = (dim, labels)
    attrs: dict[str, Any] = {"modality": modality, "units": units, "provenance": provenance}
    if sfreq is not None:
        attrs["sfreq"] = float(sfreq)
    return validate(xr.DataArray(data, dims=dims, coords=coords, attrs=attrs, name=name))


def validate(array: xr.DataArray) -> xr.DataArray:
    """Return ``array`` unchanged if it is a labelled array of this package; else say what is wrong first.

    Raises
    ------
    TypeError
        If it is no ``xarray.DataArray``.
    ValueError
        Naming the first wrong dimension, coordinate or attribute, where it is, and what to do.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> neuro.validate(neuro.simulate(n_stimuli=4, n_units=3, random_state=0)).dims
    ('presentation', 'neuroid')
    """
    if not isinstance(array, xr.DataArray):
        raise TypeError(
            f"expected an xarray.DataArray, got {type(array).__name__}; build one with neuro.assemble."
        )
    if array.dims not in FORMS:
        raise ValueError(
            f"the dimensions are {' × '.join(map(str, array.dims))}; transpose or rename them to "
            f"{' or '.join(' × '.join(form) for form in FORMS)}."
        )
    if array.dtype.kind not in "fiub":
        raise ValueError(f"the values are of type {array.dtype}; only real numbers can be analysed.")
    for dim in cast(tuple[str, ...], array.dims):
        if array.sizes[dim] == 0:
            raise ValueError(f"the dimension {dim!r} is empty; check the selection that led to this array.")
        for column in REQUIRED[dim]:
            _check_labels(array, column, dim)
    if "time_bin" in array.dims:
        _check_times(array)
    for dim in ("neuroid", "rdm"):
        if dim in array.dims:
            _check_unique(array, dim)
    for attr in ("modality", "units"):
        if not array.attrs.get(attr):
            raise ValueError(f"attrs[{attr!r}] is missing; set it, e.g. array.attrs[{attr!r}] = 'spikes'.")
    return array


def concat(
    arrays: Sequence[xr.DataArray], dim: Literal["presentation", "neuroid", "time_bin", "rdm"]
) -> xr.DataArray:
    """Join arrays of several subjects, sessions or runs along one dimension; nothing is lost.

    Parameters
    ----------
    arrays
        Arrays of one form. The other dimensions must carry the same required labels; rows are reordered to the
        first array's order where only the order differs.
    dim
        ``"presentation"`` or ``"time_bin"`` for sessions and runs, ``"neuroid"`` or ``"rdm"`` for subjects.

    Returns
    -------
    xarray.DataArray
        A coordinate along ``dim`` that some arrays lack is missing (NaN, or ``""`` for text) on their rows; one
        without a dimension that differs becomes one along ``dim``. Attributes that differ are joined by ``"; "``.

    Raises
    ------
    ValueError
        If forms, labels of the other dimensions or, except of RDMs, modalities, units or sampling rates differ, or ids
        along ``dim`` collide.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> brain = neuro.simulate(n_stimuli=6, n_units=3, random_state=0)
    >>> neuro.concat([brain.isel(neuroid=[0]), brain.isel(neuroid=[1, 2])], "neuroid").sizes["neuroid"]
    3
    """
    if not arrays:
        raise ValueError("concat was given no arrays.")
    first = validate(arrays[0])
    parts = []
    for number, array in enumerate(arrays):
        if validate(array).dims != first.dims or dim not in array.dims:
            raise ValueError(
                f"array {number} is {' × '.join(map(str, array.dims))}; all must be like the first, with {dim}."
            )
        # RDMs of any two things may stand beside each other to be compared
        for attr in ("modality", "units", "sfreq") if dim != "rdm" else ():
            if array.attrs.get(attr) != first.attrs.get(attr):
                raise ValueError(
                    f"array {number} has {attr} {array.attrs.get(attr)!r}, the first {first.attrs.get(attr)!r}; "
                    "convert before joining."
                )
        parts.append(_reordered(array, first, dim, number))
    names = dict.fromkeys(name for part in parts for name in part.coords)
    joined = {name: _joined_labels(parts, name, dim) for name in names}
    axis = first.dims.index(dim)
    values = np.concatenate([part.values for part in parts], axis=axis)
    attrs = {
        key: _joined_attr([part.attrs[key] for part in parts if key in part.attrs])
        for key in dict.fromkeys(key for part in parts for key in part.attrs)
    }
    return validate(xr.DataArray(values, dims=first.dims, coords=joined, attrs=attrs, name=first.name))


def _as_numpy(values: Any) -> NDArray[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.result_type(values.dtype, np.float32)), np.nan)
    return np.asarray(values)


def _columns(table: Table, dim: str, size: int) -> dict[str, NDArray[Any]]:
    columns = {}
    for column, labels in table.items():
        if np.ndim(labels) == 0:
            labels = [labels] * size
        array = _as_numpy(labels)
        if array.ndim != 1:
            raise ValueError(
                f"the column {column!r} of the {dim} table has the shape {array.shape}; give one value a row."
            )
        if len(array) != size:
            raise ValueError(
                f"the column {column!r} of the {dim} table has {len(array)} rows, but the values have {size} "
                f"along {dim!r}."
            )
        columns[str(column)] = _tidied(array, labels)
    return columns


def _tidied(array: NDArray[Any], labels: Any) -> NDArray[Any]:
    """Text where all labels are text, so that files and comparisons see one type; else the labels as given."""
    if array.dtype.kind == "U" and not isinstance(labels, np.ndarray):
        # beside text numpy makes text of numbers too, and of NaN
        array = np.asarray(labels, dtype=object)
    if array.dtype == object and all(isinstance(label, str) for label in array):
        return array.astype(str)
    return array


def _check_labels(array: xr.DataArray, column: str, dim: str) -> None:
    if column not in array.coords:
        if dim != "time_bin":
            hint = f"give it with the {dim} table of neuro.assemble"
        else:
            hint = "give the start and end of every bin in seconds"
        raise ValueError(f"the coordinate {column!r} along {dim!r} is missing; {hint}.")
    coord = array.coords[column]
    if coord.dims != (dim,):
        raise ValueError(
            f"the coordinate {column!r} lies along {coord.dims}; it must lie along {dim!r} alone."
        )
    absent = pd.isna(coord.values)
    if absent.any():
        raise ValueError(
            f"{column!r} is missing at {dim} {int(np.flatnonzero(absent)[0])}; every {dim} needs one."
        )


def _check_unique(array: xr.DataArray, dim: str) -> None:
    ids = array.coords["neuroid_id"].values
    twice = duplicated(ids)
    if twice:
        raise ValueError(
            f"neuroid_id {twice[0]!r} occurs {int((ids == twice[0]).sum())} times along {dim!r}; ids must be unique, "
            "e.g. prefixed by subject or session."
        )


def _check_times(array: xr.DataArray) -> None:
    start, end = array.coords["time_bin_start"].values, array.coords["time_bin_end"].values
    if start.dtype.kind not in "fiu" or end.dtype.kind not in "fiu":
        raise ValueError(
            f"time_bin_start and time_bin_end are of types {start.dtype} and {end.dtype}; give numbers, in seconds."
        )
    wrong = np.flatnonzero(~(start < end))
    if wrong.size:
        k = int(wrong[0])
        raise ValueError(
            f"time_bin {k} starts at {start[k]} s and ends at {end[k]} s; a bin must end after it starts."
        )


def quoted(label: Any) -> str:
    """A label as it was given, not as numpy holds it."""
    return repr(label.item() if isinstance(label, np.generic) else label)


def duplicated(ids: NDArray[Any]) -> list[Any]:
    """The values that occur more than once, in the order in which they first recur."""
    series = pd.Series(ids)
    return cast(list[Any], series[series.duplicated()].unique().tolist())


def _reordered(array: xr.DataArray, first: xr.DataArray, dim: str, number: int) -> xr.DataArray:
    """``array`` in the order of ``first`` along every dimension but ``dim``."""
    for other in cast(tuple[str, ...], first.dims):
        if other == dim or other == "time_bin":
            continue
        columns = REQUIRED[other]
        if other == "presentation" and "repetition" in array.coords and "repetition" in first.coords:
            columns = (*columns, "repetition")
        want = list(zip(*(first.coords[c].values.tolist() for c in columns), strict=True))
        have = list(zip(*(array.coords[c].values.tolist() for c in columns), strict=True))
        if want == have:
            continue
        if sorted(map(repr, want)) != sorted(map(repr, have)) or len(set(have)) < len(have):
            raise ValueError(
                f"array {number} has other {' and '.join(columns)} along {other!r} than the first; "
                "use neuro.align or select first."
            )
        position = {key: row for row, key in enumerate(have)}
        array = array.isel({other: [position[key] for key in want]})
    return array


def _joined_labels(parts: list[xr.DataArray], name: Hashable, dim: str) -> tuple[Any, NDArray[Any]]:
    """A coordinate of the joined array: its dimensions and labels."""
    owners = [part.coords[name] for part in parts if name in part.coords]
    dims = owners[0].dims
    same = all(_same(owner, owners[0]) for owner in owners)
    if dims == (dim,) or (dims == () and not same):
        return dim, np.concatenate([_labels_or_missing(part, name, owners[0], dim) for part in parts])
    if dim in dims and len(owners) == len(parts) and all(owner.dims == dims for owner in owners):
        return dims, np.concatenate([owner.values for owner in owners], axis=dims.index(dim))
    if dim in dims or not same:
        raise ValueError(
            f"the arrays disagree on {name!r} along {' × '.join(map(str, dims))}; select what they share, "
            "or drop or rename the coordinate, before joining."
        )
    return dims, owners[0].values


def _labels_or_missing(part: xr.DataArray, name: Hashable, owner: xr.DataArray, dim: str) -> NDArray[Any]:
    if name in part.coords:
        return np.broadcast_to(part.coords[name].values, part.sizes[dim])
    fills = {"U": "", "O": "", "M": np.datetime64("NaT"), "m": np.timedelta64("NaT")}
    return np.full(part.sizes[dim], fills.get(owner.dtype.kind, np.nan))


def _same(a: xr.DataArray, b: xr.DataArray) -> bool:
    if a.dims != b.dims or a.shape != b.shape:
        return False
    return bool(((a.values == b.values) | (pd.isna(a.values) & pd.isna(b.values))).all())


def _joined_attr(values: list[Any]) -> Any:
    unique: list[Any] = []
    for value in values:
        if not any(np.array_equal(value, known) for known in unique):
            unique.append(value)
    return unique[0] if len(unique) == 1 else "; ".join(map(str, unique))
