"""Models tested on the RDMs of several people: scores, noise ceilings, bootstrap, permutation of stimuli."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
import xarray as xr

from ...models.devices import resolve_device
from ...neuro.assembly import quoted
from ..audit import fingerprint, versions
from ..engine.reweighting import METHODS as REWEIGHTED
from ..engine.similarity import MATRIX_METHODS, similarities
from ..engine.whitened import count_conditions
from ..parameters import whole_number
from ..results import Result
from ..significance import check_count
from .ceilings import Ceiling, check_ceiling, rdm_ceilings
from .crossvalidation import corrected_covariance, crossvalidate, crossvalidate_samples
from .models import MixtureModel
from .pairs import check_enough, joined, stimulus_order
from .permutation import add_significance, null_scores
from .preparation import (
    check_found,
    check_method,
    is_above_zero,
    known_together,
    prepare_checked,
    stack_named,
    vectors,
)
from .resampling import (
    Array,
    Resample,
    add_statistics,
    covariance_of,
    draw_counts,
    evaluate_samples,
    kinds_of,
)

#: of three stimuli, the ranks of their pairs leave six orders
FEWEST = 4


def infer(
    models: Mapping[str, Any] | xr.DataArray,
    data: xr.DataArray | Sequence[xr.DataArray],
    method: str = "rho-a",
    *,
    resample: Resample | None = None,
    n_resamples: int = 1000,
    permutations: int = 0,
    ceiling: Ceiling = "rank",
    random_state: int | None = 0,
    device: str | torch.device = "auto",
) -> Result:
    """Score models on the RDMs of several people, and test them.

    Parameters
    ----------
    models
        Mapping of name to an ``rdm × pair`` array of one RDM, or an array, one model an RDM. A model to be fitted
        (:class:`WeightedModel`, …) may be among them: then all are cross-validated over people and stimuli, in every
        resample anew, see :func:`crossvalidate`.
    data
        ``rdm × pair``, one RDM a person (or session, or region), or a list of such arrays; stimuli are matched by
        their ids. A pair that a
        model lacks is left out for all; one that a person lacks, for that person's scores and for the ceilings.
    method
        How RDMs are compared: see :func:`compare`. ``"bures"`` and ``"riemannian"`` give scores and permutations only.
    resample
        What the tests generalise to: ``"subjects"`` other people, ``"conditions"`` other stimuli, ``"both"`` (with the
        correction for resampling two factors at once). Pairs of a stimulus with its own copy are left out.
    n_resamples
        How many bootstrap samples.
    permutations
        Number of random exchanges of the stimuli of the models, the same ones for all models and people.
    ceiling
        How people are pooled for the noise ceiling: see :func:`noise_ceiling`.
    random_state
        Seeds exchanges, resamples and folds.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    Result
        Units are the RDMs of ``data``. ``ceiling`` is the similarity of each with the pool of the others,
        ``ceiling_upper`` with the pool of all; both are left out where there is one RDM.

        With ``permutations``: one-sided ``p``, ``p_fdr`` and ``p_max`` (over people) of each model and person, and
        ``p_group`` of each model's mean over people.

        With ``resample``: ``mean`` over people, its ``standard_error`` and 95 % interval ``mean_low`` to
        ``mean_high``; t-tests ``p_zero`` (one-sided, against 0; left out of cosines where no dissimilarity of the data
        is negative, because chance is higher there) and ``p_ceiling`` (two-sided, against the mean lower ceiling,
        whose interval is ``ceiling_mean_low`` to ``ceiling_mean_high``); for pairs of models their ``difference``,
        ``p_pair``, ``p_pair_fdr`` and ``covariance`` (model × model_b). Degrees of freedom, in the attribute ``dof``,
        are one less than there are people or stimuli, whichever are resampled and fewer.

        The audit names models that are among the data, and says what was resampled and left out.

    Raises
    ------
    ValueError
        If the stimuli differ or are fewer than four, there are too few people, or an RDM is constant where that
        matters.

    References
    ----------
    Schütt, Kipnis, Diedrichsen & Kriegeskorte (2023). Statistical inference on representational geometries. eLife 12.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=20, n_units=30, random_state=0)
    >>> people = rsa.rdm(brain.assign_coords(subject=("neuroid", [0, 1, 2] * 10)), by="subject")
    >>> models = {"half": rsa.rdm(brain.isel(neuroid=slice(15))), "few": rsa.rdm(brain.isel(neuroid=slice(4)))}
    >>> result = rsa.infer(models, people, resample="both", n_resamples=200, random_state=0)
    >>> bool(result.dataset["difference"].sel(model="half", model_b="few") > 0)
    True
    >>> result.dataset.attrs["dof"]
    2
    """
    started = time.perf_counter()
    check_method(method)
    check_ceiling(ceiling)
    check_count(permutations, "permutations")
    n_resamples = whole_number(n_resamples, "n_resamples", 2)
    data = joined(data, "data")
    check_enough(data, "data", FEWEST)
    _check_resample(resample, data, method)
    if isinstance(models, Mapping) and any(isinstance(model, MixtureModel) for model in models.values()):
        if permutations:
            raise ValueError(
                "permutations exchange the stimuli of fixed models, and some of these are fitted; use resample, "
                "or infer the fixed ones alone."
            )
        if ceiling != "rank":
            raise ValueError(
                f"ceiling={ceiling!r} is for fixed models; with models to be fitted people are pooled by 'rank'."
            )
        return _infer_fitted(models, data, method, resample, n_resamples, random_state)
    data, stacked = _arranged(models, data, bool(resample or permutations) or method in MATRIX_METHODS)
    names, labels = (side.coords["neuroid_id"].values for side in (stacked, data))
    of_models, rows = _without_lacking(*(vectors(side, resolve_device(device)) for side in (stacked, data)))
    score = _scores(of_models, rows, method, names, labels)
    dataset = _dataset(score, data, names, method)
    _add_ceiling(dataset, rows, method, ceiling, labels)
    if permutations:
        null = null_scores(*_exchangeable(of_models, rows), method, permutations, random_state)
        add_significance(dataset, score, null)
    audit = _audit(stacked, data, rows, ceiling, permutations)
    if resample:
        audit |= _bootstrap(dataset, of_models, rows, method, ceiling, resample, n_resamples, random_state)
        dataset, audit = _with_chance(dataset, audit, data, method)
    dataset.attrs |= {
        "audit": audit,
        "provenance": {
            "models": {str(name): fingerprint(row) for name, row in zip(names, stacked.values, strict=True)},
            "responses": fingerprint(data.values),
            "stimuli": fingerprint(data.coords["stimulus_a"].values, data.coords["stimulus_b"].values),
            "dtype": str(rows.dtype).removeprefix("torch."),
            "device": str(rows.device),
            "random_state": random_state,
            "seconds": round(time.perf_counter() - started, 3),
            "versions": versions(),
        },
    }
    return Result(dataset)


def _check_resample(resample: str | None, data: xr.DataArray, method: str) -> None:
    if resample is None:
        return
    if resample not in get_args(Resample):
        known = ", ".join(map(repr, get_args(Resample)))
        raise ValueError(f"resample={resample!r} is unknown; use {known} or None.")
    if method not in REWEIGHTED:
        raise ValueError(
            f"method={method!r} needs whole matrices, which copies of a stimulus do not give; resample with "
            f"{', '.join(map(repr, REWEIGHTED))}."
        )
    if resample == "conditions":
        return
    if data.sizes["rdm"] < 2:
        raise ValueError(
            f"resample={resample!r} draws people anew, and data has one RDM; use resample='conditions'."
        )
    people = data.coords["subject"].values if "subject" in data.coords else []
    if np.ndim(people) and (several := pd.Index(people).duplicated()).any():
        raise ValueError(
            f"data has several RDMs of subject {quoted(people[several][0])}, and resample={resample!r} draws "
            "people; average them first with rsa.average(data, by='subject'), or select one of each."
        )


def _arranged(
    models: Mapping[str, Any] | xr.DataArray, data: xr.DataArray, whole: bool
) -> tuple[xr.DataArray, xr.DataArray]:
    """Data and models in one order of pairs; if they are to be read as matrices, that of ``numpy.triu_indices``."""
    if whole:
        stimuli, index = stimulus_order(data, "data")
        data = data.isel(pair=index[np.triu_indices(len(stimuli), 1)])
    return data, stack_named(models, data, "models")


def _without_lacking(models: torch.Tensor, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Models and data without the pairs that some model lacks, so that models are compared on the same pairs."""
    lacking = models.isnan().any(dim=0)
    return models.masked_fill(lacking, torch.nan), data.masked_fill(lacking, torch.nan)


