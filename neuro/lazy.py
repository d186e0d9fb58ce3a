"""Values that stay on disk until a region of them is asked for."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from . import cells, files

Region = tuple[slice, ...]


@dataclass(frozen=True)
class Source(ABC):
    """Values on disk that can be read in rectangles.

    ``edges`` say along each axis where the stretches begin that lie together on disk.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    edges: tuple[NDArray[np.int64], ...]

    @abstractmethod
    def opened(self) -> AbstractContextManager[Callable[[Region], NDArray[Any]]]:
        """Give a function that reads one rectangle."""


@dataclass(frozen=True)
class FileSource(Source):
    """One variable of one file, opened anew for each read, so that no handle is ever left open."""

    path: Path
    spec: dict[str, Any]
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, spec: dict[str, Any], state: tuple[int, ...]) -> FileSource:
        """The variable that ``spec`` describes in the manifest of ``path``, which was read in this state."""
        with files.reading(path) as file:
            stored = file[spec["file_name"]]
            edges = tuple(np.arange(0, *pair) for pair in zip(stored.shape, stored.chunks, strict=True))
            return cls(stored.shape, np.dtype(spec["dtype"]), edges, path, spec, state)

    @contextmanager
    def opened(self) -> Iterator[Callable[[Region], NDArray[Any]]]:
        """Give a function that reads one rectangle."""
        check_stamp(self.path, self.stamp)
        with files.reading(self.path) as file:
            stored = file[self.spec["file_name"]]
            yield lambda region: cells.decode(stored[region], self.spec)


def stamp(path: Path) -> tuple[int, ...]:
    """What tells one state of a file from another."""
    if not path.exists():
        return ()
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def check_stamp(path: Path, expected: tuple[int, ...]) -> None:
    """Refuse to mix values of a new file with labels of the old one."""
    if stamp(path) != expected:
        raise files.StoreError(f"{path} was changed or removed after it had been loaded; load it again.")


class LazyArray(BackendArray):
    """What xarray asks for regions; reads the touched chunks and nothing else."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.shape = source.shape
        self.dtype = source.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        """Read the region that ``key`` names."""
        if isinstance(key, indexing.VectorizedIndexer):
            return indexing.explicit_indexing_adapter(
                key, self.shape, indexing.IndexingSupport.OUTER, self._read
            )
        return self._read(key.tuple)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        axes = [
            _Axis.of(index, size, edges)
            for index, size, edges in zip(key, self.shape, self.source.edges, strict=True)
        ]
        with self.source.opened() as read:
            if all(len(axis.runs) == 1 for axis in axes):
                out = axes_taken(
                    read(tuple(axis.runs[0] for axis in axes)), [axis.within(0) for axis in axes]
                )
            else:
                out = np.empty(tuple(axis.size for axis in axes), self.dtype)
                for numbers in itertools.product(*(range(len(axis.runs)) for axis in axes)):
                    pairs = list(zip(axes, numbers, strict=True))
                    block = read(tuple(axis.runs[n] for axis, n in pairs))
                    target = tuple(slice(axis.starts[n], axis.starts[n + 1]) for axis, n in pairs)
                    out[target] = axes_taken(block, [axis.within(n) for axis, n in pairs])
        out = axes_taken(out, [axis.order for axis in axes])
        return out[
            tuple(0 if np.ndim(index) == 0 and not isinstance(index, slice) else slice(None) for index in key)
        ]


@dataclass(frozen=True)
class _Axis:
    """Positions along one axis, as stretches of touched chunks."""

    wanted: NDArray[np.int64]
    runs: list[slice]
    starts: list[int]
    order: NDArray[np.int64] | None

    @property
    def size(self) -> int:
        return self.starts[-1]

    @classmethod
    def of(cls, index: Any, size: int, edges: NDArray[np.int64]) -> _Axis:
        if isinstance(index, slice):
            start, stop, step = index.indices(size)
            if step == 1:
                return cls(
                    np.empty(0, np.int64), [slice(start, max(start, stop))], [0, max(0, stop - start)], None
                )
            positions = np.arange(start, stop, step)
        else:
            positions = np.atleast_1d(np.asarray(index))
            positions = np.where(positions < 0, positions + size, positions)
            if ((positions < 0) | (positions >= size)).any():
                raise IndexError(f"the positions {index} reach beyond an axis of length {size}.")
        if positions.size == 0:
            return cls(positions, [slice(0, 0)], [0, 0], None)
        if (np.diff(positions) > 0).all():
            wanted, order = positions, None
        else:
            wanted, order = np.unique(positions, return_inverse=True)
        # neighbours are read together; a gap is read over only inside one chunk, which is read as a whole anyway
        chunk = np.searchsorted(edges, wanted, side="right")
        breaks = np.flatnonzero((np.diff(wanted) > 1) & (np.diff(chunk) > 0)) + 1
        starts = [0, *breaks.tolist(), len(wanted)]
        runs = [slice(int(wanted[a]), int(wanted[b - 1]) + 1) for a, b in itertools.pairwise(starts)]
        return cls(wanted, runs, starts, order)

    def within(self, number: int) -> NDArray[np.int64] | None:
        """Positions inside run ``number``; nothing if it is wanted as a whole."""
        run, part = self.runs[number], slice(self.starts[number], self.starts[number + 1])
        return None if run.stop - run.start == part.stop - part.start else self.wanted[part] - run.start


def axes_taken(values: NDArray[Any], indices: list[NDArray[np.int64] | None]) -> NDArray[Any]:
    """``values`` at the positions given for each axis; an axis without is left as it is."""
    for axis, index in enumerate(indices):
        if index is not None:
            values = values.take(index, axis=axis)
    return values


def variable(dims: Sequence[str], source: Source, attrs: dict[str, Any]) -> xr.Variable:
    """An xarray variable that reads on demand, remembers what it has read, and never writes back."""
    cached = indexing.MemoryCachedArray(indexing.LazilyIndexedArray(LazyArray(source)))
    return xr.Variable(dims, indexing.CopyOnWriteArray(cast(Any, cached)), attrs)
