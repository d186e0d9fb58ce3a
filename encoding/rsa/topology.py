"""Topological RSA: dissimilarities bent between two thresholds, and geodesic distances in the graph they leave."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch

from ...models.devices import resolve_device
from ...neuro.assembly import quoted
from ..containers import kind_of, to_kind, to_tensor
from ..engine.topology import join_parts, nearest_neighbours, ramp, scaled_ranks, shortest_paths
from ..parameters import whole_number
from .comparison import precision
from .pairs import Indices, check_rdms, stimulus_order

Kind = Literal["relative", "absolute", "relative-geodesic", "absolute-geodesic"]
#: entries of square matrices whose paths are searched at once: so few that they stay in the processor's cache
CHUNK = 1 << 17


def transform_rdms(
    rdms: Any,
    lower: float = 0.2,
    upper: float = 0.8,
    kind: Kind = "relative",
    *,
    neighbours: int | None = None,
    rerank: bool = False,
    device: str | torch.device = "auto",
) -> Any:
    """Turn dissimilarities into geo-topological ones, which keep neighbourhoods and forget about distances.

    Small dissimilarities, mostly noise, become 0, large ones, mostly idiosyncrasy, become 1, and those between the
    thresholds keep their order and spacing. Thresholds (0, 1) keep all of the geometry, two equal thresholds leave
    the adjacency matrix of a graph. Every RDM is transformed by itself.

    Parameters
    ----------
    rdms
        Labelled ``rdm × pair`` array, or plain dissimilarities in the order of ``numpy.triu_indices``: a vector, or
        one vector a row. Missing pairs (NaN) stay missing.
    lower, upper
        The two thresholds. For the relative kinds they are quantiles of the pairs, from 0 to 1; for the absolute
        ones they are dissimilarities.
    kind
        ``"relative"`` (RGTM; default): of ranks, and so the same for any increasing function of the dissimilarities.
        ``"absolute"`` (AGTM): of the dissimilarities as they are. ``"relative-geodesic"`` (RGDM) and
        ``"absolute-geodesic"`` (AGDM): pairs that became 1 are no longer joined by an edge, and the result is the
        length of the shortest path along the edges that are left. Thresholds (0, 0.05) keep the nearest 5 % of
        pairs, for example. Stimuli that no path joins are one rank farther apart than the farthest that one joins
        (for absolute kinds: one threshold ``upper``).
    neighbours
        For geodesic kinds: edges are instead those from each stimulus to its so many nearest.
    rerank
        For geodesic kinds: give ranks of path lengths, 1 for the longest, instead of the lengths.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …; plain torch vectors stay where they are.

    Returns
    -------
    xarray.DataArray, numpy.ndarray or torch.Tensor
        In kind, shape, labels and precision of ``rdms``.

    Raises
    ------
    ValueError
        If thresholds are out of order or range, all dissimilarities of an RDM are equal, or no edge is left.

    References
    ----------
    Lin & Kriegeskorte (2024). The topology and geometry of neural representations. PNAS 121.

    Examples
    --------
    >>> from cerebridge.encoding import rsa
    >>> rsa.transform_rdms([5.0, 1.0, 2.0, 4.0, 3.0, 9.0], 0.2, 0.8).round(2).tolist()
    [1.0, 0.0, 0.0, 0.67, 0.33, 1.0]
    """
    check_request(kind, lower, upper)
    _check_graph(kind, lower, upper, neighbours, rerank)
    labelled = kind_of(rdms) == "xarray"
    where = rdms.device if isinstance(rdms, torch.Tensor) else resolve_device(device)
    values = to_tensor(check_rdms(rdms, "rdms") if labelled else rdms, where)
    if values.ndim not in (1, 2) or not values.shape[-1]:
        raise ValueError(f"rdms has the shape {tuple(values.shape)}; give a vector, or one vector a row.")
    rows = torch.atleast_2d(values).to(precision(where))
    names = rdms.coords["neuroid_id"].values if labelled else np.arange(len(rows))
    scaled = scaled_rows(rows, kind, names)
    if "geodesic" in kind:
        index = stimulus_order(rdms, "rdms")[1] if labelled else plain_order(rows.shape[-1])
        out = _paths(scaled, index, kind, (lower, upper), neighbours, rerank, names)
    else:
        out = ramp(scaled, lower, upper)
    out = out.reshape(values.shape).to(values.dtype)
    if not labelled:
        return to_kind(out, kind_of(rdms))
    said = f"rsa.transform_rdms(lower={lower:g}, upper={upper:g}, kind={kind!r}) of: "
    attrs = {"units": "1", "provenance": said + rdms.attrs.get("provenance", "")}
    return rdms.copy(data=out.cpu().numpy()).assign_attrs(attrs)


def check_request(kind: str, lower: float, upper: float) -> None:
    """Refuse unknown kinds and thresholds that are out of order or range."""
    if kind not in get_args(Kind):
        raise ValueError(f"kind={kind!r} is unknown; use {', '.join(map(repr, get_args(Kind)))}.")
    if not (math.isfinite(lower) and math.isfinite(upper) and lower <= upper):
        raise ValueError(f"lower={lower} and upper={upper} must be two numbers in rising order.")
    if kind.startswith("relative") and not 0 <= lower <= upper <= 1:
        raise ValueError(
            f"lower={lower:g} and upper={upper:g} must lie from 0 to 1 for kind={kind!r}, which counts pairs; "
            "thresholds in the unit of the dissimilarities need kind='absolute'."
        )


def scaled_rows(rows: torch.Tensor, kind: str, names: Any) -> torch.Tensor:
    """What thresholds apply to: ranks from 0 to 1, or dissimilarities as they are; refuses RDMs without any order."""
    if bool((wrong := rows.isinf()).any()):
        k = int(wrong.any(dim=-1).nonzero()[0])
        raise ValueError(
            f"RDM {quoted(names[k])} has infinite dissimilarities; set them to NaN if they are missing."
        )
    ranks = scaled_ranks(rows)
    flat = ranks.isnan().all(dim=-1)
    if bool(flat.any()):
        raise ValueError(
            f"RDM {quoted(names[int(flat.nonzero()[0])])} is constant or has no known pair, so that its "
            "dissimilarities have no order; leave it out."
        )
    return ranks if kind.startswith("relative") else rows


def plain_order(n_pairs: int) -> Indices:
    """Positions of the pairs of a plain vector in the square matrix, 0 on the diagonal."""
    n = (1 + math.isqrt(1 + 8 * n_pairs)) // 2
    if n * (n - 1) // 2 != n_pairs:
        raise ValueError(
            f"rdms has {n_pairs} dissimilarities a row, which is no number of pairs (3, 6, 10, …); give every pair."
        )
    index = np.zeros((n, n), dtype=np.intp)
    rows, columns = np.triu_indices(n, 1)
    index[rows, columns] = index[columns, rows] = np.arange(n_pairs)
    return index


def _check_graph(kind: str, lower: float, upper: float, neighbours: int | None, rerank: bool) -> None:
    geodesic = kind.endswith("geodesic")
    if (neighbours is not None or rerank) and not geodesic:
        raise ValueError(
            f"neighbours= and rerank= are for paths, and kind={kind!r} has none; use a geodesic kind."
        )
    if geodesic and lower == upper:
        raise ValueError(
            f"lower and upper are both {upper:g}, which leaves edges without length; let lower be below upper."
        )
    if neighbours is not None:
        whole_number(neighbours, "neighbours")


def _paths(
    scaled: torch.Tensor,
    index: Indices,
    kind: str,
    thresholds: tuple[float, float],
    neighbours: int | None,
    rerank: bool,
    names: Any,
) -> torch.Tensor:
    """Shortest paths of every RDM, one vector a row."""
    n_pairs, n = scaled.shape[-1], len(index)
    square = torch.as_tensor(index, device=scaled.device)
    rows, columns = np.triu_indices(n, 1)
    places = torch.empty(2, n_pairs, dtype=torch.int64, device=scaled.device)
    places[:, square[rows, columns]] = torch.as_tensor(np.stack([rows, columns]), device=scaled.device)
    parts = []
    for part in scaled.split(max(1, CHUNK // n**2)):
        whole = part[:, square]
        weights = ramp(whole, *thresholds)
        joined = weights < 1 if neighbours is None else nearest_neighbours(whole, neighbours)
        edges = weights.masked_fill(~joined | weights.isnan(), torch.inf)
        parts.append(shortest_paths(edges)[:, places[0], places[1]])
        edgeless = edges[:, places[0], places[1]].isinf().all(dim=-1)
        if bool(edgeless.any()):
            name = names[sum(map(len, parts[:-1])) + int(edgeless.nonzero()[0])]
            raise ValueError(f"no pair of RDM {quoted(name)} is below upper={thresholds[1]:g}; raise upper.")
    lengths = torch.cat(parts)
    # missing pairs have no rank
    one_rank = 1 / ((~scaled.isnan()).sum(dim=-1, keepdim=True).to(scaled) - 1)
    step = 1.0 if kind.startswith("absolute") else one_rank / (thresholds[1] - thresholds[0])
    if rerank:
        # sums along equally long paths differ in their last digits, which must not order them
        rounded = lengths.round(decimals=10 if lengths.dtype == torch.float64 else 4)
        ranks = scaled_ranks(rounded.masked_fill(lengths.isinf(), torch.nan))
        lengths = torch.where(lengths.isinf(), lengths, ranks.nan_to_num(0.0))
        step = one_rank
    return join_parts(lengths, step).masked_fill(scaled.isnan(), torch.nan)
