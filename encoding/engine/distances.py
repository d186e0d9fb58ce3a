"""How distances between conditions vary together."""

from __future__ import annotations

import torch


def distance_covariance(
    squares: torch.Tensor, between: torch.Tensor, linear: float, quadratic: float, bias: float = 0.0
) -> torch.Tensor:
    r"""Covariance of estimated squared distances, for all pairs of conditions in the order of ``numpy.triu_indices``.

    :math:`\Xi \circ (\text{linear} \, \Delta + \text{quadratic} \, \Xi)`: inner products of the noise of two
    differences, and of the differences themselves (Diedrichsen et al., 2021, Neurons Behav Data Anal Theory).

    Parameters
    ----------
    squares
        ``(..., conditions, conditions)``: squared distances, which hold all inner products of differences.
    between
        ``(conditions, conditions)``: covariance of the noise between conditions.
    linear, quadratic
        Weights of signal and noise.
    bias
        How much noise adds to each distance, times its own part of the noise between conditions.

    Returns
    -------
    torch.Tensor
        ``(..., pairs, pairs)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.distances import distance_covariance
    >>> distance_covariance(torch.zeros(3, 3), torch.eye(3), 0.0, 1.0).tolist()
    [[4.0, 1.0, 1.0], [1.0, 4.0, 1.0], [1.0, 1.0, 4.0]]
    """
    n = between.shape[-1]
    first, second = torch.triu_indices(n, n, 1, device=between.device)
    noise = _of_differences(between, first, second)
    out = _of_differences(squares, first, second).mul_(-0.5 * linear)
    return out.add_(noise, alpha=quadratic - linear * bias).mul_(noise)


def _of_differences(inner: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Inner products of the differences of two conditions each, out of those of conditions."""
    rows = inner[..., first, :] - inner[..., second, :]
    return rows[..., first] - rows[..., second]
