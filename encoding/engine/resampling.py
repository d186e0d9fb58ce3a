"""Scores of resampled rows without the rows: what a score needs of them are a few sums, and sums can be weighted.

Drawing rows again with replacement gives each row a whole number as weight. All draws of all columns are then one
product of weights with the terms of these sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from .counts import Poisson
from .scoring import pearsonr_from_sums, r2_from_sums

#: share of a sum of squares below which what is left after taking off the mean is rounding
ROUNDING = 1e-12
#: neighbours whose correlation must all be small before a series counts as uncorrelated (Politis & White, 2004)
NEIGHBOURS = 5


class Sums(NamedTuple):
    """A score that depends on rows through sums alone.

    ``terms(truth, prediction, *null)`` gives what is summed, each ``(rows, columns)`` in double precision, zero where
    the truth is missing (NaN); ``score(*sums)`` the score of such sums, each ``(..., columns)``.
    """

    terms: Callable[..., tuple[torch.Tensor, ...]]
    score: Callable[..., torch.Tensor]


def resampled(
    sums: Sums, weights: torch.Tensor, blocks: torch.Tensor, *compared: torch.Tensor
) -> torch.Tensor:
    """The score of every draw, ``(draws, columns)``.

    Parameters
    ----------
    sums
        What is scored.
    weights
        How often each block of rows was drawn, ``(draws, blocks)``.
    blocks
        The block of each row, ``(rows,)``.
    compared
        Truth and prediction, ``(rows, columns)``, or classes as numbers from 0 on, ``(rows,)``; and what else the score
        asks for.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.resampling import R2, resampled
    >>> truth = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    >>> weights = torch.tensor([[1.0, 1.0, 1.0, 0.0], [2.0, 0.0, 2.0, 0.0]])
    >>> resampled(R2, weights, torch.arange(4), truth, truth.clamp(max=1)).flatten().tolist()
    [0.5, 0.5]
    """
    weights = weights.double()
    totals = []
    for term in sums.terms(*compared):
        of_blocks = term.new_zeros(weights.shape[1], term.shape[1]).index_add_(0, blocks, term)
        totals.append(weights @ of_blocks)
    return sums.score(*totals)


def interval(draws: torch.Tensor, estimate: torch.Tensor, tail: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Bias-corrected percentile interval of each column of ``draws``, NaN where no draw has a score.

    Parameters
    ----------
    draws
        ``(draws, columns)``; missing ones (NaN) are left out.
    estimate
        What the interval is of, ``(columns,)``. Draws that lie lower than it on the whole are so because smaller or
        poorer samples score lower; then the interval lies as much higher (Efron, 1981).
    tail
        Share on each side outside the interval.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.resampling import interval
    >>> low, high = interval(torch.linspace(0, 1, 1001)[:, None], torch.tensor([0.5]), 0.1)
    >>> round(low.item(), 2), round(high.item(), 2)
    (0.1, 0.9)
    """
    draws = draws.sort(0).values  # missing ones come last
    n = draws.isfinite().sum(0)
    below = ((draws < estimate).sum(0) + 0.5 * (draws == estimate).sum(0)).to(draws.dtype) / n
    # an estimate outside all draws is as far out as draws can tell
    shift = torch.special.ndtri(below.clamp(0.5 / len(draws), 1 - 0.5 / len(draws)))
    ends = []
    for edge in (tail, 1 - tail):
        level = torch.special.ndtr(2 * shift + torch.special.ndtri(torch.as_tensor(edge, dtype=draws.dtype)))
        place = (level * (n - 1)).nan_to_num(0).clamp(min=0)
        first = place.floor().long()
        last = torch.minimum(first + 1, (n - 1).clamp(min=0))
        lower, upper = (draws.gather(0, at[None])[0] for at in (first, last))
        ends.append(torch.where(n > 0, torch.lerp(lower, upper, place - first), torch.nan))
    return ends[0], ends[1]


