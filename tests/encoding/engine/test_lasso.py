"""Accelerated descent reaches what is optimal, for single features and groups, and the gap it reports is true."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import lasso_path as peer_path

from cerebridge.encoding.engine.lasso import Problem, _gap
from cerebridge.encoding.engine.penalties import L1, Groups

GROUPS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 3, 3, 4, 4])


def simulate(n: int = 60, p: int = 12, targets: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)) * np.logspace(0, 1, p) + rng.standard_normal((n, 1)) + 3
    weights = rng.standard_normal((p, targets)) * (np.arange(p)[:, None] % 4 == 3)
    return torch.from_numpy(X), torch.from_numpy(X @ weights + rng.standard_normal((n, targets)) * 3 - 2)


def proximal_reference(X, y, groups, alpha):
    """Group lasso by many plain proximal gradient steps."""
    X, y = X - X.mean(0), y - y.mean()
    gram, correlation = X.T @ X / len(X), X.T @ y / len(X)
    step, weights = 1 / np.linalg.eigvalsh(gram)[-1], np.zeros(X.shape[1])
    for _ in range(60_000):
        moved = weights + step * (correlation - gram @ weights)
        for group in np.unique(groups):
            members = groups == group
            length = np.linalg.norm(moved[members])
            moved[members] *= max(0, 1 - step * alpha * np.sqrt(members.sum()) / length) if length else 0
        if np.abs(moved - weights).max() < 1e-15:
            break
        weights = moved
    return weights


@pytest.mark.parametrize("shape", [(60, 12), (20, 40)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_descent_is_the_lasso_of_scikit_learn(shape, fit_intercept):
    X, Y = simulate(*shape)
    problem = Problem.of(X, Y, fit_intercept)
    alphas = L1().dual(problem.correlation) * 0.1
    solved = problem.descend(L1(), alphas, None, 1e-13, 100_000)
    assert (solved.gaps <= 1e-13).all()
    X, Y = (x - x.mean(0) * fit_intercept for x in (X.numpy(), Y.numpy()))
    for t in range(3):
        _, expected, _ = peer_path(X, Y[:, t], alphas=[float(alphas[t])], tol=1e-14, max_iter=1_000_000)
        np.testing.assert_allclose(solved.weights[:, t], expected[:, 0], atol=1e-5)


def test_descent_to_groups_is_optimal_exactly_and_the_reference():
    X, Y = simulate()
    problem, penalty = Problem.of(X, Y, True), Groups(GROUPS)
    largest = penalty.dual(problem.correlation)
    found = dict.fromkeys(("zero", "used"), 0)
    grid = torch.logspace(0, -2, 6).double()[:, None] * largest
    for rows, solved in problem.path(penalty, grid, 1e-14, 200_000):
        for row, weights in zip(range(6)[rows], solved.weights.unbind(1), strict=True):
            correlation = problem.correlation - problem.gram @ weights
            for group in range(5):
                members = group == GROUPS
                root = float(members.sum()) ** 0.5
                for t in range(3):
                    w, c, alpha = weights[members, t], correlation[members, t], float(grid[row, t])
                    if w.any():
                        found["used"] += 1
                        torch.testing.assert_close(c, alpha * root * w / w.norm(), atol=1e-4 * alpha, rtol=0)
                    else:
                        found["zero"] += 1
                        assert c.norm() <= alpha * root * (1 + 1e-6)
            if row == 3:
                expected = proximal_reference(X.numpy(), Y[:, 0].numpy(), GROUPS.numpy(), float(grid[row, 0]))
                np.testing.assert_allclose(weights[:, 0], expected, atol=1e-6)
    assert min(found.values()) > 20


def test_groups_of_one_are_the_lasso():
    X, Y = simulate()
    problem = Problem.of(X, Y, True)
    alphas = L1().dual(problem.correlation) * 0.05
    alone = problem.descend(Groups(torch.arange(12)), alphas, None, 1e-13, 100_000)
    torch.testing.assert_close(
        alone.weights, problem.descend(L1(), alphas, None, 1e-13, 100_000).weights, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("penalty", [L1(), Groups(GROUPS)])
def test_the_gap_bounds_how_far_the_objective_is_from_its_minimum(penalty):
    X, Y = simulate()
    problem = Problem.of(X, Y, True)
    alphas = penalty.dual(problem.correlation) * 0.1
    targets = Y - Y.mean(0)

    def objective(weights):
        return (targets - problem.X @ weights).square().mean(0) / 2 + alphas * penalty.value(weights)

    best = objective(problem.descend(penalty, alphas, None, 1e-14, 100_000).weights)
    rng = torch.Generator().manual_seed(0)
    for size in (0.0, 1e-3, 1.0):
        weights = size * torch.randn(12, 3, generator=rng, dtype=torch.float64)
        residual = problem.correlation - problem.gram @ weights
        gap = _gap(penalty, weights, problem.correlation, residual, alphas, problem.power)
        assert (gap * problem.power >= objective(weights) - best - 1e-12).all()


@pytest.mark.parametrize("penalty", [L1(), Groups(GROUPS)])
def test_too_few_steps_leave_a_gap(penalty):
    X, Y = simulate()
    problem = Problem.of(X, Y, True)
    solved = problem.descend(penalty, penalty.dual(problem.correlation) * 1e-3, None, 1e-12, 3)
    assert (solved.gaps > 1e-12).all()


@pytest.mark.parametrize("penalty", [L1(), Groups(torch.arange(40) // 4)])
def test_products_that_are_not_kept_change_nothing(penalty, monkeypatch):
    X, Y = simulate(20, 40)
    kept = Problem.of(X, Y, True)
    monkeypatch.setattr("cerebridge.encoding.engine.lasso.KEPT", 0)
    not_kept = Problem.of(X, Y, True)
    assert kept.gram is not None
    assert not_kept.gram is None
    grid = torch.tensor([[0.5], [0.1]]).double() * penalty.dual(kept.correlation)
    for one, other in zip(
        kept.path(penalty, grid, 1e-12, 100_000), not_kept.path(penalty, grid, 1e-12, 100_000), strict=True
    ):
        torch.testing.assert_close(one[1].weights, other[1].weights, atol=1e-5, rtol=0)


def test_shrinking_is_minimal():
    rng = torch.Generator().manual_seed(0)
    W = torch.randn(12, 5, generator=rng, dtype=torch.float64)
    thresholds = torch.full((12, 5), 0.4, dtype=torch.float64)
    for penalty in (L1(), Groups(GROUPS)):
        shrunk = penalty.shrink(W, thresholds)
        value = (shrunk - W).square().sum(0) / 2 + 0.4 * penalty.value(shrunk)
        for size in (1e-4, 1e-2, 1.0):
            other = shrunk + size * torch.randn(12, 5, generator=rng, dtype=torch.float64)
            assert ((other - W).square().sum(0) / 2 + 0.4 * penalty.value(other) >= value - 1e-12).all()
