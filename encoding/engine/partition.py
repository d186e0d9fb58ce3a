"""Shares of explained variance: sums over blocks of held-out samples, combined like sets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch

from .resampling import interval

Members = tuple[int, ...]

#: draws × sets × targets that are worked on at a time
VALUES = 2_000_000


def subsets(n: int, most: int) -> list[Members]:
    """Sets of bands to fit: all that are not empty for up to ``most`` bands, else all bands, and all but each.

    Examples
    --------
    >>> from cerebridge.encoding.engine.partition import subsets
    >>> subsets(2, most=4), subsets(3, most=2)
    ([(0,), (1,), (0, 1)], [(1, 2), (0, 2), (0, 1), (0, 1, 2)])
    """
    every = tuple(range(n))
    if n > most:
        return [*(tuple(band for band in every if band != left) for left in every), every]
    return [members for size in range(1, n + 1) for members in combinations(every, size)]


def unique_weights(sets: Sequence[Members], n: int) -> torch.Tensor:
    """What each set's share counts for the unique share of each band, ``(bands, sets)``: all less all but it.

    Examples
    --------
    >>> from cerebridge.encoding.engine.partition import subsets, unique_weights
    >>> unique_weights(subsets(2, 4), 2).tolist()
    [[0.0, -1.0, 1.0], [-1.0, 0.0, 1.0]]
    """
    weights = torch.zeros(n, len(sets), dtype=torch.float64)
    every = tuple(range(n))
    for band in every:
        weights[band, sets.index(every)] += 1
        weights[band, sets.index(tuple(other for other in every if other != band))] -= 1
    return weights


def region_weights(sets: Sequence[Members], n: int) -> torch.Tensor:
    """What each set's share counts for each region of the Venn diagram, ``(sets, sets)``.

    A region is what exactly the bands of a set share, by inclusion and exclusion.

    Examples
    --------
    >>> from cerebridge.encoding.engine.partition import region_weights, subsets
    >>> region_weights(subsets(2, 4), 2)[2].tolist()  # both bands: a + b - a and b together
    [1.0, 1.0, -1.0]
    """
    weights = torch.zeros(len(sets), len(sets), dtype=torch.float64)
    for row, region in enumerate(sets):
        outside = [band for band in range(n) if band not in region]
        for size in range(len(region) + 1):
            for chosen in combinations(region, size):
                united = tuple(sorted([*outside, *chosen]))
                if united:
                    weights[row, sets.index(united)] += 1.0 if size % 2 else -1.0
    return weights


def shares(
    explained: torch.Tensor,
    variation: torch.Tensor,
    weights: torch.Tensor,
    draws: torch.Tensor,
    tail: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Combinations of shares of variance, and their intervals over draws of blocks.

    Parameters
    ----------
    explained
        Variation that each set explains in each block, ``(sets, blocks, targets)``.
    variation
        What there is to explain, ``(blocks, targets)``.
    weights
        Of sets in every combination, ``(combinations, sets)``.
    draws
        How often each block is drawn, ``(draws, blocks)``.
    tail
        Share on each side outside the interval.

    Returns
    -------
    estimates
        ``(combinations, targets)``; NaN where a target does not vary.
    intervals
        Low and high, ``(2, combinations, targets)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.partition import shares
    >>> explained, variation = torch.tensor([[[1.0], [0.5]]]).double(), torch.ones(2, 1).double()
    >>> draws = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]).double()
    >>> shares(explained, variation, torch.eye(1).double(), draws, 0.05)[0].item()
    0.75
    """
    estimates, ends = [], []
    width = max(1, VALUES // (len(draws) * (len(explained) + 1)))
    for start in range(0, variation.shape[1], width):
        part, total = explained[..., start : start + width], variation[:, start : start + width]
        estimate = weights @ _ratio(part.sum(1), total.sum(0))
        drawn = _ratio(torch.einsum("db,sbt->sdt", draws, part), draws @ total)
        combined = torch.einsum("cs,sdt->dct", weights, drawn)
        low, high = interval(combined.flatten(1), estimate.flatten(), tail)
        estimates.append(estimate)
        ends.append(torch.stack([low, high]).reshape(2, *estimate.shape))
    return torch.cat(estimates, 1), torch.cat(ends, 2)


def sum_blocks(values: torch.Tensor, blocks: torch.Tensor, n_blocks: int) -> torch.Tensor:
    """Sums over the rows of each block, ``(blocks, targets)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.partition import sum_blocks
    >>> sum_blocks(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 1, 0]), 2).tolist()
    [[5.0], [2.0]]
    """
    return values.new_zeros(n_blocks, values.shape[1]).index_add_(0, blocks, values)


def _ratio(explained: torch.Tensor, variation: torch.Tensor) -> torch.Tensor:
    return torch.where(variation > 0, explained / variation, torch.nan)
