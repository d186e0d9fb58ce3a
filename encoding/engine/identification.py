"""Which group an item belongs to, from nothing but the similarities of all items."""

from __future__ import annotations

import torch


def group_similarities(similarity: torch.Tensor, members: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
    """Similarity of every item to the mean of every group, the items of its own owner left out of the mean.

    Parameters
    ----------
    similarity
        ``(..., m, m)`` inner products of items (correlations, cosines and the like), those with themselves too.
    members
        ``(..., m, groups)``, 1 where an item belongs to a group and 0 elsewhere.
    owners
        ``(m,)`` numbers: whose item it is.

    Returns
    -------
    torch.Tensor
        ``(..., m, groups)``. Means are never formed: the product with a mean is the mean of products, and the length
        of a mean is the mean product of its members. NaN where a group has no member of other owners.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.identification import group_similarities
    >>> items = torch.tensor([[1.0, 0], [0.8, 0.6], [0, 1], [0, 1]])
    >>> groups = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    >>> group_similarities(items @ items.mT, groups, torch.tensor([0, 1, 0, 1]))[0].round(decimals=6).tolist()
    [0.800000011920929, 0.0]
    """
    same = (owners[:, None] == owners).to(similarity)
    products = similarity @ members
    to_own = (similarity * same) @ members
    # length of a group's sum without one owner: all pairs, less twice those with that owner, plus those within
    total = (members * products).sum(dim=-2, keepdim=True)
    with_owner = same @ (members * products)
    within = same @ (members * to_own)
    squares = total - 2 * with_owner + within
    left = members.sum(dim=-2, keepdim=True) - same @ members
    return (products - to_own) / squares.masked_fill(left == 0, torch.nan).clamp(min=0).sqrt()
