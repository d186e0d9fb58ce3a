"""Scores as shares of what the noise of the recording allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..neuro.ceiling import noise_ceiling
from .scorers import Scorer


def attach_ceiling(
    dataset: xr.Dataset,
    responses: xr.DataArray | None,
    ceiling: Any,
    scorer: Scorer,
    random_state: int | None,
) -> str:
    """Put ``ceiling`` and ``normalised`` beside the scores, and say in words where the ceiling came from.

    Parameters
    ----------
    dataset
        Holds ``score``; changed in place.
    responses
        The recording with its single repeats, or ``None`` for class labels.
    ceiling
        ``"auto"``, a method of :func:`cerebridge.neuro.noise_ceiling`, one value a unit in the unit of the
        scoring, or ``None``.

    Raises
    ------
    ValueError
        If the number of given values is not the number of units.
    """
    if ceiling is None:
        return "none was asked for"
    if scorer.ceiling is None:
        return f"none: {scorer.name} is not bounded by a noise ceiling"
    if isinstance(ceiling, str):
        if responses is None or (ceiling == "auto" and not _has_repeats(responses)):
            return "none: the recording has no repeats"
        method = "split-half" if ceiling == "auto" else ceiling
        ceiling = noise_ceiling(responses, method=method, scoring=scorer.ceiling, random_state=random_state)
        source = f"{method} over repeats, as {scorer.ceiling}"
    else:
        source = "given"
    values = np.asarray(getattr(ceiling, "values", ceiling), dtype=np.float64).ravel()
    if values.shape != (dataset.sizes["unit"],):
        raise ValueError(
            f"the ceiling has {values.size} values for {dataset.sizes['unit']} units; give one a unit."
        )
    # a share of a ceiling that is not above zero is missing, not infinite
    bound = xr.DataArray(np.where(values > 0, values, np.nan), dims="unit")
    dataset["ceiling"] = ("unit", values)
    dataset["normalised"] = dataset["score"] / bound
    return source


def _has_repeats(responses: xr.DataArray) -> bool:
    if responses.dims[0] != "presentation":
        return False
    return len(np.unique(responses.coords["stimulus_id"].values)) < responses.sizes["presentation"]
