"""What is in a file: dimensions, labels, ranges of an array; scores and audit of results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from ...models.memory import format_bytes
from ...neuro import store
from ..results import Result
from .archive import INDEX, read_results
from .report_parts import flat_rows

#: arrays larger than this are described without their range, which would have to be read
READ_BYTES = 1 << 30
#: at most so many values of a label are listed
LISTED = 4


def describe(path: str | os.PathLike[str]) -> str:
    """Describe a stored array, a folder of activations, a saved result, or the results of a study.

    Parameters
    ----------
    path
        What ``neuro.save``, ``models.extract``, ``Result.save`` or a study wrote.

    Returns
    -------
    str
        Lines for people.

    Raises
    ------
    FileNotFoundError, OSError
        If there is no such file, or it is none of these.

    Examples
    --------
    >>> import tempfile
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.study.inspection import describe
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     neuro.save(f"{folder}/brain.nc", neuro.simulate(n_stimuli=6, n_units=3, random_state=0))
    ...     describe(f"{folder}/brain.nc").splitlines()[1]
    'dimensions  presentation 6 × neuroid 3'
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}.")
    if path.is_dir():
        return _describe_array(path, store.load(path))
    holds = _kind_of(path)
    if holds == "results":
        return _describe_results(path)
    if holds == "dataset":
        return f"{path}\n{_describe_result(store.load_dataset(path))}"
    return _describe_array(path, store.load(path))


def _kind_of(path: Path) -> str:
    """What a file holds; anything unclear is left to the reader of arrays, whose messages are good."""
    try:
        with h5py.File(path, "r") as file:
            if INDEX in file.attrs:
                return "results"
            return "dataset" if "score" in file else "array"
    except OSError:
        return "array"


def _describe_array(path: Path, array: xr.DataArray) -> str:
    sizes = " × ".join(f"{dim} {size}" for dim, size in array.sizes.items())
    lines = [str(path), f"dimensions  {sizes}", f"type        {array.dtype}, {format_bytes(array.nbytes)}"]
    lines.append(f"values      {_range(array)}")
    for name, coord in array.coords.items():
        lines.append(f"label       {name} (along {', '.join(map(str, coord.dims))}): {_listed(coord.values)}")
    lines += [f"attribute   {name}: {_shortened(value)}" for name, value in array.attrs.items()]
    return "\n".join(lines)


def _range(array: xr.DataArray) -> str:
    if array.nbytes > READ_BYTES:
        return f"not read, because they are larger than {format_bytes(READ_BYTES)}"
    values = array.values
    missing = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
    if missing == values.size:
        return "all missing"
    return f"from {np.nanmin(values):.4g} to {np.nanmax(values):.4g}, mean {np.nanmean(values):.4g}, {missing} missing"


def _listed(values: np.ndarray) -> str:
    unique = pd.unique(values)
    first = ", ".join(_shortened(value, 24) for value in unique[:LISTED])
    if len(unique) <= LISTED:
        return first
    return f"{first}, … ({len(unique)} values)"


def _describe_results(path: Path) -> str:
    groups, attrs, index = read_results(path)
    parts = [
        f"{path}\nstudy       {attrs['title']}, {attrs['created']}, cerebridge {attrs['cerebridge_version']}"
    ]
    for name, dataset in groups.items():
        parts.append(f"group       {name} ({index[name]['kind']})\n{_describe_result(dataset)}")
    return "\n\n".join(parts)


def _describe_result(dataset: xr.Dataset) -> str:
    result = Result(dataset)
    variables = ", ".join(f"{name} ({' × '.join(map(str, v.dims))})" for name, v in dataset.data_vars.items())
    audit = "\n".join(f"audit       {name}: {_shortened(value)}" for name, value in flat_rows(result.audit))
    return f"variables   {variables}\n{result}\n{audit}"


def _shortened(value: Any, most: int = 160) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
