"""How labels and values lie in a netCDF-4 file: plain variables for every reader, a manifest and checksums for ours.

Numbers are stored as they are, in chunks with a fletcher32 checksum each. Text, booleans and times are stored the
way xarray, MATLAB and R decode them. A manifest in JSON keeps what netCDF has no word for (types, nested
attributes), and one checksum covers everything that has no fletcher32 of its own.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import xarray as xr

from . import cells, files

FORMAT = 1
MANIFEST, CHECKSUM = "cerebridge", "cerebridge_crc32"
#: the oldest version of the file format whose metadata carries checksums (HDF5 1.10, of 2016)
LIBVER = ("v110", "v110")
CHUNK_BYTES = 1 << 20
SLAB_BYTES = 64 << 20

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
    with files.aside(path) as part, files.Sink(part) as sink, h5netcdf.File(sink, "w", libver=LIBVER) as file:
        file.dimensions = {str(dim): int(size) for dim, size in dataset.sizes.items()}
        names = _file_names(dataset)
        empty = next((dim for dim, size in dataset.sizes.items() if size == 0), None)
        if empty is not None:
            raise ValueError(f"the dimension {empty!r} is empty; there is nothing to save.")
        manifest: dict[str, Any] = {
            "format": FORMAT,
            **meta,
            "attrs": cells.plain(dataset.attrs),
            "variables": [],
        }
        for name, variable in dataset.variables.items():
            spec, native = _create(file, names[name], name, variable, sink if name == lazy else None)
            sink.check()
            manifest["variables"].append({**spec, "coordinate": name in dataset.coords, "lazy": name == lazy})
            coords = [names[c] for c in dataset.coords if c not in dataset.dims]
            if name in dataset.data_vars and coords:
                native["coordinates"] = " ".join(coords)
            _set_attrs(file.variables[names[name]].attrs, variable.attrs, native)
        _set_attrs(file.attrs, dataset.attrs, {})
        write_manifest(file.attrs, manifest, _checksum(file._h5file, manifest))


def read(path: Path) -> tuple[xr.Dataset, dict[str, Any]]:
    """Everything in ``path`` but the lazy variable, whose entry is ``manifest["lazy"]``, and the manifest.

    Raises
    ------
    OSError
        If the file is truncated, altered, or not one of ours.
    """
    with files.reading(path) as file:
        if MANIFEST not in file.attrs:
            raise files.StoreError(
                f"{path} was not written by neuro.save; open it with xarray.open_dataarray and build an array "
                "with neuro.assemble."
            )
        manifest = read_manifest(path, file)
        if manifest["format"] > FORMAT:
            raise files.StoreError(
                f"{path} was written by a newer version of cerebridge; update cerebridge to read it."
            )
        if _checksum(file, manifest) != file.attrs[CHECKSUM][1]:
            raise files.StoreError(files.damaged(path, "its labels do not match their checksum"))
        manifest["lazy"] = next((spec for spec in manifest["variables"] if spec["lazy"]), None)
        variables = {}
        for spec in manifest["variables"]:
            if not spec["lazy"]:
                variables[cells.restored(spec["name"])] = (
                    tuple(spec["dims"]),
                    cells.decode(file[spec["file_name"]][()], spec),
                    cells.restored(spec["attrs"]),
                )
        coords = [cells.restored(spec["name"]) for spec in manifest["variables"] if spec["coordinate"]]
    return xr.Dataset(variables, attrs=cells.restored(manifest["attrs"])).set_coords(coords), manifest


def write_manifest(attrs: Any, manifest: Mapping[str, Any], checksum: int = 0) -> None:
    """Put the manifest among the attributes of a file, with its own checksum and another one."""
    text = json.dumps(manifest)
    attrs[MANIFEST] = text
    attrs[CHECKSUM] = np.array([zlib.crc32(text.encode()), checksum], dtype=np.int64)


def read_manifest(path: Path, file: h5py.File) -> dict[str, Any]:
    """The manifest of an open file, if it is unaltered."""
    text = file.attrs[MANIFEST]
    if zlib.crc32(text.encode()) != file.attrs[CHECKSUM][0]:
        raise files.StoreError(files.damaged(path, "its manifest does not match its checksum"))
    manifest: dict[str, Any] = json.loads(text)
    return manifest


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """A chunk of at most a mebibyte, about as fine along every axis, so that rows and columns are read alike."""
    chunk = list(shape)
    while np.prod(chunk, dtype=np.int64) * itemsize > CHUNK_BYTES:
        axis = int(np.argmax(chunk))
        chunk[axis] = -(-chunk[axis] // 2)
    return tuple(chunk)


def _create(
    file: h5netcdf.File, file_name: str, name: Any, variable: xr.Variable, stream: files.Sink | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Store one variable and return its entry in the manifest and attributes for other readers."""
    if stream is not None:
        first, spec, native = cells.encode(name, np.empty(0, variable.dtype))
        dtype = first.dtype
        stored = _new_variable(file, file_name, variable.dims, variable.shape, dtype)
        rows = max(1, SLAB_BYTES * variable.shape[0] // max(1, variable.size * dtype.itemsize))
        step = -(-rows // stored.chunks[0]) * stored.chunks[0]
        for start in range(0, variable.shape[0], step):
            block = variable[start : start + step].values
            stored[start : start + step] = cells.encode(name, block)[0]
            stream.check()
    else:
        values, spec, native = cells.encode(name, np.asarray(variable.values))
        stored = _new_variable(file, file_name, variable.dims, values.shape, values.dtype)
        stored[...] = values
    try:
        entry = {"name": cells.plain(name), "attrs": cells.plain(variable.attrs)}
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
        text = value if simple else json.dumps(cells.plain(value))
        target[key] = text if not isinstance(text, str) or cells.storable(text) else json.dumps(text)
    for key, value in native.items():
        target[key] = value


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
    """Over everything that is read at once."""
    total = 0
    for spec in manifest["variables"]:
        if not spec["lazy"]:
            is_text = spec["kind"] in ("text", "json")
            values = np.asarray(file[spec["file_name"]][()], dtype=object if is_text else None)
            raw = b"\0".join(values.ravel().tolist()) if is_text else values.tobytes()
            total = zlib.crc32(raw, total)
    return total
