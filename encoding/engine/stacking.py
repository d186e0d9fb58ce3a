"""Convex weights of several predictions: a small quadratic programme for every target, all at once."""

from __future__ import annotations

import torch

#: share of the trace that is added to the diagonal, so that equal predictions have one solution
JITTER = 1e-10
#: how far a condition may be missed by rounding
ROUNDING = 1e-7
#: exchanges without progress after which one variable at a time changes sides, which always ends
PATIENCE = 10
#: exchanges a variable, should rounding go round in circles
MOST = 50


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
    n_targets, n = errors.shape[:2]
    scale = errors.diagonal(dim1=1, dim2=2).mean(1).clamp(min=torch.finfo(errors.dtype).tiny)
    identity = torch.eye(n, dtype=errors.dtype, device=errors.device)
    system = errors / scale[:, None, None] + JITTER * identity
    active = torch.ones(n_targets, n, dtype=torch.bool, device=errors.device)
    fewest = torch.full((n_targets,), n + 1, device=errors.device)
    patience = torch.full_like(fewest, PATIENCE)
    numbers = torch.arange(n, device=errors.device)
    values = torch.ones_like(errors[:, 0])
    for _ in range(MOST * n):
        values = _solve(system, active, identity)
        slack = (system @ values[..., None])[..., 0] - 1
        wrong = torch.where(active, values < -ROUNDING * values.amax(1, keepdim=True), slack < -ROUNDING)
        count = wrong.sum(1)
        if not bool(count.any()):
            break
        fewer = count < fewest
        patience = torch.where(fewer, PATIENCE, patience - 1)
        fewest = torch.minimum(fewest, count)
        last = numbers == torch.where(wrong, numbers, -1).amax(1, keepdim=True)
        active = active ^ torch.where((patience > 0)[:, None], wrong, wrong & last)
    values = values.clamp(min=0)
    return values / values.sum(1, keepdim=True)


def _solve(system: torch.Tensor, active: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
    """Solutions of the active part of every system for ones, zero elsewhere."""
    both = active[:, :, None] & active[:, None, :]
    restricted = torch.where(both, system, identity)
    solved: torch.Tensor = torch.linalg.solve(restricted, active.to(system.dtype)[..., None])
    return solved[..., 0] * active
