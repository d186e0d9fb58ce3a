"""Convex weights of several predictions: a small quadratic programme for every target, all at once."""

from __future__ import annotations

import torch

from .pivoting import solve_nonnegative

#: share of the trace that is added to the diagonal, so that equal predictions have one solution
JITTER = 1e-10
#: how far a condition may be missed by rounding
ROUNDING = 1e-7


def convex_weights(errors: torch.Tensor) -> torch.Tensor:
    """The weights, not negative and summing to one, whose mixture of predictions has the least squared error.

    With weights that sum to one, the error of the mixture is the mixture of the errors, ``w' E w``. Up to scale its
    least is at ``E v >= 1, v >= 0, v (E v - 1) = 0``, which block principal pivoting solves exactly.

    Parameters
    ----------
    errors
        Sums of products of the errors of the predictions, ``(targets, predictions, predictions)``.

    Returns
    -------
    torch.Tensor
        ``(targets, predictions)``; equal weights where there is no error at all.

    References
    ----------
    Júdice & Pires (1994), Computers & Operations Research 21; Lin et al. (2023), "Stacked regressions and structured
    variance partitioning".

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.stacking import convex_weights
    >>> convex_weights(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]]).double()).round(decimals=6).tolist()
    [[0.75, 0.25]]
    """
    scale = errors.diagonal(dim1=1, dim2=2).mean(1).clamp(min=torch.finfo(errors.dtype).tiny)
    identity = torch.eye(errors.shape[1], dtype=errors.dtype, device=errors.device)
    system = errors / scale[:, None, None] + JITTER * identity
    values = solve_nonnegative(system, torch.ones_like(errors[:, 0]), ROUNDING)
    return values / values.sum(1, keepdim=True)
