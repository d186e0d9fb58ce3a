"""Sufficient statistics of blocks of samples: they add, so that no sample is read twice.

A block of samples enters least squares only through its counts, means and centred products. Those of a training
set are the sum over its blocks. Leaving a block out is done by summing the others, never by subtracting it from
the total: a subtraction would leave the held-out rows behind as rounding error, as large as those rows are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from operator import add
from typing import NamedTuple

import torch

from .tables import Matrix, pieces
from .tables import take as take


class Split(NamedTuple):
    """Sorted sample indices of one training set and of the set held out from it."""

    train: torch.Tensor
    test: torch.Tensor


@dataclass(frozen=True)
class Moments:
    """Count, means and centred products of two sets of variables over the same samples.

    Parameters
    ----------
    n
        Number of samples.
    mean_a, mean_b
        Means, shapes ``(a,)`` and ``(b,)``.
    products
        Sums over samples of the products of deviations from these means, ``(a, b)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Moments
    >>> x = torch.tensor([[1.0], [2.0], [6.0]])
    >>> whole, parts = Moments.of(x, x), Moments.of(x[:1], x[:1]) + Moments.of(x[1:], x[1:])
    >>> parts.n, parts.mean_a.item(), parts.products.item() == whole.products.item()
    (3, 3.0, True)
    """

    n: int
    mean_a: torch.Tensor
    mean_b: torch.Tensor
    products: torch.Tensor

    @classmethod
    def of(cls, a: torch.Tensor, b: torch.Tensor) -> Moments:
        """Moments of the rows of ``a`` and ``b``, shapes ``(n, a)`` and ``(n, b)``."""
        centred_a, mean_a = centre(a)
        centred_b, mean_b = (centred_a, mean_a) if b is a else centre(b)
        return cls(len(a), mean_a, mean_b, centred_a.T @ centred_b)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both blocks together (Chan, Golub and LeVeque, 1983)."""
        n = self.n + other.n
        apart_a, apart_b = other.mean_a - self.mean_a, other.mean_b - self.mean_b
        return Moments(
            n,
            self.mean_a + apart_a * (other.n / n),
            self.mean_b + apart_b * (other.n / n),
            (self.products + other.products).addr_(apart_a, apart_b, alpha=self.n * other.n / n),
        )

    def about_origin(self) -> Moments:
        """The same samples with deviations taken from zero: what a fit without intercept sees."""
        products = torch.addr(self.products, self.mean_a, self.mean_b, alpha=self.n)
        return Moments(self.n, torch.zeros_like(self.mean_a), torch.zeros_like(self.mean_b), products)


def centre(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Deviations of the columns of ``x`` from their means, and the means.

    A constant column deviates by exactly zero, whatever the rounding of its mean.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import centre
    >>> centre(torch.full((3, 1), 0.1))[0].abs().max().item()
    0.0
    """
    mean = torch.where((x == x[0]).all(0), x[0], x.mean(0))
    return x - mean, mean


def leave_one_out(parts: Sequence[Moments]) -> Iterator[Moments]:
    """For each of at least two blocks, the moments of all the others, in ``3 · len(parts)`` additions."""
    after = list(accumulate(reversed(parts[1:]), add))
    before: Moments | None = None
    for part in parts:
        rest = [moments for moments in (before, after.pop() if after else None) if moments is not None]
        yield reduce(add, rest)
        before = part if before is None else before + part


def split_moments(
    a: Matrix, b: Matrix, splits: Sequence[Split], dtype: torch.dtype | None = None
) -> Iterator[tuple[Moments, Moments]]:
    """Moments of the training and of the held-out samples of every split.

    Parameters
    ----------
    a, b
        Variables of all samples, ``(n, a)`` and ``(n, b)``.
    splits
        Where the held-out sets partition the samples and every training set is the rest, each sample is read once;
        otherwise every set is read by itself.
    dtype
        Precision of the sums; default: that of the variables.
    """
    if is_partition(splits, len(a)):
        parts = [moments_at(a, b, split.test, dtype) for split in splits]
        yield from zip(leave_one_out(parts), parts, strict=True)
    else:
        for split in splits:
            yield moments_at(a, b, split.train, dtype), moments_at(a, b, split.test, dtype)


def is_partition(splits: Sequence[Split], n: int) -> bool:
    """Whether every sample is held out exactly once and is trained on in all other splits.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split, is_partition
    >>> first, last = torch.arange(2), torch.arange(2, 5)
    >>> is_partition([Split(last, first), Split(first, last)], 5), is_partition([Split(last, first)], 5)
    (True, False)
    """
    held_out = torch.cat([split.test for split in splits])
    complete = all(len(split.train) + len(split.test) == n for split in splits)
    return complete and len(splits) > 1 and len(held_out) == n and int(held_out.bincount().max()) == 1


def moments_at(a: Matrix, b: Matrix, index: torch.Tensor, dtype: torch.dtype | None = None) -> Moments:
    """Moments of the samples at sorted indices, added up over the pieces in which tables are read."""
    total: Moments | None = None
    for part in pieces(index, a) if b is a else pieces(index, a, b):
        rows = take(a, part).to(dtype or a.dtype)
        moments = Moments.of(rows, rows if b is a else take(b, part).to(dtype or b.dtype))
        total = moments if total is None else total + moments
    assert total is not None
    return total


def whole(
    a: Matrix,
    b: Matrix,
    training: Moments,
    held: Moments,
    dtype: torch.dtype | None = None,
) -> Moments:
    """Moments of all samples, from those of one split where it leaves no sample out."""
    if training.n + held.n == len(a):
        return training + held
    return moments_at(a, b, torch.arange(len(a), device=a.device), dtype)
