"""How labels and values lie in a netCDF-4 file: plain variables for every reader, a manifest and checksums for ours.

Numbers are stored as they are, in chunks with a fletcher32 checksum each. Text, booleans and times are stored the
way xarray, MATLAB and R decode them. A manifest in JSON keeps what netCDF has no word for (types, nested
attributes), and one checksum covers everything that has no fletcher32 of its own.
"""

from __future__ import annotations

import json
import os
import re
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

FORMAT = 1
MANIFEST, CHECKSUM = "cerebridge", "cerebridge_crc32"
#: the oldest version of the file format whose metadata carries checksums (HDF5 1.10, of 2016)
LIBVER = ("v110", "v110")
CHUNK_BYTES = 1 << 20
SLAB_BYTES = 64 << 20

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
#: attributes that readers of netCDF give a meaning of their own; they live in the manifest alone
_RESERVED = re.compile(
    r"_.*|missing_value|scale_factor|add_offset|dtype|calendar|coordinates|CLASS|NAME|DIMENSION_LIST|REFERENCE_LIST"
)


def write(path: Path, dataset: xr.Dataset, meta: Mapping[str, Any], lazy: str | None = None) -> None:
    """Write ``dataset`` into ``path``: aside, synced, then renamed over what was there.

    Parameters
    ----------
    dataset
        Variables of any type that :func:`encode` knows.
    meta
        Further JSON for the manifest.
    lazy
        The variable that is later read by regions; it is copied slab by slab, so that it may come from a file.

    Raises
    ------
    OSError
        If it cannot be written; what was at ``path`` is unchanged.
    """
    with aside(path) as part, h5netcdf.File(part, "w", libver=LIBVER, invalid_netcdf=True) as file:
        file.dimensions = {str(dim): int(size) for dim, size in dataset.sizes.items()}
        names = _file_names(dataset)
        empty = next((dim for dim, size in dataset.sizes.items() if size == 0), None)
        if empty is not None:
            raise ValueError(f"the dimension {empty!r} is empty; there is nothing to save.")
        manifest: dict[str, Any] = {"format": FORMAT, **meta, "attrs": plain(dataset.attrs), "variables": []}
        for name, variable in dataset.variables.items():
            spec, native = _create(file, names[name], name, variable, stream=name == lazy)
            manifest["variables"].append({**spec, "coordinate": name in dataset.coords, "lazy": name == lazy})
            coords = [names[c] for c in dataset.coords if c not in dataset.dims]
            if name in dataset.data_vars and coords:
                native["coordinates"] = " ".join(coords)
            _set_attrs(file.variables[names[name]].attrs, variable.attrs, native)
        _set_attrs(file.attrs, dataset.attrs, {MANIFEST: json.dumps(manifest)})
        file.attrs[CHECKSUM] = np.int64(_checksum(file._h5file, manifest))


