"""Splits into training and test rows that refuse to leak."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

Indices = NDArray[np.intp]

#: labels that tell recordings apart which must not be split at random, most telling first
RECORDING_GROUPS = ("run", "session", "subject")
#: labels that tell apart what must not run into each other in time
BORDERS = ("trial", *RECORDING_GROUPS)


@dataclass(frozen=True)
class Splits:
    """Pairs of training and test rows, the groups that were kept together, and how they came about."""

    folds: list[tuple[Indices, Indices]]
    groups: NDArray[Any] | None
    description: str

    def __len__(self) -> int:
        return len(self.folds)


def make_splits(
    array: xr.DataArray,
    cv: Any = None,
    groups: str | NDArray[Any] | None = None,
    *,
    labels: NDArray[Any] | None = None,
    random_state: int | None = 0,
) -> Splits:
    """Split the rows of an array without a leak, or refuse.

    Parameters
    ----------
    array
        Its first dimension (``presentation`` or ``time_bin``) is split.
    cv
        ``None``: 5 folds, or one fold a recording where there are few. An integer: that many folds. A text: leave
        out one value of that coordinate at a time (``"run"``). A scikit-learn splitter, or pairs of row indices.
    groups
        Coordinate name or one label a row; rows of a group stay together. By default what the array says:
        ``stimulus_id`` for encoders on presentations; ``run``, ``session`` or ``subject`` for classifiers and
        continuous recordings. A continuous recording without any is cut into contiguous pieces.
    labels
        Class labels where a classifier is evaluated: stimuli may then occur on both sides, runs may not.
    random_state
        Shuffles stimuli into folds. Time series are never shuffled.

    Returns
    -------
    Splits

    Raises
    ------
    ValueError
        If a fold is empty, a row, stimulus, group or neighbouring moment is on both sides, or a name is unknown.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.splits import make_splits
    >>> brain = neuro.simulate(n_stimuli=10, n_units=3, n_repeats=2, random_state=0)
    >>> len(make_splits(brain, cv=5))
    5
    """
    dim = str(array.dims[0])
    n = array.sizes[dim]
    keys, name = _groups(array, dim, cv, groups, labels)
    if isinstance(cv, str):
        folds, description = leave_one_out(keys), f"leave one {cv} out"
    elif cv is None or isinstance(cv, int | np.integer):
        folds, description = _default_folds(
            n, keys, name, None if cv is None else int(cv), dim, labels, random_state
        )
    elif hasattr(cv, "split"):
        folds, description = _by_splitter(cv, n, labels, keys, name)
        if groups is None:  # a splitter without groups was asked for: only stimuli, rows and time are checked
            keys, name = None, ""
    elif isinstance(cv, Iterable):
        folds, description = [_pair(pair, n, k) for k, pair in enumerate(cv)], "given rows"
    else:
        raise ValueError(f"cv={cv!r} is no number, coordinate name, splitter or list of (train, test) rows.")
    refuse_leaks(array, folds, keys, name, labels)
    return Splits(folds, keys, description)


def leave_one_out(keys: NDArray[Any] | None) -> list[tuple[Indices, Indices]]:
    """One fold for each value of ``keys``, in order of appearance."""
    assert keys is not None
    return [(np.flatnonzero(keys != value), np.flatnonzero(keys == value)) for value in pd.unique(keys)]


def refuse_leaks(
    array: xr.DataArray,
    folds: list[tuple[Indices, Indices]],
    keys: NDArray[Any] | None,
    name: str,
    labels: NDArray[Any] | None,
) -> None:
    """Raise a ``ValueError`` for the first fold that is empty or lets the test part be known in training."""
    if not folds:
        raise ValueError("the split has no folds; give at least one pair of training and test rows.")
    stimuli = array.coords["stimulus_id"].values if "stimulus_id" in array.coords else None
    where = "no groups" if keys is None else _count(keys, name)
    for number, (train, test) in enumerate(folds):
        if not len(train) or not len(test):
            part = "test" if not len(test) else "training"
            raise ValueError(
                f"fold {number} has no {part} rows; use fewer folds or groups with more than one value ({where} here)."
            )
        if np.intersect1d(train, test).size:
            raise ValueError(
                f"fold {number} has {np.intersect1d(train, test).size} rows in both training and test."
            )
        if keys is not None and (shared := in_both(keys, train, test)):
            raise ValueError(
                f"fold {number} has {name} {shared[0]!r} in both training and test; keep {name} values together, "
                "e.g. with an integer cv or GroupKFold."
            )
        if labels is None and array.dims[0] == "presentation" and stimuli is not None:
            shared = in_both(stimuli, train, test)
            if shared:
                raise ValueError(
                    f"fold {number} has {len(shared)} stimuli (first {shared[0]!r}) in both training and test; "
                    "repeats of a stimulus must stay together: use groups='stimulus_id'."
                )
        if array.dims[0] == "time_bin" and (borders := _borders(array, train, test)) > 2 * _n_runs(
            array, test
        ):
            raise ValueError(
                f"fold {number} cuts the time series {borders} times, so test moments lie between training moments; "
                "use contiguous folds (an integer cv) or groups='run'."
            )


def in_both(labels: NDArray[Any], train: Indices, test: Indices) -> list[Any]:
    """Labels that occur among the training rows and among the test rows, of whatever types they are."""
    held_out = pd.Series(labels[test])
    return cast(list[Any], held_out[held_out.isin(labels[train])].unique().tolist())


def time_neighbours(array: xr.DataArray, train: Indices, test: Indices) -> int:
    """How many test rows of a continuous recording directly follow or precede a training row of the same run."""
    if array.dims[0] != "time_bin":
        return 0
    side, run = _sides(array, train, test)
    adjacent = (side[1:] * side[:-1] == -1) & (run[1:] == run[:-1]) & _touching(array)
    return int(adjacent.sum())


def stretches(array: xr.DataArray, rows: Indices, groups: NDArray[Any] | None = None) -> Indices:
    """Number the pieces that some rows of a recording fall into: groups, runs, and what a gap in time tells apart.

    Parameters
    ----------
    array
        What ``rows`` are rows of, in order.
    rows
        Row numbers.
    groups
        Other labels to tell apart, one a row of ``array``; all that is looked at where rows are no times.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from cerebridge.encoding.splits import stretches
    >>> start = np.arange(4.0)
    >>> times = {"time_bin_start": ("time_bin", start), "time_bin_end": ("time_bin", start + 1)}
    >>> recording = xr.DataArray(np.zeros((4, 1)), times, ("time_bin", "neuroid"))
    >>> stretches(recording, np.array([0, 1, 3])).tolist()
    [0, 0, 1]
    """
    codes = np.zeros(len(rows), dtype=np.intp)
    if groups is not None:
        codes = pd.factorize(groups[rows], sort=True)[0]
    if array.dims[0] != "time_bin":
        return codes
    ends = np.append(run_ends(array), True)[rows[:-1]]
    apart = ends | (codes[1:] != codes[:-1]) | (np.diff(rows) != 1)
    return np.concatenate([[0], np.cumsum(apart)]).astype(np.intp)


def run_ends(array: xr.DataArray) -> NDArray[np.bool_]:
    """Whether a run ends between each two neighbouring rows: a label of recordings changes, or time jumps.

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.splits import run_ends
    >>> run_ends(xr.DataArray([0.0, 0.0, 0.0], {"trial": ("time_bin", [1, 1, 2])}, ["time_bin"])).tolist()
    [False, True]
    """
    ends = np.zeros(len(array) - 1, dtype=bool)
    for name in BORDERS:
        if name in array.coords and array.coords[name].dims == array.dims[:1]:
            labels = array.coords[name].values
            ends |= np.asarray(labels[1:] != labels[:-1])
    times = ("time_bin_start", "time_bin_end")
    if all(name in array.coords and array.coords[name].dims == array.dims[:1] for name in times):
        ends |= ~_touching(array)
    return ends


def _groups(
    array: xr.DataArray, dim: str, cv: Any, groups: Any, labels: NDArray[Any] | None
) -> tuple[NDArray[Any] | None, str]:
    if isinstance(cv, str):
        groups = cv
    if isinstance(groups, str):
        if groups not in array.coords or array.coords[groups].dims != (dim,):
            known = sorted(str(c) for c in array.coords if array.coords[c].dims == (dim,))
            raise ValueError(
                f"there is no coordinate {groups!r} along {dim!r} to split by; there are {known}."
            )
        return _complete(array.coords[groups].values, groups), groups
    if groups is not None:
        keys = np.asarray(groups)
        if keys.shape != (array.sizes[dim],):
            raise ValueError(f"groups have shape {keys.shape}, but there are {array.sizes[dim]} rows.")
        return _complete(keys, "group"), "group"
    if cv is not None and not isinstance(cv, int | np.integer) and not hasattr(cv, "split"):
        return None, ""
    if dim == "presentation" and labels is None:
        return array.coords["stimulus_id"].values, "stimulus_id"
    for name in RECORDING_GROUPS:
        if (
            name in array.coords
            and array.coords[name].dims == (dim,)
            and len(pd.unique(array.coords[name].values)) > 1
        ):
            return _complete(array.coords[name].values, name), name
    return None, ""


def _complete(keys: NDArray[Any], name: str) -> NDArray[Any]:
    missing = np.flatnonzero(pd.isna(keys))
    if missing.size:
        raise ValueError(
            f"the {name} of row {missing[0]} is missing, so it cannot be kept apart; give every row one."
        )
    return keys


def _count(keys: NDArray[Any], name: str) -> str:
    return f"{len(pd.unique(keys))} groups" + ("" if name == "group" else f" by {name}")


def _by_splitter(
    cv: Any, n: int, labels: NDArray[Any] | None, keys: NDArray[Any] | None, name: str
) -> tuple[list[tuple[Indices, Indices]], str]:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The groups parameter is ignored")
            pairs = list(cv.split(np.zeros((n, 1)), labels, keys))
    except ValueError as error:
        where = "without groups" if keys is None else f"in {_count(keys, name)}"
        raise ValueError(f"{cv!r} cannot split {n} rows {where}: {error}") from None
    return [_pair(pair, n, k) for k, pair in enumerate(pairs)], f"{cv!r}" + (f" over {name}" if name else "")


def _pair(pair: Any, n: int, number: int) -> tuple[Indices, Indices]:
    """Training and test rows from indices or masks, checked."""
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(f"fold {number} of cv is {pair!r}, not a pair of training and test rows.")
    return _rows(pair[0], n, f"the training part of fold {number}"), _rows(
        pair[1], n, f"the test part of fold {number}"
    )


def _rows(part: Any, n: int, what: str) -> Indices:
    rows = np.asarray(part)
    if rows.dtype == bool and rows.shape == (n,):
        return np.flatnonzero(rows)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(f"{what} is neither row numbers nor a mask of the {n} rows.")
    outside = rows[(rows < 0) | (rows >= n)]
    if outside.size:
        raise ValueError(f"{what} names row {outside[0]}, but the {n} rows count from 0 to {n - 1}.")
    if len(np.unique(rows)) < len(rows):
        raise ValueError(f"{what} names a row twice; give each row once.")
    return rows.astype(np.intp)


def _default_folds(
    n: int,
    keys: NDArray[Any] | None,
    name: str,
    cv: int | None,
    dim: str,
    labels: NDArray[Any] | None,
    random_state: int | None,
) -> tuple[list[tuple[Indices, Indices]], str]:
    if keys is not None and name in RECORDING_GROUPS and cv is None and len(pd.unique(keys)) <= 20:
        return leave_one_out(keys), f"leave one {name} out"
    n_folds = 5 if cv is None else cv
    n_groups = n if keys is None else len(pd.unique(keys))
    if not 2 <= n_folds <= n_groups:
        what = f"{n} rows" if keys is None else _count(keys, name)
        raise ValueError(
            f"cv={n_folds} must be from 2 to {n_groups}, because there are {what}; a fold would be empty."
        )
    if keys is None:
        if labels is not None:
            return _stratified(labels, n_folds), f"{n_folds} stratified folds in order of recording"
        return _k_folds(np.arange(n), n_folds), f"{n_folds} contiguous folds"
    codes, unique = pd.factorize(keys)
    order = np.arange(len(unique))
    if name == "stimulus_id" and dim == "presentation":
        np.random.default_rng(random_state).shuffle(order)
        description = f"{n_folds} folds over stimuli, shuffled with seed {random_state}"
    else:
        description = f"{n_folds} folds over {name}, in order of appearance"
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return _k_folds(place[codes], n_folds, len(unique)), description


def _stratified(labels: NDArray[Any], n_folds: int) -> list[tuple[Indices, Indices]]:
    from sklearn.model_selection import StratifiedKFold

    codes, classes = pd.factorize(labels)
    counts = np.bincount(codes)
    if counts.min() < n_folds:
        rare = classes[counts.argmin() :][:1].tolist()[0]
        raise ValueError(
            f"class {rare!r} has {counts.min()} rows, so it would be missing from some of {n_folds} folds; use fewer "
            "folds (cv=) or leave the class out."
        )
    return list(StratifiedKFold(n_folds).split(np.zeros(len(codes)), codes))


def _k_folds(place: Indices, n_folds: int, n_places: int | None = None) -> list[tuple[Indices, Indices]]:
    n_places = len(place) if n_places is None else n_places
    fold = (place * n_folds) // n_places
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]


def _sides(array: xr.DataArray, train: Indices, test: Indices) -> tuple[NDArray[Any], NDArray[Any]]:
    side = np.zeros(array.sizes["time_bin"], dtype=int)
    side[train], side[test] = 1, -1
    run = array.coords["run"].values if "run" in array.coords else np.zeros(len(side), dtype=int)
    return side, run


def _touching(array: xr.DataArray) -> NDArray[Any]:
    """Whether each bin starts where the one before it ends (selections leave gaps)."""
    start, end = array.coords["time_bin_start"].values, array.coords["time_bin_end"].values
    return np.abs(start[1:] - end[:-1]) < 0.5 * (end[1:] - start[1:])


def _borders(array: xr.DataArray, train: Indices, test: Indices) -> int:
    """Changes between training and test within runs, gaps included: the mark of a time series split at random."""
    side, run = _sides(array, train, test)
    used = np.flatnonzero(side)
    side, run = side[used], run[used]
    return int(((side[1:] != side[:-1]) & (run[1:] == run[:-1])).sum())


def _n_runs(array: xr.DataArray, test: Indices) -> int:
    return len(pd.unique(array.coords["run"].values[test])) if "run" in array.coords else 1
