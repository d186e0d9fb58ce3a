"""Receptive fields on a grid: which Gaussian pool of a feature map a linear readout predicts best from.

Positions are ``(x, y)`` from -1 to 1, the centres of the outermost places of a map; sizes are standard deviations in
half lengths of its longer side, so that pools are round whatever the shape of the map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch

from .moments import Split
from .paths import cross_validate
from .planning import Path
from .scoring import Scoring


class Fields(NamedTuple):
    """The best pool of every target: its number, and the ridge on it.

    ``cell`` ``(targets,)``; ``coef`` ``(targets, channels)``; ``intercept`` ``(targets,)``; ``chosen``, position of
    the penalty; ``score``, the cross-validated one of this pool and penalty; ``profile`` ``(cells, targets)``, the
    best score at every pool.
    """

    cell: torch.Tensor
    coef: torch.Tensor
    intercept: torch.Tensor
    chosen: torch.Tensor
    score: torch.Tensor
    profile: torch.Tensor


def positions(rows: int, columns: int, most: int | None = None) -> torch.Tensor:
    """Positions ``(x, y)`` of every place of a map, or of a coarser grid with at most ``most`` a side.

    Examples
    --------
    >>> from cerebridge.encoding.engine.fields import positions
    >>> positions(1, 3).tolist()
    [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    """
    x, y = (_places(size if most is None else min(size, most)) for size in (columns, rows))
    return torch.stack([x.repeat(len(y)), y.repeat_interleave(len(x))], 1)


def gaussian_pools(centres: torch.Tensor, sizes: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Weights of Gaussian pools over the places of a map, which sum to 1.

    Parameters
    ----------
    centres
        ``(pools, 2)``.
    sizes
        ``(pools,)``, positive.
    rows, columns
        Shape of the map.

    Returns
    -------
    torch.Tensor
        ``(pools, rows * columns)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.fields import gaussian_pools
    >>> gaussian_pools(torch.tensor([[0.0, 0.0]]), torch.tensor([0.01]), 1, 3).tolist()
    [[0.0, 1.0, 0.0]]
    """
    half = max(rows, columns, 2) - 1
    x, y = (_places(size) * (size - 1) / half for size in (columns, rows))
    # distances in half lengths of the longer side
    centre_x, centre_y = (centres[:, axis] * (size - 1) / half for axis, size in ((0, columns), (1, rows)))
    squared = (y - centre_y[:, None]).square()[:, :, None] + (x - centre_x[:, None]).square()[:, None, :]
    return torch.softmax(-squared.flatten(1) / (2 * sizes[:, None].square()), 1)


def search(
    maps: torch.Tensor,
    pools: torch.Tensor,
    Y: torch.Tensor,
    splits: Sequence[Split],
    alphas: torch.Tensor,
    scoring: Scoring,
    path: Path,
    at_once: int,
    track: Callable[[Iterable[torch.Tensor]], Iterable[torch.Tensor]] = iter,
) -> Fields:
    """Ridge on every pool, by moments, and the best of them for every target.

    Parameters
    ----------
    maps
        ``(samples, channels, places)``.
    pools
        ``(cells, places)``.
    Y
        ``(samples, targets)``.
    splits, alphas, scoring, path, at_once
        As for :func:`cerebridge.encoding.engine.paths.cross_validate`, on ``channels`` features.
    track
        Draws progress over the pools.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.fields import search
    >>> from cerebridge.encoding.engine.moments import Split
    >>> maps = torch.randn(40, 2, 9, generator=torch.Generator().manual_seed(0))
    >>> splits = [Split(torch.arange(20), torch.arange(20, 40))]
    >>> alphas = torch.tensor([1.0], dtype=torch.float64)
    >>> search(maps, torch.eye(9), maps[:, 0, 4:5], splits, alphas, "r2", "primal", 1).cell
    tensor([4])
    """
    kept: list[torch.Tensor] = []
    profile = []
    for number, pool in enumerate(track(pools)):
        pooled = torch.matmul(maps, pool.to(maps))
        _, fitted = cross_validate(path, pooled, Y, splits, alphas, scoring, True, at_once)
        score = fitted.scores.gather(1, fitted.chosen[:, None])[:, 0]
        here = [torch.full_like(fitted.chosen, number), fitted.coef, fitted.intercept, fitted.chosen, score]
        profile.append(score)
        if not kept:
            kept = here
            continue
        # a target without a score stays where it is
        better = score > kept[-1]
        kept = [
            torch.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(here, kept, strict=True)
        ]
    cell, coef, intercept, chosen, best = kept
    return Fields(cell, coef, intercept, chosen, best, torch.stack(profile))


def _places(size: int) -> torch.Tensor:
    return 2 * torch.arange(size) / (size - 1) - 1 if size > 1 else torch.zeros(1)
