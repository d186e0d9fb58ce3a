"""Dissimilarities around every centre compared with models in one pass: patterns in, scores out, no RDM kept.

Centres with the same number of units are gathered into one batch, of which there are only so many as stay in the
processor's cache: their patterns, whitening, Gram matrices and comparisons exist for that batch alone.

Squared distances add up over units, so the numerator of a linear comparison could be a map of units summed over
neighbourhoods; that is left out, because the norm of each RDM takes its Gram matrix all the same, which is most of the
work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from .covariance import estimate
from .dissimilarity import whiten
from .similarity import is_undefined, prepare, similarities

#: bytes worked on at once: the processor's cache, or enough to fill a GPU
CACHE = {"cpu": 1 << 23, "cuda": 1 << 29}
#: why a centre has no score
SCORED, SINGULAR, UNDEFINED, CONSTANT = range(4)


@dataclass(frozen=True)
class Models:
    """Models prepared once for comparison with many RDMs.

    Parameters
    ----------
    method
        One of :data:`~cerebridge.encoding.engine.similarity.METHODS`.
    groups
        Models that know the same pairs: their numbers, a mask of the pairs (``None``: all), and what
        :func:`~cerebridge.encoding.engine.similarity.prepare` makes of these.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.searchlight import Models
    >>> from cerebridge.encoding.engine.similarity import prepare
    >>> ready = prepare(torch.tensor([[1.0, 2.0]]), "cosine")
    >>> models = Models("cosine", [(torch.tensor([0]), torch.tensor([True, False, True]), ready)])
    >>> models.scores(torch.tensor([[2.0, 7.0, 4.0]]))[0].round(decimals=3).tolist()
    [[1.0]]
    """

    method: str
    groups: list[tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]]

    @property
    def n(self) -> int:
        """How many models there are."""
        return sum(len(which) for which, _, _ in self.groups)

    def scores(self, rdms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Similarity of ``(rdms, pairs)`` to every model, and for which RDMs it is undefined."""
        out = rdms.new_full((len(rdms), self.n), torch.nan)
        undefined = torch.zeros(len(rdms), dtype=torch.bool, device=rdms.device)
        for which, known, ready in self.groups:
            rows = prepare(rdms if known is None else rdms[:, known], self.method, known=known)
            without = is_undefined(rows, self.method)
            defined = (~without).nonzero()[:, 0]
            rows = rows if len(defined) == len(rows) else rows[defined]
            if len(defined):
                out[defined[:, None], which] = similarities(ready, rows, self.method).T.to(out.dtype)
            undefined |= without
        return out, undefined


