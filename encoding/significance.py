"""Chance by permutation: the whole cross-validation repeated on exchanged truth, corrected over units.

Exchanging held-out truth against fixed predictions would be cheaper, and wrong: the folds of one cross-validation
share their training rows, so their scores vary together, and 5 % of noise came out as 13 % in simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .scorers import Array
from .splits import RECORDING_GROUPS, Indices

Order = Callable[[np.random.Generator], Indices]


def find_exchange(rows: xr.DataArray, exchange: str | None, within_recordings: bool) -> Order:
    """A function that draws one new order of the rows in which chance alone relates features and truth.

    Parameters
    ----------
    rows
        The array that is split.
    exchange
        Rows of equal value of this coordinate (volumes of one block, repeats of one stimulus) move together, where
        it exists. Without it the truth of a continuous recording is rotated by a random lag within each run.
    within_recordings
        Exchange within runs, sessions or subjects only.

    Raises
    ------
    ValueError
        If blocks that would change places differ in length.
    """
    n = rows.sizes[rows.dims[0]]
    recording = np.zeros(n, dtype=int)
    if within_recordings or rows.dims[0] == "time_bin":
        for name in RECORDING_GROUPS:
            if name in rows.coords and rows.coords[name].dims == rows.dims[:1]:
                recording = pd.factorize(rows.coords[name].values)[0]
                break
    parts = [np.flatnonzero(recording == code) for code in range(recording.max() + 1)]
    if exchange is not None and exchange in rows.coords and rows.coords[exchange].dims == rows.dims[:1]:
        blocks = [_blocks(part, rows.coords[exchange].values[part], exchange) for part in parts]
        return lambda rng: _filled(n, ((b, [b[k] for k in rng.permutation(len(b))]) for b in blocks))
    if rows.dims[0] == "time_bin":
        return lambda rng: _filled(n, (([p], [np.roll(p, rng.integers(1, max(2, len(p))))]) for p in parts))
    return lambda rng: _filled(n, (([p], [rng.permutation(p)]) for p in parts))


def null_scores(
    score: Callable[[Array], Array],
    truth: Array,
    order: Order,
    n_permutations: int,
    *,
    n_together: int = 1,
    random_state: int | None = 0,
) -> Iterator[NDArray[np.float64]]:
    """Yield the scores of all units under each exchange of the truth; all units are exchanged together.

    Parameters
    ----------
    score
        Runs the whole cross-validation on a truth, rows × columns, and gives one score a column (or one for labels).
    truth
        Rows × units, or one label a row.
    order
        What :func:`find_exchange` gave.
    n_together
        How many exchanges are laid side by side as further columns, for estimators that fit each column alone.

    Yields
    ------
    numpy.ndarray
        ``(units,)``, so that the dependence of units stays in the distribution of the maximum.
    """
    rng = np.random.default_rng(random_state)
    for start in range(0, n_permutations, n_together):
        drawn = [truth[order(rng)] for _ in range(min(n_together, n_permutations - start))]
        scores = score(drawn[0] if len(drawn) == 1 else np.concatenate(drawn, axis=1))
        yield from np.asarray(scores, dtype=np.float64).reshape(len(drawn), -1)


def p_values(observed: Array, null: Array) -> dict[str, Array]:
    """One-sided p of each unit, its false discovery rate and its family-wise p by the maximum.

    Parameters
    ----------
    observed
        One score a unit.
    null
        permutations × units.

    Returns
    -------
    dict
        ``p`` counts the observed score as one draw (Phipson & Smyth, 2010); ``p_fdr`` after Benjamini and
        Hochberg (1995); ``p_max`` against the largest score over units (Nichols & Holmes, 2002). Units without a
        score have no p.
    """
    n = len(null) + 1
    largest = np.nanmax(null, axis=1, keepdims=True)
    missing = ~np.isfinite(observed)
    p = np.where(missing, np.nan, (1 + (null >= observed).sum(axis=0)) / n)
    p_max = np.where(missing, np.nan, (1 + (largest >= observed).sum(axis=0)) / n)
    return {"p": p, "p_fdr": false_discovery_rate(p), "p_max": p_max}


def false_discovery_rate(p: Array) -> Array:
    """Benjamini and Hochberg's adjusted p-values; missing ones stay missing."""
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])[::-1]]
    ranks = np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.minimum.accumulate(p[order] * len(order) / ranks), 1)
    return out


def _blocks(part: Indices, labels: Array, exchange: str) -> list[Indices]:
    codes = pd.factorize(labels)[0]
    blocks = [part[codes == code] for code in range(codes.max() + 1)]
    lengths = sorted({len(block) for block in blocks})
    if len(lengths) > 1:
        raise ValueError(
            f"{exchange}s hold {lengths[0]} to {lengths[-1]} rows, so they cannot change places in a permutation; "
            f"average each {exchange}, or pass another exchange= coordinate."
        )
    return blocks


def _filled(n: int, moves: Iterator[tuple[list[Indices], list[Indices]]]) -> Indices:
    """Row ``order[i]`` comes to place ``i``, for lists of places and the rows that move there."""
    order = np.arange(n)
    for places, sources in moves:
        order[np.concatenate(places)] = np.concatenate(sources)
    return order
