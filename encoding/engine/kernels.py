"""Ridge in the space of a kernel: one decomposition of a kernel serves all folds, penalties and targets.

A fit with an unpenalised intercept works on contrasts of samples: the dual coefficients of a target sum to zero, so
that no kernel needs to be centred, neither for a fit nor for a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from .dual import contrast, expand
from .moments import Split, centre, take
from .planning import WORTHWHILE
from .scoring import SCORES, Scoring
from .spectral import choose, inverse_filters, is_rough, spectrum

#: similarities of the rows of two matrices, ``(n, features)`` and ``(m, features)``: ``(n, m)``
Kernel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Found(NamedTuple):
    """What a search over kernels found for every target.

    ``scores`` of every candidate at its best penalty, ``(candidates, targets)``; position of the best ``candidate``
    and of its penalty ``alpha``, ``(targets,)``; ``dual`` coefficients, ``(targets, samples)``; ``intercept``.
    """

    scores: torch.Tensor
    candidate: torch.Tensor
    alpha: torch.Tensor
    dual: torch.Tensor
    intercept: torch.Tensor


def linear(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Inner products.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.kernels import linear
    >>> linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])).item()
    11.0
    """
    return a @ b.T


def polynomial(a: torch.Tensor, b: torch.Tensor, gamma: float, degree: float, coef0: float) -> torch.Tensor:
    """``(gamma a'b + coef0) ** degree``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.kernels import polynomial
    >>> polynomial(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), gamma=1.0, degree=2, coef0=1.0).item()
    144.0
    """
    return (gamma * (a @ b.T) + coef0) ** degree


def rbf(a: torch.Tensor, b: torch.Tensor, gamma: float) -> torch.Tensor:
    """``exp(-gamma |a - b|²)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.kernels import rbf
    >>> rbf(torch.tensor([[0.0]]), torch.tensor([[2.0]]), gamma=0.25).log().item()
    -1.0
    """
    origin = b.mean(0)  # distances do not know where zero is, but the rounding of inner products does
    a, b = a - origin, b - origin
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return (-gamma * squares.clamp_(min=0)).exp_()


