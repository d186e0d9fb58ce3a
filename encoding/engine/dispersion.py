"""Dispersion of negative binomial counts, by maximum likelihood given their rates."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from .counts import NegativeBinomial

#: dispersions outside tell nothing: below, counts are Poisson; above, almost all are 0
LIMITS = (1e-5, 1e4)


def moment_dispersion(counts: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """Dispersion of each column from its mean and variance, where all samples have one rate.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dispersion import moment_dispersion
    >>> moment_dispersion(torch.tensor([[0.0], [4.0]]), torch.tensor([2.0])).tolist()
    [0.5]
    """
    variance = counts.double().var(0, correction=0)
    return ((variance - rate) / rate.square()).clamp(1e-2, LIMITS[1])


def update_dispersion(
    family: NegativeBinomial, rates: Iterable[tuple[slice, torch.Tensor]], counts: torch.Tensor
) -> NegativeBinomial:
    """One Newton step of the logarithm of every dispersion.

    Parameters
    ----------
    family
        With the dispersions so far.
    rates
        Blocks of samples with their rates, ``(samples, targets)``.
    counts
        Of all samples.
    """
    size = 1 / family.dispersion
    slope, curvature = torch.zeros_like(size), torch.zeros_like(size)
    for block, rate in rates:
        y, rate = counts[block].double(), rate.double()
        total = rate + size
        ratio = (y + size) / total
        slope += (torch.digamma(y + size) - torch.digamma(size) - (total / size).log() + 1 - ratio).sum(0)
        bend = torch.polygamma(1, y + size) - torch.polygamma(1, size) + 1 / size - (2 - ratio) / total
        curvature += bend.sum(0)
    slope, curvature = size * slope, size * slope + size.square() * curvature
    step = torch.where(curvature < 0, -slope / curvature, slope.sign()).clamp(-2, 2)
    return NegativeBinomial((family.dispersion.log() - step).exp().clamp(*LIMITS))
