"""Chance by permutation: p-values of scores without a refit, corrected over units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .scorers import Array, Scorer
from .splits import Splits

Fold = tuple[Array, Array]


def attach_significance(
    dataset: xr.Dataset,
    held_out: Mapping[str, Sequence[Fold]],
    rows: xr.DataArray,
    splits: Splits,
    scorer: Scorer,
    n_permutations: int,
    exchange: str | None,
    random_state: int | None,
) -> None:
    """Put ``p``, ``p_fdr`` and ``p_max`` (model × unit) beside the scores of ``dataset``.

    Parameters
    ----------
    held_out
        For each model the ``(truth, prediction)`` of every fold.
    rows
        The array that was split; where it has the coordinate ``exchange``, rows of equal value move together,
        else a continuous recording is rotated and presentations are permuted.
    """
    known = exchange is not None and exchange in rows.coords
    blocks = [rows.coords[exchange].values[test] if known else None for _, test in splits.folds]
    shift = rows.dims[0] == "time_bin" and not known
    columns: dict[str, list[Array]] = {"p": [], "p_fdr": [], "p_max": []}
    for name, folds in held_out.items():
        null = null_scores(
            folds, scorer, n_permutations, blocks=blocks, shift=shift, random_state=random_state
        )
        observed = dataset["score"].sel(model=name).mean("split").values
        for key, values in p_values(observed, null).items():
            columns[key].append(values)
    for key, rows_of_p in columns.items():
        dataset[key] = (("model", "unit"), np.array(rows_of_p))


def null_scores(
    folds: Sequence[Fold],
    scorer: Scorer,
    n_permutations: int,
    *,
    blocks: Sequence[Array | None],
    shift: bool = False,
    random_state: int | None = 0,
) -> NDArray[np.float64]:
    """Scores of held-out predictions against exchanged truth, averaged over folds.

    Parameters
    ----------
    folds
        ``(truth, prediction)`` of each held-out part, rows × units or class labels. All units are exchanged
        together, so that their dependence stays in the null distribution of the maximum.
    n_permutations
        How many draws.
    blocks
        For each fold one label a row; rows of a block (consecutive volumes of one trial) move together, because
        neighbours in time are not exchangeable. ``None`` where every row is its own block.
    shift
        Rotate the rows of a time series by a random lag instead of permuting them.

    Returns
    -------
    numpy.ndarray
        permutations × units.
    """
    rng = np.random.default_rng(random_state)
    nulls = []
    for _ in range(n_permutations):
        scores = [
            np.atleast_1d(scorer.function(truth[_exchange(len(truth), block, shift, rng)], prediction))
            for (truth, prediction), block in zip(folds, blocks, strict=True)
        ]
        nulls.append(np.mean(scores, axis=0))
    return np.asarray(nulls, dtype=np.float64)


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
        Hochberg (1995); ``p_max`` against the largest score over units (Nichols & Holmes, 2002).
    """
    n = len(null) + 1
    p = (1 + (null >= observed).sum(axis=0)) / n
    largest = np.nanmax(null, axis=1, keepdims=True)
    p_max = (1 + (largest >= observed).sum(axis=0)) / n
    missing = ~np.isfinite(observed)
    p, p_max = np.where(missing, np.nan, p), np.where(missing, np.nan, p_max)
    return {"p": p, "p_fdr": false_discovery_rate(p), "p_max": p_max}


def false_discovery_rate(p: Array) -> Array:
    """Benjamini and Hochberg's adjusted p-values; missing ones stay missing."""
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])[::-1]]
    ranks = np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.minimum.accumulate(p[order] * len(order) / ranks), 1)
    return out


def _exchange(n: int, block: Array | None, shift: bool, rng: np.random.Generator) -> NDArray[np.intp]:
    """New order of the rows: rotated, permuted, or permuted by blocks of equal length."""
    if shift:
        return np.roll(np.arange(n), rng.integers(1, n)) if n > 1 else np.arange(n)
    if block is None:
        return rng.permutation(n)
    codes = pd.factorize(block)[0]
    rows = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    if len({len(r) for r in rows}) > 1:
        shortest = min(len(r) for r in rows)
        raise ValueError(
            f"blocks of a fold hold {shortest} to {max(len(r) for r in rows)} rows, so they cannot be exchanged; "
            "average each block or give blocks of equal length."
        )
    order = rng.permutation(len(rows))
    out = np.empty(n, dtype=np.intp)
    for place, source in enumerate(order):
        out[rows[place]] = rows[source]
    return out
