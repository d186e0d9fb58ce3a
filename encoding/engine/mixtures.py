"""Mixtures of dissimilarity vectors that are most similar to others: weighted, or between two neighbours.

Cosine, correlation and their whitened forms are inner products divided by lengths, so that the mixture which is most
similar on average to several vectors follows from the inner products of the bases, and theirs with the mean of those
vectors at length 1: least squares, up to a scale that no similarity sees.
"""

from __future__ import annotations

import torch

from .pivoting import solve_nonnegative
from .ranks import midranks

#: ways of comparing that are inner products of vectors less their mean; ranks are fitted as such, see :func:`scaled`
RANKED = ("spearman", "rho-a", "tau-a", "tau-b")
WHITENED = ("whitened-cosine", "whitened-pearson")
#: share of the diagonal that is added to it, so that where bases depend on each other rounding does not choose
JITTER = 1e-9
#: how far a condition may be missed by rounding
ROUNDING = 1e-9


def unconstrained(gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """Weights of least squares, the shortest ones where bases depend on each other.

    Parameters
    ----------
    gram
        Inner products of the bases, ``(..., bases, bases)``.
    cross
        Those of the bases with the target, ``(..., bases)``.

    Returns
    -------
    torch.Tensor
        ``(..., bases)``, of length 1 unless all are zero.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.mixtures import unconstrained
    >>> unconstrained(torch.eye(2).double(), torch.tensor([3.0, -4.0]).double()).tolist()
    [0.6, -0.8]
    """
    gram, cross, scale = _standardised(gram, cross)
    inverse: torch.Tensor = torch.linalg.pinv(gram, rtol=JITTER, hermitian=True)
    return _unit((inverse @ cross[..., None])[..., 0] / scale)


def nonnegative(gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """The weights, none negative, of the mixture that is most similar to the target.

    Least squares under that condition, solved exactly. Where no basis is positively related to the target, all those
    weights would be zero; the most similar mixture then is the single basis that is least dissimilar.

    Parameters
    ----------
    gram
        Inner products of the bases, ``(..., bases, bases)``.
    cross
        Those of the bases with the target, ``(..., bases)``.

    Returns
    -------
    torch.Tensor
        ``(..., bases)``, of length 1.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.mixtures import nonnegative
    >>> nonnegative(torch.eye(2).double(), torch.tensor([3.0, 4.0]).double()).tolist()
    [0.6, 0.8]
    """
    shape, n = cross.shape, cross.shape[-1]
    gram, cross, scale = _standardised(gram.reshape(-1, n, n), cross.reshape(-1, n))
    identity = torch.eye(n, dtype=gram.dtype, device=gram.device)
    values = solve_nonnegative(gram + JITTER * identity, cross, ROUNDING)
    informative = gram.diagonal(dim1=1, dim2=2) > 0
    least_bad = torch.nn.functional.one_hot(cross.masked_fill(~informative, -torch.inf).argmax(1), n)
    values = torch.where((values > 0).any(1, keepdim=True), values, least_bad.to(values))
    return _unit(values / scale).reshape(shape)


def interpolated(gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """Weights of the most similar mixture of two neighbouring bases, not negative and summing to one.

    On the segment from one basis to the next the similarity has one stationary point at most, so that the best of
    it and of the two ends is the best of the segment.

    Parameters
    ----------
    gram
        Inner products of the bases, ``(..., bases, bases)``, two bases at least.
    cross
        Those of the bases with the target, ``(..., bases)``.

    Returns
    -------
    torch.Tensor
        ``(..., bases)``; two neighbours or one have weights.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.mixtures import interpolated
    >>> interpolated(torch.eye(3).double(), torch.tensor([0.0, 1.0, 3.0]).double()).tolist()
    [0.0, 0.25, 0.75]
    """
    squares = gram.diagonal(dim1=-2, dim2=-1)
    a, b = squares[..., :-1], squares[..., 1:]
    between = gram.diagonal(1, dim1=-2, dim2=-1)
    with_a, with_b = cross[..., :-1], cross[..., 1:]
    top = with_b * a - with_a * between
    inner = top / (top + with_a * b - with_b * between)
    shares = torch.stack([inner.nan_to_num(0).clamp(0, 1), torch.zeros_like(a), torch.ones_like(a)])
    length = (1 - shares).square() * a + 2 * shares * (1 - shares) * between + shares.square() * b
    similarity = ((1 - shares) * with_a + shares * with_b) / length.sqrt()
    similarity = torch.where(length > 0, similarity, -torch.inf)
    best, way = similarity.max(0)
    # of segments that are equally similar, as many are where pairs are few, the first: rounding must not choose
    largest = best.amax(-1, keepdim=True)
    segment = (best >= largest - ROUNDING * largest.abs()).byte().argmax(-1, keepdim=True)
    share = shares.gather(0, way[None])[0].gather(-1, segment)
    weights = torch.zeros_like(cross).scatter_(-1, segment, 1 - share)
    return weights.scatter_(-1, segment + 1, share)


def products(
    rows: torch.Tensor, places: torch.Tensor, method: str, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Inner products of rows of dissimilarities in the space where ``method`` is the cosine, for many resamples.

    ``"cosine"``: as they are. ``"pearson"`` and ranks: less their mean. Whitened: by the inverse of the covariance that
    dissimilarities have among themselves because they share conditions, ``V = 2 I + A'A`` up to scale, where ``A``
    says which conditions each pair has; its inverse needs conditions × conditions only.

    Parameters
    ----------
    rows
        ``(rows, pairs)``, without NaN; any set of pairs.
    places
        Numbers of the two conditions of every pair, ``(2, pairs)``.
    method
        One of the linear or ranked ways of comparing; ranks are taken before, by :func:`scaled`.
    counts
        How often each condition was drawn, ``(resamples, conditions)``; pairs of copies are left out. Default: once.

    Returns
    -------
    torch.Tensor
        ``(resamples, rows, rows)``; zero for rows of which nothing but rounding is left.

    References
    ----------
    Diedrichsen, Berlot, Mur, Schütt, Shahbazi & Kriegeskorte (2020). Comparing representational geometries using
    whitened unbiased-distance-matrix similarity. arXiv:2007.02789.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.mixtures import products
    >>> products(torch.tensor([[1.0, 2.0, 3.0]]), torch.triu_indices(3, 3, 1), "pearson").tolist()
    [[[2.0]]]
    """
    if counts is None:
        counts = torch.ones(1, int(places.max()) + 1)
    counts = counts.to(rows)
    n, centre = len(rows), method not in ("cosine", "whitened-cosine")
    if centre:
        # any shift is allowed, and this one leaves the least to cancel
        rows = torch.cat([rows - rows.mean(dim=-1, keepdim=True), torch.ones_like(rows[:1])])
    weights = counts[:, places[0]] * counts[:, places[1]]
    gram = _weighted_gram(rows, weights)
    size = rows.square().mean(dim=-1) * weights.sum(dim=-1, keepdim=True)
    means = gram[:, :n, -1] / gram[:, -1:, -1]
    if method in WHITENED:
        gram = (gram - _explained(rows, places, counts)) / 2
    if centre:
        ones, total = gram[:, :n, -1], gram[:, -1, -1, None, None]
        crossed = means[:, :, None] * ones[:, None]
        gram = gram[:, :n, :n] - crossed - crossed.mT + total * means[:, :, None] * means[:, None]
    left = gram.diagonal(dim1=1, dim2=2) > 64 * torch.finfo(rows.dtype).eps * size[:, :n]
    return gram * left[:, :, None] * left[:, None]


def scaled(rows: torch.Tensor, places: torch.Tensor, method: str) -> torch.Tensor:
    """Rows on the scale on which ``method`` compares them, so that their mean is most similar to all on average.

    Ranks for the ranked ways, else length 1 in the space of :func:`products`.

    Parameters
    ----------
    rows
        ``(rows, pairs)``, without NaN.
    places, method
        As for :func:`products`.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.mixtures import scaled
    >>> scaled(torch.tensor([[0.0, 0.0, 4.0]]), torch.triu_indices(3, 3, 1), "cosine").tolist()
    [[0.0, 0.0, 1.0]]
    """
    if method in RANKED:
        # as they are, so that equal means of ranks stay equal
        return midranks(rows)
    if method not in ("cosine", "whitened-cosine"):
        rows = rows - rows.mean(dim=-1, keepdim=True)
    squares = products(rows, places, method)[0].diagonal()
    return rows / squares.sqrt()[:, None]


def _weighted_gram(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sums over pairs of the products of two rows, ``(resamples, rows, rows)``."""
    if len(weights) == 1:
        return ((rows * weights) @ rows.T)[None]
    upper = [(rows[k:] * rows[k]) @ weights.T for k in range(len(rows))]
    gram = rows.new_empty(len(rows), len(rows), len(weights))
    for k, part in enumerate(upper):
        gram[k, k:] = gram[k:, k] = part
    return gram.permute(2, 0, 1).contiguous()


def _explained(rows: torch.Tensor, places: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """The share of the inner products that the sums over the pairs of each condition explain.

    Copies of a condition have equal sums, so that one small system a resample, over different conditions, is enough.
    """
    n, c = counts.shape
    square = rows.new_zeros(len(rows), c, c)
    square[:, places[0], places[1]] = square[:, places[1], places[0]] = rows
    there = rows.new_zeros(c, c)
    there[places[0], places[1]] = there[places[1], places[0]] = 1
    sums = (counts @ square.permute(1, 0, 2).reshape(c, -1)).view(n, len(rows), c) * counts[:, None]
    system = counts[:, :, None] * there * counts[:, None]
    diagonal = counts * (counts @ there + 2)
    system.diagonal(dim1=1, dim2=2).copy_(torch.where(counts > 0, diagonal, 1.0))
    explained: torch.Tensor = sums @ torch.linalg.solve(system, sums.mT)
    return explained


def _standardised(gram: torch.Tensor, cross: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both as if all bases had length 1 and the closest a product of 1 with the target, and the bases' lengths."""
    squares = gram.diagonal(dim1=-2, dim2=-1)
    empty = squares == 0
    scale = squares.masked_fill(empty, 1).sqrt()
    gram = (gram / scale[..., None] / scale[..., None, :]).masked_fill(empty[..., None], 0)
    cross = (cross / scale).masked_fill(empty, 0)
    largest = cross.abs().amax(-1, keepdim=True)
    return gram.masked_fill(empty[..., None, :], 0), cross / largest.masked_fill(largest == 0, 1), scale


def _unit(weights: torch.Tensor) -> torch.Tensor:
    length: torch.Tensor = torch.linalg.vector_norm(weights, dim=-1, keepdim=True)
    # no weight is minus zero
    return weights / length.masked_fill(length == 0, 1) + 0.0
