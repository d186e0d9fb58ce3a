"""Cross-validated distances whose two factors come from different times."""

from __future__ import annotations

import torch

from .dissimilarity import folds, upper


def cross_temporal(train: torch.Tensor, test: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    r"""Crossnobis distances of patterns of one time, along which conditions of another time are told apart.

    For times s and t, conditions i and j the mean over runs k that hold both of
    :math:`(\bar x_{i,-k}(s) - \bar x_{j,-k}(s))^\top (x_{ik}(t) - x_{jk}(t)) / F`, where :math:`\bar x_{i,-k}`
    averages the presentations of i in all other runs. For s = t it is the crossnobis distance; noise that lasts from
    one time to the other does not enter, because no run meets itself.

    Parameters
    ----------
    train, test
        ``(times, conditions, runs, units)``: mean pattern of each condition in each run, 0 where there is none; the
        number of times may differ.
    counts
        ``(conditions, runs)``: presentations behind each mean; each condition needs two runs.

    Returns
    -------
    torch.Tensor
        ``(train times, test times, pairs)``, pairs in the order of ``numpy.triu_indices(conditions, 1)``; NaN for
        pairs that no run holds together.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.generalisation import cross_temporal
    >>> early = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)[None, :, None].expand(1, 2, 3, 2)
    >>> late = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)[None, :, None].expand(1, 2, 3, 2)
    >>> both, runs = torch.cat([early, late]), torch.ones(2, 3)
    >>> cross_temporal(both, both, runs).squeeze(-1).round(decimals=9).tolist()
    [[0.5, 0.5], [0.5, 1.0]]
    """
    there = (counts > 0).to(train.dtype)
    (left, _), (_, right) = folds(train, counts), folds(test, counts)
    n = train.shape[-3]
    own = torch.einsum("sckf,tckf->stck", left, right) @ there.mT
    cross = left.flatten(-2).flatten(0, 1) @ right.flatten(-2).flatten(0, 1).mT
    square = own - cross.view(len(left), n, len(right), n).permute(0, 2, 1, 3)
    return upper((square + square.mT) / (there @ there.mT)) / train.shape[-1]
