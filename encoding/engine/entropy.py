"""Entropy and information of representations, in bits: of diffusion spectra, of bins, of clouds with noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .representations import centred, sqdistances

#: elements of distances held at once
CHUNK = 1 << 24
LOG2 = math.log(2)


def gaussian_kernel(points: torch.Tensor, sigma: float) -> torch.Tensor:
    """``exp(-d² / 2σ²)`` of all pairs of points.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import gaussian_kernel
    >>> gaussian_kernel(torch.zeros(2, 3), 1.0).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    rows = centred(points)
    return sqdistances(rows, rows).mul_(-0.5 / sigma**2).exp_()


def spectral_entropy(kernel: torch.Tensor, t: float) -> torch.Tensor:
    r"""Entropy of the eigenvalues of a diffusion, :math:`p_i = |\lambda_i|^t / \sum_j |\lambda_j|^t`.

    All eigenvalues of :math:`D^{-1/2} G D^{-1/2}` take part, the first one (always 1) too: without it, points that
    coincide would have the entropy of rounding errors (Liao et al., 2023).

    Parameters
    ----------
    kernel
        ``(n, n)`` similarities, symmetric.
    t
        Diffusion time: the larger, the less small eigenvalues count.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import spectral_entropy
    >>> spectral_entropy(torch.eye(4), 1.0).item()
    2.0
    """
    scale = kernel.sum(0).rsqrt()
    values = torch.linalg.eigvalsh(kernel * scale * scale[:, None]).abs().pow(t)
    return entropy(values)


def entropy(weights: torch.Tensor) -> torch.Tensor:
    """Entropy along the last axis of what is proportional to probabilities.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import entropy
    >>> entropy(torch.tensor([3, 3, 0])).item()
    1.0
    """
    weights = weights if weights.is_floating_point() else weights.double()
    p = weights / weights.sum(-1, keepdim=True)
    bits: torch.Tensor = -torch.special.xlogy(p, p).sum(-1) / LOG2
    return bits + 0.0


def spectral_information(
    kernel: torch.Tensor, labels: torch.Tensor, draws: Sequence[torch.Tensor], t: float
) -> float:
    """By how much knowing the label lowers the spectral entropy, against random points of equal number.

    Parameters
    ----------
    kernel
        ``(n, n)``.
    labels
        ``(n,)``, numbered from 0.
    draws
        Orders of the points, ``(n,)`` each: the first of them are the random points.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import spectral_information
    >>> spectral_information(torch.ones(4, 4), torch.tensor([0, 0, 1, 1]), [torch.arange(4)], 1.0)
    0.0
    """
    total = 0.0
    for count, members in _classes(labels):
        own = float(spectral_entropy(kernel[members][:, members], t))
        others = [float(spectral_entropy(kernel[some][:, some], t)) for some in (d[:count] for d in draws)]
        total += count / len(labels) * (sum(others) / len(others) - own)
    return total


def equal_bins(x: torch.Tensor, bins: int, low: float, high: float) -> torch.Tensor:
    """Number of the bin of every value, of bins of equal width; the last holds its upper end.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import equal_bins
    >>> equal_bins(torch.tensor([-1.0, 0.0, 1.0]), 30, -1.0, 1.0).tolist()
    [0, 15, 29]
    """
    return ((x - low) * (bins / (high - low))).floor().clamp(0, bins - 1).long()


def adaptive_bins(x: torch.Tensor, bins: int) -> torch.Tensor:
    """Number of the bin of every value, of bins that hold equally many of the values that occur (EBAB).

    Values that occur count once. Where 0 is the smallest value and occurs more than once, as after rectification, it
    has a bin of its own (Chelombiev et al., 2019).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import adaptive_bins
    >>> adaptive_bins(torch.tensor([0.0, 0.0, 1.0, 10.0, 100.0, 1000.0]), 2).tolist()
    [0, 0, 1, 1, 2, 2]
    """
    values, place = torch.unique(x, return_inverse=True)
    silent = bool(values[0] == 0) and int((place == 0).sum()) > 1
    first, n = (1, len(values) - 1) if silent else (0, len(values))
    numbers = torch.arange(n, device=x.device) * bins // max(n, 1) + first
    return torch.cat([numbers.new_zeros(first), numbers])[place]


