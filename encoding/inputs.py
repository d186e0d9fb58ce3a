"""What every linear estimator asks of its input, answered in one sentence where it is wrong."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupKFold, check_cv
from sklearn.utils import validation

from .containers import kind_of, to_tensor
from .engine.moments import Split

#: scikit-learn's word for "do not look for NaN", which changed in 1.6; ours names the place
ANY_VALUES = {
    next(
        name for name in inspect.signature(validation.check_array).parameters if name.endswith("all_finite")
    ): False
}


def features(estimator: BaseEstimator, X: Any, *, reset: bool) -> torch.Tensor:
    """Check the features of ``fit`` (``reset``) or ``predict``, ``(samples, features)``, and remember them.

    Raises
    ------
    ValueError, TypeError
        If they are not a finite table of numbers, or not as wide as the estimator was fitted to.
    """
    name = type(estimator).__name__
    if kind_of(X) == "numpy":
        if hasattr(validation, "validate_data"):
            X = validation.validate_data(estimator, X, reset=reset, **ANY_VALUES)
        else:
            X = estimator._validate_data(X, reset=reset, **ANY_VALUES)
    tensor = to_tensor(X)
    if tensor.ndim != 2:
        raise ValueError(
            f"{name} takes X as samples × features, got {tensor.ndim} dimensions; stack or select the others."
        )
    if not len(tensor) or not tensor.shape[1]:
        raise ValueError(
            f"X is empty: its shape is {tuple(tensor.shape)}; check the selection that led to it."
        )
    if reset:
        estimator.n_features_in_ = tensor.shape[1]
    elif tensor.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {tensor.shape[1]} features, but {name} is expecting {estimator.n_features_in_} features as input; "
            "give those it was fitted to."
        )
    require_finite(tensor, X, "X", "samples", 0)
    return tensor


def targets(y: Any, n_samples: int, X: Any = None, *, allow_missing: bool = False) -> torch.Tensor:
    """Check responses, ``(samples,)`` or ``(samples, targets)``, against the samples of ``X``.

    Parameters
    ----------
    y
        The responses.
    n_samples
        Number of samples of ``X``.
    X
        The features, whose labels are compared.
    allow_missing
        Whether single values may be NaN, as long as no target has nothing else.

    Raises
    ------
    ValueError, TypeError
        If they are missing, not finite, not as many as samples, or labelled with other stimuli than ``X``.
    """
    if y is None:
        raise ValueError(
            "requires y to be passed, but the target y is None: give one response for each sample."
        )
    tensor = to_tensor(y)
    if tensor.ndim not in (1, 2):
        raise ValueError(
            f"y must be samples or samples × targets, got {tensor.ndim} dimensions; stack or select."
        )
    require_match(tensor.shape, n_samples, y, X)
    what, dim = ("targets", 1) if tensor.ndim == 2 else ("samples", 0)
    if allow_missing and not bool(torch.isfinite(tensor.sum())) and bool(tensor.isnan().any()):
        _require_some(tensor, y)
        require_finite(tensor.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf), y, "y", what, dim)
    else:
        require_finite(tensor, y, "y", what, dim)
    return tensor


def require_match(shape: Sequence[int], n_samples: int, y: Any, X: Any) -> None:
    """Refuse responses of this shape that are none, or not those of the samples of ``X``."""
    if shape[0] != n_samples:
        raise ValueError(
            f"X has {n_samples} samples and y has {shape[0]}: inconsistent numbers of samples; give one row each."
        )
    if len(shape) == 2 and not shape[1]:
        raise ValueError("y is empty: it has no targets; check the selection that led to it.")
    if kind_of(X) == kind_of(y) == "xarray":
        _require_same_stimuli(X, y)


def _require_some(tensor: torch.Tensor, y: Any) -> None:
    """Refuse targets that consist of NaN alone."""
    empty = tensor.isnan().all(0).reshape(-1)
    if not bool(empty.any()):
        return
    first = name_of(y, 1, int(empty.nonzero()[0])) if tensor.ndim == 2 else "the only one"
    raise ValueError(
        f"Input y contains NaN alone in {int(empty.sum())} of {len(empty)} targets, first {first}; drop them."
    )


def require_finite(tensor: torch.Tensor, given: Any, name: str, what: str, dim: int) -> None:
    """Raise a ``ValueError`` that says how many rows or columns hold NaN or infinity, and the first of them."""
    # one sum is much cheaper than a mask of every value, and finite only if all values are
    if bool(torch.isfinite(tensor.sum())):
        return
    wrong = ~torch.isfinite(tensor)
    if not bool(wrong.any()):
        return
    kind = "NaN" if bool(tensor.isnan().any()) else f"infinity or a value too large for {tensor.dtype}"
    along = wrong.any(1 - dim) if wrong.ndim == 2 else wrong
    first = int(along.nonzero()[0])
    raise ValueError(
        f"Input {name} contains {kind}: in {int(along.sum())} of {len(along)} {what}, "
        f"first {name_of(given, dim, first)}; drop these {what} or fill them in."
    )


def warn_of_missing_scores(scores: torch.Tensor, targets: torch.Tensor, y: Any) -> None:
    """Warn of targets without a cross-validated score: what is fitted remains right, what was chosen is not."""
    missing = scores.isnan()
    if not bool(missing.any()):
        return
    first = f", first {name_of(y, 1, int(missing.nonzero()[0]))}" if targets.ndim == 2 else ""
    warnings.warn(
        f"{int(missing.sum())} of {len(missing)} targets vary in no held-out set{first}: they have no score (NaN) "
        "and the largest alpha; drop them if they are constant, else use other folds.",
        stacklevel=3,
    )


def warn_of_ragged_targets(counts: torch.Tensor, n_samples: int, n_patterns: int) -> None:
    """Say that some targets were fitted to fewer samples than there are."""
    fewer = counts[counts < n_samples]
    if len(fewer):
        warnings.warn(
            f"{len(fewer)} of {len(counts)} targets miss samples (the fewest have {int(fewer.min())} of {n_samples}; "
            f"there are {n_patterns} sets of samples): each was fitted to those it has, with folds made of these; "
            "n_samples_ counts them.",
            stacklevel=3,
        )


def warn_of_grid_edges(
    chosen: torch.Tensor, best: torch.Tensor, alphas: torch.Tensor | NDArray[np.float64]
) -> None:
    """Warn where targets that are predicted at all would rather have a penalty that is not on the grid.

    A target that nothing predicts rightly takes the largest penalty, so there only scores above 0 count.

    Parameters
    ----------
    chosen
        Position of the penalty of each target in ``alphas``.
    best
        Cross-validated score of each target.
    alphas
        The grid.
    """
    grid = torch.as_tensor(alphas, device=chosen.device)
    smallest, largest = float(grid.min()), float(grid.max())
    if smallest == largest:
        return
    low = int((grid[chosen] == smallest).sum())
    high = int(((grid[chosen] == largest) & (best > 0)).sum())
    if low or high:
        sides = [(low, "smallest", smallest), (high, "largest", largest)]
        named = " and ".join(f"{n} the {side} ({alpha:g})" for n, side, alpha in sides if n)
        warnings.warn(
            f"{low + high} of {len(chosen)} targets chose an alpha at the edge of the grid: {named}; extend alphas on "
            "that side (targets of noise alone rightly take the largest: those that score 0 or less are not counted).",
            stacklevel=3,
        )


def splits(
    cv: Any, n_samples: int, y: Any = None, groups: Any = None, arrays: Sequence[Any] = ()
) -> list[Split]:
    """Training and held-out samples of every split, checked.

    Parameters
    ----------
    cv
        Number of contiguous folds; where there are ``groups``, of folds of whole groups, at most one a group. Or a
        scikit-learn splitter, or pairs of indices or masks.
    n_samples
        Number of samples.
    y
        Responses, for splitters that look at them.
    groups
        One label a sample, or the name of a coordinate.
    arrays
        Those whose coordinates may be named.

    Raises
    ------
    ValueError
        Naming the first split that is empty, too small for a score, or trains on what it holds out.
    """
    if isinstance(cv, str):
        raise ValueError(
            f"cv={cv!r} is no cross-validation; give a number of folds, a scikit-learn splitter, or pairs of indices."
        )
    groups = group_labels(groups, n_samples, arrays)
    if groups is not None and isinstance(cv, int | np.integer):
        cv = GroupKFold(max(2, min(int(cv), len(np.unique(groups)))))
    if isinstance(cv, int | np.integer) and cv > n_samples:
        raise ValueError(
            f"cv={cv} folds need at least {cv} samples, but n_samples={n_samples}; use fewer folds or more samples."
        )
    cv = check_cv(list(cv) if isinstance(cv, Iterable) and not hasattr(cv, "split") else cv)
    pairs = list(cv.split(np.zeros((n_samples, 1)), y, groups))
    if not pairs:
        raise ValueError("cv gives no splits; give at least one pair of training and held-out samples.")
    return [_split(pair, f"split {k} of {len(pairs)}", n_samples) for k, pair in enumerate(pairs, 1)]


def _split(pair: Any, name: str, n_samples: int) -> Split:
    train, test = (_indices(part, name, n_samples) for part in pair)
    if not len(train) or not len(test):
        what = "holds out no samples" if len(train) else "has no samples to train on"
        raise ValueError(f"{name} {what}; use fewer folds, or groups that fill every fold.")
    if len(test) < 2:
        raise ValueError(f"{name} holds out a single sample, on which no score is defined; use fewer folds.")
    if len(shared := np.intersect1d(train, test)):
        raise ValueError(
            f"{name} trains on {len(shared)} samples that it holds out (first {shared[0]}); every sample belongs "
            "to one side."
        )
    return Split(torch.from_numpy(train), torch.from_numpy(test))


def _indices(part: Any, name: str, n_samples: int) -> NDArray[np.int64]:
    """Sorted indices from indices or a mask."""
    index = np.asarray(part)
    if index.dtype == bool and index.shape == (n_samples,):
        return np.flatnonzero(index).astype(np.int64)
    index = np.sort(index.astype(np.int64).reshape(-1))
    if len(index) and not 0 <= index[0] <= index[-1] < n_samples:
        raise ValueError(f"{name} names samples from {index[0]} to {index[-1]}, but there are {n_samples}.")
    if (index[1:] == index[:-1]).any():
        raise ValueError(f"{name} names a sample twice; repeat rows of X and y instead.")
    return index


def group_labels(groups: Any, n_samples: int, arrays: Sequence[Any]) -> NDArray[Any] | None:
    """Labels of samples, looked up where ``groups`` names a coordinate.

    Raises
    ------
    ValueError
        If there is no such coordinate, or not one label a sample.
    """
    if isinstance(groups, str):
        arrays = [array for array in arrays if kind_of(array) == "xarray"]
        found = [array.coords[groups] for array in arrays if groups in array.coords]
        if not found:
            known = sorted({str(name) for array in arrays for name in array.coords})
            raise ValueError(f"there is no coordinate {groups!r} to group by; there are {known}.")
        groups = found[0]
    if groups is None:
        return None
    labels = np.asarray(groups)
    if labels.shape != (n_samples,):
        raise ValueError(
            f"groups have shape {labels.shape}, but there are {n_samples} samples; give one label each."
        )
    return labels


def _require_same_stimuli(X: xr.DataArray, y: xr.DataArray) -> None:
    if "stimulus_id" not in X.coords or "stimulus_id" not in y.coords:
        return
    ours, theirs = X.coords["stimulus_id"].values, y.coords["stimulus_id"].values
    if ours.shape == theirs.shape and (different := np.flatnonzero(ours != theirs)).size:
        first = different[0]
        raise ValueError(
            f"X and y belong to different stimuli in {different.size} rows (first {first}: {ours[first].item()!r} "
            f"and {theirs[first].item()!r}); bring them together with neuro.align."
        )


def name_of(given: Any, dim: int, position: int) -> str:
    """A row or column as its owner knows it."""
    labels = {0: "stimulus_id", 1: "neuroid_id"}[dim]
    if (
        kind_of(given) == "xarray"
        and labels in given.coords
        and given.coords[labels].dims == (given.dims[dim],)
    ):
        return f"{labels} {given.coords[labels].values[position].item()!r}"
    return f"{'row' if dim == 0 else 'column'} {position}"
