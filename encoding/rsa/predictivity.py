"""How well one representation predicts another: ridge regression, scored on stimuli that it was not fitted to."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from ..engine.representations import standardised
from ..ridge import ALPHAS, RidgeCV


def linear_predictivity(
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    orders: torch.Tensor,
    folds: Sequence[tuple[torch.Tensor, torch.Tensor]],
    *,
    alphas: Any = ALPHAS,
) -> torch.Tensor:
    """Correlation of held-out units of ``b`` with what ridge predicts from ``a``, mean over units and folds.

    A penalty for every unit is chosen among the training stimuli; units of all ``b`` are fitted at once. A unit that
    does not vary among held-out stimuli counts with correlation 0.

    Parameters
    ----------
    a, b
        Representations, ``(stimuli, units)``.
    orders
        ``(orders, stimuli)``: which row of ``b`` goes with each row of ``a``.
    folds
        Training and held-out stimuli.
    alphas
        Penalties to choose from.

    Returns
    -------
    torch.Tensor
        ``(orders, a, b)``.
    """
    together = torch.cat(list(b), dim=1)
    sizes = [y.shape[1] for y in b]
    found = together.new_zeros(len(orders), len(a), len(b))
    for i, x in enumerate(a):
        for k, order in enumerate(orders):
            truth = together[order]
            for train, test in folds:
                with warnings.catch_warnings():
                    # units without signal are best predicted by their mean, at the largest penalty
                    warnings.filterwarnings("ignore", r"\d+ of \d+ targets ")
                    ridge = RidgeCV(alphas, device=x.device).fit(x[train], truth[train])
                r = (standardised(ridge.predict(x[test])) * standardised(truth[test])).sum(0)
                found[k, i] += torch.stack([part.mean() for part in r.split(sizes)]) / len(folds)
    return found
