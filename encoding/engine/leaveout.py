"""Ridge whose every sample is held out once, in closed form: leave-one-out and generalised cross-validation."""

from __future__ import annotations

import torch

from .dual import coefficients, kernel_spectrum
from .moments import centre
from .primal import Fitted
from .scoring import Scoring, pearsonr_from_sums, r2_from_sums
from .spectral import choose, inverse_filters, is_rough, spectrum


class LeaveOneOut:
    """Ridge of ``X`` for any block of targets, prepared once; each sample is predicted from all the others.

    The residual of a sample that was left out is its residual in the fit to all samples over ``1 - h``, where ``h``
    is what the sample itself weighs in its own prediction; generalised cross-validation takes the mean of ``h``.

    Parameters
    ----------
    X
        Features, ``(samples, features)``.
    alphas
        Penalties, ``(alphas,)``, float64.
    scoring
        What the penalty of each target is chosen by, over all samples at once.
    fit_intercept
        Whether every fit has an unpenalised intercept.
    generalised
        Whether all samples weigh the same; then there are no predictions, and ``scoring`` is ``"r2"``.

    References
    ----------
    Allen (1974), Technometrics 16; Golub, Heath & Wahba (1979), Technometrics 21.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.leaveout import LeaveOneOut
    >>> X = torch.arange(8.0)[:, None]
    >>> alphas = torch.tensor([0.01, 100.0], dtype=torch.float64)
    >>> LeaveOneOut(X, alphas, "r2", True, generalised=False).fit(2 * X + 1).chosen
    tensor([0])
    """

    def __init__(
        self, X: torch.Tensor, alphas: torch.Tensor, scoring: Scoring, fit_intercept: bool, generalised: bool
    ) -> None:
        self.X, self.alphas, self.scoring = X, alphas, scoring
        self.fit_intercept, self.generalised = fit_intercept, generalised
        n = len(X)
        values, left = _left_vectors(X, float(alphas.min()), fit_intercept)
        self.values, self.left = values[values > 0], left[:, values > 0]
        own = self.left.square()
        degrees = n - int(fit_intercept)
        self.spans = self.left.shape[1] == degrees
        outside = torch.zeros_like(own[:, 0]) if self.spans else degrees / n - own.sum(1)
        self.kept = alphas[:, None] / (self.values + alphas[:, None])
        #: ``1 - h``, penalties × samples
        self.remaining = outside.clamp(min=0) + self.kept @ own.T

    def fit(self, Y: torch.Tensor) -> Fitted:
        """Choose a penalty for every column of ``Y``, ``(samples, targets)``, and fit it to all samples."""
        Y, mean = centre(Y) if self.fit_intercept else (Y, torch.zeros_like(Y[0]))
        left = self.left.to(Y.dtype)
        z = Y.T @ left
        outside = None if self.spans else Y - left @ z.T
        scores = self._generalised(Y, z, outside) if self.generalised else self._left_out(Y, z, outside)
        chosen = choose(scores, self.alphas)
        inverse = inverse_filters(self.values, self.alphas).to(Y.dtype)
        coef, shift = coefficients((z * inverse[chosen]) @ left.T, self.X, self.fit_intercept)
        return Fitted(scores, chosen, coef, mean - shift)

    def _left_out(self, Y: torch.Tensor, z: torch.Tensor, outside: torch.Tensor | None) -> torch.Tensor:
        """Score of every target and penalty, ``(targets, alphas)``."""
        truth = centre(Y)[0]
        variation = truth.square().sum(0)
        scores = z.new_empty(len(self.alphas), len(z))
        for score, kept, remaining in zip(scores, self.kept, self.remaining, strict=True):
            residual = (self.left * (kept / remaining[:, None])).to(Y.dtype) @ z.T
            if outside is not None:
                residual.addcdiv_(outside, remaining[:, None].to(Y.dtype).expand_as(outside))
            if self.scoring == "r2":
                score[:] = r2_from_sums(residual.square_().sum(0), variation)
            else:
                predicted = centre(Y - residual)[0]
                score[:] = pearsonr_from_sums(
                    (truth * predicted).sum(0), variation, predicted.square().sum(0)
                )
        return scores.T

    def _generalised(self, Y: torch.Tensor, z: torch.Tensor, outside: torch.Tensor | None) -> torch.Tensor:
        """The same without a residual of its own for each sample: sums of squares are all it takes."""
        squares = z.square() @ self.kept.square().T.to(Y.dtype)
        if outside is not None:
            squares += outside.square().sum(0)[:, None]
        residual = squares / self.remaining.mean(1).square().to(Y.dtype)
        return r2_from_sums(residual, centre(Y)[0].square().sum(0)[:, None])


def _left_vectors(
    X: torch.Tensor, smallest_alpha: float, fit_intercept: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared singular values of the features as the fit sees them, and left singular vectors as columns."""
    n, p = X.shape
    if n <= p:
        values, vectors = kernel_spectrum(X, fit_intercept)
        if not is_rough(values, smallest_alpha):
            return values, vectors
    rows = (centre(X)[0] if fit_intercept else X).double()
    if n > p:
        values, vectors = spectrum(rows.T @ rows)
        if not is_rough(values, smallest_alpha):
            return values, rows @ (vectors / values.sqrt())
    left, singular, _ = torch.linalg.svd(rows, full_matrices=False)
    precision = torch.finfo(rows.dtype).eps * max(n, p)
    return torch.where(singular > precision * singular[0], singular.square(), 0.0), left
