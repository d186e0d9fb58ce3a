"""Samples × features from memory or disk: rows as they are, or every place of a map for itself."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from ...neuro.store import load
from .rows import read_rows

#: coordinates of neuroids that say where in a map or sequence a feature lies
PLACES = ("token", "frame", "row", "column")
#: computed at a time where samples are gone through in order
READ_BYTES = 32 << 20


@dataclass(frozen=True)
class Samples:
    """Samples × features that are read some rows at a time.

    Attributes
    ----------
    values
        Rows × columns: a tensor, or a labelled array whose values may be on disk.
    places
        Samples a row: 1, or the places of a map or the tokens of a sequence.
    order
        Columns in the order places × features; ``None`` if they lie so.
    template
        Samples × features with the labels that both have, and no values; ``None`` where there are no labels.
    """

    values: Tensor | xr.DataArray
    places: int = 1
    order: NDArray[np.int64] | None = None
    template: xr.DataArray | None = None

    def __len__(self) -> int:
        return int(self.values.shape[0]) * self.places

    @property
    def n_features(self) -> int:
        """Features of a sample."""
        return int(self.values.shape[1]) // self.places

    @property
    def on_disk(self) -> bool:
        """Whether values are read when they are asked for."""
        return isinstance(self.values, xr.DataArray)

    @property
    def nbytes(self) -> int:
        """Bytes of all values as they are kept."""
        itemsize = self.values.dtype.itemsize
        return math.prod(self.values.shape) * itemsize

    @property
    def working_type(self) -> torch.dtype:
        """Double where samples are double, else single."""
        double = self.values.dtype in (torch.float64, np.dtype(np.float64))
        return torch.float64 if double else torch.float32

    def read(self, start: int, stop: int) -> Tensor:
        """The samples of the given rows ``start`` to ``stop``, in the type in which they are kept.

        Raises
        ------
        ValueError
            Naming the first row that holds NaN or infinity.
        """
        if isinstance(self.values, Tensor):
            block = self.values[start:stop]
        else:
            axis = self.values.dims[0]
            block = torch.from_numpy(
                np.ascontiguousarray(self.values.variable.isel({axis: slice(start, stop)}))
            )
        require_finite(block, start)
        if self.order is not None:
            block = block[:, torch.from_numpy(self.order)]
        return block.reshape(-1, self.n_features)

    def all(self) -> Tensor:
        """All samples, which share memory with what was given where nothing had to be converted."""
        return self.read(0, int(self.values.shape[0]))

    def cuts(self, width: int) -> Iterator[tuple[int, int]]:
        """Given rows ``start`` to ``stop``, few enough at a time for results of ``width`` values a sample."""
        each = self.places * 4 * max(width, self.n_features)
        step = max(1, READ_BYTES // each)
        for start in range(0, int(self.values.shape[0]), step):
            yield start, min(start + step, int(self.values.shape[0]))


def open_samples(X: Any, *, layer: str | None = None, positions: bool = False, name: str = "X") -> Samples:
    """Take samples × features from any container.

    Parameters
    ----------
    X
        numpy array or torch tensor, labelled array (in memory or on disk), or the path of a store.
    layer
        Which one, of a labelled array of several.
    positions
        Whether each place of a map (or token of a sequence) is a sample of its own, with the channels as features.
    name
        What the caller calls ``X``, for messages.

    Raises
    ------
    ValueError
        If it is no table of numbers, or holds several layers without saying which.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.decompose.samples import open_samples
    >>> samples = open_samples(np.zeros((4, 3), np.float32))
    >>> len(samples), samples.n_features
    (4, 3)
    """
    if isinstance(X, str | Path):
        X = load(X)
    if isinstance(X, xr.DataArray):
        return _labelled(X, layer, positions, name)
    if positions:
        raise ValueError(
            f"positions=True needs a labelled array that says where its features lie, but {name} is a "
            f"{type(X).__name__}; give one, or rows of places × channels with positions=False."
        )
    tensor = X.detach() if isinstance(X, Tensor) else _tensor(np.asarray(X))
    if tensor.ndim != 2 or not tensor.numel():
        raise ValueError(
            f"{name} has the shape {tuple(tensor.shape)}; give samples × features, at least one of each."
        )
    return Samples(tensor if tensor.is_floating_point() else tensor.to(torch.float64))


def open_units(estimator: BaseEstimator, X: Any, *, reset: bool) -> Samples:
    """Take the samples of an estimator's ``fit`` (``reset``) or ``transform``, and check how wide they are.

    Parameters
    ----------
    estimator
        With the parameters ``layer`` and ``positions``; gets ``n_features_in_`` and ``neuroids_``.
    X
        As of :func:`open_samples`.
    reset
        Whether this is ``fit``.

    Raises
    ------
    ValueError, TypeError
        If it is no table of finite numbers, holds several layers, or is not as wide as in ``fit``.
    """
    if isinstance(X, str | Path | xr.DataArray):
        samples = open_samples(X, layer=estimator.layer, positions=estimator.positions)
        # its labels and width are checked, its values as they are read
        read_rows(estimator, cast(xr.DataArray, samples.template)[:1], reset=reset)
        return samples
    return open_samples(read_rows(estimator, X, reset=reset), positions=estimator.positions)


def open_gradients(estimator: BaseEstimator, gradients: Any, samples: Samples) -> Samples:
    """Take gradients that belong to samples value by value.

    Raises
    ------
    ValueError
        If they are missing, or of other samples or units.
    """
    if gradients is None:
        raise ValueError(
            "activation='gradient' learns from gradients=, which are missing; collect them with LayerLoss, or use "
            "activation='topk'."
        )
    opened = open_samples(gradients, layer=estimator.layer, positions=estimator.positions, name="gradients")
    if (len(opened), opened.n_features) != (len(samples), samples.n_features):
        raise ValueError(
            f"gradients are {len(opened)} samples × {opened.n_features} units, but X is {len(samples)} × "
            f"{samples.n_features}; give one of every value of X, in the same order."
        )
    return opened


def _labelled(array: xr.DataArray, layer: str | None, positions: bool, name: str) -> Samples:
    if array.ndim != 2:
        raise ValueError(f"{name} is {' × '.join(map(str, array.dims))}; give presentation × neuroid.")
    if "layer" in array.coords and array.coords["layer"].dims == ("neuroid",):
        array = _one_layer(array, layer, name)
    elif layer is not None:
        raise ValueError(
            f"layer={layer!r} was asked for, but {name} has no coordinate 'layer'; leave it out."
        )
    places, order = _grid(array, name) if positions else (1, None)
    values: Tensor | xr.DataArray = array
    if getattr(array.variable, "_in_memory", True):
        values = _tensor(array.values)
    return Samples(values, places, order, _template(array, places, order))


def _one_layer(array: xr.DataArray, layer: str | None, name: str) -> xr.DataArray:
    of = array.coords["layer"].values
    known = list(dict.fromkeys(of.tolist()))
    if layer is None and len(known) > 1:
        raise ValueError(
            f"{name} holds the layers {', '.join(map(repr, known[:6]))}{', …' if len(known) > 6 else ''}; say which "
            "one with layer=."
        )
    if layer is not None and layer not in known:
        raise ValueError(f"{name} has no layer {layer!r}; it holds {', '.join(map(repr, known[:6]))}.")
    if len(known) == 1:
        return array
    columns = np.flatnonzero(of == layer)
    together = columns[-1] - columns[0] + 1 == len(columns)
    return array.isel(neuroid=slice(int(columns[0]), int(columns[-1]) + 1) if together else columns)


def _grid(array: xr.DataArray, name: str) -> tuple[int, NDArray[np.int64] | None]:
    """How many places the features lie at, and the columns in the order of places and, in each, channels."""
    known = [place for place in PLACES if place in array.coords and array.coords[place].dims == ("neuroid",)]
    known = [place for place in known if not np.isnan(array.coords[place].values.astype(float)).any()]
    if "channel" not in array.coords or not known:
        raise ValueError(
            f"positions=True, but the neuroids of {name} have no channel and place (such as row and column, or "
            "token); extract a layer of maps or tokens without pooling them away."
        )
    keys = [array.coords[place].values for place in ("channel", *reversed(known))]
    order = np.lexsort(keys)
    n_channels = len(np.unique(keys[0]))
    channels = keys[0][order].reshape(-1, n_channels) if not len(order) % n_channels else None
    if channels is None or (channels != channels[0]).any():
        raise ValueError(
            f"positions=True, but {name} lacks some channels at some places; give a whole layer."
        )
    return len(channels), None if (np.diff(order) == 1).all() else order


def _template(array: xr.DataArray, places: int, order: NDArray[np.int64] | None) -> xr.DataArray:
    """The labels of samples × features, over values that take no memory."""
    axis = str(array.dims[0])
    if places == 1:
        coords = dict(array.coords.items())
    else:
        # a place keeps the labels of its presentation, a channel those that it has at all places
        coords = {
            name: (axis, np.repeat(coord.values, places))
            for name, coord in array.coords.items()
            if coord.dims == (axis,)
        }
        along = {
            name: (coord.values if order is None else coord.values[order]).reshape(places, -1)
            for name, coord in array.coords.items()
            if coord.dims == ("neuroid",)
        }
        layer = str(along["layer"][0, 0]) if "layer" in along else "units"
        for name, at in along.items():
            if name in PLACES and not np.isnan(at.astype(float)).any():
                coords[name] = (axis, np.tile(at[:, 0], array.shape[0]))
            elif name != "neuroid_id" and (at == at[:1]).all():
                coords[name] = ("neuroid", at[0])
        names = [f"{layer}/channel/{channel:06d}" for channel in range(array.shape[1] // places)]
        coords["neuroid_id"] = ("neuroid", names)
    shape = (array.shape[0] * places, array.shape[1] // places)
    values = np.broadcast_to(np.zeros((), array.dtype), shape)
    return xr.DataArray(values, dims=array.dims, coords=coords, attrs=array.attrs)


def _tensor(array: NDArray[Any]) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise TypeError(f"the values are of type {array.dtype}, not real numbers; convert or drop them.")
    if array.dtype not in (np.float16, np.float32, np.float64):
        array = array.astype(np.float64)
    array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
    with warnings.catch_warnings():
        # a read-only memory map is fine here: samples are never written to
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def require_finite(block: Tensor, start: int = 0, name: str = "X") -> None:
    """Raise a ``ValueError`` that names the first row with NaN or infinity."""
    # one sum is much cheaper than a mask of every value; halves overflow in sums of their own kind
    if bool(torch.isfinite(block.sum(dtype=torch.float32 if block.dtype == torch.float16 else None))):
        return
    wrong = ~torch.isfinite(block).all(dim=1)
    if bool(wrong.any()):
        kind = "NaN" if bool(block.isnan().any()) else "infinity"
        row = start + int(wrong.nonzero()[0])
        raise ValueError(f"Input {name} contains {kind} in row {row}; drop such rows or repair them.")