def _scores(models: torch.Tensor, data: torch.Tensor, method: str, names: Any, labels: Any) -> Array:
    """Similarity of every model with every person, over the pairs that this person has."""
    found = data.new_empty(len(models), len(data))
    for _, rows, known in known_together(models, data):
        here = labels[rows.cpu().numpy()]
        first, second = (
            prepare_checked(side if known is None else side[:, known], method, which, some, known=known)
            for side, which, some in ((models, "models", names), (data[rows], "data", here))
        )
        part = similarities(first, second, method).to(found)
        check_found(part, method, "data", here)
        found[:, rows] = part
    return found.cpu().numpy()


def _dataset(score: Array, data: xr.DataArray, names: Any, method: str) -> xr.Dataset:
    units = {name: ("unit", c.values) for name, c in data.coords.items() if c.dims == ("rdm",)}
    return xr.Dataset(
        {"score": (("model", "split", "unit"), score[:, None])},
        {
            "model": [str(name) for name in names],
            "split": [0],
            **units,
            "unit": data.coords["neuroid_id"].values,
        },
        {"scoring": method, "chance": 0.0, "unit_kind": "rdm"},
    )


def _add_ceiling(dataset: xr.Dataset, data: torch.Tensor, method: str, ceiling: Ceiling, labels: Any) -> None:
    if len(data) < 2:
        dataset.attrs["no_ceiling"] = "there is one RDM, so no noise ceiling over RDMs"
        return
    if data.isfinite().all(dim=0).sum() < 2:
        dataset.attrs["no_ceiling"] = "there are not two pairs that all people have"
        return
    lower, upper = (side.cpu().numpy() for side in rdm_ceilings(data, method, ceiling, labels))
    dataset["ceiling"] = ("unit", lower)
    dataset["ceiling_upper"] = ("unit", upper)
    dataset["normalised"] = dataset["score"] / xr.DataArray(np.where(lower > 0, lower, np.nan), dims="unit")


