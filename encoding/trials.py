"""Continuous recordings and trials as tables of samples, and where in them one run ends and the next begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from .containers import kind_of, labels_along
from .inputs import group_labels
from .splits import BORDERS, run_ends


@dataclass(frozen=True)
class Trials:
    """A recording as runs, each ``(samples, channels or features)``, and how it was given.

    ``form`` is ``"table"`` (one array of samples × channels), ``"list"`` (one array a trial), or ``"stack"``
    (trials × samples × channels; a labelled array in any order with ``time_bin`` for the samples).
    """

    runs: list[Any]
    form: Literal["table", "list", "stack"]
    given: Any

    @classmethod
    def of(cls, X: Any) -> Trials:
        """See what ``X`` is.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.encoding.trials import Trials
        >>> Trials.of(np.zeros((3, 50, 2))).table().shape
        (150, 2)
        """
        if isinstance(X, list | tuple) and len(X) and all(np.ndim(run) == 2 for run in X):
            return cls([_array(run) for run in X], "list", X)
        if isinstance(X, xr.DataArray) and X.ndim == 3 and "time_bin" in X.dims:
            trial, channel = (dim for dim in X.dims if dim != "time_bin")
            stack = X.transpose(trial, "time_bin", channel)
            return cls([stack.isel({trial: k}, drop=True) for k in range(len(stack))], "stack", X)
        if getattr(X, "ndim", 2) == 3 and kind_of(X) != "xarray":
            return cls(list(_array(X)), "stack", X)
        return cls([X], "table", X)

    def table(self) -> Any:
        """All runs, one after the other, as one table of the kind that was given."""
        if self.form == "stack" and kind_of(self.given) != "xarray":
            stack = _array(self.given)
            return stack.reshape(-1, stack.shape[2])
        return self.given if self.form == "table" else join(self.runs)

    def responses(self, y: Any) -> Any:
        """Responses in the same trials, ``(samples,)`` or ``(samples, targets)`` each, as one table.

        Raises
        ------
        ValueError
            If there are more or fewer trials or samples.
        """
        if self.form == "table":
            return y
        trials = Trials.of(y)
        runs = trials.runs if trials.form == "stack" else [_array(run) for run in y]
        lengths = [len(run) for run in self.runs]
        if len(runs) != len(lengths):
            raise ValueError(f"X has {len(lengths)} trials and y has {len(runs)}; give one each.")
        for k, (run, length) in enumerate(zip(runs, lengths, strict=True)):
            if len(run) != length:
                raise ValueError(f"trial {k} has {length} samples in X and {len(run)} in y; give one each.")
        return trials.table() if trials.form == "stack" else join(runs)

    def labels(self) -> NDArray[np.intp] | None:
        """Number of the trial of every sample, where trials were given one by one."""
        if self.form == "table":
            return None
        return np.repeat(np.arange(len(self.runs)), [len(run) for run in self.runs])

    def give_back(self, results: list[Any]) -> Any:
        """Results of the runs in the form of what was given."""
        if self.form == "list":
            return results
        if self.form == "table":
            return results[0] if len(results) == 1 else join(results)
        if kind_of(results[0]) == "torch":
            return torch.stack(results)
        if kind_of(results[0]) == "numpy":
            return np.stack(results)
        trial, *others = (dim for dim in self.given.dims if dim != "time_bin")
        stacked = _concatenate(results, trial).assign_coords(labels_along(self.given, trial))
        if stacked.ndim < 3:
            return stacked
        target = next(dim for dim in stacked.dims if dim not in (trial, "time_bin"))
        return stacked.transpose(*(target if dim == others[0] else dim for dim in self.given.dims))


def join(tables: Sequence[Any]) -> Any:
    """Tables of samples one after the other; labels of the samples are joined, all others are those of the first."""
    if kind_of(tables[0]) == "torch":
        return torch.cat(list(tables))
    if kind_of(tables[0]) == "numpy":
        return np.concatenate(tables)
    return _concatenate(tables, tables[0].dims[0])


def split_runs(table: Any, codes: NDArray[np.intp]) -> list[Any]:
    """The runs of a table, in order."""
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    if len(starts) == 1:
        return [table]
    rows = getattr(table, "iloc", _array(table))
    return [rows[start:stop] for start, stop in zip(starts, [*starts[1:], len(codes)], strict=True)]


def recordings(
    n_samples: int, groups: Any = None, arrays: Sequence[Any] = ()
) -> tuple[NDArray[np.intp], NDArray[np.intp] | None]:
    """Which run each sample belongs to, and by what runs are kept together in folds.

    Parameters
    ----------
    n_samples
        Number of samples.
    groups
        One label a sample, or the name of a coordinate. A run ends where the label changes.
    arrays
        Labelled arrays of these samples, others are ignored: a run also ends where one of their coordinates ``trial``,
        ``run``, ``session`` or ``subject`` changes, and where a time bin does not begin at the end of the last.

    Returns
    -------
    runs
        Number of the run of each sample, ascending.
    groups
        Numbers of the groups: those given, else of ``trial``, ``run``, …; ``None`` where there is only one.

    Examples
    --------
    >>> from cerebridge.encoding.trials import recordings
    >>> recordings(5, ["a", "a", "b", "b", "a"])[0].tolist()
    [0, 0, 1, 1, 2]
    """
    labelled = [array for array in arrays if kind_of(array) == "xarray"]
    keys = [
        array.coords[name].values
        for array in labelled
        for name in BORDERS
        if name in array.coords and array.coords[name].dims == array.dims[:1]
    ]
    labels = group_labels(groups, n_samples, labelled)
    border = np.zeros(n_samples, dtype=bool)
    if labels is not None:
        border[1:] = labels[1:] != labels[:-1]
    for array in labelled:
        border[1:] |= run_ends(array)
    if labels is None and keys:
        labels = pd.MultiIndex.from_arrays(keys).factorize()[0]
    kept = None if labels is None else pd.factorize(labels)[0].astype(np.intp)
    return np.cumsum(border).astype(np.intp), None if kept is None or not kept.max() else kept


def _array(x: Any) -> Any:
    """Anything that is no array or table as one."""
    return x if hasattr(x, "shape") else np.asarray(x)


def _concatenate(arrays: Sequence[xr.DataArray], dim: Any) -> xr.DataArray:
    return xr.concat(
        arrays, dim, coords="minimal", compat="override", join="override", combine_attrs="override"
    )
