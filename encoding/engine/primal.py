"""Cross-validated ridge for more samples than features, from moments: no fold is fitted to its samples twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from .moments import Moments, Split, split_moments, whole
from .scoring import Scoring, pearsonr_from_sums, r2_from_sums
from .spectral import choose, inverse_filters, robust_spectrum
from .tables import Matrix, pieces, take, triangle

#: rows of a triangle that are multiplied at once: fewer skip more zeros, but products of thin matrices are slow
ROWS = 300


class Fitted(NamedTuple):
    """Ridge of a block of targets.

    ``scores`` of every penalty, mean over the splits where they are defined, ``(targets, alphas)``; position of
    the chosen penalty, ``(targets,)``; ``coef``, ``(targets, features)``; ``intercept``, ``(targets,)``.
    """

    scores: torch.Tensor
    chosen: torch.Tensor
    coef: torch.Tensor
    intercept: torch.Tensor


@dataclass(frozen=True)
class HeldOut:
    """The held-out features of one split, in the eigenbasis of its training features.

    Parameters
    ----------
    vectors
        The basis, ``(features, directions)``.
    inverse
        ``1 / (eigenvalue + alpha)``, ``(alphas, directions)``.
    shift
        Mean of the held-out features, seen from where the training set has its intercept, ``(directions,)``.
    triangle
        Upper triangle (or trapezoid) with the Gram matrix of the centred held-out features, ``(≤ n, directions)``.
    """

    vectors: torch.Tensor
    inverse: torch.Tensor
    shift: torch.Tensor
    triangle: torch.Tensor

    def sums_of_squares(self, z: torch.Tensor) -> torch.Tensor:
        """Of the centred predictions, ``(targets, alphas)``: the one sum that needs a product of matrices each.

        ``z`` are the training products of targets and features in this basis, ``(targets, directions)``; the
        weights of a penalty are ``inverse * z``. Blocks of rows skip most of the zeros of the triangle.
        """
        sums = z.new_zeros(len(z), len(self.inverse))
        for position, inverse in enumerate(self.inverse):
            start = 0
            for rows in (self.triangle * inverse).chunk(-(-len(self.triangle) // ROWS)):
                sums[:, position] += (z[:, start:] @ rows[:, start:].T).square().sum(1)
                start += len(rows)
        return sums


class Primal:
    """Ridge of ``X`` for any block of targets, prepared once.

    Parameters
    ----------
    X
        Features, ``(samples, features)``; a table is read in pieces.
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
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.primal import Primal
    >>> X = torch.arange(8.0)[:, None]
    >>> splits = [Split(torch.arange(4, 8), torch.arange(4)), Split(torch.arange(4), torch.arange(4, 8))]
    >>> alphas = torch.tensor([0.01, 100.0], dtype=torch.float64)
    >>> Primal(X, splits, alphas, "r2", True).fit(2 * X + 1).chosen
    tensor([0])
    """

    def __init__(
        self,
        X: Matrix,
        splits: Sequence[Split],
        alphas: torch.Tensor,
        scoring: Scoring,
        fit_intercept: bool,
    ) -> None:
        self.X, self.splits, self.alphas = X, splits, alphas
        self.scoring, self.fit_intercept = scoring, fit_intercept
        self.held_out = []
        total: Moments | None = None
        pairs = split_moments(X, X, splits, torch.float64)
        for (training, held), split in zip(pairs, splits, strict=True):
            total = total or whole(X, X, training, held, torch.float64)
            self.held_out.append(self._held_out(self._fitted(training), held, split))
        assert total is not None
        self.vectors, inverse = self._basis(self._fitted(total), torch.arange(len(X), device=X.device))
        self.inverse = inverse.to(X.dtype)

    def fit(self, Y: Matrix) -> Fitted:
        """Choose a penalty for every column of ``Y``, ``(samples, targets)``, and fit it to all samples."""
        scores = []
        total: Moments | None = None
        pairs = split_moments(Y, self.X, self.splits)
        for (training, held), held_out, split in zip(pairs, self.held_out, self.splits, strict=True):
            total = total or whole(Y, self.X, training, held)
            scores.append(self._score(held_out, self._fitted(training), held, Y, split.test))
        assert total is not None
        mean_scores = torch.stack(scores).nanmean(0)
        chosen = choose(mean_scores, self.alphas)
        total = self._fitted(total)
        coef = (total.products @ self.vectors * self.inverse[chosen]) @ self.vectors.T
        return Fitted(mean_scores, chosen, coef, total.mean_a - coef @ total.mean_b)

    def _fitted(self, training: Moments) -> Moments:
        """What least squares sees of a training set."""
        return training if self.fit_intercept else training.about_origin()

    def _basis(self, training: Moments, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Eigenvectors of the training features, and the inverse filters of every penalty in float64."""
        values, vectors = robust_spectrum(
            training.products, float(self.alphas.min()), lambda: triangle(self.X, index, training.mean_a)
        )
        return vectors.to(self.X.dtype), inverse_filters(values, self.alphas)

    def _held_out(self, training: Moments, held: Moments, split: Split) -> HeldOut:
        vectors, inverse = self._basis(training, split.train)
        if self.scoring == "pearsonr":
            # correlation ignores scale; without it, a large penalty would take the sums below the number format
            inverse = inverse / inverse.amax(1, keepdim=True).clamp(min=torch.finfo(inverse.dtype).tiny)
        shift = (held.mean_a - training.mean_a).to(vectors.dtype) @ vectors
        rows = triangle(self.X, split.test, held.mean_a, vectors)
        return HeldOut(vectors, inverse.to(vectors.dtype), shift, rows)

    def _score(
        self, held_out: HeldOut, training: Moments, held: Moments, Y: Matrix, test: torch.Tensor
    ) -> torch.Tensor:
        """Score of every target and penalty on one split, ``(targets, alphas)``."""
        squares = [(take(Y, part) - held.mean_a).square_().sum(0) for part in pieces(test, Y)]
        variation = torch.stack(squares).sum(0)[:, None]
        z = training.products @ held_out.vectors
        product = (z * (held.products @ held_out.vectors)) @ held_out.inverse.T
        predicted = held_out.sums_of_squares(z)
        if self.scoring == "pearsonr":
            return pearsonr_from_sums(product, variation, predicted)
        offset = (held.mean_a - training.mean_a)[:, None] - (z * held_out.shift) @ held_out.inverse.T
        residual = variation - 2 * product + predicted + held.n * offset.square()
        return r2_from_sums(residual.clamp(min=0), variation)
