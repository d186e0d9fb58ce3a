"""Feature maps and tokens as encoders read them: from plain arrays by shape, from labelled arrays by label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ..neuro.assembly import quoted
from .containers import kind_of, to_tensor

Indices = NDArray[np.int64]

#: coordinates that say where a feature lies, in the order of a map's axes
PLACES = ("channel", "row", "column")
TOKENS = ("token", "channel")


@dataclass(frozen=True)
class Layout:
    """Where in a row of features the values of a map lie.

    Parameters
    ----------
    shape
        ``(channels, rows, columns)`` of maps, ``(tokens, features)`` of tokens.
    order
        Positions of these values in a row, in C order; ``None`` if the row begins with them in this order.
    semantics
        Positions of the values that describe the whole image, if there are any.
    """

    shape: tuple[int, ...]
    order: Indices | None = None
    semantics: Indices | None = None

    def maps(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of features as maps ``(samples, channels, rows, columns)`` or tokens ``(samples, tokens, features)``."""
        rows = rows[:, : int(np.prod(self.shape))] if self.order is None else rows[:, self.order]
        return rows.reshape(len(rows), *self.shape)

    def tokens(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of features as tokens ``(samples, tokens, features)``: a map has one a place."""
        maps = self.maps(rows)
        return maps if maps.ndim == 3 else maps.flatten(2).transpose(1, 2)

    def __str__(self) -> str:
        names = ("channels", "rows", "columns") if len(self.shape) == 3 else ("tokens", "features")
        return " × ".join(f"{size} {name}" for size, name in zip(self.shape, names, strict=True))


def maps_of(X: Any) -> torch.Tensor:
    """Feature maps ``(samples, channels, rows, columns)`` or tokens ``(samples, tokens, features)``.

    Parameters
    ----------
    X
        An array of one of these shapes, or presentation × neuroid with the labels ``channel``, ``row`` and
        ``column`` (or ``token`` and ``channel``) along the neuroids in any order, as :func:`cerebridge.models.extract`
        gives it.

    Raises
    ------
    ValueError
        If ``X`` is flattened without these labels, incomplete, or holds several layers.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> from cerebridge.encoding.maps import maps_of
    >>> images = models.StimulusSet.from_arrays(np.zeros((2, 8, 8, 3), np.uint8))
    >>> activations = models.extract(models.load("tiny", weights="random"), images, ["conv1"], pool=4)
    >>> activations.shape, tuple(maps_of(activations).shape)
    ((2, 256), (2, 16, 4, 4))
    """
    rows, layout = read_maps(X)
    return layout.maps(to_tensor(rows))


def read_maps(X: Any, reader: str = "a readout", semantics: str | None = None) -> tuple[Any, Layout]:
    """Features as samples × features, of the kind that they were, and where their maps lie.

    Parameters
    ----------
    X
        As for :func:`maps_of`; plain maps with a description of each image as a pair ``(maps, semantics)``.
    reader
        Who reads, for messages.
    semantics
        Layer whose neuroids describe the image, in a labelled array.

    Raises
    ------
    ValueError
        As :func:`maps_of`.
    """
    if kind_of(X) == "xarray":
        return X, _labelled_layout(X, reader, semantics)
    maps, described = X if isinstance(X, tuple) and len(X) == 2 else (X, None)
    maps = maps if kind_of(maps) == "torch" else np.asarray(maps)
    if maps.ndim not in (3, 4):
        raise ValueError(_flattened(reader, maps.shape))
    layout = Layout(tuple(maps.shape[1:]))
    rows = maps.reshape(len(maps), -1)
    if described is None:
        return rows, layout
    described = to_tensor(described)
    if described.ndim != 2 or len(described) != len(rows):
        raise ValueError(
            f"the semantics have shape {tuple(described.shape)} beside maps of {len(rows)} samples; give samples × "
            "features."
        )
    places = rows.shape[1] + np.arange(described.shape[1])
    if isinstance(rows, torch.Tensor):
        return torch.hstack([rows, described.to(rows)]), Layout(layout.shape, None, places)
    return np.hstack([rows, described.numpy().astype(rows.dtype)]), Layout(layout.shape, None, places)


def _flattened(reader: str, shape: tuple[int, ...]) -> str:
    return (
        f"{reader} takes feature maps, but X is {' × '.join(map(str, shape))} without labels of channel, row and "
        "column; give samples × channels × rows × columns (or samples × tokens × features), or a labelled array "
        "as models.extract gives it."
    )


def _labelled_layout(X: xr.DataArray, reader: str, semantics: str | None) -> Layout:
    if X.ndim != 2:
        raise ValueError(
            f"{reader} takes X as samples × neuroids, got {' × '.join(map(str, X.dims))}; select."
        )
    layers = _labels(X, "layer")
    described = None if semantics is None or layers is None else np.flatnonzero(layers == semantics)
    kept = np.arange(X.shape[1])
    if described is not None and described.size:
        kept = np.setdiff1d(kept, described)
    else:
        described = None
    if layers is not None and len(names := np.unique(layers[kept])) > 1:
        raise ValueError(
            f"{reader} takes the maps of one layer, but X holds {len(names)} (first {quoted(names[0])} and "
            f"{quoted(names[1])}); select one by its label, or let evaluate(..., by='layer') do so."
        )
    axes = []
    for wanted in (PLACES, TOKENS):
        labels = [_labels(X, name) for name in wanted]
        axes = [values[kept] for values in labels if values is not None]
        if len(axes) == len(wanted) and all(_whole(values) for values in axes):
            break
    else:
        raise ValueError(_flattened(reader, X.shape))
    places = [np.unique(values, return_inverse=True) for values in axes]
    shape = tuple(len(values) for values, _ in places)
    position = np.ravel_multi_index(tuple(inverse.reshape(-1) for _, inverse in places), shape)
    order = np.argsort(position, kind="stable")
    if len(kept) != np.prod(shape) or (position[order] != np.arange(len(kept))).any():
        raise ValueError(
            f"X holds {len(kept)} features, no complete grid of {Layout(shape)}; keep every place of every channel."
        )
    order = kept[order].astype(np.int64)
    return Layout(shape, None if (order == np.arange(len(order))).all() else order, described)


def _labels(X: xr.DataArray, name: str) -> NDArray[Any] | None:
    """Labels along the features, if there are such."""
    return X.coords[name].values if name in X.coords and X.coords[name].dims == X.dims[1:] else None


def _whole(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "iuf" and bool(np.isfinite(values).all())
