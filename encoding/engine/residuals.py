"""What is left of vectors once others are taken out of them."""

from __future__ import annotations

import torch

#: a covariate of which the others leave less than this share is one of their combinations
COLLINEAR = 1e-7


def orthonormal(covariates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal rows that span what the rows of ``covariates`` span, and which of these are combinations.

    Returns
    -------
    basis
        ``(k, n)``.
    collinear
        ``(k,)`` booleans: nothing is left of the row without those before it, so the basis is arbitrary.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.residuals import orthonormal
    >>> orthonormal(torch.tensor([[2.0, 0.0], [3.0, 5.0]]))[1].tolist()
    [False, False]
    """
    basis, factor = torch.linalg.qr(covariates.mT)
    left = torch.zeros_like(covariates[:, 0])
    left[: len(factor)] = factor.diagonal().abs()
    return basis.mT, ~(left > COLLINEAR * torch.linalg.vector_norm(covariates, dim=-1))


def residuals(vectors: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Part of each row that is orthogonal to all rows of ``basis``, at the row's own length.

    With the length kept, similarities of vectors that lost length to ties (rho-a) stay comparable to those without
    covariates.

    Parameters
    ----------
    vectors
        ``(m, n)`` of :func:`cerebridge.encoding.engine.similarity.prepare`.
    basis
        Orthonormal rows ``(k, n)``.

    Returns
    -------
    torch.Tensor
        ``(m, n)``; NaN where nothing but rounding is left.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.residuals import residuals
    >>> residuals(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]])).tolist()
    [[0.0, 5.0]]
    """
    left = vectors - (vectors @ basis.mT) @ basis
    left = left - (left @ basis.mT) @ basis
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    norm = torch.linalg.vector_norm(left, dim=-1, keepdim=True)
    scale: torch.Tensor = length / norm.masked_fill(norm <= COLLINEAR * length, torch.nan)
    return left * scale
