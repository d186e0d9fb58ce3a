"""Directions of a layer, the way back from them, and the moments they are made from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Basis:
    """The basis of one layer: features are ``(h - mean) @ vectors``, units ``mean + features @ inverse``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.bases import Basis
    >>> first = torch.tensor([[1.0], [0.0]])
    >>> Basis(torch.ones(2), first, first.T, torch.ones(1)).project(torch.tensor([[3.0, 5.0]])).tolist()
    [[3.0, 1.0]]
    """

    mean: Tensor
    vectors: Tensor
    inverse: Tensor
    importance: Tensor

    def kept(self, n: int) -> Basis:
        """The ``n`` most important directions alone."""
        return Basis(self.mean, self.vectors[:, :n], self.inverse[:n], self.importance[:n])

    def project(self, activations: Tensor) -> Tensor:
        """Activations with nothing but what the basis holds."""
        rows = activations.flatten(1)
        features = (rows - self.mean.to(rows)) @ self.vectors.to(rows)
        return (self.mean.to(rows) + features @ self.inverse.to(rows)).reshape(activations.shape)


class Moments:
    """Mean and covariance of rows that come in parts, of which none is kept (Chan, Golub & LeVeque 1983).

    Parameters
    ----------
    width
        Units of a row.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.bases import Moments
    >>> moments = Moments(1)
    >>> moments.add(torch.tensor([[1.0], [2.0]]).double())
    >>> moments.add(torch.tensor([[6.0]]).double())
    >>> moments.mean.tolist(), round(float(moments.covariance), 6)
    ([3.0], 4.666667)
    """

    def __init__(self, width: int) -> None:
        self.n = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.scatter = torch.zeros(width, width, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """Take more rows, float64."""
        n, mean = len(rows), rows.mean(0)
        away = rows - mean
        apart = mean - self.mean
        self.scatter += away.T @ away + torch.outer(apart, apart) * (self.n * n / (self.n + n))
        self.mean = self.mean + apart * (n / (self.n + n))
        self.n += n

    @property
    def covariance(self) -> Tensor:
        """Of all rows so far, over their number."""
        return self.scatter / self.n
