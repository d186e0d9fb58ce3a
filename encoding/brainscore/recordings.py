"""Reading the folder of a local benchmark: what it says of itself, its recordings and its stimuli."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ...models.names import nearest
from ...models.stimuli import StimulusSet
from ...neuro.assembly import assemble, quoted
from ...neuro.store import load

#: the file that makes a folder a benchmark
DESCRIPTION = "benchmark.toml"


@dataclass(frozen=True)
class Description:
    """What ``benchmark.toml`` says.

    Parameters
    ----------
    identifier, region
        Name of the benchmark, and where was recorded from.
    recordings, stimuli
        Paths, relative to the folder: a netCDF file of :func:`cerebridge.neuro.save`, or ``.npy``; and anything that
        :meth:`cerebridge.models.StimulusSet.read` takes.
    presentations, neuroids
        Tables beside an ``.npy`` file of presentations × neuroids.
    modality, units
        Of an ``.npy`` file.
    metric, metric_options
        As :func:`cerebridge.encoding.brainscore.load_metric` takes them; ``metric_options.crossvalidation_kwargs``
        holds the splits.
    ceiling
        ``"internal_consistency"`` from repeats, ``"rsa_ceiling"`` from subjects, or a number.
    visual_degrees
        That the images covered.
    time_bin
        Start and end of the recording in seconds.
    version, licence, citation
        Of the data; the citation in BibTeX.
    """

    identifier: str
    region: str
    recordings: str
    stimuli: str
    presentations: str = "presentations.csv"
    neuroids: str = ""
    modality: str = "spikes"
    units: str = "a.u."
    metric: str = "ridge"
    metric_options: Mapping[str, Any] = field(default_factory=dict)
    ceiling: str | float = "internal_consistency"
    visual_degrees: float = 8.0
    time_bin: tuple[float, float] = (0.07, 0.17)
    version: int = 1
    licence: str = ""
    citation: str = ""

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Read ``benchmark.toml`` of a folder.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it cannot be read, or an entry is missing or unknown.
        """
        path = folder / DESCRIPTION
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} has no {DESCRIPTION}; write one with identifier, region, recordings and stimuli."
            )
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path} cannot be read ({error}); correct it.") from None
        known = [each.name for each in fields(cls)]
        for name in entries:
            if name not in known:
                raise ValueError(f"{path} has the entry {name!r}, which is unknown; {nearest(name, known)}.")
        for name in ("identifier", "region", "recordings", "stimuli"):
            if not isinstance(entries.get(name), str) or not entries[name]:
                raise ValueError(f"{path} lacks the entry {name!r}; add it, as text.")
        return cls(**{**entries, "time_bin": tuple(entries.get("time_bin", cls.time_bin))})


def read_stimuli(folder: Path, description: Description) -> StimulusSet:
    """Read the stimuli of a benchmark's folder.

    Raises
    ------
    FileNotFoundError, ValueError
        As :meth:`cerebridge.models.StimulusSet.read`.
    """
    return StimulusSet.read(folder / description.stimuli)


def read_recordings(folder: Path, description: Description, stimuli: StimulusSet) -> xr.DataArray:
    """Read the recordings of a benchmark's folder, of the stimuli that there are.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid`` with ``region``, columns of the stimuli's table and, where stimuli are repeated,
        ``repetition``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If the recordings are of other dimensions or have no stimulus in common with the folder's.
    """
    path = folder / description.recordings
    if not path.exists():
        raise FileNotFoundError(
            f"{folder / DESCRIPTION} names the recordings {path}, but there is no such file."
        )
    array = _from_numpy(folder, path, description) if path.suffix == ".npy" else load(path).load()
    if array.dims != ("presentation", "neuroid"):
        raise ValueError(
            f"{path} is {' × '.join(map(str, array.dims))}; a benchmark takes presentation × neuroid, so average over "
            "a time window first."
        )
    array = _of_region(array, description, path)
    table = stimuli.table.set_index(stimuli.table["stimulus_id"].astype(str))
    ids = array["stimulus_id"].values.astype(str)
    known = np.isin(ids, table.index)
    if not known.all():
        missing = pd.unique(ids[~known])
        raise ValueError(
            f"{path} has {len(missing)} stimuli that are not among the {len(table)} of {description.stimuli} (first "
            f"{quoted(missing[0])}; there is {quoted(table.index[0])}, for instance); name them alike."
        )
    labels = {str(name): ("presentation", table[name].loc[ids].to_numpy()) for name in table.columns}
    array = array.assign_coords({name: each for name, each in labels.items() if name not in array.coords})
    array = array.assign_coords(stimulus_id=labels["stimulus_id"]).drop_vars("content_hash")
    if "repetition" not in array.coords and len(set(ids)) < len(ids):
        counts = pd.Series(ids).groupby(ids).cumcount().to_numpy()
        array = array.assign_coords(repetition=("presentation", counts))
    return array


def _of_region(array: xr.DataArray, description: Description, path: Path) -> xr.DataArray:
    """The neuroids of the benchmark's region; all of them where they have none."""
    if "region" not in array.coords or array["region"].dims != ("neuroid",):
        dropped = array.drop_vars("region", errors="ignore")
        return dropped.assign_coords(region=("neuroid", [description.region] * array.sizes["neuroid"]))
    here = array["region"].values == description.region
    if not here.any():
        regions = ", ".join(map(str, pd.unique(array["region"].values)))
        raise ValueError(f"{path} has no neuroids of the region {description.region!r}, but of {regions}.")
    return array.isel(neuroid=np.flatnonzero(here))


def _from_numpy(folder: Path, path: Path, description: Description) -> xr.DataArray:
    """Values and tables beside them as a labelled array."""
    values = np.load(path, allow_pickle=False)
    table = folder / description.presentations
    if not table.is_file():
        raise FileNotFoundError(
            f"{path} needs a table of its presentations with a column stimulus_id, but there is no {table}."
        )
    presentations = pd.read_csv(table, dtype={"stimulus_id": str})
    neuroids = {"neuroid_id": np.arange(values.shape[-1])}
    if description.neuroids:
        neuroids = pd.read_csv(folder / description.neuroids)
    return assemble(
        values,
        presentation=presentations,
        neuroid=neuroids,
        modality=description.modality,
        units=description.units,
        provenance=description.identifier,
    )
