"""The likelihood of counts of many targets over one design, as the minimisers ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from .counts import Family
from .moments import Moments

#: numbers in a block of samples × targets: on a CPU what its caches hold
BLOCK = {"cpu": 2**18, "cuda": 2**25}
#: least mean count whose curvature is asked for
LEAST = 1e-12


class Design(NamedTuple):
    """Centred features of the training samples, along their principal axes where they are rotated."""

    rows: torch.Tensor
    mean: torch.Tensor
    rotation: torch.Tensor | None
    variance: torch.Tensor

    @classmethod
    def of(cls, X: torch.Tensor, moments: Moments, rotate: bool) -> Design:
        """Centre, and rotate with one eigendecomposition of the moments of ``X``."""
        rows = X - moments.mean_a.to(X.dtype)
        covariance = moments.products / moments.n
        if not rotate:
            return cls(rows, moments.mean_a, None, covariance.diagonal())
        variance, rotation = torch.linalg.eigh(covariance)
        return cls(rows @ rotation.to(X.dtype), moments.mean_a, rotation, variance.clamp_min(0))

    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        """Products with features, ``(features, …)``, along the axes of the design."""
        return x if self.rotation is None else self.rotation.T @ x

    def weights(self, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights ``(features, targets)`` and intercepts in the coordinates of the features."""
        weights = point[1:] if self.rotation is None else self.rotation @ point[1:]
        return weights, point[0] - self.mean @ weights


class Likelihood:
    """The objective of some targets over one design, for the minimisers.

    Parameters
    ----------
    design
        The features.
    Y
        Counts of all targets, ``(samples, targets)``.
    cross, means
        Mean products of features and counts, and mean counts, ``(features, columns)`` and ``(columns,)``.
    family
        Of the columns.
    alpha
        Penalties of the columns.
    l1_ratio
        Share of absolute values in the penalty.
    columns
        Which targets these are; default: all.
    """

    def __init__(
        self,
        design: Design,
        Y: torch.Tensor,
        cross: torch.Tensor,
        means: torch.Tensor,
        family: Family,
        alpha: torch.Tensor,
        l1_ratio: float,
        columns: torch.Tensor | None = None,
    ) -> None:
        self.design, self.Y, self.cross, self.means, self.family = design, Y, cross, means, family
        self.alpha, self.l1_ratio = alpha, l1_ratio
        self.columns = torch.arange(len(means), device=means.device) if columns is None else columns
        self.ridge, self.lasso = (1 - l1_ratio) * alpha, l1_ratio * alpha
        rates = means.clamp(LEAST, family.most - LEAST)
        self.unit = family.curvature(family.link(rates), rates)
        variance = design.variance + torch.finfo(design.rows.dtype).eps * design.variance.max()
        curvature = self.unit * variance[:, None] + self.ridge
        self.inverse = torch.cat(
            [self.unit[None], curvature.clamp_min(torch.finfo(curvature.dtype).tiny)]
        ).reciprocal()
        self.precision = torch.finfo(design.rows.dtype).eps

    def at(self, columns: torch.Tensor) -> Likelihood:
        """The objective of some columns."""
        return Likelihood(
            self.design,
            self.Y,
            self.cross[:, columns],
            self.means[columns],
            self.family.at(columns),
            self.alpha[columns],
            self.l1_ratio,
            self.columns[columns],
        )

    def __call__(self, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Values and gradients without the absolute values, in one pass over the samples."""
        total = torch.zeros_like(point[0])
        gradient = torch.zeros_like(point)
        for rows, predictor, counts in self._blocks(point):
            potential, slope = self.family.potential(predictor, counts)
            total += potential.sum(0, dtype=total.dtype)
            gradient[0] += slope.sum(0, dtype=total.dtype)
            gradient[1:] += rows.T @ slope
        n = len(self.design.rows)
        linear = self.means * point[0] + (self.cross * point[1:]).sum(0)
        value = total / n - linear + self.ridge / 2 * point[1:].square().sum(0)
        gradient /= n
        gradient[0] -= self.means
        gradient[1:] += self.ridge * point[1:] - self.cross
        return value, gradient

    def hessian(self, point: torch.Tensor) -> torch.Tensor:
        """Second derivatives of all columns, by products of pairs of features shared by them."""
        q, n = len(point), len(self.design.rows)
        result = point.new_zeros(q, q, point.shape[1])
        for rows, predictor, counts in self._blocks(point):
            curvature = self.family.curvature(predictor, counts)
            rows = torch.cat([torch.ones_like(rows[:, :1]), rows], 1)
            for k in range(q):
                result[k, k:] += (rows[:, k, None] * rows[:, k:]).T @ curvature
        result = (result / n).permute(2, 0, 1)
        result = result + result.triu(1).mT
        result[:, 1:, 1:].diagonal(dim1=1, dim2=2).add_(self.ridge[:, None])
        return result

    def _blocks(self, point: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Features, linear predictors and counts, a block of samples at a time."""
        rows = self.design.rows
        point = point.to(rows.dtype)
        for block in blocks(len(rows), point.shape[1], rows.device):
            counts = self.Y[block][:, self.columns] if self.family.needs_counts else self.Y[:0]
            yield rows[block], torch.addmm(point[0], rows[block], point[1:]), counts


def blocks(n: int, columns: int, device: torch.device) -> Iterator[slice]:
    """Blocks of samples that hold about as many numbers for ``columns`` as are worked on best."""
    size = max(256, BLOCK.get(device.type, BLOCK["cpu"]) // max(1, columns))
    yield from (slice(start, start + size) for start in range(0, n, size))
