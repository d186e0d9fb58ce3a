"""Folds over people and stimuli at once: models are fitted on one part and scored on the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ..engine.mixtures import RANKED, scaled
from .models import MixtureModel, check_varying, in_order, row_similarities, values_of
from .pairs import Indices, check_rdms

Models = Mapping[str, Any] | xr.DataArray
#: a fold needs so many stimuli, so that there are three dissimilarities to compare
FEWEST_STIMULI = 3


@dataclass(frozen=True)
class Sample:
    """Different people by number and how often each is drawn; stimuli by number, as often as they are drawn."""

    people: Indices
    counts: Indices
    stimuli: Indices


@dataclass(frozen=True)
class Folds:
    """One random division of people (``(folds, people)``, whom to fit on and whom to test) and of stimuli."""

    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    stimuli: list[tuple[Indices, Indices]]

    @property
    def of_person(self) -> Indices:
        """The fold in which each of the people is tested."""
        return self.test.argmax(axis=0)


@dataclass(frozen=True)
class Material:
    """Models and people in one order of stimuli, pairs in the order of ``numpy.triu_indices``.

    ``bases`` holds the RDMs of each model, one a row; ``models`` what mixes them, ``None`` for a fixed model.
    ``groups`` says which RDMs are of one person.
    """

    names: list[str]
    models: list[MixtureModel | None]
    bases: list[torch.Tensor]
    data: torch.Tensor
    groups: Indices
    index: Indices
    method: str

    @property
    def everything(self) -> Sample:
        """All people and all stimuli, once each."""
        people = np.arange(len(self.data))
        return Sample(people, np.ones_like(people), np.arange(len(self.index)))


def gather(models: Models, data: xr.DataArray, method: str) -> Material:
    """Bring models and people into one order of stimuli, or say why that is not possible."""
    stimuli, values = in_order(check_rdms(data, "data"), "data")
    mixers: list[MixtureModel | None] = []
    bases = []
    named = named_models(models)
    for name, model in named.items():
        which = f"model {name!r}"
        fitted = isinstance(model, MixtureModel)
        rdms = model.checked_rdms(which) if fitted else check_rdms(model, which)
        if not fitted and rdms.sizes["rdm"] != 1:
            raise ValueError(
                f"{which} has {rdms.sizes['rdm']} RDMs; wrap them in a WeightedModel, SelectionModel or "
                "InterpolationModel, or give each a name."
            )
        mixers.append(model if fitted else None)
        rows = torch.as_tensor(values_of(rdms, stimuli, which))
        check_varying(rows, method, rdms.coords["neuroid_id"].values, which)
        bases.append(rows)
    rows = torch.as_tensor(values)
    check_varying(rows, method, data.coords["neuroid_id"].values, "data")
    people = data.coords["subject"] if "subject" in data.coords else data.coords["neuroid_id"]
    labels = people.values if people.dims == ("rdm",) else np.arange(len(values))
    groups = pd.factorize(labels)[0]
    n = len(stimuli)
    index = np.zeros((n, n), dtype=np.intp)
    index[np.triu_indices(n, 1)] = np.arange(n * (n - 1) // 2)
    return Material(list(named), mixers, bases, rows, groups, index + index.T, method)


def default_folds(n: float, borders: tuple[int, int, int]) -> int:
    """2 to 5 folds, so many more as each holds enough (Schütt et al., 2023, eLife)."""
    return 2 + sum(n >= border for border in borders)


def draw_folds(
    groups: Indices, sample: Sample, n_people: int, n_stimuli: int, rng: np.random.Generator
) -> Folds:
    """Random folds over the people and the stimuli of a sample; copies are never on both sides.

    With one fold the same are trained on and tested on.
    """
    stimuli = _held_out(sample.stimuli, n_stimuli, rng)
    people = _held_out(groups[sample.people], n_people, rng)
    divided = [(sample.stimuli[~test], sample.stimuli[test]) for test in stimuli]
    if n_stimuli == 1:
        divided = [(sample.stimuli, sample.stimuli)]
    return Folds(~people if n_people > 1 else people, people, divided)


def evaluate(
    material: Material, sample: Sample, folds: Folds, part: int, pool: torch.Tensor, training: bool = False
) -> torch.Tensor:
    """Scores on one test part of the stimuli, of models fitted on the other stimuli and other people.

    Parameters
    ----------
    material, sample, folds, part
        Where from, and which part of the stimuli is tested.
    pool
        The pool of all people, one dissimilarity a pair: what the upper ceiling is the similarity with.
    training
        Whether the scores on the training part follow.

    Returns
    -------
    torch.Tensor
        ``(models + 2, people)``: scores, lower and upper ceiling; with ``training`` the mean scores of the models on
        what they were fitted to as further rows. NaN where a similarity is undefined.
    """
    fitted_on, tested_on = folds.stimuli[part]
    counts = torch.as_tensor(folds.train * sample.counts, dtype=torch.float64)
    share = counts / counts.sum(dim=1, keepdim=True)
    pairs, places = _pairs(material.index, fitted_on)
    seen = material.data[sample.people][:, pairs]
    weights = [
        _weights(model, rows[:, pairs], seen, share, material.method, places)
        for model, rows in zip(material.models, material.bases, strict=True)
    ]
    mine = torch.as_tensor(folds.of_person)
    further = []
    if training:
        found = _similarities(_predictions(material, weights, pairs), seen, material.method, places)
        further = [(found.view(-1, *share.shape) * share).sum(dim=-1)[:, mine]]
    pairs, places = _pairs(material.index, tested_on)
    test = material.data[sample.people][:, pairs]
    shown = torch.cat([_predictions(material, weights, pairs), pool[None, pairs]])
    found = _similarities(shown, test, material.method, places)
    scores = found[:-1].view(-1, *share.shape)[:, mine, torch.arange(len(mine))]
    lower = _lower_ceiling(material.groups[sample.people], counts[mine], test, material.method, places)
    return torch.cat([scores, lower[None], found[-1:], *further])


def pooled(material: Material, sample: Sample) -> torch.Tensor:
    """The pool of a sample's people, scaled over its stimuli; NaN for pairs that are not in it."""
    pairs, places = _pairs(material.index, sample.stimuli)
    rows = _scaled(material.data[sample.people][:, pairs], material.method, places)
    out = torch.full_like(material.data[0], torch.nan)
    out[pairs] = _mean_of_rows(torch.as_tensor(sample.counts)[None], rows)[0]
    return out


