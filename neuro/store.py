"""Labelled arrays on disk: netCDF-4 files that others can read, and folders that grow while a network runs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

from . import cells, files, lazy, netcdf
from .assembly import validate
from .shards import ShardWriter, load_shards

__all__ = ["ShardWriter", "load", "load_dataset", "save", "save_dataset"]


def save(path: str | Path, array: xr.DataArray) -> None:
    """Save a labelled array as one netCDF-4 file, which takes its name only when it is complete.

    Parameters
    ----------
    path
        The file, by custom ending in ``.nc``; one that exists is replaced. Values are stored raw, in chunks with
        checksums (half precision as single, for netCDF has no halves); text, missing labels, dates and nested
        attributes come back equal. xarray (``engine="h5netcdf"``), MATLAB and R read it without this package.
    array
        Any of the four forms; values still on disk are copied slab by slab.

    Raises
    ------
    ValueError
        If it is no labelled array (:func:`cerebridge.neuro.validate`).
    TypeError
        If a coordinate or attribute is of a type that has no place in a file.
    OSError
        If it cannot be written, for instance on a full disk; what was at ``path`` is unchanged.

    Examples
    --------
    >>> import tempfile
    >>> from cerebridge import neuro
    >>> brain = neuro.simulate(n_stimuli=6, n_units=3, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     neuro.save(f"{folder}/brain.nc", brain)
    ...     neuro.load(f"{folder}/brain.nc").identical(brain)
    True
    """
    _refuse_multi_index(getattr(array, "indexes", {}))
    validate(array)
    name = "values" if array.name is None else str(array.name)
    while name in array.coords or name in array.dims:
        name += "_"
    dataset = xr.Dataset({name: array.variable}, coords=array.coords)
    netcdf.write(Path(path), dataset, {"holds": "array", "name": cells.plain(array.name)}, lazy=name)


def load(path: str | Path) -> xr.DataArray:
    """Open a saved array or a folder of shards; values are read when a region of them is asked for.

    Parameters
    ----------
    path
        A file of :func:`save` or the folder of an extraction.

    Returns
    -------
    xarray.DataArray
        Labels in memory, values on disk: select first, then compute. ``.load()`` reads them all.

    Raises
    ------
    OSError
        If the file or folder is missing, unfinished, truncated, altered or foreign; damage among the values is
        reported when their region is read.

    Examples
    --------
    >>> import tempfile
    >>> from cerebridge import neuro
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     neuro.save(f"{folder}/brain.nc", neuro.simulate(n_stimuli=6, n_units=3, random_state=0))
    ...     neuro.load(f"{folder}/brain.nc").isel(neuroid=[0]).load().shape
    (6, 1)
    """
    path = Path(path)
    if path.is_dir():
        return load_shards(path)
    state = lazy.stamp(path)
    dataset, manifest = netcdf.read(path)
    if manifest["holds"] != "array":
        raise files.StoreError(
            f"{path} holds a {manifest['holds']}, no labelled array; open it with what wrote it."
        )
    spec = manifest["lazy"]
    values = lazy.variable(spec["dims"], lazy.FileSource.of(path, spec, state), cells.restored(spec["attrs"]))
    array = dataset.assign({spec["name"]: values})[spec["name"]]
    return validate(array.rename(cells.restored(manifest["name"])))


def save_dataset(path: str | Path, dataset: xr.Dataset) -> None:
    """Save an ``xarray.Dataset`` in the same way as :func:`save` does an array.

    Raises
    ------
    TypeError
        If a variable or attribute is of a type that has no place in a file.
    OSError
        If it cannot be written; what was at ``path`` is unchanged.

    Examples
    --------
    >>> import tempfile
    >>> import xarray as xr
    >>> from cerebridge.neuro import store
    >>> scores = xr.Dataset({"score": ("unit", [0.5, 0.7])}, attrs={"scoring": "pearsonr"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store.save_dataset(f"{folder}/scores.nc", scores)
    ...     store.load_dataset(f"{folder}/scores.nc").identical(scores)
    True
    """
    _refuse_multi_index(dataset.indexes)
    netcdf.write(Path(path), dataset, {"holds": "dataset"})


def load_dataset(path: str | Path) -> xr.Dataset:
    """Read a file of :func:`save_dataset`, all of it.

    Raises
    ------
    OSError
        If the file is missing, truncated, altered or foreign.

    Examples
    --------
    >>> import tempfile
    >>> import xarray as xr
    >>> from cerebridge.neuro import store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store.save_dataset(f"{folder}/scores.nc", xr.Dataset({"score": ("unit", [0.5, 0.7])}))
    ...     store.load_dataset(f"{folder}/scores.nc")["score"].values.tolist()
    [0.5, 0.7]
    """
    dataset, manifest = netcdf.read(Path(path))
    if manifest["holds"] != "dataset":
        raise files.StoreError(f"{path} holds an {manifest['holds']}, no results; open it with neuro.load.")
    return dataset


def _refuse_multi_index(indexes: Mapping[Hashable, pd.Index]) -> None:
    for name, index in indexes.items():
        if isinstance(index, pd.MultiIndex):
            raise TypeError(
                f"{name!r} is a MultiIndex, which files cannot hold; use array.reset_index({name!r}), or "
                "neuro.from_brainscore for a Brain-Score assembly."
            )
