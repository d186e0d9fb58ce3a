"""The search for band penalties: random candidates first, then the slope of the cross-validated score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from .banded import Bands
from .scoring import Scoring
from .spectral import choose

#: concentrations of the Dirichlet draws, in turns: sparse, uniform, even
CONCENTRATIONS = (0.1, 1.0, 10.0)
#: scores that differ by less are equal, as in :func:`~cerebridge.encoding.engine.spectral.choose`
TOLERANCE = torch.finfo(torch.float64).eps ** 0.75
#: and other devices or blocks of targets change them by less than this
SAME = 1e-6
#: a band that is off starts its climb at this share of the others' weight
FLOOR = 1e-3
#: first step of a climb, in units of log penalty; how it grows after success and shrinks after failure
STEP, GROW, SHRINK = 0.5, 1.6, 0.35


class Best(NamedTuple):
    """For every target the best score so far, the position of its candidate, and the penalty tried with it."""

    score: torch.Tensor
    candidate: torch.Tensor
    alpha: torch.Tensor


class Search(NamedTuple):
    """How a search went: score of every candidate, ``(candidates, targets)``, NaN where untried; the best of them."""

    scores: torch.Tensor
    best: Best


class Found(NamedTuple):
    """Where a search led for a block of targets.

    The ``search``; inverse penalties after polishing, ``(targets, bands)``, and their ``score``; ``coef``,
    ``(targets, features)``, and ``intercept``; whether somebody ended it.
    """

    search: Search
    deltas: torch.Tensor
    score: torch.Tensor
    coef: torch.Tensor
    intercept: torch.Tensor
    interrupted: bool


class Effort(NamedTuple):
    """How long to look: steps of the climb, targets that climb at a time, and when to stop."""

    steps: int
    at_once: int
    stop: Callable[[], bool]


def draw_candidates(n: int, n_bands: int, seed: int) -> torch.Tensor:
    """Band weights to try, ``(candidates, bands)``: equal weights, every band alone, then random ones.

    The first candidates of a longer draw are those of a shorter one.

    Examples
    --------
    >>> from cerebridge.encoding.engine.bandsearch import draw_candidates
    >>> draw_candidates(3, 2, seed=0).tolist()
    [[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]
    >>> bool((draw_candidates(9, 2, seed=0)[:6] == draw_candidates(6, 2, seed=0)).all())
    True
    """
    if n_bands == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    rng = np.random.default_rng(seed)
    fixed = [np.full(n_bands, 1 / n_bands), *np.eye(n_bands)]
    drawn = [
        rng.dirichlet(np.full(n_bands, CONCENTRATIONS[i % len(CONCENTRATIONS)]))
        for i in range(n - len(fixed))
    ]
    return torch.from_numpy(np.stack((fixed + drawn)[:n]))


def explore(
    bands: Bands,
    candidates: torch.Tensor,
    alphas: torch.Tensor,
    scoring: Scoring,
    effort: Effort,
    known: Search | None = None,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Found:
    """Try every candidate that was not tried yet, polish, and fit; stopped early, with the best so far.

    Parameters
    ----------
    bands
        With a block of targets loaded.
    candidates
        Band weights, ``(candidates, bands)``.
    alphas
        Penalties that each is tried with.
    scoring
        What is compared. Among equals the earlier candidate and the larger penalty are kept.
    effort
        How long to look. One candidate is always tried.
    known
        How the search for these targets went so far.
    track
        Draws progress over the candidates.

    Raises
    ------
    KeyboardInterrupt
        If nothing was tried before.
    ValueError
        If the first candidate has other scores than in the search that is continued.
    """
    n_targets = len(bands.truths[0].variation)
    scores = alphas.new_full((len(candidates), n_targets), torch.nan)
    best, interrupted = None, False
    if known is not None:
        require_same(attempt(bands, candidates[0], 0, alphas, scoring, None)[0], known.scores[0])
        scores[: len(known.scores)], best = known.scores, known.best
    untried = scores.isnan().all(1).nonzero()[:, 0].tolist()
    try:
        for number in track(untried):
            if best is not None and effort.stop():
                break
            scores[number], best = attempt(bands, candidates[number], number, alphas, scoring, best)
    except KeyboardInterrupt:
        if best is None:
            raise
        interrupted = True
    assert best is not None
    deltas, score = candidates[best.candidate] / best.alpha[:, None], best.score
    if candidates.shape[1] > 1 and effort.steps and not interrupted:
        deltas, score = polish(bands, deltas, score, scoring, effort)
    return Found(Search(scores, best), deltas, score, *fit_all(bands, deltas), interrupted)


def require_same(again: torch.Tensor, before: torch.Tensor) -> None:
    """Refuse to continue a search whose scores would not compare with new ones."""
    if not torch.allclose(again, before, rtol=0, atol=SAME, equal_nan=True):
        raise ValueError(
            "warm_start continues a search, but its first candidate has other scores now, so that data, cv, alphas or "
            "scoring are not the same; set warm_start=False to start anew."
        )


def attempt(
    bands: Bands,
    weights: torch.Tensor,
    number: int,
    alphas: torch.Tensor,
    scoring: Scoring,
    best: Best | None,
) -> tuple[torch.Tensor, Best]:
    """Score of every target with its best penalty under band weights, and the best so far."""
    table = bands.scores(weights, alphas, scoring)
    chosen = choose(table, alphas)
    score = table.gather(1, chosen[:, None])[:, 0]
    new = Best(score, torch.full_like(chosen, number), alphas[chosen])
    if best is None:
        return score, new
    better = score > best.score + TOLERANCE
    return score, Best(*(torch.where(better, *pair) for pair in zip(new, best, strict=True)))


def polish(
    bands: Bands,
    deltas: torch.Tensor,
    scores: torch.Tensor,
    scoring: Scoring,
    effort: Effort,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Climb the cross-validated score from where the search ended, every target by itself.

    Parameters
    ----------
    bands
        With the block of targets loaded.
    deltas
        Inverse penalties, ``(targets, bands)``.
    scores
        Their scores.
    scoring
        What is climbed.
    effort
        Each target that climbs takes a matrix of the order of the problem; whether to stop is asked before a step.

    Returns
    -------
    deltas, scores
        Of every target the better of what it had and what it reached.
    """
    deltas, scores = deltas.clone(), scores.clone()
    everyone = torch.arange(len(deltas), device=deltas.device)
    for start in range(0, len(deltas), effort.at_once):
        index = everyone[start : start + effort.at_once]
        if effort.stop():
            break
        reached, value = _climb(bands, deltas[index], index, scoring, effort)
        better = value > scores[index] + TOLERANCE
        deltas[index] = torch.where(better[:, None], reached, deltas[index])
        scores[index] = torch.where(better, value, scores[index])
    return deltas, scores


def _climb(
    bands: Bands,
    deltas: torch.Tensor,
    index: torch.Tensor,
    scoring: Scoring,
    effort: Effort,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps along the slope, each as long as the last success or failure suggests."""
    largest = 1 / bands.smallest
    position = torch.maximum(deltas, FLOOR * deltas.sum(1, keepdim=True))
    value, slope = bands.slope(position, index, scoring)
    step = torch.full_like(value, STEP)[:, None]
    for _ in range(effort.steps):
        if effort.stop():
            break
        direction = torch.nn.functional.normalize(slope.nan_to_num(nan=0.0))
        trial = (position * (step * direction).exp()).clamp(max=largest)
        trial_value, trial_slope = bands.slope(trial, index, scoring)
        better = (trial_value > value)[:, None]
        position, slope = torch.where(better, trial, position), torch.where(better, trial_slope, slope)
        value = torch.where(better[:, 0], trial_value, value)
        step = step * torch.where(better, GROW, SHRINK)
    return position, value


def fit_all(bands: Bands, deltas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients, ``(targets, features)``, and intercepts from all samples, with one decomposition for all
    targets of equal band weights.

    Parameters
    ----------
    bands
        With the block of targets loaded.
    deltas
        Inverse penalties, ``(targets, bands)``.
    """
    total = deltas.sum(1)
    weights, group = torch.unique(deltas / total[:, None], dim=0, return_inverse=True)
    coef = deltas.new_empty(len(deltas), bands.X.shape[1])
    intercept = torch.empty_like(total)
    for number, weight in enumerate(weights):
        index = (group == number).nonzero()[:, 0]
        coef[index], intercept[index] = bands.fit(weight, 1 / total[index], index)
    return coef, intercept


def of_targets(search: Search, block: slice) -> Search:
    """The part of a search that concerns a block of targets."""
    return Search(search.scores[:, block], Best(*(values[block] for values in search.best)))


def joined(parts: Sequence[Found]) -> Found:
    """What was found for several blocks of targets, as for one."""
    searches = [part.search for part in parts]
    best = Best(*(torch.cat(values) for values in zip(*(search.best for search in searches), strict=True)))
    return Found(
        Search(torch.cat([search.scores for search in searches], 1), best),
        torch.cat([part.deltas for part in parts]),
        torch.cat([part.score for part in parts]),
        torch.cat([part.coef for part in parts]),
        torch.cat([part.intercept for part in parts]),
        any(part.interrupted for part in parts),
    )