def read(path: Path) -> tuple[xr.Dataset, dict[str, Any]]:
    """Everything in ``path`` but the lazy variable, whose entry is ``manifest["lazy"]``, and the manifest.

    Raises
    ------
    OSError
        If the file is truncated, altered, or not one of ours.
    """
    with reading(path) as file:
        if MANIFEST not in file.attrs:
            raise OSError(
                f"{path} was not written by neuro.save; open it with xarray.open_dataarray and build an array "
                "with neuro.assemble."
            )
        manifest = json.loads(file.attrs[MANIFEST])
        if manifest["format"] > FORMAT:
            raise OSError(
                f"{path} was written by a newer version of cerebridge; update cerebridge to read it."
            )
        if _checksum(file, manifest) != file.attrs.get(CHECKSUM):
            raise OSError(_damaged(path, "its labels do not match their checksum"))
        manifest["lazy"] = next((spec for spec in manifest["variables"] if spec["lazy"]), None)
        variables = {}
        for spec in manifest["variables"]:
            if not spec["lazy"]:
                variables[restored(spec["name"])] = (
                    tuple(spec["dims"]),
                    decode(file[spec["file_name"]][()], spec),
                    restored(spec["attrs"]),
                )
        coords = [restored(spec["name"]) for spec in manifest["variables"] if spec["coordinate"]]
    return xr.Dataset(variables, attrs=restored(manifest["attrs"])).set_coords(coords), manifest


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; when all went well it is synced and takes the place of ``path``.

    Raises
    ------
    OSError
        If writing fails, for instance on a full disk; what was at ``path`` is unchanged.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path} cannot be written, because the folder {path.parent} does not exist; create it."
        )
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        _sync(part)
        part.replace(path)
        if os.name == "posix":
            _sync(path.parent)
    except (OSError, RuntimeError) as error:
        kept = "the previous content is unchanged" if path.exists() else "nothing was written"
        raise OSError(f"{path} could not be written, {kept}: {_cause(error)}.") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """The open HDF5 file; whatever HDF5 finds wrong with it becomes one sentence.

    Raises
    ------
    OSError
        Naming the file and what is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if str(path) in str(error):
            raise
        with path.open("rb") as raw:
            known = raw.read(8) == b"\x89HDF\r\n\x1a\n"
        if not known:
            raise OSError(f"{path} is no netCDF-4 file (it does not begin like one).") from error
        raise OSError(_damaged(path, _cause(error))) from error


def encode(name: Any, values: NDArray[Any]) -> tuple[NDArray[Any], dict[str, Any], dict[str, Any]]:
    """``values`` as netCDF has them, what :func:`decode` must know, and attributes for other readers.

    Raises
    ------
    TypeError
        If netCDF-4 has no place for such values.
    """
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    kind, dtype = values.dtype.kind, values.dtype
    if kind in "iu" or (kind == "f" and dtype.itemsize <= 8):
        return values, {"kind": "number"}, {}
    if kind == "b":
        return values.astype(np.int8), {"kind": "bool"}, {"dtype": "bool"}
    if kind in "mM" and np.datetime_data(dtype)[0] in _TIME_UNITS and np.datetime_data(dtype)[1] == 1:
        unit = _TIME_UNITS[np.datetime_data(dtype)[0]]
        if kind == "M":
            native = {"units": f"{unit} since 1970-01-01", "calendar": "proleptic_gregorian"}
        else:
            native = {"units": unit, "dtype": str(dtype)}
        return values.view(np.int64), {"kind": "time", "dtype": str(dtype)}, native
    if kind in "UOT":
        return _encode_text(name, values.astype(object), {"fixed": kind == "U"})
    raise TypeError(
        f"{name!r} is of type {dtype}, which netCDF-4 cannot hold; convert it to numbers or text first."
    )


def _encode_text(
    name: Any, cells: NDArray[Any], spec: dict[str, Any]
) -> tuple[NDArray[Any], dict[str, Any], dict[str, Any]]:
    absent = np.asarray(pd.isna(cells))
    present = cells[~absent].tolist()
    if all(isinstance(cell, str) and _storable(cell) for cell in present):
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
        return np.asarray(values)
    if kind == "bool":
        return np.asarray(values, dtype=bool)
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


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """A chunk of at most a mebibyte, about as fine along every axis, so that rows and columns are read alike."""
    chunk = list(shape)
    while np.prod(chunk, dtype=np.int64) * itemsize > CHUNK_BYTES:
        axis = int(np.argmax(chunk))
        chunk[axis] = -(-chunk[axis] // 2)
    return tuple(chunk)


def _create(
    file: h5netcdf.File, file_name: str, name: Any, variable: xr.Variable, stream: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Store one variable and return its entry in the manifest and attributes for other readers."""
    if stream:
        _, spec, native = encode(name, np.empty(0, variable.dtype))
        dtype = np.dtype(np.int8) if spec["kind"] == "bool" else variable.dtype
        stored = _new_variable(file, file_name, variable.dims, variable.shape, dtype)
        rows = max(1, SLAB_BYTES * variable.shape[0] // max(1, variable.size * dtype.itemsize))
        step = -(-rows // stored.chunks[0]) * stored.chunks[0]
        for start in range(0, variable.shape[0], step):
            block = variable[start : start + step].values
            stored[start : start + step] = encode(name, block)[0]
    else:
        values, spec, native = encode(name, np.asarray(variable.values))
        stored = _new_variable(file, file_name, variable.dims, values.shape, values.dtype)
        stored[...] = values
    try:
        entry = {"name": plain(name), "attrs": plain(variable.attrs)}
    except TypeError as error:
        raise TypeError(f"an attribute of {name!r} cannot be stored: {error}") from None
    return {**entry, "file_name": file_name, "dims": list(variable.dims), **spec}, native


def _new_variable(
    file: h5netcdf.File, name: str, dims: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> h5netcdf.Variable:
    if dtype.kind == "O":
        return file.create_variable(name, dims, h5py.string_dtype())
    if not shape:
        return file.create_variable(name, dims, dtype)
    return file.create_variable(name, dims, dtype, chunks=chunk_shape(shape, dtype.itemsize), fletcher32=True)


def _set_attrs(target: Any, attrs: Mapping[Any, Any], native: Mapping[str, Any]) -> None:
    """Attributes for other readers: as they are where netCDF can, else as JSON."""
    for key, value in attrs.items():
        if not isinstance(key, str) or _RESERVED.fullmatch(key) or key in native:
            continue
        simple = isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""
        text = value if simple else json.dumps(plain(value))
        target[key] = text if not isinstance(text, str) or _storable(text) else json.dumps(text)
    for key, value in native.items():
        target[key] = value


def _storable(text: str) -> bool:
    """Whether HDF5 can hold it: no NUL inside, and valid UTF-8."""
    return "\0" not in text and not re.search("[\ud800-\udfff]", text)


def _file_names(dataset: xr.Dataset) -> dict[Any, str]:
    """A name that netCDF allows for every variable, unique, and a dimension's own for its coordinate."""
    names: dict[Any, str] = {}
    taken = {str(dim) for dim in dataset.dims}
    for name, variable in dataset.variables.items():
        if variable.dims == (name,):
            names[name] = str(name)
            continue
        safe = re.sub(r"[^\w.-]", "_", str(name)) or "_"
        while safe in taken:
            safe += "_"
        taken.add(safe)
        names[name] = safe
    return names


def _checksum(file: h5py.File, manifest: Mapping[str, Any]) -> int:
    """Over the manifest and everything that is read at once."""
    total = zlib.crc32(file.attrs[MANIFEST].encode())
    for spec in manifest["variables"]:
        if not spec["lazy"]:
            is_text = spec["kind"] in ("text", "json")
            values = np.asarray(file[spec["file_name"]][()], dtype=object if is_text else None)
            raw = b"\0".join(values.ravel().tolist()) if is_text else values.tobytes()
            total = zlib.crc32(raw, total)
    return total


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(path: Path, cause: str) -> str:
    return f"{path} is damaged or truncated ({cause}); restore it from a copy or compute it again."


def _cause(error: BaseException) -> str:
    """The one telling line of a library's message."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
