"""Activations on disk while a network runs: one checksummed file for a run of rows, and an index at the end."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from . import lazy, netcdf
from .assembly import Table, assemble, validate

INDEX, META = "index.nc", "meta.json"
#: rows of small layers share a chunk of about this size
ROW_CHUNK_BYTES = 256 << 10


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


class ShardWriter:
    """A folder that takes the activations of a network run by run and survives being killed.

    Every run of rows becomes one file, written aside and renamed, so that a file is complete or absent. Opened
    again with the same ``meta``, it checks the files that are there and says in ``done`` which rows they hold.
    One writer at a time.

    Parameters
    ----------
    folder
        Made if missing.
    meta
        JSON that says what is computed (network, weights, stimuli, layers, type). A folder is continued only with
        the same.
    n_rows
        Number of presentations in all.

    Raises
    ------
    ValueError
        If the folder holds something else.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.neuro.store import ShardWriter
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with ShardWriter(folder, {"network": "small"}, n_rows=4) as writer:
    ...         writer.write(0, {"conv": np.zeros((2, 3, 5, 5)), "fc": np.ones((2, 7))})
    ...         writer.write(2, {"conv": np.zeros((2, 3, 5, 5)), "fc": np.ones((2, 7))})
    ...         writer.close(presentation={"stimulus_id": ["a", "b", "c", "d"]})
    ...     neuro.load(folder).isel(neuroid=slice(-7, None)).load().shape
    (4, 7)
    """

    def __init__(self, folder: str | Path, meta: Mapping[str, Any], n_rows: int) -> None:
        self.folder = Path(folder)
        self.n_rows = n_rows
        self.folder.mkdir(parents=True, exist_ok=True)
        self._claim({"n_rows": n_rows, **json.loads(json.dumps(meta))})
        for part in self.folder.glob("*.part"):
            part.unlink()
        self._shards: dict[int, tuple[str, int]] = {}
        self._layers: list[Layer] | None = None
        for path in sorted(self.folder.glob("shard-*.h5")):
            self._adopt(path)

    @property
    def done(self) -> set[int]:
        """Rows that are complete and checked."""
        return {row for start, (_, rows) in self._shards.items() for row in range(start, start + rows)}

    def write(self, start: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Store rows ``start``, ``start + 1``, … of every layer.

        Parameters
        ----------
        start
            First row.
        values
            For each layer an array of rows × features of any shape, the same layers, shapes and types each time.

        Raises
        ------
        ValueError
            If rows are outside, already there, or unlike the ones before.
        OSError
            If the disk is full or fails; the shards that are there stay good.
        """
        layers = [Layer(name, array.shape[1:], array.dtype.str) for name, array in values.items()]
        self._check(start, layers, {name: len(array) for name, array in values.items()})
        rows = len(next(iter(values.values())))
        path = self.folder / f"shard-{start:06d}.h5"
        manifest = json.dumps({"start": start, "rows": rows, "layers": [vars(layer) for layer in layers]})
        with netcdf.aside(path) as part, h5py.File(part, "w", libver=netcdf.LIBVER) as file:
            for number, array in enumerate(values.values()):
                flat = np.ascontiguousarray(array).reshape(rows, -1)
                together = min(rows, max(1, ROW_CHUNK_BYTES // max(1, flat[0].nbytes)))
                file.create_dataset(
                    f"{number:03d}", data=flat, chunks=(together, flat.shape[1]), fletcher32=True
                )
            file.attrs[netcdf.MANIFEST] = manifest
            file.attrs[netcdf.CHECKSUM] = zlib.crc32(manifest.encode())
        self._shards[start], self._layers = (path.name, rows), layers

    def close(
        self,
        presentation: Table,
        neuroid: Mapping[str, Table] | None = None,
        *,
        modality: str = "activation",
        units: str = "a.u.",
        provenance: str = "",
    ) -> None:
        """Write the index, after which :func:`cerebridge.neuro.load` opens the folder.

        Parameters
        ----------
        presentation
            One row a presentation, with ``stimulus_id``.
        neuroid
            For any layer further columns, one row a feature in C order; without, ``channel, row, column`` or
            ``token, channel`` follow from the shape. ``neuroid_id`` and ``layer`` are added.

        Raises
        ------
        ValueError
            If rows are missing, or a table does not fit.
        """
        missing = sorted(set(range(self.n_rows)) - self.done)
        if missing or self._layers is None:
            raise ValueError(
                f"{len(missing)} of {self.n_rows} rows were not written (the first is row {missing[0]}); write them "
                "before the folder is closed."
            )
        tables = neuroid or {}
        columns = pd.concat(
            [_features(layer, tables.get(layer.name)) for layer in self._layers], ignore_index=True
        )
        dtype = np.result_type(*(layer.dtype for layer in self._layers))
        labelled = assemble(
            np.broadcast_to(np.zeros((), dtype), (self.n_rows, len(columns))),
            presentation=presentation,
            neuroid=columns,
            modality=modality,
            units=units,
            provenance=provenance,
        )
        meta = {
            "holds": "shards",
            "shards": [[start, *self._shards[start]] for start in sorted(self._shards)],
            "layers": [vars(layer) for layer in self._layers],
        }
        netcdf.write(self.folder / INDEX, xr.Dataset(coords=labelled.coords, attrs=labelled.attrs), meta)

    def __enter__(self) -> ShardWriter:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open between two writes, so there is nothing to do."""

    def _claim(self, meta: dict[str, Any]) -> None:
        path = self.folder / META
        if not path.exists():
            if any(self.folder.glob("shard-*.h5")):
                raise ValueError(
                    f"{self.folder} holds shards but no {META} that says of what; use another folder."
                )
            with netcdf.aside(path) as part:
                part.write_text(json.dumps(meta, indent=1), encoding="utf-8")
            return
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise OSError(f"{path} is damaged; use another folder or delete this one.") from error
        for key in dict.fromkeys([*known, *meta]):
            if known.get(key) != meta.get(key):
                was, now = _short(known.get(key)), _short(meta.get(key))
                raise ValueError(
                    f"{self.folder} was begun with {key} = {was}, now it is {now}; use another folder or delete it."
                )

    def _adopt(self, path: Path) -> None:
        """Count a shard that an earlier run left, if it is whole."""
        try:
            with netcdf.reading(path) as file:
                manifest = _shard_manifest(path, file)
                for stored in file.values():
                    stored[()]
        except OSError as error:
            warnings.warn(f"{error} Its rows are computed again.", stacklevel=4)
            return
        layers = [_layer(entry) for entry in manifest["layers"]]
        self._check(
            manifest["start"], layers, dict.fromkeys([layer.name for layer in layers], manifest["rows"])
        )
        self._shards[manifest["start"]], self._layers = (path.name, manifest["rows"]), layers

    def _check(self, start: int, layers: list[Layer], lengths: dict[str, int]) -> None:
        if not layers or len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise ValueError(
                f"the layers have {lengths or 'no'} rows; give every layer the same number, at least one."
            )
        rows = next(iter(lengths.values()))
        if start < 0 or start + rows > self.n_rows:
            raise ValueError(
                f"rows {start} to {start + rows - 1} are outside of the {self.n_rows} that were announced."
            )
        there = sorted(self.done.intersection(range(start, start + rows)))
        if there:
            raise ValueError(f"row {there[0]} is already stored; write only rows that are not in done.")
        if self._layers is not None and layers != self._layers:
            was, now = next(
                ((a, b) for a, b in zip(self._layers, layers, strict=False) if a != b), ("fewer", "more")
            )
            raise ValueError(
                f"rows from {start} on have {now}, the ones before {was}; all rows must be alike."
            )


@dataclass(frozen=True)
class ShardSource:
    """All shards of a folder as one matrix, layers side by side."""

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    edges: tuple[NDArray[np.int64], ...]
    shards: list[tuple[int, str, int]]
    layers: list[Layer]

    @contextmanager
    def opened(self) -> Iterator[Callable[[lazy.Region], NDArray[Any]]]:
        """Give a function that reads one rectangle; one shard is open at a time."""
        starts = np.array([start for start, _, _ in self.shards])
        first_columns = self.edges[1]
        with ExitStack() as stack:
            current: dict[int, h5py.File] = {}

            def shard(number: int) -> h5py.File:
                if number not in current:
                    stack.close()
                    current.clear()
                    current[number] = stack.enter_context(self._open(number))
                return current[number]

            def read(region: lazy.Region) -> NDArray[Any]:
                rows, columns = region
                out = np.empty((rows.stop - rows.start, columns.stop - columns.start), self.dtype)
                for number in _touched(starts, rows):
                    start, _, length = self.shards[number]
                    source, target = _overlap(rows, start, length)
                    for index in _touched(first_columns, columns):
                        offset = int(first_columns[index])
                        within, beside = _overlap(columns, offset, self.layers[index].size)
                        out[target, beside] = shard(number)[f"{index:03d}"][source, within]
                return out

            yield read

    @contextmanager
    def _open(self, number: int) -> Iterator[h5py.File]:
        start, name, rows = self.shards[number]
        path = self.folder / name
        try:
            with netcdf.reading(path) as file:
                manifest = _shard_manifest(path, file)
                if (manifest["start"], manifest["rows"]) != (start, rows) or [
                    _layer(entry) for entry in manifest["layers"]
                ] != self.layers:
                    raise OSError(f"{path} is not the shard that the index of its folder names.")
                yield file
        except OSError as error:
            raise OSError(
                f"{error} Delete that file and run the extraction again: only its rows are computed."
            ) from error


def load_shards(folder: Path) -> xr.DataArray:
    """The finished folder as ``presentation × neuroid``, read on demand.

    Raises
    ------
    OSError
        If the folder is unfinished, foreign or damaged.
    """
    if not (folder / INDEX).exists():
        if not (folder / META).exists():
            raise FileNotFoundError(f"{folder} is a folder without {INDEX}; it holds no extraction.")
        n_rows = json.loads((folder / META).read_text(encoding="utf-8"))["n_rows"]
        raise OSError(
            f"{folder} holds an unfinished extraction of {n_rows} rows; run the same extraction again with this folder "
            "as its store, and it goes on where it stopped."
        )
    labels, manifest = netcdf.read(folder / INDEX)
    layers = [_layer(entry) for entry in manifest["layers"]]
    shards = [(start, name, rows) for start, name, rows in manifest["shards"]]
    columns = np.cumsum([0, *(layer.size for layer in layers)])
    n_rows = sum(rows for _, _, rows in shards)
    source = ShardSource(
        folder=folder,
        shape=(n_rows, int(columns[-1])),
        dtype=np.result_type(*(layer.dtype for layer in layers)),
        edges=(np.arange(n_rows), columns[:-1]),
        shards=shards,
        layers=layers,
    )
    values = lazy.variable(["presentation", "neuroid"], source, labels.attrs)
    return validate(labels.assign({"values": values})["values"].rename(None))


def _shard_manifest(path: Path, file: h5py.File) -> dict[str, Any]:
    text = file.attrs[netcdf.MANIFEST]
    if zlib.crc32(text.encode()) != file.attrs[netcdf.CHECKSUM]:
        raise OSError(f"{path} is damaged (its description does not match its checksum).")
    manifest: dict[str, Any] = json.loads(text)
    return manifest


def _layer(entry: Mapping[str, Any]) -> Layer:
    return Layer(entry["name"], tuple(entry["shape"]), entry["dtype"])


def _features(layer: Layer, table: Table | None) -> pd.DataFrame:
    names = {3: ("channel", "row", "column"), 2: ("token", "channel")}.get(len(layer.shape), ())
    if table is None:
        table = (
            dict(zip(names, np.indices(layer.shape).reshape(len(layer.shape), -1), strict=True))
            if names
            else {}
        )
    columns = pd.DataFrame(table, index=None if len(table) else range(layer.size))
    if len(columns) != layer.size:
        raise ValueError(
            f"the table of layer {layer.name!r} has {len(columns)} rows, but it has {layer.size} features."
        )
    columns = columns.reset_index(drop=True)
    columns.insert(0, "neuroid_id", [f"{layer.name}/{feature:06d}" for feature in range(layer.size)])
    columns.insert(1, "layer", layer.name)
    return columns


def _touched(starts: NDArray[np.int64], wanted: slice) -> range:
    """Numbers of the stretches that ``wanted`` reaches into."""
    first = int(np.searchsorted(starts, wanted.start, side="right")) - 1
    return range(max(first, 0), int(np.searchsorted(starts, wanted.stop, side="left")))


def _overlap(wanted: slice, start: int, length: int) -> tuple[slice, slice]:
    """Where ``wanted`` meets a stretch: inside the stretch, and inside what is wanted."""
    low, high = max(wanted.start, start), min(wanted.stop, start + length)
    return slice(low - start, high - start), slice(low - wanted.start, high - wanted.start)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}…"
