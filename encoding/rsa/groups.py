"""Two groups of people compared: how well models do in each, and whether their RDMs differ."""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import assemble, quoted
from ..engine.reweighting import METHODS as REWEIGHTED
from ..engine.reweighting import reweight
from ..parameters import whole_number
from ..significance import false_discovery_rate
from .comparison import compare
from .crossvalidation import crossvalidate
from .folds import Models, named_models
from .models import MixtureModel, in_order, values_of
from .pairs import check_rdms
from .preparation import check_method, matched

Array = NDArray[np.float64]
NAMES = ("first", "second")
#: samples of conditions worked on at once
SAMPLES = 64


def compare_groups(
    models: Models,
    first: xr.DataArray,
    second: xr.DataArray,
    method: str = "rho-a",
    *,
    resample: Literal["subjects", "both"] = "subjects",
    permutations: int = 10_000,
    n_resamples: int = 1000,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Whether two groups of people differ: in how well models explain them, and in their RDMs.

    Group labels are exchanged between people, for all models at once; people are independent, conditions are the same
    for all.

    Parameters
    ----------
    models
        Mapping of name to RDM (``rdm × pair`` of one RDM) or to a model to be fitted, or an array, one model an RDM.
        Models to be fitted are cross-validated over the people of both groups together, see :func:`crossvalidate`.
    first, second
        ``rdm × pair``, one RDM a person, of the same stimuli. RDMs of one ``subject``, where that is a coordinate
        along ``rdm``, count as one person, of one group only.
    method
        How RDMs are compared: see :func:`compare`.
    resample
        What the intervals generalise to: ``"subjects"`` other people (default), or ``"both"`` other people and other
        stimuli. The permutation tests are about people.
    permutations
        Number of exchanges; all of them where there are fewer.
    n_resamples
        Number of bootstrap samples.
    random_state
        Seeds both.

    Returns
    -------
    xarray.Dataset
        Along ``model``: ``mean_first``, ``mean_second``, their ``difference`` with a 95 % bootstrap interval
        ``difference_low`` and ``difference_high``, two-sided ``p``, ``p_fdr`` and ``p_max`` (family-wise, by the
        largest absolute difference in units of its spread). About the RDMs themselves: ``within_first``,
        ``within_second`` and ``between``, the mean similarity of two people of a group or of both; ``separation``,
        the mean of the two within less between, and its one-sided ``p_separation``. ``score`` holds the people
        (``model × person``, with ``group`` and ``subject``), ``similarity`` all pairs of them.

    Raises
    ------
    ValueError
        If a group has fewer than two people, a person is in both, or the stimuli differ.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008), Front Syst Neurosci 2; Anderson (2001), Austral Ecology 26, for the test of
    similarities within against between.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=20, n_units=30, random_state=0)
    >>> people = rsa.rdm(brain.assign_coords(subject=("neuroid", [0, 1, 2, 3, 4, 5] * 5)), by="subject")
    >>> found = rsa.compare_groups({"all": rsa.rdm(brain)}, people[:3], people[3:])
    >>> found["difference"].dims, found.attrs["permutations"]
    (('model',), 20)
    """
    check_method(method)
    _check_request(resample, method, permutations, n_resamples)
    people, subjects, group = _joined(first, second)
    per_person = np.eye(len(group))[np.unique(subjects, return_inverse=True)[1].reshape(-1)]
    per_person /= per_person.sum(axis=0)
    named = named_models(models)
    score = _scores(named, people, method, random_state) @ per_person
    among = _similarity_of_people(people, per_person, method)
    rng = np.random.default_rng(random_state)
    orders = _orders(group, permutations, rng)
    tested = _test_difference(score, orders) | _test_separation(among, orders)
    low, high = _intervals(named, people, score, per_person, group, method, resample, n_resamples, rng)
    dims: dict[str, Any] = {name: ("model", tested[name]) for name in ("p", "p_fdr", "p_max")}
    return xr.Dataset(
        dims
        | {
            "mean_first": ("model", score[:, ~group].mean(axis=1)),
            "mean_second": ("model", score[:, group].mean(axis=1)),
            "difference": ("model", tested["difference"]),
            "difference_low": ("model", low),
            "difference_high": ("model", high),
            **{name: tested[name] for name in ("within_first", "within_second", "between", "separation")},
            "p_separation": tested["p_separation"],
            "score": (("model", "person"), score),
            "similarity": (("person", "person_b"), among),
        },
        {
            "model": list(named),
            "subject": ("person", np.unique(subjects)),
            "group": ("person", np.array(NAMES)[group.astype(int)]),
        },
        {
            "scoring": method,
            "resample": resample,
            "permutations": len(orders),
            "n_resamples": n_resamples,
        },
    )


def _check_request(resample: str, method: str, permutations: int, n_resamples: int) -> None:
    whole_number(permutations, "permutations")
    whole_number(n_resamples, "n_resamples")
    if resample not in ("subjects", "both"):
        raise ValueError(f"resample={resample!r} is unknown; use 'subjects' or 'both'.")
    if resample == "both" and method not in REWEIGHTED:
        raise ValueError(f"conditions cannot be resampled under method={method!r}; use resample='subjects'.")


def _joined(
    first: xr.DataArray, second: xr.DataArray
) -> tuple[xr.DataArray, NDArray[Any], NDArray[np.bool_]]:
    """RDMs of both groups, the person of each, and whether each of the people is of the second group."""
    for rdms, which in zip((first, second), NAMES, strict=True):
        check_rdms(rdms, which)
    second = matched(first, second, NAMES)
    names = [_people(rdms, which) for rdms, which in zip((first, second), NAMES, strict=True)]
    for found, which in zip(names, NAMES, strict=True):
        if len(set(found)) < 2:
            raise ValueError(f"{which} has the RDMs of {len(set(found))} person; a group needs at least two.")
    if both := sorted(set(names[0]) & set(names[1])):
        raise ValueError(
            f"{quoted(both[0])} is in both groups; give the people of the two groups different names, or compare "
            "scores of the same people by their differences."
        )
    subjects = np.array(names[0] + names[1])
    group = np.isin(np.unique(subjects), names[1])
    people = assemble(
        np.concatenate([first.values, second.values]),
        rdm={"neuroid_id": [f"{name} | {k}" for k, name in enumerate(subjects)], "subject": subjects},
        pair={name: c.values for name, c in first.coords.items() if c.dims == ("pair",)},
        modality=first.attrs["modality"],
        units=first.attrs["units"],
    )
    return people, subjects, group


def _people(rdms: xr.DataArray, which: str) -> list[str]:
    """The person of each RDM."""
    if "subject" in rdms.coords and rdms.coords["subject"].dims == ("rdm",):
        return [str(name) for name in rdms.coords["subject"].values]
    return [f"{which} {k}" for k in range(rdms.sizes["rdm"])]


def _scores(named: dict[str, Any], people: xr.DataArray, method: str, random_state: int | None) -> Array:
    """Scores of models × RDMs; models that are fitted are cross-validated, and the others with them."""
    if any(isinstance(model, MixtureModel) for model in named.values()):
        fitted = crossvalidate(named, people, method, random_state=random_state)
        return np.asarray(fitted.score.mean("split").values)
    return np.concatenate([compare(model, people, method).values for model in named.values()])


def _similarity_of_people(people: xr.DataArray, per_person: Array, method: str) -> Array:
    """Similarity of every two people; those of their RDMs are averaged."""
    found = compare(people, method=method).values
    among: Array = per_person.T @ ((found + found.T) / 2) @ per_person
    return among


def _orders(group: NDArray[np.bool_], n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Who is of the second group: as it is, then all or random exchanges."""
    size, n_second = len(group), int(group.sum())
    if comb(size, n_second) <= n:
        chosen = np.array(list(combinations(range(size), n_second)))
        every = np.zeros((len(chosen), size), dtype=bool)
        np.put_along_axis(every, chosen, True, axis=1)
        own = (every == group).all(axis=1)
        return np.concatenate([every[own], every[~own]])
    return np.concatenate([group[None], rng.permuted(np.tile(group, (n, 1)), axis=1)])


