"""The similarity analysis: dissimilarities of a recording against those of models, region by region."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from .. import rsa
from ..rsa.comparison import matched
from .features import of_layer
from .graph import Inputs

#: labels of a model's or recording's units that say whose they are
PERSON = "subject"


def compare_models(settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> xr.Dataset:
    """Scores of all models on the dissimilarities of the recording.

    Parameters
    ----------
    settings
        The analysis' options, ``models`` (name, input and layer of each) and ``seed``.
    inputs
        ``"recording"`` and the features or dissimilarities of the models.

    Returns
    -------
    xarray.Dataset
        As :func:`cerebridge.encoding.rsa.infer` gives it, regions one after the other along ``unit`` (each with its own
        ceiling and p) and, for what is of a region as a whole, along ``group``; with the matrices themselves: ``rdm``
        (unit × pair) and ``model_rdm`` (model × pair).
    """
    data = _dissimilarities(inputs["recording"], settings, settings["by"])
    candidates = _models(settings, inputs)
    of_units, of_regions = [], []
    for label in _regions(data, settings["by"]):
        here = data
        if label is not None:
            here = data.isel(rdm=np.flatnonzero(data.coords[settings["by"]].values == label))
        result = rsa.infer(
            candidates,
            here,
            settings["comparison"],
            resample=settings.get("resample"),
            n_resamples=settings["n_resamples"],
            ceiling=settings["ceiling"],
            permutations=settings["permutations"],
            random_state=settings["seed"],
        ).dataset
        whole = [name for name, variable in result.data_vars.items() if "unit" not in variable.dims]
        of_units.append(result.drop_vars(whole))
        of_regions.append(result[whole].drop_vars(["split", "unit"], errors="ignore"))
    joined = _joined(of_units, "unit").merge(_joined(of_regions, "group"), combine_attrs="override")
    of_models = [
        matched(data, candidates[str(name)], ("recording", str(name))).values[0]
        for name in joined["model"].values
    ]
    matrices = {"rdm": (("unit", "pair"), data.values), "model_rdm": (("model", "pair"), np.stack(of_models))}
    joined = joined.assign(matrices).assign_coords(
        stimulus_a=("pair", data.coords["stimulus_a"].values),
        stimulus_b=("pair", data.coords["stimulus_b"].values),
    )
    groups = settings.get("groups")
    if groups is not None:
        joined = joined.assign_coords(
            stimulus=[str(i) for i in groups], stimulus_group=("stimulus", list(groups.values()))
        )
    return joined


def _joined(parts: list[xr.Dataset], dim: str) -> xr.Dataset:
    if dim not in parts[0].dims:
        parts = [part.expand_dims(dim) for part in parts]
    return xr.concat(parts, dim, combine_attrs="override") if len(parts) > 1 else parts[0]


def _dissimilarities(array: xr.DataArray, settings: Mapping[str, Any], by: str | None) -> xr.DataArray:
    """Given matrices, or those of each region (and person) of a recording."""
    if array.dims == ("rdm", "pair"):
        return array
    if "time_bin" in array.dims:
        array = array.mean("time_bin", keep_attrs=True)
    labels = [name for name in (by, PERSON) if name is not None and _varies(array, name)]
    return rsa.rdm(
        array, settings["dissimilarity"], noise=settings.get("noise"), cv=settings["cv"], by=labels or None
    )


def _varies(array: xr.DataArray, name: str) -> bool:
    return (
        name in array.coords
        and array.coords[name].dims == ("neuroid",)
        and len(pd.unique(array.coords[name].values)) > 1
    )


def _regions(data: xr.DataArray, by: str) -> list[Any]:
    """Values of the label whose matrices belong together; one group where there is no such label."""
    if by not in data.coords or data.coords[by].dims != ("rdm",):
        return [None]
    return list(pd.unique(data.coords[by].values))


def _models(settings: Mapping[str, Any], inputs: Inputs) -> dict[str, xr.DataArray]:
    """One matrix a model; a recording with several gives as many models."""
    found: dict[str, xr.DataArray] = {}
    for model in settings["models"]:
        features = of_layer(inputs[model["input"]], model["layer"])
        rdms = _dissimilarities(features.load(), settings, None if model["layer"] else settings["by"])
        if rdms.sizes["rdm"] == 1:
            found[model["name"]] = rdms
        else:
            ids = rdms.coords["neuroid_id"].values
            found |= {f"{model['name']}/{name}": rdms.isel(rdm=[k]) for k, name in enumerate(ids)}
    return found
