"""Variance partition of RDMs: what every model explains of them, alone and together (commonality analysis)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import xarray as xr

from ...models.devices import resolve_device
from ..containers import labels_along
from ..engine.commonality import explained_shares
from ..engine.partition import region_weights, subsets, unique_weights
from ..engine.residuals import orthonormal
from .pairs import check_enough, check_rdms
from .preparation import check_method, known_together, ordered, prepare_checked, stack_named, vectors

#: ways of comparing under which vectors have lengths, so that shares of variance add up
PARTITIONED = ("pearson", "spearman", "cosine", "whitened-pearson", "whitened-cosine")
#: up to so many models every set of them is fitted
MOST = 6


def partition_variance(
    models: Mapping[str, xr.DataArray] | xr.DataArray,
    data: xr.DataArray,
    method: str = "spearman",
    *,
    nonnegative: bool = False,
    device: str | torch.device = "auto",
) -> xr.Dataset:
    """Divide the variance of RDMs that is explained by model RDMs among the models.

    Every set of models is regressed on every RDM (more than 6 models: all, and all but each), and what sets explain
    is combined into what is unique and common to them.

    Parameters
    ----------
    models
        ``rdm × pair`` array, one model an RDM; or a mapping of name to such an array of one RDM.
    data
        ``rdm × pair``, one RDM a person; stimuli are matched by their ids. Pairs that are missing (NaN) in one of the
        models or in a person's RDM are left out for that person.
    method
        ``"spearman"`` (default): ranks are regressed; ``"pearson"``: dissimilarities; ``"cosine"``: without an
        intercept; ``"whitened-pearson"``, ``"whitened-cosine"``: by generalised least squares, which allow for the
        covariance of dissimilarities that share a condition.
    nonnegative
        Whether weights of models may not be negative.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    xarray.Dataset
        In the form of :func:`cerebridge.encoding.partition_variance`, so that
        :func:`cerebridge.encoding.plots.partition.plot_partition` draws it: RDMs of ``data`` lie along ``neuroid``
        with their labels, models along ``band``. ``total``, the share of all models; ``r2`` of every ``set``;
        ``unique``, what is lost without the model; ``shared``, the rest; ``product``, the product measure, which sums
        to ``total``; with at most 6 models ``venn``, the commonality coefficient of every set, which also sum to
        ``total``. A coefficient is negative where models suppress each other.

    Raises
    ------
    ValueError
        If there is one model only, models are collinear or constant, or stimuli differ.

    References
    ----------
    Lescroart, Stansbury & Gallant (2015), Front Comput Neurosci 9; Hebart et al. (2018), eLife 7, for RDMs; Pratt
    (1987), Proc. 2nd Tampere Conf. Statistics, for the product measure.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=20, n_units=30, random_state=0)
    >>> layers = rsa.rdm(brain.assign_coords(layer=("neuroid", ["a", "b", "c"] * 10)), by="layer")
    >>> parts = rsa.partition_variance(layers[:2], layers[2:])
    >>> bool(abs(parts.venn.sum("set") - parts.total).max() < 1e-12)
    True
    """
    check_method(method)
    if method not in PARTITIONED:
        raise ValueError(
            f"method={method!r} has no variance to divide; use {', '.join(map(repr, PARTITIONED))}."
        )
    check_enough(check_rdms(data, "data"), "data")
    data = ordered(data, method, "data")
    stacked = stack_named(models, data, "models")
    names, people = stacked.coords["neuroid_id"].values, data.coords["neuroid_id"].values
    n = len(names)
    if n < 2:
        raise ValueError(
            "there is one model only, so that there is nothing to divide; give two models or more."
        )
    if nonnegative and n > MOST:
        raise ValueError(f"nonnegative=True takes at most {MOST} models, and there are {n}.")
    where = resolve_device(device)
    rows, predictors = vectors(data, where), vectors(stacked, where)
    predictors = predictors.masked_fill(predictors.isnan().any(dim=0), torch.nan)
    sets = subsets(n, MOST)
    shares, weighted = rows.new_empty(len(sets), len(rows)), rows.new_empty(n, len(rows))
    for in_models, in_data, known in known_together(predictors, rows):
        ready, truth = (
            prepare_checked(part if known is None else part[:, known], method, which, labels, known=known)
            for part, which, labels in (
                (predictors[in_models], "models", names),
                (rows[in_data], "data", people[in_data.cpu().numpy()]),
            )
        )
        _check_independent(ready, names)
        products, totals = truth @ ready.mT, truth.square().sum(dim=-1)
        shares[:, in_data], found = explained_shares(ready @ ready.mT, products, totals, sets, nonnegative)
        weighted[:, in_data] = (found * products / totals[:, None]).mT
    quantities = {"r2": shares, "unique": unique_weights(sets, n).to(shares) @ shares, "product": weighted}
    if n <= MOST:
        quantities["venn"] = region_weights(sets, n).to(shares) @ shares
    lacking = int(torch.cat([rows, predictors]).isnan().any(dim=0).sum())
    return _dataset(quantities, sets, names, data, {"method": method, "missing_pairs": lacking})


def _check_independent(ready: torch.Tensor, names: Any) -> None:
    collinear = orthonormal(ready)[1].nonzero()
    if len(collinear):
        raise ValueError(
            f"model {str(names[int(collinear[0])])!r} is collinear: a combination of those before it; leave it out."
        )


def _dataset(
    quantities: Mapping[str, torch.Tensor],
    sets: list[tuple[int, ...]],
    names: Any,
    data: xr.DataArray,
    attrs: dict[str, Any],
) -> xr.Dataset:
    dims = {"r2": "set", "venn": "set", "unique": "band", "product": "band"}
    values = {name: found.cpu().numpy() for name, found in quantities.items()}
    variables: dict[str, Any] = {name: ((dims[name], "neuroid"), found) for name, found in values.items()}
    variables["total"] = ("neuroid", values["r2"][-1])
    variables["shared"] = ("neuroid", values["r2"][-1] - values["unique"].sum(axis=0))
    coords: dict[Any, Any] = {
        "band": names,
        "set": ["+".join(str(names[k]) for k in members) for members in sets],
        **labels_along(data, "rdm", renamed="neuroid"),
    }
    return xr.Dataset(variables, coords, attrs)
