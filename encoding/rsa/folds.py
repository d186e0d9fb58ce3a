"""Folds over people and stimuli at once: models are fitted on one part and scored on the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

from ..engine.mixtures import RANKED, scaled
from .models import MixtureModel, check_varying, in_order, row_similarities, values_of
from .pairs import Indices, check_rdms

Models = Mapping[str, Any] | xr.DataArray
#: a fold needs so many stimuli, so that there are three dissimilarities to compare
FEWEST_STIMULI = 3


@dataclass(frozen=True)
class Sample:
    """People and stimuli by number; those drawn several times stand there several times."""

    people: Indices
    stimuli: Indices


@dataclass(frozen=True)
class Fold:
    """What models are fitted on and scored on, and which part of the stimuli that is."""

    train: Sample
    test: Sample
    part: int


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
        return Sample(np.arange(len(self.data)), np.arange(len(self.index)))


def gather(models: Models, data: xr.DataArray, method: str) -> Material:
    """Bring models and people into one order of stimuli, or say why that is not possible."""
    stimuli, values = in_order(check_rdms(data, "data"), "data")
    mixers: list[MixtureModel | None] = []
    bases = []
    named = _named(models)
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
    groups = np.unique(labels, return_inverse=True)[1].reshape(-1)
    n = len(stimuli)
    index = np.zeros((n, n), dtype=np.intp)
    index[np.triu_indices(n, 1)] = np.arange(n * (n - 1) // 2)
    return Material(list(named), mixers, bases, rows, groups, index + index.T, method)


def default_folds(n: float, borders: tuple[int, int, int]) -> int:
    """2 to 5 folds, so many more as each holds enough (Schütt et al., 2023, eLife)."""
    return 2 + sum(n >= border for border in borders)


def folds(
    groups: Indices, sample: Sample, n_people: int, n_stimuli: int, rng: np.random.Generator
) -> Iterator[Fold]:
    """Random folds over the people and the stimuli of a sample; copies are never on both sides.

    With one fold the same are trained on and tested on.
    """
    stimuli = list(_parts(sample.stimuli, sample.stimuli, n_stimuli, rng))
    for people_train, people_test in _parts(sample.people, groups[sample.people], n_people, rng):
        for part, (train, test) in enumerate(stimuli):
            yield Fold(Sample(people_train, train), Sample(people_test, test), part)


def evaluate(material: Material, fold: Fold, pool: torch.Tensor, training: bool = False) -> torch.Tensor:
    """Scores on the test part of models fitted on the training part, and the noise ceilings there.

    Parameters
    ----------
    material, fold
        Where from.
    pool
        The pool of all people, one dissimilarity a pair: what the upper ceiling is the similarity with.
    training
        Whether the scores on the training part follow.

    Returns
    -------
    torch.Tensor
        ``(models + 2, test people)``: scores, lower and upper ceiling; with ``training`` the mean scores of the
        models on the training part as further rows. NaN where a similarity is undefined.
    """
    pairs, places = _pairs(material.index, fold.train.stimuli)
    seen = material.data[fold.train.people][:, pairs]
    weights = [
        _weights(model, rows[:, pairs], seen, material.method, places)
        for model, rows in zip(material.models, material.bases, strict=True)
    ]
    scores = []
    if training:
        fitted = _predictions(material, weights, pairs)
        found = _similarities(fitted, seen, material.method, places).mean(dim=1, keepdim=True)
        scores = [found.expand(-1, len(fold.test.people))]
    pairs, places = _pairs(material.index, fold.test.stimuli)
    test, others = (material.data[part.people][:, pairs] for part in (fold.test, fold.train))
    shown = torch.cat([_predictions(material, weights, pairs), pool[None, pairs]])
    found = _similarities(shown, test, material.method, places)
    lower = _lower_ceiling(material, fold, others, test, places)
    return torch.cat([found[:-1], lower, found[-1:], *scores])


def pooled(material: Material, sample: Sample) -> torch.Tensor:
    """The pool of a sample's people, scaled over its stimuli; NaN for pairs that are not in it."""
    pairs, places = _pairs(material.index, sample.stimuli)
    out = torch.full_like(material.data[0], torch.nan)
    out[pairs] = _scaled(material.data[sample.people][:, pairs], material.method, places).nanmean(dim=0)
    return out


def _named(models: Models) -> dict[str, Any]:
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


def _parts(
    drawn: Indices, groups: Indices, n: int, rng: np.random.Generator
) -> Iterator[tuple[Indices, Indices]]:
    """What is drawn, in training and test parts of whole groups."""
    if n == 1:
        yield drawn, drawn
        return
    for held_out in np.array_split(rng.permutation(np.unique(groups)), n):
        test = np.isin(groups, held_out)
        yield drawn[~test], drawn[test]


def _pairs(index: Indices, stimuli: Indices) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the pairs of different stimuli, and which two of the drawn ones each has."""
    places = np.stack(np.triu_indices(len(stimuli), 1))
    first, second = stimuli[places]
    different = first != second
    pairs = index[first[different], second[different]]
    return torch.as_tensor(pairs), torch.as_tensor(places[:, different])


def _weights(
    model: MixtureModel | None, bases: torch.Tensor, seen: torch.Tensor, method: str, places: torch.Tensor
) -> torch.Tensor:
    if model is None:
        return torch.ones(1, dtype=bases.dtype)
    known = bases.isfinite().all(dim=0) & seen.isfinite().all(dim=0)
    return model.mix(bases[:, known], seen[:, known], method, places[:, known])


def _predictions(material: Material, weights: list[torch.Tensor], pairs: torch.Tensor) -> torch.Tensor:
    return torch.stack([w @ rows[:, pairs] for w, rows in zip(weights, material.bases, strict=True)])


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
        return scaled(rows, method, places)
    out = torch.full_like(rows, torch.nan)
    for to, row, here in zip(out, rows, known, strict=True):
        n = int(here.sum())
        # as large on average, however many are known
        to[here] = scaled(row[None, here], method, places[:, here])[0] * (
            1 / (n + 1) if method in RANKED else n**0.5
        )
    return out


def _lower_ceiling(
    material: Material, fold: Fold, others: torch.Tensor, test: torch.Tensor, places: torch.Tensor
) -> torch.Tensor:
    """Similarity of each test person with the pool of the training people, never with itself."""
    rows = _scaled(others, material.method, places)
    mine, theirs = material.groups[fold.test.people], material.groups[fold.train.people]
    if not np.isin(mine, theirs).any():
        return _similarities(rows.nanmean(dim=0, keepdim=True), test, material.method, places)
    found = []
    for group, row in zip(mine, test, strict=True):
        rest = torch.as_tensor(theirs != group)
        if not bool(rest.any()):
            found.append(torch.full((1, 1), torch.nan, dtype=test.dtype))
            continue
        found.append(
            _similarities(rows[rest].nanmean(dim=0, keepdim=True), row[None], material.method, places)
        )
    return torch.cat(found, dim=1)