def named_models(models: Models) -> dict[str, Any]:
    """Models by name, each an array of one RDM or a model to be fitted."""
    if isinstance(models, xr.DataArray):
        labels = check_rdms(models, "models").coords["neuroid_id"].values
        return {str(label): models.isel(rdm=[k]) for k, label in enumerate(labels)}
    if not isinstance(models, Mapping):
        raise TypeError(
            f"models is a {type(models).__name__}; give a mapping of name to RDM or model, or an array rdm × pair."
        )
    if not models:
        raise ValueError("models is empty; give at least one model.")
    return {str(name): model for name, model in models.items()}


def _held_out(labels: Indices, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which are tested in each of the folds, ``(folds, labels)``; equal labels together."""
    parts = np.array_split(rng.permutation(np.unique(labels)), n)
    return np.stack([np.isin(labels, part) for part in parts])


def _pairs(index: Indices, stimuli: Indices) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the pairs of different stimuli, and which two of the drawn ones each has."""
    places = np.stack(np.triu_indices(len(stimuli), 1))
    first, second = stimuli[places]
    different = first != second
    pairs = index[first[different], second[different]]
    return torch.as_tensor(pairs), torch.as_tensor(places[:, different])


def _weights(
    model: MixtureModel | None,
    bases: torch.Tensor,
    seen: torch.Tensor,
    share: torch.Tensor,
    method: str,
    places: torch.Tensor,
) -> torch.Tensor:
    """Weights of a model's RDMs in every fold over people."""
    if model is None:
        return torch.ones(len(share), 1, dtype=bases.dtype)
    known = bases.isfinite().all(dim=0) & seen.isfinite().all(dim=0)
    return model.mix(bases[:, known], seen[:, known], share, method, places[:, known])


def _predictions(material: Material, weights: list[torch.Tensor], pairs: torch.Tensor) -> torch.Tensor:
    """What each model predicts in every fold over people, ``(models * folds, pairs)``."""
    return torch.cat([w @ rows[:, pairs] for w, rows in zip(weights, material.bases, strict=True)])


def _similarities(a: torch.Tensor, b: torch.Tensor, method: str, places: torch.Tensor) -> torch.Tensor:
    """Similarity of every row of ``a`` to every row of ``b``, over the pairs known to that row and to all of ``a``."""
    known = a.isfinite().all(dim=0) & b.isfinite()
    if bool(known.all()):
        return row_similarities(a, b, method, places)
    columns = [
        row_similarities(a[:, here], row[None, here], method, places[:, here])
        for row, here in zip(b, known, strict=True)
    ]
    return torch.cat(columns, dim=1)


def _scaled(rows: torch.Tensor, method: str, places: torch.Tensor) -> torch.Tensor:
    """Each row on the scale of its known pairs; missing ones stay missing."""
    known = rows.isfinite()
    if bool(known.all()):
        return scaled(rows, places, method)
    out = torch.full_like(rows, torch.nan)
    for to, row, here in zip(out, rows, known, strict=True):
        n = int(here.sum())
        # as large on average, however many are known
        to[here] = scaled(row[None, here], places[:, here], method)[0] * (
            1 / (n + 1) if method in RANKED else n**0.5
        )
    return out


def _mean_of_rows(weights: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Weighted means of what is known of the rows, NaN where nothing is."""
    known = rows.isfinite().to(rows)
    return (weights.to(rows) @ rows.nan_to_num()) / (weights.to(rows) @ known)


def _lower_ceiling(
    groups: Indices, counts: torch.Tensor, test: torch.Tensor, method: str, places: torch.Tensor
) -> torch.Tensor:
    """Similarity of each person with the pool of its training people (a row of ``counts``), never with itself."""
    counts = counts * torch.as_tensor(groups[:, None] != groups)
    if bool((counts.sum(dim=1) == 0).any()):
        return torch.full_like(test[:, 0], torch.nan)
    # whole numbers, so that equal means of ranks stay equal
    different, mine = counts.unique(dim=0, return_inverse=True)
    found = _similarities(_mean_of_rows(different, _scaled(test, method, places)), test, method, places)
    return found[mine, torch.arange(len(test))]
