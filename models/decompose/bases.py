"""Directions of a layer, and the way back from them."""

from __future__ import annotations

from dataclasses import dataclass

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