def block_length(series: torch.Tensor) -> int:
    """How many neighbours of a series belong together, so that blocks of them can be drawn as if independent.

    Politis & White (2004) for blocks that do not overlap; the median over columns.

    Parameters
    ----------
    series
        What is averaged over time, ``(n, columns)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.resampling import block_length
    >>> noise = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
    >>> block_length(noise) < 4 < block_length(noise.cumsum(0))
    True
    """
    n = len(series)
    series = series.double() - series.double().mean(0)
    spectrum = torch.fft.rfft(series, 2 * n, dim=0)
    covariance = torch.fft.irfft(spectrum.abs().square(), 2 * n, dim=0)[: n // 2 + 1] / n
    correlation = covariance / covariance[0].clamp(min=torch.finfo(torch.float64).tiny)
    small = (correlation.abs() < 2 * (torch.log10(torch.tensor(float(n))) / n).sqrt()).double()
    lengths = []
    for of_column, of_lags in zip(small.T, correlation.T, strict=True):
        quiet = of_column.unfold(0, NEIGHBOURS, 1).amin(1)[1:]
        last = int(quiet.argmax()) if bool(quiet.any()) else len(quiet)
        width = max(2 * last, 1)
        lags = torch.arange(1, min(width, len(of_lags) - 1) + 1)
        window = (2 * (1 - lags / width)).clamp(0, 1) * of_lags[lags]
        slope, level = 2 * (lags * window).sum(), 1 + 2 * window.sum()
        lengths.append((float(slope) ** 2 / max(float(level) ** 2, ROUNDING) * n) ** (1 / 3))
    return max(1, round(float(torch.tensor(lengths).median())))


def _known(truth: torch.Tensor, prediction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which responses are there, and truth and prediction seen from their means over those."""
    known = (~truth.isnan()).double()
    centred = []
    for values in (truth, prediction):
        values = torch.where(known > 0, values.double(), 0.0)
        centred.append((values - values.sum(0) / known.sum(0)) * known)
    return known, centred[0].nan_to_num(), centred[1].nan_to_num()


def _spread(n: torch.Tensor, total: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """Sum of squares about the mean, exactly zero where nothing varies."""
    spread = squares - total.square() / n
    return torch.where(spread > ROUNDING * squares, spread, 0.0)


def _pearsonr_terms(truth: torch.Tensor, prediction: torch.Tensor) -> tuple[torch.Tensor, ...]:
    known, y, p = _known(truth, prediction)
    return known, y, p, y * y, p * p, y * p


def _pearsonr(
    n: torch.Tensor, y: torch.Tensor, p: torch.Tensor, yy: torch.Tensor, pp: torch.Tensor, yp: torch.Tensor
) -> torch.Tensor:
    return pearsonr_from_sums(yp - y * p / n, _spread(n, y, yy), _spread(n, p, pp))


def _r2_terms(truth: torch.Tensor, prediction: torch.Tensor) -> tuple[torch.Tensor, ...]:
    known, y, _ = _known(truth, prediction)
    return known, y, y * y, (truth.double() - prediction.double()).square().nan_to_num()


def _r2(n: torch.Tensor, y: torch.Tensor, yy: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    return r2_from_sums(residual, _spread(n, y, yy))


def _likelihoods(truth: torch.Tensor, *rates: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Log-likelihoods of predicted rates, and of the truth itself."""
    truth = truth.double()
    every = [Poisson().log_likelihood(truth, rate.double().expand_as(truth)) for rate in (*rates, truth)]
    return tuple(torch.where(truth.isnan(), 0.0, likelihood) for likelihood in every)


def _deviance_terms(truth: torch.Tensor, prediction: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (~truth.isnan()).double(), *_likelihoods(truth, prediction)


def _share_terms(truth: torch.Tensor, prediction: torch.Tensor) -> tuple[torch.Tensor, ...]:
    right = (truth == prediction).double()[:, None]
    return torch.ones_like(right), right


def _class_terms(truth: torch.Tensor, prediction: torch.Tensor) -> tuple[torch.Tensor, ...]:
    of_class = (truth[:, None] == torch.arange(int(truth.max()) + 1)).double()
    return of_class, of_class * (truth == prediction)[:, None]


PEARSONR = Sums(_pearsonr_terms, _pearsonr)
R2 = Sums(_r2_terms, _r2)
PSEUDO_R2 = Sums(_likelihoods, lambda model, null, best: 1 - (best - model) / (best - null))
POISSON_DEVIANCE = Sums(_deviance_terms, lambda n, model, best: 2 * (model - best) / n)
ACCURACY = Sums(_share_terms, lambda n, right: right / n)
BALANCED_ACCURACY = Sums(_class_terms, lambda n, right: (right / n).nanmean(-1, keepdim=True))
