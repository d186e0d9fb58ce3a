"""What sets of predictors explain of vectors, from their inner products alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .partition import Members


def explained_shares(
    gram: torch.Tensor,
    products: torch.Tensor,
    totals: torch.Tensor,
    sets: Sequence[Members],
    nonnegative: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of the squared length of vectors that each set of predictors explains.

    Parameters
    ----------
    gram
        Inner products of the predictors, ``(k, k)``, of full rank.
    products
        Inner products of the vectors with the predictors, ``(m, k)``.
    totals
        Squared lengths of the vectors, ``(m,)``.
    sets
        Of predictors; with ``nonnegative`` all that are not empty.
    nonnegative
        Whether weights may not be negative. The best such weights of a set are the plain ones of one of its subsets,
        so of all subsets whose plain weights are not negative the best is taken.

    Returns
    -------
    shares
        ``(sets, m)``.
    weights
        Of all predictors together, ``(m, k)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.commonality import explained_shares
    >>> gram, products, sets = torch.eye(2), torch.tensor([[0.5, -0.5]]), [(0,), (1,), (0, 1)]
    >>> explained_shares(gram, products, torch.ones(1), sets)[0].tolist()
    [[0.25], [0.25], [0.5]]
    >>> explained_shares(gram, products, torch.ones(1), sets, nonnegative=True)[0].tolist()
    [[0.25], [0.0], [0.25]]
    """
    shares = products.new_zeros(len(sets), len(products))
    weights = products.new_zeros(len(sets), *products.shape)
    for k, members in enumerate(sets):
        some = list(members)
        found = torch.linalg.solve(gram[some][:, some], products[:, some].mT).mT
        shares[k] = (found * products[:, some]).sum(dim=-1) / totals
        weights[k][:, some] = found
    if not nonnegative:
        return shares, weights[-1]
    allowed = (weights >= 0).all(dim=-1)
    own = shares.masked_fill(~allowed, 0)
    weights = weights.masked_fill(~allowed[..., None], 0)
    best, which = own.clone(), torch.arange(len(sets), device=own.device)[:, None].expand(own.shape).clone()
    for k, members in enumerate(sets):
        inside = [j for j, other in enumerate(sets) if set(other) <= set(members)]
        best[k], place = own[inside].max(dim=0)
        which[k] = torch.tensor(inside, device=own.device)[place]
    return best, weights[which[-1], torch.arange(len(products), device=own.device)]
