"""Chance by permutation: the whole cross-validation repeated on exchanged truth, corrected over units.

Exchanging held-out truth against fixed predictions would be cheaper, and wrong: the folds of one cross-validation
share their training rows, so their scores vary together, and 5 % of noise came out as 13 % in simulation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .scorers import Array


def check_count(n: Any, name: str) -> None:
    """Raise a ``ValueError`` if ``n`` is no number of repetitions."""
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 0:
        raise ValueError(f"{name} is {n!r}; give how many, 0 for none.")


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
    missing = np.isnan(observed)
    # the same order of rows may be fitted in other company, which changes the last digits
    reached = observed - 1e-10 * np.abs(observed)
    largest = np.where(np.isnan(null), -np.inf, null).max(axis=1, keepdims=True)
    # a draw without a score counts as one that did as well
    p = np.where(missing, np.nan, (1 + (~(null < reached)).sum(axis=0)) / n)
    p_max = np.where(missing, np.nan, (1 + (largest >= reached).sum(axis=0)) / n)
    return {"p": p, "p_fdr": false_discovery_rate(p), "p_max": p_max}


def false_discovery_rate(p: Array) -> Array:
    """Benjamini and Hochberg's adjusted p-values; missing ones stay missing."""
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])[::-1]]
    ranks = np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.minimum.accumulate(p[order] * len(order) / ranks), 1)
    return out
