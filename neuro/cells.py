"""Labels and attributes as netCDF and JSON have them, and back without loss."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: numpy's time units, as netCDF calls them
_TIME_UNITS = {
    "D": "days",
    "h": "hours",
    "m": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
}


def encode(name: Any, values: NDArray[Any]) -> tuple[NDArray[Any], dict[str, Any], dict[str, Any]]:
    """``values`` as netCDF has them, what :func:`decode` must know, and attributes for other readers.

    Raises
    ------
    TypeError
        If netCDF-4 has no place for such values.
    """
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    kind, dtype = values.dtype.kind, values.dtype
    if kind in "iub" or (kind == "f" and dtype.itemsize <= 8):
        # netCDF has neither booleans nor half precision
        stored = {"b": np.dtype(np.int8), "f": max(dtype, np.dtype(np.float32))}.get(kind, dtype)
        native = {"dtype": "bool"} if kind == "b" else {}
        return values.astype(stored, copy=False), {"kind": "number", "dtype": dtype.str}, native
    if kind in "mM" and np.datetime_data(dtype)[0] in _TIME_UNITS and np.datetime_data(dtype)[1] == 1:
        return values.view(np.int64), {"kind": "time", "dtype": str(dtype)}, _time_attrs(values)
    if kind in "UOT":
        return _encode_text(name, values.astype(object), {"fixed": kind == "U"})
    raise TypeError(
        f"{name!r} is of type {dtype}, which netCDF-4 cannot hold; convert it to numbers or text first."
    )


def _time_attrs(times: NDArray[Any]) -> dict[str, Any]:
    unit = _TIME_UNITS[np.datetime_data(times.dtype)[0]]
    native: dict[str, Any] = {"units": unit, "dtype": str(times.dtype)}
    if times.dtype.kind == "M":
        native = {"units": f"{unit} since 1970-01-01", "calendar": "proleptic_gregorian"}
    if unit != "nanoseconds" and np.isnat(times).any():
        # xarray knows NaT in nanoseconds by itself; in other units it would be the year 1970
        native["_FillValue"] = np.int64(np.iinfo(np.int64).min)
    return native


def _encode_text(
    name: Any, cells: NDArray[Any], spec: dict[str, Any]
) -> tuple[NDArray[Any], dict[str, Any], dict[str, Any]]:
    absent = np.asarray(pd.isna(cells))
    present = cells[~absent].tolist()
    # joined, because a look at each of a million labels takes longer than writing them
    if all(isinstance(cell, str) for cell in present) and storable("".join(present)):
        marker = "missing"
        taken = set(present)
        while marker in taken:
            marker += "_"
        spec = {"kind": "text", **spec}
        if not absent.any():
            return cells, spec, {}
        as_none = all(cell is None for cell in cells[absent].tolist())
        filled = np.where(absent, marker, cells)
        return filled, {**spec, "missing": marker, "as_none": as_none}, {"_FillValue": marker}
    try:
        encoded = [json.dumps(plain(cell)) for cell in cells.ravel().tolist()]
    except TypeError as error:
        raise TypeError(f"{name!r} cannot be stored: {error}") from None
    return _objects(encoded, cells.shape), {"kind": "json", **spec}, {}


def decode(values: Any, spec: Mapping[str, Any]) -> NDArray[Any]:
    """The values that :func:`encode` was given."""
    kind = spec["kind"]
    if kind == "number":
        return np.asarray(values).astype(spec["dtype"], copy=False)
    if kind == "time":
        return np.asarray(values).view(spec["dtype"])
    encoded = np.asarray(values, dtype=object)
    cells: list[Any] = [cell.decode() for cell in encoded.ravel().tolist()]
    if kind == "json":
        cells = [restored(json.loads(cell)) for cell in cells]
    elif "missing" in spec:
        absent = None if spec["as_none"] else np.nan
        cells = [absent if cell == spec["missing"] else cell for cell in cells]
    array = _objects(cells, encoded.shape)
    return array.astype(str) if spec["fixed"] else array


def _objects(cells: list[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.empty(len(cells), object)
    array[:] = cells
    return array.reshape(shape)


def plain(value: Any) -> Any:
    """``value`` in JSON's few types, so that :func:`restored` gives an equal one.

    Raises
    ------
    TypeError
        If it holds something that is neither text, number, list, dictionary nor array.
    """
    if value is None or (isinstance(value, bool | str | int | float) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: plain(item) for key, item in value.items()}
        return {"$items": [[plain(key), plain(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"$tuple": [plain(item) for item in value]}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufU":
        return {"$array": value.tolist(), "dtype": value.dtype.str, "scalar": isinstance(value, np.generic)}
    if value is pd.NA or value is pd.NaT:
        return np.nan
    raise TypeError(
        f"{value!r} is of type {type(value).__name__}; use text, numbers, lists, dictionaries or arrays."
    )


def restored(value: Any) -> Any:
    """What :func:`plain` was given."""
    if isinstance(value, list):
        return [restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$items" in value:
        return {restored(key): restored(item) for key, item in value["$items"]}
    if "$tuple" in value:
        return tuple(restored(item) for item in value["$tuple"])
    if "$array" in value:
        array = np.array(value["$array"], dtype=value["dtype"])
        return array[()] if value["scalar"] else array
    return {key: restored(item) for key, item in value.items()}


def storable(text: str) -> bool:
    """Whether HDF5 can hold it: no NUL inside, and valid UTF-8."""
    return "\0" not in text and not re.search("[\ud800-\udfff]", text)
