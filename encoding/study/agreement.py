"""The agreement analysis: dissimilarities over time in groups of units, and how alike the groups are at each time."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ...neuro import average_repeats
from .. import rsa
from ..audit import fingerprint, versions
from .decoding import PLACE
from .graph import Inputs


def agree(settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> xr.Dataset:
    """Comparisons of the groups' dissimilarities, time bin by time bin.

    Parameters
    ----------
    settings
        The analysis' options.
    inputs
        ``"recording"``, presentation × neuroid × time_bin.

    Returns
    -------
    xarray.Dataset
        ``score`` (pairs of groups × 1 × time), ``rdm`` (group × time × pair), and where maps were asked for
        ``map`` (moment × stimulus × place), the mean of the bin around each moment.

    Raises
    ------
    ValueError
        If there are no time bins, fewer than two groups or three conditions, or a moment is not recorded.
    """
    array = _binned(average_repeats(inputs["recording"]), settings["width"])
    groups = _groups(array, settings["by"])
    rdms = rsa.rdm(array, settings["dissimilarity"], by=settings["by"])
    n_times, pair = (
        array.sizes["time_bin"],
        {name: ("pair", rdms.coords[name].values) for name in ("stimulus_a", "stimulus_b")},
    )
    cube = rdms.values.reshape(len(groups), n_times, -1)
    pairs = list(combinations(range(len(groups)), 2))
    scores = np.array([rsa.compare(cube[a], cube[b], settings["comparison"]).diagonal() for a, b in pairs])
    dataset = xr.Dataset(
        {"score": (("model", "split", "unit"), scores[:, None]), "rdm": (("group", "unit", "pair"), cube)},
        {
            "model": [f"{groups[a]} – {groups[b]}" for a, b in pairs],
            "split": [0],
            "group": groups,
            "neuroid_id": ("unit", np.arange(n_times)),
            **{name: ("unit", array.coords[name].values) for name in ("time_bin_start", "time_bin_end")},
            **pair,
        },
    )
    if settings["maps"]:
        dataset = dataset.assign(_maps(array, settings["maps"]))
    dataset.attrs.update(
        scoring=settings["comparison"],
        chance=0.0,
        unit_kind="rdm",
        no_ceiling=_why_no_ceiling(inputs["recording"]),
        audit={
            "fitted_on": "nothing is fitted",
            "pairs": f"{cube.shape[-1]} dissimilarities of {array.sizes['presentation']} conditions",
            "width": f"{1000 * settings['width']:g} ms are averaged into one bin",
        },
        provenance={"responses": fingerprint(inputs["recording"].values), "versions": versions()},
    )
    return dataset


def _binned(array: xr.DataArray, width: float) -> xr.DataArray:
    """Means over consecutive bins of ``width`` seconds, one edge at 0; incomplete bins at the ends are left out."""
    if "time_bin" not in array.dims:
        raise ValueError("agreement over time needs a recording with time bins.")
    start, end = array.coords["time_bin_start"].values, array.coords["time_bin_end"].values
    bins = np.floor((start + end) / 2 / width + 1e-9).astype(int)
    counts = pd.Series(bins).value_counts()
    kept = [number for number in np.unique(bins) if counts[number] >= 0.9 * counts.max()]
    parts = [
        array.isel(time_bin=np.flatnonzero(bins == number)).mean("time_bin", keep_attrs=True)
        for number in kept
    ]
    edges = np.array(kept) * width
    joined = xr.concat(parts, "time_bin").transpose(*array.dims)
    return joined.assign_coords(time_bin_start=("time_bin", edges), time_bin_end=("time_bin", edges + width))


def _groups(array: xr.DataArray, by: str) -> list[str]:
    if by not in array.coords or array.coords[by].dims != ("neuroid",):
        known = sorted(str(name) for name, coord in array.coords.items() if coord.dims == ("neuroid",))
        raise ValueError(f"the recording has no label {by!r} of units; it has {', '.join(known)}.")
    groups = [str(label) for label in pd.unique(array.coords[by].values)]
    if len(groups) < 2:
        raise ValueError(f"all units have {by} = {groups[0]!r}; agreement needs at least two groups.")
    if array.sizes["presentation"] < 3:
        raise ValueError(
            f"{array.sizes['presentation']} conditions have too few dissimilarities to compare; at least 3."
        )
    return groups


def _maps(array: xr.DataArray, moments: list[float]) -> xr.Dataset:
    start, end = array.coords["time_bin_start"].values, array.coords["time_bin_end"].values
    rows = []
    for moment in moments:
        inside = np.flatnonzero((start <= moment) & (moment < end))
        if not inside.size:
            raise ValueError(
                f"maps names {moment} s, but the recording goes from {start.min():g} to {end.max():g} s."
            )
        rows.append(array.values[:, :, inside[0]])
    place = {
        f"place_{name}": ("place", array.coords[name].values)
        for name in (*PLACE, "units")
        if name in array.coords
    }
    attrs = {name: array.attrs[name] for name in ("modality", "dev_head_t") if name in array.attrs}
    return xr.Dataset(
        {"map": (("moment", "stimulus", "place"), np.stack(rows), attrs)},
        {"moment": list(moments), "stimulus": array.coords["stimulus_id"].values.astype(str), **place},
    )


def _why_no_ceiling(recording: xr.DataArray) -> str:
    ids = recording.coords["stimulus_id"].values
    n = len(ids)
    if len(pd.unique(ids)) < n:
        return "the noise of each group is unknown in the agreement of two, so it has no noise ceiling"
    repeats = recording.coords["n_repeats"].values.tolist() if "n_repeats" in recording.coords else []
    made_of = f" (averages of {', '.join(map(str, repeats))} trials)" if repeats else ""
    return f"the recording holds {n} responses{made_of} without single repeats, so there is no noise ceiling and no p"
