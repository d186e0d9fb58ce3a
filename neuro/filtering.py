"""Filters of continuous recordings that stop at the borders of runs."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .assembly import validate
from .runs import runs_of


def band_pass(array: xr.DataArray, low: float | None, high: float | None) -> xr.DataArray:
    """Keep a band of frequencies of every unit, without a shift in time, run by run.

    Parameters
    ----------
    array
        ``time_bin × neuroid`` with the attribute ``sfreq``.
    low, high
        Edges of the band in Hz; ``None`` leaves that side open. A zero-phase FIR filter of MNE's default design.

    Returns
    -------
    xarray.DataArray
        The same array with other values.

    Raises
    ------
    ValueError
        If the array is not continuous, or the band does not fit its sampling.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.neuro.filtering import band_pass
    >>> start = np.arange(400) / 100
    >>> times = {"time_bin_start": start, "time_bin_end": start + 0.01}
    >>> slow, fast = np.sin(2 * np.pi * 2 * start), np.sin(2 * np.pi * 30 * start)
    >>> units = {"neuroid_id": ["slow", "fast"]}
    >>> values = np.stack([slow, fast], axis=1)
    >>> array = neuro.assemble(values, time_bin=times, neuroid=units, modality="eeg", units="V", sfreq=100.0)
    >>> (band_pass(array, None, 10).std("time_bin") > 0.5).values.tolist()
    [True, False]
    """
    import mne

    _check_continuous(array)
    sfreq = float(array.attrs["sfreq"])
    for name, edge in (("low", low), ("high", high)):
        if edge is not None and not 0 < edge < sfreq / 2:
            raise ValueError(
                f"{name}={edge:g} Hz is not between 0 and {sfreq / 2:g} Hz, half the sampling rate; "
                "choose another edge."
            )
    values = np.array(array.values, dtype=np.float64)
    for rows in _runs(array):
        values[rows] = mne.filter.filter_data(values[rows].T.copy(), sfreq, low, high, verbose="error").T
    return array.copy(data=values)


def standardize(array: xr.DataArray) -> xr.DataArray:
    """Zero mean and unit variance of every unit in each run; a unit that is constant in a run becomes zero there.

    Parameters
    ----------
    array
        ``time_bin × neuroid``.

    Returns
    -------
    xarray.DataArray
        The same array with other values, in units of their standard deviation.

    Raises
    ------
    ValueError
        If the array is not continuous.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.neuro.filtering import standardize
    >>> start = np.arange(4.0)
    >>> times = {"time_bin_start": start, "time_bin_end": start + 1, "run": [0, 0, 1, 1]}
    >>> array = neuro.assemble(
    ...     [[1], [3], [5], [5]], time_bin=times, neuroid={"neuroid_id": [0]}, modality="eeg", units="V", sfreq=1.0
    ... )
    >>> standardize(array).values[:, 0].tolist()
    [-1.0, 1.0, 0.0, 0.0]
    """
    _check_continuous(array)
    values = np.array(array.values, dtype=np.float64)
    for rows in _runs(array):
        here = values[rows]
        spread = here.std(axis=0)
        values[rows] = (here - here.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return array.copy(data=values).assign_attrs(units="z")


def _runs(array: xr.DataArray) -> list[NDArray[np.intp]]:
    """Rows of each run; a recording without runs is one."""
    if "run" not in array.coords:
        return [np.arange(len(array))]
    return [rows for _, rows in runs_of(array)]


def _check_continuous(array: xr.DataArray) -> None:
    if validate(array).dims[0] != "time_bin":
        raise ValueError(
            f"the array is {' × '.join(map(str, array.dims))}, not time_bin × neuroid; filter before cutting trials."
        )
