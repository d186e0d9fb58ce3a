"""From raw to clean signals: unusable voxels, means of regions, and nilearn's cleaning run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .bold import UNLABELLED, Grid
from .progress import track
from .runs import Runs

Table = dict[str, NDArray[Any]]
#: what users may ask for, and nilearn's name of it
STANDARDIZATIONS = {True: "zscore_sample", "zscore": "zscore_sample", "psc": "psc", None: None, False: None}


def raw_values(
    runs: Runs,
    units: Grid,
    *,
    smoothing_fwhm: float | None = None,
    invalid: Literal["raise", "drop"] = "raise",
    dtype: str = "float32",
    progress: bool | None = None,
) -> tuple[NDArray[Any], Table, dict[str, int]]:
    """Read all runs into one matrix and deal with units that hold no signal.

    Parameters
    ----------
    runs, units
        Opened runs and the units to read.
    smoothing_fwhm
        Gaussian smoothing of volumes in mm, after units without signal were found.
    invalid
        ``"raise"`` refuses units that are constant or not finite in any run, ``"drop"`` leaves them out.
    dtype
        Precision of the matrix.
    progress
        Whether to draw a progress bar.

    Returns
    -------
    values : numpy.ndarray
        All volumes of all runs × units.
    neuroid : dict
        The labels of these units.
    dropped : dict
        How many units were left out, and why.

    Raises
    ------
    ValueError
        If units are invalid and not to be dropped, or none is left.
    """
    from nilearn.image import smooth_img

    if smoothing_fwhm is not None and runs.kind != "nifti":
        raise ValueError(
            "smoothing_fwhm smooths volumes only; smooth surfaces with the tools of their makers first."
        )
    n_units = len(units.neuroid["neuroid_id"])
    values = np.empty((sum(runs.sizes), n_units), dtype=dtype)
    constant, broken, start = np.zeros(n_units, bool), np.zeros(n_units, bool), 0
    for image, size, name in zip(
        track(runs.images, "reading runs", show=progress), runs.sizes, runs.names, strict=True
    ):
        try:
            raw = units.read(image)
        except (EOFError, OSError) as error:
            raise OSError(
                f"{name} cannot be read to its end ({error}); fetch or export its file again."
            ) from None
        here = ~np.isfinite(raw).all(axis=0)
        still = ~here & (raw == raw[0]).all(axis=0)
        if invalid == "raise" and (here.any() or still.any()):
            _refuse(here, still, name, units)
        constant, broken = constant | still, broken | here
        values[start : start + size] = (
            raw if smoothing_fwhm is None else units.read(smooth_img(image, smoothing_fwhm))
        )
        start += size
    kept = ~(constant | broken)
    if not kept.any():
        raise ValueError("every voxel is constant or not finite in some run; the images hold no signal.")
    dropped = {"dropped_constant": int((constant & ~broken).sum()), "dropped_nonfinite": int(broken.sum())}
    if kept.all():
        return values, units.neuroid, dropped
    return values[:, kept], {column: labels[kept] for column, labels in units.neuroid.items()}, dropped


def _refuse(broken: NDArray[Any], constant: NDArray[Any], name: str, units: Grid) -> None:
    wrong, what = (broken, "not finite") if broken.any() else (constant, "constant")
    raise ValueError(
        f"{int(wrong.sum())} of {len(wrong)} voxels are {what} in {name} (the first is "
        f"{units.neuroid['neuroid_id'][np.flatnonzero(wrong)[0]]}) and hold no signal; give a mask without them, or "
        "leave them out with invalid='drop'."
    )


def region_means(values: NDArray[Any], neuroid: Table) -> tuple[NDArray[Any], Table]:
    """Mean signal of every region, and the labels of the regions (place: their centre).

    Raises
    ------
    ValueError
        If the units have no regions.

    Examples
    --------
    >>> import numpy as np
    >>> table = {"neuroid_id": np.array(["a", "b"]), "region": np.array(["V1", "V1"])}
    >>> region_means(np.array([[1.0, 3.0]]), table)[0]
    array([[2.]])
    """
    if "region" not in neuroid:
        raise ValueError("unit='region' needs an atlas or spheres that say which region a voxel belongs to.")
    region = neuroid["region"]
    names = [name for name in pd.unique(region) if name != UNLABELLED]
    if not names:
        raise ValueError(
            "no voxel of the runs lies in a region of the atlas; check that they lie in the same space."
        )
    members = [np.flatnonzero(region == name) for name in names]
    means = np.stack([values[:, at].mean(axis=1, dtype=np.float64) for at in members], axis=1)
    table: Table = {
        "neuroid_id": np.array(names),
        "region": np.array(names),
        "n_voxels": np.array([len(at) for at in members]),
    }
    if "label" in neuroid:
        table["label"] = np.array([neuroid["label"][at[0]] for at in members])
    for axis in "xyz":
        if axis in neuroid:
            table[axis] = np.array([neuroid[axis][at].mean() for at in members])
    return means.astype(values.dtype), table


def read_confounds(source: Any, n_volumes: int, name: str) -> NDArray[Any] | None:
    """Nuisance regressors of one run, volumes × regressors.

    Parameters
    ----------
    source
        Array, ``DataFrame``, or text file: ``.tsv`` and ``.csv`` with a header, any other without, separated by spaces.
    n_volumes
        How many rows there must be.
    name
        The run's name, for messages.

    Raises
    ------
    ValueError
        If rows are missing or values are not finite.

    Examples
    --------
    >>> read_confounds([[0.1], [0.2]], 2, "run 0").shape
    (2, 1)
    """
    if source is None:
        return None
    if isinstance(source, (str, Path)):
        separator = {".tsv": "\t", ".csv": ","}.get(Path(source).suffix)
        if separator is None:
            source = pd.read_csv(source, sep=r"\s+", header=None)
        else:
            source = pd.read_csv(source, sep=separator, na_values="n/a")
    table = source if isinstance(source, pd.DataFrame) else pd.DataFrame(np.asarray(source))
    if len(table) != n_volumes:
        raise ValueError(
            f"the confounds of {name} have {len(table)} rows, but the run has {n_volumes} volumes."
        )
    try:
        values = table.to_numpy(dtype=float)
    except ValueError as error:
        raise ValueError(
            f"the confounds of {name} are not all numbers ({error}); choose columns of numbers."
        ) from None
    missing = np.argwhere(~np.isfinite(values))
    if len(missing):
        row, column = missing[0]
        raise ValueError(
            f"the confound {table.columns[column]!r} of {name} is missing at volume {row}; choose columns without "
            "gaps, e.g. with nilearn.interfaces.fmriprep.load_confounds."
        )
    return values


def clean_runs(
    values: NDArray[Any],
    runs: Runs,
    confounds: Sequence[NDArray[Any] | None],
    sample_masks: Sequence[Any],
    options: Mapping[str, Any],
) -> tuple[NDArray[Any], list[NDArray[np.intp]]]:
    """Clean every run by itself with ``nilearn.signal.clean``; ``values`` is overwritten to save memory.

    Parameters
    ----------
    values
        All volumes of all runs × units.
    runs
        The runs these are.
    confounds
        Nuisance regressors of each run, or ``None``.
    sample_masks
        Indices of the volumes kept of each run, or ``None`` for all.
    options
        ``detrend``, ``standardize``, ``high_pass``, ``low_pass`` as nilearn names them.

    Returns
    -------
    values : numpy.ndarray
        The volumes kept × units.
    volumes : list of numpy.ndarray
        Which volumes of each run these are.
    """
    from nilearn.signal import clean

    start = stop = 0
    volumes = []
    for size, name, nuisance, mask in zip(runs.sizes, runs.names, confounds, sample_masks, strict=True):
        kept = np.arange(size) if mask is None else np.arange(size)[np.asarray(mask)]
        if nuisance is not None and nuisance.shape[1] >= len(kept) - 1:
            raise ValueError(
                f"{name} has {nuisance.shape[1]} confounds for {len(kept)} volumes, which leaves no signal."
            )
        signal = np.asarray(values[start : start + size], dtype=np.float64)
        sample_mask = None if mask is None else kept
        try:
            cleaned = clean(signal, confounds=nuisance, sample_mask=sample_mask, t_r=runs.t_r, **options)
        except ValueError as error:
            raise ValueError(
                f"nilearn cannot clean {name} ({error}); check the filter limits against its {len(kept)} volumes of "
                f"{runs.t_r:g} s."
            ) from None
        if lost := int((~np.isfinite(cleaned).all(axis=0) | (cleaned == cleaned[0]).all(axis=0)).sum()):
            raise ValueError(
                f"cleaning leaves no signal in {lost} of {cleaned.shape[1]} voxels of {name}; check its confounds, the "
                "filter limits, and for percent change that the mean is not zero."
            )
        values[stop : stop + len(kept)] = cleaned
        volumes.append(kept)
        start, stop = start + size, stop + len(kept)
    return values[:stop], volumes
