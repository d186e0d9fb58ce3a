"""Dissimilarities between the patterns of conditions: ``(..., conditions, units)`` in, ``(..., pairs)`` out.

Every measure is one Gram matrix and a little arithmetic, for all leading axes at once, in blocks of rows so that no
square matrix is held. Pairs are in the order of ``numpy.triu_indices(conditions, 1)``. All of it is torch: beside
torch's threads those of numpy wait for a processor, which on few cores costs more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .similarity import unit_length

Block = Callable[[int, int], torch.Tensor]


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
    shared, own = patterns.mean(dim=-2, keepdim=True), _squared_length(patterns)
    # the mean pattern cancels in every difference, but not in the rounding of the inner products where it is large
    if not bool((2 * _squared_length(shared) <= own.mean(dim=-1, keepdim=True)).all()):
        patterns = patterns - shared
        own = _squared_length(patterns)

    def block(start: int, stop: int) -> torch.Tensor:
        inner = patterns[..., start:stop, :] @ patterns[..., start:, :].mT
        return inner.mul_(-2).add_(own[..., start:stop, None]).add_(own[..., None, start:])

    return of_pairs(patterns.shape[-2], block).clamp_(min=0)


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
    presentations of i in all other runs. All runs and pairs collapse into one matrix product over runs × units, of
    which a balanced design takes half.
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
    n_runs, units = means.shape[-2:]
    if bool((counts == counts[0, 0]).all()):
        # every run weighs the same: distances of sums hold the pairs of runs, and of a run with itself, which goes
        folded = sqeuclidean(means.sum(dim=-2)).sub_(sqeuclidean(means.flatten(-2)))
        return folded / (n_runs * (n_runs - 1) * units)
    return products_of_differences(*folds(means, counts), counts) / units


def whiten(patterns: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Divide patterns by the noise: unit variances, and no correlation between units.

    Parameters
    ----------
    patterns
        ``(..., units)``.
    covariance
        ``(units, units)``; ``(units,)`` variances; or ``(*lead, units, units)`` where ``lead`` are the first axes of
        the patterns. Factorised in its own precision.

    Raises
    ------
    ValueError
        If a covariance is singular.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dissimilarity import whiten
    >>> whiten(torch.tensor([[2.0, 3.0]]), torch.tensor([4.0, 9.0])).tolist()
    [[1.0, 1.0]]
    """
    if covariance.ndim == 1:
        return patterns / covariance.sqrt().to(patterns.dtype)
    lead, units = covariance.shape[:-2], covariance.shape[-1]
    factor, failed = torch.linalg.cholesky_ex(covariance)
    # against each unit's own deviation, so that units of measurement cannot make the matrix look singular
    left = factor.diagonal(dim1=-2, dim2=-1) / covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    smallest = (units * torch.finfo(factor.dtype).eps) ** 0.5
    if bool((failed != 0).any()) or not bool((left > smallest).all()):
        raise ValueError("the noise covariance is singular")
    factor = factor.to(patterns.dtype)
    columns = patterns.reshape(*lead, -1, units).mT
    whitened: torch.Tensor = torch.linalg.solve_triangular(factor, columns, upper=False)
    return whitened.mT.reshape(patterns.shape)


def of_pairs(n: int, block: Block) -> torch.Tensor:
    """Values of all pairs out of a square matrix that is made block by block.

    Parameters
    ----------
    n
        Number of conditions.
    block
        ``block(start, stop)`` gives rows ``start`` to ``stop`` and columns from ``start``: ``(..., rows, columns)``.

    Returns
    -------
    torch.Tensor
        ``(..., n (n - 1) / 2)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dissimilarity import of_pairs
    >>> of_pairs(3, lambda start, stop: torch.arange(9).view(3, 3)[start:stop, start:]).tolist()
    [1, 2, 5]
    """
    rows = max(64, n // 8)
    out, done = None, 0
    for start in range(0, n, rows):
        part = block(start, min(start + rows, n))
        i, j = torch.triu_indices(part.shape[-2], part.shape[-1], 1, device=part.device)
        if out is None:
            out = part.new_empty((*part.shape[:-2], n * (n - 1) // 2))
        out[..., done : done + len(i)] = part[..., i, j]
        done += len(i)
    assert out is not None
    return out


def upper(square: torch.Tensor) -> torch.Tensor:
    """Values of all pairs out of square matrices.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dissimilarity import upper
    >>> upper(torch.arange(9).view(3, 3)).tolist()
    [1, 2, 5]
    """
    return of_pairs(square.shape[-1], lambda start, stop: square[..., start:stop, start:])


def folds(means: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the other runs, and this run, less what all share; both 0 where this run does not hold the condition."""
    weights = counts.to(means.dtype)
    # what all patterns share cancels in every difference, but not in the rounding of the products
    shared = ((weights / weights.sum()).flatten() @ means.flatten(-3, -2))[..., None, None, :]
    test = means - shared
    if bool((counts == 0).any()):
        test *= (counts > 0)[..., None]
    return others(test, counts), test


def others(means: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Mean of the presentations of all other runs, ``(..., conditions, runs, units)``; 0 where this run has none."""
    weights = counts.to(means.dtype)
    total = weights[:, None] @ means
    rest = weights.sum(dim=-1, keepdim=True) - weights
    share = (counts > 0) / rest.clamp(min=1)
    return torch.addcmul(total, means, weights[..., None], value=-1).mul_(share[..., None])


def products_of_differences(train: torch.Tensor, test: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Inner products of the differences of two conditions in ``train`` and ``test``, ``(..., pairs)``.

    Mean over the runs that hold both conditions; ``train`` and ``test`` are ``(..., conditions, runs, units)``.
    """
    there = (counts > 0).to(train.dtype)
    own = (train * test).sum(dim=-1) @ there.mT
    cross = train.flatten(-2) @ test.flatten(-2).mT
    square = own - cross
    return upper(square.add_(square.mT.clone()) / (there @ there.mT))


def _squared_length(vectors: torch.Tensor) -> torch.Tensor:
    # without a copy of the size of the vectors, as their product with themselves would be
    length: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return length.square_()


def _one_minus_inner(directions: torch.Tensor) -> torch.Tensor:
    def block(start: int, stop: int) -> torch.Tensor:
        return directions[..., start:stop, :] @ directions[..., start:, :].mT

    return of_pairs(directions.shape[-2], block).neg_().add_(1)
