"""Distributions of counts: the rate that a linear predictor means, its likelihood, and scores of predicted rates.

A likelihood enters a fit as ``potential(η) - y η``: the second term is linear, so that only sums over samples of
counts times features are ever needed of it, and the first is what every pass over the samples computes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch.nn.functional import softplus

Link = Literal["log", "softplus"]
PseudoR2 = Literal["pseudo_r2", "mcfadden"]

#: expected counts over all samples of a target that has none, so that its rate and likelihood stay finite
HALF = 0.5
#: largest rate that is predicted, so that likelihoods stay inside any number format
LARGEST = 1e30


class Family(ABC):
    """A distribution of counts and the link from its rate to a linear predictor."""

    #: whether the potential depends on the counts
    needs_counts = False
    #: largest possible rate
    most = float("inf")

    @abstractmethod
    def potential(self, predictor: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Negative log-likelihood plus ``counts * predictor``, constants left out, and its slope."""

    @abstractmethod
    def curvature(self, predictor: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Second derivative of the negative log-likelihood by the linear predictor."""

    @abstractmethod
    def inverse_link(self, predictor: torch.Tensor) -> torch.Tensor:
        """Rate of a linear predictor."""

    @abstractmethod
    def link(self, rate: torch.Tensor) -> torch.Tensor:
        """Linear predictor of a rate."""

    @abstractmethod
    def log_likelihood(self, counts: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """Logarithm of the probability of counts, element by element."""

    def rate(self, predictor: torch.Tensor) -> torch.Tensor:
        """Rate of a linear predictor, kept above 0 and inside the number format, so that its likelihood exists."""
        limits = torch.finfo(predictor.dtype)
        return self.inverse_link(predictor).clamp(limits.tiny, min(LARGEST, self.most - limits.eps))

    def at(self, columns: torch.Tensor) -> Family:
        """The family of some targets, by position."""
        return self


@dataclass(frozen=True)
class Poisson(Family):
    """Poisson counts; ``link="softplus"`` keeps rates from growing exponentially.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.counts import Poisson
    >>> Poisson().log_likelihood(torch.tensor(0.0), torch.tensor(2.0)).item()
    -2.0
    """

    to_rate: Link = "log"

    @property
    def needs_counts(self) -> bool:  # type: ignore[override]
        """Only the log link makes the counts enter linearly."""
        return self.to_rate != "log"

    def potential(self, predictor: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`Family.potential`."""
        if self.to_rate == "log":
            rate = predictor.exp()
            return rate, rate
        rate = softplus(predictor)
        slope = counts + torch.sigmoid(predictor) * (1 - counts / rate)
        return rate + counts * (predictor - rate.log()), slope

    def curvature(self, predictor: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.curvature`."""
        if self.to_rate == "log":
            return predictor.exp()
        rate, share = softplus(predictor), torch.sigmoid(predictor)
        return share * (1 - share) * (1 - counts / rate) + counts * (share / rate).square()

    def inverse_link(self, predictor: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.inverse_link`."""
        return predictor.exp() if self.to_rate == "log" else softplus(predictor)

    def link(self, rate: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.link`."""
        return rate.log() if self.to_rate == "log" else rate + torch.log(-torch.expm1(-rate))

    def log_likelihood(self, counts: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.log_likelihood`."""
        return torch.xlogy(counts, rate) - rate - torch.lgamma(counts + 1)


@dataclass(frozen=True)
class NegativeBinomial(Family):
    """Counts of variance ``rate + dispersion * rate²``; log link.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.counts import NegativeBinomial
    >>> family = NegativeBinomial(torch.tensor([1.0]))
    >>> family.log_likelihood(torch.tensor([0.0]), torch.tensor([3.0])).exp().tolist()
    [0.25]
    """

    dispersion: torch.Tensor
    needs_counts = True

    def potential(self, predictor: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`Family.potential`."""
        dispersion = self.dispersion.to(predictor.dtype)
        shifted, weight = predictor + dispersion.log(), counts + 1 / dispersion
        return weight * softplus(shifted), weight * torch.sigmoid(shifted)

    def curvature(self, predictor: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.curvature`."""
        dispersion = self.dispersion.to(predictor.dtype)
        share = torch.sigmoid(predictor + dispersion.log())
        return (counts + 1 / dispersion) * share * (1 - share)

    def inverse_link(self, predictor: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.inverse_link`."""
        return predictor.exp()

    def link(self, rate: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.link`."""
        return rate.log()

    def log_likelihood(self, counts: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.log_likelihood`."""
        size = 1 / self.dispersion
        scaled = self.dispersion * rate
        constants = torch.lgamma(counts + size) - torch.lgamma(size) - torch.lgamma(counts + 1)
        return constants + torch.xlogy(counts, scaled) - (counts + size) * torch.log1p(scaled)

    def at(self, columns: torch.Tensor) -> NegativeBinomial:
        """As :meth:`Family.at`."""
        return replace(self, dispersion=self.dispersion[columns])


@dataclass(frozen=True)
class Bernoulli(Family):
    """Bins with at most one count; logit link.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.counts import Bernoulli
    >>> Bernoulli().rate(torch.tensor(0.0)).item()
    0.5
    """

    most = 1.0

    def potential(self, predictor: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`Family.potential`."""
        return softplus(predictor), torch.sigmoid(predictor)

    def curvature(self, predictor: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.curvature`."""
        rate = torch.sigmoid(predictor)
        return rate * (1 - rate)

    def inverse_link(self, predictor: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.inverse_link`."""
        return torch.sigmoid(predictor)

    def link(self, rate: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.link`."""
        return torch.logit(rate)

    def log_likelihood(self, counts: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """As :meth:`Family.log_likelihood`."""
        return torch.xlogy(counts, rate) + torch.xlogy(1 - counts, 1 - rate)


def mean_rate(counts: torch.Tensor, most: float = float("inf")) -> torch.Tensor:
    """Mean count of each column, as if half a count were there (or missing) where none is (or every one).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.counts import mean_rate
    >>> mean_rate(torch.tensor([[0.0, 1.0], [0.0, 3.0]])).tolist()
    [0.25, 2.0]
    """
    least = HALF / len(counts)
    return counts.mean(0, dtype=torch.float64).clamp(least, most - least)


def poisson_deviance(truth: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """Mean Poisson deviance of each column: twice the log-likelihood that is missing to a perfect prediction.

    Parameters
    ----------
    truth, prediction
        Counts and predicted rates, ``(samples, columns)``.

    Returns
    -------
    torch.Tensor
        ``(columns,)``, 0 at best; infinite where a count was predicted to be impossible.

    Raises
    ------
    ValueError
        If a count or a rate is negative.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.counts import poisson_deviance
    >>> poisson_deviance(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [2.0]])).tolist()
    [3.0]
    """
    _require_rates(truth, prediction)
    truth, prediction = truth.double(), prediction.double()
    family = Poisson()
    missing = family.log_likelihood(truth, truth) - family.log_likelihood(truth, prediction)
    return 2 * missing.mean(0)


def pseudo_r2(
    truth: torch.Tensor,
    prediction: torch.Tensor,
    null: torch.Tensor | None = None,
    kind: PseudoR2 = "pseudo_r2",
) -> torch.Tensor:
    """Share of the Poisson deviance of each column that predicted rates explain.

    Parameters
    ----------
    truth, prediction
        Counts and predicted rates, ``(samples, columns)``.
    null
        Rates of the model that it is compared with, ``(columns,)``; default: mean counts of the truth.
    kind
        ``"pseudo_r2"``: ``1 - deviance / deviance of the null``. ``"mcfadden"``: the same of log-likelihoods.

    Returns
    -------
    torch.Tensor
        ``(columns,)``, at most 1; NaN where the truth does not vary and no null is given.

    References
    ----------
    McFadden (1974), Frontiers in Econometrics; Cameron & Windmeijer (1997), Journal of Econometrics 77.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.counts import pseudo_r2
    >>> truth = torch.tensor([[0.0, 3.0], [2.0, 3.0]])
    >>> pseudo_r2(truth, torch.tensor([[1.0, 3.0], [1.0, 3.0]]))
    tensor([0., nan], dtype=torch.float64)
    """
    _require_rates(truth, prediction)
    truth, prediction = truth.double(), prediction.double()
    varies = (truth != truth[0]).any(0) if null is None else torch.ones_like(truth[0], dtype=torch.bool)
    rates = (truth.mean(0) if null is None else null.double()).expand_as(truth)
    family = Poisson()
    model, null, saturated = (
        family.log_likelihood(truth, rate).sum(0) for rate in (prediction, rates, truth)
    )
    return torch.where(varies, explained(model, null, saturated, kind), torch.nan)


def explained(
    model: torch.Tensor, null: torch.Tensor, saturated: torch.Tensor, kind: PseudoR2
) -> torch.Tensor:
    """Pseudo-R² from summed log-likelihoods of a model, of its null model and of a perfect prediction.

    Raises
    ------
    ValueError
        If there is no such kind.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.counts import explained
    >>> explained(torch.tensor(-2.0), torch.tensor(-4.0), torch.tensor(-1.0), "mcfadden").item()
    0.5
    """
    if kind not in get_args(PseudoR2):
        raise ValueError(f"scoring={kind!r} is unknown; use {' or '.join(map(repr, get_args(PseudoR2)))}.")
    best = saturated if kind == "pseudo_r2" else torch.zeros_like(saturated)
    return 1 - (best - model) / (best - null)


def _require_rates(truth: torch.Tensor, prediction: torch.Tensor) -> None:
    for name, values in (("counts", truth), ("predicted rates", prediction)):
        wrong = (values < 0).any(0)
        if bool(wrong.any()):
            raise ValueError(
                f"{name} are negative in {int(wrong.sum())} of {wrong.numel()} columns, so that they have no "
                "likelihood; use counts, and an estimator that predicts rates, such as PoissonGLM."
            )
