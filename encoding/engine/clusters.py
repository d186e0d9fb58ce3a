"""Clusters of neighbouring points in many maps at once: one graph of all maps, one pass over its links.

Maps are ``(draws, points)`` of t values. Links are ``(2, links)``: the two points of every pair of neighbours. They
stay on the CPU, where labelling a sparse graph is a single pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


def grid_links(shape: tuple[int, ...]) -> Indices:
    """Points of a grid that are next to each other along any axis.

    Examples
    --------
    >>> from cerebridge.encoding.engine.clusters import grid_links
    >>> grid_links((2, 2)).tolist()
    [[0, 1, 0, 2], [2, 3, 1, 3]]
    """
    index = np.arange(int(np.prod(shape))).reshape(shape)
    pairs = [
        [part.ravel() for part in (np.delete(index, -1, axis), np.delete(index, 0, axis))]
        for axis in range(len(shape))
    ]
    return np.concatenate([np.empty((2, 0), dtype=np.intp), *map(np.array, pairs)], axis=1)


def joined_links(last: Indices, shape: tuple[int, ...]) -> Indices:
    """Links of a grid whose last axis has neighbours of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.engine.clusters import joined_links
    >>> joined_links(np.array([[0], [2]]), (2, 3)).tolist()
    [[0, 3, 0, 1, 2], [2, 5, 3, 4, 5]]
    """
    n = shape[-1]
    starts = n * np.arange(int(np.prod(shape[:-1])))
    own = (last[:, None] + starts[None, :, None]).reshape(2, -1)
    across = grid_links(shape[:-1])
    between = (n * across[..., None] + np.arange(n)).reshape(2, -1)
    return np.concatenate([own, between], axis=1)


def heights_of(t: Array, tail: str) -> Array:
    """How far t is out on the side or sides that count."""
    return np.abs(t) if tail == "both" else t if tail == "greater" else -t


def find_clusters(t: Array, links: Indices, tail: str, limit: float) -> tuple[Indices, Indices]:
    """Points beyond a limit, and which cluster of neighbours on the same side of zero each belongs to.

    Returns
    -------
    points
        Places in ``t.ravel()``, rising.
    labels
        Of these, from 0.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.engine.clusters import find_clusters, grid_links
    >>> t = np.array([[3.0, 3.0, 0.0, -3.0], [3.0, -3.0, -3.0, 0.0]])
    >>> [found.tolist() for found in find_clusters(t, grid_links((4,)), "both", 2.0)]
    [[0, 1, 3, 4, 5, 6], [0, 0, 1, 2, 3, 3]]
    """
    points, ends = _graph(t, heights_of(t, tail), links, limit)
    return points, _components(points, ends, np.empty(t.size, dtype=np.intp))


def largest_masses(t: Array, links: Indices, tail: str, limit: float) -> Array:
    """Largest sum of heights over a cluster in each map, 0 where it has none.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.engine.clusters import grid_links, largest_masses
    >>> largest_masses(np.array([[3.0, 3.0, 0.0, -4.0], [0.0, 1.0, 0.0, 0.0]]), grid_links((4,)), "both", 2.0).tolist()
    [6.0, 0.0]
    """
    points, labels = find_clusters(t, links, tail, limit)
    largest = np.zeros(len(t))
    if len(points):
        masses = np.bincount(labels, heights_of(t, tail).ravel()[points])
        owner = np.empty(len(masses), dtype=np.intp)
        owner[labels] = points // t.shape[1]
        np.maximum.at(largest, owner, masses)
    return largest


def enhance(
    t: Array, links: Indices, tail: str, step: float, *, extent: float = 0.5, height: float = 2.0
) -> Array:
    """Threshold-free cluster enhancement: of every point the sum over heights h of size(h)^extent · h^height · step.

    Smith & Nichols (2009), NeuroImage 44. Sizes are those of the cluster that holds the point at that height.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.engine.clusters import enhance, grid_links
    >>> enhance(np.array([[1.5, 1.5, 0.0]]), grid_links((3,)), "both", 1.0).round(3).tolist()
    [[1.414, 1.414, 0.0]]
    """
    heights = heights_of(t, tail)
    flat = heights.ravel()
    points, ends = _graph(t, heights, links, step)
    reach = flat[ends].min(axis=0)
    place = np.empty(t.size, dtype=np.intp)
    scores = np.zeros(t.size)
    level = 1
    while len(points):
        labels = _components(points, ends, place)
        scores[points] += np.bincount(labels)[labels] ** extent * (level * step) ** height * step
        level += 1
        # what is left at a height is a part of what was left below it
        points = points[flat[points] > level * step]
        kept = reach > level * step
        ends, reach = ends[:, kept], reach[kept]
    return scores.reshape(t.shape)


def _graph(t: Array, heights: Array, links: Indices, limit: float) -> tuple[Indices, Indices]:
    """Points beyond a limit, and which of them are neighbours on one side of zero: ``(2, pairs)``, all places flat.

    Only links from points beyond the limit are looked at, which are few.
    """
    n = t.shape[1]
    side = np.where(heights > limit, np.where(t > 0, 1, 2), 0).astype(np.int8).ravel()
    points = np.flatnonzero(side)
    order = np.argsort(links[0], kind="stable")
    others = links[1][order]
    counts = np.bincount(links[0], minlength=n)
    first = np.cumsum(counts) - counts
    here = points % n
    reach = counts[here]
    within = np.arange(reach.sum()) - np.repeat(np.cumsum(reach) - reach, reach)
    start = np.repeat(points, reach)
    stop = others[np.repeat(first[here], reach) + within] + np.repeat(points - here, reach)
    joined = side[start] == side[stop]
    return points, np.stack([start[joined], stop[joined]])


def _components(points: Indices, ends: Indices, place: Indices) -> Indices:
    """Connected components among ``points``, joined by ``ends``; ``place`` is room to number them in."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    place[points] = np.arange(len(points))
    size = (len(points), len(points))
    graph: Any = coo_matrix((np.ones(ends.shape[1], dtype=np.int8), tuple(place[ends])), shape=size)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)
