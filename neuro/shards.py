"""Activations on disk while a network runs: one checksummed file for a run of rows, and an index at the end."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from . import files, lazy, netcdf
from .assembly import Table, assemble, validate
from .layers import Layer, label_features

INDEX, META = "index.nc", "meta.json"
#: rows of small layers share a chunk of about this size
ROW_CHUNK_BYTES = 256 << 10


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
    keys
        For each row a text that says what it is of, such as the hash of a stimulus. Rows are then continued where
        their keys agree, also when others were changed, removed or added; without, only with the same ``n_rows``.

    Raises
    ------
    ValueError
        If the folder holds something else, or not one shard of the same keys.
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

    def __init__(
        self, folder: str | Path, meta: Mapping[str, Any], n_rows: int, keys: Sequence[str] | None = None
    ) -> None:
        if keys is not None and len(keys) != n_rows:
            raise ValueError(f"there are {len(keys)} keys for {n_rows} rows; give one a row.")
        self.folder = Path(folder)
        self.n_rows = n_rows
        self._keys = None if keys is None else list(keys)
        self.folder.mkdir(parents=True, exist_ok=True)
        meta = {"n_rows": n_rows, **json.loads(json.dumps(meta))}
        known = self._claim(meta)
        for part in self.folder.glob("*.part"):
            part.unlink()
        self._shards: dict[int, tuple[str, int]] = {}
        self._have = np.zeros(n_rows, dtype=bool)
        self._layers: list[Layer] | None = None
        stale = [path for path in sorted(self.folder.glob("shard-*.h5")) if not self._adopt(path)]
        if stale and not self._shards:
            raise ValueError(
                f"{self.folder} holds activations of other stimuli; use another folder or delete it."
            )
        if stale or known != meta:
            self._forget(stale, meta)

    @property
    def done(self) -> set[int]:
        """Rows that are complete and checked."""
        return set(np.flatnonzero(self._have).tolist())

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
        with (
            files.aside(path) as part,
            files.Sink(part) as sink,
            h5py.File(sink, "w", libver=netcdf.LIBVER) as file,
        ):
            for number, array in enumerate(values.values()):
                flat = np.ascontiguousarray(array).reshape(rows, -1)
                together = min(rows, max(1, ROW_CHUNK_BYTES // max(1, flat[0].nbytes)))
                file.create_dataset(
                    f"{number:03d}", data=flat, chunks=(together, flat.shape[1]), fletcher32=True
                )
            entry = {"start": start, "rows": rows, "layers": [vars(layer) for layer in layers]}
            if self._keys is not None:
                entry["keys"] = self._keys[start : start + rows]
            netcdf.write_manifest(file.attrs, entry)
        self._count(path, start, rows, layers)

    def close(
        self,
        presentation: Table,
        neuroid: Table | None = None,
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
            One row a feature, the layers below each other, each in C order; without, the one of
            :func:`cerebridge.neuro.layers.label_features`.

        Raises
        ------
        ValueError
            If rows are missing, or a table does not fit.
        """
        missing = np.flatnonzero(~self._have)
        if missing.size or self._layers is None:
            raise ValueError(
                f"{missing.size} of {self.n_rows} rows were not written (the first is row {missing[0]}); write them "
                "before the folder is closed."
            )
        dtype = np.result_type(*(layer.dtype for layer in self._layers))
        labelled = assemble(
            np.broadcast_to(np.zeros((), dtype), (self.n_rows, sum(layer.size for layer in self._layers))),
            presentation=presentation,
            neuroid=label_features(self._layers) if neuroid is None else neuroid,
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

    def _claim(self, meta: dict[str, Any]) -> dict[str, Any]:
        """What the folder was begun with, which must be the same; only its rows may differ if they have keys."""
        path = self.folder / META
        if not path.exists():
            if any(self.folder.glob("shard-*.h5")):
                raise ValueError(
                    f"{self.folder} holds shards but no {META} that says of what; use another folder."
                )
            self._write_meta(meta)
            return meta
        known = _read_meta(path)
        for key in dict.fromkeys([*known, *meta]):
            if known.get(key) != meta.get(key) and not (key == "n_rows" and self._keys is not None):
                was, now = _short(known.get(key)), _short(meta.get(key))
                raise ValueError(
                    f"{self.folder} was begun with {key} = {was}, now it is {now}; use another folder or delete it."
                )
        return known

    def _write_meta(self, meta: dict[str, Any]) -> None:
        with files.aside(self.folder / META) as part:
            part.write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def _forget(self, stale: list[Path], meta: dict[str, Any]) -> None:
        """Leave the index and shards of other rows behind."""
        (self.folder / INDEX).unlink(missing_ok=True)
        for path in stale:
            warnings.warn(f"{path} is of other stimuli; its rows are computed again.", stacklevel=3)
            path.unlink()
        self._write_meta(meta)

    def _adopt(self, path: Path) -> bool:
        """Count a shard that an earlier run left, if it is whole; say whether it is of the same rows."""
        try:
            with files.reading(path) as file:
                manifest = netcdf.read_manifest(path, file)
                for stored in file.values():
                    stored[()]
        except OSError as error:
            warnings.warn(f"{error} Its rows are computed again.", stacklevel=3)
            return True
        start, rows = manifest["start"], manifest["rows"]
        if self._keys is not None and manifest.get("keys") != self._keys[start : start + rows]:
            return False
        layers = [Layer.restored(entry) for entry in manifest["layers"]]
        self._check(start, layers, dict.fromkeys([layer.name for layer in layers], rows))
        self._count(path, start, rows, layers)
        return True

    def _count(self, path: Path, start: int, rows: int, layers: list[Layer]) -> None:
        self._shards[start] = (path.name, rows)
        self._have[start : start + rows] = True
        self._layers = layers

    def _check(self, start: int, layers: list[Layer], lengths: dict[str, int]) -> None:
        if not layers or len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise ValueError(
                f"the layers have {lengths or 'no'} rows; give every layer the same number, at least one."
            )
        empty = next((layer.name for layer in layers if layer.size == 0), None)
        if empty is not None:
            raise ValueError(f"the layer {empty!r} has no features; leave it out.")
        rows = next(iter(lengths.values()))
        if start < 0 or start + rows > self.n_rows:
            raise ValueError(
                f"rows {start} to {start + rows - 1} are outside of the {self.n_rows} that were announced."
            )
        there = np.flatnonzero(self._have[start : start + rows])
        if there.size:
            raise ValueError(
                f"row {start + int(there[0])} is already stored; write only rows that are not in done."
            )
        if self._layers is not None and layers != self._layers:
            was, now = next(
                ((a, b) for a, b in zip(self._layers, layers, strict=False) if a != b), ("fewer", "more")
            )
            raise ValueError(
                f"rows from {start} on have {now}, the ones before {was}; all rows must be alike."
            )


@dataclass(frozen=True)
class ShardSource(lazy.Source):
    """All shards of a folder as one matrix, layers side by side."""

    folder: Path
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
            with files.reading(path) as file:
                manifest = netcdf.read_manifest(path, file)
                if (manifest["start"], manifest["rows"]) != (start, rows) or [
                    Layer.restored(entry) for entry in manifest["layers"]
                ] != self.layers:
                    raise files.StoreError(f"{path} is not the shard that the index of its folder names.")
                yield file
        except OSError as error:
            raise files.StoreError(
                f"{error} Run the extraction again: only the rows of that file are computed."
            ) from None


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
        n_rows = _read_meta(folder / META)["n_rows"]
        raise files.StoreError(
            f"{folder} holds an unfinished extraction of {n_rows} rows; run the same extraction again with this folder "
            "as its store, and it goes on where it stopped."
        )
    labels, manifest = netcdf.read(folder / INDEX)
    layers = [Layer.restored(entry) for entry in manifest["layers"]]
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


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise files.StoreError(f"{path} is damaged; use another folder or delete this one.") from None
    return meta


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
