"""Likenesses of second-moment matrices: Bures similarity and Riemannian distance, all pairs of two sets in batches."""

from __future__ import annotations

import torch

#: elements of matrices that are decomposed at once
CHUNK = 1 << 22
#: half the range, and the step, in which the logarithm of the ratio of signal to noise is sought
REACH, STEP = 36.0, 2.0
#: steps of the golden section: the ratio is then known to a millionth
SECTIONS = 32
GOLDEN = (5**0.5 - 1) / 2


def bures(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    r"""Fidelity of each matrix of ``a`` with that of ``b``, over the roots of their traces.

    :math:`\mathrm{tr}(A^{1/2} B A^{1/2})^{1/2} / \sqrt{\mathrm{tr} A \, \mathrm{tr} B}`, one for proportional
    matrices. Negative eigenvalues, of ``a`` and of the product, count as zero.

    Parameters
    ----------
    a, b
        ``(..., n, n)`` symmetric; leading axes are broadcast.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.spd import bures
    >>> bures(torch.eye(2), 4 * torch.eye(2)).item()
    1.0
    """
    values, basis = torch.linalg.eigh(a)
    root = (basis * values.clamp(min=0).sqrt().unsqueeze(-2)) @ basis.mT
    fidelity: torch.Tensor = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum(dim=-1)
    return fidelity / (_trace(a) * _trace(b)).sqrt()


def negative_riemannian(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    r"""Minus the affine-invariant distance to ``b`` of the nearest :math:`e^s A + e^t I`.

    ``a`` is what a model predicts up to scale, and the identity is the noise in what was measured, ``b``. At the best
    overall scale the squared distance is the scatter of the logarithms of the eigenvalues; the ratio of signal to
    noise is sought on a grid and by golden section.

    Parameters
    ----------
    a, b
        ``(..., n, n)`` symmetric; leading axes are broadcast.

    Returns
    -------
    torch.Tensor
        NaN where ``b`` is not positive definite.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.spd import negative_riemannian
    >>> a, b = (torch.diag(torch.tensor(v)).double() for v in ([1.0, 0.0], [1.0, 4.0]))
    >>> round(negative_riemannian(a, b).item(), 3)
    -0.98
    """
    factor, failed = torch.linalg.cholesky_ex(b)
    smallest = b.shape[-1] * torch.finfo(b.dtype).eps
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    failed = failed.bool() | ~(pivots.amin(dim=-1) > smallest * pivots.amax(dim=-1))
    factor = torch.where(failed[..., None, None], torch.eye(b.shape[-1]).to(b), factor)
    inverse = torch.linalg.solve_triangular(factor, torch.eye(b.shape[-1]).to(b), upper=False)
    signal, noise = inverse @ a @ inverse.mT, inverse @ inverse.mT
    noise = noise.expand_as(signal)
    centre = (_trace(noise) / _trace(signal).clamp(min=torch.finfo(b.dtype).tiny)).log()

    def scatter(ratio: torch.Tensor) -> torch.Tensor:
        values = torch.linalg.eigvalsh(ratio.exp()[..., None, None] * signal + noise)
        logs = values.log()
        spread = (logs - logs.mean(dim=-1, keepdim=True)).square().sum(dim=-1)
        return torch.where((values > 0).all(dim=-1), spread, torch.inf)

    grid = torch.arange(-REACH, REACH + STEP, STEP).to(b)
    found = torch.stack([scatter(centre + offset) for offset in grid])
    low = centre + grid[found.argmin(dim=0)] - STEP
    width = torch.full_like(low, 2 * STEP)
    first, second = low + (1 - GOLDEN) * width, low + GOLDEN * width
    at_first, at_second = scatter(first), scatter(second)
    for _ in range(SECTIONS):
        left = at_first < at_second
        low, width = torch.where(left, low, first), width * GOLDEN
        new = torch.where(left, low + (1 - GOLDEN) * width, low + GOLDEN * width)
        at_new = scatter(new)
        first, second = torch.where(left, new, second), torch.where(left, first, new)
        at_first, at_second = torch.where(left, at_new, at_second), torch.where(left, at_first, at_new)
    best = torch.minimum(torch.minimum(at_first, at_second), found.amin(dim=0))
    return torch.where(failed, torch.nan, -best.sqrt())


def _trace(matrices: torch.Tensor) -> torch.Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