def joint_states(codes: torch.Tensor) -> torch.Tensor:
    """Number of each row among the rows that occur.

    Parameters
    ----------
    codes
        ``(n, units)``, not negative.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import joint_states
    >>> joint_states(torch.tensor([[0, 1], [1, 0], [0, 1]])).tolist()
    [0, 1, 0]
    """
    states = torch.zeros_like(codes[:, 0])
    size = int(codes.max()) + 1
    for column in codes.T:
        # numbered anew after every unit, so that numbers stay below the number of rows
        states = torch.unique(states * size + column, return_inverse=True)[1]
    return states


def discrete_information(states: torch.Tensor, labels: torch.Tensor) -> float:
    """Mutual information of two numberings of the same rows, from the counts.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import discrete_information
    >>> discrete_information(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 1, 1]))
    1.0
    """
    joint = joint_states(torch.stack([states, labels], dim=1))
    bits = [float(entropy(numbering.bincount())) for numbering in (states, labels, joint)]
    return max(0.0, bits[0] + bits[1] - bits[2])


def cloud_information(points: torch.Tensor, variance: float, bound: str) -> float:
    """Information that points with Gaussian noise carry on which point it was (Kolchinsky & Tracey, 2017).

    Parameters
    ----------
    points
        ``(n, units)``.
    variance
        Of the noise of every unit.
    bound
        ``"upper"`` (Kullback–Leibler divergences of pairs) or ``"lower"`` (Bhattacharyya distances).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import cloud_information
    >>> cloud_information(torch.tensor([[0.0], [9.0]]), 0.01, "lower")
    1.0
    """
    rows = centred(points)
    factor = -1 / ((2 if bound == "upper" else 8) * variance)
    step = max(1, CHUNK // len(rows))
    total = 0.0
    for start in range(0, len(rows), step):
        exponents = sqdistances(rows[start : start + step], rows).mul_(factor)
        total += float(exponents.logsumexp(1).sum())
    return math.log2(len(rows)) - total / len(rows) / LOG2


def cloud_label_information(points: torch.Tensor, labels: torch.Tensor, variance: float, bound: str) -> float:
    """Information that points with Gaussian noise carry on their labels: entropy of all minus that of every label.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import cloud_label_information
    >>> points = torch.tensor([[0.0], [0.0], [9.0], [9.0]])
    >>> cloud_label_information(points, torch.tensor([0, 0, 1, 1]), 0.01, "upper")
    1.0
    """
    within = sum(
        count / len(labels) * cloud_information(points[members], variance, bound)
        for count, members in _classes(labels)
    )
    return cloud_information(points, variance, bound) - within


def bottleneck(joint: torch.Tensor, betas: Sequence[float], tol: float, max_iter: int) -> torch.Tensor:
    """Information bottleneck of a joint distribution by Blahut–Arimoto iterations (Tishby et al., 1999).

    Trade-offs are visited from the largest down, each from the solution of the one before, the first from a copy of
    the input.

    Parameters
    ----------
    joint
        ``(x, y)`` probabilities; no row is zero.
    betas
        What a bit on y is worth in bits on x.

    Returns
    -------
    torch.Tensor
        ``(betas, 2)``: I(X;T) and I(T;Y) in bits.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.entropy import bottleneck
    >>> bottleneck(torch.eye(2, dtype=torch.float64) / 2, [100.0], 1e-9, 100).round(decimals=6).tolist()
    [[1.0, 1.0]]
    """
    p_x = joint.sum(1)
    truth = joint / p_x[:, None]
    own = torch.special.xlogy(truth, truth).sum(1, keepdim=True)
    tiny = torch.finfo(joint.dtype).tiny
    encoder = torch.eye(len(p_x), dtype=joint.dtype, device=joint.device)
    found = joint.new_zeros(len(betas), 2)
    for position in sorted(range(len(betas)), key=lambda k: -betas[k]):
        for _ in range(max_iter):
            p_t = p_x @ encoder
            decoder = (encoder * p_x[:, None]).T @ truth / p_t.clamp(min=tiny)[:, None]
            divergence = own - truth @ decoder.clamp(min=tiny).log().T
            updated = (p_t.clamp(min=tiny).log() - betas[position] * divergence).softmax(1)
            change = float((updated - encoder).abs().max())
            encoder = updated
            if change < tol:
                break
        with_x = encoder * p_x[:, None]
        p_t = with_x.sum(0)
        for k, table in enumerate((with_x, joint.T @ encoder)):
            found[position, k] = entropy(table.sum(1)) + entropy(p_t) - entropy(table.flatten())
    return found.clamp(min=0)


def _classes(labels: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    """How many points every label has, and which."""
    members = [torch.nonzero(labels == label).flatten() for label in labels.bincount().nonzero().flatten()]
    return [(len(some), some) for some in members]
