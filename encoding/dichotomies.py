"""Dichotomies of conditions: which there are, how parallel they are coded, how well they are told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ..neuro.assembly import quoted
from .containers import to_tensor
from .engine.geometry import pair_cosines
from .parameters import whole_number

Array = NDArray[Any]
#: most dichotomies of all conditions: those of 14
MOST = 1716
#: most conditions on either side whose pairings are tried one by one
MOST_PAIRED = 7


def activity_of(activity: Any) -> torch.Tensor:
    """Rows × units without missing values, on the CPU or where a tensor is."""
    values = to_tensor(activity)
    if values.ndim != 2 or min(values.shape) < 1:
        raise ValueError(f"the activity has the shape {tuple(values.shape)}; give rows × units.")
    if not bool(values.isfinite().all()):
        row, unit = (int(k) for k in (~values.isfinite()).nonzero()[0])
        raise ValueError(
            f"the activity is missing or infinite, first in row {row} of unit {unit}; leave it out."
        )
    return values


def labels_of_rows(activity: Any, labels: Any, what: str) -> Array:
    """One label a row: given, the name of a coordinate, or (``None``) the stimulus, or the number of the row."""
    n = len(activity)
    if isinstance(labels, str) or (labels is None and isinstance(activity, xr.DataArray)):
        name = "stimulus_id" if labels is None else labels
        known = getattr(activity, "coords", {})
        if name not in known or known[name].dims != activity.dims[:1]:
            raise ValueError(
                f"{what}={name!r} is no coordinate along the rows of the activity; give one value a row."
            )
        labels = known[name].values
    rows = np.arange(n) if labels is None else np.asarray(labels)
    if rows.shape != (n,) or pd.isna(rows).any():
        raise ValueError(
            f"{what} has the shape {rows.shape} or missing values; give one for each of the {n} rows."
        )
    return rows


def sides_of_rows(activity: Any, labels: Any) -> Array:
    """Side of the dichotomy, 0 or 1, of every row."""
    names, side = np.unique(labels_of_rows(activity, labels, "labels"), return_inverse=True)
    if len(names) != 2:
        raise ValueError(f"labels has {len(names)} different values; a dichotomy has two.")
    return np.asarray(side)


def sides_of_conditions(sides: Array, codes: Array, names: Array) -> Array:
    """Side of every condition, which must lie on one alone."""
    first = np.unique(codes, return_index=True)[1]
    mixed = np.unique(codes[sides != sides[first][codes]])
    if mixed.size:
        raise ValueError(
            f"condition {quoted(names[mixed[0]])} has rows of both labels; a condition lies on one side of a dichotomy."
        )
    return np.asarray(sides[first])


def conditions_of(activity: Any, condition: Any) -> tuple[Array, Array]:
    """Names of conditions, and which of them every row is."""
    names, codes = np.unique(labels_of_rows(activity, condition, "condition"), return_inverse=True)
    return names, codes


def mean_activity(values: torch.Tensor, codes: Array) -> torch.Tensor:
    """Mean of the rows of every condition."""
    onehot = torch.eye(int(codes.max()) + 1).to(values)[torch.as_tensor(codes)]
    return (onehot / onehot.sum(dim=0)).mT @ values


def balanced_dichotomies(names: Sequence[Any] | Array) -> Array:
    """All splits of conditions into two halves, ``dichotomy × condition``; the first condition is on side 0."""
    n = len(names)
    if n < 4 or n % 2:
        raise ValueError(
            f"there are {n} conditions; balanced dichotomies need an even number from 4, or give labels."
        )
    if (count := math.comb(n - 1, n // 2)) > MOST:
        raise ValueError(
            f"{n} conditions have {count} balanced dichotomies; give labels, or fewer conditions."
        )
    splits = np.zeros((count, n), dtype=np.intp)
    for row, ones in zip(splits, combinations(range(1, n), n // 2), strict=True):
        row[list(ones)] = 1
    return splits


def by_dichotomy(scores: Sequence[float], splits: Array, names: Array, what: str) -> xr.DataArray:
    """Scores with their dichotomies, named like ``"a b | c d"``."""
    sides = [[" ".join(str(name) for name in names[split == k]) for k in (0, 1)] for split in splits]
    coords = {"dichotomy": [" | ".join(side) for side in sides]}
    return xr.DataArray(np.asarray(scores, dtype=np.float64), coords, ["dichotomy"], name=what)


def best_parallelism(means: torch.Tensor, side: Array) -> float:
    """Mean cosine of the differences of paired conditions, for the pairing that makes it largest."""
    ends = [means[torch.as_tensor(side == k)] for k in (0, 1)]
    n = len(ends[0])
    if n != len(ends[1]) or n < 2:
        raise ValueError(
            f"{n} conditions have one label and {len(ends[1])} the other; pairing needs as many, two at least, or "
            "context=."
        )
    if n > MOST_PAIRED:
        raise ValueError(
            f"{n} conditions a side have too many pairings; say by context= which belong together."
        )
    cosines = pair_cosines(*ends)
    orders = torch.tensor(list(permutations(range(n))), device=means.device)
    chosen = orders + n * torch.arange(n, device=means.device)
    own = cosines.diagonal()[chosen].sum(dim=1)
    total = cosines[chosen[:, :, None], chosen[:, None, :]].sum(dim=(1, 2)) - own
    return float(total.max() / (n * (n - 1)))


def linear_classifier(classifier: Any) -> Any:
    """What was given, or a linear support vector machine on units scaled by the training rows."""
    if classifier is not None:
        return classifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(kernel="linear", class_weight="balanced"))


def accuracy(values: Array, side: Array, test: Array, classifier: Any) -> float:
    """Share of right answers in the test rows, mean of both sides, after training on all others."""
    from sklearn.base import clone

    train = ~test
    if len(np.unique(side[train])) < 2 or len(np.unique(side[test])) < 2:
        raise ValueError(
            "a training or test part has one of the two labels only; use other groups or contexts."
        )
    right = clone(classifier).fit(values[train], side[train]).predict(values[test]) == side[test]
    return float(np.mean([right[side[test] == k].mean() for k in (0, 1)]))


def generalisation(values: Array, side: Array, codes: Array, classifier: Any) -> float:
    """Accuracy on one condition of either side, held out in all ways."""
    halves = [np.unique(codes[side == k]) for k in (0, 1)]
    if min(map(len, halves)) < 2:
        raise ValueError(
            "a label has a single condition, so that nothing is left when it is held out; give more."
        )
    scores = [
        accuracy(values, side, np.isin(codes, (a, b)), classifier) for a in halves[0] for b in halves[1]
    ]
    return float(np.mean(scores))


def folds_of(activity: Any, codes: Array, names: Array, groups: Any, cv: int) -> Array:
    """Fold of every row: its group, or its block of neighbouring repeats within its condition."""
    if groups is not None:
        found = pd.factorize(labels_of_rows(activity, groups, "groups"))[0]
        if found.max() < 1:
            raise ValueError("all rows are of one group, and one is held out; give two at least, or cv=.")
        return np.asarray(found)
    whole_number(cv, "cv", 2)
    folds = np.empty(len(codes), dtype=np.intp)
    for k, name in enumerate(names):
        rows = np.flatnonzero(codes == k)
        if len(rows) < cv:
            raise ValueError(f"{quoted(name)} has {len(rows)} rows, fewer than the cv={cv} folds; lower cv.")
        folds[rows] = np.arange(len(rows)) * cv // len(rows)
    return folds


def crossvalidated(values: Array, side: Array, folds: Array, classifier: Any) -> float:
    """Mean accuracy over folds."""
    return float(np.mean([accuracy(values, side, folds == k, classifier) for k in range(folds.max() + 1)]))
