"""Ridge with a penalty for every band of features: bands rescale Gram matrices, so that data are read once.

Band weights ``w`` on the simplex and a penalty ``alpha`` give band ``b`` the penalty ``alpha / w_b``. This is ridge
on features that are scaled by ``sqrt(w_b)``: with more samples than features the rows and columns of the folds' Gram
matrices are scaled (:class:`PrimalBands`), else the bands' kernels are weighted (:class:`DualBands`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch

from .filtered import HeldOut, Truth, score_of_sums, split_scores
from .moments import Moments, Split, centre, split_moments, take, whole
from .scoring import Scoring
from .spectral import is_rough, robust_spectrum, spectrum, spectrum_of_rows

#: products of targets and features in an eigenbasis (training, held out), and the held-out side of the split
View = tuple[torch.Tensor, torch.Tensor, HeldOut, Truth]
#: sums of products and of squares of centred predictions, and mean response less mean prediction
Sums = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Bands(ABC):
    """Banded ridge of ``X``, prepared once for any block of targets and any band weights.

    Parameters
    ----------
    X
        Features, ``(samples, features)``.
    bands
        Number of each feature's band, ``(features,)``, from 0.
    splits
        Training and held-out samples.
    smallest
        The smallest penalty that will be asked for.
    fit_intercept
        Whether every fit has an unpenalised intercept.
    """

    def __init__(
        self,
        X: torch.Tensor,
        bands: torch.Tensor,
        splits: Sequence[Split],
        smallest: float,
        fit_intercept: bool,
    ) -> None:
        self.X, self.bands, self.splits = X, bands, splits
        self.smallest, self.fit_intercept = smallest, fit_intercept
        self.truths: list[Truth] = []

    @abstractmethod
    def load(self, Y: torch.Tensor) -> None:
        """Take up a block of targets, ``(samples, targets)``."""

    @abstractmethod
    def views(self, weights: torch.Tensor) -> Iterator[View]:
        """Every split in the eigenbasis of its training features under band weights ``(bands,)``."""

    @abstractmethod
    def fit(
        self, weights: torch.Tensor, alphas: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients and intercepts of the targets at ``index`` from all samples, each with its penalty."""

    @abstractmethod
    def sums(self, k: int, deltas: torch.Tensor, index: torch.Tensor) -> Sums:
        """What predicts the held-out samples of split ``k`` with inverse penalties ``(targets, bands)``.

        Differentiable by ``deltas``; every sum is ``(targets, 1)``.
        """

    @property
    @abstractmethod
    def fixed_bytes(self) -> int:
        """Working memory that does not depend on the number of targets."""

    @abstractmethod
    def bytes_per_target(self, n_alphas: int) -> int:
        """Working memory of a target during the search."""

    @property
    def bytes_per_climb(self) -> int:
        """Working memory of a target whose penalties are climbed: a system of its own, and its factor."""
        return 8 * 4 * min(self.X.shape) ** 2

    def scores(self, weights: torch.Tensor, alphas: torch.Tensor, scoring: Scoring) -> torch.Tensor:
        """Cross-validated score of every target and penalty under band weights, ``(targets, alphas)``."""
        return torch.stack([split_scores(*view, alphas, scoring) for view in self.views(weights)]).nanmean(0)

    def slope(
        self, deltas: torch.Tensor, index: torch.Tensor, scoring: Scoring
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-validated score with inverse penalties ``(targets, bands)``, and its slope by their logarithms."""
        logs = deltas.log().requires_grad_()
        total, slope = torch.zeros_like(deltas[:, 0]), torch.zeros_like(deltas)
        defined = torch.zeros_like(total)
        for k, truth in enumerate(self.truths):
            own = truth._replace(variation=truth.variation[index], offset=truth.offset[index])
            score = score_of_sums(*self.sums(k, logs.exp(), index), own, scoring)[:, 0]
            known = own.variation > 0
            slope += torch.autograd.grad(score[known].sum(), logs)[0]
            total += torch.where(known, score.detach(), 0.0)
            defined += known
        return total / defined, slope / defined[:, None]


class PrimalBands(Bands):
    """For more samples than features: from the moments of the folds.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.banded import PrimalBands
    >>> from cerebridge.encoding.engine.moments import Split
    >>> X = torch.tensor([[1.0, 0], [2, 5], [3, 1], [4, 4], [5, 2], [6, 3]]).double()
    >>> half, rest = torch.arange(3), torch.arange(3, 6)
    >>> bands = PrimalBands(X, torch.tensor([0, 1]), [Split(half, rest), Split(rest, half)], 1e-3, True)
    >>> bands.load(2 * X[:, :1])
    >>> alphas = torch.tensor([1e-3]).double()
    >>> bands.scores(torch.tensor([1.0, 0.0]).double(), alphas, "r2").round(decimals=3).item()
    1.0
    """

    def __init__(
        self,
        X: torch.Tensor,
        bands: torch.Tensor,
        splits: Sequence[Split],
        smallest: float,
        fit_intercept: bool,
    ) -> None:
        super().__init__(X, bands, splits, smallest, fit_intercept)
        self.training: list[Moments] = []
        self.held: list[Moments] = []
        total: Moments | None = None
        for training, held in split_moments(X, X, splits, torch.float64):
            total = total or whole(X, X, training, held, torch.float64)
            self.training.append(self._seen(training))
            self.held.append(held)
        assert total is not None
        self.total = self._seen(total)

    @property
    def fixed_bytes(self) -> int:
        """Working memory that does not depend on the number of targets."""
        n, p = self.X.shape
        return 8 * ((2 * len(self.splits) + 10) * p * p + 3 * n * p)

    def bytes_per_target(self, n_alphas: int) -> int:
        """Working memory of a target during the search."""
        n, p = self.X.shape
        return 8 * ((2 * len(self.splits) + 8) * p + 4 * n + (len(self.splits) + 8) * n_alphas)

    def load(self, Y: torch.Tensor) -> None:
        """Take up a block of targets, ``(samples, targets)``."""
        self.truths, self.products = [], []
        total: Moments | None = None
        pairs = split_moments(Y, self.X, self.splits, torch.float64)
        for (training, held), split in zip(pairs, self.splits, strict=True):
            total = total or whole(Y, self.X, training, held, torch.float64)
            seen = self._seen(training)
            variation = centre(take(Y, split.test).double())[0].square().sum(0)
            self.truths.append(Truth(variation, held.mean_a - seen.mean_a, held.n))
            self.products.append((seen.products, held.products))
        assert total is not None
        self.total_products = self._seen(total)

    def views(self, weights: torch.Tensor) -> Iterator[View]:
        """Every split in the eigenbasis of its training features under band weights ``(bands,)``."""
        for k, split in enumerate(self.splits):
            values, vectors = self._basis(self.training[k], weights, split.train)
            shift = (self.held[k].mean_a - self.training[k].mean_a) @ vectors
            gram = vectors.T @ (self.held[k].products @ vectors)
            trained, held = self.products[k]
            yield trained @ vectors, held @ vectors, HeldOut(values, gram, shift), self.truths[k]

    def fit(
        self, weights: torch.Tensor, alphas: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients and intercepts of the targets at ``index`` from all samples, each with its penalty."""
        values, vectors = self._basis(self.total, weights, torch.arange(len(self.X), device=self.X.device))
        products, mean = self.total_products.products[index], self.total_products.mean_a[index]
        coef = (products @ vectors / (values + alphas[:, None])) @ vectors.T
        return coef, mean - coef @ self.total.mean_a

    def sums(self, k: int, deltas: torch.Tensor, index: torch.Tensor) -> Sums:
        """What predicts the held-out samples of split ``k`` with inverse penalties ``(targets, bands)``."""
        gram, held = self.training[k].products, self.held[k]
        trained, tested = (products[index] for products in self.products[k])
        scale = deltas.sqrt()[:, self.bands]
        with torch.no_grad():
            system = gram * scale[:, :, None] * scale[:, None]
            system.diagonal(dim1=1, dim2=2).add_(1)
            factor = torch.linalg.cholesky(system)
            first = torch.cholesky_solve((scale * trained)[..., None], factor)[..., 0]
        # this residual is zero, its derivative is not: the factor need not be differentiated
        residual = scale * (trained - (scale * first) @ gram) - first
        coef = scale * (first + torch.cholesky_solve(residual[..., None], factor)[..., 0])
        offset = self.truths[k].offset[index] - coef @ (held.mean_a - self.training[k].mean_a)
        squares = (coef * (coef @ held.products)).sum(1)
        return (coef * tested).sum(1)[:, None], squares[:, None], offset[:, None]

    def _seen(self, training: Moments) -> Moments:
        """What least squares sees of a training set."""
        return training if self.fit_intercept else training.about_origin()

    def _basis(
        self, training: Moments, weights: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Eigenvalues of scaled training features, and what takes products with raw features to the eigenbasis."""
        scale = weights.sqrt()[self.bands]
        values, vectors = robust_spectrum(
            training.products * scale * scale[:, None],
            self.smallest,
            lambda: (take(self.X, rows).double() - training.mean_a) * scale,
        )
        return values, scale[:, None] * vectors * (values > 0)


class DualBands(Bands):
    """For more features than samples: from one kernel a band.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.banded import DualBands
    >>> from cerebridge.encoding.engine.moments import Split
    >>> X = torch.tensor([[1.0, 0], [2, 5], [3, 1], [4, 4], [5, 2], [6, 3]]).double()
    >>> half, rest = torch.arange(3), torch.arange(3, 6)
    >>> bands = DualBands(X, torch.tensor([0, 1]), [Split(half, rest), Split(rest, half)], 1e-3, True)
    >>> bands.load(2 * X[:, :1])
    >>> alphas = torch.tensor([1e-3]).double()
    >>> bands.scores(torch.tensor([1.0, 0.0]).double(), alphas, "r2").round(decimals=3).item()
    1.0
    """

    def __init__(
        self,
        X: torch.Tensor,
        bands: torch.Tensor,
        splits: Sequence[Split],
        smallest: float,
        fit_intercept: bool,
    ) -> None:
        super().__init__(X, bands, splits, smallest, fit_intercept)
        self.X, self.mean = self._seen(X.double())
        parts = [self.X[:, bands == band] for band in range(int(bands.max()) + 1)]
        self.kernels = torch.stack([part @ part.T for part in parts])

    @property
    def fixed_bytes(self) -> int:
        """Working memory that does not depend on the number of targets."""
        n, p = self.X.shape
        return 8 * ((2 * len(self.kernels) + 12) * n * n + 4 * n * p)

    def bytes_per_target(self, n_alphas: int) -> int:
        """Working memory of a target during the search."""
        n = len(self.X)
        return 8 * ((len(self.splits) + 10) * n + (len(self.splits) + 8) * n_alphas)

    def load(self, Y: torch.Tensor) -> None:
        """Take up a block of targets, ``(samples, targets)``."""
        self.truths, self.responses = [], []
        self.Y, self.mean_response = self._seen(Y.double())
        for split in self.splits:
            trained, mean = self._seen(take(self.Y, split.train))
            held, held_mean = centre(take(self.Y, split.test))
            self.truths.append(Truth(held.square().sum(0), held_mean - mean, len(held)))
            self.responses.append((trained.T, held.T))

    def views(self, weights: torch.Tensor) -> Iterator[View]:
        """Every split in the eigenbasis of its training features under band weights ``(bands,)``."""
        mixed = self._mix(weights)
        for split, (trained, held), truth in zip(self.splits, self.responses, self.truths, strict=True):
            kernel, cross = self._of_split(mixed, split)
            values, vectors = spectrum(kernel)
            if is_rough(values, self.smallest):
                rows = self.X * weights.sqrt()[self.bands]
                train, mean = self._seen(take(rows, split.train))
                values, vectors = spectrum_of_rows(train.T)
                predictor = (take(rows, split.test) - mean) @ (train.T @ vectors)
            else:
                predictor = cross @ vectors
            vectors = vectors * (values > 0)
            predictor, shift = centre(predictor * (values > 0))
            yield trained @ vectors, held @ predictor, HeldOut(values, predictor.T @ predictor, shift), truth

    def fit(
        self, weights: torch.Tensor, alphas: torch.Tensor, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients and intercepts of the targets at ``index`` from all samples, each with its penalty."""
        scale = weights.sqrt()[self.bands]
        values, vectors = robust_spectrum(self._mix(weights), self.smallest, lambda: (self.X * scale).T)
        inverse = (values > 0) / (values + alphas[:, None])
        coef = ((self.Y[:, index].T @ vectors * inverse) @ vectors.T) @ self.X * scale.square()
        return coef, self.mean_response[index] - coef @ self.mean

    def sums(self, k: int, deltas: torch.Tensor, index: torch.Tensor) -> Sums:
        """What predicts the held-out samples of split ``k`` with inverse penalties ``(targets, bands)``."""
        kernels, crosses = self._of_split(self.kernels, self.splits[k])
        trained, held = (responses[index] for responses in self.responses[k])
        with torch.no_grad():
            system = torch.einsum("tb,bij->tij", deltas, kernels)
            system.diagonal(dim1=1, dim2=2).add_(1)
            factor = torch.linalg.cholesky(system)
            first = torch.cholesky_solve(trained[..., None], factor)[..., 0]
        # this residual is zero, its derivative is not: the factor need not be differentiated
        residual = trained - torch.einsum("tb,btj->tj", deltas, first @ kernels) - first
        dual = first + torch.cholesky_solve(residual[..., None], factor)[..., 0]
        predicted = torch.einsum("tb,btj->tj", deltas, dual @ crosses.mT)
        mean = predicted.mean(1, keepdim=True)
        predicted = predicted - mean
        offset = self.truths[k].offset[index][:, None] - mean
        return (predicted * held).sum(1)[:, None], predicted.square().sum(1)[:, None], offset

    def _seen(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What least squares sees of a training set, and where it is seen from."""
        return centre(rows) if self.fit_intercept else (rows, torch.zeros_like(rows[0]))

    def _mix(self, weights: torch.Tensor) -> torch.Tensor:
        return torch.einsum("b,bij->ij", weights, self.kernels)

    def _of_split(self, kernel: torch.Tensor, split: Split) -> tuple[torch.Tensor, torch.Tensor]:
        """Training kernel and held-out against training samples, with features as the training set sees them."""
        columns = kernel[..., split.train]
        training, cross = columns[..., split.train, :], columns[..., split.test, :]
        if not self.fit_intercept:
            return training, cross
        mean = training.mean(-2, keepdim=True)
        training = training - training.mean(-1, keepdim=True)
        grand = mean.mean(-1, keepdim=True)
        return (
            training - training.mean(-2, keepdim=True),
            cross - cross.mean(-1, keepdim=True) - mean + grand,
        )
