"""Minimisers of many convex problems at once, one a column; a column that has arrived is worked on no more.

All start from the same idea: near the null model the curvature is known. :func:`lbfgs` begins with it and learns the
rest from gradients; :func:`newton` computes it, and takes a penalty on absolute values too.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch

#: pairs of steps and changes of the gradient that are remembered
MEMORY = 10
#: attempts to shorten a step
SHORTENINGS = 25
#: share of the predicted decrease that a step must bring
SUFFICIENT = 1e-4
#: steps that lower a function by no more than rounding, after which it is as low as it gets
IDLE = 10
#: sweeps over the coordinates of one quadratic model
SWEEPS = 200


class Objective(Protocol):
    """Smooth convex functions of the columns of a matrix, and a penalty on absolute values beside them."""

    #: weight of the sum of absolute values of all but the first row, ``(columns,)``
    lasso: torch.Tensor
    #: diagonal of the inverse Hessian where the search starts, ``(rows, columns)``
    inverse: torch.Tensor
    #: curvature by the first row there, ``(columns,)``: the unit of the tolerance
    unit: torch.Tensor
    #: relative rounding error of a value
    precision: float

    def __call__(self, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Values and gradients of the smooth part, ``(columns,)`` and ``(rows, columns)``."""
        ...

    def hessian(self, point: torch.Tensor) -> torch.Tensor:
        """Second derivatives, ``(columns, rows, rows)``."""
        ...

    def at(self, columns: torch.Tensor) -> Objective:
        """The functions of some columns, by position."""
        ...


class Minimum(NamedTuple):
    """Where each column arrived, after how many steps, and whether it may stay there."""

    point: torch.Tensor
    iterations: torch.Tensor
    converged: torch.Tensor


class _Search:
    """The columns that are still searched, and where the others arrived."""

    def __init__(self, objective: Objective, start: torch.Tensor) -> None:
        self.objective, self.point = objective, start
        self.value, self.gradient = objective(start)
        self.columns = torch.arange(start.shape[1], device=start.device)
        self.stuck = torch.zeros_like(self.columns, dtype=torch.bool)
        self.idle = torch.zeros_like(self.columns)
        counts = torch.zeros_like(self.columns)
        self.minimum = Minimum(start.clone(), counts, self.stuck.clone())

    def penalty(self, point: torch.Tensor) -> torch.Tensor:
        return self.objective.lasso * point[1:].abs().sum(0)

    def noise(self) -> torch.Tensor:
        """Differences of values that are no more than rounding."""
        return 4 * self.objective.precision * (self.value.abs() + self.objective.unit)

    def retire(self, arrived: torch.Tensor, leaving: torch.Tensor, iteration: int) -> torch.Tensor:
        """Note the columns that leave; positions of those that stay."""
        if not bool(leaving.any()):
            return torch.arange(len(self.columns), device=self.columns.device)
        gone = self.columns[leaving]
        self.minimum.point[:, gone] = self.point[:, leaving]
        self.minimum.iterations[gone] = iteration
        self.minimum.converged[gone] = arrived[leaving]
        stay = (~leaving).nonzero()[:, 0]
        self.objective, self.columns = self.objective.at(stay), self.columns[stay]
        self.point, self.gradient = self.point[:, stay], self.gradient[:, stay]
        self.value, self.stuck, self.idle = self.value[stay], self.stuck[stay], self.idle[stay]
        return stay

    def step(self, direction: torch.Tensor, slope: torch.Tensor) -> None:
        """Go as far along ``direction`` as brings a sufficient decrease; ``slope`` is the decrease predicted."""
        old = self.value + self.penalty(self.point)
        allowed = old + self.noise()
        length = torch.ones_like(slope)
        todo = torch.arange(len(slope), device=slope.device)
        objective, point = self.objective, self.point.clone()
        value, gradient = self.value.clone(), self.gradient.clone()
        for _ in range(SHORTENINGS):
            trial = self.point[:, todo] + length[todo] * direction[:, todo]
            new_value, new_gradient = objective(trial)
            total = new_value + objective.lasso * trial[1:].abs().sum(0)
            good = total <= allowed[todo] + SUFFICIENT * length[todo] * slope[todo]
            done = todo[good]
            point[:, done], gradient[:, done] = trial[:, good], new_gradient[:, good]
            value[done] = new_value[good]
            # the minimum of the parabola through what is known; an infinite value gives the shortest step
            excess = (total - old[todo] - length[todo] * slope[todo])[~good]
            todo = todo[~good]
            if not len(todo):
                break
            best = -slope[todo] * length[todo] / (2 * excess)
            length[todo] *= best.nan_to_num(nan=0.0).clamp(0.1, 0.5)
            objective = self.objective.at(todo)
        self.stuck[todo] = True
        fallen = old - value - self.penalty(point) > self.noise()
        self.idle = torch.where(fallen, 0, self.idle + 1)
        self.stuck |= self.idle >= IDLE
        self.point, self.value, self.gradient = point, value, gradient


