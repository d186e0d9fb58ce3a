"""Which units share a query: regions or hemispheres, named by labels, masks or a coordinate of the responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ..containers import kind_of

#: the query of units that are in no region
NOWHERE = "none"


@dataclass(frozen=True)
class Queries:
    """Names of queries, and ``(queries, units)`` masks; no masks where every unit has a query of its own."""

    names: NDArray[Any]
    masks: NDArray[np.bool_] | None


def unit_queries(y: Any, n_units: int) -> Queries:
    """A query a unit, named like the unit where it has a name.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.readouts.queries import unit_queries
    >>> unit_queries(np.zeros((5, 3)), 3).names.tolist()
    [0, 1, 2]
    """
    names = labels_of(y, "neuroid_id")
    return Queries(np.arange(n_units) if names is None else names, None)


def region_queries(regions: Any, y: Any, n_units: int) -> Queries:
    """A query a region; units in no region get one together, the last, called ``"none"``.

    Parameters
    ----------
    regions
        Name of a coordinate along the units of ``y``; or one label a unit, where missing and empty ones are in no
        region; or masks ``(regions, units)``, which may overlap, as a labelled array if regions have names.
    y
        Responses, ``(samples, units)``.
    n_units
        Number of units.

    Raises
    ------
    ValueError
        If the responses have no such coordinate, there are other numbers of labels than units, or a region has no
        units.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.readouts.queries import region_queries
    >>> found = region_queries(["V1", "V4", "", "V1"], None, 4)
    >>> found.names.tolist(), found.masks.astype(int).tolist()
    (['V1', 'V4', 'none'], [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]])
    """
    if isinstance(regions, str):
        labels = labels_of(y, regions)
        if labels is None:
            raise ValueError(
                f"the responses have no label {regions!r} along their units, of which to make queries; label them, "
                "give one label a unit or masks, or use mode='unit'."
            )
        regions = labels
    values = np.asarray(regions)
    if values.ndim not in (1, 2) or values.shape[-1] != n_units:
        raise ValueError(
            f"regions have shape {values.shape}, but there are {n_units} units; give one label a unit, or masks as "
            "regions × units."
        )
    names, masks = _from_masks(regions, values) if values.ndim == 2 else _from_labels(values)
    if len(empty := np.flatnonzero(~masks.any(axis=1))):
        raise ValueError(
            f"region {names[empty[0]].item()!r} has no units ({len(empty)} of {len(names)} are empty); leave it out."
        )
    if not (inside := masks.any(axis=0)).all():
        names, masks = np.append(names.astype(object), NOWHERE), np.vstack([masks, ~inside])
    return Queries(np.asarray([str(name) for name in names]), masks)


def labels_of(y: Any, name: str) -> NDArray[Any] | None:
    """A coordinate along the units of labelled responses, or nothing."""
    if kind_of(y) != "xarray" or y.ndim != 2 or name not in y.coords or y.coords[name].dims != y.dims[1:]:
        return None
    return np.asarray(y.coords[name].values)


def _from_labels(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    known = ~pd.isna(labels) & (labels.astype(str) != "")
    names = pd.unique(labels[known])
    return np.asarray(names), np.asarray(names)[:, None] == labels[None, :]


def _from_masks(given: Any, masks: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    if masks.dtype != bool and not np.isin(masks, (0, 1)).all():
        raise ValueError("masks of regions must be true or false for every unit; give booleans.")
    named = isinstance(given, xr.DataArray) and given.dims[0] in given.coords
    names = given.coords[given.dims[0]].values if named else np.arange(len(masks))
    return np.asarray(names), masks.astype(bool)
