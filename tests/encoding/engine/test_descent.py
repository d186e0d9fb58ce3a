"""Minimisers of many problems at once: quadratic ones with known solutions, hard ones, and ones without a way down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet

from cerebridge.encoding.engine.convolution import convolve_past
from cerebridge.encoding.engine.descent import coordinate_descent, lbfgs, newton


@dataclass
class Quadratics:
    """``x' A x / 2 - b' x`` for every column, plus weighted absolute values."""

    matrices: torch.Tensor
    linear: torch.Tensor
    lasso: torch.Tensor
    precision: float = 2e-16

    @property
    def inverse(self) -> torch.Tensor:
        return 1 / self.matrices.diagonal(dim1=1, dim2=2).T

    @property
    def unit(self) -> torch.Tensor:
        return torch.ones_like(self.lasso)

    def __call__(self, point):
        product = torch.einsum("nij,jn->in", self.matrices, point)
        return (point * (product / 2 - self.linear)).sum(0), product - self.linear

    def hessian(self, point):
        return self.matrices.clone()

    def at(self, columns):
        return Quadratics(self.matrices[columns], self.linear[:, columns], self.lasso[columns])


def quadratics(columns: int = 6, rows: int = 8, lasso: float = 0.0) -> Quadratics:
    rng = np.random.default_rng(0)
    roots = rng.standard_normal((columns, rows, rows)) * np.logspace(0, 1.5, columns)[:, None, None]
    matrices = torch.from_numpy(roots @ roots.transpose(0, 2, 1) + np.eye(rows))
    return Quadratics(
        matrices,
        torch.from_numpy(rng.standard_normal((rows, columns))),
        torch.full((columns,), lasso).double(),
    )


@pytest.mark.parametrize("minimise", [lbfgs, newton])
def test_quadratic_problems_are_solved_each_in_its_own_time(minimise):
    problem = quadratics()
    start = torch.ones_like(problem.linear)
    found = minimise(problem, start, 1e-8, 500)
    exact = torch.linalg.solve(problem.matrices, problem.linear.T[..., None])[..., 0].T
    torch.testing.assert_close(found.point, exact, rtol=1e-6, atol=1e-7)
    assert found.converged.all()
    assert (start == 1).all()
    if minimise is newton:
        assert found.iterations.tolist() == [1] * 6
    else:
        assert len(set(found.iterations.tolist())) > 1
    alone = minimise(problem.at(torch.tensor([3])), start[:, [3]], 1e-8, 500)
    torch.testing.assert_close(alone.point[:, 0], found.point[:, 3])
    assert alone.iterations[0] == found.iterations[3]


@pytest.mark.parametrize("minimise", [lbfgs, newton])
def test_a_problem_without_enough_steps_is_said(minimise):
    found = minimise(quadratics(), torch.ones(8, 6, dtype=torch.float64), 1e-12, 0)
    assert not found.converged.any()
    assert (found.point == 1).all()


@pytest.mark.parametrize("minimise", [lbfgs, newton])
def test_values_that_overflow_are_stepped_back_from(minimise):
    class Exponential(Quadratics):
        def __call__(self, point):
            return point.exp().sum(0) - 1e-3 * point.sum(0), point.exp() - 1e-3

        def hessian(self, point):
            return torch.diag_embed(point.exp().T)

        def at(self, columns):
            return Exponential(self.matrices[columns], self.linear[:, columns], self.lasso[columns])

    tiny = torch.eye(1, dtype=torch.float64).expand(2, 1, 1) * 1e-6
    problem = Exponential(tiny, torch.zeros(1, 2), torch.zeros(2, dtype=torch.float64))
    found = minimise(problem, torch.tensor([[-12.0, 5.0]], dtype=torch.float64), 1e-8, 200)
    np.testing.assert_allclose(found.point.exp(), 1e-3, rtol=1e-3)


def test_absolute_values_against_scikit_learn():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((80, 7)), rng.standard_normal((80, 3))
    Y[:, 1] += X[:, 2] * 2
    design = np.c_[np.ones(80), X]
    hessian = design.T @ design / 80
    hessian[1:, 1:] += 0.05 * np.eye(7)
    problem = Quadratics(
        torch.from_numpy(np.stack([hessian] * 3)),
        torch.from_numpy(design.T @ Y / 80),
        torch.full((3,), 0.05, dtype=torch.float64),
    )
    found = newton(problem, torch.zeros(8, 3, dtype=torch.float64), 1e-8, 50)
    for k in range(3):
        peer = ElasticNet(alpha=0.1, l1_ratio=0.5, tol=1e-12, max_iter=10**5).fit(X, Y[:, k])
        np.testing.assert_allclose(found.point[1:, k], peer.coef_, atol=1e-7)
        np.testing.assert_array_equal(found.point[1:, k] == 0, peer.coef_ == 0)
    step = coordinate_descent(
        problem.matrices,
        -problem.linear.T,
        torch.zeros(3, 8).double(),
        problem.lasso,
        torch.zeros(3).double(),
    )
    torch.testing.assert_close(step.T, found.point, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convolution_keeps_borders_and_precision(dtype, device):
    x = torch.arange(12.0, dtype=dtype, device=device).reshape(6, 2)
    kernel = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, device=device)
    result = convolve_past(x, kernel, torch.tensor([0, 4], device=device))
    assert result.dtype == dtype
    assert result[:, 0, 0].tolist() == [0, 0, 2, 4, 0, 8]
    assert result[:, 1, 1].tolist() == [0, 0, 1, 3, 0, 0]
