"""The labels of activations: which stimulus, which unit of which layer."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: what the axes of one stimulus' output mean, by their number
AXES = {
    0: (),
    1: ("channel",),
    2: ("token", "channel"),
    3: ("channel", "row", "column"),
    4: ("channel", "frame", "row", "column"),
}


def label_units(layer: str, shape: tuple[int, ...]) -> pd.DataFrame:
    """Build the neuroid table of one layer, in the order of its flattened output.

    Parameters
    ----------
    layer
        Its name.
    shape
        Of the output for one stimulus.

    Returns
    -------
    pandas.DataFrame
        ``neuroid_id`` (``"layer/000000"``, …), ``layer``, and where the unit lies: ``channel``, and ``row`` and
        ``column`` of feature maps, or ``token`` of sequences.

    Examples
    --------
    >>> from cerebridge.models.labels import label_units
    >>> list(label_units("conv1", (16, 4, 4)))
    ['neuroid_id', 'layer', 'channel', 'row', 'column']
    """
    axes = AXES.get(len(shape), tuple(f"axis_{number}" for number in range(len(shape))))
    size = int(np.prod(shape))
    table = pd.DataFrame({"neuroid_id": [f"{layer}/{unit:06d}" for unit in range(size)], "layer": layer})
    for axis, places in zip(axes, np.unravel_index(np.arange(size), shape or (1,)), strict=False):
        table[axis] = places
    return table


def join_units(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Put the neuroid tables of several layers below each other; a place that a layer lacks is NaN.

    Examples
    --------
    >>> from cerebridge.models.labels import join_units, label_units
    >>> join_units([label_units("conv", (1, 1, 2)), label_units("readout", (1,))])["column"].tolist()
    [0.0, 1.0, nan]
    """
    return pd.concat(tables, ignore_index=True)
