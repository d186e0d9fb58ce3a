"""Rank correlations of vectors whose elements count several times, many weightings at once.

Ranks, weights and sums of ranks are whole numbers. Packed into one integer an element, they are sorted at once: no
order has to be looked up afterwards.
"""

from __future__ import annotations

import numpy as np
import torch

#: blocks this short are cheaper to count by comparing all their pairs
SHORT = 16
#: elements to work on at once: so few that temporaries stay in the processor's cache and that operations do not wait
#: for other threads, or enough to fill a GPU
CHUNK = {"cpu": 1 << 15, "cuda": 1 << 24}
RANKED = ("spearman", "rho-a", "tau-a", "tau-b")


def dense_codes(values: torch.Tensor) -> torch.Tensor:
    """Number the distinct values along the last axis from 0, in rising order.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.reranking import dense_codes
    >>> dense_codes(torch.tensor([0.5, 0.1, 0.5, 0.9])).tolist()
    [1, 0, 1, 2]
    """
    if values.device.type == "cpu":
        order = torch.from_numpy(np.argsort(values.numpy(), axis=-1))
    else:
        order = values.argsort(dim=-1)
    ordered = values.gather(-1, order)
    steps = torch.zeros_like(order)
    steps[..., 1:] = (ordered[..., 1:] != ordered[..., :-1]).cumsum(dim=-1)
    return torch.empty_like(order).scatter_(-1, order, steps)


