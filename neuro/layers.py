"""The layers whose activations lie side by side, and the labels of their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


def label_features(layers: Sequence[Layer]) -> pd.DataFrame:
    """The neuroid table of layers side by side, each flattened in C order.

    Returns
    -------
    pandas.DataFrame
        ``neuroid_id`` (``"layer/000000"``, …), ``layer``, and where a feature lies: ``channel``, ``row``,
        ``column`` in feature maps, ``token``, ``channel`` in sequences; NaN where a layer has no such place.

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
        names = AXES.get(len(layer.shape), [f"axis_{axis}" for axis in range(len(layer.shape))])
        table = {"neuroid_id": ids, "layer": layer.name, **dict(zip(names, places, strict=True))}
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)
