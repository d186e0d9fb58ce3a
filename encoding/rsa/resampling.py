"""Bootstrap over people, conditions or both: how far a mean score would be another with other people and stimuli."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.progress import track
from ..engine.reweighting import LINEAR, reweight
from ..engine.threads import spread
from ..significance import false_discovery_rate

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Resample = Literal["subjects", "conditions", "both"]
#: how the variance over resamples is brought to that over experiments
CORRECTIONS = {
    "both": "people alone and stimuli alone, with the same draws, to count their noise once",
    "subjects": "n / (n - 1) people",
    "conditions": "n / (n - 1) stimuli",
}
#: elements of resampled RDMs held at once
CHUNK = 1 << 22
#: a resample of fewer different conditions has too few pairs to compare, and is drawn anew
FEWEST = 3


def draw_counts(
    resample: Resample, n_samples: int, n_people: int, n_conditions: int, rng: np.random.Generator
) -> tuple[Counts, Counts]:
    """How often each person and each condition is drawn in every sample; once where it is not resampled."""
    people = np.ones((n_samples, n_people), dtype=np.int64)
    conditions = np.ones((n_samples, n_conditions), dtype=np.int64)
    if resample != "conditions":
        people = rng.multinomial(n_people, np.full(n_people, 1 / n_people), n_samples)
    if resample != "subjects":
        chances = np.full(n_conditions, 1 / n_conditions)
        conditions = rng.multinomial(n_conditions, chances, n_samples)
        while (few := ((conditions > 0).sum(axis=1) < FEWEST)).any():
            conditions[few] = rng.multinomial(n_conditions, chances, int(few.sum()))
    return people, conditions


def kinds_of(resample: Resample, people: Counts, conditions: Counts) -> list[tuple[Counts, Counts]]:
    """Draws of people and conditions that are evaluated: for both, also either alone with the same draws."""
    everyone, everything = np.ones_like(people), np.ones_like(conditions)
    if resample == "both":
        return [(people, conditions), (people, everything), (everyone, conditions)]
    return [(people, conditions)]


def evaluate_samples(
    models: torch.Tensor,
    data: torch.Tensor,
    pairs: torch.Tensor,
    method: str,
    ceiling: str,
    people: Counts,
    conditions: Counts,
    resample: Resample,
) -> Array:
    """Mean scores and noise ceilings of fixed models in every sample.

    Parameters
    ----------
    models, data
        ``(models, pairs)`` without missing ones and ``(people, pairs)``, NaN where missing.
    pairs
        ``(2, pairs)``: the conditions of each pair.
    method, ceiling
        As for :func:`~cerebridge.encoding.rsa.infer`.
    people, conditions
        From :func:`draw_counts`.
    resample
        What they were drawn for.

    Returns
    -------
    numpy.ndarray
        ``(kinds, samples, models + 2)``: models, then lower and upper ceiling, for each of :func:`kinds_of`.
    """
    sides = models, data, pairs, method, ceiling
    everyone, once = np.ones_like(people), np.ones_like(conditions[:1])
    if resample == "subjects":
        return _evaluate(*sides, once, people[None])
    if resample == "conditions":
        return _evaluate(*sides, conditions, everyone[None])
    # resamples of conditions serve the people drawn and all people
    both, of_conditions = _evaluate(*sides, conditions, np.stack([people, everyone]))
    return np.stack([both, *_evaluate(*sides, once, people[None]), of_conditions])


def _evaluate(
    models: torch.Tensor,
    data: torch.Tensor,
    pairs: torch.Tensor,
    method: str,
    ceiling: str,
    conditions: Counts,
    people: Counts,
) -> Array:
    """``(ways, samples, models + 2)`` for ``people`` ``(ways, samples, people)``; one row of conditions serves all."""
    where, m = data.device, len(models)
    n = people.shape[1]
    drawn, counts = (torch.as_tensor(x, device=where) for x in (conditions, people))
    patterns, groups = torch.unique(data.isfinite(), dim=0, return_inverse=True)
    common = patterns.all(dim=0)
    # ranks are held for every RDM, moments for all of them together
    held = data.shape[1] * (2 if method in LINEAR else m + len(data))
    step = max(1, CHUNK // (held * torch.get_num_threads())) if len(drawn) > 1 else n

    def evaluated(start: int) -> torch.Tensor:
        part = slice(start, start + step)
        some, who = (drawn[part] if len(drawn) > 1 else drawn), counts[:, part]
        scores = data.new_empty(len(some), m, len(data))
        if len(patterns) == 1:
            scores, *ceilings = reweight(
                models[:, common], data[:, common], pairs[:, common], some, who, method, ceiling
            )
            scores[_has_few(some, pairs[:, common])] = torch.nan
        else:
            for code, known in enumerate(patterns):
                rows = groups == code
                own = models[:, known], data[rows][:, known], pairs[:, known]
                mine = reweight(*own, some, who[:0, :, rows], method).scores
                mine[_has_few(some, own[2])] = torch.nan
                scores[:, :, rows] = mine
            ceilings = [scores.new_zeros(who.shape[:2])] * 2
            if common.sum() > 1:
                shared = models[:1, common], data[:, common], pairs[:, common]
                _, *ceilings = reweight(*shared, some, who, method, ceiling)
                ceilings = [side.masked_fill(_has_few(some, shared[2]), torch.nan) for side in ceilings]
        weights = who.to(scores) / who.sum(dim=-1, keepdim=True)
        # who was not drawn may have no score
        of_drawn = torch.where(who[:, :, None] > 0, scores, 0)
        return torch.cat([(of_drawn @ weights[..., None])[..., 0], torch.stack(ceilings, dim=-1)], dim=-1)

    starts = range(0, n, step)
    parts = track(spread(evaluated, starts, where), "resampling", len(starts))
    return torch.cat(list(parts), dim=1).cpu().numpy()


def _has_few(conditions: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """Whether fewer than two of these pairs are left where conditions occur so often: nothing can be compared."""
    counts = conditions.double()
    there = counts.new_zeros(counts.shape[1], counts.shape[1])
    there[pairs[0], pairs[1]] = 1
    return ((counts @ there) * counts).sum(dim=-1) < 2


def covariance_of(evaluations: Array) -> Array:
    """Covariance over the samples in which everything is defined: ``(kinds, samples, things)`` to one a kind."""
    known = np.isfinite(evaluations).all(axis=(0, 2))
    return np.stack([np.cov(kind[known], rowvar=False) for kind in evaluations])


def corrected_variance(variances: Array, resample: Resample, n_people: int, n_conditions: int) -> Array:
    """Variance of a mean score over other people, other conditions or both, from those of the bootstraps.

    One factor alone needs the n / (n - 1) of any bootstrap of a mean. The bootstrap over both counts the noise of
    people × conditions three times, each bootstrap over one of them once (Schütt et al., 2023, eLife); the result is
    kept between that of one factor and that of both.

    Parameters
    ----------
    variances
        ``(kinds, …)``: one, or those over both, over people and over conditions.
    """
    of_people, of_conditions = (n / (n - 1) if n > 1 else 1.0 for n in (n_people, n_conditions))
    if resample != "both":
        return np.asarray((of_people if resample == "subjects" else of_conditions) * variances[0])
    both, people, conditions = variances
    total = (
        of_people * people
        + of_conditions * conditions
        - of_people * of_conditions * (both - people - conditions)
    )
    total = np.maximum(np.maximum(total, of_people * people), of_conditions * conditions)
    return np.asarray(np.minimum(total, both))


def add_statistics(
    dataset: xr.Dataset,
    covariance: Array,
    samples: Array,
    resample: Resample,
    n_people: int,
    n_conditions: int,
) -> dict[str, Any]:
    """Add intervals and tests to scores, from the covariance of models and ceilings in each kind of resampling.

    Returns what an audit should say of the ``(kinds, samples, things)`` behind it.
    """
    from scipy.special import stdtr, stdtrit

    used = int(np.isfinite(samples).all(axis=(0, 2)).sum())
    if used < 2:
        raise ValueError(
            f"every similarity is defined in {used} of {samples.shape[1]} resamples, and their variance needs two; use "
            "more of them, or RDMs that lack fewer pairs."
        )
    sizes = {"subjects": [n_people], "conditions": [n_conditions]}.get(resample, [n_people, n_conditions])
    dof = min(sizes) - 1
    m = dataset.sizes["model"]
    own = np.einsum("kii->ki", covariance)
    apart = own[:, :, None] + own[:, None] - 2 * covariance
    variance, variance_apart = (
        np.maximum(corrected_variance(x, resample, n_people, n_conditions), np.finfo(float).eps)
        for x in (own, apart)
    )
    mean = dataset["score"].mean(("split", "unit")).values
    error = np.sqrt(variance[:m])
    reach = stdtrit(dof, 0.975)
    difference = mean[:, None] - mean
    p_pair = 2 * stdtr(dof, -np.abs(difference) / np.sqrt(variance_apart[:m, :m]))
    np.fill_diagonal(p_pair, 1.0)
    variables: dict[str, Any] = {
        "mean": ("model", mean),
        "mean_low": ("model", mean - reach * error),
        "mean_high": ("model", mean + reach * error),
        "standard_error": ("model", error),
        "p_zero": ("model", stdtr(dof, -mean / error)),
        "difference": (("model", "model_b"), difference),
        "p_pair": (("model", "model_b"), p_pair),
        "p_pair_fdr": (("model", "model_b"), _pairs_corrected(p_pair)),
        "covariance": (
            ("model", "model_b"),
            _covariance(variance[:m], variance_apart[:m, :m]),
        ),
    }
    if "ceiling" in dataset:
        level, spread = float(dataset["ceiling"].mean()), reach * np.sqrt(variance[m])
        variables |= {
            "p_ceiling": ("model", 2 * stdtr(dof, -np.abs(mean - level) / np.sqrt(variance_apart[:m, m]))),
            "ceiling_mean_low": ((), level - spread),
            "ceiling_mean_high": ((), level + spread),
        }
    dataset.update(variables)
    dataset.coords["model_b"] = dataset["model"].values
    dataset.attrs |= {"resample": resample, "n_resamples": samples.shape[1], "dof": dof}
    return {
        "resampled": f"{resample}: {n_people} people, {n_conditions} stimuli, {used} of {samples.shape[1]} samples "
        "in which every similarity is defined",
        "variance": f"corrected by {CORRECTIONS[resample]}; {dof} degrees of freedom",
    }


def _covariance(variance: Array, apart: Array) -> Array:
    """Covariance that agrees with the variances and with those of the differences."""
    joint = (variance[:, None] + variance - apart) / 2
    np.fill_diagonal(joint, variance)
    return joint


def _pairs_corrected(p: Array) -> Array:
    """Benjamini and Hochberg's p-values over the pairs of models."""
    out = np.ones_like(p)
    upper = np.triu_indices(len(p), 1)
    out[upper] = false_discovery_rate(p[upper])
    out.T[upper] = out[upper]
    return out
