"""Recordings of a study: each reader turns an entry of the study file into a labelled array."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ... import neuro
from ...models.stimuli import StimulusSet
from .continuous import read_continuous
from .files import load_values

Array = NDArray[Any]


@dataclass(frozen=True)
class Source:
    """What a reader gets: the entry with defaults, its files, the stimuli, and features that drive a simulation."""

    entry: Mapping[str, Any]
    files: Mapping[str, list[Path]]
    stimuli: StimulusSet | None = None
    seed: int = 0
    drivers: Mapping[str, xr.DataArray] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The one file."""
        return self.files["path"][0]


def read_recording(source: Source) -> xr.DataArray:
    """The recording with the labels that the study adds to its units.

    Raises
    ------
    ValueError
        If a label fits no unit, or whatever the reader finds wrong.
    """
    array = READERS[source.entry["reader"]](source)
    dim = "rdm" if "rdm" in array.dims else "neuroid"
    for name, value in source.entry["labels"].items():
        values = value if isinstance(value, list) else [value] * array.sizes[dim]
        if len(values) != array.sizes[dim]:
            raise ValueError(
                f"labels.{name} has {len(values)} entries for {array.sizes[dim]} units; give one a unit."
            )
        array = array.assign_coords({name: (dim, np.asarray(values))})
    return array


def presentations_of(stimuli: StimulusSet | None, n: int, where: str) -> dict[str, Array]:
    """Labels of the presentations of each stimulus once, in the order of the set."""
    if stimuli is None:
        return {"stimulus_id": np.arange(n)}
    if len(stimuli) != n:
        raise ValueError(f"{where} has {n} presentations, but there are {len(stimuli)} stimuli.")
    table = stimuli.table.drop(columns="content_hash")
    return {str(name): table[name].to_numpy() for name in table}


def _read_array(source: Source) -> xr.DataArray:
    entry, name = source.entry, source.path.name
    if "time_bin" in entry["dims"] and "presentation" not in entry["dims"]:
        return read_continuous(source.path, entry, entry["modality"], entry["units"])
    values, dims = load_values(source.path, entry.get("key")), list(entry["dims"])
    if values.ndim != len(dims):
        raise ValueError(
            f"{name} has {values.ndim} axes of lengths {values.shape}, but dims names {len(dims)}."
        )
    if not {"presentation", "neuroid"} <= set(dims):
        raise ValueError(
            f"dims of {name} must name 'presentation' and 'neuroid'; it names {', '.join(dims)}."
        )
    order = [dim for dim in ("repetition", "presentation", "neuroid", "time_bin") if dim in dims]
    values = values.transpose([dims.index(dim) for dim in order]).astype(np.float64)
    values = values if "repetition" in dims else values[None]
    n_repeats, n_stimuli, n_units = values.shape[:3]
    table = presentations_of(source.stimuli, n_stimuli, name)
    table = {column: np.tile(labels, n_repeats) for column, labels in table.items()}
    if "repetition" in dims:
        table["repetition"] = np.repeat(np.arange(n_repeats), n_stimuli)
    values = values.reshape(n_repeats * n_stimuli, *values.shape[2:])
    there = np.isfinite(values).reshape(len(values), -1).any(axis=1)
    return neuro.assemble(
        values[there],
        presentation={column: labels[there] for column, labels in table.items()},
        neuroid={"neuroid_id": np.arange(n_units)},
        time_bin=_bins(entry, values.shape[2:], name) if "time_bin" in dims else None,
        modality=entry["modality"],
        units=entry["units"],
        provenance=f"read from {name}; {int((~there).sum())} of {there.size} presentations missing",
    )


def _bins(entry: Mapping[str, Any], shape: tuple[int, ...], name: str) -> dict[str, Array]:
    if "times" not in entry:
        raise ValueError(
            f"{name} has a time_bin axis; give 'times', the start of the first and the end of the last bin."
        )
    first, last = entry["times"]
    edges = np.linspace(first, last, shape[-1] + 1)
    return {"time_bin_start": edges[:-1], "time_bin_end": edges[1:]}


def _read_netcdf(source: Source) -> xr.DataArray:
    return neuro.load(source.path).load()


