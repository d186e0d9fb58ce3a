"""Whose or what an RDM is: told by the known RDM, or mean of known RDMs, that is most like it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import quoted
from ..audit import fingerprint, versions
from ..engine.identification import group_similarities
from ..results import Result
from ..significance import check_count, p_values
from .comparison import check_method, compare
from .pairs import check_rdms

Array = NDArray[Any]
#: similarities that are no inner products, so that a group of RDMs has no mean in their sense
WITHOUT_MEAN = ("bures", "riemannian")


def identify(
    queries: xr.DataArray,
    references: xr.DataArray | None = None,
    by: str | None = None,
    *,
    people: str = "subject",
    method: str = "pearson",
    permutations: int = 1000,
    random_state: int | None = 0,
    device: str | torch.device = "auto",
) -> Result:
    """Identify RDMs by the most similar known ones: whose brain is it, or which region or layer.

    With ``references``, every query is given the label of the reference that is most like it (fingerprinting: the
    same people recorded twice). Without, the RDMs of every person in turn are held out, and each is given the label
    of the group (region, layer) whose mean over the other people is most like it.

    Parameters
    ----------
    queries
        ``rdm × pair``: RDMs whose labels are to be found.
    references
        ``rdm × pair``, with known labels; several of one label are averaged. Pairs are matched by stimulus.
    by
        Coordinate along ``rdm`` that is to be identified. Default: ``"subject"`` with references, else ``"region"``.
    people
        Without references: coordinate along ``rdm`` whose values are held out in turn (people, or seeds of networks).
    method
        How RDMs are compared: see :func:`compare`. Means are taken on the scale on which it compares (z-scores for
        ``"pearson"``, ranks for ``"spearman"``), so that no person weighs more; Bures and Riemannian similarity
        have no such mean and need one reference a label.
    permutations
        Number of random exchanges of labels: among queries, or with held-out people among the RDMs of each person,
        with means taken anew. 0: binomial test, which takes identifications as independent.
    random_state
        Seeds them.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    Result
        One unit; splits are the queries, or the held-out people. ``score`` is accuracy, ``p`` one-sided,
        ``confusion`` model × true × predicted (:func:`cerebridge.encoding.plots.plot_confusion` draws it),
        ``similarity`` model × rdm × predicted, what was decided by.

    Raises
    ------
    ValueError
        If a label is missing or has no counterpart, there is one label only, or RDMs cannot be compared.

    References
    ----------
    Finn et al. (2015). Functional connectome fingerprinting. Nat Neurosci 18. Lin & Kriegeskorte (2024). The topology
    and geometry of neural representations. PNAS 121.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=12, n_units=40, snr=9, random_state=0)
    >>> brain = brain.assign_coords(subject=("neuroid", [0, 1] * 20), half=("neuroid", [0] * 20 + [1] * 20))
    >>> first, second = (rsa.rdm(brain[:, half], by="subject") for half in (slice(20), slice(20, 40)))
    >>> rsa.identify(first, second, permutations=0).score.sizes["split"]
    2
    """
    started = time.perf_counter()
    check_method(method)
    check_count(permutations, "permutations")
    by = by or ("region" if references is None else "subject")
    truth = labels_along(queries, by, "queries")
    if references is None:
        check_mean(method)
        owners = labels_along(queries, people, "queries")
        classes, members = grouped(truth, owners, by, people)
        similarity = torch.as_tensor(compare(queries, method=method, device=device).values)
        found = nearest(similarity, members, owners)[None]
        null = _null_of_groups(similarity, members, owners, permutations, random_state)
        splits = {people: owners}
    else:
        classes, found = _to_references(queries, references, truth, by, method, device)
        null = _null_of_labels(found[0], truth, classes, permutations, random_state)
        splits = {by: truth}
    dataset = tabulate({method: found[0]}, queries, truth, classes, splits)
    add_p(dataset, null)
    dataset.attrs.update(
        audit={
            "fitted_on": f"means of the other values of {people!r}"
            if references is None
            else "the references",
            "permutations": f"{permutations} of {by!r}" if permutations else "none: binomial test",
        },
        provenance={
            "queries": fingerprint(queries.values),
            "references": "" if references is None else fingerprint(references.values),
            "random_state": random_state,
            "seconds": round(time.perf_counter() - started, 3),
            "versions": versions(),
        },
    )
    return Result(dataset)


def labels_along(rdms: xr.DataArray, name: str, which: str) -> Array:
    """Labels along ``rdm``, or which there are."""
    check_rdms(rdms, which)
    if name not in rdms.coords or rdms.coords[name].dims != ("rdm",):
        known = [repr(str(key)) for key, c in rdms.coords.items() if c.dims == ("rdm",)]
        raise ValueError(f"{which} has no coordinate {name!r} along 'rdm'; there are {', '.join(known)}.")
    labels: Array = rdms.coords[name].values
    if pd.isna(labels).any():
        k = int(pd.isna(labels).argmax())
        raise ValueError(f"{name!r} is missing at rdm {k} of {which}; label it or leave it out.")
    return labels


def check_mean(method: str) -> None:
    """Refuse similarities in whose sense groups have no mean."""
    if method in WITHOUT_MEAN:
        raise ValueError(
            f"RDMs have no mean in the sense of method={method!r}; use another one, or one reference a label."
        )


def grouped(truth: Array, owners: Array, by: str, people: str) -> tuple[Array, torch.Tensor]:
    """Sorted labels, and which RDM has which (``rdm × label``); each must be known of two people."""
    classes, codes = np.unique(truth, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"all RDMs have the same {by!r}, {quoted(classes[0])}; identification needs two.")
    for k, label in enumerate(classes):
        if len(pd.unique(owners[codes == k])) < 2:
            raise ValueError(
                f"{by} {quoted(label)} is known of one value of {people!r} only, so no mean is left when that is held "
                "out; leave it out or give references."
            )
    return classes, torch.eye(len(classes), dtype=torch.float64)[torch.as_tensor(codes)]


def nearest(similarity: torch.Tensor, members: torch.Tensor, owners: Array) -> torch.Tensor:
    """Similarity of every RDM to the means of the groups of other people, ``(..., rdm, group)``."""
    codes = torch.as_tensor(pd.factorize(owners)[0])
    return group_similarities(similarity.to(members), members, codes)


def exchanged(members: torch.Tensor, owners: Array, n: int, random_state: int | None) -> torch.Tensor:
    """Memberships after random exchanges of labels among the RDMs of each person, ``(n, rdm, group)``."""
    rng = np.random.default_rng(random_state)
    orders = np.tile(np.arange(len(owners)), (n, 1))
    for owner in pd.unique(owners):
        here = np.flatnonzero(owners == owner)
        orders[:, here] = rng.permuted(orders[:, here], axis=1)
    return members[torch.as_tensor(orders)]


def tabulate(
    found: Mapping[str, torch.Tensor],
    queries: xr.DataArray,
    truth: Array,
    classes: Array,
    splits: Mapping[str, Array],
) -> xr.Dataset:
    """Accuracy of every split and confusions, of one or more ways to identify.

    Parameters
    ----------
    found
        Of each model: similarity of every query to every label.
    splits
        Name and values of the coordinate whose values are the splits.
    """
    ((name, groups),) = splits.items()
    folds, values = (
        pd.factorize(groups) if len(pd.unique(groups)) < len(groups) else (np.arange(len(groups)), groups)
    )
    codes = np.searchsorted(classes, truth)
    scores, confusions = [], []
    for similarity in found.values():
        chosen = similarity.argmax(dim=-1).cpu().numpy()
        right = np.bincount(folds, chosen == codes)
        scores.append(right / np.bincount(folds))
        confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(confusion, (codes, chosen), 1)
        confusions.append(confusion)
    similarities = np.stack([similarity.cpu().numpy() for similarity in found.values()])
    dataset = xr.Dataset(
        {
            "score": (("model", "split", "unit"), np.array(scores)[..., None]),
            "confusion": (("model", "true", "predicted"), np.array(confusions)),
            "similarity": (("model", "rdm", "predicted"), similarities),
        },
        {
            "model": list(found),
            "split": np.arange(len(values)),
            name: ("split", np.asarray(values)),
            "unit": ["identification"],
            "true": classes,
            "predicted": classes,
            "rdm": queries.coords["neuroid_id"].values,
        },
    )
    return dataset.assign_attrs(scoring="accuracy", chance=1 / len(classes), unit_kind="classifier")


def add_p(dataset: xr.Dataset, null: Array | None) -> None:
    """Put ``p`` beside the scores: from exchanged labels (permutations × models), or binomial without any."""
    confusion = dataset["confusion"].values
    n, right = confusion.sum(axis=(1, 2)), np.trace(confusion, axis1=1, axis2=2)
    if null is None:
        from scipy.stats import binom

        p = binom.sf(right - 1, n, dataset.attrs["chance"])
    else:
        p = p_values(right / n, null)["p"]
    dataset["p"] = (("model", "unit"), np.asarray(p)[:, None])


def accuracy(similarity: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
    """Share of RDMs that are most similar to the group that they belong to."""
    return (similarity.argmax(dim=-1) == members.argmax(dim=-1)).double().mean(dim=-1)


def _to_references(
    queries: xr.DataArray, references: xr.DataArray, truth: Array, by: str, method: str, device: Any
) -> tuple[Array, torch.Tensor]:
    """Labels of the references, and the similarity of every query to each of them."""
    labels = labels_along(references, by, "references")
    classes, codes = np.unique(labels, return_inverse=True)
    unknown = pd.unique(truth[~np.isin(truth, classes)])
    if len(unknown):
        raise ValueError(
            f"{len(unknown)} values of {by!r} have no reference, the first {quoted(unknown[0])}; leave them out, and "
            "check that both sides name them alike."
        )
    if len(classes) < 2:
        raise ValueError(
            f"all references have the same {by!r}, {quoted(classes[0])}; identification needs two."
        )
    products = torch.as_tensor(compare(queries, references, method=method, device=device).values)
    if len(classes) == len(labels):
        return classes, products[:, torch.as_tensor(np.argsort(codes))][None]
    check_mean(method)
    members = torch.eye(len(classes)).to(products)[torch.as_tensor(codes)]
    among = torch.as_tensor(compare(references, method=method, device=device).values)
    return classes, (products @ members / (members.mT @ among @ members).diagonal().sqrt())[None]


def _null_of_groups(
    similarity: torch.Tensor, members: torch.Tensor, owners: Array, n: int, random_state: int | None
) -> Array | None:
    if not n:
        return None
    draws = exchanged(members, owners, n, random_state)
    parts = [accuracy(nearest(similarity, part, owners), part) for part in draws.split(100)]
    return torch.cat(parts).numpy()[:, None]


def _null_of_labels(
    similarity: torch.Tensor, truth: Array, classes: Array, n: int, random_state: int | None
) -> Array | None:
    if not n:
        return None
    rng = np.random.default_rng(random_state)
    codes = np.tile(np.searchsorted(classes, truth), (n, 1))
    chosen = similarity.argmax(dim=-1).cpu().numpy()
    return (rng.permuted(codes, axis=1) == chosen).mean(axis=1)[:, None]
