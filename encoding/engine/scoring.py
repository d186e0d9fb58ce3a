"""Scores of predictions, one for every column.

Undefined scores are stated, not left to division by zero: a truth that does not vary has no score (NaN, missing);
a prediction that does not vary explains nothing (correlation 0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from .moments import centre

Scoring = Literal["r2", "pearsonr"]


def r2(truth: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """Coefficient of determination of each column: the share of its variance that is predicted.

    Parameters
    ----------
    truth, prediction
        ``(samples, columns)``.

    Returns
    -------
    torch.Tensor
        ``(columns,)``, at most 1; NaN where the truth does not vary.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.scoring import r2
    >>> truth = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    >>> r2(truth, torch.full((3, 2), 2.0))
    tensor([0., nan])
    """
    return r2_from_sums((truth - prediction).square().sum(0), centre(truth)[0].square().sum(0))


def pearsonr(truth: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """Pearson correlation of each column of the truth with the same column of the prediction.

    Parameters
    ----------
    truth, prediction
        ``(samples, columns)``.

    Returns
    -------
    torch.Tensor
        ``(columns,)``, from -1 to 1; NaN where the truth does not vary, 0 where only the prediction does not.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.scoring import pearsonr
    >>> truth = torch.tensor([[1.0, 1.0, 5.0], [2.0, 2.0, 5.0], [3.0, 3.0, 5.0]])
    >>> pearsonr(truth, torch.tensor([[2.0, 7.0, 1.0], [4.0, 7.0, 2.0], [6.0, 7.0, 3.0]]))
    tensor([1., 0., nan])
    """
    true, predicted = centre(truth)[0], centre(prediction)[0]
    return pearsonr_from_sums((true * predicted).sum(0), true.square().sum(0), predicted.square().sum(0))


def r2_from_sums(residual: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Coefficient of determination from the sums of squares of residuals and of the centred truth."""
    return torch.where(truth > 0, 1 - residual / truth, torch.nan)


def pearsonr_from_sums(product: torch.Tensor, truth: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """Pearson correlation from the sums of products and squares of the centred truth and prediction."""
    # the root of each sum, since their product may leave the range of the number format
    correlation = (product / (truth.sqrt() * prediction.sqrt())).clamp(-1, 1)
    return torch.where(truth > 0, torch.where(prediction > 0, correlation, 0.0), torch.nan)


#: the scores by name
SCORES: dict[Scoring, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"r2": r2, "pearsonr": pearsonr}
