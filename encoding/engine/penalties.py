"""Penalties that make weights sparse, as accelerated gradients need them."""

from __future__ import annotations

from typing import Protocol

import torch


class Penalty(Protocol):
    """What makes a solution sparse; ``W`` and ``Q`` are ``(features, columns)``."""

    def value(self, W: torch.Tensor) -> torch.Tensor:
        """Penalty of each column."""

    def dual(self, Q: torch.Tensor) -> torch.Tensor:
        """Smallest ``alpha`` at which correlations ``Q`` with the residual are those of the solution zero."""

    def members(self, W: torch.Tensor, Q: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Features that are used, or should be, by some column: positions in order."""

    def at(self, features: torch.Tensor) -> Penalty:
        """The penalty of these members alone."""

    def metric(self, variances: torch.Tensor) -> torch.Tensor:
        """Scale of each feature's step that the penalty allows."""

    def shrink(self, W: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
        """Minimise ``|V - W|² / 2 + threshold P(V)``, with a threshold of every feature and column."""


class L1:
    """The sum of absolute weights (Tibshirani, 1996)."""

    def value(self, W: torch.Tensor) -> torch.Tensor:
        """Sum of absolute weights of each column."""
        return W.abs().sum(0)

    def dual(self, Q: torch.Tensor) -> torch.Tensor:
        """Largest absolute correlation of each column."""
        return Q.abs().amax(0)

    def members(self, W: torch.Tensor, Q: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Features with a weight, or with a correlation above ``alpha``."""
        return ((W != 0).any(1) | (Q.abs() > alphas).any(1)).nonzero()[:, 0]

    def at(self, features: torch.Tensor) -> L1:
        """The same."""
        return self

    def metric(self, variances: torch.Tensor) -> torch.Tensor:
        """Their variances."""
        return variances

    def shrink(self, W: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
        """Soft thresholds."""
        return W - W.clamp(-thresholds, thresholds)


class Groups:
    """The sum over groups of features of the length of their weights, times the root of their number.

    Yuan & Lin (2006).

    Parameters
    ----------
    groups
        Number of the group of every feature, from 0.
    """

    def __init__(self, groups: torch.Tensor) -> None:
        self.groups = groups
        self.roots = groups.bincount().double().sqrt()[:, None]

    def value(self, W: torch.Tensor) -> torch.Tensor:
        """Sum over groups of each column."""
        return (self.roots * self._lengths(W)).sum(0)

    def dual(self, Q: torch.Tensor) -> torch.Tensor:
        """Largest length of a group's correlations, over the root of its size."""
        return (self._lengths(Q) / self.roots).amax(0)

    def members(self, W: torch.Tensor, Q: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Features of groups with weights, or with correlations that are too long."""
        of_groups = (self._lengths(W) > 0).any(1) | (self._lengths(Q) > alphas * self.roots).any(1)
        return of_groups[self.groups].nonzero()[:, 0]

    def at(self, features: torch.Tensor) -> Groups:
        """The groups of these features, numbered anew."""
        _, renumbered = torch.unique(self.groups[features], return_inverse=True)
        return Groups(renumbered)

    def metric(self, variances: torch.Tensor) -> torch.Tensor:
        """The largest variance of each feature's group."""
        largest = variances.new_zeros(len(self.roots)).scatter_reduce_(0, self.groups, variances, "amax")
        return largest[self.groups]

    def shrink(self, W: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
        """Shorten the weights of each group; thresholds are equal within a group."""
        lengths = self._lengths(W)[self.groups].clamp_(min=torch.finfo(W.dtype).tiny)
        return W * (1 - thresholds * self.roots[self.groups] / lengths).clamp_(min=0)

    def _lengths(self, W: torch.Tensor) -> torch.Tensor:
        return W.new_zeros(len(self.roots), W.shape[1]).index_add_(0, self.groups, W.square()).sqrt_()
