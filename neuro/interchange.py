"""The border to Brain-Score: its assemblies have one MultiIndex a dimension and count time in milliseconds."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .assembly import EPOCHED, TIMED, assemble, validate

#: an index of a single level would lose the level's name, so a lone coordinate is given this companion
_COMPANION = "{dim}_number"
_TIMES = ("time_bin_start", "time_bin_end")
_STIMULI = "stimulus_set"


def to_brainscore(array: xr.DataArray) -> Any:
    """Convert a labelled array into a Brain-Score ``NeuroidAssembly``.

    Parameters
    ----------
    array
        ``presentation × neuroid`` or ``presentation × neuroid × time_bin``. Where
        ``attrs["stimulus_set"]`` holds ``{"identifier": …, "table": {column: values}, "paths": {stimulus_id:
        path}}``, it becomes a Brain-Score ``StimulusSet``.

    Returns
    -------
    NeuroidAssembly
        All coordinates are levels of the dimensions' indexes, times in ms; attributes go along, so that
        :func:`from_brainscore` gives an equal array (times to the last bit where they are multiples of 1 µs).

    Raises
    ------
    ImportError
        If Brain-Score is not installed.
    ValueError
        If the array has no presentations, or a label that an index cannot hold.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> brain = neuro.simulate(n_stimuli=4, n_units=3, random_state=0)
    >>> assembly = neuro.to_brainscore(brain)  # doctest: +SKIP
    >>> neuro.from_brainscore(assembly).identical(brain)  # doctest: +SKIP
    True
    """
    validate(array)
    if "presentation" not in array.dims:
        raise ValueError(
            f"Brain-Score knows responses to presentations, but the array is {' × '.join(map(str, array.dims))}; "
            "cut it into trials first."
        )
    coords: dict[Any, Any] = {}
    for name, coord in array.coords.items():
        if name in array.dims:
            raise ValueError(f"the coordinate {name!r} has the name of its dimension; rename it first.")
        values = _milliseconds(coord.values) if name in _TIMES else coord.values
        coords[name] = (coord.dims, _indexable(name, values) if coord.ndim == 1 else values)
    for dim in array.dims:
        if sum(dims == (dim,) for dims, _ in coords.values()) == 1:
            coords[_COMPANION.format(dim=dim)] = (dim, np.arange(array.sizes[dim]))
    assembly = import_brainscore("assemblies").NeuroidAssembly(array.values, coords=coords, dims=array.dims)
    assembly.name = array.name
    assembly.attrs.update(array.attrs)
    if _STIMULI in array.attrs:
        stimuli = _stimulus_set(array.attrs[_STIMULI])
        identifier = getattr(stimuli, "identifier", None)
        assembly.attrs.update({_STIMULI: stimuli, "stimulus_set_identifier": identifier})
    return assembly


def from_brainscore(
    assembly: xr.DataArray,
    modality: str | None = None,
    units: str | None = None,
    provenance: str | None = None,
) -> xr.DataArray:
    """Convert a Brain-Score assembly into a labelled array with plain coordinates and seconds.

    Parameters
    ----------
    assembly
        A ``NeuroidAssembly`` in any order of dimensions; one time bin that was squeezed away stays as a label.
    modality, units, provenance
        As in :func:`cerebridge.neuro.assemble`; without, what the assembly's attributes say.

    Returns
    -------
    xarray.DataArray
        Attributes go along. A ``StimulusSet`` among them becomes ``{"identifier": …, "table": …, "paths": …}``.

    Raises
    ------
    ValueError
        If modality or units are not known, or it is no assembly of neuroids.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from cerebridge import neuro
    >>> labels = {"stimulus_id": ("presentation", ["a", "b"]), "neuroid_id": ("neuroid", [1, 2])}
    >>> plain = xr.DataArray(np.ones((2, 2)), labels, dims=("presentation", "neuroid"))
    >>> neuro.from_brainscore(plain, modality="spikes", units="spikes/s").attrs["units"]
    'spikes/s'
    """
    if not isinstance(assembly, xr.DataArray):
        raise TypeError(f"expected a Brain-Score assembly, got {type(assembly).__name__}.")
    given = " × ".join(map(str, assembly.dims))
    dims = next((form for form in (EPOCHED, TIMED) if set(form) == set(assembly.dims)), None)
    if dims is None:
        raise ValueError(
            f"the assembly is {given}; only presentation × neuroid [× time_bin] can be converted."
        )
    attrs = _attributes(assembly, modality=modality, units=units, provenance=provenance)
    columns = read_columns(assembly)
    tables: Any = {
        dim: {name: values for name, (along, values) in columns.items() if along == (dim,)} for dim in dims
    }
    array = assemble(
        xr.DataArray(assembly).transpose(*dims).values,
        **tables,
        modality=attrs["modality"],
        units=attrs["units"],
        provenance=attrs["provenance"],
        name=None if assembly.name is None else str(assembly.name),
    )
    array = array.assign_coords({name: column for name, column in columns.items() if len(column[0]) != 1})
    array.attrs = attrs
    return validate(array)


def import_brainscore(module: str) -> Any:
    """Import a module of Brain-Score, after what it would do behind its user's back was switched off.

    Its plugins would be installed by whatever ``pip`` is found, activations pickled into the home folder, and resized
    stimuli written there. Unless the environment says otherwise (``BS_INSTALL_DEPENDENCIES``,
    ``RESULTCACHING_DISABLE``, ``BRAINSCORE_HOME``), none of it happens; resized stimuli go to a temporary folder.

    Parameters
    ----------
    module
        ``"assemblies"`` or ``"stimuli"`` of its data standards, or a full name such as ``"brainscore_vision"``.

    Raises
    ------
    ImportError
        Saying which extra to install.

    Examples
    --------
    >>> from cerebridge.neuro.interchange import import_brainscore
    >>> import_brainscore("stimuli").StimulusSet  # doctest: +SKIP
    """
    os.environ.setdefault("BS_INSTALL_DEPENDENCIES", "no")
    os.environ.setdefault("RESULTCACHING_DISABLE", "1")
    if "BRAINSCORE_HOME" not in os.environ and find_spec("brainscore_core") is not None:
        os.environ["BRAINSCORE_HOME"] = tempfile.mkdtemp(prefix="brainscore-")
        atexit.register(shutil.rmtree, os.environ["BRAINSCORE_HOME"], ignore_errors=True)
    inside = not module.startswith("brainscore_")
    try:
        return importlib.import_module(
            f"brainscore_core.supported_data_standards.brainio.{module}" if inside else module
        )
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("brainscore_"):
            raise
        raise ImportError(
            "Brain-Score is not installed; install it into an environment of its own with "
            "pip install 'cerebridge[brainscore]'."
        ) from None


def is_brainscore(value: Any) -> bool:
    """Say whether something is an object of Brain-Score's, without importing it.

    Examples
    --------
    >>> from cerebridge.neuro.interchange import is_brainscore
    >>> is_brainscore([1, 2])
    False
    """
    return any(base.__module__.startswith("brainscore_") for base in type(value).__mro__)


def _attributes(assembly: xr.DataArray, **given: str | None) -> dict[str, Any]:
    """What the assembly says of itself, and what is said of it instead."""
    attrs = {"provenance": "", **assembly.attrs}
    attrs.update({key: value for key, value in given.items() if value is not None})
    for key in ("modality", "units"):
        if not attrs.get(key):
            raise ValueError(f"the assembly does not say its {key}; give from_brainscore {key}=.")
    if isinstance(attrs.get(_STIMULI), pd.DataFrame):
        attrs[_STIMULI] = _plain_stimulus_set(attrs[_STIMULI], attrs.pop("stimulus_set_identifier", None))
    return attrs


def read_columns(assembly: xr.DataArray) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Every coordinate with its dimensions, levels of indexes among them, times in seconds.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.neuro.interchange import read_columns
    >>> read_columns(neuro.simulate(n_stimuli=3, n_units=2, random_state=0))["stimulus_id"][0]
    ('presentation',)
    """
    columns: dict[str, tuple[tuple[Any, ...], Any]] = {}
    levels = set()
    for dim in assembly.dims:
        index = assembly.indexes.get(dim)
        if isinstance(index, pd.MultiIndex):
            levels |= {dim, *index.names}
            for level in index.names:
                columns[str(level)] = ((dim,), np.asarray(index.get_level_values(level)))
    for name, coord in assembly.coords.items():
        if name == "time_bin" and coord.ndim == 0 and isinstance(coord.item(), tuple):
            columns.update({key: ((), value) for key, value in zip(_TIMES, coord.item(), strict=True)})
        elif name not in levels:
            columns[str(name)] = (coord.dims, coord.values)
    for dim in assembly.dims:
        columns.pop(_COMPANION.format(dim=dim), None)
    for name in _TIMES:
        if name in columns:
            along, values = columns[name]
            columns[name] = (along, _tidied(np.asarray(values, dtype=np.float64) / 1000, 6))
    return columns


