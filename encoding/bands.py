"""Bands of features: which columns of a design belong together, from labels, slices or lists of columns."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .containers import kind_of

Columns = NDArray[np.int64]
#: coordinate that names the band of a feature where nothing else is said
BAND = "band"


def find_bands(bands: Any, X: Any, n_features: int, name: str = "bands") -> dict[Hashable, Columns]:
    """Columns of every band, in order of appearance.

    Parameters
    ----------
    bands
        ``None``: the coordinate ``"band"`` of a labelled ``X``; without labels all features are one band. A text:
        another coordinate. One label a feature. Or a list (or a dictionary with names) of slices, lists of
        columns or masks, which hold every feature once.
    X
        Features, ``(samples, features)``.
    n_features
        How many there are.
    name
        What the caller calls the parameter.

    Raises
    ------
    ValueError, TypeError
        If a coordinate is missing, or bands are empty, overlap, or leave a feature out.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.bands import find_bands
    >>> {name: columns.tolist() for name, columns in find_bands(["a", "b", "a"], np.ones((2, 3)), 3).items()}
    {'a': [0, 2], 'b': [1]}
    >>> find_bands([slice(2), [2]], np.ones((2, 3)), 3)[0].tolist()
    [0, 1]
    """
    if bands is None and kind_of(X) != "xarray":
        return {0: np.arange(n_features)}
    if bands is None or isinstance(bands, str):
        return _by_label(_coordinate(X, BAND if bands is None else bands, name), n_features)
    if isinstance(bands, Mapping):
        return _by_columns(bands, n_features)
    bands = list(bands)
    if bands and all(not isinstance(part, slice) and np.ndim(part) == 0 for part in bands):
        return _by_label(np.asarray(bands), n_features)
    return _by_columns(dict(enumerate(bands)), n_features)


def labels_of(bands: Mapping[Hashable, Columns]) -> NDArray[np.int64]:
    """Number of each feature's band.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.bands import labels_of
    >>> labels_of({"a": np.array([0, 2]), "b": np.array([1])}).tolist()
    [0, 1, 0]
    """
    labels = np.empty(sum(map(len, bands.values())), dtype=np.int64)
    for number, columns in enumerate(bands.values()):
        labels[columns] = number
    return labels


def _coordinate(X: Any, name: str, parameter: str) -> NDArray[Any]:
    """Labels of features, which only a labelled array has."""
    if kind_of(X) != "xarray":
        raise ValueError(
            f"{parameter}={name!r} names a coordinate, but X has no labels here: "
            f"give one label a feature, such as {parameter}=X[{name!r}].values."
        )
    if name not in X.coords or X.coords[name].dims != X.dims[1:2]:
        known = sorted(str(key) for key, coord in X.coords.items() if coord.dims == X.dims[1:2])
        raise ValueError(
            f"X has no coordinate {name!r} along its features to make bands of; there are {known}: name one of "
            f"them as {parameter}, or give slices."
        )
    return np.asarray(X.coords[name].values)


def _by_label(labels: NDArray[Any], n_features: int) -> dict[Hashable, Columns]:
    if labels.shape != (n_features,):
        raise ValueError(
            f"bands have {len(labels)} labels, but X has {n_features} features; give one label each."
        )
    missing = np.flatnonzero(pd.isna(labels))
    if len(missing):
        raise ValueError(f"the band of feature {missing[0]} is missing; give every feature a band.")
    return {
        name.item() if hasattr(name, "item") else name: np.flatnonzero(labels == name)
        for name in pd.unique(labels)
    }


def _by_columns(bands: Mapping[Hashable, Any], n_features: int) -> dict[Hashable, Columns]:
    found = {name: _columns(part, name, n_features) for name, part in bands.items()}
    count = np.bincount(np.concatenate([*found.values(), np.empty(0, np.int64)]), minlength=n_features)
    for name, columns in found.items():
        if not len(columns):
            raise ValueError(f"band {name!r} is empty; leave it out or give it features.")
    if (count > 1).any():
        raise ValueError(
            f"bands overlap in {int((count > 1).sum())} of {n_features} features (first column "
            f"{int(np.argmax(count > 1))}); give every feature to one band."
        )
    if (count == 0).any():
        raise ValueError(
            f"bands do not cover {int((count == 0).sum())} of {n_features} features (first column "
            f"{int(np.argmax(count == 0))}); add a band for them or leave them out of X."
        )
    return found


def _columns(part: Any, name: Hashable, n_features: int) -> Columns:
    if isinstance(part, slice):
        if max(part.start or 0, part.stop or 0) > n_features:
            raise ValueError(f"band {name!r} is {part}, but X has {n_features} features.")
        return np.arange(n_features)[part]
    columns = np.asarray(part)
    if columns.dtype == bool and columns.shape == (n_features,):
        return np.flatnonzero(columns)
    if columns.ndim != 1 or (columns.dtype.kind not in "iu" and columns.size):
        raise TypeError(
            f"band {name!r} is no slice, list of columns or mask of {n_features} features; give one of them."
        )
    columns = columns.astype(np.int64)
    if columns.size and not (-n_features <= columns.min() and columns.max() < n_features):
        raise ValueError(
            f"band {name!r} names columns from {columns.min()} to {columns.max()}, but X has {n_features}."
        )
    return columns % n_features


def names_of(bands: Mapping[Hashable, Columns]) -> NDArray[Any]:
    """Names of bands as a coordinate: text where they are of several types.

    Examples
    --------
    >>> from cerebridge.encoding.bands import names_of
    >>> names_of({"a": [0], 1: [1]}).tolist()
    ['a', '1']
    """
    names: Sequence[Any] = list(bands)
    return np.asarray(names if len({type(name) for name in names}) == 1 else [str(name) for name in names])
