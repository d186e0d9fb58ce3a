"""Cross-validated dissimilarities: what one run shows is tested on another, so that noise adds nothing on average.

All take the mean of each condition in each run, ``(..., conditions, runs, units)`` and 0 where there is none, and the
presentations behind each mean, ``(conditions, runs)``: they may differ, and may be 0, but each condition needs two
runs. All give ``(..., pairs)`` in the order of ``numpy.triu_indices(conditions, 1)``, each the mean over the runs that
hold both conditions, NaN where no run does.
"""

from __future__ import annotations

import torch

from .dissimilarity import folds, others, products_of_differences, upper


def discriminant_t(means: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    r"""Linear discriminant t value of patterns whitened by the noise of a single presentation.

    In each run the contrast of both conditions along the discriminant of the other runs is divided by its standard
    error there, :math:`\lVert w \rVert \sqrt{1/n_{ik} + 1/n_{jk}}`; without a difference every run's value is normal
    with mean 0 and variance 1 (Nili et al., 2014, PLoS Comput Biol; Walther et al., 2016, NeuroImage).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.crossvalidated import discriminant_t
    >>> patterns = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    >>> discriminant_t(patterns[:, None].expand(2, 3, 2), 2 * torch.ones(2, 3)).round(decimals=9).tolist()
    [5.0]
    """
    train, test = (part.transpose(-3, -2) for part in folds(means, counts))
    inner = train @ test.mT
    own = inner.diagonal(dim1=-2, dim2=-1)
    contrast = own[..., None] + own[..., None, :] - inner - inner.mT
    gram = train @ train.mT
    size = gram.diagonal(dim1=-2, dim2=-1)
    length = (size[..., None] + size[..., None, :] - 2 * gram).clamp_(min=0)
    spread = (1 / counts.to(means.dtype)).mT
    variance = length * (spread[..., None] + spread[..., None, :])
    there = (counts > 0).mT
    both = there[..., None] & there[..., None, :]
    t = torch.where(both & (variance > 0), contrast / variance.sqrt(), 0)
    return upper(t.sum(dim=-3) / both.sum(dim=-3))


def poisson(means: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    r"""Cross-validated symmetrised Kullback–Leibler divergence a unit between Poisson rates, which must be positive.

    The rates' differences in the other runs times the differences of their logarithms in this one
    (Schütt et al., 2023, eLife).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.crossvalidated import poisson
    >>> rates = torch.tensor([[1.0], [torch.e]], dtype=torch.float64)
    >>> poisson(rates[:, None].expand(2, 3, 1), torch.ones(2, 3)).round(decimals=6).tolist()
    [1.718282]
    """
    there = (counts > 0)[..., None]
    train = others(means, counts)
    return products_of_differences(train, torch.where(there, means, 1).log(), counts) / means.shape[-1]
