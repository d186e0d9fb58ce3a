"""Models tested on the RDMs of several people: scores, noise ceilings, permutation of stimuli."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import xarray as xr

from ...models.devices import resolve_device
from ..audit import fingerprint, versions
from ..engine.ranks import midranks
from ..engine.similarity import paired_similarities, similarities, unit_length
from ..results import Result
from ..significance import check_count, p_values
from .comparison import check_method, matched, prepare_checked, vectors
from .pairs import check_rdms, stimulus_order

Ceiling = Literal["rank", "mean"]
#: dissimilarities of permuted models held at once
CHUNK = 1 << 23


@dataclass(frozen=True)
class NoiseCeiling:
    """How well the best possible model could do on the RDMs of several people.

    ``lower`` is the mean similarity of each RDM with the pool of the others, ``upper`` with the pool of all, which
    contains it; ``by_rdm`` holds both along ``rdm``.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=10, n_units=20, random_state=0)
    >>> people = rsa.rdm(brain.assign_coords(subject=("neuroid", [0, 1] * 10)), by="subject")
    >>> rsa.noise_ceiling(people).by_rdm["upper"].dims
    ('rdm',)
    """

    lower: float
    upper: float
    by_rdm: xr.Dataset


def noise_ceiling(
    rdms: xr.DataArray,
    method: str = "spearman",
    ceiling: Ceiling = "rank",
    *,
    device: str | torch.device = "auto",
) -> NoiseCeiling:
    """Noise ceiling of the RDMs of several people (Nili et al., 2014, PLoS Comput Biol).

    Parameters
    ----------
    rdms
        ``rdm × pair``, one RDM a person.
    method
        How RDMs are compared: see :func:`compare`.
    ceiling
        How RDMs are pooled. ``"rank"`` (default) brings each to the scale on which ``method`` compares before
        averaging, so that no person weighs more: ranks for the rank methods, z-scores for ``"pearson"``, unit length
        for ``"cosine"``. ``"mean"`` averages the dissimilarities as they are.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    NoiseCeiling

    Raises
    ------
    ValueError
        If there are fewer than two RDMs, or one cannot be compared.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=20, n_units=30, random_state=0)
    >>> people = rsa.rdm(brain.assign_coords(subject=("neuroid", [0, 1, 2] * 10)), by="subject")
    >>> ceiling = rsa.noise_ceiling(people)
    >>> bool(ceiling.lower < ceiling.upper)
    True
    """
    check_method(method)
    _check_ceiling(ceiling)
    if check_rdms(rdms, "rdms").sizes["rdm"] < 2:
        raise ValueError("a noise ceiling over RDMs needs those of at least two people, and rdms has one.")
    labels = rdms.coords["neuroid_id"].values
    rows = vectors(rdms, resolve_device(device))
    ready = prepare_checked(rows, method, "rdms", labels)
    scaled = _scaled(rows, method) if ceiling == "rank" else rows
    total = scaled.sum(dim=0, keepdim=True)
    lower, upper = (
        paired_similarities(prepare_checked(pool, method, "the pooled RDMs"), ready, method).cpu().numpy()
        for pool in (total - scaled, total)
    )
    coords = {name: c for name, c in rdms.coords.items() if c.dims == ("rdm",)}
    by_rdm = xr.Dataset(
        {"lower": ("rdm", lower), "upper": ("rdm", upper)}, coords, {"method": method, "ceiling": ceiling}
    )
    return NoiseCeiling(float(lower.mean()), float(upper.mean()), by_rdm)


def infer(
    models: Mapping[str, xr.DataArray] | xr.DataArray,
    data: xr.DataArray,
    method: str = "rho-a",
    *,
    ceiling: Ceiling = "rank",
    permutations: int = 0,
    random_state: int | None = None,
    device: str | torch.device = "auto",
) -> Result:
    """Score model RDMs on the RDMs of several people.

    Parameters
    ----------
    models
        ``rdm × pair`` array, one model an RDM; or a mapping of name to such an array of one RDM.
    data
        ``rdm × pair``, one RDM a person (or session, or region); stimuli are matched by their ids.
    method
        How RDMs are compared: see :func:`compare`.
    ceiling
        How people are pooled for the noise ceiling: see :func:`noise_ceiling`.
    permutations
        Number of random exchanges of the stimuli of the models, the same ones for all models and people.
    random_state
        Seeds them.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    Result
        Units are the RDMs of ``data``. ``ceiling`` is the similarity of each with the pool of the others,
        ``ceiling_upper`` with the pool of all; both are left out where there is one RDM. With permutations, one-sided
        ``p``, ``p_fdr`` and ``p_max`` (over people) of each model and person, and ``p_group`` of each model's mean
        over people. The audit names models that are among the data.

    Raises
    ------
    ValueError
        If the stimuli differ, a dissimilarity is missing, or an RDM is constant where that matters.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=20, n_units=30, random_state=0)
    >>> people = rsa.rdm(brain.assign_coords(subject=("neuroid", [0, 1, 2] * 10)), by="subject")
    >>> result = rsa.infer({"all units": rsa.rdm(brain)}, people, permutations=50, random_state=0)
    >>> result.score.sizes["unit"]
    3
    """
    started = time.perf_counter()
    check_method(method)
    check_count(permutations, "permutations")
    _check_ceiling(ceiling)
    check_rdms(data, "data")
    names, stacked = _stacked(models, data)
    where = resolve_device(device)
    rows = vectors(data, where)
    ready_models = prepare_checked(torch.as_tensor(stacked).to(rows), method, "models", names)
    ready_data = prepare_checked(rows, method, "data", data.coords["neuroid_id"].values)
    score = similarities(ready_models, ready_data, method).cpu().numpy()
    units = {name: ("unit", c.values) for name, c in data.coords.items() if c.dims == ("rdm",)}
    dataset = xr.Dataset(
        {"score": (("model", "split", "unit"), score[:, None])},
        {"model": names, "split": [0], **units, "unit": data.coords["neuroid_id"].values},
    )
    _add_ceiling(dataset, data, method, ceiling, where)
    if permutations:
        _, index = stimulus_order(data, "data")
        null = _null_scores(ready_models, ready_data, index, method, permutations, random_state)
        _add_significance(dataset, score, null)
    values = data.values
    dataset.attrs.update(
        scoring=method,
        chance=0.0,
        unit_kind="rdm",
        audit={
            "fitted_on": "nothing is fitted: the model RDMs are fixed",
            "ceiling": f"pooled by {ceiling!r}; of each RDM with the others (ceiling) and with all (ceiling_upper)",
            "permutations": f"{permutations} of the models' stimuli",
            "models_among_data": [
                n for n, row in zip(names, stacked, strict=True) if (values == row).all(axis=1).any()
            ],
        },
        provenance={
            "models": {name: fingerprint(row) for name, row in zip(names, stacked, strict=True)},
            "responses": fingerprint(values),
            "stimuli": fingerprint(data.coords["stimulus_a"].values, data.coords["stimulus_b"].values),
            "dtype": str(rows.dtype).removeprefix("torch."),
            "device": str(where),
            "random_state": random_state,
            "seconds": round(time.perf_counter() - started, 3),
            "versions": versions(),
        },
    )
    return Result(dataset)


def _check_ceiling(ceiling: str) -> None:
    if ceiling not in ("rank", "mean"):
        raise ValueError(f"ceiling={ceiling!r} is unknown; use 'rank' or 'mean'.")


def _stacked(
    models: Mapping[str, xr.DataArray] | xr.DataArray, data: xr.DataArray
) -> tuple[list[str], np.ndarray]:
    """Names of the models and their dissimilarities, one a row, in the order of the data."""
    if isinstance(models, xr.DataArray):
        names = [str(name) for name in check_rdms(models, "models").coords["neuroid_id"].values]
        return names, matched(data, models, ("data", "models")).values
    if not isinstance(models, Mapping):
        raise TypeError(
            f"models is a {type(models).__name__}; give a mapping of name to RDM, or an array rdm × pair."
        )
    rows = []
    for name, model in models.items():
        which = f"model {name!r}"
        if check_rdms(model, which).sizes["rdm"] != 1:
            raise ValueError(f"{which} has {model.sizes['rdm']} RDMs; give one a name, or all as one array.")
        rows.append(matched(data, model, ("data", which)).values[0])
    if not rows:
        raise ValueError("models is empty; give at least one model RDM.")
    return [str(name) for name in models], np.stack(rows)


def _scaled(rows: torch.Tensor, method: str) -> torch.Tensor:
    """Dissimilarities on the scale on which ``method`` compares them."""
    if method == "cosine":
        return unit_length(rows)
    if method == "pearson":
        return unit_length(rows - rows.mean(dim=-1, keepdim=True))
    return midranks(rows)


def _add_ceiling(
    dataset: xr.Dataset, data: xr.DataArray, method: str, ceiling: Ceiling, where: torch.device
) -> None:
    if data.sizes["rdm"] < 2:
        dataset.attrs["no_ceiling"] = "there is one RDM, so no noise ceiling over RDMs"
        return
    bounds = noise_ceiling(data, method, ceiling, device=where).by_rdm
    lower = bounds["lower"].values
    dataset["ceiling"] = ("unit", lower)
    dataset["ceiling_upper"] = ("unit", bounds["upper"].values)
    dataset["normalised"] = dataset["score"] / xr.DataArray(np.where(lower > 0, lower, np.nan), dims="unit")


def _null_scores(
    models: torch.Tensor,
    data: torch.Tensor,
    index: np.ndarray,
    method: str,
    n: int,
    random_state: int | None,
) -> np.ndarray:
    """Scores after exchanging the models' stimuli: permutations × models × people."""
    rng = np.random.default_rng(random_state)
    where = models.device
    n_stimuli = len(index)
    table = torch.as_tensor(index, device=where)
    pairs = torch.empty(2, data.shape[-1], dtype=torch.int64, device=where)
    upper = torch.triu_indices(n_stimuli, n_stimuli, 1, device=where)
    pairs[:, table[upper[0], upper[1]]] = upper
    step = max(1, CHUNK // models.numel())
    scores = []
    for start in range(0, n, step):
        orders = rng.permuted(np.tile(np.arange(n_stimuli), (min(step, n - start), 1)), axis=1)
        order = torch.as_tensor(orders, device=where)
        moved = models[..., table[order[:, pairs[0]], order[:, pairs[1]]]]
        # models (× ways of breaking ties) × permutations × pairs -> permutations × models (× ways) × pairs
        moved = moved.movedim(-2, 0)
        found = similarities(moved.flatten(0, 1), data, method)
        scores.append(found.view(len(orders), len(models), -1).cpu().numpy())
    return np.concatenate(scores)


def _add_significance(dataset: xr.Dataset, score: np.ndarray, null: np.ndarray) -> None:
    columns: dict[str, list[np.ndarray]] = {"p": [], "p_fdr": [], "p_max": []}
    for k in range(len(score)):
        for key, values in p_values(score[k], null[:, k]).items():
            columns[key].append(values)
    for key, rows in columns.items():
        dataset[key] = (("model", "unit"), np.array(rows))
    group = p_values(score.mean(axis=1), null.mean(axis=2))["p"]
    dataset["p_group"] = ("model", group)
