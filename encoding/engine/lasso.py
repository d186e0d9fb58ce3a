"""Sparse regression of many targets at once: cross-validated paths of penalties on products that targets share.

``|y - Xw|² / 2n + alpha P(w)`` is minimised for every target, with penalties of its own. The lasso's path is followed
exactly, target by target. For groups, and where rounding keeps a path from its end, accelerated gradients descend to
all columns at once, a product of matrices a step (Beck & Teboulle, 2009; restarted as by O'Donoghue & Candès, 2015);
only features that some column uses, or that violate its optimality, take part, and columns leave when their duality
gap is small enough. That gap is computed for every solution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .homotopy import lasso_path
from .moments import Split, centre, take
from .penalties import L1, Penalty
from .scoring import SCORES
from .spectral import choose

Scoring = Literal["neg_mean_squared_error", "r2", "pearsonr"]

#: columns that are worth a step: with fewer targets, several penalties are descended to side by side
COLUMNS = 128
#: numbers in the weights of a block of targets at all penalties
WEIGHTS = 2**24
#: features up to which their products are kept even where there are fewer samples
KEPT = 4096
#: steps between two looks at the duality gap
STEPS = 10


class Solved(NamedTuple):
    """Weights ``(features, columns)``, duality gaps as shares of the targets' mean squares, and steps taken."""

    weights: torch.Tensor
    gaps: torch.Tensor
    steps: int

    def as_table(self, alphas: torch.Tensor) -> Solved:
        """With the columns as rows of penalties and columns of targets, as ``alphas`` has them."""
        return Solved(self.weights.reshape(-1, *alphas.shape), self.gaps.reshape(alphas.shape), self.steps)


