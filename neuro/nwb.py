"""NWB files through pynwb: sorted units, the electrodes they were seen on, and the trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .spiketrains import SpikeTrains


def read_nwb(path: Path, intervals: str = "trials") -> SpikeTrains:
    """Read the units of an NWB file.

    Parameters
    ----------
    path
        The file.
    intervals
        The table of intervals whose rows are the events; a file without ``"trials"`` simply has no events.

    Returns
    -------
    SpikeTrains
        ``neuroid``: the flat columns of the units table; ``region`` (location of the unit's electrodes) and
        ``x y z`` (mean position in mm) where the file links them. ``events``: the flat columns of the table, with
        ``onset`` and ``duration`` for ``start_time`` and ``stop_time``. ``observed``: ``obs_intervals``.

    Raises
    ------
    ImportError
        If pynwb is not installed.
    ValueError
        If there are no units, ids are duplicated, or there is no such table.
    """
    try:
        import pynwb
    except ImportError:
        raise ImportError(
            "reading NWB needs pynwb; install it with: pip install 'cerebridge[spikes]'."
        ) from None
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        file = io.read()
        if file.units is None or "spike_times" not in file.units.colnames or not len(file.units):
            raise ValueError(f"{path.name} holds no sorted units; read what it holds with pynwb.")
        ids = [int(unit) for unit in file.units.id[:]]
        twice = pd.Series(ids).duplicated()
        if twice.any():
            raise ValueError(
                f"the unit id {ids[int(np.flatnonzero(twice)[0])]} occurs twice in {path.name}; repair the file."
            )
        neuroid = pd.DataFrame({"neuroid_id": ids} | _flat_columns(file.units))
        for name, column in _electrodes(file).items():
            if name not in neuroid:
                neuroid[name] = column
        events = _events(file, path.name, intervals)
        times = dict(zip(ids, _ragged(file.units["spike_times"]), strict=True))
        observed = None
        start, stop = 0.0, None
        if "obs_intervals" in file.units.colnames:
            seen = _ragged(file.units["obs_intervals"])
            observed = {unit: part for unit, part in zip(ids, seen, strict=True) if len(part)}
    if observed:
        start = min(float(part[:, 0].min()) for part in observed.values())
        stop = max(float(part[:, 1].max()) for part in observed.values())
    return SpikeTrains(times, neuroid, events, start, stop, observed or None, provenance=path.name)


def _ragged(column: Any) -> list[NDArray[Any]]:
    """One array a row."""
    return np.split(np.asarray(column.target.data[:]), np.asarray(column.data[:])[:-1].astype(int))


def _flat_columns(table: Any) -> dict[str, NDArray[Any]]:
    """The columns that hold one number or text a row; waveforms, ragged columns and references are left out."""
    columns = {}
    for name in table.colnames:
        column = table[name]
        values = (
            np.asarray(column.data[:])
            if not hasattr(column, "target") and not hasattr(column, "table")
            else None
        )
        if values is not None and values.ndim == 1 and (values.dtype.kind in "fiubU" or _is_text(values)):
            columns[name] = values
    return columns


def _is_text(values: NDArray[Any]) -> bool:
    return values.dtype == object and all(isinstance(value, str) for value in values)


def _electrodes(file: Any) -> dict[str, Any]:
    """Region and position of each unit, from the electrodes that it was seen on."""
    if "electrodes" not in file.units.colnames:
        return {}
    column = file.units["electrodes"]
    ragged = hasattr(column, "target")
    table = (column.target if ragged else column).table
    rows = _ragged(column) if ragged else np.asarray(column.data[:])[:, None]
    found: dict[str, Any] = {}
    if "location" in table.colnames:
        location = np.asarray(table["location"].data[:], dtype=object)
        found["region"] = ["; ".join(dict.fromkeys(map(str, location[row]))) for row in rows]
    for axis in ("x", "y", "z"):
        if axis in table.colnames:
            micrometres = np.asarray(table[axis].data[:], dtype=float)
            found[axis] = [micrometres[row].mean() / 1000 if len(row) else np.nan for row in rows]
    return found


def _events(file: Any, name: str, intervals: str) -> pd.DataFrame | None:
    tables = dict(file.intervals or {})
    if file.trials is not None:
        tables["trials"] = file.trials
    if intervals not in tables:
        if intervals == "trials":
            return None
        raise ValueError(
            f"{name} has no table of intervals {intervals!r}; it has {', '.join(tables) or 'none'}."
        )
    columns = _flat_columns(tables[intervals])
    onset, end = columns.pop("start_time"), columns.pop("stop_time")
    return pd.DataFrame({"onset": onset, "duration": end - onset} | columns)
