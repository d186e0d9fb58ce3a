"""From geometry to topology: dissimilarities bent by thresholds, shortest paths, distance correlation."""

from __future__ import annotations

import torch

from .ranks import midranks


def scaled_ranks(values: torch.Tensor) -> torch.Tensor:
    """Ranks along the last axis, from 0 for the smallest value to 1 for the largest.

    Parameters
    ----------
    values
        ``(..., n)``; NaN is missing and stays so, and ranks are among the others.

    Returns
    -------
    torch.Tensor
        Same shape; equal values share the mean of their ranks. NaN where all known values are equal.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.topology import scaled_ranks
    >>> scaled_ranks(torch.tensor([30.0, 10.0, 20.0])).tolist()
    [1.0, 0.0, 0.5]
    """
    missing = values.isnan()
    ranks = midranks(values.masked_fill(missing, torch.inf))
    low = ranks.masked_fill(missing, torch.inf).amin(dim=-1, keepdim=True)
    high = ranks.masked_fill(missing, -torch.inf).amax(dim=-1, keepdim=True)
    scaled = (ranks - low) / (high - low).where(high > low, torch.nan)
    return scaled.masked_fill(missing, torch.nan)


def ramp(values: torch.Tensor, lower: float, upper: float) -> torch.Tensor:
    """0 up to ``lower``, 1 from ``upper``, straight between; a step behind the threshold where both are one.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.topology import ramp
    >>> ramp(torch.tensor([0.1, 0.5, 0.9]), 0.25, 0.75).tolist()
    [0.0, 0.5, 1.0]
    """
    if lower == upper:
        return (values > lower).to(values.dtype).masked_fill(values.isnan(), torch.nan)
    # divided, not scaled by a reciprocal: the upper threshold itself becomes exactly 1
    return ((values - lower) / (upper - lower)).clamp(0, 1)


def shortest_paths(edges: torch.Tensor) -> torch.Tensor:
    """Lengths of the shortest paths between all nodes of each graph (Floyd, 1962; Warshall, 1962).

    Parameters
    ----------
    edges
        ``(..., n, n)``, symmetric and not negative: lengths of edges, infinite where there is none.

    Returns
    -------
    torch.Tensor
        Same shape; 0 on the diagonal, infinite between parts that no path joins.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.topology import shortest_paths
    >>> chain = torch.tensor([[0, 1, 5.0], [1, 0, 2], [5, 2, 0]])
    >>> shortest_paths(chain)[0].tolist()
    [0.0, 1.0, 3.0]
    """
    paths = edges.clone()
    paths.diagonal(dim1=-2, dim2=-1).zero_()
    for k in range(paths.shape[-1]):
        torch.minimum(paths, paths[..., :, k, None] + paths[..., k, None, :], out=paths)
    return paths


def nearest_neighbours(distances: torch.Tensor, k: int) -> torch.Tensor:
    """Which pairs have one among the ``k`` nearest of the other.

    Parameters
    ----------
    distances
        ``(..., n, n)``, symmetric; the diagonal is not looked at, and NaN is nobody's neighbour.

    Returns
    -------
    torch.Tensor
        Same shape, boolean and symmetric. Equal distances are ordered by position.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.topology import nearest_neighbours
    >>> nearest_neighbours(torch.tensor([[0, 1, 5.0], [1, 0, 2], [5, 2, 0]]), 1).int().tolist()
    [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    """
    far = distances.masked_fill(distances.isnan(), torch.inf).clone()
    far.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    order = far.argsort(dim=-1, stable=True)[..., :k]
    near = torch.zeros_like(far, dtype=torch.bool).scatter_(-1, order, True) & far.isfinite()
    return near | near.mT


def join_parts(paths: torch.Tensor, step: float | torch.Tensor) -> torch.Tensor:
    """Set infinite lengths to one ``step`` more than the longest finite one of their graph.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.topology import join_parts
    >>> join_parts(torch.tensor([[0.5, 2.0, torch.inf]]), 1.0).tolist()
    [[0.5, 2.0, 3.0]]
    """
    apart = paths.isinf()
    longest = paths.masked_fill(apart | paths.isnan(), 0).amax(dim=-1, keepdim=True)
    return torch.where(apart, longest + step, paths)


def distance_profiles(distances: torch.Tensor) -> torch.Tensor:
    """Doubly centred matrices as vectors of length 1, whose inner product is the squared distance correlation.

    Parameters
    ----------
    distances
        ``(..., n, n)``, symmetric.

    Returns
    -------
    torch.Tensor
        ``(..., n, n)``, of unit Frobenius norm; zero where nothing is left after centring.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.topology import distance_profiles
    >>> profile = distance_profiles(torch.tensor([[0, 1, 3.0], [1, 0, 2], [3, 2, 0]]))
    >>> round(float((profile * profile).sum()), 6)
    1.0
    """
    columns = distances.mean(dim=-2, keepdim=True)
    centred = distances - columns - columns.mT + columns.mean(dim=-1, keepdim=True)
    norm = torch.linalg.matrix_norm(centred, keepdim=True)
    scale = torch.linalg.matrix_norm(distances, keepdim=True)
    small = norm <= 16 * torch.finfo(norm.dtype).eps * scale
    return torch.where(small, 0, centred / norm.masked_fill(small, 1))