@dataclass(frozen=True)
class Searchlight:
    """What is done around every centre.

    Parameters
    ----------
    patterns
        ``(units, conditions)``, or ``(units, conditions, runs)`` with ``counts``: 0 where a run lacks a condition.
    models
        What dissimilarities are compared with.
    metric
        From ``(..., conditions, units)``, or ``(..., conditions, runs, units)`` and ``counts``, to ``(..., pairs)``.
    counts
        ``(conditions, runs)``: presentations behind each mean, for metrics that are cross-validated over runs.
    noise
        Covariance ``(units, units)``; default: no whitening, or by ``residuals``.
    residuals
        ``(units, samples)`` with mean 0, of whose covariance around each centre patterns are freed; it is shrunk after
        Ledoit & Wolf (2004).
    freedom
        Degrees of freedom of the residuals.
    precision
        Of comparisons and noise.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dissimilarity import euclidean
    >>> from cerebridge.encoding.engine.searchlight import Models, Searchlight
    >>> from cerebridge.encoding.engine.similarity import prepare
    >>> patterns = torch.tensor([[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    >>> ready = prepare(torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.float64), "pearson")
    >>> models = Models("pearson", [(torch.tensor([0]), None, ready)])
    >>> light = Searchlight(patterns, models, euclidean)
    >>> scores, why = light.scores(torch.tensor([0, 2]), torch.tensor([0, 1]))
    >>> scores.round(decimals=6).tolist(), why.tolist()
    ([[1.0]], [0])
    """

    patterns: torch.Tensor
    models: Models
    metric: Callable[..., torch.Tensor]
    counts: torch.Tensor | None = None
    noise: torch.Tensor | None = None
    residuals: torch.Tensor | None = None
    freedom: int = 0
    precision: torch.dtype = torch.float64
    cache: int | None = field(default=None, compare=False)

    def scores(self, indptr: torch.Tensor, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores ``(centres, models)`` and for each centre why it has none, if so.

        Parameters
        ----------
        indptr, indices
            The units around centre ``c`` are ``indices[indptr[c]:indptr[c + 1]]``.
        """
        out = self.patterns.new_full((len(indptr) - 1, self.models.n), torch.nan, dtype=self.precision)
        why = torch.full((len(out),), SCORED, device=out.device)
        for centres, units in self._batches(indptr, indices):
            out[centres], why[centres] = self._batch_scores(units)
        return out, why

    def _batches(
        self, indptr: torch.Tensor, indices: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Centres of one size, as many as the cache holds, and their units ``(centres, units)``."""
        sizes = indptr.diff()
        cache = self.cache or CACHE.get(self.patterns.device.type, 1 << 26)
        n = self.patterns.shape[1]
        for size in torch.unique(sizes).tolist():
            samples = size if self.residuals is None else self.residuals.shape[1]
            noise = 0 if self.noise is None and self.residuals is None else size * (samples + 2 * size)
            numbers = 2 * size * self.patterns[0].numel() + 4 * n * n + noise
            step = max(1, cache // (numbers * self.patterns.element_size()))
            for centres in (sizes == size).nonzero()[:, 0].split(step):
                where = indptr[centres, None] + torch.arange(size, device=indptr.device)
                yield centres.to(self.patterns.device), indices[where].to(self.patterns.device)

    def _batch_scores(self, units: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # measures reduce over units, which is fastest where these lie next to each other
        patterns = self.patterns.index_select(0, units.flatten()).view(*units.shape, *self.patterns.shape[1:])
        patterns = patterns.movedim(1, -1).contiguous()
        why = torch.full((len(units),), SCORED, device=units.device)
        covariance = self._covariance(units)
        if covariance is not None:
            patterns, singular = _whitened(patterns, covariance)
            why[singular] = SINGULAR
        rdms = self.metric(patterns) if self.counts is None else self.metric(patterns, self.counts)
        rdms = rdms.to(self.precision)
        why[rdms.isnan().any(dim=-1) & (why == SCORED)] = UNDEFINED
        out = rdms.new_full((len(rdms), self.models.n), torch.nan)
        known = (why == SCORED).nonzero()[:, 0]
        if len(known):
            out[known], constant = self.models.scores(rdms if len(known) == len(rdms) else rdms[known])
            out[known[constant]], why[known[constant]] = torch.nan, CONSTANT
        return out, why

    def _covariance(self, units: torch.Tensor) -> torch.Tensor | None:
        """Noise of the units around each centre, ``(centres, k, k)``."""
        if self.residuals is not None:
            rows = self.residuals[units].mT
            return estimate(rows) * (rows.shape[-2] / self.freedom)
        return None if self.noise is None else self.noise[units[:, :, None], units[:, None]]


def _whitened(patterns: torch.Tensor, covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Patterns divided by the noise of their own units, and for which centres that is singular."""
    try:
        whitened = whiten(patterns, covariance)
    except ValueError:
        if len(patterns) == 1:
            return patterns, torch.ones(1, dtype=torch.bool, device=patterns.device)
        parts = [_whitened(patterns[k : k + 1], covariance[k : k + 1]) for k in range(len(patterns))]
        whitened, singular = (torch.cat(part) for part in zip(*parts, strict=True))
        return whitened, singular
    return whitened, torch.zeros(len(patterns), dtype=torch.bool, device=patterns.device)
