"""Matrices of a layered model: its layers by the areas of the brain, and by time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .results import Result, mean_of_known

Array = NDArray[np.float64]


def layer_by_area(result: Result, by: str = "region") -> xr.DataArray:
    """Mean score of every layer on the units of every area.

    Parameters
    ----------
    result
        Scores of layers (models) on units.
    by
        Label of units that names their area.

    Returns
    -------
    xarray.DataArray
        ``model × area``, mean over folds and units; areas in the order of their first unit.

    Raises
    ------
    ValueError
        If the units have no such label.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(n_stimuli=60, n_units=4, random_state=0)
    >>> result = encoding.evaluate(encoding.RidgeCV(), {"one": brain, "two": brain[:, :2]}, brain, cv=3)
    >>> encoding.likeness.layer_by_area(result, by="neuroid_id").dims
    ('model', 'area')
    """
    scores = result.unit_scores()
    labels = labels_of(scores, by)
    areas = pd.unique(labels)
    means = np.stack([mean_of_known(scores.values[:, labels == area], 1) for area in areas], axis=1)
    return xr.DataArray(
        means, {"model": scores["model"].values, "area": areas}, ("model", "area"), attrs=scoring_of(result)
    )


def layer_by_time(result: Result) -> xr.DataArray:
    """Mean score of every layer at every time, over channels.

    Parameters
    ----------
    result
        Scores of layers (models) on channels × time bins.

    Returns
    -------
    xarray.DataArray
        ``model × time_bin``, with ``time_bin_start`` and ``time_bin_end`` in seconds.

    Raises
    ------
    ValueError
        If the units have no times.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(modality="eeg", n_stimuli=30, n_units=4, random_state=0)
    >>> result = encoding.evaluate(encoding.RidgeCV(), brain.mean("time_bin", keep_attrs=True), brain, cv=3)
    >>> encoding.likeness.layer_by_time(result).sizes["time_bin"] == brain.sizes["time_bin"]
    True
    """
    scores = result.unit_scores()
    starts = labels_of(scores, "time_bin_start")
    times = np.unique(starts)
    means = np.stack([mean_of_known(scores.values[:, starts == time], 1) for time in times], axis=1)
    ends = [scores["time_bin_end"].values[starts == time][0] for time in times]
    coords = {
        "model": scores["model"].values,
        "time_bin_start": ("time_bin", times),
        "time_bin_end": ("time_bin", ends),
    }
    return xr.DataArray(means, coords, ("model", "time_bin"), attrs=scoring_of(result))


def labels_of(scores: xr.DataArray, by: str) -> NDArray[Any]:
    """The label ``by`` of every unit, or a ``ValueError`` that says which labels there are."""
    if by not in scores.coords:
        known = sorted(str(name) for name, coord in scores.coords.items() if coord.dims == ("unit",))
        raise ValueError(f"the units have no label {by!r}; there are {known}.")
    return np.asarray(scores[by].values)


def scoring_of(result: Result) -> dict[str, Any]:
    """What the scores of a result are, for the attributes of what is computed from it."""
    return {
        name: result.dataset.attrs[name] for name in ("scoring", "chance") if name in result.dataset.attrs
    }
