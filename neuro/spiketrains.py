"""Spike trains: the times of many units, checked and put into one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .assembly import Table

Times = NDArray[np.float64]


@dataclass(frozen=True)
class SpikeTrains:
    """What a file of sorted spikes holds; :func:`cerebridge.neuro.spikes.count` takes it as it is.

    Attributes
    ----------
    times
        Spike times in seconds by unit.
    neuroid
        One row a unit: ``neuroid_id``, and what the file says of it (``region``, ``x y z`` in mm, quality, …).
    events
        Trials or stimulus presentations with ``onset`` and ``duration`` in seconds, where the file has them.
    start, stop
        The recorded interval in seconds; ``stop`` is ``None`` where the file does not tell.
    observed
        Intervals (n × 2, seconds) by unit during which it was observed, where the file tells; counts outside are
        missing, not zero.
    provenance
        Where the spikes came from.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from cerebridge.neuro import spikes
    >>> spikes.SpikeTrains({"a": np.array([0.1, 0.4])}, pd.DataFrame({"neuroid_id": ["a"], "region": ["V1"]}))
    <SpikeTrains: 1 units, 2 spikes, no events>
    """

    times: Mapping[Any, Times]
    neuroid: pd.DataFrame
    events: pd.DataFrame | None = None
    start: float = 0.0
    stop: float | None = None
    observed: Mapping[Any, NDArray[np.float64]] | None = None
    provenance: str = ""

    def __repr__(self) -> str:
        """One line."""
        spikes = sum(map(len, self.times.values()))
        events = "no events" if self.events is None else f"{len(self.events)} events"
        return f"<SpikeTrains: {len(self.neuroid)} units, {spikes} spikes, {events}>"


def gather(
    spike_times: Any, labels: Any, neuroid: Table | None, sort: bool, start: float
) -> tuple[Times, NDArray[np.int64], pd.DataFrame]:
    """Bring spike times of any form into one flat order.

    Parameters
    ----------
    spike_times, labels, neuroid, sort
        As in :func:`cerebridge.neuro.spikes.count`.
    start
        Where the clock begins; if it is not negative, no spike may be.

    Returns
    -------
    times : ndarray of float
        The spikes of all units, one unit after the other.
    unit : ndarray of int
        The row of ``table`` that each spike belongs to.
    table : pandas.DataFrame
        The units.

    Raises
    ------
    TypeError, ValueError
        Naming the unit whose times are wrong, or the unit that fits no row.
    """
    if labels is not None:
        trains: Mapping[Any, Any] = split(spike_times, labels)
    elif isinstance(spike_times, Mapping):
        trains = spike_times
    elif _is_one_train(spike_times):
        trains = {0: spike_times}
    elif isinstance(spike_times, Sequence | np.ndarray):
        trains = dict(enumerate(spike_times))
    else:
        raise TypeError(
            f"spike_times is a {type(spike_times).__name__}; give a mapping of unit to times, a list of arrays, or "
            "all times with labels=."
        )
    by_name = labels is not None or isinstance(spike_times, Mapping)
    table, rows = _rows(list(trains), neuroid, by_name)
    names = table["neuroid_id"].tolist()
    checked = [
        _seconds(train, names[row], sort, start) for train, row in zip(trains.values(), rows, strict=True)
    ]
    sizes = np.array([len(times) for times in checked], dtype=np.int64)
    units = np.repeat(np.array(rows, dtype=np.int64), sizes)
    return np.concatenate([np.empty(0), *checked]), units, table


def _is_one_train(spike_times: Any) -> bool:
    if isinstance(spike_times, list | tuple):
        return len(spike_times) > 0 and all(isinstance(time, Real) for time in spike_times)
    numeric = getattr(getattr(spike_times, "dtype", None), "kind", "O") != "O"
    return (numeric and spike_times.ndim == 1) or callable(getattr(spike_times, "times", None))


def split(times: Any, labels: Any) -> dict[Any, Any]:
    """One train for each label, in the order of the labels."""
    times, labels = np.asarray(times), np.asarray(labels)
    if times.ndim != 1 or labels.shape != times.shape:
        raise ValueError(
            f"there are {times.size} spike times and {labels.size} labels; give one label a spike."
        )
    absent = pd.isna(labels)
    if absent.any():
        raise ValueError(
            f"the label of spike {int(np.flatnonzero(absent)[0])} is missing; every spike needs a unit."
        )
    units, codes, n = np.unique(labels, return_inverse=True, return_counts=True)
    by_unit, ends = times[np.argsort(codes, kind="stable")], np.cumsum(n)
    return {unit: by_unit[end - size : end] for unit, size, end in zip(units.tolist(), n, ends, strict=True)}


def _rows(units: list[Any], neuroid: Table | None, by_name: bool) -> tuple[pd.DataFrame, list[int]]:
    """The table of units, and the row of each train in it: that of its name, or of its place where it has none."""
    if neuroid is None:
        neuroid = {"neuroid_id": units}
    scalars = isinstance(neuroid, Mapping) and all(np.ndim(column) == 0 for column in neuroid.values())
    table = pd.DataFrame(neuroid, index=range(len(units)) if scalars else None).reset_index(drop=True)
    by_name = by_name and "neuroid_id" in table
    if not by_name and len(table) != len(units):
        raise ValueError(f"the neuroid table has {len(table)} rows for {len(units)} units; give one a unit.")
    if "neuroid_id" not in table:
        table["neuroid_id"] = units
    if len(table) == 0:
        raise ValueError("there are no units; check the selection that led to these spikes.")
    names = table["neuroid_id"]
    if names.duplicated().any():
        twice = names[names.duplicated()].iloc[0]
        raise ValueError(
            f"the unit {twice!r} occurs more than once in the neuroid table; ids must be unique."
        )
    if not by_name:
        return table, list(range(len(units)))
    row = {name: k for k, name in enumerate(names.tolist())}
    strangers = [unit for unit in units if unit not in row]
    if strangers:
        raise ValueError(
            f"the unit {strangers[0]!r} has spikes but no row in the neuroid table ({len(strangers)} such units); add "
            "it, or check that ids have the same type on both sides."
        )
    return table, [row[unit] for unit in units]


def _seconds(times: Any, unit: Any, sort: bool, start: float) -> Times:
    """The checked times of one unit; neo's are converted from their unit, pynapple's are seconds."""
    if hasattr(times, "rescale"):
        times = times.rescale("s").magnitude
    elif callable(getattr(times, "times", None)):
        times = times.times()
    values = np.asarray(times)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "fiu"):
        raise TypeError(
            f"the spike times of unit {unit!r} are {values.ndim}-dimensional of type {values.dtype}; give a flat array "
            "of seconds."
        )
    values = values.astype(float)
    if not np.isfinite(values).all():
        k = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"spike {k} of unit {unit!r} has no time ({values[k]}); remove it.")
    if not sort and (np.diff(values) < 0).any():
        k = int(np.flatnonzero(np.diff(values) < 0)[0]) + 1
        raise ValueError(
            f"the spike times of unit {unit!r} are unsorted: spike {k} is at {values[k]:g} s, the one before at "
            f"{values[k - 1]:g} s; sort=True accepts them."
        )
    if start >= 0 and (values < 0).any():
        raise ValueError(
            f"unit {unit!r} has a negative spike time, {values.min():g} s; give start= where the clock begins before 0."
        )
    return values
