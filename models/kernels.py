"""Kernels in time: how much each row of an array, which happens at some time, counts for each new bin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]

#: of an interval between bins; a time this close to an edge lies on it
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Items:
    """When the rows of an array begin, end and happen, and their order in time."""

    onset: Times
    offset: Times
    time: Times
    order: NDArray[np.intp]

    @property
    def sorted(self) -> Times:
        """The times at which rows happen, in order."""
        return self.time[self.order]

    @property
    def spacing(self) -> float:
        """Between one row and the next, typically."""
        return float(np.median(np.diff(self.sorted))) if len(self.time) > 1 else 0.0


@dataclass(frozen=True)
class Weights:
    """Sparse weights from rows to bins, and the bins that no row reaches."""

    bin: NDArray[np.intp]
    row: NDArray[np.intp]
    weight: Times
    empty: NDArray[np.bool_]


def _pairs(low: NDArray[np.intp], high: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All (bin, position in time) with ``low <= position < high``."""
    counts = np.maximum(high - low, 0)
    bins = np.repeat(np.arange(len(low)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return bins, np.arange(counts.sum()) - first + np.repeat(low, counts)


def weigh_lanczos(items: Items, points: Times, lobes: int, cutoff: float, normalize: bool) -> Weights:
    """sinc(x) · sinc(x / lobes), x in half-periods of the cutoff."""
    reach = lobes / (2 * cutoff)
    low = np.searchsorted(items.sorted, points - reach, side="left")
    high = np.searchsorted(items.sorted, points + reach, side="right")
    bins, positions = _pairs(low, high)
    x = 2 * cutoff * (points[bins] - items.sorted[positions])
    weight = np.sinc(x) * np.sinc(x / lobes)
    empty = np.zeros(len(points), bool)
    if normalize:
        total = np.bincount(bins, weight, len(points))
        # where samples are missing the weights that remain may cancel, and their quotient would explode
        typical = 1 / (2 * cutoff * items.spacing) if items.spacing > 0 else 1.0
        empty = total < 0.25 * min(typical, 1.0)
        weight = np.where(empty[bins], 0, weight / np.where(empty, 1, total)[bins])
    return Weights(bins, items.order[positions], weight, empty)


def weigh_within(items: Items, bins: Times, step: float, mean: bool) -> Weights:
    """What happens within a bin, its end excluded."""
    edges = np.searchsorted(items.sorted, bins - TOLERANCE * step)
    which, positions = _pairs(edges[:, 0], edges[:, 1])
    counts = edges[:, 1] - edges[:, 0]
    weight = 1 / counts[which] if mean else np.ones(len(which))
    return Weights(which, items.order[positions], weight, (counts == 0) & mean)


def weigh_held(items: Items, bins: Times) -> Weights:
    """The share of each bin that a row covers; where rows overlap, at each moment their average counts."""
    brief = np.flatnonzero(items.offset <= items.onset)
    if brief.size:
        raise ValueError(
            f"row {brief[0]} has no duration to be held for; give 'offset', or take kernel='sum' for impulses."
        )
    order = np.argsort(items.onset, kind="stable")
    onset, offset = items.onset[order], items.offset[order]
    low = np.searchsorted(np.maximum.accumulate(offset), bins[:, 0], side="right")
    which, positions = _pairs(low, np.searchsorted(onset, bins[:, 1]))
    begin, end = np.maximum(onset[positions], bins[which, 0]), np.minimum(offset[positions], bins[which, 1])
    weight = _shared_time(onset, offset, begin, np.maximum(begin, end)) / (bins[:, 1] - bins[:, 0])[which]
    return Weights(which, order[positions], weight, np.zeros(len(bins), bool))


def _shared_time(onset: Times, offset: Times, begin: Times, end: Times) -> Times:
    """Seconds from ``begin`` to ``end``, of which each row gets its part where several last at once."""
    changes = np.concatenate([onset, offset])
    order = np.argsort(changes, kind="stable")
    times = changes[order]
    active = np.cumsum(np.repeat([1, -1], len(onset))[order])[:-1]
    shares = np.diff(times) / np.maximum(active, 1) * (active > 0)
    passed = np.concatenate([[0.0], np.cumsum(shares)])
    return np.interp(end, times, passed) - np.interp(begin, times, passed)


def weigh_last(items: Items, points: Times, step: float) -> Weights:
    """The row that happened last, at the latest at that time."""
    before = np.searchsorted(items.sorted, points + TOLERANCE * step, side="right") - 1
    return _picked(items, before, before < 0)


def weigh_nearest(items: Items, points: Times) -> Weights:
    """The row that happens nearest, the earlier one of two."""
    after = np.clip(np.searchsorted(items.sorted, points), 1, max(len(items.time) - 1, 1))
    after = np.minimum(after, len(items.time) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(points - items.sorted[before]) <= np.abs(points - items.sorted[after])
    return _picked(items, np.where(nearer, before, after), np.zeros(len(points), bool))


def _picked(items: Items, positions: NDArray[np.intp], empty: NDArray[np.bool_]) -> Weights:
    bins = np.flatnonzero(~empty)
    return Weights(bins, items.order[positions[bins]], np.ones(len(bins)), empty)


def weigh_linear(items: Items, points: Times, step: float) -> Weights:
    """The rows before and after, by their nearness."""
    times, slack = items.sorted, TOLERANCE * step
    empty = (points < times[0] - slack) | (points > times[-1] + slack)
    bins = np.flatnonzero(~empty)
    after = np.clip(np.searchsorted(times, points[bins]), 1, max(len(times) - 1, 1))
    after = np.minimum(after, len(times) - 1)
    before = np.maximum(after - 1, 0)
    gap = times[after] - times[before]
    share = np.clip((points[bins] - times[before]) / np.where(gap > 0, gap, 1), 0, 1)
    rows = items.order[np.concatenate([before, after])]
    return Weights(np.concatenate([bins, bins]), rows, np.concatenate([1 - share, share]), empty)


def fill_empty(
    weights: Weights, items: Items, bins: Times, fill: Literal["zero", "hold"] | None, kernel: str
) -> Weights:
    """Give empty bins what ``fill`` says."""
    empty = np.flatnonzero(weights.empty)
    if empty.size and fill is None:
        start, end = bins[empty[0]]
        raise ValueError(
            f"{empty.size} new bins are empty for kernel={kernel!r}, the first from {start:g} to {end:g} s; give "
            "fill='zero' or fill='hold', or choose wider bins."
        )
    if not empty.size or fill == "zero":
        return weights
    before = np.searchsorted(items.sorted, bins[empty, 1], side="left") - 1
    empty, before = empty[before >= 0], before[before >= 0]
    return Weights(
        np.concatenate([weights.bin, empty]),
        np.concatenate([weights.row, items.order[before]]),
        np.concatenate([weights.weight, np.ones(len(empty))]),
        weights.empty,
    )