def _present(models: torch.Tensor, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Pairs ``(2, pairs)`` of the stimuli of which anything is known, by number, and where they are among all."""
    n = count_conditions(data.shape[1])
    pairs = torch.triu_indices(n, n, 1, device=data.device)
    known = models.isfinite().all(dim=0) & data.isfinite().any(dim=0)
    stimuli = torch.unique(pairs[:, known])
    if len(stimuli) < FEWEST:
        raise ValueError(
            f"models and data have pairs of {len(stimuli)} stimuli in common that are not missing; inference needs at "
            f"least {FEWEST}."
        )
    here = torch.isin(pairs, stimuli).all(dim=0)
    return torch.searchsorted(stimuli, pairs[:, here]), here, len(stimuli)


def _exchangeable(models: torch.Tensor, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Models and data of the stimuli of which anything is known; models must have all of their pairs."""
    _, here, n = _present(models, data)
    missing = int(models[:, here].isnan().any(dim=0).sum())
    if missing:
        raise ValueError(
            f"models lack {missing} pairs of stimuli, so that their stimuli cannot be exchanged; leave these stimuli "
            "out, or use permutations=0."
        )
    return models[:, here], data[:, here], n


def _bootstrap(
    dataset: xr.Dataset,
    models: torch.Tensor,
    data: torch.Tensor,
    method: str,
    ceiling: Ceiling,
    resample: Resample,
    n_resamples: int,
    random_state: int | None,
) -> dict[str, Any]:
    """Add what resampling tells, and return what the audit says of it."""
    pairs, here, n_stimuli = _present(models, data)
    # sums over resamples need float64, which Apple's GPUs lack
    where = "cpu" if data.device.type == "mps" else data.device
    models, data, pairs = models[:, here].to(where), data[:, here].to(where), pairs.to(where)
    known = models.isfinite().all(dim=0)
    rng = np.random.default_rng(random_state)
    people, conditions = draw_counts(resample, n_resamples, len(data), n_stimuli, rng)
    found = evaluate_samples(
        models[:, known], data[:, known], pairs[:, known], method, ceiling, people, conditions, resample
    )
    return add_statistics(dataset, covariance_of(found), found, resample, len(data), n_stimuli)


def _infer_fitted(
    models: Mapping[str, Any],
    data: xr.DataArray,
    method: str,
    resample: Resample | None,
    n_resamples: int,
    random_state: int | None,
) -> Result:
    """Cross-validated scores of models that are fitted, and the bootstrap of the whole cross-validation."""
    result = crossvalidate(models, data, method, random_state=random_state)
    if resample is None:
        return result
    n_stimuli = len(stimulus_order(data, "data")[0])
    rng = np.random.default_rng(random_state)
    draws = draw_counts(resample, n_resamples, data.sizes["rdm"], n_stimuli, rng)
    found = np.stack(
        [
            np.concatenate(
                crossvalidate_samples(models, data, method, *some, random_state=random_state), axis=1
            )
            for some in kinds_of(resample, *draws)
        ]
    )
    covariance = np.stack([corrected_covariance(kind) for kind in found])
    said = add_statistics(
        result.dataset, covariance, found.mean(axis=-1), resample, data.sizes["rdm"], n_stimuli
    )
    dataset, audit = _with_chance(result.dataset, result.audit | said, data, method)
    return Result(dataset.assign_attrs(audit=audit))


def _with_chance(
    dataset: xr.Dataset, audit: dict[str, Any], data: xr.DataArray, method: str
) -> tuple[xr.Dataset, dict[str, Any]]:
    """The results, without tests against 0 where chance is above it."""
    if not is_above_zero(method, data.values):
        return dataset, audit
    why = f"left out: the {method} similarity of dissimilarities that are never negative is not 0 by chance"
    return dataset.drop_vars("p_zero"), audit | {"p_zero": f"{why}; permutations test it"}


def _audit(
    models: xr.DataArray, data: xr.DataArray, rows: torch.Tensor, ceiling: Ceiling, permutations: int
) -> dict[str, Any]:
    missing = int(rows.isnan().any(dim=0).sum())
    return {
        "fitted_on": "nothing is fitted: the model RDMs are fixed",
        "ceiling": f"pooled by {ceiling!r}; of each RDM with the others (ceiling) and with all (ceiling_upper)",
        "permutations": f"{permutations} of the models' stimuli",
        "models_among_data": [
            str(name)
            for name, row in zip(models.coords["neuroid_id"].values, models.values, strict=True)
            if (data.values == row).all(axis=1).any()
        ],
        "missing_pairs": f"{missing} of {rows.shape[1]} that some model or person lacks: each score is over those "
        "that all models and the person have, ceilings over those that all have"
        if missing
        else "none",
    }
