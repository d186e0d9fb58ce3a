"""Reduced-rank ridge: the minimum over matrices of a rank, and scores of all ranks from sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, ShuffleSplit

from cerebridge.encoding.engine.moments import Split
from cerebridge.encoding.engine.reducedrank import Design, choose, cross_validate

SHAPES = {
    "tall": (50, 8, 5),
    "wide": (20, 40, 5),
    "many targets": (40, 6, 30),
    "wide, many targets": (15, 30, 40),
}
ALPHAS = torch.tensor([0.1, 10.0, 1000.0], dtype=torch.float64)


def simulate(n: int, p: int, targets: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) * np.logspace(0, -1, p) + 2
    Y = X @ rng.standard_normal((p, 2)) @ rng.standard_normal((2, targets)) + rng.standard_normal(
        (n, targets)
    )
    return torch.from_numpy(X), torch.from_numpy(Y)


def reference(X, Y, alpha, rank):
    """The augmented problem of Mukherjee & Zhu, written down: ridge projected on singular vectors of its fit."""
    X, Y, mean_x, mean_y = X - X.mean(0), Y - Y.mean(0), X.mean(0), Y.mean(0)
    ridge = np.linalg.solve(X.T @ X + alpha * np.eye(X.shape[1]), X.T @ Y)
    augmented = np.vstack([X, np.sqrt(alpha) * np.eye(X.shape[1])]) @ ridge
    right = np.linalg.svd(augmented, full_matrices=False)[2][:rank].T
    coef = ridge @ right @ right.T
    return coef, mean_y - mean_x @ coef


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_coefficients_are_those_of_the_augmented_problem(shape, rank):
    X, Y = simulate(*SHAPES[shape])
    design = Design(X, Y, True)
    for alpha in ALPHAS:
        coef, _ = reference(X.numpy(), Y.numpy(), float(alpha), rank)
        found = design.coef(alpha, rank)
        np.testing.assert_allclose(found, coef.T, atol=1e-9)
        assert torch.linalg.matrix_rank(found) == rank


def test_no_other_matrix_of_the_rank_is_better():
    X, Y = (x - x.mean(0) for x in simulate(30, 4, 3))
    alpha = 5.0

    def loss(coef):
        return float((Y - X @ coef).square().sum() + alpha * coef.square().sum())

    def from_factors(flat):
        left, right = torch.from_numpy(flat[:4]), torch.from_numpy(flat[4:])
        return loss(torch.outer(left, right))

    found = Design(X, Y, False).coef(torch.tensor(alpha), 1).T
    rng = np.random.default_rng(0)
    others = [minimize(from_factors, rng.standard_normal(7)).fun for _ in range(5)]
    assert loss(found) == pytest.approx(min(others), rel=1e-8)
    assert loss(found) < loss(torch.zeros(4, 3).double())


@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("cv", [KFold(3), ShuffleSplit(3, random_state=0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_every_fit_by_itself(shape, cv, fit_intercept, scoring):
    X, Y = simulate(*SHAPES[shape])
    pairs, ranks = list(cv.split(X)), [1, 3, 5]
    splits = [Split(*(torch.from_numpy(np.sort(part)) for part in pair)) for pair in pairs]
    found = cross_validate(X, Y, splits, ALPHAS, ranks, scoring, fit_intercept)
    expected = np.zeros((len(pairs), 3, 3, Y.shape[1]))
    for k, (train, test) in enumerate(pairs):
        design = Design(X[train], Y[train], fit_intercept)
        for a, alpha in enumerate(ALPHAS):
            for r, rank in enumerate(ranks):
                predicted = (X[test] - design.mean_x) @ design.coef(alpha, rank).T + design.mean_y
                if scoring == "r2":
                    expected[k, a, r] = r2_score(Y[test], predicted, multioutput="raw_values")
                else:
                    columns = zip(Y[test].T.numpy(), predicted.T.numpy(), strict=True)
                    expected[k, a, r] = [np.corrcoef(*column)[0, 1] for column in columns]
    np.testing.assert_allclose(found, expected.mean(0), atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_full_rank_is_ridge(shape):
    X, Y = simulate(*SHAPES[shape])
    for alpha in ALPHAS:
        ridge = Ridge(float(alpha), solver="svd").fit(X.numpy(), Y.numpy())
        np.testing.assert_allclose(Design(X, Y, True).coef(alpha, 1000), ridge.coef_, atol=1e-9)


def test_features_or_targets_that_never_vary():
    X, Y = simulate(20, 4, 6)
    constant = torch.full_like(X, 0.1)
    assert not Design(constant, Y, True).coef(ALPHAS[0], 2).any()
    assert Design(X, torch.full_like(Y, 0.1), True).coef(ALPHAS[0], 2).abs().max() < 1e-12
    splits = [Split(torch.arange(10), torch.arange(10, 20))]
    assert (cross_validate(constant, Y, splits, ALPHAS, [1, 2], "pearsonr", True) == 0).all()
    assert cross_validate(X, torch.full_like(Y, 0.1), splits, ALPHAS, [1, 2], "r2", True).isnan().all()


def test_the_simplest_of_equals_is_chosen():
    scores = torch.tensor([[0.5, 0.7, 0.7], [0.6, 0.7, 0.7], [0.1, 0.2, 0.7]]).double()[..., None]
    assert choose(scores, ALPHAS, [1, 2, 3]) == (1, 1)
    assert choose(torch.full((3, 3, 2), torch.nan).double(), ALPHAS, [1, 2, 3]) == (2, 0)