def _test_difference(score: Array, orders: NDArray[np.bool_]) -> dict[str, Array]:
    """Difference of the groups' means and its p-values; the first order is the data's own."""
    second = orders / orders.sum(axis=1, keepdims=True)
    first = ~orders / (~orders).sum(axis=1, keepdims=True)
    null = (second - first) @ score.T
    spread = null.std(axis=0)
    size = np.abs(np.divide(null, spread, out=np.zeros_like(null), where=spread > 0))
    # rounding must not decide whether an exchange reaches the data's own difference
    reached = size[0] - 1e-9
    p = (size >= reached).mean(axis=0)
    p_max = (size.max(axis=1, keepdims=True) >= reached).mean(axis=0)
    return {"difference": null[0], "p": p, "p_fdr": false_discovery_rate(p), "p_max": p_max}


def _test_separation(among: Array, orders: NDArray[np.bool_]) -> dict[str, Any]:
    """Similarity within the groups, between them, and whether the first is larger."""
    pairs = among - np.diag(np.diag(among))
    means = []
    for here in (~orders, orders):
        n = here.sum(axis=1)
        means.append(((here @ pairs) * here).sum(axis=1) / (n * (n - 1)))
    n_between = (~orders).sum(axis=1) * orders.sum(axis=1)
    between = ((~orders @ pairs) * orders).sum(axis=1) / n_between
    separation = (means[0] + means[1]) / 2 - between
    reached = separation[0] - 1e-9 * np.abs(separation).max()
    return {
        "within_first": means[0][0],
        "within_second": means[1][0],
        "between": between[0],
        "separation": separation[0],
        "p_separation": (separation >= reached).mean(),
    }


