"""Similarities of RDMs, and their noise ceilings, for many resamples of conditions and people at once.

A resample is a vector of counts: how often each condition, and each person, was drawn. A pair of conditions then counts
as often as the product of their counts, and pairs of a condition with its own copy are left out. Moments are sums over
pairs with these weights, so that no resampled RDM is ever built.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from .reranking import CHUNK, RANKED, dense_codes, paired_rank_similarities, reweighted_ranks

LINEAR = ("pearson", "cosine", "whitened-pearson", "whitened-cosine")
METHODS = (*LINEAR, *RANKED)
#: products of RDMs held at once
PRODUCTS = 1 << 21


class Resampled(NamedTuple):
    """Scores ``(n, models, people)``; lower and upper noise ceilings ``(k, n)`` for k ways to count people."""

    scores: torch.Tensor
    lower: torch.Tensor
    upper: torch.Tensor


def reweight(
    models: torch.Tensor,
    data: torch.Tensor,
    pairs: torch.Tensor,
    conditions: torch.Tensor,
    people: torch.Tensor,
    method: str,
    ceiling: str = "rank",
) -> Resampled:
    """Compare models with the RDMs of people in many resamples.

    Parameters
    ----------
    models, data
        ``(m, p)`` and ``(r, p)`` float64 dissimilarities, none missing.
    pairs
        ``(2, p)``: the two conditions of every pair. Pairs that are not listed are left out everywhere.
    conditions
        ``(n, c)`` whole numbers: how often each condition was drawn; ``(1, c)`` serves all resamples of people.
    people
        ``(k, n, r)`` whole numbers, k ways of counting people for noise ceilings; k may be 0.
    method
        One of :data:`METHODS`.
    ceiling
        How people are pooled: ``"rank"`` on the scale on which the method compares, ``"mean"`` as they are.

    Returns
    -------
    Resampled
        A similarity that is undefined in a resample, since one side is constant there, is 0. The ceilings are means
        over the different people of a resample: equal ones are left out together.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.reweighting import reweight
    >>> pairs = torch.triu_indices(4, 4, 1)
    >>> model = torch.tensor([[1.0, 2, 3, 4, 5, 6]], dtype=torch.float64)
    >>> counts = torch.tensor([[1, 1, 1, 1], [2, 1, 1, 0]])
    >>> reweight(model, -model, pairs, counts, counts.new_zeros(0, 2, 1), "rho-a").scores.flatten().tolist()
    [-1.0, -0.9]
    """
    compare = _linear if method in LINEAR else _ranked
    return compare(models, data, pairs, conditions, people, method, ceiling)


def pair_weights(conditions: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """How often each pair occurs where each condition occurs so often: ``(n, c)`` to ``(n, p)``."""
    return conditions[:, pairs[0]] * conditions[:, pairs[1]]


def _linear(
    models: torch.Tensor,
    data: torch.Tensor,
    pairs: torch.Tensor,
    conditions: torch.Tensor,
    people: torch.Tensor,
    method: str,
    ceiling: str,
) -> Resampled:
    rows = torch.cat([models, data])
    if method.endswith("pearson"):
        # any shift is allowed, and this one leaves the least to cancel
        rows = torch.cat([rows - rows.mean(dim=-1, keepdim=True), torch.ones_like(rows[:1])])
    weights = pair_weights(conditions, pairs).to(rows)
    raw = plain = moments = _Moments.of(rows, weights, len(models), len(data))
    if method.startswith("whitened"):
        moments = moments.whitened(rows, conditions.to(rows), pairs)
    if method.endswith("pearson"):
        total = weights.sum(dim=-1)
        # whitened or not, the means that are subtracted are plain ones
        means = plain.ones[:, :-1] / total[:, None]
        moments = moments.centred(means)
        plain = plain.centred(means)
    moments = moments.without_rounding(raw)
    scores = _ratio(moments.cross, moments.square_models[:, :, None] * moments.own[:, None])
    scale = torch.ones_like(plain.own) if ceiling == "mean" else plain.own.clamp_min(0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    gram = moments.gram / (scale[:, :, None] * scale[:, None])
    return Resampled(scores, *_linear_ceilings(gram, people.to(rows)))


class _Moments(NamedTuple):
    """Inner products in every resample: of models and people, of people, of each model with itself, of all with 1."""

    cross: torch.Tensor
    gram: torch.Tensor
    square_models: torch.Tensor
    ones: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor, weights: torch.Tensor, m: int, r: int) -> _Moments:
        """``rows`` are models, people and, where means will be subtracted, ones."""
        few = torch.split(rows[m : m + r], max(1, PRODUCTS // rows.numel()))
        cross = torch.cat(
            [(weights @ _products(rows, some)).view(len(weights), len(rows), -1) for some in few], dim=-1
        )
        ones = weights @ (rows * rows[m + r :].sum(dim=0)).T if len(rows) > m + r else cross[:, :0, 0]
        return cls(cross[:, :m], cross[:, m : m + r], weights @ rows[:m].square().T, ones)

    @property
    def own(self) -> torch.Tensor:
        return self.gram.diagonal(dim1=1, dim2=2)

    def whitened(self, rows: torch.Tensor, conditions: torch.Tensor, pairs: torch.Tensor) -> _Moments:
        """Inner products of the centred Gram matrices that the dissimilarities stand for.

        The Gram matrix of a resample holds a zero for each copy on its diagonal and, off it, the pairs that are
        there. Centring projects it onto such matrices with zero row sums, so inner products lose what the row sums
        explain: one small system a resample, whose matrix says which pairs are there.
        """
        m, r = self.cross.shape[1:]
        c = conditions.shape[1]
        square = rows.new_zeros(len(rows), c, c)
        square[:, pairs[0], pairs[1]] = square[:, pairs[1], pairs[0]] = rows
        there = rows.new_zeros(c, c)
        there[pairs[0], pairs[1]] = there[pairs[1], pairs[0]] = 1
        sums = (conditions @ square.permute(1, 0, 2).reshape(c, -1)).view(len(conditions), len(rows), c)
        system = conditions[:, :, None] * there * conditions[:, None]
        diagonal = conditions * (conditions @ there + 2)
        system.diagonal(dim1=1, dim2=2).copy_(torch.where(conditions > 0, diagonal, 1.0))
        factor = torch.linalg.cholesky(system)
        explained = torch.linalg.solve_triangular(
            factor, (sums * conditions[:, None]).transpose(1, 2), upper=False
        )
        of_models, of_people, of_ones = torch.split(explained, [m, r, len(rows) - m - r], dim=2)
        turned = explained.transpose(1, 2)
        lost = turned[:, : m + r] @ of_people
        ones = self.ones - (turned @ of_ones)[:, :, 0] if of_ones.shape[2] else self.ones
        return _Moments(
            self.cross - lost[:, :m],
            self.gram - lost[:, m:],
            self.square_models - of_models.square().sum(dim=1),
            ones,
        )

    def centred(self, means: torch.Tensor) -> _Moments:
        """The moments after subtracting ``means`` ``(n, m + r)`` from the rows."""
        m = self.cross.shape[1]
        of_models, of_people = means[:, :m], means[:, m:]
        ones, total = self.ones[:, :-1], self.ones[:, -1:]
        both = torch.cat([self.cross, self.gram], dim=1)
        both = (
            both
            - means[:, :, None] * ones[:, None, m:]
            - ones[:, :, None] * of_people[:, None]
            + means[:, :, None] * (of_people * total)[:, None]
        )
        square = self.square_models + of_models * (of_models * total - 2 * ones[:, :m])
        return _Moments(both[:, :m], both[:, m:], square, self.ones)

    def without_rounding(self, raw: _Moments) -> _Moments:
        """The moments, with squared lengths of 0 where nothing but rounding is left of the ``raw`` ones."""
        tiny = 256 * torch.finfo(self.gram.dtype).eps
        square, own = (
            torch.where(side > tiny * before, side, 0.0)
            for side, before in ((self.square_models, raw.square_models), (self.own, raw.own))
        )
        return self._replace(square_models=square, gram=self.gram.diagonal_scatter(own, dim1=1, dim2=2))


def _products(rows: torch.Tensor, people: torch.Tensor) -> torch.Tensor:
    """Elementwise products of all rows with some people, ``(p, rows × people)``."""
    return (rows.T[:, :, None] * people.T[:, None]).flatten(1)


def _linear_ceilings(gram: torch.Tensor, people: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every pool is a weighted sum of people, so their inner products give all ceilings."""
    own = gram.diagonal(dim1=1, dim2=2)
    with_all = (people[:, :, None] @ gram)[:, :, 0]
    of_all = (people * with_all).sum(dim=-1, keepdim=True)
    without = of_all - 2 * people * with_all + people.square() * own
    # of people who cancel out nothing but rounding is left
    tiny = (
        256
        * torch.finfo(gram.dtype).eps
        * (people * own.clamp_min(0).sqrt()).sum(dim=-1, keepdim=True).square()
    )
    of_all, without = (torch.where(pool > tiny, pool, 0.0) for pool in (of_all, without))
    upper = _ratio(with_all, of_all * own)
    lower = _ratio(with_all - people * own, without * own)
    return _mean_of_groups(lower, upper, people)


