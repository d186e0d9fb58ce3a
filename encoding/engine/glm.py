"""Generalised linear models of many targets over one design: mean negative log-likelihood plus elastic net.

The objective of a target with weights ``w`` and intercept ``b`` is

    mean(-log p(y | X w + b)) + alpha * ((1 - l1_ratio) / 2 * |w|² + l1_ratio * |w|₁)

in the coordinates of the features as given. A ridge does not change when features are rotated, so the search happens
on their principal axes, where the Hessian of every target and penalty is diagonal at the null model: one
decomposition whitens the design for all of them. Samples enter twice: through sums of features times counts, which
are computed once a split, and through the potential, one pass over blocks of samples for all targets that are still
searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from .counts import Family, NegativeBinomial, PseudoR2, explained, mean_rate
from .descent import lbfgs, newton
from .dispersion import moment_dispersion, update_dispersion
from .likelihood import Design, Likelihood, blocks
from .moments import Moments, Split, moments_at, split_moments, take
from .spectral import choose

#: features up to which second derivatives are computed rather than learned
NEWTON = 8
#: numbers in the second derivatives of the targets at one time
HESSIANS = 2**24
#: tolerance below which values no longer tell one point from another
FINEST = 1e-8
#: rounds of fitting coefficients and dispersions in turns
ROUNDS = 30


class Settings(NamedTuple):
    """What is minimised and how."""

    family: Family
    l1_ratio: float
    scoring: PseudoR2
    tol: float
    max_iter: int


class Fitted(NamedTuple):
    """Results of all targets; ``scores`` are ``(targets, alphas)``, the others ``(targets, …)``."""

    coef: torch.Tensor
    intercept: torch.Tensor
    chosen: torch.Tensor
    scores: torch.Tensor
    baseline: torch.Tensor
    iterations: torch.Tensor
    converged: torch.Tensor
    separable: torch.Tensor
    dispersion: torch.Tensor


class _Training:
    """One training set: its design, sums and null model, and the fits to it."""

    def __init__(
        self, X: torch.Tensor, Y: torch.Tensor, gram: Moments, cross: Moments, settings: Settings
    ) -> None:
        self.Y, self.settings, family = Y, settings, settings.family
        self.direct = settings.l1_ratio > 0 or X.shape[1] <= NEWTON
        self.design = Design.of(X, gram, rotate=not self.direct)
        self.means, self.cross = cross.mean_b, self.design.rotated(cross.products / cross.n)
        self.baseline = mean_rate(Y, family.most)
        # nothing can be learned of targets without counts, nor of binary ones that are always on
        self.varied = ((self.means > 0) & (self.means < family.most)).nonzero()[:, 0]
        if isinstance(family, NegativeBinomial):
            family = NegativeBinomial(moment_dispersion(Y, self.baseline))
        self.family = family
        self.point = torch.zeros(X.shape[1] + 1, Y.shape[1], dtype=torch.float64, device=X.device)
        self.point[0] = family.link(self.baseline)
        self.iterations = torch.zeros(Y.shape[1], dtype=torch.int64, device=X.device)
        self.converged = torch.ones_like(self.iterations, dtype=torch.bool)

    def fit(self, alpha: torch.Tensor) -> None:
        """Fit every target with its own penalty, from where the last fit arrived."""
        if not len(self.varied):
            return
        self._descend(alpha)
        if not isinstance(self.family, NegativeBinomial):
            return
        steps = self.iterations
        for _ in range(ROUNDS):
            family = update_dispersion(self.family, self._rates(), self.Y)
            change = (family.dispersion / self.family.dispersion).log().abs()[self.varied].max()
            self.family = family
            self._descend(alpha)
            steps = steps + self.iterations
            if float(change) <= self.settings.tol:
                break
        self.iterations = steps

    def _descend(self, alpha: torch.Tensor) -> None:
        settings, varied = self.settings, self.varied
        everything = Likelihood(
            self.design, self.Y, self.cross, self.means, self.family, alpha, settings.l1_ratio
        )
        tol = max(settings.tol, FINEST, 64 * everything.precision)
        size = max(1, HESSIANS // len(self.point) ** 2) if self.direct else len(varied)
        for start in range(0, len(varied), size):
            columns = varied[start : start + size]
            minimise = newton if self.direct else lbfgs
            found = minimise(everything.at(columns), self.point[:, columns], tol, settings.max_iter)
            self.point[:, columns] = found.point
            self.iterations[columns], self.converged[columns] = found.iterations, found.converged

    def _rates(self) -> Iterator[tuple[slice, torch.Tensor]]:
        rows, point = self.design.rows, self.point.to(self.design.rows.dtype)
        for block in blocks(len(rows), point.shape[1], rows.device):
            yield block, self.family.rate(torch.addmm(point[0], rows[block], point[1:]))

    def separable(self) -> torch.Tensor:
        """Targets all of whose samples with counts have higher rates than all without."""
        highest = torch.full_like(self.baseline, -torch.inf)
        lowest = torch.full_like(self.baseline, torch.inf)
        for block, rates in self._rates():
            silent = self.Y[block] == 0
            highest = torch.maximum(highest, rates.where(silent, -torch.inf).amax(0))
            lowest = torch.minimum(lowest, rates.where(~silent, torch.inf).amin(0))
        separable = torch.zeros_like(self.converged)
        separable[self.varied] = (highest < lowest)[self.varied] & highest.isfinite()[self.varied]
        return separable

    def log_likelihoods(self, X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
        """Sums over samples for the fit, the null model and perfect predictions, ``(3, targets)``."""
        weights, intercept = (part.to(X.dtype) for part in self.design.weights(self.point))
        sums = torch.zeros(3, Y.shape[1], dtype=torch.float64, device=X.device)
        for block in blocks(len(X), Y.shape[1], X.device):
            counts = Y[block].double()
            rates = self.family.rate(torch.addmm(intercept, X[block], weights).double())
            for k, rate in enumerate((rates, self.baseline.expand_as(counts), counts)):
                sums[k] += self.family.log_likelihood(counts, rate).sum(0)
        return sums


def fit_glm(
    X: torch.Tensor,
    Y: torch.Tensor,
    splits: Sequence[Split],
    alphas: torch.Tensor,
    settings: Settings,
    track: Callable[[Sequence[Split | None]], Iterable[Split | None]] = iter,
) -> Fitted:
    """Choose a penalty for every target by held-out likelihood, and fit it to all samples.

    Parameters
    ----------
    X, Y
        Features and counts, ``(samples, features)`` and ``(samples, targets)``.
    splits
        Training and held-out samples; none where there is a single penalty and nothing to choose.
    alphas
        Penalties.
    settings
        What is minimised and how.
    track
        Draws progress over the splits and the last fit.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.counts import Poisson
    >>> from cerebridge.encoding.engine.glm import Settings, fit_glm
    >>> X = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    >>> settings = Settings(Poisson(), 0.0, "pseudo_r2", 1e-6, 100)
    >>> fitted = fit_glm(X, torch.tensor([[1.0], [2.0]]), [], torch.tensor([1e-9]), settings)
    >>> fitted.coef.exp().round(decimals=4).tolist()
    [[2.0]]
    """
    totals = torch.zeros(len(alphas), 3, Y.shape[1], dtype=torch.float64, device=X.device)
    grams = (training for training, _ in split_moments(X, X, splits, torch.float64))
    products = (training for training, _ in split_moments(X, Y, splits, torch.float64))
    descending = alphas.argsort(descending=True).tolist()
    alphas = alphas.double()
    scores = torch.full((Y.shape[1], len(alphas)), torch.nan, dtype=torch.float64, device=X.device)
    chosen = torch.zeros(Y.shape[1], dtype=torch.int64, device=X.device)
    everything = torch.arange(len(X), device=X.device)
    for split in track([*splits, None]):
        if split is not None:
            training = _Training(
                take(X, split.train), take(Y, split.train), next(grams), next(products), settings
            )
            for a in descending:
                training.fit(alphas[a].expand(Y.shape[1]))
                totals[a] += training.log_likelihoods(take(X, split.test), take(Y, split.test))
            continue
        if splits:
            model, null, saturated = totals.unbind(1)
            scores = explained(model, null, saturated, settings.scoring).T
            chosen = choose(scores, alphas)
        gram, cross = (moments_at(X, part, everything, torch.float64) for part in (X, Y))
        training = _Training(X, Y, gram, cross, settings)
        training.fit(alphas[chosen])
    coef, intercept = training.design.weights(training.point)
    family = training.family
    dispersion = family.dispersion if isinstance(family, NegativeBinomial) else torch.zeros_like(intercept)
    return Fitted(
        coef.T,
        intercept,
        chosen,
        scores,
        training.baseline,
        training.iterations,
        training.converged,
        training.separable(),
        dispersion,
    )