@dataclass(frozen=True)
class Problem:
    """Least squares of one training set; the products of its features serve all targets.

    Parameters
    ----------
    X
        Centred features, ``(samples, features)``, float64.
    gram
        Products of features over the number of samples; ``None`` where they are too many to keep.
    correlation, power
        Products of features and centred targets, ``(features, targets)``, and mean squares of these targets.
    mean_x, mean_y
        What was taken off.
    rank
        Features that can be in use together, at most.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.lasso import Problem
    >>> from cerebridge.encoding.engine.penalties import L1
    >>> X = torch.eye(4, dtype=torch.float64) * 2
    >>> problem = Problem.of(X, X[:, :1], fit_intercept=False)
    >>> problem.descend(L1(), torch.tensor([0.25]).double(), None, 1e-9, 100).weights.T.tolist()
    [[0.75, 0.0, 0.0, 0.0]]
    """

    X: torch.Tensor
    gram: torch.Tensor | None
    correlation: torch.Tensor
    power: torch.Tensor
    mean_x: torch.Tensor
    mean_y: torch.Tensor
    rank: int

    @classmethod
    def of(cls, X: torch.Tensor, Y: torch.Tensor, fit_intercept: bool) -> Problem:
        """Of features ``(samples, features)`` and targets ``(samples, targets)``."""
        X, Y = X.double(), Y.double()
        mean_x, mean_y = torch.zeros_like(X[0]), torch.zeros_like(Y[0])
        if fit_intercept:
            X, mean_x = centre(X)
            Y, mean_y = centre(Y)
        n, p = X.shape
        gram = X.T @ X / n if p <= max(n, KEPT) else None
        rank = min(n - int(fit_intercept), p)
        return cls(X, gram, X.T @ Y / n, Y.square().mean(0), mean_x, mean_y, rank)

    def some(self, targets: slice) -> Problem:
        """The same for some of the targets."""
        correlation, power = self.correlation[:, targets], self.power[targets]
        return replace(self, correlation=correlation, power=power, mean_y=self.mean_y[targets])

    def descend(
        self, penalty: Penalty, alphas: torch.Tensor, weights: torch.Tensor | None, tol: float, max_iter: int
    ) -> Solved:
        """Solve for columns that run through the targets once or more, ``alphas`` giving each its own.

        Parameters
        ----------
        penalty
            What is penalised.
        alphas
            ``(columns,)``.
        weights
            Where to begin, ``(features, columns)``; default: zero.
        tol
            Duality gap to reach, as a share of the mean square of each target.
        max_iter
            Steps after which columns are given up.
        """
        repeats = len(alphas) // len(self.power)
        correlation, power = self.correlation.repeat(1, repeats), self.power.repeat(repeats)
        W = torch.zeros_like(correlation) if weights is None else weights.clone()
        gaps = torch.zeros_like(power)
        columns = torch.arange(len(alphas), device=alphas.device)
        steps = 0
        while True:
            w, b, alpha = W[:, columns], correlation[:, columns], alphas[columns]
            Q = b - self._fitted(w)
            gaps[columns] = gap = _gap(penalty, w, b, Q, alpha, power[columns])
            going = gap > tol
            if not bool(going.any()) or steps >= max_iter:
                return Solved(W, gaps, steps)
            columns, w, b, Q, alpha = columns[going], w[:, going], b[:, going], Q[:, going], alpha[going]
            features = penalty.members(w, Q, alpha)
            part = _Part(penalty.at(features), self._gram(features), b[features], alpha, power[columns])
            inside, taken = part.accelerate(w[features], tol / 2, max_iter - steps)
            W[features[:, None], columns] = inside
            steps += taken

    def path(
        self, penalty: Penalty, alphas: torch.Tensor, tol: float, max_iter: int
    ) -> Iterator[tuple[slice, Solved]]:
        """Solve for falling penalties, ``(alphas, targets)``, each beginning where the last one ended.

        Yields
        ------
        rows
            Which rows of ``alphas``.
        solved
            Weights ``(features, rows, targets)`` and gaps ``(rows, targets)``.
        """
        targets = alphas.shape[1]
        if isinstance(penalty, L1):
            solved = self.descend(penalty, alphas.reshape(-1), self._homotopy(alphas), tol, max_iter)
            yield slice(None), solved.as_table(alphas)
            return
        side_by_side = max(1, COLUMNS // targets)
        weights: torch.Tensor | None = None
        for start in range(0, len(alphas), side_by_side):
            rows = slice(start, start + side_by_side)
            some = alphas[rows]
            begin = None if weights is None else weights[:, -1].repeat(1, len(some))
            solved = self.descend(penalty, some.reshape(-1), begin, tol, max_iter)
            table = solved.as_table(some)
            weights = table.weights
            yield rows, table

    def _homotopy(self, alphas: torch.Tensor) -> torch.Tensor:
        """The lasso's weights, ``(features, alphas × targets)``, target by target on the processor."""
        gram = None if self.gram is None else self.gram.cpu().numpy()
        X = self.X.cpu().numpy()

        def row(feature: int) -> NDArray[np.float64]:
            products: NDArray[np.float64] = X[:, feature] @ X / len(X) if gram is None else gram[feature]
            return products

        correlation, falling = self.correlation.cpu().numpy(), alphas.cpu().numpy()
        weights = np.empty((len(correlation), *falling.shape))
        for t in range(falling.shape[1]):
            weights[:, :, t] = lasso_path(row, correlation[:, t], falling[:, t], self.rank)
        return torch.from_numpy(weights).to(alphas.device).reshape(len(correlation), -1)

    def _fitted(self, W: torch.Tensor) -> torch.Tensor:
        """Products of the features with what the weights predict, over the number of samples."""
        used = (W != 0).any(1).nonzero()[:, 0]
        if self.gram is not None:
            return self.gram[:, used] @ W[used]
        return self.X.T @ (self.X[:, used] @ W[used]) / len(self.X)

    def _gram(self, features: torch.Tensor) -> torch.Tensor:
        if self.gram is not None:
            return self.gram[features][:, features]
        rows = self.X[:, features]
        return rows.T @ rows / len(self.X)


class _Part:
    """The same problem on the features that matter to some column."""

    def __init__(
        self, penalty: Penalty, gram: torch.Tensor, b: torch.Tensor, alphas: torch.Tensor, power: torch.Tensor
    ) -> None:
        self.penalty, self.gram, self.b, self.alphas, self.power = penalty, gram, b, alphas, power

    def accelerate(self, W: torch.Tensor, tol: float, max_iter: int) -> tuple[torch.Tensor, int]:
        """Improve ``W`` until every column has the gap ``tol``, and say in how many steps."""
        metric = self.penalty.metric(self.gram.diagonal())
        metric = torch.where(metric > 0, metric, 1.0)[:, None]
        # features in units in which their steps are equally long
        curvature = torch.linalg.eigvalsh(self.gram / metric.sqrt() / metric.sqrt().T)[-1].clamp(min=1e-300)
        length = 1 / (curvature * metric)
        result, columns = W.clone(), torch.arange(W.shape[1], device=W.device)
        b, alphas, power = self.b, self.alphas, self.power
        ahead, pace = W, torch.ones_like(alphas)
        for step in range(max_iter + 1):
            if step % STEPS == 0:
                going = _gap(self.penalty, W, b, b - self.gram @ W, alphas, power) > tol
                if not bool(going.all()):
                    result[:, columns] = W
                    columns, W, ahead, b = columns[going], W[:, going], ahead[:, going], b[:, going]
                    alphas, power, pace = alphas[going], power[going], pace[going]
                if not len(columns):
                    return result, step
            moved = torch.addcmul(ahead, torch.addmm(b, self.gram, ahead, alpha=-1), length)
            new = self.penalty.shrink(moved, alphas * length)
            # a column that goes uphill loses its momentum
            uphill = ((ahead - new) * (new - W) * metric).sum(0) > 0
            next_pace = torch.where(uphill, 1.0, (1 + (1 + 4 * pace.square()).sqrt()) / 2)
            momentum = torch.where(uphill, 0.0, (pace - 1) / next_pace)
            ahead = torch.addcmul(new, new - W, momentum)
            W, pace = new, next_pace
        result[:, columns] = W
        return result, max_iter


def _gap(
    penalty: Penalty,
    W: torch.Tensor,
    b: torch.Tensor,
    Q: torch.Tensor,
    alphas: torch.Tensor,
    power: torch.Tensor,
) -> torch.Tensor:
    """How far each column can be from its minimum, as a share of the mean square of its target."""
    explained = (W * b).sum(0)
    residual = power - explained - (W * Q).sum(0)
    dual = penalty.dual(Q)
    scale = torch.where(dual > alphas, alphas / dual, 1.0)
    primal = residual / 2 + alphas * penalty.value(W)
    gap = primal - scale * (power - explained) + scale.square() * residual / 2
    return torch.where(power > 0, gap / power, 0.0)


class Fitted(NamedTuple):
    """Sparse regression of all targets.

    ``alphas`` of each target, falling, ``(alphas, targets)``; ``scores`` of them, mean over splits,
    ``(targets, alphas)``; position of the ``chosen`` one; ``coef``, ``(targets, features)``; ``intercept``; the
    duality ``gap`` of the solution, and the ``largest`` of those that the choice is based on, ``(targets,)``; the most
    ``steps`` that the solution of a target took.
    """

    alphas: torch.Tensor
    scores: torch.Tensor
    chosen: torch.Tensor
    coef: torch.Tensor
    intercept: torch.Tensor
    gap: torch.Tensor
    largest: torch.Tensor
    steps: int


def fit(
    X: torch.Tensor,
    Y: torch.Tensor,
    splits: Sequence[Split],
    penalty: Penalty,
    alphas: torch.Tensor,
    relative: bool,
    scoring: Scoring,
    fit_intercept: bool,
    tol: float,
    max_iter: int,
    track: Callable[[Sequence[Split]], Iterable[Split]] = iter,
) -> Fitted:
    """Choose a penalty for every target by cross-validation, and fit it to all samples.

    Parameters
    ----------
    X, Y
        ``(samples, features)`` and ``(samples, targets)``.
    splits
        Training and held-out samples.
    penalty
        What is penalised.
    alphas
        Penalties, falling; ``relative`` to the smallest at which all weights of a target are zero, or absolute.
    scoring
        What the penalty of each target is chosen by. Among equals it is the largest.
    fit_intercept
        Whether every fit has an unpenalised intercept.
    tol, max_iter
        As for :meth:`Problem.descend`.
    track
        Draws progress over the splits.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.lasso import fit
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.penalties import L1
    >>> X = torch.eye(4, dtype=torch.float64).repeat(2, 1)
    >>> splits = [Split(torch.arange(4, 8), torch.arange(4)), Split(torch.arange(4), torch.arange(4, 8))]
    >>> penalties = torch.tensor([1.0, 0.001]).double()
    >>> fit(X, X[:, :1], splits, L1(), penalties, True, "r2", True, 1e-9, 100).coef.round(decimals=2).tolist()
    [[1.0, 0.0, 0.0, 0.0]]
    """
    problem = Problem.of(X, Y, fit_intercept)
    largest = penalty.dual(problem.correlation) if relative else torch.ones_like(problem.power)
    grid = alphas[:, None] * largest
    scores, gaps = [], torch.zeros_like(grid)
    for split in track(splits):
        training = Problem.of(take(X, split.train), take(Y, split.train), fit_intercept)
        held = take(X, split.test).double() - training.mean_x
        truth = take(Y, split.test).double() - training.mean_y
        scored = torch.empty_like(grid)
        for block in _blocks(grid, len(X.T)):
            for rows, solved in training.some(block).path(penalty, grid[:, block], tol, max_iter):
                for row, weights in zip(range(len(grid))[rows], solved.weights.unbind(1), strict=True):
                    scored[row, block] = _score(scoring, truth[:, block], held @ weights)
                gaps[rows, block] = torch.maximum(gaps[rows, block], solved.gaps)
        scores.append(scored)
    mean_scores = torch.stack(scores).nanmean(0).T
    unit = problem.power[:, None] if scoring == "neg_mean_squared_error" else torch.ones_like(mean_scores)
    chosen = choose(torch.where(unit > 0, mean_scores / unit, 0.0), alphas)
    final = grid.gather(0, chosen[None])
    coef, gap, steps = torch.empty_like(problem.correlation.T), torch.empty_like(problem.power), 0
    for block in _blocks(final, len(X.T)):
        for _, solved in problem.some(block).path(penalty, final[:, block], tol, max_iter):
            coef[block], gap[block] = solved.weights[:, 0].T, solved.gaps[0]
            steps = max(steps, solved.steps)
    intercept = problem.mean_y - coef @ problem.mean_x
    return Fitted(grid, mean_scores, chosen, coef, intercept, gap, gaps.amax(0), steps)


def _blocks(grid: torch.Tensor, n_features: int) -> Iterator[slice]:
    """Blocks of targets whose weights at all penalties fit into memory."""
    size = max(1, WEIGHTS // (len(grid) * n_features))
    for start in range(0, grid.shape[1], size):
        yield slice(start, start + size)


def _score(scoring: Scoring, truth: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    if scoring == "neg_mean_squared_error":
        return -(truth - predicted).square().mean(0)
    return SCORES[scoring](truth, predicted)
