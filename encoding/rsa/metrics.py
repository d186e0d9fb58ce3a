"""Measures of dissimilarity: what each needs, what it cannot take, and how patterns become dissimilarities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import quoted, validate
from ..containers import to_tensor
from ..engine import crossvalidated, divergence
from ..engine import dissimilarity as engine
from ..engine.covariance import inverse_root
from ..engine.discrimination import pairwise_accuracy
from .noise import given_noise, residual_covariance
from .patterns import Design, Groups, check_finite, check_repeated, check_runs
from .preparation import precision

Array = NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """A measure and what it takes.

    Attributes
    ----------
    function
        From patterns to dissimilarities, on tensors.
    of
        Patterns it takes: the mean of each stimulus, the mean in each run, or single presentations.
    noise
        Whether patterns are whitened first.
    rates
        Whether patterns are rates or shares, which cannot be negative.
    units
        Of the dissimilarities: ``"1"``, or those of the array, plain or squared.
    """

    function: Callable[..., torch.Tensor]
    of: Literal["means", "runs", "presentations"] = "means"
    noise: Literal["optional", "needed", "none"] = "optional"
    rates: Literal["", "poisson", "shares"] = ""
    units: Literal["1", "plain", "squared"] = "1"


def _contrast(means: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return engine.crossnobis(means, counts) * means.shape[-1]


METRICS: dict[str, Metric] = {
    "correlation": Metric(engine.correlation),
    "cosine": Metric(engine.cosine),
    "euclidean": Metric(engine.euclidean, units="plain"),
    "sqeuclidean": Metric(engine.sqeuclidean, units="squared"),
    "mahalanobis": Metric(engine.euclidean, noise="needed"),
    "crossnobis": Metric(engine.crossnobis, of="runs", units="squared"),
    "ldc": Metric(_contrast, of="runs", units="squared"),
    "ldt": Metric(crossvalidated.discriminant_t, of="runs", noise="needed"),
    "poisson": Metric(divergence.poisson, noise="none", rates="poisson"),
    "poisson-cv": Metric(crossvalidated.poisson, of="runs", noise="none", rates="poisson"),
    "jensen-shannon": Metric(divergence.jensen_shannon, noise="none", rates="shares"),
    "decoding": Metric(pairwise_accuracy, of="presentations"),
}
#: numbers of patterns and of Gram matrices held at once: the processor's cache, or enough to fill a GPU
CHUNK = {"cpu": 1 << 19, "cuda": 1 << 26}


def check_request(array: xr.DataArray, metric: str, noise: Any, cv: str, prior: tuple[float, float]) -> None:
    """Refuse what no array can give."""
    if validate(array).dims[0] != "presentation":
        raise ValueError(
            f"dissimilarities are between presentations, and the array is {' × '.join(map(str, array.dims))}; "
            "cut a recording into trials first."
        )
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r} is unknown; use {', '.join(map(repr, METRICS))}.")
    how = METRICS[metric]
    if how.noise == "needed" and noise is None:
        raise ValueError(f"metric={metric!r} needs noise=: a covariance, variances, or 'residual'.")
    if how.noise == "none" and noise is not None:
        raise ValueError(f"metric={metric!r} is of patterns as they are; leave noise= out.")
    if isinstance(noise, str) and noise != "residual":
        raise ValueError(
            f"noise={noise!r} is unknown; use 'residual', a covariance (units × units) or variances."
        )
    if how.of != "means":
        check_runs(array, cv, metric)
    if how.rates == "poisson" and not (prior[0] > 0 and prior[1] >= 0):
        raise ValueError(f"prior={prior!r} must be a positive rate and a weight that is not negative.")


@dataclass(frozen=True)
class Calculation:
    """Dissimilarities of groups of units of one array."""

    array: xr.DataArray
    groups: Groups
    metric: str
    noise: Any
    cv: str
    prior: tuple[float, float]

    def dissimilarities(self, values: torch.Tensor, design: Design, chosen: list[int]) -> torch.Tensor:
        """``(groups, time bins, pairs)`` of ``(groups, time bins, presentations, units)``.

        Parameters
        ----------
        values
            Of the groups ``chosen``; all with the same stimuli.
        """
        how, label = METRICS[self.metric], self._label(chosen[0])
        if len(design.stimuli) < 2:
            raise ValueError(
                f"{label!r} has one stimulus, {quoted(design.stimuli[0])}; a dissimilarity needs two."
            )
        if how.of != "means":
            check_repeated(design, self.cv, self.metric)
        noise = self._noise(values, design, chosen)
        if how.of != "means" or (noise is not None and noise.ndim == 4):
            self._check_finite(values, design.stimuli[design.codes], chosen)
        parts = []
        for part in values.split(self._step(design, values), dim=1):
            if noise is not None and noise.ndim == 4:
                part = _whitened_by_run(part, design, noise)
            white = None if noise is None or noise.ndim == 4 else noise
            if how.of == "presentations":
                parts.append(self._accuracies(part, design, white, label))
                continue
            means = design.means(part) if how.of == "runs" else design.pooled.means(part)[..., 0, :]
            parts.append(self._of_means(means, design, white, chosen))
        return torch.cat(parts, dim=1)

    def n_numbers(self, design: Design, n_units: int) -> int:
        """How many numbers one group and time bin holds at once."""
        n = len(design.stimuli)
        squares = n * n * (len(design.runs) if self.metric == "ldt" else 1)
        return max(squares, len(design.codes) * n_units)

    def _step(self, design: Design, values: torch.Tensor) -> int:
        numbers = len(values) * self.n_numbers(design, values.shape[-1])
        return max(1, CHUNK.get(values.device.type, 1 << 24) // numbers)

    def _label(self, group: int) -> str:
        return str(self.groups.table["neuroid_id"][group])

    def _units(self, group: int) -> Array:
        return np.asarray(self.array.coords["neuroid_id"].values[self.groups.units[group]])

    def _noise(self, values: torch.Tensor, design: Design, chosen: list[int]) -> torch.Tensor | None:
        """Covariances ``(groups, units, units)``, for each run ``(groups, runs, units, units)``, or variances."""
        residual = isinstance(self.noise, str)
        if self.noise is None or (residual and METRICS[self.metric].of == "presentations"):
            return None
        if residual:
            self._check_finite(values, design.stimuli[design.codes], chosen)
            return residual_covariance(
                values, design, [self._label(k) for k in chosen], [self._units(k) for k in chosen]
            )
        parts = [
            given_noise(self.noise, self.array, self.groups.units[k], self._label(k), design.runs)
            for k in chosen
        ]
        return torch.stack([to_tensor(part, values.device, precision(values.device)) for part in parts])

    def _of_means(
        self, means: torch.Tensor, design: Design, noise: torch.Tensor | None, chosen: list[int]
    ) -> torch.Tensor:
        how = METRICS[self.metric]
        if how.of == "means":
            self._check_finite(means, design.stimuli, chosen)
        if how.rates:
            self._check_rates(means, design, chosen)
        if how.rates == "poisson":
            rate, weight = self.prior
            means = (means + rate * weight) / (1 + weight)
        white = means if noise is None else _whitened(means, noise)
        if how.of == "runs":
            found = how.function(white, torch.as_tensor(design.counts, device=means.device))
        else:
            found = how.function(white)
        self._check_defined(found, white, design, chosen)
        return found

    def _accuracies(
        self, values: torch.Tensor, design: Design, noise: torch.Tensor | None, label: str
    ) -> torch.Tensor:
        codes, folds = (torch.as_tensor(x, device=values.device) for x in (design.codes, design.folds))
        try:
            return pairwise_accuracy(values, codes, folds, noise)
        except ValueError as error:
            if noise is not None:
                raise ValueError(_singular(noise)) from None
            raise ValueError(
                f"metric='decoding' of {label!r}: {error}; give noise=, for example of residuals."
            ) from None

    def _check_finite(self, values: torch.Tensor, stimuli: Array, chosen: list[int]) -> None:
        if not bool(values.sum().isfinite()):
            for part, group in zip(values, chosen, strict=True):
                check_finite(part, self._label(group), stimuli, self._units(group))

    def _check_rates(self, means: torch.Tensor, design: Design, chosen: list[int]) -> None:
        negative = (means < 0).flatten(1).any(dim=1)
        if bool(negative.any()):
            label = self._label(chosen[int(negative.nonzero()[0, 0])])
            raise ValueError(
                f"{label!r} has negative values, and metric={self.metric!r} is of rates; give counts or rates."
            )
        empty = means.sum(dim=-1) <= 0
        if METRICS[self.metric].rates == "shares" and bool(empty.any()):
            group, _, row = (int(k) for k in empty.nonzero()[0])
            raise ValueError(
                f"the pattern of stimulus {quoted(design.stimuli[row])} is zero over the units of "
                f"{self._label(chosen[group])!r}, so metric={self.metric!r} is undefined; leave the stimulus out."
            )

    def _check_defined(
        self, found: torch.Tensor, patterns: torch.Tensor, design: Design, chosen: list[int]
    ) -> None:
        if not bool(found.sum().isnan()):
            return
        group, time, pair = (int(k) for k in found.isnan().nonzero()[0])
        label = self._label(chosen[group])
        a, b = (design.stimuli[k[pair]] for k in np.triu_indices(len(design.stimuli), 1))
        if METRICS[self.metric].of == "runs":
            raise ValueError(
                f"stimuli {quoted(a)} and {quoted(b)} of {label!r} never occur in the same {self.cv}; "
                f"{self.metric} needs one that holds both."
            )
        here = patterns[group, time]
        size = here.abs().amax(dim=-1)
        flatness = (
            size
            if self.metric == "cosine"
            else (here.amax(dim=-1) - here.amin(dim=-1)) / size.where(size > 0, 1)
        )
        kind = "zero" if self.metric == "cosine" else "constant"
        raise ValueError(
            f"the pattern of stimulus {quoted(design.stimuli[int(flatness.argmin())])} is {kind} over the "
            f"{here.shape[-1]} units of {label!r}, so metric={self.metric!r} is undefined; leave the stimulus out or "
            "use metric='euclidean'."
        )


def units_of(units: str, metric: str, whitened: bool) -> str:
    """Unit of measurement of dissimilarities of an array in ``units``."""
    kind = METRICS[metric].units
    if kind == "1" or whitened:
        return "1"
    return units if kind == "plain" else f"({units})^2"


def _whitened(patterns: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    if noise.ndim == 2:
        middle = (slice(None), *[None] * (patterns.ndim - 2))
        return patterns / noise.sqrt().to(patterns.dtype)[middle]
    try:
        return engine.whiten(patterns, noise)
    except ValueError:
        raise ValueError(_singular(noise)) from None


def _whitened_by_run(values: torch.Tensor, design: Design, noise: torch.Tensor) -> torch.Tensor:
    """Presentations whitened by the noise of their own run."""
    try:
        roots = inverse_root(noise).to(values.dtype)
    except ValueError:
        raise ValueError(_singular(noise)) from None
    out = torch.empty_like(values)
    for run in range(len(design.runs)):
        rows = torch.as_tensor(np.flatnonzero(design.folds == run), device=values.device)
        out[..., rows, :] = values[..., rows, :] @ roots[:, run, None]
    return out


def _singular(noise: torch.Tensor) -> str:
    return (
        f"the noise covariance of {noise.shape[-1]} units is singular; shrink it, e.g. by rsa.noise_covariance, or "
        "give variances only."
    )
