"""Calcium and other traces: frames as they are, in even bins, or cut around events."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from .assembly import Table, assemble
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

Floats = NDArray[np.float64]


def from_traces(
    traces: Any,
    times: Any,
    *,
    bin_size: float | None = None,
    events: Table | None = None,
    window: Window | None = None,
    neuroid: Table | None = None,
    method: Literal["mean", "linear"] = "mean",
    units: str = "a.u.",
    modality: str = "calcium",
    stimulus_id: str = "stimulus_id",
    provenance: str = "",
) -> xr.DataArray:
    """Turn fluorescence (or any other) traces into an array.

    Parameters
    ----------
    traces
        ``time × neuron``; one axis is a single neuron. NaN is missing.
    times
        Seconds at which the frames begin, increasing, at any spacing.
    bin_size
        Seconds. ``None`` without events keeps the frames as they are; with events it makes one bin of the window.
    events, window, stimulus_id
        As in :func:`cerebridge.neuro.spikes.count`.
    neuroid
        Properties of the neurons, one row each; ``neuroid_id`` is 0, 1, … where the table has none.
    method
        How bins are filled. ``"mean"`` (default): the mean of the frames that begin in the bin, missing values left
        out. ``"linear"``: the value at the middle of the bin, interpolated between two frames (after the last frame:
        that frame's); pauses longer than three frames and two bins are refused, not bridged.
    units, modality, provenance
        As in :func:`cerebridge.neuro.assemble`.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid`` or, with events, ``presentation × neuroid [× time_bin]``. ``attrs["sfreq"]`` is given
        where frames are evenly spaced to 1 %; ``attrs["resampling"]`` says how bins were filled.

    Raises
    ------
    ValueError
        If times do not fit or do not increase, a window leaves the recording, a bin would be empty, or all traces
        are constant or missing; some such traces are a warning.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.neuro import spikes
    >>> frames = np.arange(12.0).reshape(6, 2)
    >>> spikes.from_traces(frames, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], bin_size=0.2).values.tolist()
    [[1.0, 2.0], [5.0, 6.0], [9.0, 10.0]]
    """
    values, clock = _check(traces, times)
    if method not in ("mean", "linear"):
        raise ValueError(f"method is {method!r}; it must be 'mean' or 'linear'.")
    table = {"neuroid_id": np.arange(values.shape[1])} | ({} if neuroid is None else dict(neuroid))
    labels: dict[str, Any] = {
        "neuroid": table,
        "modality": modality,
        "units": units,
        "provenance": provenance,
    }
    frame = float(np.median(np.diff(clock)))
    stop = float(clock[-1]) + frame
    if events is None and window is not None:
        raise ValueError("window needs events, the onsets that it is relative to.")
    if events is None and bin_size is None:
        bins = {"time_bin_start": clock, "time_bin_end": np.r_[clock[1:], stop]}
        even = np.abs(np.diff(clock) / frame - 1).max() < 0.01
        return _warned(assemble(values, time_bin=bins, sfreq=1 / frame if even else None, **labels))
    if events is None:
        edges, onsets = make_edges(float(clock[0]), stop, bin_size, whole=False), np.zeros(1, np.int64)
        labels["sfreq"] = 1 / bin_size if bin_size else None
    else:
        if window is None:
            raise ValueError(
                "cutting around events needs window=(from, to) in seconds relative to the onset."
            )
        edges = make_edges(*window, bin_size, whole=True)
        labels["presentation"] = describe_events(events, stimulus_id)
        check_inside(labels["presentation"], window, float(clock[0]), stop, stop)
        onsets = to_ticks(labels["presentation"]["onset"])
    binned = (_mean if method == "mean" else _interpolate)(values, clock, onsets, edges).transpose(0, 2, 1)
    if bin_size is not None:
        labels["time_bin"] = describe_bins(edges)
    if events is None:
        binned = binned[0].T
    array = assemble(binned if bin_size is not None else binned[:, :, 0], **labels)
    array.attrs["resampling"] = (
        "mean of frames" if method == "mean" else "linear interpolation at the middle of bins"
    )
    return _warned(array)


def _check(traces: Any, times: Any) -> tuple[Floats, Floats]:
    values, clock = np.asarray(traces, dtype=float), np.asarray(times, dtype=float)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or clock.shape != values.shape[:1]:
        turned = " (they look turned around: give traces.T)" if values.shape[1:] == clock.shape else ""
        raise ValueError(f"traces are {values.shape} for {clock.size} times; the first axis is time{turned}.")
    if len(clock) < 2:
        raise ValueError(f"there are {len(clock)} frames; a trace needs two or more.")
    wrong = np.flatnonzero(~(np.diff(clock) > 0))
    if wrong.size:
        k = int(wrong[0]) + 1
        raise ValueError(f"times must increase, but frame {k} is at {clock[k]:g} s after {clock[k - 1]:g} s.")
    still = ~(np.fmax.reduce(values) > np.fmin.reduce(values))
    if still.all():
        raise ValueError(f"all {len(still)} traces are constant or missing; nothing was recorded.")
    return values, clock


def _warned(array: xr.DataArray) -> xr.DataArray:
    """Warn of neurons whose values never change."""
    values = array.values.swapaxes(0, array.dims.index("neuroid")).reshape(array.sizes["neuroid"], -1)
    still = ~(np.fmax.reduce(values, axis=1) > np.fmin.reduce(values, axis=1))
    if values.shape[1] > 1 and still.any():
        names = ", ".join(map(str, array.neuroid_id.values[still][:5]))
        warnings.warn(
            f"{still.sum()} traces are constant or missing ({names}); leave them out with isel.", stacklevel=3
        )
    return array


def _mean(values: Floats, clock: Floats, onsets: Ticks, edges: Ticks) -> Floats:
    """Means of the frames in each bin, window × bin × neuron."""
    shape = (len(onsets), len(edges) - 1)
    frame, window, bins = find_members(to_ticks(clock), onsets, edges)
    rows = window * shape[1] + bins
    belongs = sparse.csr_array((np.ones(len(frame)), (rows, frame)), shape=(shape[0] * shape[1], len(clock)))
    empty = np.flatnonzero(np.bincount(rows, minlength=belongs.shape[0]) == 0)
    if empty.size:
        k, b = divmod(int(empty[0]), shape[1])
        begin, end = (onsets[k] + edges[b]) / 1e9, (onsets[k] + edges[b + 1]) / 1e9
        raise ValueError(
            f"no frame begins between {begin:g} and {end:g} s ({empty.size} such bins); choose a larger bin_size or "
            "method='linear'."
        )
    present = ~np.isnan(values)
    n = belongs @ present.astype(float)
    total = belongs @ np.where(present, values, 0.0)
    return np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0).reshape(*shape, -1)


def _interpolate(values: Floats, clock: Floats, onsets: Ticks, edges: Ticks) -> Floats:
    """Values at the middle of each bin, window × bin × neuron; pauses of the recording are not bridged."""
    middle = (onsets[:, None] + (edges[:-1] + edges[1:]) / 2) / 1e9
    left = np.clip(np.searchsorted(clock, middle, side="right") - 1, 0, len(clock) - 2)
    gap = clock[left + 1] - clock[left]
    longest = max(3 * np.median(np.diff(clock)), 2 * (edges[1] - edges[0]) / 1e9)
    bridged = np.flatnonzero((gap > longest) & (middle > clock[left]))
    if bridged.size:
        at = int(left.ravel()[bridged[0]])
        raise ValueError(
            f"the recording pauses from {clock[at]:g} to {clock[at + 1]:g} s, which interpolation would bridge "
            f"({bridged.size} such bins); leave out what lies there."
        )
    weight = np.clip((middle - clock[left]) / gap, 0.0, 1.0)[..., None]
    return (1 - weight) * values[left] + weight * values[left + 1]
