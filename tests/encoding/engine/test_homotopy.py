"""The lasso's exact path: optimal at every penalty, whatever joins, leaves or is collinear."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import lars_path

from cerebridge.encoding.engine.homotopy import Active, lasso_path


def simulate(n: int, p: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) @ np.diag(np.logspace(0, -1, p)) + 0.7 * rng.standard_normal((n, 1))
    y = X @ (rng.standard_normal(p) * (rng.random(p) < 0.3)) + rng.standard_normal(n)
    return X - X.mean(0), y - y.mean()


def follow(X: np.ndarray, y: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    gram = X.T @ X / len(X)
    return lasso_path(lambda j: gram[j], X.T @ y / len(X), alphas, min(len(X) - 1, X.shape[1]))


def violations(X: np.ndarray, y: np.ndarray, alphas: np.ndarray, path: np.ndarray) -> float:
    """How far correlations are from what optimality demands, as a share of the largest."""
    correlation = X.T @ (y[:, None] - X @ path) / len(X)
    used = path != 0
    apart = np.where(
        used, np.abs(correlation - alphas * np.sign(path)), np.maximum(np.abs(correlation) - alphas, 0)
    )
    return apart.max() / np.abs(X.T @ y / len(X)).max()


@pytest.mark.parametrize("shape", [(60, 10), (60, 50), (30, 80), (40, 40)])
def test_every_solution_is_optimal(shape):
    X, y = simulate(*shape)
    alphas = np.abs(X.T @ y).max() / len(X) * np.geomspace(2, 1e-4, 60)
    path = follow(X, y, alphas)
    assert violations(X, y, alphas, path) < 1e-9
    assert not path[:, alphas > alphas[0] / 2].any()
    assert (path[:, -1] != 0).sum() >= min(shape) / 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 12), st.integers(2, 20))
def test_every_solution_of_any_problem_is_optimal(seed, n, p):
    X, y = simulate(n, p, seed)
    alphas = np.abs(X.T @ y).max() / len(X) * np.geomspace(1, 1e-2, 20)
    assert violations(X, y, alphas, follow(X, y, alphas)) < 1e-7


def test_it_is_the_path_of_scikit_learn():
    X, y = simulate(50, 20)
    knots, _, coefs = lars_path(X, y, method="lasso")
    np.testing.assert_allclose(follow(X, y, knots[:-1]), coefs[:, :-1], atol=1e-9)


def test_features_that_others_determine():
    X, y = simulate(50, 6)
    X = np.hstack([X, X[:, :2], np.zeros((50, 1)), X @ np.ones((6, 1))])
    alphas = np.abs(X.T @ y).max() / 50 * np.geomspace(1, 1e-3, 30)
    path = follow(X, y, alphas)
    assert violations(X, y, alphas, path) < 1e-6
    assert not path[8].any()


def test_a_target_that_nothing_explains():
    X, _ = simulate(20, 4)
    assert not follow(X, np.zeros(20), np.array([1.0, 0.1, 0.0])).any()


def test_the_inverse_stays_right_as_features_come_and_go():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 30))
    gram = X.T @ X
    active = Active(lambda j: gram[j], rng.standard_normal(30), 20)
    for _ in range(500):
        if active.features and rng.random() < 0.4:
            active.leave(int(rng.integers(len(active.features))))
        else:
            joined = active.join(int(rng.choice(np.setdiff1d(np.arange(30), active.features))), 1.0)
            assert joined == (len(active.features) <= 20 and joined)
    k, used = len(active.features), active.features
    assert 0 < k <= 20
    np.testing.assert_allclose(active.inverse[:k, :k] @ gram[np.ix_(used, used)], np.eye(k), atol=1e-8)
    np.testing.assert_array_equal(active.rows[:k], gram[used])
