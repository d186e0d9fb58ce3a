"""Fitted models scored on other stimuli and other people than they were fitted to."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.progress import track
from ..audit import fingerprint, versions
from ..parameters import whole_number
from ..results import Result
from .folds import (
    FEWEST_STIMULI,
    Folds,
    Material,
    Models,
    Sample,
    default_folds,
    draw_folds,
    evaluate,
    gather,
    pooled,
)
from .models import check_fitting
from .moments import is_linear, mean_scores
from .pairs import Indices, joined

Array = NDArray[np.float64]
#: numbers of people and of stimuli from which there are 3, 4 and 5 folds
PEOPLE, STIMULI = (6, 12, 20), (12, 24, 40)
#: share of different people or stimuli in a bootstrap sample
DISTINCT = 1 - math.exp(-1)
#: samples worked on at once
SAMPLES = 50


def crossvalidate(
    models: Models,
    data: xr.DataArray | Sequence[xr.DataArray],
    method: str = "cosine",
    *,
    subjects: int | None = None,
    conditions: int | None = None,
    repeats: int = 1,
    random_state: int | None = 0,
) -> Result:
    """Score models on stimuli and people that they were not fitted to.

    In every fold the models are fitted to the dissimilarities among the training stimuli of the training people, and
    scored on those among the test stimuli of the test people. Dissimilarities between a training and a test stimulus
    are used by neither.

    Parameters
    ----------
    models
        Mapping of name to a :class:`WeightedModel`, :class:`SelectionModel` or :class:`InterpolationModel`, or to an
        ``rdm × pair`` array of one RDM, which is not fitted; or an array, one fixed model an RDM.
    data
        ``rdm × pair``, one RDM a person, or a list of such arrays; stimuli are matched by their ids. RDMs of one
        ``subject``, where that is a coordinate along ``rdm``, are kept together.
    method
        How RDMs are compared and models fitted: see :meth:`WeightedModel.fit`.
    subjects
        Number of folds over people; 1 fits and tests on the same people. Default: 2 to 5 by their number, 1 for a
        single person.
    conditions
        Number of folds over stimuli, each of three at least; 1 fits and tests on the same stimuli. Default: 2 to 5 by
        their number.
    repeats
        How often folds are drawn anew.
    random_state
        Seeds them.

    Returns
    -------
    Result
        Units are the RDMs of ``data``, splits the folds over stimuli of each repeat: ``score`` is that of the one fold
        over people in which the RDM is tested, ``training_score`` what the models reach in that fold on the mean of
        what they were fitted to. ``ceiling`` is the similarity of each RDM with the pool of the training people on
        the same test stimuli (with one fold over people, of the other people), ``ceiling_upper`` that with the pool of
        all.

    Raises
    ------
    ValueError
        If there are too few people or stimuli for the folds, the models lack some stimuli, or a prediction is constant
        on the test stimuli.

    References
    ----------
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023). Statistical inference on representational geometries. eLife 12.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=20, n_units=30, random_state=0)
    >>> people = rsa.rdm(brain.assign_coords(subject=("neuroid", [0, 1, 2] * 10)), by="subject")
    >>> parts = rsa.rdm(brain.isel(neuroid=slice(5)), by="neuroid_id", metric="sqeuclidean")
    >>> rsa.crossvalidate({"mixture": rsa.WeightedModel(parts)}, people, conditions=2).score.shape
    (1, 2, 3)
    """
    started = time.perf_counter()
    data = joined(data, "data")
    check_fitting(method)
    material = gather(models, data, method)
    n_people, n_stimuli = _fold_numbers(material, subjects, conditions)
    repeats = whole_number(repeats, "repeats")
    rng = np.random.default_rng(random_state)
    sample, n_models = material.everything, len(material.names)
    pool = pooled(material, sample)
    found = np.empty((2 * n_models + 2, repeats, n_stimuli, len(material.data)))
    for repeat in track(range(repeats), "cross-validating models"):
        folds = draw_folds(material.groups, sample, n_people, n_stimuli, rng)
        for part in range(n_stimuli):
            scores = evaluate(material, sample, folds, part, pool, training=True).numpy()
            _check_scores(material, scores[:n_models], len(folds.stimuli[part][1]), data)
            found[:, repeat, part] = scores
    dataset = _dataset(material, found.reshape(len(found), repeats * n_stimuli, -1), data, repeats)
    dataset.attrs |= {
        "audit": _audit(material, data, n_people, n_stimuli, repeats),
        "provenance": {
            "models": {
                name: fingerprint(rows.numpy())
                for name, rows in zip(material.names, material.bases, strict=True)
            },
            "responses": fingerprint(data.values),
            "stimuli": fingerprint(data.coords["stimulus_a"].values, data.coords["stimulus_b"].values),
            "dtype": "float64",
            "device": "cpu",
            "random_state": random_state,
            "seconds": round(time.perf_counter() - started, 3),
            "versions": versions(),
        },
    }
    return Result(dataset)


def crossvalidate_samples(
    models: Models,
    data: xr.DataArray,
    method: str,
    people: NDArray[np.integer[Any]],
    stimuli: NDArray[np.integer[Any]],
    *,
    subjects: int | None = None,
    conditions: int | None = None,
    repeats: int = 2,
    random_state: int | None = 0,
) -> tuple[Array, Array]:
    """Cross-validate models within resampled people and stimuli; copies of one are never on both sides.

    Parameters
    ----------
    models, data, method, subjects, conditions, random_state
        As for :func:`crossvalidate`; default numbers of folds are those for the share of different people and stimuli
        in a bootstrap sample.
    people, stimuli
        How often each RDM and each stimulus (in order of first appearance) is drawn, ``(samples, n)``.
    repeats
        How often folds are drawn anew in each sample; two or more let :func:`corrected_covariance` take out what the
        choice of folds adds to the variance.

    Returns
    -------
    evaluations
        Mean over folds and people, ``(samples, models, repeats)``. NaN for samples with fewer different people than
        folds, fewer than three different stimuli a fold, or an undefined similarity.
    ceilings
        Lower and upper noise ceiling, ``(samples, 2, repeats)``.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> from cerebridge.encoding.rsa.crossvalidation import crossvalidate_samples
    >>> brain = neuro.simulate(n_stimuli=12, n_units=30, random_state=0)
    >>> data = rsa.rdm(brain.assign_coords(subject=("neuroid", [0, 1, 2] * 10)), by="subject")
    >>> once = np.ones((1, 3), int), np.ones((1, 12), int)
    >>> evaluations, ceilings = crossvalidate_samples({"all": rsa.rdm(brain)}, data, "cosine", *once)
    >>> evaluations.shape, ceilings.shape
    ((1, 1, 2), (1, 2, 2))
    """
    check_fitting(method)
    material = gather(models, data, method)
    n_people, n_stimuli = _fold_numbers(material, subjects, conditions, DISTINCT)
    rng = np.random.default_rng(random_state)
    found = np.full((len(people), repeats, len(material.names) + 2), np.nan)
    divided: list[list[tuple[Sample, Folds]]] = []
    where = []
    for k, counts in enumerate(
        zip(np.asarray(people, dtype=np.intp), np.asarray(stimuli, dtype=np.intp), strict=True)
    ):
        sample = _sample(*counts)
        n_groups = len(np.unique(material.groups[sample.people]))
        if n_groups >= n_people and np.count_nonzero(counts[1]) >= FEWEST_STIMULI * n_stimuli:
            where.append(k)
            draws = [draw_folds(material.groups, sample, n_people, n_stimuli, rng) for _ in range(repeats)]
            divided.append([(sample, folds) for folds in draws])
    for start in track(range(0, len(where), SAMPLES), "cross-validating samples"):
        some = [division for each in divided[start : start + SAMPLES] for division in each]
        scores = mean_scores(material, some) if is_linear(material) else _one_by_one(material, some)
        found[where[start : start + SAMPLES]] = scores.reshape(-1, repeats, scores.shape[-1])
    # a sample in which one of the similarities is undefined is out for all models, so that they stay comparable
    found[~np.isfinite(found).all(axis=(1, 2))] = np.nan
    found = found.swapaxes(1, 2)
    return found[:, :-2], found[:, -2:]


def corrected_covariance(values: Array) -> Array:
    """Covariance over samples without what the random choice of folds adds to it.

    Parameters
    ----------
    values
        ``(samples, things, repeats)``, two repeats at least; samples with NaN are left out.

    Returns
    -------
    numpy.ndarray
        ``(things, things)``: the covariance of means over infinitely many repeats, extrapolated from that of single
        repeats and that of means of all (Schütt et al., 2023, eLife). May be negative for few samples.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.rsa.crossvalidation import corrected_covariance
    >>> float(corrected_covariance(np.array([[[1.0, 1.0]], [[3.0, 3.0]]])))
    2.0
    """
    n = values.shape[-1]
    if n < 2:
        raise ValueError(f"there are {n} repeats of the folds; the correction needs at least two.")
    known = values[np.isfinite(values).all(axis=(1, 2))]
    of_means = np.cov(known.mean(axis=-1), rowvar=False)
    single = np.mean([np.cov(known[..., k], rowvar=False) for k in range(n)], axis=0)
    corrected: Array = (n * of_means - single) / (n - 1)
    return corrected


def _sample(people: Indices, stimuli: Indices) -> Sample:
    chosen = np.flatnonzero(people)
    return Sample(chosen, people[chosen], np.repeat(np.arange(len(stimuli)), stimuli))


def _one_by_one(material: Material, divisions: list[tuple[Sample, Folds]]) -> Array:
    """Mean of scores and ceilings over the test people, then over folds, of each division."""
    found = []
    for sample, folds in divisions:
        pool = pooled(material, sample)
        parts = [evaluate(material, sample, folds, part, pool) for part in range(len(folds.stimuli))]
        share = folds.test * sample.counts
        share = share / share.sum(axis=1, keepdims=True) / len(share)
        found.append(torch.stack(parts).mean(dim=0).numpy() @ share.sum(axis=0))
    return np.array(found)


def _fold_numbers(
    material: Material, subjects: int | None, conditions: int | None, share: float = 1.0
) -> tuple[int, int]:
    """Number of folds over people and over stimuli."""
    people, stimuli = len(np.unique(material.groups)), len(material.index)
    if subjects is None:
        subjects = 1 if people == 1 else default_folds(share * people, PEOPLE)
    if conditions is None:
        conditions = default_folds(share * stimuli, STIMULI)
    n_people, n_stimuli = whole_number(subjects, "subjects"), whole_number(conditions, "conditions")
    if n_people > people:
        raise ValueError(f"there are {people} people for {n_people} folds; use at most subjects={people}.")
    if stimuli < FEWEST_STIMULI * n_stimuli:
        raise ValueError(
            f"there are {stimuli} stimuli for {n_stimuli} folds of at least {FEWEST_STIMULI}; use at most "
            f"conditions={max(1, stimuli // FEWEST_STIMULI)}."
        )
    return n_people, n_stimuli


def _check_scores(material: Material, scores: Array, n_stimuli: int, data: xr.DataArray) -> None:
    undefined = np.argwhere(~np.isfinite(scores))
    if len(undefined):
        model, person = undefined[0]
        label = data.coords["neuroid_id"].values[person]
        raise ValueError(
            f"the similarity of model {material.names[model]!r} to {str(label)!r} is undefined on {n_stimuli} test "
            "stimuli, because one of them is constant there; use fewer folds over conditions, or method='rho-a'."
        )


def _dataset(material: Material, found: Array, data: xr.DataArray, repeats: int) -> xr.Dataset:
    """Scores, ceilings and labels; ``found`` holds models and ceilings × splits × RDMs."""
    n, n_stimuli = len(material.names), found.shape[1] // repeats
    dims = ("model", "split", "unit")
    units = {name: ("unit", c.values) for name, c in data.coords.items() if c.dims == ("rdm",)}
    dataset = xr.Dataset(
        {"score": (dims, found[:n]), "training_score": (dims, found[n + 2 :])},
        {
            "model": material.names,
            "split": np.arange(repeats * n_stimuli),
            "repeat": ("split", np.repeat(np.arange(repeats), n_stimuli)),
            "fold": ("split", np.tile(np.arange(n_stimuli), repeats)),
            **units,
            "unit": data.coords["neuroid_id"].values,
        },
        {"scoring": material.method, "chance": 0.0, "unit_kind": "rdm"},
    )
    if len(np.unique(material.groups)) < 2:
        return dataset.assign_attrs(no_ceiling="there is one person, so no noise ceiling over people")
    lower, upper = found[n : n + 2].mean(axis=1)
    dataset["ceiling"], dataset["ceiling_upper"] = ("unit", lower), ("unit", upper)
    dataset["normalised"] = dataset["score"] / xr.DataArray(np.where(lower > 0, lower, np.nan), dims="unit")
    return dataset


def _audit(
    material: Material, data: xr.DataArray, n_people: int, n_stimuli: int, repeats: int
) -> dict[str, Any]:
    same = [name for name, n in (("people", n_people), ("stimuli", n_stimuli)) if n == 1]
    values = material.data.numpy()
    return {
        "fitted_on": f"training stimuli of training people: {n_people} folds over {len(np.unique(material.groups))} "
        f"people × {n_stimuli} folds over {len(material.index)} stimuli, drawn {repeats} times",
        "overlap": f"fitted and tested on the same {' and '.join(same)}" if same else "none",
        "fixed_models": [n for n, m in zip(material.names, material.models, strict=True) if m is None],
        "models_among_data": [
            name
            for name, rows in zip(material.names, material.bases, strict=True)
            if any((values == row).all(axis=1).any() for row in rows.numpy())
        ],
        "missing_pairs": int(np.isnan(values).sum()),
        "ceiling": "of each RDM with the pool of the training people (ceiling) and of all (ceiling_upper), on the "
        "test stimuli",
    }
