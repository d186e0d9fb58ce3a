"""Least squares under the condition that nothing is negative, for many small systems at once."""

from __future__ import annotations

import torch

#: exchanges without progress after which one variable at a time changes sides, which always ends
PATIENCE = 10
#: exchanges a variable, should rounding go round in circles
MOST = 50


def solve_nonnegative(system: torch.Tensor, right: torch.Tensor, rounding: float) -> torch.Tensor:
    """Solve ``v >= 0``, ``A v - b >= 0``, ``v (A v - b) = 0``: block principal pivoting, exact (Júdice & Pires, 1994).

    Blocks of variables are exchanged between zero and free until no condition is missed. These are the conditions of
    the least of ``v' A v / 2 - b' v`` over what is not negative.

    Parameters
    ----------
    system
        A, symmetric and positive definite, ``(systems, variables, variables)``.
    right
        b, ``(systems, variables)``.
    rounding
        How far a condition may be missed: of the largest value, and of ``right`` at a scale of 1.

    Returns
    -------
    torch.Tensor
        v, ``(systems, variables)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.pivoting import solve_nonnegative
    >>> solve_nonnegative(torch.eye(2).double()[None], torch.tensor([[3.0, -4.0]]).double(), 1e-9).tolist()
    [[3.0, 0.0]]
    """
    n = right.shape[1]
    identity = torch.eye(n, dtype=system.dtype, device=system.device)
    numbers = torch.arange(n, device=system.device)
    active = right > 0
    fewest = torch.full((len(right),), n + 1, device=system.device)
    patience = torch.full_like(fewest, PATIENCE)
    values = torch.zeros_like(right)
    for _ in range(MOST * n):
        both = active[:, :, None] & active[:, None, :]
        values = torch.linalg.solve(torch.where(both, system, identity), (right * active)[..., None])[..., 0]
        pull = right - (system @ values[..., None])[..., 0]
        largest = values.abs().amax(1, keepdim=True)
        wrong = torch.where(active, values < -rounding * largest, pull > rounding)
        count = wrong.sum(1)
        if not bool(count.any()):
            break
        fewer = count < fewest
        patience = torch.where(fewer, PATIENCE, patience - 1)
        fewest = torch.minimum(fewest, count)
        last = numbers == torch.where(wrong, numbers, -1).amax(1, keepdim=True)
        active = active ^ torch.where((patience > 0)[:, None], wrong, wrong & last)
    return torch.where(values > 0, values, 0.0)
