"""Covariance of noise: estimated, shrunk and inverted; batched over leading axes."""

from __future__ import annotations

import torch


def sample_covariance(rows: torch.Tensor) -> torch.Tensor:
    """Mean outer product of centred ``(..., rows, units)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.covariance import sample_covariance
    >>> sample_covariance(torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    return rows.mT @ rows / rows.shape[-2]


def shrink(covariance: torch.Tensor, amount: torch.Tensor | float) -> torch.Tensor:
    """Move a covariance towards the multiple of the identity that has its mean variance.

    Parameters
    ----------
    covariance
        ``(..., units, units)``.
    amount
        From 0 (nothing) to 1 (all), one for all or ``(...)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.covariance import shrink
    >>> shrink(torch.tensor([[3.0, 1.0], [1.0, 1.0]]), 0.5).tolist()
    [[2.5, 0.5], [0.5, 1.5]]
    """
    amount = torch.as_tensor(amount, dtype=covariance.dtype, device=covariance.device)
    out = covariance * (1 - amount[..., None, None])
    diagonal = out.diagonal(dim1=-2, dim2=-1)
    diagonal += (amount * covariance.diagonal(dim1=-2, dim2=-1).mean(dim=-1))[..., None]
    return out


def ledoit_wolf(rows: torch.Tensor) -> torch.Tensor:
    """How far to shrink the covariance of centred ``(..., rows, units)`` (Ledoit & Wolf, 2004, J Multivar Anal).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.covariance import ledoit_wolf
    >>> ledoit_wolf(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).item()
    0.0
    """
    n, p = rows.shape[-2:]
    # of the two Gram matrices with the same sum of squares the smaller one
    gram = (rows @ rows.mT if n < p else rows.mT @ rows) / n
    squares = gram.square().sum(dim=(-2, -1))
    norms = rows.square().sum(dim=-1)
    variance = norms.mean(dim=-1) / p
    fourth = norms.square().mean(dim=-1)
    distance = squares / p - variance.square()
    spread = torch.minimum((fourth - squares) / (p * n), distance)
    return torch.where((spread > 0) & (p > 1), spread / distance, 0)


def oas(covariance: torch.Tensor, n: int) -> torch.Tensor:
    """How far to shrink the covariance ``(..., units, units)`` of ``n`` normal rows (Chen et al., 2010, IEEE TSP).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.covariance import oas
    >>> oas(torch.eye(2), 10).item()
    1.0
    """
    p = covariance.shape[-1]
    squares = covariance.square().mean(dim=(-2, -1))
    variance = covariance.diagonal(dim1=-2, dim2=-1).mean(dim=-1).square()
    room = (n + 1) * (squares - variance / p)
    return torch.where((room > 0) & (p > 1), (squares + variance) / room, float(p > 1)).clamp(max=1)


def inverse_root(covariance: torch.Tensor) -> torch.Tensor:
    """Symmetric inverse square root of ``(..., units, units)``: whitens each run alike, whatever the units' order.

    Inner products between patterns of two runs, each whitened by its own noise, depend on which root is taken; this
    one moves patterns least.

    Raises
    ------
    ValueError
        If a covariance is singular.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.covariance import inverse_root
    >>> inverse_root(torch.diag(torch.tensor([4.0, 16.0]))).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    values, vectors = torch.linalg.eigh(covariance)
    smallest = covariance.shape[-1] * torch.finfo(values.dtype).eps * values[..., -1:]
    if not bool((values > smallest).all()):
        raise ValueError("the noise covariance is singular")
    root: torch.Tensor = (vectors / values.sqrt()[..., None, :]) @ vectors.mT
    return root


def estimate(rows: torch.Tensor, shrinkage: str | float | None = "ledoit-wolf") -> torch.Tensor:
    """Covariance of centred ``(..., rows, units)``, shrunk.

    Parameters
    ----------
    rows
        Each with mean 0 over rows.
    shrinkage
        ``"ledoit-wolf"``, ``"oas"``, how far from 0 to 1, or ``None``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.covariance import estimate
    >>> estimate(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), 0.5).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    covariance = sample_covariance(rows)
    if shrinkage is None:
        return covariance
    if shrinkage == "ledoit-wolf":
        return shrink(covariance, ledoit_wolf(rows))
    if shrinkage == "oas":
        return shrink(covariance, oas(covariance, rows.shape[-2]))
    return shrink(covariance, float(shrinkage))
