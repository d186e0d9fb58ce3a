"""Which features of a sample are on, and how gradients pass that choice; where the middle of samples is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

#: rounds and precision of the geometric median
MEDIAN_ROUNDS, MEDIAN_PRECISION = 100, 1e-6


class Jump(torch.autograd.Function):
    """``z`` where it is above its threshold, else 0; the threshold's gradient is a kernel estimate."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        """Codes."""
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """Of ``z``: where it is on; of the threshold: ``-threshold / bandwidth`` where ``z`` is near it."""
        z, threshold = ctx.saved_tensors
        near = _near(z, threshold, ctx.bandwidth)
        slope = -(threshold / ctx.bandwidth) * (near * outer[0]).sum(0)
        return outer[0] * (z > threshold), slope, None


class Step(torch.autograd.Function):
    """1 where ``z`` is above its threshold, else 0; only the threshold has a gradient, a kernel estimate."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        """Which features are on."""
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """Of the threshold: ``-1 / bandwidth`` where ``z`` is near it."""
        z, threshold = ctx.saved_tensors
        near = _near(z, threshold, ctx.bandwidth)
        return None, -(near * outer[0]).sum(0) / ctx.bandwidth, None


def _near(z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return ((z - threshold).abs() < bandwidth / 2).to(z.dtype)


class _EncodeLargest(torch.autograd.Function):
    """The largest pre-activations of a linear encoder, whose gradients are as sparse as they are."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, k: int, multipliers: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        z = functional.linear(x, weight, bias)
        kept = largest(z, k, multipliers)
        values = z.gather(1, kept).relu_()
        ctx.save_for_backward(x, weight, values, kept)
        ctx.mark_non_differentiable(kept)
        return values, kept

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, values, kept = ctx.saved_tensors
        slope = outer[0] * (values > 0)
        of_bias = torch.zeros_like(weight[:, 0]).index_add_(0, kept.reshape(-1), slope.reshape(-1))
        return (
            decode_largest(slope, kept, weight),
            _by_feature(slope, kept, x, len(weight)),
            of_bias,
            None,
            None,
        )


def encode_largest(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, multipliers: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The ``k`` largest pre-activations of every sample, their positive part, and which features they are of.

    Parameters
    ----------
    x
        Samples × inputs, centred.
    weight, bias
        Features × inputs, and one a feature.
    k
        How many are kept.
    multipliers
        Samples × features: what pre-activations are multiplied with before they are compared.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.codes import encode_largest
    >>> values, kept = encode_largest(torch.tensor([[3.0, 0.3, 2.0]]), torch.eye(3), torch.zeros(3), 1)
    >>> values.item(), kept.item()
    (3.0, 0)
    """
    return _EncodeLargest.apply(x, weight, bias, k, multipliers)  # type: ignore[no-any-return, no-untyped-call]


def decode_largest(values: Tensor, kept: Tensor, decoder: Tensor) -> Tensor:
    """Sum the rows ``kept`` of a dictionary, each times its value.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.codes import decode_largest
    >>> decode_largest(torch.tensor([[3.0]]), torch.tensor([[1]]), torch.eye(2)).tolist()
    [[0.0, 3.0]]
    """
    return functional.embedding_bag(kept, decoder, per_sample_weights=values, mode="sum")


def _by_feature(values: Tensor, kept: Tensor, x: Tensor, n_features: int) -> Tensor:
    """For every feature the sum of the samples that kept it, each times its value."""
    order = kept.reshape(-1).argsort(stable=True)
    counts = torch.bincount(kept.reshape(-1), minlength=n_features)
    return functional.embedding_bag(
        order // kept.shape[1],
        x,
        counts.cumsum(0) - counts,
        per_sample_weights=values.reshape(-1)[order],
        mode="sum",
    )


def largest(z: Tensor, k: int, multipliers: Tensor | None = None) -> Tensor:
    """Positions of the ``k`` features of every sample that are largest, where given times their multipliers.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.codes import largest
    >>> z = torch.tensor([[3.0, 0.3, 2.0]])
    >>> largest(z, 1).item(), largest(z, 1, torch.tensor([[0.01, 50.0, 0.02]])).item()
    (0, 1)
    """
    scores = z if multipliers is None else z * multipliers
    return scores.topk(k, dim=1, sorted=False).indices


def geometric_median(x: Tensor) -> Tensor:
    """The point with the smallest sum of distances to all samples, by Weiszfeld's iteration.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.codes import geometric_median
    >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [1000.0]])
    >>> round(geometric_median(x).item(), 3)
    2.0
    """
    x = x.double()
    middle = x.mean(0)
    floor = MEDIAN_PRECISION * float((x - middle).norm(dim=1).mean()) + torch.finfo(x.dtype).tiny
    for _ in range(MEDIAN_ROUNDS):
        weights = 1 / (x - middle).norm(dim=1).clamp_min(floor)
        following = weights @ x / weights.sum()
        moved, middle = float((following - middle).norm()), following
        if moved < floor:
            break
    return middle
