"""Ridge regression with coefficients of low rank: all ranks from the singular vectors of the fitted values.

With the features' singular value decomposition ``X = U D V'`` the best approximation of rank ``r``, in the metric of
the penalised problem, projects the coefficients of ridge on the first ``r`` right singular vectors of
``(D² + alpha)^-½ D U'Y`` (Izenman, 1975; Mukherjee & Zhu, 2011). One decomposition of the features serves all
penalties, and one of that matrix all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .moments import Split, centre, take
from .scoring import Scoring, pearsonr_from_sums, r2_from_sums
from .spectral import inverse_filters, spectrum


class Design:
    """Features of one training set, decomposed, and what of the targets lies in their directions.

    Parameters
    ----------
    X, Y
        ``(samples, features)`` and ``(samples, targets)``.
    fit_intercept
        Whether both are centred.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.reducedrank import Design
    >>> X = torch.eye(3, dtype=torch.float64)
    >>> design = Design(X, torch.diag(torch.tensor([3.0, 2.0, 1.0]).double()), fit_intercept=False)
    >>> design.coef(torch.tensor(1.0), 2).abs().round(decimals=9).diagonal().tolist()
    [1.5, 1.0, 0.0]
    """

    def __init__(self, X: torch.Tensor, Y: torch.Tensor, fit_intercept: bool) -> None:
        X, Y = X.double(), Y.double()
        self.mean_x, self.mean_y = torch.zeros_like(X[0]), torch.zeros_like(Y[0])
        if fit_intercept:
            X, self.mean_x = centre(X)
            Y, self.mean_y = centre(Y)
        wide = len(X) < X.shape[1]
        values, vectors = spectrum(X @ X.T if wide else X.T @ X)
        there = values > 0
        there[-1] = True  # features that never vary have one direction, of length zero
        self.values, vectors = values[there], vectors[:, there]
        lengths = self.values.sqrt().clamp(min=torch.finfo(values.dtype).tiny)
        #: right singular vectors of the features, and products of their scores with the targets
        self.basis = X.T @ (vectors / lengths) if wide else vectors
        self.products = self.basis.T @ (X.T @ Y)

    def directions(self, alpha: torch.Tensor, most: int) -> torch.Tensor:
        """Directions of targets, ``(targets, ≤ most)``, in the order of how much fitted variance they carry."""
        fitted = self.products * inverse_filters(self.values, alpha[None])[0].sqrt()[:, None]
        # the right singular vectors, from the smaller side: few directions or few targets
        if len(fitted) < fitted.shape[1]:
            left = torch.linalg.eigh(fitted @ fitted.T).eigenvectors.flip(1)[:, :most]
            directions: torch.Tensor = torch.linalg.qr(fitted.T @ left).Q
        else:
            directions = torch.linalg.eigh(fitted.T @ fitted).eigenvectors.flip(1)[:, :most]
        return directions

    def ridge(self, alpha: torch.Tensor) -> torch.Tensor:
        """Coefficients of ridge in the basis, ``(directions, targets)``."""
        return self.products * inverse_filters(self.values, alpha[None])[0][:, None]

    def coef(self, alpha: torch.Tensor, rank: int) -> torch.Tensor:
        """Coefficients of at most that rank, ``(targets, features)``."""
        directions = self.directions(alpha, rank)
        return directions @ (self.basis @ (self.ridge(alpha) @ directions)).T


def cross_validate(
    X: torch.Tensor,
    Y: torch.Tensor,
    splits: Sequence[Split],
    alphas: torch.Tensor,
    ranks: Sequence[int],
    scoring: Scoring,
    fit_intercept: bool,
) -> torch.Tensor:
    """Mean score over splits of every penalty, rank and target, ``(alphas, ranks, targets)``.

    No rank is fitted by itself: sums of squares of all ranks are cumulative sums over directions of targets.

    Parameters
    ----------
    X, Y
        ``(samples, features)`` and ``(samples, targets)``.
    splits
        Training and held-out samples.
    alphas
        Penalties, ``(alphas,)``, float64.
    ranks
        Ascending; where a training set has a lower rank than one of them, that one scores as it does.
    scoring, fit_intercept
        As for ridge.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.reducedrank import cross_validate
    >>> X = torch.arange(8.0, dtype=torch.float64)[:, None]
    >>> splits = [Split(torch.arange(4, 8), torch.arange(4)), Split(torch.arange(4), torch.arange(4, 8))]
    >>> cross_validate(X, 2 * X, splits, torch.tensor([1e-12]).double(), [1], "r2", True).round(decimals=6).tolist()
    [[[1.0]]]
    """
    scores = X.new_empty(len(splits), len(alphas), len(ranks), Y.shape[1], dtype=torch.float64)
    for k, split in enumerate(splits):
        design = Design(take(X, split.train), take(Y, split.train), fit_intercept)
        held = (take(X, split.test).double() - design.mean_x) @ design.basis
        truth = take(Y, split.test).double() - design.mean_y
        for a, alpha in enumerate(alphas):
            directions = design.directions(alpha, ranks[-1])
            parts = held @ (design.ridge(alpha) @ directions)
            of_rank = torch.tensor([min(rank, directions.shape[1]) - 1 for rank in ranks], device=X.device)
            scores[k, a] = _score_of_ranks(truth, parts, directions, of_rank, scoring)
    return scores.nanmean(0)


def _score_of_ranks(
    truth: torch.Tensor,
    parts: torch.Tensor,
    directions: torch.Tensor,
    of_rank: torch.Tensor,
    scoring: Scoring,
) -> torch.Tensor:
    """Scores of predictions ``parts[:, :r] directions[:, :r]'`` at several ``r``, ``(ranks, targets)``."""
    n = len(truth)
    truth, mean = centre(truth)
    parts, mean_parts = centre(parts)
    variation = truth.square().sum(0)
    product = (directions * (truth.T @ parts)).cumsum(1)[:, of_rank].T
    gram = parts.T @ parts
    # what a direction adds to the sum of squares: its own, and twice its products with those before it
    added = directions * (directions @ (2 * gram.triu(1) + gram.diagonal().diag()))
    predicted = added.cumsum(1)[:, of_rank].T.clamp(min=0)
    if scoring == "pearsonr":
        return pearsonr_from_sums(product, variation.expand_as(product), predicted)
    offset = mean - (directions * mean_parts).cumsum(1)[:, of_rank].T
    residual = variation - 2 * product + predicted + n * offset.square()
    return r2_from_sums(residual.clamp(min=0), variation.expand_as(residual))


def choose(scores: torch.Tensor, alphas: torch.Tensor, ranks: Sequence[int]) -> tuple[int, int]:
    """Positions of the penalty and the rank with the best mean over targets; among equals the lowest rank.

    Then the largest penalty; scores count as equal where they differ by no more than rounding.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.reducedrank import choose
    >>> choose(torch.tensor([[[0.5], [0.7]], [[0.7], [0.7]]]).double(), torch.tensor([1.0, 2.0]), [1, 2])
    (1, 0)
    """
    mean = scores.nanmean(2).nan_to_num(nan=-torch.inf)
    best = mean >= mean.max() - torch.finfo(mean.dtype).eps ** 0.75
    rank = int(best.any(0).to(torch.uint8).argmax())
    return int(torch.where(best[:, rank], alphas, -torch.inf).argmax()), rank
