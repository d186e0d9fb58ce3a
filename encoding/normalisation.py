"""Scores as shares of what the noise of the recording allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ..neuro.ceiling import FEWEST, noise_ceiling
from .scorers import Scorer


def find_ceiling(
    responses: xr.DataArray | None,
    ceiling: Any,
    scorer: Scorer,
    n_units: int,
    *,
    single: bool,
    random_state: int | None,
) -> tuple[NDArray[np.float64] | None, str]:
    """The highest score that each unit's noise allows, in the unit of the scoring, and where it came from in words.

    Parameters
    ----------
    responses
        The recording with its single repeats, or ``None`` for class labels and plain arrays.
    ceiling
        ``"auto"``, a method of :func:`cerebridge.neuro.noise_ceiling`, one value a unit in the unit of the
        scoring, or ``None``.
    single
        Whether single presentations are scored, not averages over repeats.

    Raises
    ------
    ValueError
        If the number of given values is not the number of units, or the ceiling that was asked for is unknown here.
    """
    if ceiling is None:
        return None, "none was asked for"
    if not isinstance(ceiling, str):
        values = np.asarray(getattr(ceiling, "values", ceiling), dtype=np.float64).ravel()
        if values.shape != (n_units,):
            raise ValueError(f"the ceiling has {values.size} values for {n_units} units; give one a unit.")
        return values, "given"
    if scorer.ceiling is None or responses is None or (ceiling == "auto" and not _has_repeats(responses)):
        reason = "the recording has no repeats"
        if scorer.ceiling is None:
            reason = f"{scorer.name} is not bounded by a noise ceiling"
        if ceiling == "auto":
            return None, f"none: {reason}"
        raise ValueError(f"ceiling={ceiling!r} cannot be estimated, because {reason}; give values or None.")
    method: Any = "split-half" if ceiling == "auto" else ceiling
    values = noise_ceiling(
        responses,
        method=method,
        scoring=scorer.ceiling,
        n_repeats=1 if single else None,
        random_state=random_state,
    ).values.ravel()
    lacking = int(np.isnan(values).sum())
    source = f"{method} over repeats, as {scorer.ceiling}" + (" of single presentations" if single else "")
    return values, source + (f"; {lacking} units have too few repeats" if lacking else "")


def attach_ceiling(dataset: xr.Dataset, values: NDArray[np.float64]) -> None:
    """Put ``ceiling`` and ``normalised`` beside the scores."""
    # a share of a ceiling that is not above zero is missing, not infinite
    bound = xr.DataArray(np.where(values > 0, values, np.nan), dims="unit")
    dataset["ceiling"] = ("unit", values)
    dataset["normalised"] = dataset["score"] / bound


def _has_repeats(responses: xr.DataArray) -> bool:
    if responses.dims[0] != "presentation":
        return False
    return int((np.bincount(pd.factorize(responses.coords["stimulus_id"].values)[0]) > 1).sum()) >= FEWEST
