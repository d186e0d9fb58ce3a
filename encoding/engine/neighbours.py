"""Nearest neighbours of stimuli in representations, and how many of them two representations share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .representations import compact, sqdistances

#: elements of distances held at once
CHUNK = 1 << 24


def neighbour_overlap(
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    orders: torch.Tensor,
    *,
    n_neighbours: int = 10,
    metric: str = "cosine",
) -> torch.Tensor:
    """Share of a stimulus's nearest neighbours that is the same in both, mean over stimuli (Huh et al., 2024).

    Parameters
    ----------
    a, b
        Representations, ``(stimuli, units)``.
    orders
        ``(orders, stimuli)``: which row of ``b`` goes with each row of ``a``.
    n_neighbours
        How many, of fewer than there are stimuli; by chance ``n_neighbours / (stimuli - 1)`` are shared.
    metric
        ``"cosine"`` or ``"euclidean"``.

    Returns
    -------
    torch.Tensor
        ``(orders, a, b)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.neighbours import neighbour_overlap
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> order = torch.arange(4)[None]
    >>> neighbour_overlap([x], [-3 * x], order, n_neighbours=1, metric="euclidean").tolist()
    [[[1.0]]]
    """
    n = orders.shape[1]
    nearest_a = [nearest(x, n_neighbours, metric) for x in a]
    together = torch.stack([nearest(y, n_neighbours, metric) for y in b])
    found = a[0].new_zeros(len(orders), len(a), len(b))
    step = max(1, CHUNK // n)
    for k, order in enumerate(orders):
        place = torch.empty_like(order).index_copy_(0, order, torch.arange(n, device=order.device))
        moved = place[together[:, order]]
        for i, own in enumerate(nearest_a):
            for start in range(0, n, step):
                rows = own[start : start + step]
                near = torch.zeros(len(rows), n, dtype=torch.bool, device=rows.device).scatter_(1, rows, True)
                theirs = moved[:, start : start + step]
                shared = near.expand(len(b), -1, -1).gather(2, theirs)
                found[k, i] += shared.sum(dim=(1, 2))
    return found / (n * n_neighbours)


def nearest(x: torch.Tensor, n_neighbours: int, metric: str) -> torch.Tensor:
    """Nearest other stimuli of each, ``(stimuli, n_neighbours)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.neighbours import nearest
    >>> nearest(torch.tensor([[0.0], [1.0], [5.0]]), 1, "euclidean").tolist()
    [[1], [0], [1]]
    """
    n = len(x)
    rows = compact(x)
    if metric == "cosine":
        rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    found = []
    step = max(1, CHUNK // n)
    for start in range(0, n, step):
        some = rows[start : start + step]
        apart = -(some @ rows.mT) if metric == "cosine" else sqdistances(some, rows)
        own = torch.arange(len(some), device=x.device)
        apart[own, start + own] = torch.inf
        found.append(apart.topk(n_neighbours, dim=1, largest=False).indices)
    return torch.cat(found)
