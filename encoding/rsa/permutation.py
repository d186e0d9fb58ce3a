"""Chance by exchanging the stimuli of models: whether a model relates to RDMs at all."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.progress import track
from ..engine.similarity import prepare, similarities
from ..significance import p_values
from .preparation import known_together

Array = NDArray[np.float64]
#: dissimilarities of permuted models held at once
CHUNK = 1 << 20
#: ways of comparing whose prepared form holds pairs (and then conditions), which move with the stimuli
MOVABLE = (
    "pearson",
    "spearman",
    "cosine",
    "tau-a",
    "tau-b",
    "rho-a",
    "whitened-pearson",
    "whitened-cosine",
)


def null_scores(
    models: torch.Tensor,
    data: torch.Tensor,
    n_stimuli: int,
    method: str,
    n: int,
    random_state: int | None,
) -> Array:
    """Scores after exchanging the models' stimuli, the same exchanges for all models and people.

    Parameters
    ----------
    models, data
        ``(models, pairs)`` without missing pairs and ``(people, pairs)``, NaN where missing; pairs in the order of
        ``numpy.triu_indices``.
    n_stimuli
        Stimuli of which there are these pairs.
    method
        How RDMs are compared.
    n, random_state
        How many exchanges, and their seed.

    Returns
    -------
    numpy.ndarray
        ``(n, models, people)``. NaN where an exchanged model is constant over the pairs that a person has.
    """
    rng = np.random.default_rng(random_state)
    where = models.device
    first, second = torch.triu_indices(n_stimuli, n_stimuli, 1, device=where)
    place = torch.zeros(n_stimuli, n_stimuli, dtype=torch.int64, device=where)
    place[first, second] = place[second, first] = torch.arange(len(first), device=where)
    sides = []
    for _, rows, known in known_together(models, data):
        whole = known is None and method in MOVABLE
        mine = data[rows] if known is None else data[rows][:, known]
        still = prepare(models, method) if whole else models
        sides.append((rows, known, whole, still, prepare(mine, method, known=known)))
    step = max(1, CHUNK // models.numel())
    scores = np.empty((n, len(models), len(data)))
    for start in track(range(0, n, step), "permuting"):
        size = min(step, n - start)
        orders = rng.permuted(np.tile(np.arange(n_stimuli), (size, 1)), axis=1)
        order = torch.as_tensor(orders, device=where)
        moved_pairs = place.view(-1)[order[:, first] * n_stimuli + order[:, second]]
        for rows, known, whole, still, mine in sides:
            taken = moved_pairs if known is None else moved_pairs[:, known]
            if still.shape[-1] > len(first):
                taken = torch.cat([taken, order + len(first)], dim=1)
            # models (× ways of breaking ties) × permutations × pairs -> permutations × models (× ways) × pairs
            moved = still[..., taken].movedim(-2, 0).flatten(0, 1)
            ready = moved if whole else prepare(moved, method, known=known)
            found = similarities(ready, mine, method).view(size, len(models), -1)
            scores[start : start + size, :, rows.cpu().numpy()] = found.cpu().numpy()
    return scores


def add_significance(dataset: xr.Dataset, score: Array, null: Array) -> None:
    """Add p-values of models × people, and of each model's mean over people, from scores by chance."""
    columns: dict[str, list[Array]] = {"p": [], "p_fdr": [], "p_max": []}
    for k in range(len(score)):
        for key, values in p_values(score[k], null[:, k]).items():
            columns[key].append(values)
    for key, rows in columns.items():
        dataset[key] = (("model", "unit"), np.array(rows))
    group = p_values(score.mean(axis=1), null.mean(axis=2))["p"]
    dataset["p_group"] = ("model", group)
