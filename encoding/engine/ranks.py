"""Ranks and rank correlation of many vectors at once, ties included."""

from __future__ import annotations

import numpy as np
import torch

#: blocks this short are cheaper to count by comparing all their pairs
SHORT = 16
#: elements worked on at once: so few that temporaries stay in the processor's cache, or enough to fill a GPU
CHUNK = {"cpu": 1 << 16, "cuda": 1 << 24}


def midranks(values: torch.Tensor) -> torch.Tensor:
    """Rank along the last axis from 1; equal values share the mean of their ranks.

    Parameters
    ----------
    values
        ``(..., n)``, without NaN.

    Returns
    -------
    torch.Tensor
        Same shape and dtype; exact up to n = 2²³ in float32.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.ranks import midranks
    >>> midranks(torch.tensor([0.3, 0.1, 0.3, 0.2])).tolist()
    [3.5, 1.0, 3.5, 2.0]
    """
    ordered, order = _sorted(values)
    first, last = _tie_bounds(ordered)
    return torch.empty_like(values).scatter_(-1, order, ((first + last) / 2 + 1).to(values.dtype))


def strict_ranks(values: torch.Tensor) -> torch.Tensor:
    """Rank along the last axis from 0 with ties broken, in both directions where there are any.

    Parameters
    ----------
    values
        ``(..., n)``, without NaN.

    Returns
    -------
    torch.Tensor
        ``(..., 1, n)`` integers where no row has ties. Else ``(..., 2, n)``: equal values in some order and in its
        opposite, so that anything antisymmetric in a tied pair cancels between the two.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.ranks import strict_ranks
    >>> sorted(strict_ranks(torch.tensor([0.3, 0.1, 0.3])).tolist())
    [[1, 0, 2], [2, 0, 1]]
    """
    ordered, order = _sorted(values)
    place = torch.arange(values.shape[-1], device=values.device).expand(values.shape)
    ranks = [place]
    if bool((ordered[..., 1:] == ordered[..., :-1]).any()):
        first, last = _tie_bounds(ordered)
        ranks.append(first + last - place)
    return torch.stack([torch.empty_like(order).scatter_(-1, order, rank) for rank in ranks], dim=-2)


def kendall_tau_a(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Kendall's tau-a of paired rows in O(n log n): concordant minus discordant pairs, over all pairs.

    A pair tied in either vector counts as neither, so a model that predicts ties is not favoured (Nili et al.,
    2014, PLoS Comput Biol). Averaged over both ways of breaking ties, such pairs cancel exactly.

    Parameters
    ----------
    x, y
        Rows ``(m, 1 or 2, n)`` from :func:`strict_ranks`; ``m`` may be 1 in one of them.

    Returns
    -------
    torch.Tensor
        ``(m,)`` in float64 (float32 on devices without it).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.ranks import kendall_tau_a, strict_ranks
    >>> ranks = strict_ranks(torch.tensor([[1.0, 2.0, 3.0]]))
    >>> kendall_tau_a(ranks, ranks.flip(-1)).tolist()
    [-1.0]
    """
    n = x.shape[-1]
    rows = max(x.shape[0], y.shape[0])
    order = torch.empty_like(y).scatter_(-1, y, torch.arange(n, device=y.device).expand(y.shape))
    x, order = x.expand(rows, -1, -1), order.expand(rows, -1, -1)
    ways = (x.shape[1], order.shape[1])
    step = max(1, CHUNK.get(x.device.type, 1 << 20) // (n * ways[0] * ways[1]))
    counts = []
    for some_x, some_order in zip(torch.split(x, step), torch.split(order, step), strict=True):
        shape = (len(some_x), *ways, n)
        places = some_x[:, :, None].expand(shape).gather(-1, some_order[:, None].expand(shape))
        counts.append(inversions(places).sum(dim=(-1, -2)))
    precise = torch.float32 if x.device.type == "mps" else torch.float64
    discordant = torch.cat(counts).to(precise) / (ways[0] * ways[1])
    return 1 - 4 * discordant / (n * (n - 1))


def untied_share(ranks: torch.Tensor) -> torch.Tensor:
    """Share of the pairs of values that are not tied; tau-b is tau-a over the root of both sides' shares.

    Parameters
    ----------
    ranks
        ``(m, 1 or 2, n)`` from :func:`strict_ranks`.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.ranks import strict_ranks, untied_share
    >>> untied_share(strict_ranks(torch.tensor([[1.0, 1.0, 2.0, 3.0]]))).round(decimals=3).tolist()
    [0.833]
    """
    m, ways, n = ranks.shape
    precise = torch.float32 if ranks.device.type == "mps" else torch.float64
    if ways == 1:
        return torch.ones(m, dtype=precise, device=ranks.device)
    sums = ranks.sum(dim=1)
    counts = torch.zeros(m, 2 * n - 1, dtype=torch.int64, device=ranks.device)
    counts.scatter_add_(1, sums, torch.ones_like(sums))
    return 1 - (counts * (counts - 1)).sum(dim=1).to(precise) / (n * (n - 1))


def inversions(permutation: torch.Tensor) -> torch.Tensor:
    """Count the pairs of each row that are in falling order.

    Each row is split into its lower and its upper values, order kept, and so on: an inversion between the halves
    is a lower value that an upper one came before. Short blocks are counted directly.

    Parameters
    ----------
    permutation
        ``(..., n)`` integers; each row holds 0 … n - 1 once.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.ranks import inversions
    >>> inversions(torch.tensor([[0, 1, 2], [2, 1, 0]])).tolist()
    [0, 3]
    """
    shape, n = permutation.shape[:-1], permutation.shape[-1]
    half, levels = n, 0
    while half > SHORT:
        half, levels = -(-half // 2), levels + 1
    size = half << levels
    place = torch.arange(size, device=permutation.device)
    padding = place[n:].expand(*shape, size - n)
    blocks = torch.cat([permutation, padding], dim=-1).to(torch.int32).reshape(-1, 1, size)
    count = torch.zeros(blocks.shape[0], dtype=torch.int64, device=permutation.device)
    for level in reversed(range(levels)):
        width = half << level
        upper = blocks >= width
        before = upper.cumsum(dim=-1)
        target = torch.where(upper, before + (width - 1), place[: 2 * width] - before)
        count += before.masked_fill_(upper, 0).sum(dim=(-1, -2))
        split = torch.empty_like(blocks).scatter_(-1, target, blocks - width * upper.to(torch.int32))
        blocks = split.view(len(count), -1, width)
    for shift in range(1, blocks.shape[-1]):
        count += (blocks[..., :-shift] > blocks[..., shift:]).sum(dim=(-1, -2))
    return count.reshape(shape)


def _sorted(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted rows and their order; on the CPU numpy's vectorised sort is several times faster than torch's."""
    if values.device.type == "cpu":
        order = torch.from_numpy(np.argsort(values.numpy(), axis=-1))
        return values.gather(-1, order), order
    ordered, order = values.sort(dim=-1)
    return ordered, order


def _tie_bounds(ordered: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First and last place of the run of equal values at every place of sorted rows."""
    n = ordered.shape[-1]
    place = torch.arange(n, device=ordered.device).expand(ordered.shape)
    edge = torch.ones_like(ordered[..., :1], dtype=torch.bool)
    changes = ordered[..., 1:] != ordered[..., :-1]
    starts, ends = torch.cat([edge, changes], dim=-1), torch.cat([changes, edge], dim=-1)
    first = place.masked_fill(~starts, 0).cummax(dim=-1).values
    last = place.masked_fill(~ends, n - 1).flip(-1).cummin(dim=-1).values.flip(-1)
    return first, last
