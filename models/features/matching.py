"""Pooling regions brought to the mean and spread, or to all the values, of each channel that others have there."""

from __future__ import annotations

import torch
from torch import Tensor

from .regions import Regions

#: rounds in which regions are brought to the mean and spread that they had, blended
ROUNDS = 3
#: a spread below which a channel of a region is flat
FLAT = 1e-6


def settle(made: Tensor, picture: Tensor, regions: Regions) -> Tensor:
    """Bring the pixels of each region to the values they had: mean and spread smoothly first, then all exactly."""
    weights, labels = regions.weights.to(picture.device), regions.map.to(picture.device)
    overlap = _overlap(weights)
    for _ in range(ROUNDS):
        made = match_regions(made, picture, weights, overlap)
    return match_values(made, picture, labels)


def match_regions(features: Tensor, wanted: Tensor, weights: Tensor, overlap: Tensor | None = None) -> Tensor:
    """Bring the mean and spread of each channel in each region to those wanted, blended over regions.

    With the regions' ``overlap`` corrections are chosen so that they are right after they have been blended, which
    suits small ones.
    """
    windows = weights.flatten(1)
    areas = windows.sum(1, keepdim=True)
    mean, spread = moments(features, windows, areas)
    mean_wanted, spread_wanted = moments(wanted, windows, areas)
    gain = (spread_wanted.clamp(min=FLAT) / spread.clamp(min=FLAT)).log()
    gain = (gain if overlap is None else torch.linalg.solve(overlap, gain)).exp()
    flat = features.flatten(1)
    changed = (gain.T @ windows) * flat + (mean_wanted - gain * mean).T @ windows
    if overlap is not None:
        left = mean_wanted - moments(changed, windows, areas)[0]
        changed = changed + torch.linalg.solve(overlap, left).T @ windows
    # where no region is, everything stays
    return torch.where(windows.sum(0) > 0.5, changed, flat).reshape(features.shape)


def match_values(features: Tensor, wanted: Tensor, labels: Tensor) -> Tensor:
    """Give each channel of each region the values wanted there, in the order of its own (Heeger & Bergen 1995).

    Regions are given by their map. Unlike mean and spread, the values that are wanted lie within their bounds, and in
    8 bits need no rounding.
    """
    at, values = labels.flatten().expand(len(features), -1), wanted.flatten(1)

    def order(values: Tensor) -> Tensor:
        rising = values.argsort(dim=1, stable=True)
        return rising.gather(1, at.gather(1, rising).argsort(dim=1, stable=True))

    placed = values.gather(1, order(values))
    return torch.empty_like(values).scatter_(1, order(features.flatten(1)), placed).reshape(features.shape)


def _overlap(weights: Tensor) -> Tensor:
    """How much of a correction of one region reaches another, regions × regions."""
    windows = weights.flatten(1)
    shared = windows @ windows.T / windows.sum(1, keepdim=True)
    # of patterns that blending all but removes no more than a part is asked for
    return shared + 0.1 * torch.eye(len(shared), device=shared.device)


def moments(features: Tensor, windows: Tensor, areas: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel in each region: regions × channels."""
    flat = features.flatten(1).T
    mean = windows @ flat / areas
    # around the channel's own mean, for the sake of rounding
    centre = flat.mean(0)
    square = windows @ (flat - centre) ** 2 / areas
    return mean, (square - (mean - centre) ** 2).clamp(min=0).sqrt()
