"""Dissimilarities between the patterns of conditions: ``(..., conditions, units)`` in, ``(..., pairs)`` out.

Every measure is one Gram matrix and a little arithmetic, for all leading axes at once. Pairs are in the order of
``numpy.triu_indices(conditions, 1)``.
"""

from __future__ import annotations

import numpy as np
import torch

from .similarity import unit_length


def correlation(patterns: torch.Tensor) -> torch.Tensor:
    """One minus Pearson's correlation over units; NaN for pairs with a constant pattern.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dissimilarity import correlation
    >>> correlation(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], dtype=torch.float64)).round(decimals=9).tolist()
    [2.0]
    """
    return _one_minus_inner(unit_length(patterns - patterns.mean(dim=-1, keepdim=True), patterns))


def cosine(patterns: torch.Tensor) -> torch.Tensor:
    """One minus the cosine of the angle between patterns; NaN for pairs with a zero pattern.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dissimilarity import cosine
    >>> cosine(torch.eye(3)).tolist()
    [1.0, 1.0, 1.0]
    """
    return _one_minus_inner(unit_length(patterns))


def sqeuclidean(patterns: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distance, summed over units.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dissimilarity import sqeuclidean
    >>> sqeuclidean(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).tolist()
    [25.0]
    """
    # the mean pattern cancels in every difference, but not in the rounding of the Gram matrix
    centred = patterns - patterns.mean(dim=-2, keepdim=True)
    gram = _gram(centred)
    rows, columns = _pairs(gram)
    own = gram.diagonal(dim1=-2, dim2=-1)
    return (own[..., rows] + own[..., columns] - 2 * gram[..., rows, columns]).clamp_(min=0)


def euclidean(patterns: torch.Tensor) -> torch.Tensor:
    """Euclidean distance; of whitened patterns the Mahalanobis distance.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dissimilarity import euclidean
    >>> euclidean(torch.tensor([[0.0, 0.0], [3.0, 4.0]])).tolist()
    [5.0]
    """
    return sqeuclidean(patterns).sqrt_()


def crossnobis(means: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    r"""Cross-validated squared distance a unit; unbiased, so its expectation is 0 where two conditions do not differ.

    For conditions i and j the mean over runs k that hold both of
    :math:`(\bar x_{i,-k} - \bar x_{j,-k})^\top (x_{ik} - x_{jk}) / F`, where :math:`\bar x_{i,-k}` averages the
    presentations of i in all other runs. All runs and pairs collapse into one Gram matrix over runs × units.
    Of patterns whitened by the noise it is the crossnobis estimator (Walther et al., 2016, NeuroImage).

    Parameters
    ----------
    means
        ``(..., conditions, runs, units)``: mean pattern of each condition in each run, 0 where there is none.
    counts
        ``(conditions, runs)``: presentations behind each mean; they may differ, and may be 0. Each condition needs
        two runs.

    Returns
    -------
    torch.Tensor
        ``(..., pairs)``; NaN for pairs that no run holds together.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dissimilarity import crossnobis
    >>> patterns = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    >>> crossnobis(patterns[:, None].expand(2, 3, 2), torch.ones(2, 3)).round(decimals=9).tolist()
    [12.5]
    """
    counts = counts.to(means.dtype)
    there = (counts > 0).to(means.dtype)
    grand = (means * counts[..., None]).sum(dim=(-3, -2), keepdim=True) / counts.sum()
    test = (means - grand) * there[..., None]
    summed = test * counts[..., None]
    others = (counts.sum(dim=-1, keepdim=True) - counts).clamp(min=1)[..., None]
    train = (summed.sum(dim=-2, keepdim=True) - summed) / others * there[..., None]
    own = (train * test).sum(dim=-1) @ there.mT
    cross = train.flatten(-2) @ test.flatten(-2).mT
    square = own + own.mT - cross - cross.mT
    rows, columns = _pairs(square)
    return square[..., rows, columns] / (there @ there.mT)[rows, columns] / means.shape[-1]


def whiten(patterns: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Divide patterns by the noise: unit variances, and no correlation between units.

    Parameters
    ----------
    patterns
        ``(..., units)``.
    covariance
        ``(units, units)``, or ``(units,)`` variances; factorised in its own precision.

    Raises
    ------
    ValueError
        If the covariance is singular.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dissimilarity import whiten
    >>> whiten(torch.tensor([[2.0, 3.0]]), torch.tensor([4.0, 9.0])).tolist()
    [[1.0, 1.0]]
    """
    scale = (covariance if covariance.ndim == 1 else covariance.diagonal()).sqrt()
    patterns = patterns / scale.to(patterns.dtype)
    if covariance.ndim == 1:
        return patterns
    # on the scale of correlations, units of measurement cannot make the matrix look singular
    factor, failed = torch.linalg.cholesky_ex(covariance / scale / scale[:, None])
    smallest = (len(factor) * torch.finfo(factor.dtype).eps) ** 0.5
    if bool(failed) or not bool((factor.diagonal() > smallest).all()):
        raise ValueError("the noise covariance is singular")
    columns = patterns.reshape(-1, len(scale)).T
    whitened: torch.Tensor = torch.linalg.solve_triangular(factor.to(columns.dtype), columns, upper=False)
    return whitened.T.reshape(patterns.shape)


def _gram(rows: torch.Tensor) -> torch.Tensor:
    """Inner products of rows; of these numpy computes one half only, torch on the CPU both."""
    if rows.device.type == "cpu":
        values = rows.numpy()
        return torch.from_numpy(np.matmul(values, values.swapaxes(-1, -2)))
    return rows @ rows.mT


def _one_minus_inner(directions: torch.Tensor) -> torch.Tensor:
    gram = _gram(directions)
    rows, columns = _pairs(gram)
    return 1 - gram[..., rows, columns]


def _pairs(square: torch.Tensor) -> torch.Tensor:
    n = square.shape[-1]
    return torch.triu_indices(n, n, 1, device=square.device)