def _ratio(product: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
    """Similarity from an inner product and the product of both squared lengths; 0 where one is 0."""
    return torch.where(square > 0, product / square.clamp_min(0).sqrt(), 0.0)


def _mean_of_groups(
    lower: torch.Tensor, upper: torch.Tensor, people: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean over the different people of each resample; one alone is left with itself."""
    drawn = people > 0
    n = drawn.sum(dim=-1)
    low, high = ((side * drawn).sum(dim=-1) / n for side in (lower, upper))
    return torch.where(n > 1, low, high), high


def _ranked(
    models: torch.Tensor,
    data: torch.Tensor,
    pairs: torch.Tensor,
    conditions: torch.Tensor,
    people: torch.Tensor,
    method: str,
    ceiling: str,
) -> Resampled:
    weights = pair_weights(conditions, pairs).to(torch.int32)
    codes, m = dense_codes(torch.cat([models, data])), len(models)
    distinct = bool((codes[m:].amax(dim=-1) == codes.shape[1] - 1).all())
    by_rank = method in ("spearman", "rho-a")
    ranks = reweighted_ranks(codes if by_rank else codes[m:], weights)
    places, counts = _present(weights)
    index = places[:, None].expand(-1, len(data), -1)
    found = ranks[:, -len(data) :].gather(2, index)
    if by_rank:
        of_people = found
        scores = _rank_scores(ranks[:, :m].double(), ranks[:, m:].double(), weights.double(), method)
    else:
        of_models, of_people = torch.split(codes[:, places].transpose(0, 1), [m, len(data)], dim=1)
        scores = _all_pairs(of_models, of_people, counts, method, distinct)
    pooled = data[:, places].transpose(0, 1) if ceiling == "mean" else found
    sides = [_rank_ceilings(pooled, of_people, counts, some, method, distinct) for some in people]
    none = data.new_zeros(0, people.shape[1])
    lower, upper = (torch.stack(side) for side in zip(*sides, strict=True)) if sides else (none, none)
    return Resampled(scores, lower, upper)


def _rank_scores(
    models: torch.Tensor, data: torch.Tensor, weights: torch.Tensor, method: str
) -> torch.Tensor:
    """Spearman's correlation, or rho-a, from twice the centred ranks ``(n, m or r, p)``."""
    heavy = models * weights[:, None]
    product = heavy @ data.transpose(1, 2)
    if method == "rho-a":
        n = weights.sum(dim=-1)[:, None, None]
        return 3 * product / (n**3 - n)
    of_models, of_data = (heavy * models).sum(dim=-1), (data.square() @ weights[:, :, None])[:, :, 0]
    return _ratio(product, of_models[:, :, None] * of_data[:, None])


def _present(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which pairs occur in each resample ``(n, k)`` and how often; those with fewer pairs are filled up with zeros."""
    there = weights > 0
    k = max(1, int(there.sum(dim=-1).max()))
    places = torch.zeros(len(weights), k, dtype=torch.int64, device=weights.device)
    row, column = there.nonzero(as_tuple=True)
    slot = there.cumsum(dim=-1)[row, column] - 1
    places[row, slot] = column
    counts = torch.zeros(places.shape, dtype=weights.dtype, device=weights.device)
    counts[row, slot] = weights[row, column]
    return places, counts


def _all_pairs(
    models: torch.Tensor, data: torch.Tensor, counts: torch.Tensor, method: str, distinct: bool
) -> torch.Tensor:
    """Kendall's correlation of every model with every person: ``(n, m, k)`` and ``(n, r, k)`` to ``(n, m, r)``."""
    n, m, r = (torch.arange(size, device=data.device) for size in (*models.shape[:2], data.shape[1]))
    row, which, who = (side.flatten() for side in torch.meshgrid(n, m, r, indexing="ij"))
    scores = [
        paired_rank_similarities(models[a, b], data[a, c], counts[a], method, distinct)
        for a, b, c in _few_rows(counts.shape[1], row, which, who)
    ]
    return torch.cat(scores).view(len(n), len(m), len(r))


def _rank_ceilings(
    pooled: torch.Tensor,
    data: torch.Tensor,
    counts: torch.Tensor,
    people: torch.Tensor,
    method: str,
    distinct: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarity of everyone drawn with the pool of the others and of all: both are ranked anew in each resample."""
    times = people.to(pooled.dtype)
    if len(pooled) == 1:
        total = people.double() @ pooled[0].double()
    else:
        total = (people[:, None].double() @ pooled.double())[:, 0]
    total = total.to(pooled.dtype)
    lower, upper = torch.zeros(2, *people.shape, dtype=torch.float64, device=pooled.device)
    for row, who in _few_rows(counts.shape[1], *(people > 0).nonzero(as_tuple=True)):
        # one resample of conditions may serve all of people
        at = row if len(pooled) > 1 else torch.zeros_like(row)
        all_together, x, heavy = total[row], data[at, who], counts[at]
        others = all_together - times[row, who][:, None] * pooled[at, who]
        for found, pool in ((lower, others), (upper, all_together)):
            y = dense_codes(pool) if pool.is_floating_point() else pool.long()
            found[row, who] = paired_rank_similarities(y, x, heavy, method, distinct)
    return _mean_of_groups(lower, upper, people)


def _few_rows(k: int, *index: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Numbers of rows of length k, a few at a time."""
    step = max(1, CHUNK.get(index[0].device.type, 1 << 20) // k)
    return zip(*(torch.split(side, step) for side in index), strict=True)
