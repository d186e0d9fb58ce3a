"""Divergences between non-negative patterns: ``(..., conditions, units)`` in, ``(..., pairs)`` out."""

from __future__ import annotations

import math

import torch

from .dissimilarity import of_pairs, upper

#: elements of the mixtures of pairs held at once
MIXTURES = 1 << 22


def poisson(rates: torch.Tensor) -> torch.Tensor:
    r"""Symmetrised Kullback–Leibler divergence a unit of Poisson distributions with positive rates.

    :math:`\sum_u (r_{iu} - r_{ju}) (\log r_{iu} - \log r_{ju}) / F` (Schütt et al., 2023, eLife).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.divergence import poisson
    >>> poisson(torch.tensor([[1.0], [torch.e]], dtype=torch.float64)).round(decimals=6).tolist()
    [1.718282]
    """
    logs = rates.log()
    # what all patterns share cancels in every difference, but not in the rounding of the products
    rates, logs = (x - x.mean(dim=-2, keepdim=True) for x in (rates, logs))
    own = (rates * logs).sum(dim=-1)
    inner = rates @ logs.mT
    square = own[..., None] + own[..., None, :] - inner - inner.mT
    return upper(square).clamp_(min=0) / rates.shape[-1]


def jensen_shannon(patterns: torch.Tensor) -> torch.Tensor:
    """Jensen–Shannon distance to the base 2 of patterns scaled to sum 1 over units: a metric from 0 to 1.

    The square root of the divergence of each from their mean (Lin, 1991; Endres & Schindelin, 2003, IEEE Trans Inf
    Theory).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.divergence import jensen_shannon
    >>> jensen_shannon(torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)).tolist()
    [1.0]
    """
    shares = patterns / patterns.sum(dim=-1, keepdim=True)
    entropy = torch.special.entr(shares).sum(dim=-1)

    def block(start: int, stop: int) -> torch.Tensor:
        others = shares[..., start:, :]
        step = max(1, MIXTURES // others.numel())
        mixed = [
            torch.special.entr(
                (shares[..., k : min(k + step, stop), None, :] + others[..., None, :, :]) / 2
            ).sum(dim=-1)
            for k in range(start, stop, step)
        ]
        own = (entropy[..., start:stop, None] + entropy[..., None, start:]) / 2
        return torch.cat(mixed, dim=-2).sub_(own)

    return (of_pairs(patterns.shape[-2], block).clamp_(min=0) / math.log(2)).sqrt_()
