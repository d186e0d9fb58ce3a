"""results.nc: one netCDF-4 file with a group for each analysis, readable with xarray alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr

from ...neuro.files import aside

#: attribute of the file that marks it as ours and says what each group holds
INDEX = "cerebridge_results"


def write_results(
    path: str | os.PathLike[str],
    groups: Mapping[str, xr.Dataset],
    attrs: Mapping[str, Any],
    index: Mapping[str, Any],
) -> None:
    """Write the results of all analyses, aside and renamed.

    Parameters
    ----------
    path
        The file; open a group of it with ``xarray.open_dataset(path, group="name/recording", engine="h5netcdf")``.
    groups
        Dataset of each group. Dictionaries among their attributes become JSON text.
    attrs
        Attributes of the whole file.
    index
        For each group what it holds.

    Raises
    ------
    OSError
        If it cannot be written; what was at ``path`` is unchanged.
    """
    with aside(Path(path)) as part:
        with h5netcdf.File(part, "w") as file:
            file.attrs[INDEX] = json.dumps(index)
            for name, value in attrs.items():
                file.attrs[name] = value
        for name, dataset in groups.items():
            _storable(dataset).to_netcdf(part, mode="a", group=name, engine="h5netcdf", invalid_netcdf=False)


def read_results(
    path: str | os.PathLike[str],
) -> tuple[dict[str, xr.Dataset], dict[str, Any], dict[str, Any]]:
    """Read a file of :func:`write_results`.

    Returns
    -------
    groups : dict
        Dataset of each group, in memory.
    attrs : dict
        Attributes of the file.
    index : dict
        What each group holds.

    Raises
    ------
    FileNotFoundError, OSError
        If there is no such file, or it was not written by a study.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        with h5netcdf.File(path, "r") as file:
            attrs = {name: file.attrs[name] for name in file.attrs}
        index = json.loads(attrs.pop(INDEX))
        groups = {}
        for name in index:
            with xr.open_dataset(path, group=name, engine="h5netcdf") as dataset:
                groups[name] = _with_dictionaries(dataset.load())
    except (OSError, KeyError, ValueError) as error:
        raise OSError(f"{path} holds no results of a study, or is damaged ({error}).") from error
    return groups, attrs, index


def _storable(dataset: xr.Dataset) -> xr.Dataset:
    """Text as objects, truth values as numbers, dictionaries as JSON: what every version of xarray writes alike."""
    out = dataset.copy()
    for name, variable in dataset.variables.items():
        if variable.dtype.kind == "U":
            out[name] = (variable.dims, variable.values.astype(object), variable.attrs)
        elif variable.dtype.kind == "b":
            out[name] = (variable.dims, variable.values.astype(np.int8), variable.attrs)
    out = out.set_coords(list(dataset.coords))
    out.attrs = {name: _plain(value) for name, value in dataset.attrs.items()}
    for name in out.variables:
        out[name].attrs = {key: _plain(value) for key, value in out[name].attrs.items()}
        out[name].encoding = {}
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value, default=float)
    return json.dumps(value) if isinstance(value, list | tuple) and not _numbers(value) else value


def _numbers(values: list[Any] | tuple[Any, ...]) -> bool:
    return len(values) > 0 and all(isinstance(value, int | float) for value in values)


def _with_dictionaries(dataset: xr.Dataset) -> xr.Dataset:
    """Text that is a JSON dictionary as a dictionary again; text labels as fixed-length text."""
    for name, value in dataset.attrs.items():
        if isinstance(value, str) and value.startswith("{"):
            dataset.attrs[name] = json.loads(value)
    coords = {
        name: (variable.dims, variable.values.astype(str), variable.attrs)
        for name, variable in dataset.variables.items()
        if variable.dtype == object
    }
    return dataset.assign_coords({name: c for name, c in coords.items() if name in dataset.coords}).assign(
        {name: c for name, c in coords.items() if name not in dataset.coords}
    )