def _intervals(
    named: dict[str, Any],
    people: xr.DataArray,
    score: Array,
    per_person: Array,
    group: NDArray[np.bool_],
    method: str,
    resample: str,
    n: int,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """95 % bootstrap interval of each model's difference; people are drawn within their group."""
    means = []
    for here in (~group, group):
        size = int(here.sum())
        # one fewer than there are, which makes the variance of means unbiased (Rao & Wu, 1988)
        drawn = rng.multinomial(size - 1, np.full(size, 1 / size), n)
        weights = np.zeros((n, len(group)))
        weights[:, here] = drawn / (size - 1)
        means.append(weights)
    contrast = means[1] - means[0]
    if resample == "subjects":
        draws = contrast @ score.T
    else:
        draws = np.einsum(
            "nmr,rp,np->nm", _resampled_scores(named, people, method, n, rng), per_person, contrast
        )
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return low, high


def _resampled_scores(
    named: dict[str, Any], people: xr.DataArray, method: str, n: int, rng: np.random.Generator
) -> Array:
    """Scores of samples of conditions × models × RDMs."""
    if fitted := [name for name, model in named.items() if isinstance(model, MixtureModel)]:
        raise ValueError(
            f"model {fitted[0]!r} is to be fitted, and conditions are resampled for fixed models only; use "
            "resample='subjects'."
        )
    stimuli, data = in_order(people, "first and second")
    rows = np.concatenate([values_of(model, stimuli, f"model {name!r}") for name, model in named.items()])
    known = np.isfinite(np.concatenate([rows, data])).all(axis=0)
    places = torch.as_tensor(np.stack(np.triu_indices(len(stimuli), 1))[:, known])
    models, brains = torch.as_tensor(rows[:, known]), torch.as_tensor(data[:, known])
    counts = torch.as_tensor(rng.multinomial(len(stimuli), np.full(len(stimuli), 1 / len(stimuli)), n))
    parts = []
    for part in counts.split(SAMPLES):
        nobody = part.new_zeros(0, len(part), len(brains))
        parts.append(reweight(models, brains, places, part, nobody, method).scores)
    return torch.cat(parts).numpy()
