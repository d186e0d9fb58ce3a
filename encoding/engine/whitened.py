"""Second moments behind dissimilarities, centred and whitened.

Dissimilarities of conditions with the noise covariance S covary over pairs like the squares of the contrasts' products,
:math:`V = (C S C^\\top)^{\\circ 2}`. Inner products under :math:`V^{-1}` are Frobenius inner products of the
conditions' second moments after whitening by S on both sides and projecting the whitened constant out, so the
pairs × pairs matrix is never needed (Diedrichsen et al., 2020, arXiv:2007.02789). Pairs are in the order of
``numpy.triu_indices(conditions, 1)``.
"""

from __future__ import annotations

import math

import torch

#: elements worked on at once: so few that temporaries stay in the processor's cache, or enough to fill a GPU
CHUNK = {"cpu": 1 << 16, "cuda": 1 << 24}


def count_conditions(n_pairs: int) -> int:
    """How many conditions have so many pairs.

    Raises
    ------
    ValueError
        If there is no such number.

    Examples
    --------
    >>> from cerebridge.encoding.engine.whitened import count_conditions
    >>> count_conditions(4186)
    92
    """
    n = (1 + math.isqrt(1 + 8 * n_pairs)) // 2
    if n * (n - 1) // 2 != n_pairs:
        raise ValueError(f"{n_pairs} dissimilarities are not all pairs of any number of conditions")
    return n


def symmetric(vectors: torch.Tensor) -> torch.Tensor:
    """Square form of dissimilarities, zeros on the diagonal.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.whitened import symmetric
    >>> symmetric(torch.tensor([1.0, 2.0, 3.0])).tolist()
    [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]
    """
    n = count_conditions(vectors.shape[-1])
    rows, columns = torch.triu_indices(n, n, 1, device=vectors.device)
    square = vectors.new_zeros(*vectors.shape[:-1], n, n)
    square[..., rows, columns] = vectors
    square[..., columns, rows] = vectors
    return square


def second_moments(vectors: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
    """Second moments of the patterns that squared distances belong to, up to what distances do not see.

    Parameters
    ----------
    vectors
        ``(..., pairs)``.
    noise
        Covariance of the conditions' pattern estimates, ``(conditions, conditions)``, positive definite; default:
        independent and equal. The moments are whitened by it, and what all conditions share is projected out.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.whitened import second_moments
    >>> second_moments(torch.tensor([4.0])).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    moments = symmetric(vectors) / -2
    if noise is None:
        means = moments.mean(dim=-1, keepdim=True)
        centred: torch.Tensor = moments - means - means.mT + means.mean(dim=-2, keepdim=True)
        return centred
    factor = torch.linalg.cholesky(noise)
    half = torch.linalg.solve_triangular(factor, moments, upper=False)
    shared = _whitened_constant(factor)
    projection = torch.eye(len(factor)).to(moments) - shared @ shared.mT
    whitened: torch.Tensor = (
        projection @ torch.linalg.solve_triangular(factor, half.mT, upper=False) @ projection
    )
    return whitened


def contrast_moments(vectors: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
    """Second moments of orthonormal contrasts of the (whitened) conditions: one row and column fewer, full rank.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.whitened import contrast_moments
    >>> contrast_moments(torch.tensor([4.0])).round(decimals=5).tolist()
    [[2.0]]
    """
    moments = second_moments(vectors, noise)
    n = moments.shape[-1]
    factor = torch.eye(n).to(moments) if noise is None else torch.linalg.cholesky(noise)
    shared = _whitened_constant(factor)
    basis = torch.linalg.qr(torch.cat([shared, torch.eye(n).to(shared)[:, : n - 1]], dim=-1)).Q[:, 1:]
    reduced: torch.Tensor = basis.mT @ moments @ basis
    return reduced


def whitened_form(
    vectors: torch.Tensor, noise: torch.Tensor | None = None, known: torch.Tensor | None = None
) -> torch.Tensor:
    r"""Vectors whose plain inner products are those of the dissimilarities under :math:`V^{-1}`, up to one factor.

    Parameters
    ----------
    vectors
        ``(..., pairs)``, only the known ones where ``known`` is given.
    noise
        As in :func:`second_moments`; only where all pairs are known.
    known
        ``(all pairs,)`` booleans: inner products are then under the inverse of the known part of V, exactly as if
        there were no other pairs.

    Returns
    -------
    torch.Tensor
        ``(..., pairs + conditions)``: the pairs in their order, then the diagonal.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.whitened import whitened_form
    >>> whitened_form(torch.tensor([2.0, 2.0, 2.0]).double()).round(decimals=4).tolist()
    [-0.4714, -0.4714, -0.4714, 0.6667, 0.6667, 0.6667]
    """
    n = count_conditions(vectors.shape[-1] if known is None else len(known))
    rows, columns = torch.triu_indices(n, n, 1, device=vectors.device)
    if noise is not None:
        moments = second_moments(vectors, noise)
        own = moments.diagonal(dim1=-2, dim2=-1)
        return torch.cat([moments[..., rows, columns] * math.sqrt(2), own], dim=-1)
    if known is not None:
        rows, columns = rows[known], columns[known]
    flat = vectors.reshape(-1, vectors.shape[-1])
    form = flat.new_empty(len(flat), len(rows) + n)
    step = max(1, CHUNK.get(flat.device.type, 1 << 20) // max(1, len(rows)))
    for start in range(0, len(flat), step):
        some = flat[start : start + step]
        shift = _shifts(some, rows, columns, n, known)
        pairs, own = torch.split(form[start : start + step], [len(rows), n], dim=-1)
        torch.mul(some, -0.5, out=pairs)
        pairs.add_(shift.index_select(-1, rows)).add_(shift.index_select(-1, columns)).mul_(math.sqrt(2))
        torch.mul(shift, 2, out=own)
    return form.view(*vectors.shape[:-1], form.shape[-1])


def _shifts(
    vectors: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, n: int, known: torch.Tensor | None
) -> torch.Tensor:
    """What is added to the second moments of each condition with any other so that they are as small as can be.

    A pair that is not known is free, so shifts are fitted to known pairs and to the diagonal, which is zero before.
    """
    sums = vectors.new_zeros(len(vectors), n)
    for ends in (rows, columns):
        sums.scatter_add_(-1, ends.expand(vectors.shape), vectors)
    if known is None:
        means = sums / (2 * n)
        return means - means.mean(dim=-1, keepdim=True) / 2
    there = symmetric(known.to(vectors.dtype))
    found: torch.Tensor = torch.linalg.solve(there + torch.diag(there.sum(dim=-1) + 2), sums.mT / 2)
    return found.mT


def _whitened_constant(factor: torch.Tensor) -> torch.Tensor:
    """Unit vector, as a column, of what adding one pattern to all conditions changes."""
    column: torch.Tensor = torch.linalg.solve_triangular(factor, factor.new_ones(len(factor), 1), upper=False)
    return column.div_(torch.linalg.vector_norm(column))
