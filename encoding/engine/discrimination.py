"""How well conditions can be told apart in a run that the classifier has not seen."""

from __future__ import annotations

import torch

from .covariance import ledoit_wolf, sample_covariance, shrink
from .dissimilarity import upper, whiten


def pairwise_accuracy(
    rows: torch.Tensor, conditions: torch.Tensor, runs: torch.Tensor, covariance: torch.Tensor | None = None
) -> torch.Tensor:
    """Accuracy of linear discriminants between every two conditions, leaving out one run at a time.

    Means, and unless it is given the noise, come from the other runs only. All pairs share one covariance: that of
    the deviations of presentations from the mean of their condition, shrunk (Ledoit & Wolf, 2004). So one
    factorisation a run serves all pairs, and each presentation's scores for all conditions decide all its pairs.

    Parameters
    ----------
    rows
        ``(..., presentations, units)``.
    conditions, runs
        Codes from 0, ``(presentations,)``.
    covariance
        ``(*lead, units, units)`` where ``lead`` are the first axes of the rows; default: estimated in each fold.

    Returns
    -------
    torch.Tensor
        ``(..., pairs)``: mean of the accuracies of both conditions over their presentations, ties counted half; 0.5
        is chance. NaN where one of both was never tested.

    Raises
    ------
    ValueError
        If a covariance is singular, or the other runs hold no repeats to estimate it from.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.discrimination import pairwise_accuracy
    >>> rows = torch.tensor([[0.0, 1.0], [3.0, 0.0], [1.0, 0.0], [4.0, 1.0], [0.0, 0.0], [3.0, 2.0]])
    >>> pairwise_accuracy(rows, torch.tensor([0, 1] * 3), torch.tensor([0, 0, 1, 1, 2, 2])).tolist()
    [1.0]
    """
    n = int(conditions.max()) + 1
    hits = rows.new_zeros(*rows.shape[:-2], n, n)
    tested = rows.new_zeros(n, n)
    for run in range(int(runs.max()) + 1):
        seen = runs != run
        counts = torch.bincount(conditions[seen], minlength=n)
        trained = counts > 0
        mine = conditions[~seen]
        known = trained[mine]
        if not bool(known.any()):
            continue
        train, test, mine = rows[..., seen, :], rows[..., ~seen, :][..., known, :], mine[known]
        means = _means(train, conditions[seen], counts)
        noise = covariance
        if noise is None:
            noise = _noise(train - means[..., conditions[seen], :], int(seen.sum() - trained.sum()))
        scores = _scores(test, means, noise)
        own = scores.gather(-1, mine.expand(scores.shape[:-1])[..., None])
        right = (own > scores).to(rows.dtype) + 0.5 * (own == scores).to(rows.dtype)
        hits.index_add_(-2, mine, right * trained)
        tested.index_add_(0, mine, trained.to(rows.dtype).expand(len(mine), n))
    rate = hits / tested
    return upper((rate + rate.mT) / 2)


def _means(rows: torch.Tensor, conditions: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    total = rows.new_zeros(*rows.shape[:-2], len(counts), rows.shape[-1]).index_add_(-2, conditions, rows)
    return total / counts.clamp(min=1)[..., None]


def _noise(residuals: torch.Tensor, free: int) -> torch.Tensor:
    """Shrunk covariance; on the scale of correlations, so that loud units do not decide how far the others shrink."""
    if free < 1:
        raise ValueError("no repeats in the other runs")
    residuals = residuals.double() if residuals.device.type != "mps" else residuals
    scale = residuals.square().mean(dim=-2, keepdim=True).sqrt()
    scale = scale.masked_fill(scale == 0, 1)
    standard = residuals / scale
    shrunk = shrink(sample_covariance(standard), ledoit_wolf(standard))
    return shrunk * scale * scale.mT


def _scores(test: torch.Tensor, means: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Linear discriminant of each condition for each presentation, ``(..., presentations, conditions)``."""
    both = whiten(torch.cat([test, means], dim=-2), covariance)
    rows, centres = both[..., : test.shape[-2], :], both[..., test.shape[-2] :, :]
    middle = centres.mean(dim=-2, keepdim=True)
    rows, centres = rows - middle, centres - middle
    scores: torch.Tensor = rows @ centres.mT - centres.square().sum(dim=-1)[..., None, :] / 2
    return scores
