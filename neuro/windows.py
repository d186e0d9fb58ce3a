"""Windows around events and bins in them, exact to the nanosecond."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .assembly import Table

Ticks = NDArray[np.int64]
Window = tuple[float, float]


def to_ticks(seconds: Any) -> Ticks:
    """Round times to whole nanoseconds, so that 0.1 + 0.2 s and 0.3 s are the same edge in every comparison."""
    return np.rint(np.asarray(seconds, dtype=float) * 1e9).astype(np.int64)


def make_edges(start: float, stop: float, bin_size: float | None, whole: bool) -> Ticks:
    """Edges of the bins from ``start`` to ``stop``, each computed from ``start`` and not from the one before.

    Parameters
    ----------
    start, stop
        Seconds.
    bin_size
        Seconds; ``None`` is one bin.
    whole
        Whether the bins must fill the window. Otherwise a last incomplete bin is left out.

    Returns
    -------
    ndarray of int64
        One edge more than bins, nanoseconds.

    Raises
    ------
    ValueError
        If the window is empty, or the bins do not fit.

    Examples
    --------
    >>> make_edges(0.0, 0.3, 0.1, whole=True).tolist()
    [0, 100000000, 200000000, 300000000]
    """
    if not start < stop:
        raise ValueError(f"the window from {start:g} to {stop:g} s is empty; it must end after it starts.")
    if bin_size is None:
        return to_ticks([start, stop])
    if not bin_size > 0:
        raise ValueError(f"bin_size is {bin_size!r}; it must be a positive number of seconds.")
    n_bins = (stop - start) / bin_size
    if abs(n_bins - round(n_bins)) < 1e-6:
        n_bins = round(n_bins)
    elif whole:
        raise ValueError(
            f"the window of {stop - start:g} s holds {n_bins:.3g} bins of {bin_size:g} s; choose a bin_size that "
            "divides it."
        )
    if n_bins < 1:
        raise ValueError(
            f"no bin of {bin_size:g} s fits between {start:g} and {stop:g} s; choose a smaller one."
        )
    return to_ticks(start + np.arange(int(n_bins) + 1) * bin_size)


def find_members(times: Ticks, onsets: Ticks, edges: Ticks) -> tuple[NDArray[np.int64], ...]:
    """Find the windows and bins that each time falls into; windows may overlap, bins are half open.

    Parameters
    ----------
    times
        In any order.
    onsets
        One a window, in any order.
    edges
        Of the bins, relative to the onset.

    Returns
    -------
    time, window, bin : ndarray of int64
        One entry for every pair of a time and a window that holds it.

    Examples
    --------
    >>> [found.tolist() for found in find_members(np.array([5, 9]), np.array([0, 4]), np.array([0, 3, 6]))]
    [[0, 0, 1], [0, 1, 1], [1, 0, 1]]
    """
    order = np.argsort(onsets, kind="stable")
    begins = onsets[order] + edges[0]
    ended = np.searchsorted(begins, times - (edges[-1] - edges[0]), side="right")
    n = np.searchsorted(begins, times, side="right") - ended
    time = np.repeat(np.arange(len(times)), n)
    within = np.arange(len(time)) - np.repeat(np.cumsum(n) - n, n)
    window = order[np.repeat(ended, n) + within]
    return time, window, np.searchsorted(edges, times[time] - onsets[window], side="right") - 1


def describe_bins(edges: Ticks) -> dict[str, Any]:
    """The time_bin table of bins."""
    return {"time_bin_start": edges[:-1] / 1e9, "time_bin_end": edges[1:] / 1e9}


def describe_events(events: Table, stimulus_id: str) -> pd.DataFrame:
    """Check a table of events and make it the presentation table.

    Parameters
    ----------
    events
        One row an event, with ``onset`` in seconds and a column that identifies the stimulus.
    stimulus_id
        The name of that column.

    Returns
    -------
    pandas.DataFrame
        All columns of ``events``, with ``stimulus_id`` and ``repetition`` (0, 1, … within a stimulus).

    Raises
    ------
    ValueError
        If a column or an onset is missing.
    """
    table = pd.DataFrame(dict(events) if isinstance(events, Mapping) else events).reset_index(drop=True)
    for column in ("onset", stimulus_id):
        if column not in table:
            raise ValueError(
                f"the events have no column {column!r}, only {', '.join(map(str, table.columns))}; 'onset' is in "
                "seconds, and stimulus_id= names the column that identifies the stimulus."
            )
    if len(table) == 0:
        raise ValueError("the events have no rows; check the selection that led to them.")
    onset = pd.to_numeric(table["onset"], errors="coerce")
    if not np.isfinite(onset).all():
        row = int(np.flatnonzero(~np.isfinite(onset))[0])
        raise ValueError(f"the onset of event {row} is {table['onset'][row]}; every event needs its seconds.")
    table = table.assign(onset=onset.astype(float), stimulus_id=table[stimulus_id])
    if "repetition" not in table:
        table["repetition"] = table.groupby("stimulus_id").cumcount()
    return table


def check_inside(table: pd.DataFrame, window: Window, start: float, stop: float | None, last: float) -> None:
    """Refuse events whose window leaves the recording.

    Parameters
    ----------
    table
        What :func:`describe_events` gives.
    window, start, stop
        Seconds; the window is relative to the onset.
    last
        The last time that was recorded for certain. Where ``stop`` is unknown no window may begin after it.

    Raises
    ------
    ValueError
        Naming the first such event.
    """
    begins, ends = to_ticks(table["onset"] + window[0]), to_ticks(table["onset"] + window[1])
    late = begins > to_ticks(last) if stop is None else ends > to_ticks(stop)
    outside = np.flatnonzero((begins < to_ticks(start)) | late)
    if outside.size:
        row = int(outside[0])
        end = f"the last spike at {last:g} s (stop= says if it went on)" if stop is None else f"{stop:g} s"
        raise ValueError(
            f"{outside.size} events leave the recording, which lasts from {start:g} s to {end}: the window of "
            f"event {row} (stimulus {table['stimulus_id'][row]!r}) is {begins[row] / 1e9:g} to {ends[row] / 1e9:g} s; "
            "leave them out."
        )