def _read_fmri(source: Source) -> xr.DataArray:
    entry, files = source.entry, source.files
    standardize = None if entry["standardize"] == "none" else entry["standardize"]
    array = neuro.fmri.read(
        files["bold"],
        events=files.get("events"),
        confounds=files.get("confounds"),
        mask=files["mask"][0] if "mask" in files else None,
        atlas=files["atlas"][0] if "atlas" in files else None,
        delay=entry["delay"],
        detrend="linear" if entry["detrend"] else None,
        high_pass=entry.get("high_pass"),
        smoothing_fwhm=entry.get("smoothing"),
        standardize=standardize,
        t_r=entry.get("t_r"),
    )
    if entry["response"] == "volumes":
        return array
    return neuro.fmri.block_means(array) if entry["response"] == "blocks" else neuro.fmri.betas(array)


def _read_meeg(source: Source) -> xr.DataArray:
    entry = source.entry
    array = neuro.meeg.read(
        source.path, stimulus_id=entry.get("stimulus_id"), picks=entry["picks"], montage=entry.get("montage")
    )
    if "bads" in entry:
        names = array.coords["neuroid_id"].values
        unknown = sorted(set(entry["bads"]) - set(names.tolist()))
        if unknown:
            raise ValueError(
                f"bads names {unknown[0]!r}, but {source.path.name} has no such channel that was picked."
            )
        array = array.isel(neuroid=np.flatnonzero(~np.isin(names, entry["bads"])))
    if "baseline" not in entry:
        return array
    low, high = entry["baseline"]
    start, end = array.coords["time_bin_start"].values, array.coords["time_bin_end"].values
    tolerance = 0.25 * float(np.median(end - start))
    inside = np.flatnonzero((start > low - tolerance) & (start < high + tolerance))
    if not inside.size:
        raise ValueError(f"no sample of {source.path.name} lies in the baseline from {low} to {high} s.")
    axis = array.dims.index("time_bin")
    return array.copy(data=array.values - array.values.take(inside, axis=axis).mean(axis=axis, keepdims=True))


def _read_spikes(source: Source) -> xr.DataArray:
    entry = source.entry
    trains = neuro.spikes.read(source.path)
    events = trains.events
    if "events" in source.files:
        table = source.files["events"][0]
        events = pd.read_csv(table, sep="\t" if table.suffix == ".tsv" else ",")
    if events is None:
        raise ValueError(f"{source.path.name} tells of no events; give a table with 'events'.")
    return neuro.spikes.count(
        trains,
        events=events,
        window=tuple(entry["window"]),
        bin_size=entry.get("bin_size"),
        rate=entry["rate"],
    )


def _read_rdms(source: Source) -> xr.DataArray:
    from .. import rsa

    entry = source.entry
    ids = None if source.stimuli is None else source.stimuli.table["stimulus_id"].to_numpy()
    rdms = rsa.read_rdms(source.path, variable=entry.get("key"), parts=entry.get("parts"), stimuli=ids)
    if "select" in entry:
        known = [str(name) for name in rdms.coords["neuroid_id"].values]
        for name in entry["select"]:
            if name not in known:
                raise ValueError(f"{source.path.name} has no matrix {name!r}; it has {', '.join(known)}.")
        rdms = rdms.isel(rdm=[known.index(name) for name in entry["select"]])
    if "average" in entry:
        rdms = rsa.average(rdms, by=None if entry["average"] == "all" else entry["average"])
    return rdms


def _simulate(source: Source) -> xr.DataArray:
    entry = source.entry
    return neuro.simulate(
        dict(source.drivers),
        modality=entry["modality"],
        n_units=entry["n_units"],
        n_repeats=entry["n_repeats"],
        snr=entry["snr"],
        random_state=source.seed,
    )


#: readers of recordings, by their name in study files
READERS: dict[str, Callable[[Source], xr.DataArray]] = {
    "array": _read_array,
    "netcdf": _read_netcdf,
    "fmri": _read_fmri,
    "meeg": _read_meeg,
    "spikes": _read_spikes,
    "rdms": _read_rdms,
    "simulation": _simulate,
}
