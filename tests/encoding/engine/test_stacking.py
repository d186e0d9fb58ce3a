"""Convex weights: the best of all supports, one by one, and what happens without errors or with equal ones."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from cerebridge.encoding.engine.stacking import convex_weights


def by_enumeration(errors: np.ndarray) -> float:
    """The least error over every set of predictions that is given any weight."""
    n, best = len(errors), np.inf
    for size in range(1, n + 1):
        for support in combinations(range(n), size):
            weights = np.linalg.solve(errors[np.ix_(support, support)], np.ones(size))
            if (weights >= 0).all():
                weights /= weights.sum()
                best = min(best, weights @ errors[np.ix_(support, support)] @ weights)
    return best


@pytest.mark.parametrize("n", [2, 3, 6])
@pytest.mark.parametrize("common", [0, 3, 100])
def test_no_other_weights_are_better(n, common):
    rng = np.random.default_rng(n)
    residuals = rng.standard_normal((200, 50, n)) * rng.uniform(0.3, 2, (200, 1, n))
    residuals += common * rng.standard_normal((200, 50, 1))
    errors = residuals.transpose(0, 2, 1) @ residuals
    weights = convex_weights(torch.from_numpy(errors)).numpy()
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(1), 1)
    reached = np.einsum("tb,tbc,tc->t", weights, errors, weights)
    np.testing.assert_allclose(reached, [by_enumeration(matrix) for matrix in errors], rtol=1e-6)
    assert (weights == 0).any() or n == 2
    assert ((weights > 0).sum(1) > 1).any()


def test_without_errors_and_with_equal_predictions():
    errors = torch.stack([torch.zeros(3, 3), torch.ones(3, 3)]).double()
    np.testing.assert_allclose(convex_weights(errors), np.full((2, 3), 1 / 3), atol=1e-4)
