"""From words, frames or samples to other samples: the kernels by which values pass from one clock to another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..neuro.assembly import assemble, concat, validate
from .kernels import (
    Items,
    Times,
    Weights,
    fill_empty,
    weigh_held,
    weigh_lanczos,
    weigh_last,
    weigh_linear,
    weigh_nearest,
    weigh_within,
)

Kernel = Literal["lanczos", "mean", "sum", "hold", "last", "linear", "nearest"]
Moment = Literal["onset", "middle", "offset"]
#: values are read and summed in pieces of about this size
CHUNK_BYTES = 64 * 2**20
#: what tells one run from another, each with its own clock
RUN_LABELS = ("subject", "session", "run")
#: labels of a whole run, which its resampled values keep
KEPT = (*RUN_LABELS, "stimulus_id")


def resample_in_time(
    array: xr.DataArray,
    times: Any,
    *,
    kernel: Kernel = "lanczos",
    moment: Moment = "middle",
    at: Literal["start", "middle", "end"] = "middle",
    lobes: int = 3,
    cutoff: float | None = None,
    normalize: bool | None = None,
    fill: Literal["zero", "hold"] | None = None,
) -> xr.DataArray:
    """Bring values that belong to words, frames or samples to the times of a recording.

    Parameters
    ----------
    array
        Words: ``presentation × neuroid`` with ``onset`` and, where known, ``offset`` or ``duration``, in seconds. Or
        frames or samples: ``time_bin × neuroid``.
    times
        The new bins, in seconds: starts (``n``, equally spaced), starts and ends (``n × 2``), or a labelled array
        whose ``time_bin`` is meant, such as the recording. Runs that both name are resampled each by itself.
    kernel
        ``"lanczos"``: windowed sinc, which sums words as impulses and takes out what is faster than ``cutoff`` (as
        in voxel-wise models of language). ``"mean"``, ``"sum"``: of what lies within a bin. ``"hold"``: each value
        lasts from onset to offset (where several do, their average), and a bin takes the average over time, silence
        counting as zero. ``"last"``: the value that came last. ``"linear"``, ``"nearest"``: between neighbours. Only
        ``"last"`` with ``moment="offset"`` never looks ahead; ``"mean"``, ``"sum"`` and ``"hold"`` look to the end of a
        bin, the others beyond it.
    moment
        When a word or sample happens: at its onset, middle or offset (of a network's frame the end of what it saw).
        Impulses at word onset are ``kernel="sum", moment="onset"``. Not used by ``"hold"``.
    at
        Where within a new bin ``"lanczos"``, ``"last"``, ``"linear"`` and ``"nearest"`` are evaluated.
    lobes
        Of the Lanczos kernel on either side; it reaches ``lobes / (2 · cutoff)`` seconds far.
    cutoff
        Of the Lanczos kernel, in Hz. Default: half the rate of the new bins, or of the samples where that is lower.
    normalize
        Divide by the sum of the Lanczos weights. Default: for samples (whose signal is recovered), not for words
        (whose density then counts).
    fill
        For bins without any value: ``None`` (default) refuses them, ``"zero"``, or ``"hold"`` repeats the value
        that came last (zero before the first). Sums, ``"hold"`` and Lanczos of words are zero there anyway.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``, with ``sfreq`` where the bins are equally long; the kernel is in
        ``attrs["provenance"]``.

    Raises
    ------
    ValueError
        If times are missing or do not meet, or bins stay empty, naming the first.

    References
    ----------
    Huth et al. (2016), Natural speech reveals the semantic maps that tile human cerebral cortex, Nature.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models, neuro
    >>> words = neuro.assemble(
    ...     np.ones((4, 2)),
    ...     presentation={"stimulus_id": "story", "onset": [0.2, 0.9, 2.5, 3.1], "offset": [0.5, 1.2, 2.9, 3.8]},
    ...     neuroid={"neuroid_id": ["a", "b"]},
    ...     modality="activation",
    ...     units="a.u.",
    ... )
    >>> models.resample_in_time(words, np.arange(0, 6, 2.0), kernel="sum").values[:, 0].tolist()
    [2.0, 2.0, 0.0]
    """
    kind = _Resampling(kernel, moment, at, lobes, cutoff, normalize, fill)
    kind.check()
    validate(array)
    if not isinstance(times, xr.DataArray):
        return kind.apply(array, _bins_of(times))
    shared = [name for name in RUN_LABELS if name in array.coords and name in times.coords]
    runs, own = _runs_of(times, "time_bin", shared), _runs_of(array, array.dims[0], shared)
    parts = []
    for run, bins in runs.items():
        if run not in own:
            named = ", ".join(f"{name} {label!r}" for name, label in zip(shared, run, strict=True))
            raise ValueError(f"the recording has {named}, which what is to be resampled lacks.")
        part = array.isel({array.dims[0]: own[run]})
        parts.append(kind.apply(part, _bins_of(times.isel(time_bin=bins))))
    return concat(parts, "time_bin")


def _runs_of(array: xr.DataArray, dim: Any, names: list[str]) -> dict[tuple[Any, ...], list[int]]:
    """The rows of each run, runs in the order in which they begin."""
    labels = [np.broadcast_to(array[name].values, array.sizes[dim]).tolist() for name in names]
    runs: dict[tuple[Any, ...], list[int]] = {}
    for row, run in enumerate(zip(*labels, strict=True) if names else [()] * array.sizes[dim]):
        runs.setdefault(tuple(run), []).append(row)
    return runs


@dataclass(frozen=True)
class _Resampling:
    """The options of :func:`resample_in_time`."""

    kernel: Kernel
    moment: Moment
    at: Literal["start", "middle", "end"]
    lobes: int
    cutoff: float | None
    normalize: bool | None
    fill: Literal["zero", "hold"] | None

    def check(self) -> None:
        """Refuse options that are unknown."""
        for name, known in (
            ("kernel", ("lanczos", "mean", "sum", "hold", "last", "linear", "nearest")),
            ("moment", ("onset", "middle", "offset")),
            ("at", ("start", "middle", "end")),
            ("fill", (None, "zero", "hold")),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} is {value!r}; use one of {', '.join(map(repr, known))}.")
        if isinstance(self.lobes, bool) or not isinstance(self.lobes, int) or self.lobes < 1:
            raise ValueError(f"lobes is {self.lobes!r}; give a positive number, such as 3.")
        if self.cutoff is not None and not 0 < self.cutoff < np.inf:
            raise ValueError(f"cutoff is {self.cutoff!r}; give a frequency in Hz above zero.")

    def apply(self, array: xr.DataArray, bins: Times) -> xr.DataArray:
        """Resample one run."""
        items = _items_of(array, self.moment)
        _refuse_elsewhere(items, bins)
        step, samples = float(np.median(bins[:, 1] - bins[:, 0])), array.dims[0] == "time_bin"
        cutoff = self.cutoff or 0.5 / (max(step, items.spacing) if samples else step)
        points = {"start": bins[:, 0], "middle": bins.mean(1), "end": bins[:, 1]}[self.at]
        facts: dict[str, Any] = {
            "kernel": self.kernel,
            "moment": self.moment,
            "at": self.at,
            "fill": self.fill,
        }
        # before its offset what a row stands for is not over
        facts["causal"] = self.kernel == "last" and self.moment == "offset"
        if self.kernel == "lanczos":
            normalize = samples if self.normalize is None else self.normalize
            facts |= {"lobes": self.lobes, "cutoff": cutoff, "normalize": normalize}
            weights = weigh_lanczos(items, points, self.lobes, cutoff, normalize)
        elif self.kernel in ("mean", "sum"):
            weights = weigh_within(items, bins, step, self.kernel == "mean")
        elif self.kernel == "hold":
            weights = weigh_held(items, bins)
        elif self.kernel == "last":
            weights = weigh_last(items, points, step)
        elif self.kernel == "linear":
            weights = weigh_linear(items, points, step)
        else:
            weights = weigh_nearest(items, points)
        weights = fill_empty(weights, items, bins, self.fill, self.kernel)
        return _labelled(_apply(weights, array), array, bins, facts)


def _items_of(array: xr.DataArray, moment: Moment) -> Items:
    dim = array.dims[0]
    if array.ndim != 2 or dim not in ("presentation", "time_bin"):
        raise ValueError(
            f"the array is {' × '.join(map(str, array.dims))}; give presentation × neuroid or time_bin × neuroid."
        )
    names = ("onset", "offset") if dim == "presentation" else ("time_bin_start", "time_bin_end")
    if names[0] not in array.coords:
        raise ValueError("the array has no 'onset'; give the times of the words to extract_text as words=.")
    runs = len(set(array["run"].values.reshape(-1).tolist())) if "run" in array.coords else 1
    if runs > 1:
        raise ValueError(f"the array has {runs} runs, each with its own clock; give times= with a run, too.")
    onset = offset = array[names[0]].values.astype(float)
    if names[1] in array.coords:
        offset = array[names[1]].values.astype(float)
    elif "duration" in array.coords:
        offset = onset + array["duration"].values.astype(float)
    wrong = np.flatnonzero(~(np.isfinite(onset) & np.isfinite(offset)))
    if wrong.size:
        raise ValueError(
            f"row {wrong[0]} has no time ({onset[wrong[0]]} to {offset[wrong[0]]} s); leave it out."
        )
    back = np.flatnonzero(np.diff(onset) < 0) if dim == "time_bin" else np.array([], int)
    if back.size:
        raise ValueError(
            f"time begins again at row {back[0] + 1}; give every clip a 'run' or 'onset', or resample one by one."
        )
    time = {"onset": onset, "middle": (onset + offset) / 2, "offset": offset}.get(moment, onset)
    return Items(onset, offset, time, np.argsort(time, kind="stable"))


def _bins_of(times: Any) -> Times:
    """Starts and ends of the new bins."""
    if isinstance(times, xr.DataArray):
        if "time_bin" not in times.dims:
            raise ValueError(f"times is {' × '.join(map(str, times.dims))}; give an array with time_bin.")
        return np.stack([times["time_bin_start"].values, times["time_bin_end"].values], axis=1).astype(float)
    bins = np.asarray(times, dtype=float)
    if bins.ndim == 1 and len(bins) > 1:
        steps = np.diff(bins)
        if not np.allclose(steps, steps[0], rtol=1e-3):
            raise ValueError("the new times are not equally spaced; give starts and ends (n × 2).")
        bins = np.stack([bins, bins + steps.mean()], axis=1)
    if bins.ndim != 2 or bins.shape[1] != 2 or not len(bins):
        raise ValueError(f"times has the shape {bins.shape}; give starts (n) or starts and ends (n × 2).")
    wrong = np.flatnonzero(~(bins[:, 0] < bins[:, 1]))
    if wrong.size:
        start, end = bins[wrong[0]]
        raise ValueError(
            f"the new bin {wrong[0]} starts at {start} s and ends at {end} s; it must end later."
        )
    if (np.diff(bins[:, 0]) <= 0).any():
        raise ValueError("the new bins are not in the order of time; sort them.")
    return bins


def _apply(weights: Weights, array: xr.DataArray) -> NDArray[Any]:
    """Sum in double precision, reading the array piece by piece."""
    from scipy import sparse

    n_rows, n_units = array.shape
    matrix = sparse.csc_matrix((weights.weight, (weights.bin, weights.row)), (len(weights.empty), n_rows))
    total = np.zeros((matrix.shape[0], n_units))
    step = max(1, CHUNK_BYTES // (8 * n_units))
    for start in range(0, n_rows, step):
        values = np.asarray(array[start : start + step].values, dtype=float)
        if not np.isfinite(values.sum()):
            row = start + int(np.argmin(np.isfinite(values).all(1)))
            raise ValueError(f"row {row} of the array has missing or infinite values; leave it out first.")
        total += matrix[:, start : start + step] @ values
    return total.astype(np.result_type(array.dtype, np.float32), copy=False)


def _labelled(values: NDArray[Any], array: xr.DataArray, bins: Times, facts: dict[str, Any]) -> xr.DataArray:
    dim = array.dims[0]
    table: dict[str, Any] = {"time_bin_start": bins[:, 0], "time_bin_end": bins[:, 1]}
    for name in KEPT:
        if name in array.coords and array[name].dims in ((dim,), ()):
            labels = dict.fromkeys(array[name].values.reshape(-1).tolist())
            if len(labels) == 1:
                table[name] = next(iter(labels))
    neuroid = {str(name): label.values for name, label in array.coords.items() if label.dims == ("neuroid",)}
    steps = np.diff(bins[:, 0])
    regular = len(steps) and np.allclose(steps, steps[0], rtol=1e-3)
    made = {"resampled": facts, "from": array.attrs.get("provenance", "")}
    return assemble(
        values,
        time_bin=table,
        neuroid=neuroid,
        modality=array.attrs["modality"],
        units=array.attrs["units"],
        sfreq=float(1 / steps.mean()) if regular else None,
        provenance=json.dumps(made),
    )


def _refuse_elsewhere(items: Items, bins: Times) -> None:
    """All values far from all bins are seldom meant: milliseconds, or another clock."""
    if items.offset.max() < bins[0, 0] or items.onset.min() > bins[-1, 1]:
        raise ValueError(
            f"the values lie at {items.onset.min():g} to {items.offset.max():g} s, the new bins at {bins[0, 0]:g} to "
            f"{bins[-1, 1]:g} s; bring both to one clock, in seconds."
        )
