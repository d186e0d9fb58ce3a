"""Pooling regions brought to the mean and spread of each channel that others have there."""

from __future__ import annotations

import torch
from torch import Tensor

from .regions import Regions

#: rounds in which regions are brought to the mean and spread that they had: blended, and each by itself
SMOOTH_ROUNDS, EXACT_ROUNDS = 6, 3
#: a spread below which a channel of a region is flat
FLAT = 1e-6


def settle(made: Tensor, picture: Tensor, regions: Regions) -> Tensor:
    """Bring the pixels of each region to the mean and spread they had: smoothly first, then exactly."""
    weights, labels = regions.weights.to(picture.device), regions.map.to(picture.device)
    overlap = _overlap(weights)
    for _ in range(SMOOTH_ROUNDS):
        made = match_regions(made, picture, weights, overlap).clamp(0, 1)
    for _ in range(EXACT_ROUNDS):
        made = match_apart(made, picture, labels).clamp(0, 1)
    return made


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


def match_apart(features: Tensor, wanted: Tensor, labels: Tensor) -> Tensor:
    """The same with regions that do not overlap, given by their map; what they share an edge with stays as it is."""
    count, at = int(labels.max()) + 1, labels.flatten()
    areas = torch.zeros(count, device=at.device).index_add_(0, at, torch.ones_like(at, dtype=torch.float32))

    def gathered(values: Tensor) -> tuple[Tensor, Tensor]:
        sums = [
            torch.zeros(3, count, device=at.device).index_add_(1, at, power) for power in (values, values**2)
        ]
        mean, square = (total / areas.clamp(min=1) for total in sums)
        return mean, (square - mean**2).clamp(min=0).sqrt()

    flat = features.flatten(1)
    (mean, spread), (mean_wanted, spread_wanted) = gathered(flat), gathered(wanted.flatten(1))
    gain = spread_wanted.clamp(min=FLAT) / spread.clamp(min=FLAT)
    return (gain[:, at] * (flat - mean[:, at]) + mean_wanted[:, at]).reshape(features.shape)


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