def _milliseconds(seconds: NDArray[Any]) -> NDArray[Any]:
    """Integers where all are whole, as Brain-Score has them, so that bins can be selected by number."""
    times = _tidied(np.asarray(seconds, dtype=np.float64) * 1000, 3)
    return times.astype(np.int64) if (times == np.round(times)).all() else times


def _tidied(times: NDArray[np.float64], decimals: int) -> NDArray[np.float64]:
    """Multiples of a microsecond freed of the rounding of their conversion, other times as they are."""
    rounded = np.round(times, decimals)
    return np.where(np.abs(rounded - times) <= 2 * np.spacing(np.abs(times)), rounded, times)


def _indexable(name: Any, values: NDArray[Any]) -> NDArray[Any]:
    """What pandas takes as a level of an index."""
    if values.dtype == np.float16:
        return values.astype(np.float32)
    try:
        pd.factorize(values)
    except TypeError as error:
        raise ValueError(
            f"{name!r} cannot be a level of an index ({error}); convert it to text or drop it."
        ) from None
    return values


def _stimulus_set(stimuli: Any) -> Any:
    if isinstance(stimuli, pd.DataFrame):
        return stimuli
    if not isinstance(stimuli, Mapping) or "stimulus_id" not in stimuli.get("table", {}):
        raise ValueError(
            "attrs['stimulus_set'] must be {'identifier': …, 'table': {'stimulus_id': …}, 'paths': …}; "
            "correct or remove it."
        )
    converted = import_brainscore("stimuli").StimulusSet(dict(stimuli["table"]))
    converted.identifier = stimuli.get("identifier")
    converted.stimulus_paths = dict(stimuli.get("paths", {}))
    return converted


def _plain_stimulus_set(stimuli: pd.DataFrame, identifier: str | None) -> dict[str, Any]:
    paths = getattr(stimuli, "stimulus_paths", None) or {}
    return {
        "identifier": getattr(stimuli, "identifier", None) or identifier,
        "table": {str(column): stimuli[column].tolist() for column in stimuli.columns},
        "paths": {stimulus_id: str(path) for stimulus_id, path in paths.items()},
    }
