"""From volumes to blocks, and from voxels to reliable voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .assembly import validate
from .runs import runs_of


def block_means(array: xr.DataArray) -> xr.DataArray:
    """Average the volumes of every block.

    Parameters
    ----------
    array
        Continuous, ``time_bin × neuroid``, with ``run`` and ``block`` (-1 outside blocks) along ``time_bin``, as
        :func:`read` gives it with events.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``, one row a block in order of time. Along ``presentation``: ``stimulus_id``, ``run``,
        every other label that is constant within blocks, ``onset`` (seconds in the run), ``n_volumes``, and
        ``repetition`` (how often the stimulus came before).

    Raises
    ------
    ValueError
        If there are no blocks, or the labels within a block differ.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> time = {
    ...     "time_bin_start": [0, 2, 4], "time_bin_end": [2, 4, 6], "run": 0, "block": [-1, 0, 0],
    ...     "stimulus_id": ["rest", "face", "face"],
    ... }
    >>> array = neuro.assemble(
    ...     [[0.0], [1.0], [3.0]], time_bin=time, neuroid={"neuroid_id": ["v"]}, modality="fmri", units="z"
    ... )
    >>> neuro.fmri.block_means(array).values
    array([[2.]])
    """
    if "block" not in array.coords or "stimulus_id" not in array.coords:
        raise ValueError("the array has no labels 'block' and 'stimulus_id'; read it with events.")
    block = array.coords["block"].values
    groups = [
        rows[block[rows] == number]
        for _, rows in runs_of(array)
        for number in pd.unique(block[rows])
        if number >= 0
    ]
    if not groups:
        raise ValueError("no volume of the array lies in a block; check the selection that led to it.")
    means = np.stack([array.values[rows].mean(axis=0, dtype=np.float64) for rows in groups]).astype(
        array.dtype
    )
    labels = constant_labels(array, groups)
    if "stimulus_id" not in labels:
        raise ValueError("a block holds volumes of several stimuli; number the blocks anew.")
    labels["onset"] = np.array([array.coords["time_bin_start"].values[rows].min() for rows in groups])
    labels["n_volumes"] = np.array([len(rows) for rows in groups])
    return presentations(array, means, labels)


def constant_labels(array: xr.DataArray, groups: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The labels along ``time_bin`` that have one value in each group of rows, times left out."""
    labels = {}
    for name, coord in array.coords.items():
        if coord.dims != ("time_bin",) or str(name).startswith("time_bin"):
            continue
        codes = pd.factorize(coord.values)[0]
        if all((codes[rows] == codes[rows[0]]).all() for rows in groups):
            labels[str(name)] = coord.values[[rows[0] for rows in groups]]
    return labels


def presentations(array: xr.DataArray, values: NDArray[Any], labels: dict[str, NDArray[Any]]) -> xr.DataArray:
    """``values`` as presentations with ``labels``, on the units of the continuous ``array``."""
    ids = pd.Series(labels["stimulus_id"])
    subject = labels.get("subject", np.zeros(len(ids)))
    labels = {**labels, "repetition": ids.groupby([ids.to_numpy(), subject]).cumcount().to_numpy()}
    coords = {name: ("presentation", column) for name, column in labels.items()}
    coords.update(
        {str(name): ("neuroid", c.values) for name, c in array.coords.items() if c.dims == ("neuroid",)}
    )
    attrs = {name: value for name, value in array.attrs.items() if name not in ("sfreq", "events")}
    return validate(
        xr.DataArray(values, dims=("presentation", "neuroid"), coords=coords, attrs=attrs, name=array.name)
    )


def select_reliable(
    array: xr.DataArray, *, threshold: float | None = None, n: int | None = None, rows: Any = None
) -> xr.DataArray:
    """Keep the voxels that answer alike when stimuli are repeated (Tarhan & Konkle 2020, NeuroImage).

    The reliability of a voxel is the correlation over stimuli between its mean answers to the odd and to the even
    repetitions. **Selection belongs to training**: chosen on all rows and then tested on some of them, voxels make
    scores too good. Give ``rows``.

    Parameters
    ----------
    array
        ``presentation × neuroid`` with repeated stimuli, e.g. of :func:`block_means` or :func:`betas`.
    threshold
        Least reliability kept; or
    n
        how many of the most reliable voxels to keep.
    rows
        Presentations (mask, slice or indices) from which reliability is computed: the training rows. Default all, for
        descriptions only.

    Returns
    -------
    xarray.DataArray
        All presentations of the voxels kept, in their order, with the coordinate ``reliability``;
        ``attrs["selection"]`` says how they were chosen.

    Raises
    ------
    ValueError
        If stimuli are not repeated, or no voxel is reliable enough.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> brain = neuro.simulate(n_stimuli=12, n_units=6, n_repeats=4, random_state=0)
    >>> neuro.fmri.select_reliable(brain, n=2, rows=slice(0, 24)).sizes["neuroid"]
    2
    """
    if (threshold is None) == (n is None):
        raise ValueError("give either threshold or n.")
    if validate(array).dims != ("presentation", "neuroid"):
        raise ValueError(
            f"the array is {' × '.join(map(str, array.dims))}; reliability needs presentation × neuroid: see "
            "block_means and betas."
        )
    rows = slice(None) if rows is None else rows
    at = np.arange(array.sizes["presentation"])[rows if isinstance(rows, slice) else np.asarray(rows)]
    reliability = _split_half(array.values[at].astype(float), array.coords["stimulus_id"].values[at])
    ranked = np.where(np.isnan(reliability), -np.inf, reliability)
    if n is not None:
        usable = int(np.isfinite(ranked).sum())
        if not 0 < n <= usable:
            raise ValueError(f"n is {n}, but {usable} of {len(ranked)} voxels have a reliability.")
        kept = np.sort(np.argsort(-ranked, kind="stable")[:n])
        rule = f"the {n} most reliable"
    else:
        kept = np.flatnonzero(ranked >= threshold)
        if not kept.size:
            raise ValueError(
                f"no voxel has a reliability of {threshold:g}; the highest is {ranked.max():.3g}."
            )
        rule = f"reliability >= {threshold:g}"
    selected = array.isel(neuroid=kept).assign_coords(reliability=("neuroid", reliability[kept]))
    selected.attrs["selection"] = (
        f"{len(kept)} of {len(ranked)} voxels, {rule}, computed on {len(at)} of {array.sizes['presentation']} "
        "presentations; scores on these presentations are biased"
    )
    return selected


def _split_half(values: NDArray[Any], ids: NDArray[Any]) -> NDArray[Any]:
    """Correlation over stimuli of the means of odd and even repetitions, for each unit; NaN where undefined."""
    repetition = pd.Series(ids).groupby(ids).cumcount().to_numpy()
    frame = pd.DataFrame(values)
    odd, even = (frame[repetition % 2 == half].groupby(ids[repetition % 2 == half]).mean() for half in (0, 1))
    both = odd.index.intersection(even.index)
    if len(both) < 3:
        raise ValueError(
            f"{len(both)} stimuli are repeated in these presentations; split-half reliability needs at least 3, each "
            "with 2 repetitions."
        )
    a, b = odd.loc[both].to_numpy(), even.loc[both].to_numpy()
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.full(scale.shape, np.nan), where=scale > 0)
