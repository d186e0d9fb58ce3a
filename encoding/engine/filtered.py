"""What ridge predicts on held-out samples, for every penalty at the price of one.

In the eigenbasis of its training features, ridge divides every direction by ``value + alpha``. The sum of squares
of its predictions is then a quadratic form for every penalty, each a product of matrices. But a product of two
filters is a difference of them, ``1/((s+a)(r+a)) = (1/(s+a) - 1/(r+a)) / (r-s)``, so that one product with a matrix
that knows no penalty is enough for all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .scoring import Scoring, pearsonr_from_sums, r2_from_sums

#: relative difference under which two eigenvalues count as equal: what equality leaves out (its square) is as
#: small as what the difference of filters loses to rounding (its inverse)
EQUAL = torch.finfo(torch.float64).eps ** (1 / 3)


class HeldOut(NamedTuple):
    """The held-out features of one split, in the eigenbasis of its training features.

    Parameters
    ----------
    values
        Eigenvalues of the training features, ascending, ``(directions,)``.
    gram
        Products of the centred held-out features, ``(directions, directions)``.
    shift
        Mean of the held-out features, seen from where training has its intercept, ``(directions,)``.
    """

    values: torch.Tensor
    gram: torch.Tensor
    shift: torch.Tensor


class Truth(NamedTuple):
    """Held-out responses of one split.

    Parameters
    ----------
    variation
        Sum of squares about their mean, ``(targets,)``.
    offset
        Their mean, seen from that of the training responses, ``(targets,)``.
    samples
        Number of held-out samples.
    """

    variation: torch.Tensor
    offset: torch.Tensor
    samples: int


def filtered_squares(
    z: torch.Tensor, values: torch.Tensor, gram: torch.Tensor, alphas: torch.Tensor
) -> torch.Tensor:
    """``w' gram w`` with ``w = z / (values + alpha)``, for every row of ``z`` and every penalty.

    Exact to about ten digits in double precision, however the eigenvalues lie.

    Parameters
    ----------
    z
        ``(targets, directions)``.
    values
        Ascending eigenvalues, ``(directions,)``.
    gram
        Symmetric, ``(directions, directions)``.
    alphas
        Positive penalties, ``(alphas,)``.

    Returns
    -------
    torch.Tensor
        ``(targets, alphas)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.filtered import filtered_squares
    >>> z, gram, values = torch.ones(1, 2), torch.ones(2, 2), torch.tensor([1.0, 3.0])
    >>> filtered_squares(z, values, gram, torch.tensor([1.0])).item()  # (1/2 + 1/4)²
    0.5625
    """
    gaps = values - values[:, None]
    equal = gaps.abs() <= EQUAL * (torch.maximum(values, values[:, None]) + alphas.min())
    inverse = 1 / (values + alphas[:, None])
    # ``apart`` is antisymmetric, so that a constant may be taken off the filters; this one keeps their digits
    differences = (values[-1] - values) * inverse / (values[-1] + alphas[:, None])
    apart = torch.where(equal, 0.0, 2 * gram / torch.where(equal, 1.0, gaps))
    sums = (z * (z @ apart.T)) @ differences.T
    if int(equal.sum()) == len(values):
        return sums + z.square() @ (inverse.square() * gram.diagonal()).T
    return sums + (z * (z @ torch.where(equal, gram, 0.0))) @ inverse.square().T


def split_scores(
    z: torch.Tensor,
    products: torch.Tensor,
    held_out: HeldOut,
    truth: Truth,
    alphas: torch.Tensor,
    scoring: Scoring,
) -> torch.Tensor:
    """Score of every target and penalty on one split, ``(targets, alphas)``.

    Parameters
    ----------
    z
        Training products of targets and features in the eigenbasis, ``(targets, directions)``; zero along
        directions that the training features lack.
    products
        The same of the centred held-out samples.
    held_out, truth
        Held-out features and responses.
    alphas
        ``(alphas,)``.
    scoring
        Which score.
    """
    inverse = 1 / (held_out.values + alphas[:, None])
    predicted = filtered_squares(z, held_out.values, held_out.gram, alphas)
    product = (z * products) @ inverse.T
    offset = truth.offset[:, None] - (z * held_out.shift) @ inverse.T
    return score_of_sums(product, predicted, offset, truth, scoring)


def score_of_sums(
    product: torch.Tensor,
    predicted: torch.Tensor,
    offset: torch.Tensor,
    truth: Truth,
    scoring: Scoring,
) -> torch.Tensor:
    """Scores of predictions that are known by sums only, ``(targets, predictions)``.

    Parameters
    ----------
    product, predicted
        Sums of centred predictions times centred responses, and of their squares, ``(targets, predictions)``.
    offset
        Mean response less mean prediction, likewise.
    truth
        The responses.
    scoring
        Which score.
    """
    variation = truth.variation[:, None]
    if scoring == "pearsonr":
        return pearsonr_from_sums(product, variation, predicted.clamp(min=0))
    residual = variation - 2 * product + predicted + truth.samples * offset.square()
    return r2_from_sums(residual.clamp(min=0), variation)
