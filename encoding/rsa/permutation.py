"""Chance by exchanging the stimuli of models: whether a model relates to RDMs at all."""

from __future__ import annotations

from typing import NamedTuple

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
CHUNK = 1 << 18
#: ways of comparing whose prepared form are vectors of pairs (and of conditions), which move with the stimuli
INNER = ("pearson", "spearman", "cosine", "rho-a", "whitened-pearson", "whitened-cosine")
MOVABLE = (*INNER, "tau-a", "tau-b")


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
    sides = [
        _Side.of(models, data[rows], rows, known, n_stimuli, method)
        for _, rows, known in known_together(models, data)
    ]
    step = max(1, CHUNK // data.shape[1])
    scores = np.empty((n, len(models), len(data)))
    for start in track(range(0, n, step), "permuting"):
        size = min(step, n - start)
        orders = rng.permuted(np.tile(np.arange(n_stimuli), (size, 1)), axis=1)
        # exchanges lie side by side, so that stimuli are looked up as rows
        order = torch.as_tensor(orders.T.copy(), device=models.device)
        for side in sides:
            scores[start : start + size, :, side.rows.cpu().numpy()] = side.scores(order).cpu().numpy()
    return scores


class _Side(NamedTuple):
    """People who lack the same pairs: prepared, and the models as matrices to be looked up in.

    Where nothing is lacking, models are prepared before they are exchanged, else for the pairs that are left after it.
    """

    models: torch.Tensor
    data: torch.Tensor
    rows: torch.Tensor
    known: torch.Tensor | None
    pairs: torch.Tensor
    method: str
    prepared: bool

    @classmethod
    def of(
        cls,
        models: torch.Tensor,
        data: torch.Tensor,
        rows: torch.Tensor,
        known: torch.Tensor | None,
        n: int,
        method: str,
    ) -> _Side:
        prepared = known is None and method in MOVABLE
        moved = prepare(models, method) if prepared else models
        ready = prepare(data if known is None else data[:, known], method, known=known)
        first, second = pairs = torch.triu_indices(n, n, 1, device=models.device)
        square = moved.new_zeros(*moved.shape[:-1], n, n)
        square[..., first, second] = square[..., second, first] = moved[..., : len(first)]
        if moved.shape[-1] > len(first):
            square.diagonal(dim1=-2, dim2=-1).copy_(moved[..., len(first) :])
            pairs = torch.cat([pairs, torch.arange(n, device=models.device).expand(2, -1)], dim=1)
        used = pairs if known is None else pairs[:, known]
        return cls(square.flatten(-2), ready, rows, known, used, method, prepared)

    def scores(self, order: torch.Tensor) -> torch.Tensor:
        """Exchanges × models × these people, for ``(stimuli, exchanges)``."""
        n, size = order.shape
        places = (order * n).index_select(0, self.pairs[0]) + order.index_select(0, self.pairs[1])
        found = []
        for model in self.models:
            moved = model.index_select(-1, places.flatten()).view(*model.shape[:-1], *places.shape)
            if self.prepared and self.method in INNER:
                found.append((self.data @ moved).T)
                continue
            each = moved.movedim(-1, 0)
            ready = each if self.prepared else prepare(each, self.method, known=self.known)
            found.append(similarities(ready, self.data, self.method).view(size, -1))
        return torch.stack(found, dim=1)


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
