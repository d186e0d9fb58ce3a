"""Arrays that stay on disk while a model is fitted: which they are, how they are read, and where coefficients go."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator

from ..neuro import cells, files, lazy, netcdf
from . import inputs
from .containers import Labels, kind_of, to_tensor
from .engine.planning import WORKSPACE
from .engine.tables import PIECE, Matrix, Table

#: arrays on disk that take up to this part of the memory promised are read once and kept
KEPT = 8
#: variable that holds coefficients
NAME = "coef"


def on_disk(x: Any) -> bool:
    """Whether the values of ``x`` are read when asked for: HDF5, a memory map, a labelled array that was not loaded.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.ondisk import on_disk
    >>> on_disk(np.zeros(3))
    False
    """
    if isinstance(x, xr.DataArray):
        return not getattr(x.variable, "_in_memory", True)
    if isinstance(x, np.memmap):
        return getattr(x, "_mmap", None) is not None
    h5py = sys.modules.get("h5py")
    return h5py is not None and isinstance(x, h5py.Dataset)


def stays_on_disk(x: Any, memory: int | None) -> bool:
    """Whether ``x`` is on disk and too large to be read once and kept."""
    return on_disk(x) and len(x.shape) == 2 and bytes_of(x) > (memory or WORKSPACE) // KEPT


def bytes_of(x: Any) -> int:
    """Bytes of the values of ``x`` as they are computed with."""
    return int(np.prod(x.shape, dtype=np.int64)) * _precision(x).itemsize


def features(estimator: BaseEstimator, X: Any, memory: int | None) -> Matrix:
    """Check the features of ``fit`` as :func:`cerebridge.encoding.inputs.features` does, wherever they are."""
    if not stays_on_disk(X, memory):
        return inputs.features(estimator, X, reset=True)
    if 0 in X.shape:
        raise ValueError(f"X is empty: its shape is {tuple(X.shape)}; check the selection that led to it.")
    estimator.n_features_in_ = X.shape[1]
    return _table(X, "X", "features")


def targets(y: Any, n_samples: int, X: Any, memory: int | None) -> Matrix:
    """Check responses as :func:`cerebridge.encoding.inputs.targets` does, wherever they are; always 2-D."""
    if not stays_on_disk(y, memory):
        tensor = inputs.targets(y, n_samples, X, allow_missing=True)
        return tensor.reshape(len(tensor), -1)
    inputs.require_match(y.shape, n_samples, y, X)
    return _table(y, "y", "targets")


def bytes_read(x: Any, tensor: Matrix) -> int:
    """Bytes of the values that were read from disk and are kept."""
    return tensor.nbytes if on_disk(x) and isinstance(tensor, torch.Tensor) else 0


def row_blocks(x: Any) -> Iterator[Any]:
    """Neighbouring rows of a table that is on disk; else all of it."""
    rows = max(1, PIECE // (8 * x.shape[1])) if on_disk(x) and len(x.shape) == 2 else len(x)
    return (x[start : start + rows] for start in range(0, len(x), rows))


@contextmanager
def writing(
    path: str | PathLike[str], shape: tuple[int, int], dtype: torch.dtype, labels: Labels
) -> Iterator[Callable[[torch.Tensor, int, torch.Tensor], None]]:
    """Give what writes coefficients of targets into a new netCDF-4 file, which has its name when all went well.

    Parameters
    ----------
    path
        The file; one that exists is replaced.
    shape
        Targets and features.
    dtype
        Of the coefficients.
    labels
        Of the dimensions ``"neuroid"`` and ``"feature"``.

    Yields
    ------
    write
        Takes the positions of some targets, the first of those to write, and their coefficients.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from cerebridge.encoding import ondisk
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/coef.nc"
    ...     with ondisk.writing(path, (2, 3), torch.float64, {}) as write:
    ...         write(torch.arange(2), 1, torch.ones(1, 3))
    ...     ondisk.reading(path, {}).values.tolist()
    [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    import h5netcdf
    import h5py

    kind = torch.empty(0, dtype=dtype).numpy().dtype
    with (
        files.aside(Path(path)) as part,
        files.Sink(part) as sink,
        h5netcdf.File(sink, "w", libver=netcdf.LIBVER) as file,
    ):
        file.dimensions = dict(zip(("neuroid", "feature"), shape, strict=True))
        chunks = netcdf.chunk_shape(shape, kind.itemsize)
        stored = file.create_variable(NAME, ("neuroid", "feature"), kind, chunks=chunks)
        for name, (dim, values) in labels.items():
            dim = dim if dim == "feature" else "neuroid"
            encoded, _, attrs = cells.encode(name, np.asarray(values))
            text = encoded.dtype.kind == "O"
            label = file.create_variable(str(name), (dim,), h5py.string_dtype() if text else encoded.dtype)
            label[...] = encoded
            label.attrs.update(attrs)
        stored.attrs["coordinates"] = " ".join(str(name) for name in labels)

        def write(positions: torch.Tensor, start: int, coef: torch.Tensor) -> None:
            rows = positions[start : start + len(coef)].cpu().numpy()
            together = rows[-1] - rows[0] + 1 == len(rows)
            stored[slice(int(rows[0]), int(rows[-1]) + 1) if together else rows] = coef.cpu().numpy()
            sink.check()

        yield write


def reading(path: str | PathLike[str], labels: Labels) -> xr.DataArray:
    """Coefficients that :func:`writing` wrote, read where they are asked for."""
    path = Path(path)
    with files.reading(path) as file:
        spec = {"file_name": NAME, "kind": "number", "dtype": file[NAME].dtype.str}
    source = lazy.FileSource.of(path, spec, lazy.stamp(path))
    coords = {
        name: ("feature" if dim == "feature" else "neuroid", values) for name, (dim, values) in labels.items()
    }
    # within a dataset, since old versions of xarray would read all that a new array is made of
    values = lazy.variable(("neuroid", "feature"), source, {})
    return xr.Dataset({NAME: values}, coords)[NAME].rename(None)


def _table(x: Any, name: str, what: str) -> Table:
    """Look at every value once: they must be finite, and their magnitudes are needed."""
    shape, dtype = (int(x.shape[0]), int(x.shape[1])), _precision(x)
    table = Table(_reader(x), shape, dtype, torch.device("cpu"), torch.zeros(shape[1], dtype=dtype))
    rows = max(1, PIECE // (8 * shape[1]))
    for start in range(0, shape[0], rows):
        block = table.rows(torch.arange(start, min(shape[0], start + rows)))
        torch.maximum(table.largest, block.abs_().amax(0), out=table.largest)
    wrong = ~torch.isfinite(table.largest)
    if bool(wrong.any()):
        kind = "NaN" if bool(table.largest.isnan().any()) else f"infinity or a value too large for {dtype}"
        raise ValueError(
            f"Input {name} contains {kind} in {int(wrong.sum())} of {shape[1]} {what}, first "
            f"{inputs.name_of(x, 1, int(wrong.nonzero()[0]))}; drop these {what}, or load {name} into memory, where "
            "targets may miss samples."
        )
    return table


def _reader(x: Any) -> Callable[[slice, slice], torch.Tensor]:
    def read(rows: slice, columns: slice) -> torch.Tensor:
        block = x[rows, columns]
        if isinstance(x, np.memmap):
            block = np.array(block)
            if x.mode != "c" and hasattr(
                mmap, "MADV_DONTNEED"
            ):  # else every page that was read stays resident
                cast(Any, x)._mmap.madvise(mmap.MADV_DONTNEED)
        return to_tensor(block.values if kind_of(x) == "xarray" else block)

    return read


def _precision(x: Any) -> torch.dtype:
    """The precision that values of this array are computed with."""
    dtype = getattr(x, "dtype", None)
    return to_tensor(np.empty(0, dtype)).dtype if isinstance(dtype, np.dtype) else to_tensor(x).dtype
