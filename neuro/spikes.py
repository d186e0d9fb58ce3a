"""Spikes and calcium traces: from times and events to binned counts, rates and means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .assembly import Table, assemble
from .spiketrains import SpikeTrains, gather, split
from .traces import from_traces
from .windows import (
    Ticks,
    Window,
    check_inside,
    describe_bins,
    describe_events,
    find_members,
    make_edges,
    to_ticks,
)

__all__ = ["SpikeTrains", "count", "from_traces", "read"]


def count(
    spike_times: Any,
    *,
    bin_size: float | None = None,
    events: Table | None = None,
    window: Window | None = None,
    labels: Any = None,
    neuroid: Table | None = None,
    start: float | None = None,
    stop: float | None = None,
    rate: bool = False,
    sort: bool = False,
    stimulus_id: str = "stimulus_id",
    provenance: str = "",
) -> xr.DataArray:
    """Count spikes in bins: around events, or along the whole recording.

    Bins are half open: a spike on an edge belongs to the bin that begins there. Times are compared to the
    nanosecond, and edges are computed from the start of their window, so windows that meet neither share nor lose
    a spike.

    Parameters
    ----------
    spike_times
        Seconds: a mapping of unit to times (a dict, pynapple's ``TsGroup``), a list of arrays, neo's spike trains,
        all times with ``labels``, the times of a single unit, or what :func:`read` gives.
    bin_size
        Seconds. ``None`` with events: one count a window, and no time axis.
    events
        One row an event: ``onset`` in seconds, ``stimulus_id``, and any columns that should become coordinates.
        Without events the whole recording is binned.
    window
        From and to, in seconds relative to the onset, such as ``(-0.1, 0.4)``; a multiple of ``bin_size``. Windows
        may overlap.
    labels
        The unit of each spike, where ``spike_times`` holds all of them.
    neuroid
        Properties of the units (region, position, …). With a column ``neuroid_id`` it says which units there are
        and in which order, those that never fire included.
    start, stop
        The recorded interval in seconds; by default from 0 to the last spike. Without events, what is binned; a
        last incomplete bin is left out if ``stop`` is given.
    rate
        ``True`` divides by the width of the bins.
    sort
        ``True`` accepts unsorted spike times.
    stimulus_id
        The column of ``events`` that identifies the stimulus.
    provenance
        Where the spikes came from, in words.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid × time_bin`` (events), ``presentation × neuroid`` (events, no ``bin_size``; the
        window is in ``attrs``) or ``time_bin × neuroid`` (no events; ``attrs["sfreq"]`` is the rate of the bins).
        Units are spikes (integers) or spikes/s; where a file tells when a unit was not observed, NaN.

    Raises
    ------
    TypeError, ValueError
        If times are unsorted, negative or missing, ids are duplicated or fit no row, a window leaves the
        recording (the event is named), or the bins do not fit the window.

    Examples
    --------
    >>> from cerebridge.neuro import spikes
    >>> trains = {"a": [0.01, 0.12, 1.03], "b": [0.15, 1.11]}
    >>> events = {"onset": [0.0, 1.0], "stimulus_id": ["face", "house"]}
    >>> spikes.count(trains, events=events, window=(0, 0.2), bin_size=0.1).values.tolist()
    [[[1, 1], [0, 1]], [[1, 0], [0, 1]]]
    >>> spikes.count(trains, bin_size=0.5, rate=True).values[:, 0].tolist()
    [4.0, 0.0, 2.0]
    """
    trains = spike_times if isinstance(spike_times, SpikeTrains) else None
    if trains is not None:
        spike_times, provenance = trains.times, provenance or trains.provenance
        neuroid = trains.neuroid if neuroid is None else neuroid
        start, stop = trains.start if start is None else start, trains.stop if stop is None else stop
    begin = 0.0 if start is None else float(start)
    times, units, table = gather(spike_times, labels, neuroid, sort, begin)
    if stop is None and not len(times):
        raise ValueError("there are no spikes, so the end of the recording is unknown; give stop=.")
    tables: dict[str, Any] = {"neuroid": table}
    if events is None:
        if window is not None or bin_size is None:
            raise ValueError("without events the whole recording is binned: give bin_size, and no window.")
        end = times.max() + bin_size if stop is None else stop
        edges, onsets = make_edges(begin, end, bin_size, whole=False), np.zeros(1, np.int64)
        tables["sfreq"] = 1 / bin_size
    else:
        if window is None:
            raise ValueError(
                "counting around events needs window=(from, to) in seconds relative to the onset."
            )
        edges = make_edges(*window, bin_size, whole=True)
        tables["presentation"] = describe_events(events, stimulus_id)
        check_inside(tables["presentation"], window, begin, stop, times.max(initial=begin))
        onsets = to_ticks(tables["presentation"]["onset"])
    values: NDArray[Any] = _tally(to_ticks(times), units, onsets, edges, len(table))
    if trains is not None and trains.observed is not None:
        values = _mask(values, table["neuroid_id"].tolist(), trains.observed, onsets, edges)
    if rate:
        values = values / (bin_size or (edges[-1] - edges[0]) / 1e9)
    return _label(values, tables, edges, bin_size, "spikes/s" if rate else "spikes", provenance)


def read(
    path: str | Path,
    *,
    datasets: str | Mapping[Any, str] | None = None,
    labels: str | None = None,
    sfreq: float | None = None,
    intervals: str = "trials",
) -> SpikeTrains:
    """Read sorted spikes from NWB or any other HDF5 file.

    Parameters
    ----------
    path
        An NWB file (its units table, trials and electrodes are understood), or HDF5.
    datasets
        Where HDF5 keeps the times: a pattern such as ``"units/{unit}/spike_times"``, a mapping of unit to dataset,
        or, with ``labels``, the one dataset that holds all times.
    labels
        The dataset with the unit of each spike.
    sfreq
        If times are stored as sample numbers: samples a second.
    intervals
        For NWB: which table of intervals is the events.

    Returns
    -------
    SpikeTrains
        Times by unit with everything the file says of units and events; goes into :func:`count`.

    Raises
    ------
    FileNotFoundError, OSError, ValueError
        If the file is missing or damaged, or does not hold what was asked for; what it holds is listed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import h5py
    >>> from cerebridge.neuro import spikes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "spikes.h5"
    ...     with h5py.File(path, "w") as file:
    ...         file["units/3/times"] = [0.1, 0.2]
    ...         file["units/12/times"] = [0.15]
    ...     spikes.read(path, datasets="units/{unit}/times")
    <SpikeTrains: 2 units, 3 spikes, no events>
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; check the path.")
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise OSError(f"{path.name} is no HDF5 or NWB file, or is cut off; get a whole copy.") from None
    with file:
        if datasets is None and "nwb_version" not in file.attrs:
            raise ValueError(
                f"{path.name} is no NWB file: say with datasets= where times are; it holds {_listing(file)}."
            )
        if datasets is not None:
            times = _read_datasets(file, path.name, datasets, labels)
            if sfreq is not None:
                times = {unit: train / sfreq for unit, train in times.items()}
            return SpikeTrains(times, pd.DataFrame({"neuroid_id": list(times)}), provenance=path.name)
    from .nwb import read_nwb

    return read_nwb(path, intervals)


def _tally(
    times: Ticks, units: NDArray[np.int64], onsets: Ticks, edges: Ticks, n_units: int
) -> NDArray[np.int64]:
    """Counts, window × unit × bin, without a loop over any of them."""
    n_bins = len(edges) - 1
    spike, window, bins = find_members(times, onsets, edges)
    cell = (window * n_units + units[spike]) * n_bins + bins
    return np.bincount(cell, minlength=len(onsets) * n_units * n_bins).reshape(len(onsets), n_units, n_bins)


def _mask(
    counts: NDArray[np.int64], names: list[Any], observed: Mapping[Any, Any], onsets: Ticks, edges: Ticks
) -> NDArray[np.float64]:
    """Make counts missing where a bin is not within one of the unit's observed intervals."""
    values = counts.astype(float)
    begins, ends = onsets[:, None] + edges[:-1], onsets[:, None] + edges[1:]
    for k, name in enumerate(names):
        if name not in observed:
            continue
        low, high = _merged(to_ticks(observed[name]))
        inside = np.searchsorted(low, begins, side="right") - 1
        values[:, k][(inside < 0) | (ends > high[inside])] = np.nan
    return values


def _merged(intervals: Ticks) -> tuple[Ticks, Ticks]:
    """Starts and ends of the union of intervals, in order."""
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    reach = np.maximum.accumulate(intervals[:, 1])
    first = np.flatnonzero(np.r_[True, intervals[1:, 0] > reach[:-1]])
    return intervals[first, 0], reach[np.r_[first[1:] - 1, len(reach) - 1]]


def _label(
    values: NDArray[Any],
    tables: dict[str, Any],
    edges: Ticks,
    bin_size: float | None,
    units: str,
    provenance: str,
) -> xr.DataArray:
    """The array of the form that the tables say: window × unit × bin, window × unit, or bin × unit."""
    if bin_size is None:
        values = values[:, :, 0]
    else:
        tables = tables | {"time_bin": describe_bins(edges)}
    if "presentation" not in tables:
        values = values[0].T
    array = assemble(values, modality="spikes", units=units, provenance=provenance, **tables)
    if bin_size is None:
        array.attrs.update(window_start=float(edges[0]) / 1e9, window_end=float(edges[-1]) / 1e9)
    return array


def _read_datasets(
    file: h5py.File, name: str, datasets: str | Mapping[Any, str], labels: str | None
) -> dict[Any, NDArray[np.float64]]:
    if isinstance(datasets, str) and labels is not None:
        return split(_dataset(file, name, datasets), _dataset(file, name, labels))
    if isinstance(datasets, str):
        datasets = _matching(file, name, datasets)
    return {unit: _dataset(file, name, where) for unit, where in datasets.items()}


def _matching(file: h5py.File, name: str, pattern: str) -> dict[Any, str]:
    """The datasets that fit a pattern, by unit; numbered units in the order of their numbers."""
    if pattern.count("{unit}") != 1:
        raise ValueError(
            f"the pattern {pattern!r} must hold {{unit}} once, e.g. 'units/{{unit}}/spike_times'."
        )
    before, after = pattern.strip("/").split("{unit}")
    expression = re.compile(re.escape(before) + "([^/]+)" + re.escape(after))
    found = {match[1]: where for where in _paths(file) if (match := expression.fullmatch(where))}
    if not found:
        raise ValueError(f"no dataset of {name} fits {pattern!r}; it holds {_listing(file)}.")
    if all(unit.isdecimal() for unit in found):
        return {int(unit): found[unit] for unit in sorted(found, key=int)}
    return found


def _dataset(file: h5py.File, name: str, where: str) -> NDArray[Any]:
    if not isinstance(file.get(where), h5py.Dataset):
        raise ValueError(f"{name} has no dataset {where!r}; it holds {_listing(file)}.")
    item = file[where]
    return np.asarray(item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()])


def _paths(file: h5py.File) -> list[str]:
    paths: list[str] = []
    file.visititems(lambda where, item: paths.append(where) if isinstance(item, h5py.Dataset) else None)
    return paths


def _listing(file: h5py.File, most: int = 8) -> str:
    paths = _paths(file)
    return (
        ", ".join(paths[:most]) + (f" and {len(paths) - most} more" if len(paths) > most else "")
        or "no datasets"
    )
