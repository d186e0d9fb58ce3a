"""Cluster permutation tests over people: of courses, time × time and layer × time maps, volumes and surfaces."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ..neuro.assembly import quoted
from ..neuro.progress import track
from .engine import clusters as engine
from .significance import check_count

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Tail = Literal["both", "greater", "less"]

__all__ = ["cluster_test"]

#: values of permuted maps, or links between their points, that are held at once
CHUNK = 1 << 21
#: heights at which clusters are enhanced, up to the largest of the data
N_HEIGHTS = 100


def cluster_test(
    maps: Any,
    adjacency: Any = "grid",
    *,
    groups: Any = None,
    pairs: Any = None,
    threshold: float | Literal["tfce"] | None = None,
    tail: Tail = "both",
    permutations: int = 1000,
    alpha: float = 0.05,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Where maps of people differ from zero, or two groups of people from each other, corrected for looking everywhere.

    t is computed at every point, neighbouring points beyond a threshold make a cluster, and its mass (sum of t) is
    compared with the largest mass in maps whose people had their signs flipped (one group), or were exchanged between
    the groups. The test is of clusters: it controls how often *any* is found where there is nothing, and says neither
    that each of its points has an effect nor exactly when or where one begins (Sassenhagen & Draschkow, 2019).

    Parameters
    ----------
    maps
        people × …, the chance level taken off: numpy, torch, or an ``xarray.DataArray`` whose first dimension is people
        and whose labels are kept.
    adjacency
        Which points are neighbours. ``"grid"`` (default): next to each other along any axis: time, time × time,
        layer × time. A sparse matrix of points × points: voxels or vertices; of the size of the last axis only, it
        joins points of that axis, and the other axes are a grid. ``None``: no neighbours, each point for itself.
    groups
        For each person one of two labels: a two-sample test, the label of the first person against the other. Default:
        one sample, against zero.
    pairs
        For each row of ``maps`` the two people it is the similarity of, rows × 2: similarities of one person with
        several others vary together, so signs are flipped by person and a row has the product of two (Chen et al.,
        2016, on correlations between subjects). In place of t is then their sum over the root of the sum of squares.
    threshold
        t beyond which points make clusters; default that of p < 0.05 at a single point. ``"tfce"``: none, clusters are
        enhanced over all heights (Smith & Nichols, 2009; E = 0.5, H = 2, a hundred heights up to the largest t).
    tail
        ``"both"`` (default), ``"greater"`` or ``"less"`` than zero, or than the other group.
    permutations
        Random draws beside the data themselves. All are enumerated, and the p exact, where there are no more.
    alpha
        Level of ``significant``.
    random_state
        Seeds the draws.

    Returns
    -------
    xarray.Dataset
        On the points: ``t``; ``cluster``, which cluster a point belongs to, 0 for none, 1 for the largest; ``p`` of
        that cluster, 1 where there is none; ``p_max`` of the point itself against the largest t anywhere (Nichols &
        Holmes, 2002); ``significant``. Along ``number``: ``cluster_mass``, ``cluster_size``, ``cluster_p``. With
        ``"tfce"`` also ``tfce``: p is then of each point, and clusters are what is significant, with the smallest p in
        them. Along ``draw``: ``null``, the largest mass (or enhanced value) of each draw, the data first.

    Raises
    ------
    ValueError
        If there are fewer than two people, values are missing, or adjacency or groups do not fit.

    Warns
    -----
    UserWarning
        If there are so few people that no p can be below ``alpha``.

    References
    ----------
    Maris & Oostenveld (2007). Nonparametric statistical testing of EEG- and MEG-data. J Neurosci Methods 164.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.clusters import cluster_test
    >>> courses = np.random.default_rng(0).standard_normal((12, 50))
    >>> courses[:, 20:30] += 2
    >>> test = cluster_test(courses, random_state=0)
    >>> np.flatnonzero(test["significant"]).tolist()
    [20, 21, 22, 23, 24, 25, 26, 27, 28, 29]
    """
    values, points = _labelled(maps)
    _check_request(permutations, tail, alpha)
    shape, flat = values.shape[1:], values.reshape(len(values), -1)
    links = _links(adjacency, shape)
    design = (
        _design(groups, flat, permutations, tail, random_state)
        if pairs is None
        else _pair_design(pairs, groups, flat, permutations, random_state)
    )
    own = design.statistic(0, 1)
    heights = engine.heights_of(own, tail)[0]
    limit = None if threshold == "tfce" else _limit(threshold, tail, design.freedom)
    step = max(float(heights.max()), np.finfo(float).tiny) / N_HEIGHTS
    null, highest = [], []
    size = max(1, CHUNK // max(flat.shape[1], links.shape[1]))
    for start in track(range(0, len(design.draws), size), "permutations"):
        t = design.statistic(start, start + size)
        if limit is None:
            null.append(engine.enhance(t, links, tail, step).max(axis=1))
        else:
            null.append(engine.largest_masses(t, links, tail, limit))
        highest.append(engine.heights_of(t, tail).max(axis=1))
    if limit is None:
        found = _enhanced(own, links, tail, step, np.concatenate(null), alpha)
    else:
        found = _thresholded(own, links, tail, limit, np.concatenate(null))
    on_points = {"t": own[0], **found.pop("points"), "p_max": _share(np.concatenate(highest), heights)}
    on_points["significant"] = on_points["p"] < alpha
    if 1 / len(design.draws) >= alpha:
        warnings.warn(
            f"{design.n_people} people were rearranged in {len(design.draws)} ways, so no p is below "
            f"{1 / len(design.draws):.3g} and nothing can be significant at {alpha:g}; add people or permutations.",
            stacklevel=2,
        )
    variables: dict[str, Any] = {name: (points.dims, row.reshape(shape)) for name, row in on_points.items()}
    variables |= {name: ("number", row) for name, row in found["clusters"].items()}
    variables["null"] = ("draw", np.concatenate(null))
    attrs = {
        "threshold": "tfce" if limit is None else limit,
        "tail": tail,
        "alpha": alpha,
        "n_people": design.n_people,
    }
    attrs |= {"permutations": len(design.draws) - 1, "exact": int(design.exact)}
    coords = {**points.coords, "number": np.arange(1, len(found["clusters"]["cluster_p"]) + 1)}
    return xr.Dataset(variables, coords, attrs)


def _check_request(permutations: int, tail: str, alpha: float) -> None:
    check_count(permutations, "permutations")
    if tail not in ("both", "greater", "less"):
        raise ValueError(f"tail={tail!r} is unknown; use 'both', 'greater' or 'less'.")
    if not 0 < alpha < 1:
        raise ValueError(
            f"alpha={alpha!r} is no level of significance; give one between 0 and 1, such as 0.05."
        )


@dataclass(frozen=True)
class _Design:
    """Rearrangements of rows, draws × rows: signs of one group, members of the first of two, signs of pairs."""

    values: Array
    draws: Array
    exact: bool
    freedom: float
    n_people: int
    #: people of the first of two groups
    n_first: int | None = None

    def statistic(self, start: int, stop: int) -> Array:
        """t of some draws, draws × points; the sums of squares are those of the data in every draw."""
        x, rows = self.values, self.draws[start:stop]
        n = len(x)
        scale: float
        squares = np.einsum("ij,ij->j", x, x)
        sums = rows @ x
        if self.freedom == np.inf:
            difference, within, scale = sums, squares, 1.0
        elif self.n_first is None:
            difference, within = sums / n, squares - sums**2 / n
            scale = (n - 1) * n
        else:
            # the grand mean is zero, so the second group has minus the sum of the first
            n1, n2 = self.n_first, n - self.n_first
            share = 1 / n1 + 1 / n2
            difference, within = sums * share, squares - sums**2 * share
            scale = (n - 2) / share
        # people who do not differ at all have the spread of their rounding
        spread = np.sqrt(np.maximum(within, 1e-24 * squares) / scale)
        return np.divide(difference, spread, out=np.zeros_like(sums), where=spread > 0)


def _design(groups: Any, values: Array, permutations: int, tail: str, random_state: int | None) -> _Design:
    n = len(values)
    rng = np.random.default_rng(random_state)
    if groups is None:
        if n < 2:
            raise ValueError("there is one person; a test over people needs two at least.")
        # with both tails a draw and its mirror image are the same, so the first person keeps the sign
        draws, exact = _signs(n, n - (tail == "both"), permutations, rng)
        return _Design(values, draws, exact, n - 1, n)
    codes, labels = pd.factorize(np.asarray(groups))
    if len(codes) != n or len(labels) != 2 or (codes < 0).any() or n < 3:
        raise ValueError(
            f"groups has {len(codes)} entries of {len(labels)} kinds for {n} people; give each person one of two "
            "labels, and three people at least."
        )
    member = codes == 0
    n_first = int(member.sum())
    exact = math.comb(n, n_first) <= permutations + 1
    if exact:
        own = tuple(np.flatnonzero(member))
        others = [chosen for chosen in combinations(range(n), n_first) if chosen != own]
        draws = np.zeros((1 + len(others), n))
        np.put_along_axis(draws, np.array([own, *others]), 1.0, axis=1)
    else:
        draws = rng.permuted(np.tile(member, (permutations + 1, 1)), axis=1).astype(float)
        draws[0] = member
    return _Design(values - values.mean(axis=0), draws, exact, n - 2, n, n_first)


def _pair_design(
    pairs: Any, groups: Any, values: Array, permutations: int, random_state: int | None
) -> _Design:
    if groups is not None:
        raise ValueError(
            "groups= is for maps of single people, and pairs= for maps of two; give one of them."
        )
    labels = np.asarray(pairs)
    codes, people = pd.factorize(labels.ravel())
    if labels.shape != (len(values), 2) or (codes.reshape(-1, 2)[:, 0] == codes.reshape(-1, 2)[:, 1]).any():
        raise ValueError(
            f"pairs has the shape {labels.shape} for {len(values)} maps; name two different people for each map."
        )
    first, second = codes.reshape(-1, 2).T
    rng = np.random.default_rng(random_state)
    # flipping everybody leaves all products as they are
    signs, exact = _signs(len(people), len(people) - 1, permutations, rng)
    return _Design(values, signs[:, first] * signs[:, second], exact, np.inf, len(people))


def _signs(n: int, n_free: int, permutations: int, rng: np.random.Generator) -> tuple[Array, bool]:
    """Signs of people, draws × people, the data's own first: all of the last ``n_free``, or random ones."""
    exact = 2**n_free <= permutations + 1
    if not exact:
        draws = rng.choice([1.0, -1.0], (permutations + 1, n))
        draws[0] = 1.0
        return draws, False
    flips = list(product([1.0, -1.0], repeat=n_free))
    draws = np.ones((len(flips), n))
    draws[:, n - n_free :] = flips
    return draws, True


def _labelled(maps: Any) -> tuple[Array, xr.DataArray]:
    """Values in float64, people × …, and a labelled map of one person."""
    if not isinstance(maps, xr.DataArray):
        values = np.asarray(maps.detach().cpu() if hasattr(maps, "detach") else maps)
        maps = xr.DataArray(
            values, dims=["person", *(f"axis_{k}" for k in range(1, values.ndim))][: values.ndim]
        )
    if maps.ndim < 2 or not maps.size:
        raise ValueError(f"maps has the shape {maps.shape}; give people × points, or people × more axes.")
    values = np.asarray(maps.values, dtype=np.float64)
    wrong = ~np.isfinite(values)
    if wrong.any():
        person = int(np.argwhere(wrong)[0][0])
        dim = maps.dims[0]
        name = quoted(maps[dim].values[person]) if dim in maps.coords else person
        raise ValueError(
            f"maps has {int(wrong.sum())} missing or infinite values, the first of person {name}; "
            "test only the points that all people have."
        )
    return values, maps.isel({maps.dims[0]: 0}, drop=True)


def _links(adjacency: Any, shape: tuple[int, ...]) -> Indices:
    """Pairs of neighbouring points."""
    if adjacency is None:
        return np.empty((2, 0), dtype=np.intp)
    if isinstance(adjacency, str):
        if adjacency != "grid":
            raise ValueError(f"adjacency={adjacency!r} is unknown; use 'grid', a sparse matrix, or None.")
        return engine.grid_links(shape)
    from scipy.sparse import coo_matrix

    pairs = coo_matrix(adjacency)
    n = int(np.prod(shape))
    if pairs.shape not in ((n, n), (shape[-1], shape[-1])):
        raise ValueError(
            f"adjacency is {' × '.join(map(str, pairs.shape))}, but the maps have {n} points"
            + (f", {shape[-1]} along their last axis" if len(shape) > 1 else "")
            + "; give one row and one column for each."
        )
    there = (pairs.data != 0) & (pairs.row != pairs.col)
    low, high = np.minimum(pairs.row, pairs.col)[there], np.maximum(pairs.row, pairs.col)[there]
    links = np.unique(np.stack([low, high]).astype(np.intp), axis=1)
    return links if pairs.shape[0] == n else engine.joined_links(links, shape)


def _limit(threshold: Any, tail: str, freedom: float) -> float:
    """t that makes clusters."""
    if threshold is None:
        from scipy.stats import t

        return float(t.isf(0.05 / (1 + (tail == "both")), freedom))
    if not isinstance(threshold, int | float | np.number) or not 0 <= threshold < np.inf:
        raise ValueError(
            f"threshold={threshold!r} is no t; give a number from 0, 'tfce', or None for p < 0.05 at a point."
        )
    return float(threshold)


def _thresholded(own: Array, links: Indices, tail: str, limit: float, null: Array) -> dict[str, Any]:
    """Clusters of the data beyond a threshold, the largest first."""
    points, labels = engine.find_clusters(own, links, tail, limit)
    masses: Array = np.bincount(labels, engine.heights_of(own, tail)[0][points]).astype(np.float64)
    p = _share(null, masses)
    cluster, on_points, order = _numbered(own.shape[1], points, labels, masses)
    on_points[points] = p[labels]
    sizes = np.bincount(labels)
    table = {"cluster_mass": masses[order], "cluster_size": sizes[order], "cluster_p": p[order]}
    return {"points": {"cluster": cluster, "p": on_points}, "clusters": table}


def _enhanced(
    own: Array, links: Indices, tail: str, step: float, null: Array, alpha: float
) -> dict[str, Any]:
    """Enhanced values of the data with their p, and clusters of what is significant."""
    scores = engine.enhance(own, links, tail, step)[0]
    p = _share(null, scores)
    kept = np.where(p < alpha, own[0], 0.0)[None]
    points, labels = engine.find_clusters(kept, links, tail, 0.0)
    masses: Array = np.bincount(labels, scores[points]).astype(np.float64)
    cluster, _, order = _numbered(own.shape[1], points, labels, masses)
    smallest = np.ones(len(masses))
    np.minimum.at(smallest, labels, p[points])
    table = {
        "cluster_mass": masses[order],
        "cluster_size": np.bincount(labels)[order],
        "cluster_p": smallest[order],
    }
    return {"points": {"cluster": cluster, "p": p, "tfce": scores}, "clusters": table}


def _numbered(n: int, points: Indices, labels: Indices, masses: Array) -> tuple[Indices, Array, Indices]:
    """Number of the cluster of every point by falling mass, room for p, and that order."""
    order = np.argsort(-masses, kind="stable")
    cluster = np.zeros(n, dtype=np.intp)
    cluster[points] = 1 + np.argsort(order)[labels]
    return cluster, np.ones(n), order


def _share(null: Array, observed: Array) -> Array:
    """Share of draws, the data among them, that reach a value; rounding must not decide whether one does."""
    ranked = np.sort(null)
    reached = observed - 1e-9 * np.abs(observed)
    return (len(null) - np.searchsorted(ranked, reached, side="left")) / len(null)
