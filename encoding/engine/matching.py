"""Units of two representations matched to each other: one to one, or softly by optimal transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .representations import standardised

Array = NDArray[np.float64]
Fold = tuple[torch.Tensor, torch.Tensor]

#: candidate partners of every unit with which transport begins, and how many may join in a round
PARTNERS = 8


class Matching(NamedTuple):
    """Which unit (of the first) goes with which (of the second), and with what weight; weights sum to 1."""

    rows: torch.Tensor
    columns: torch.Tensor
    weights: torch.Tensor


def matched_correlation(
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    orders: torch.Tensor,
    folds: Sequence[Fold] | None = None,
    *,
    soft: bool = False,
    distance: bool = False,
) -> torch.Tensor:
    """Mean correlation over stimuli of matched units, for all of ``a`` with all of ``b``.

    Parameters
    ----------
    a, b
        Representations, ``(stimuli, units)``.
    orders
        ``(orders, stimuli)``: which row of ``b`` goes with each row of ``a``.
    folds
        Training and held-out stimuli: matched on the one, correlated on the other, mean over folds. ``None``: both on
        all stimuli. A unit that does not vary counts with correlation 0.
    soft
        Every unit of either side counts equally, and is divided between partners (Khosla & Williams, 2024); else
        every unit has one partner at most (Li et al., 2015), so that the larger side leaves some out.
    distance
        ``sqrt(2 - 2 r)``: the distance of units of length 1; of soft matching the 2-Wasserstein metric.

    Returns
    -------
    torch.Tensor
        ``(orders, a, b)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.matching import matched_correlation
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> matched_correlation([x], [x.flip(1)], torch.arange(3)[None]).round(decimals=4).tolist()
    [[[1.0]]]
    """
    everything = torch.arange(orders.shape[1], device=orders.device)
    parts = [(everything, everything)] if folds is None else folds
    found = a[0].new_zeros(len(orders), len(a), len(b))
    for train, test in parts:
        left = [(standardised(x[train]), standardised(x[test])) for x in a]
        for k, order in enumerate(orders):
            right = [(standardised(y[order[train]]), standardised(y[order[test]])) for y in b]
            for i, (x, x_test) in enumerate(left):
                for j in range(i if b is a else 0, len(b)):
                    y, y_test = right[j]
                    match = (transport if soft else assign)(x.mT @ y)
                    r = (x_test[:, match.rows] * y_test[:, match.columns]).sum(0)
                    found[k, i, j] += (r * match.weights).sum() / len(parts)
    if b is a:
        found = found.triu() + found.triu(1).mT
    return (2 - 2 * found).clamp(min=0).sqrt() if distance else found


def assign(similarity: torch.Tensor) -> Matching:
    """Partners, one to one, whose similarities have the largest sum; of the larger side some are left out.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.matching import assign
    >>> assign(torch.tensor([[0.9, 1.0, 0.0], [0.1, 0.9, 0.0]])).columns.tolist()
    [0, 1]
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(similarity.cpu().numpy(), maximize=True)
    weights = np.full(len(rows), 1 / len(rows))
    return _matching(rows, columns, weights, similarity)


def transport(similarity: torch.Tensor) -> Matching:
    """Optimal transport between units that all weigh the same: the plan with the largest mean similarity.

    Exact. Equal numbers of units are assigned; else a linear program over few candidate pairs is solved, and pairs
    that its prices show to be worth more than they cost join it until there is none.

    Parameters
    ----------
    similarity
        ``(units, other units)``.

    Returns
    -------
    Matching
        Weights sum to 1 / units over the partners of a unit of the first, and 1 / other units of the second.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.matching import transport
    >>> transport(torch.tensor([[1.0, 0.9, 0.0], [0.0, 0.1, 1.0]])).weights.sum().item()
    1.0
    """
    p, q = similarity.shape
    if p == q:
        return assign(similarity)
    values = similarity.detach().cpu().numpy().astype(np.float64)
    chosen = _candidates(values)
    tolerance = 1e-10 * max(1.0, float(np.abs(values).max()))
    while True:
        rows, columns = np.nonzero(chosen)
        weights, prices_a, prices_b = _solve(values, rows, columns)
        gain = values - prices_a[:, None] - prices_b
        gain[chosen] = 0
        missing = gain > tolerance
        if not missing.any():
            break
        # the pairs that promise most of each unit: adding all would make the program as large as it was to avoid
        best = np.argpartition(-gain, min(PARTNERS, q - 1), axis=1)[:, :PARTNERS]
        chosen[np.arange(p)[:, None], best] |= missing[np.arange(p)[:, None], best]
    used = weights > 0
    return _matching(rows[used], columns[used], weights[used], similarity)


def _candidates(values: Array) -> NDArray[np.bool_]:
    """The most similar units of each, and a way to transport everything, so that the program has a solution."""
    p, q = values.shape
    chosen = np.zeros((p, q), dtype=bool)
    rows = np.argpartition(-values, min(PARTNERS, q - 1), axis=1)[:, :PARTNERS]
    columns = np.argpartition(-values, min(PARTNERS, p - 1), axis=0)[:PARTNERS]
    chosen[np.arange(p)[:, None], rows] = True
    chosen[columns, np.arange(q)] = True
    # intervals of [0, 1] that units of either side take up overlap exactly where some weight can go
    edges = np.unique(np.r_[np.arange(p) * q, np.arange(q) * p])
    chosen[edges // q, edges // p] = True
    return chosen


def _solve(values: Array, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> tuple[Array, Array, Array]:
    """Weights of some pairs, and prices of all units, of the transport with the largest sum."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    p, q = values.shape
    pairs = np.arange(len(rows))
    ones = np.ones(2 * len(rows))
    constraints = csr_array((ones, (np.r_[rows, p + columns], np.r_[pairs, pairs])), shape=(p + q, len(rows)))
    # in units of which both sides have whole numbers; the shares of one unit are 1 / p and 1 / q
    totals = np.r_[np.full(p, float(q)), np.full(q, float(p))]
    solved: Any = linprog(-values[rows, columns], A_eq=constraints, b_eq=totals, method="highs-ds")
    if solved.status != 0:
        raise RuntimeError(f"the transport between {p} and {q} units was not solved: {solved.message}")
    prices = -solved.eqlin.marginals
    return solved.x / (p * q), prices[:p], prices[p:]


def _matching(rows: Any, columns: Any, weights: Any, like: torch.Tensor) -> Matching:
    first, second = (torch.as_tensor(side, device=like.device) for side in (rows, columns))
    return Matching(first, second, torch.as_tensor(weights, dtype=like.dtype, device=like.device))