class KernelRidge:
    """Ridge of one kernel for any targets, prepared once.

    Held-out predictions of a split are ``-(I - H)_kk^-1 (I - H)_k,train Y_train``, with the hat matrix ``H`` of the
    fit to all samples. This is exact where the training set is everything outside the block; where it is not, or
    where rounding of the kernel is too large for the smallest penalty, the training set is decomposed by itself.

    Parameters
    ----------
    kernel
        Of all samples with each other, ``(samples, samples)``, float64.
    splits
        Training and held-out samples.
    alphas
        Penalties, ``(alphas,)``, float64.
    scoring
        What the penalty of each target is chosen by.
    fit_intercept
        Whether every fit has an unpenalised intercept.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.kernels import KernelRidge
    >>> from cerebridge.encoding.engine.moments import Split
    >>> x = torch.arange(8.0, dtype=torch.float64)[:, None]
    >>> splits = [Split(torch.arange(4, 8), torch.arange(4)), Split(torch.arange(4), torch.arange(4, 8))]
    >>> ridge = KernelRidge(x @ x.T, splits, torch.tensor([0.01, 100.0], dtype=torch.float64), "r2", True)
    >>> ridge.scores(2 * x + 1).argmax(1)
    tensor([0])
    """

    def __init__(
        self,
        kernel: torch.Tensor,
        splits: Sequence[Split],
        alphas: torch.Tensor,
        scoring: Scoring,
        fit_intercept: bool,
    ) -> None:
        self.kernel, self.splits, self.alphas = kernel, splits, alphas
        self.scoring, self.fit_intercept = scoring, fit_intercept
        self.values, self.vectors = self._spectrum(kernel)
        self.is_rough = is_rough(self.values, float(alphas.min()))

    def scores(self, Y: torch.Tensor) -> torch.Tensor:
        """Mean score over splits of every penalty, ``(targets, alphas)``, for ``Y``, ``(samples, targets)``."""
        if self.fit_intercept:
            Y, _ = centre(Y)
        score = SCORES[self.scoring]
        scores = Y.new_empty(len(self.splits), Y.shape[1], len(self.alphas))
        for k, split in enumerate(self.splits):
            for a, predictor in enumerate(self._predictors(split)):
                predictor = predictor.to(Y.dtype)
                for start in range(0, Y.shape[1], WORTHWHILE):
                    block = slice(start, start + WORTHWHILE)
                    prediction = predictor @ take(Y[:, block], split.train)
                    scores[k, block, a] = score(take(Y[:, block], split.test), prediction)
        return scores.nanmean(0)

    def fit(self, Y: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Dual coefficients ``(targets, samples)`` and intercepts at the chosen penalties."""
        Y, mean = centre(Y) if self.fit_intercept else (Y, torch.zeros_like(Y[0]))
        vectors = self.vectors.to(Y.dtype)
        inverse = inverse_filters(self.values, self.alphas).to(Y.dtype)
        dual = (Y.T @ vectors * inverse[chosen]) @ vectors.T
        if self.fit_intercept:
            mean = mean - dual @ self.kernel.mean(0).to(Y.dtype)
        return dual, mean

    def _spectrum(self, kernel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Eigenvalues, and eigenvectors that sum to zero where there is an intercept."""
        values, vectors = spectrum(contrast(contrast(kernel).T) if self.fit_intercept else kernel)
        return values, expand(vectors) if self.fit_intercept else vectors

    def _predictors(self, split: Split) -> Iterator[torch.Tensor]:
        """For each penalty, what turns the training rows of targets into predictions of the held-out rows."""
        alphas = self.alphas
        if self.scoring == "pearsonr":
            # larger penalties predict the same shape, and would lose it in the rounding of the mean
            alphas = alphas.clamp(max=float(self.values[-1]) * torch.finfo(torch.float64).eps ** -0.5)
        complement = len(split.train) + len(split.test) == len(self.kernel)
        way = self._left_out if complement and not self.is_rough else self._fitted_anew
        for predictor in way(split, alphas):
            yield predictor if self.scoring == "r2" else predictor - predictor.mean(0)

    def _left_out(self, split: Split, alphas: torch.Tensor) -> Iterator[torch.Tensor]:
        held = take(self.vectors, split.test)
        for alpha in alphas:
            left = (held * (alpha / (self.values + alpha))) @ self.vectors.T
            yield -torch.linalg.solve(left[:, split.test], left[:, split.train])

    def _fitted_anew(self, split: Split, alphas: torch.Tensor) -> Iterator[torch.Tensor]:
        rows = take(self.kernel, split.train)[:, split.train]
        values, vectors = self._spectrum(rows)
        cross = take(self.kernel, split.test)[:, split.train]
        if self.fit_intercept:
            cross = cross - rows.mean(0)
        held = cross @ vectors
        for inverse in inverse_filters(values, alphas):
            yield (held * inverse) @ vectors.T + (1 / len(rows) if self.fit_intercept else 0)


def search(
    kernels: Iterable[torch.Tensor],
    Y: torch.Tensor,
    splits: Sequence[Split],
    alphas: torch.Tensor,
    scoring: Scoring,
    fit_intercept: bool,
) -> Found:
    """For every target the kernel and the penalty with the best cross-validated score.

    Parameters
    ----------
    kernels
        Candidates, ``(samples, samples)`` float64, taken one at a time. Among equals the first is chosen.
    Y
        ``(samples, targets)``.
    splits, alphas, scoring, fit_intercept
        As for :class:`KernelRidge`.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.kernels import search
    >>> from cerebridge.encoding.engine.moments import Split
    >>> x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    >>> split = Split(torch.arange(0, 20, 2), torch.arange(1, 20, 2))
    >>> kernels = [x @ x.T, (1 + x @ x.T) ** 2]
    >>> search(kernels, torch.cat([x, x**2], 1), [split], torch.tensor([1e-6]).double(), "r2", True).candidate
    tensor([0, 1])
    """
    tolerance = torch.finfo(Y.dtype).eps ** 0.75
    best = Y.new_full((Y.shape[1],), -torch.inf)
    candidate = torch.zeros(Y.shape[1], dtype=torch.int64, device=Y.device)
    alpha = torch.zeros_like(candidate)
    dual, intercept = Y.new_empty(Y.shape[1], len(Y)), torch.empty_like(best)
    scores = []
    for position, kernel in enumerate(kernels):
        ridge = KernelRidge(kernel, splits, alphas, scoring, fit_intercept)
        of_alphas = ridge.scores(Y)
        chosen = choose(of_alphas, alphas)
        reached = of_alphas.gather(1, chosen[:, None])[:, 0]
        scores.append(reached)
        better = reached > best + tolerance if position else torch.ones_like(candidate, dtype=torch.bool)
        where = better.nonzero()[:, 0]
        for some in where.split(WORTHWHILE):
            dual[some], intercept[some] = ridge.fit(Y[:, some], chosen[some])
        best[where], alpha[where], candidate[where] = reached[where], chosen[where], position
    return Found(torch.stack(scores), candidate, alpha, dual, intercept)


def combinations(
    kernels: Sequence[Callable[[], torch.Tensor]], weights: torch.Tensor
) -> Iterator[torch.Tensor]:
    """Weighted sums of kernels, one a row of ``weights``, ``(candidates, kernels)``.

    A kernel that several candidates use is computed once and kept; one that a single candidate uses is not kept.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.kernels import combinations
    >>> kernels = [lambda: torch.ones(1, 1), lambda: torch.full((1, 1), 5.0)]
    >>> [float(kernel) for kernel in combinations(kernels, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))]
    [1.0, 3.0]
    """
    often = (weights > 0).sum(0) > 1
    kept = {b: kernels[b]() for b in often.nonzero()[:, 0].tolist()}
    for row in weights:
        parts = (
            (float(row[b]), kept[b] if b in kept else kernels[b]()) for b in row.nonzero()[:, 0].tolist()
        )
        weight, kernel = next(parts)
        total = weight * kernel
        for weight, kernel in parts:
            total.add_(kernel, alpha=weight)
        yield total