def reweighted_ranks(codes: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Twice the mid-rank of every element, less its mean, where elements count several times.

    Each vector is sorted once; for all weightings ranks are cumulative sums in that order.

    Parameters
    ----------
    codes
        ``(v, p)`` from :func:`dense_codes`.
    weights
        ``(n, p)`` whole numbers.

    Returns
    -------
    torch.Tensor
        ``(n, v, p)`` in the dtype of the weights. An element that counts w times is w tied elements; one that counts
        0 times has the rank it would have among the others.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.reranking import reweighted_ranks
    >>> reweighted_ranks(torch.tensor([[0, 1, 2]]), torch.tensor([[1, 2, 1]])).tolist()
    [[[-3, 0, 3]]]
    """
    n, p = weights.shape
    ranks = weights.new_empty(n, len(codes), p)
    # samples lie side by side, so that elements are looked up as rows
    columns = weights.T.contiguous()
    total = columns.sum(dim=0, dtype=columns.dtype)
    below = columns.new_zeros(p + 1, n)
    for row, code in enumerate(codes):
        torch.cumsum(columns.index_select(0, code.argsort()), dim=0, out=below[1:])
        tied = code.bincount()
        last = tied.cumsum(dim=0)
        middle = below.index_select(0, last - tied).add_(below.index_select(0, last)).sub_(total)
        ranks[:, row] = middle.index_select(0, code).T
    return ranks


def paired_rank_similarities(
    y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, method: str, distinct: bool = False
) -> torch.Tensor:
    """Rank correlation of paired rows whose elements count several times.

    Parameters
    ----------
    y
        ``(m, k)`` whole numbers; for ``"spearman"`` and ``"rho-a"`` they are ranked here.
    x
        ``(m, k)``: twice the centred mid-ranks for ``"spearman"`` and ``"rho-a"``, else any whole numbers.
    weights
        ``(m, k)`` whole numbers; an element that counts w times is w tied elements.
    method
        One of :data:`RANKED`.
    distinct
        Whether the values of every row of ``x`` are known to differ, so that no ties need to be counted there.

    Returns
    -------
    torch.Tensor
        ``(m,)`` float64; 0 where one side is constant.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.reranking import paired_rank_similarities
    >>> rows = torch.tensor([[0, 1, 2]])
    >>> paired_rank_similarities(rows, rows.flip(-1), torch.ones_like(rows), "tau-a").tolist()
    [-1.0]
    """
    if method in ("spearman", "rho-a"):
        return _rho(y, x, weights, method)
    return _tau(y, x, weights, method, distinct)


def weighted_inversions(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum the products of weights over the pairs of each row that are in falling order.

    Neighbouring blocks are merged by sorting, and of every element of the left one the weight of the smaller ones of
    the right one is read off a cumulative sum. Short blocks are counted directly.

    Parameters
    ----------
    values, weights
        ``(m, k)`` whole numbers from 0. Their bits together fit into 62.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.reranking import weighted_inversions
    >>> weighted_inversions(torch.tensor([[2, 1, 1]]), torch.tensor([[1, 2, 3]])).tolist()
    [5]
    """
    m, k = values.shape
    width, levels = k, 0
    while width > SHORT:
        width, levels = -(-width // 2), levels + 1
    bits = _bits(weights)
    dtype = torch.int32 if _bits(values) + bits < 31 else torch.int64
    keys = torch.zeros(m, width << levels, dtype=dtype, device=values.device)
    keys[:, :k] = (values.to(dtype) << (bits + 1)) + weights
    mask = (1 << bits) - 1
    # places within a block come first, so that neighbours in memory are compared
    blocks = keys.view(-1, width).T.contiguous()
    found, heavy = blocks >> bits, blocks & mask
    count = torch.zeros(blocks.shape[1], dtype=torch.int64, device=values.device)
    for place in range(1, width):
        count += heavy[place] * ((found[:place] > found[place]) * heavy[:place]).sum(dim=0)
    count = count.view(m, -1).sum(dim=-1)
    for _ in range(levels):
        keys.view(m, -1, 2, width)[:, :, 1] += 1 << bits
        width *= 2
        keys = _sorted(keys.view(m, -1, width))
        heavy = keys & mask
        right = heavy * ((keys >> bits) & 1)
        count += ((heavy - right) * right.cumsum(dim=-1, dtype=dtype)).sum(dim=(-1, -2), dtype=torch.int64)
        keys &= ~(1 << bits)
    return count


def _rho(y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, method: str) -> torch.Tensor:
    lowest = x.min()
    first, found, heavy = _in_order(y, x - lowest, weights)
    found = (found + lowest).double()
    upto = heavy.cumsum(dim=-1, dtype=heavy.dtype)
    total = upto[:, -1:]
    below = (first * (upto - heavy)).cummax(dim=-1).values
    last = torch.ones_like(first)
    last[:, :-1] = first[:, 1:]
    beyond = (last * (total - upto)).flip(-1).cummax(dim=-1).values.flip(-1)
    ranks = (below - beyond).double()
    weighted = heavy * ranks
    product = (weighted * found).sum(dim=-1)
    if method == "rho-a":
        n = total[:, 0].double()
        return 3 * product / (n**3 - n)
    square = (weighted * ranks).sum(dim=-1) * (heavy * found**2).sum(dim=-1)
    return torch.where(square > 0, product / square.sqrt(), 0.0)


def _tau(
    y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, method: str, distinct: bool
) -> torch.Tensor:
    """Knight's count: rows ordered by y and then x are inverted exactly where the two disagree."""
    first, found, heavy = _in_order(y, x, weights)
    discordant = weighted_inversions(found, heavy)
    tied_y = _tied(first, heavy)
    tied_x = tied_both = torch.zeros_like(tied_y)
    if not distinct:
        same = first.clone()
        same[:, 1:] |= found[:, 1:] != found[:, :-1]
        tied_both = _tied(same, heavy)
        first, _, heavy = _in_order(x, torch.zeros_like(x), weights)
        tied_x = _tied(first, heavy)
    once, squares = heavy.sum(dim=-1), (heavy**2).sum(dim=-1)
    different = (once**2 - squares) // 2
    score = (different - tied_x - tied_y + tied_both - 2 * discordant).double()
    pairs = (once * (once - 1)).double() / 2
    if method == "tau-a":
        return score / pairs
    copies = (squares - once) // 2
    square = (pairs - tied_x - copies) * (pairs - tied_y - copies)
    return torch.where(square > 0, score / square.sqrt(), 0.0)


def _in_order(
    y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where a new value of y begins, x and weights, all in the order of y and then x."""
    y = y - y.min()
    bits_x, bits = _bits(x), _bits(weights)
    if _bits(y) + bits_x + bits > 62:
        y = dense_codes(y)
    keys = _sorted((((y << bits_x) + x) << bits) + weights)
    groups = keys >> (bits + bits_x)
    first = torch.ones(keys.shape, dtype=torch.int32, device=keys.device)
    first[:, 1:] = groups[:, 1:] != groups[:, :-1]
    narrow = torch.int32 if max(bits_x, 2 * bits + _bits(torch.tensor(keys.shape[1]))) < 30 else torch.int64
    return first, ((keys >> bits) & ((1 << bits_x) - 1)).to(narrow), (keys & ((1 << bits) - 1)).to(narrow)


def _tied(first: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum of the products of weights over pairs of places in the same run of sorted rows."""
    if bool(first.all()):
        return torch.zeros(len(first), dtype=torch.int64, device=first.device)
    before = weights.cumsum(dim=-1, dtype=weights.dtype) - weights
    start = (first * before).cummax(dim=-1).values
    return (weights * (before - start)).sum(dim=-1)


def _bits(values: torch.Tensor) -> int:
    return max(1, int(values.max()).bit_length())


def _sorted(keys: torch.Tensor) -> torch.Tensor:
    """Sorted along the last axis; on the CPU numpy's vectorised sort is several times faster than torch's."""
    if keys.device.type == "cpu":
        return torch.from_numpy(np.sort(keys.numpy(), axis=-1))
    return keys.sort(dim=-1).values
