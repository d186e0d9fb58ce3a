"""The layers whose activations lie side by side, and the labels of their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

#: what the axes of one row mean, by their number
AXES = {
    1: ["channel"],
    2: ["token", "channel"],
    3: ["channel", "row", "column"],
    4: ["channel", "frame", "row", "column"],
}
#: the same for parts of layers that are asked for after a colon, such as ``"attn.proj:heads"``
PARTS = {
    "heads": {2: ["head", "channel"], 3: ["token", "head", "channel"]},
    "steps": {
        2: ["step", "channel"],
        3: ["step", "token", "channel"],
        4: ["step", "channel", "row", "column"],
    },
}


@dataclass(frozen=True)
class Layer:
    """One layer of a shard: rows of this shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Features of one row."""
        return int(np.prod(self.shape, dtype=np.int64))

    @classmethod
    def restored(cls, entry: Mapping[str, Any]) -> Layer:
        """The layer whose ``vars`` went through JSON."""
        return cls(entry["name"], tuple(entry["shape"]), entry["dtype"])


def label_features(
    layers: Sequence[Layer], grids: Mapping[str, tuple[int, int]] = MappingProxyType({})
) -> pd.DataFrame:
    """The neuroid table of layers side by side, each flattened in C order.

    Parameters
    ----------
    layers
        In the order in which their features lie.
    grids
        For layers called ``"…:patches"`` the rows and columns of their tokens, where they are known.

    Returns
    -------
    pandas.DataFrame
        ``neuroid_id`` (``"layer/000000"``, …), ``layer``, and where a feature lies: ``channel``, ``row``,
        ``column`` in feature maps, ``token``, ``channel`` in sequences, ``head`` and ``step`` where a layer is
        called ``"…:heads"`` or ``"…:steps"``. Tokens of a layer with a grid have a ``row`` and a ``column``, too. NaN
        where a layer has no such place.

    Examples
    --------
    >>> from cerebridge.neuro.layers import Layer, label_features
    >>> label_features([Layer("fc", (2,), "<f4")])["neuroid_id"].tolist()
    ['fc/000000', 'fc/000001']
    """
    tables = []
    for layer in layers:
        ids = [f"{layer.name}/{feature:06d}" for feature in range(layer.size)]
        places = np.indices(layer.shape).reshape(len(layer.shape), layer.size)
        labels = dict(zip(_axes(layer), places, strict=True))
        rows, columns = grids.get(layer.name, (0, 0))
        if "token" in labels and layer.shape[0] == rows * columns:
            labels["row"], labels["column"] = np.divmod(labels["token"], columns)
        tables.append(pd.DataFrame({"neuroid_id": ids, "layer": layer.name, **labels}))
    return pd.concat(tables, ignore_index=True)


def _parts(layer: Layer) -> list[str]:
    return [part.partition("(")[0] for part in layer.name.split(":")[1:]]


def _axes(layer: Layer) -> list[str]:
    n = len(layer.shape)
    for part in _parts(layer):
        if n in PARTS.get(part, {}):
            return PARTS[part][n]
    return AXES.get(n, [f"axis_{axis}" for axis in range(n)])