def lbfgs(objective: Objective, start: torch.Tensor, tol: float, max_iter: int) -> Minimum:
    """Minimise smooth functions from gradients alone (Liu & Nocedal, 1989), preconditioned by their start.

    Parameters
    ----------
    objective
        The functions, whose ``lasso`` is 0.
    start
        ``(rows, columns)``.
    tol
        A column has arrived where a step by the curvature of the start would lower it by less than
        ``tol² * unit / 2``.
    max_iter
        Most steps.
    """
    search = _Search(objective, start)
    pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for iteration in range(max_iter + 1):
        decrease = (search.gradient.square() * search.objective.inverse).sum(0)
        arrived = decrease <= tol**2 * search.objective.unit
        arrived |= search.stuck & (decrease <= 1e3 * search.noise())
        leaving = arrived | search.stuck | (iteration == max_iter)
        stay = search.retire(arrived, leaving, iteration)
        if not len(stay):
            break
        if len(stay) < len(leaving):
            pairs = [(s[:, stay], y[:, stay], r[stay]) for s, y, r in pairs]
        direction = -_two_loops(search.gradient, search.objective.inverse, pairs)
        slope = (search.gradient * direction).sum(0)
        before, gradient = search.point, search.gradient
        search.step(direction, slope)
        moved, change = search.point - before, search.gradient - gradient
        product = (moved * change).sum(0)
        # a pair without curvature, as of a column that is stuck, teaches nothing
        weight = torch.where(product > 0, 1 / product, 0.0)
        pairs = [*pairs, (moved, change, weight)][-MEMORY:]
    return search.minimum


def _two_loops(
    gradient: torch.Tensor,
    inverse: torch.Tensor,
    pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
) -> torch.Tensor:
    """The inverse Hessian that the pairs tell of, times the gradient."""
    result, coefficients = gradient, []
    for moved, change, weight in reversed(pairs):
        coefficient = weight * (moved * result).sum(0)
        coefficients.append(coefficient)
        result = result - coefficient * change
    result = result * inverse
    if pairs:
        _, change, weight = pairs[-1]
        curvature = weight * (change.square() * inverse).sum(0)
        result = torch.where(curvature > 0, result / curvature, result)
    for (moved, change, weight), coefficient in zip(pairs, reversed(coefficients), strict=True):
        result = result + moved * (coefficient - weight * (change * result).sum(0))
    return result


def newton(objective: Objective, start: torch.Tensor, tol: float, max_iter: int) -> Minimum:
    """Minimise by quadratic models, with absolute values beside them where there is a ``lasso`` (Lee et al., 2014).

    Parameters and result are those of :func:`lbfgs`, with the decrease that the model predicts as tolerance.
    """
    search = _Search(objective, start)
    for iteration in range(max_iter + 1):
        objective = search.objective
        direction = _model_step(search, tol)
        slope = (search.gradient * direction).sum(0)
        slope = slope + search.penalty(search.point + direction) - search.penalty(search.point)
        arrived = -slope <= tol**2 * objective.unit
        arrived |= search.stuck & (-slope <= 1e3 * search.noise())
        stay = search.retire(arrived, arrived | search.stuck | (iteration == max_iter), iteration)
        if not len(stay):
            break
        search.step(direction[:, stay], slope[stay])
    return search.minimum


def _model_step(search: _Search, tol: float) -> torch.Tensor:
    """The step to the minimum of the quadratic model, ``(rows, columns)``."""
    objective = search.objective
    hessian = objective.hessian(search.point)
    if bool((objective.lasso > 0).any()):
        threshold = 1e-2 * tol**2 * objective.unit
        return coordinate_descent(hessian, search.gradient.T, search.point.T, objective.lasso, threshold).T
    # rounding may leave a direction without curvature, along which the gradient is rounding too
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    diagonal += torch.finfo(hessian.dtype).eps * diagonal.sum(1, keepdim=True)
    factor, _ = torch.linalg.cholesky_ex(hessian)
    return -torch.cholesky_solve(search.gradient.T[..., None], factor)[..., 0].T


def coordinate_descent(
    hessian: torch.Tensor,
    gradient: torch.Tensor,
    point: torch.Tensor,
    lasso: torch.Tensor,
    threshold: torch.Tensor,
) -> torch.Tensor:
    """Minimise quadratic models plus weighted absolute values of all coordinates but the first.

    Parameters
    ----------
    hessian, gradient, point
        Of each problem, ``(problems, rows, rows)`` and ``(problems, rows)`` twice.
    lasso
        Weight of the absolute values, ``(problems,)``.
    threshold
        A problem is solved when no coordinate lowers it by more, ``(problems,)``.

    Returns
    -------
    torch.Tensor
        Steps from ``point``, ``(problems, rows)``.

    References
    ----------
    Friedman, Hastie & Tibshirani (2010), Journal of Statistical Software 33.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.descent import coordinate_descent
    >>> zeros, weight = torch.zeros(1, 2), torch.tensor([0.5])
    >>> coordinate_descent(torch.eye(2)[None], torch.tensor([[-2.0, -2.0]]), zeros, weight, torch.zeros(1))
    tensor([[2.0000, 1.5000]])
    """
    step, slope = torch.zeros_like(gradient), gradient.clone()
    curvature = hessian.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(hessian.dtype).tiny)
    for _ in range(SWEEPS):
        largest = torch.zeros_like(lasso)
        for k in range(gradient.shape[1]):
            old = point[:, k] + step[:, k]
            new = old - slope[:, k] / curvature[:, k]
            if k:
                new = new.sign() * (new.abs() - lasso / curvature[:, k]).clamp_min(0)
            change = new - old
            step[:, k] += change
            slope += change[:, None] * hessian[:, k]
            largest = torch.maximum(largest, curvature[:, k] * change.square())
        if bool((largest <= threshold).all()):
            break
    return step
