"""Cross-validated ridge for more features than samples, from one decomposition for all folds.

Held-out residuals of every split follow from the hat matrix ``H`` of the fit to all samples: without the block
``k`` they are ``(I - H_kk)^-1 ((I - H) Y)_k``. This is exact for ridge with an unpenalised intercept, where the
training set is everything outside the block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .moments import Split, centre
from .planning import FEATURE_BLOCK
from .primal import Fitted, Primal
from .scoring import Scoring, pearsonr_from_sums, r2_from_sums
from .spectral import Spectrum, choose, inverse_filters, is_rough, spectrum
from .tables import Matrix, columns, take


class Dual:
    """Ridge of ``X`` for any block of targets, prepared once.

    Parameters
    ----------
    X
        Features, ``(samples, features)``; a table is read in blocks of features.
    splits
        Every training set is the complement of its held-out set.
    alphas
        Penalties, ``(alphas,)``, float64.
    scoring
        What the penalty of each target is chosen by.
    fit_intercept
        Whether every fit has an unpenalised intercept.

    Attributes
    ----------
    is_rough
        Whether rounding of the kernel is too large for the smallest penalty; then use :class:`Rotated`.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dual import Dual
    >>> from cerebridge.encoding.engine.moments import Split
    >>> X = torch.arange(8.0)[:, None]
    >>> splits = [Split(torch.arange(4, 8), torch.arange(4)), Split(torch.arange(4), torch.arange(4, 8))]
    >>> alphas = torch.tensor([0.01, 100.0], dtype=torch.float64)
    >>> Dual(X, splits, alphas, "r2", True).fit(2 * X + 1).chosen
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
        self.values, self.vectors = kernel_spectrum(X, fit_intercept)
        self.is_rough = is_rough(self.values, float(alphas.min()))

    def fit(self, Y: torch.Tensor) -> Fitted:
        """Choose a penalty for every column of ``Y``, ``(samples, targets)``, and fit it to all samples."""
        Y, mean = centre(Y) if self.fit_intercept else (Y, torch.zeros_like(Y[0]))
        vectors = self.vectors.to(Y.dtype)
        z = Y.T @ vectors
        scores = [self._score(take(Y, split.test), split.test, z) for split in self.splits]
        mean_scores = torch.stack(scores).nanmean(0)
        chosen = choose(mean_scores, self.alphas)
        inverse = inverse_filters(self.values, self.alphas).to(Y.dtype)
        weights = (z * inverse[chosen]) @ vectors.T
        coef, shift = coefficients(weights, self.X, self.fit_intercept)
        return Fitted(mean_scores, chosen, coef, mean - shift)

    def _score(self, truth: torch.Tensor, test: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Score of every target and penalty on one split, ``(targets, alphas)``."""
        truth = centre(truth)[0]
        variation = truth.square().sum(0)
        scores = z.new_empty(len(self.alphas), len(z))
        for score, operator in zip(scores, self._leave_out(test), strict=True):
            rows = operator.to(z.dtype) @ z.T
            if self.scoring == "r2":
                score[:] = r2_from_sums(rows.square_().sum(0), variation)
            else:
                product = (truth * rows).sum(0)
                score[:] = pearsonr_from_sums(product, variation, rows.square_().sum(0))
        return scores.T

    def _leave_out(self, test: torch.Tensor) -> Iterator[torch.Tensor]:
        """For each penalty, what turns targets in the eigenbasis into rows of the held-out samples.

        Residuals for ``"r2"``; for ``"pearsonr"``, which they would lose in their rounding, centred predictions.
        """
        vectors, alphas = take(self.vectors, test), self.alphas
        if self.scoring == "pearsonr":
            # larger penalties predict the same shape, and would lose it in the rounding of residuals
            alphas = alphas.clamp(max=float(self.values[-1]) * torch.finfo(torch.float64).eps ** -0.5)
        for alpha in alphas:
            left = vectors * (alpha / (self.values + alpha))
            residual = torch.linalg.solve(left @ vectors.T, left)
            yield residual if self.scoring == "r2" else centre(vectors - residual)[0]


class Rotated:
    """Ridge for more features than samples where :class:`Dual` does not hold.

    The features are rotated to at most as many directions as there are samples, by a singular value decomposition
    that loses nothing; then :class:`~cerebridge.encoding.engine.primal.Primal` fits every training set by itself.
    Parameters and ``fit`` are the same.
    """

    def __init__(
        self,
        X: torch.Tensor,
        splits: Sequence[Split],
        alphas: torch.Tensor,
        scoring: Scoring,
        fit_intercept: bool,
    ) -> None:
        self.X = X
        rows, self.mean = centre(X) if fit_intercept else (X, torch.zeros_like(X[0]))
        left, singular, right = torch.linalg.svd(rows.double(), full_matrices=False)
        self.primal = Primal((left * singular).to(X.dtype), splits, alphas, scoring, fit_intercept)
        self.right = right.to(X.dtype)

    def fit(self, Y: torch.Tensor) -> Fitted:
        """Choose a penalty for every column of ``Y``, ``(samples, targets)``, and fit it to all samples."""
        rotated = self.primal.fit(Y)
        coef = rotated.coef @ self.right
        return rotated._replace(coef=coef, intercept=rotated.intercept - coef @ self.mean)


def kernel_spectrum(X: Matrix, fit_intercept: bool) -> Spectrum:
    """Eigenvalues and eigenvectors of the linear kernel of the samples; with an intercept without its direction.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dual import kernel_spectrum
    >>> [len(kernel_spectrum(torch.eye(3, 5), intercept).values) for intercept in (False, True)]
    [3, 2]
    """
    kernel = torch.zeros(len(X), len(X), dtype=torch.float64, device=X.device)
    for block, _ in _blocks(X, fit_intercept):
        precise = block.double()
        kernel.addmm_(precise, precise.T)
    values, vectors = spectrum(contrast(contrast(kernel).T) if fit_intercept else kernel)
    return Spectrum(values, expand(vectors) if fit_intercept else vectors)


def coefficients(weights: torch.Tensor, X: Matrix, fit_intercept: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients of features from weights of samples, and what they predict at the mean of the features.

    Parameters
    ----------
    weights
        ``(targets, samples)``.
    X
        ``(samples, features)``.
    fit_intercept
        Whether the weights belong to centred features.

    Returns
    -------
    coef : torch.Tensor
        ``(targets, features)``.
    shift : torch.Tensor
        ``(targets,)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dual import coefficients
    >>> X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> coefficients(torch.tensor([[-1.0, 1.0]]), X, True)
    (tensor([[2., 2.]]), tensor([10.]))
    """
    coef = weights.new_empty(len(weights), X.shape[1])
    shift = torch.zeros_like(weights[:, 0])
    start = 0
    for block, mean in _blocks(X, fit_intercept):
        part = coef[:, start : start + len(mean)]
        # straight into its place: fresh memory for a product of this size takes a third of its time
        torch.mm(weights, block, out=part)
        shift += part @ mean
        start += len(mean)
    return coef, shift


def _blocks(X: Matrix, centred: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Blocks of features as the fit sees them, and the means that were taken off."""
    width = max(1, FEATURE_BLOCK // len(X))
    for start in range(0, X.shape[1], width):
        block = columns(X, start, start + width)
        yield centre(block) if centred else (block, torch.zeros_like(block[0]))


def contrast(rows: torch.Tensor) -> torch.Tensor:
    """Orthonormal contrasts of the rows of a matrix: one row less, and nothing lost but their mean.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.dual import contrast
    >>> contrast(torch.ones(4, 1)).abs().max().item() < 1e-6
    True
    """
    reflector, scale = _reflector(rows, len(rows))
    return rows[1:] - torch.outer(reflector[1:], scale * (reflector @ rows))


def expand(contrasts: torch.Tensor) -> torch.Tensor:
    """The transpose of :func:`contrast`: rows that sum to zero and have these contrasts."""
    rows = torch.nn.functional.pad(contrasts, (0, 0, 1, 0))
    reflector, scale = _reflector(rows, len(rows))
    return rows - torch.outer(reflector, scale * (reflector @ rows))


def _reflector(like: torch.Tensor, n: int) -> tuple[torch.Tensor, float]:
    """The Householder reflection that takes the constant vector to the first axis."""
    reflector = torch.full((n,), n**-0.5, dtype=like.dtype, device=like.device)
    reflector[0] += 1
    return reflector, 1 / (1 + n**-0.5)
