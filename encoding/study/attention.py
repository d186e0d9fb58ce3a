"""The attention analysis: which of two talkers is listened to, window by window."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from ..attention import decode_attention
from ..audit import fingerprint, versions
from .graph import Inputs


def follow(settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> xr.Dataset:
    """Accuracy of decisions between the talkers, by the length of the window.

    Parameters
    ----------
    settings
        The analysis' options.
    inputs
        ``"recording"``, ``"attended"`` and ``"unattended"``, all time_bin × neuroid with runs.

    Returns
    -------
    xarray.Dataset
        ``score``, accuracy (method × trial × window); of every window length ``p``, ``d_prime``,
        ``bits_per_minute``, ``shifted`` (accuracy against rotated talkers) and ``n_windows``; of every trial the
        correlations ``attended`` and ``unattended``.
    """
    arrays = [inputs[name] for name in ("recording", "attended", "unattended")]
    found = decode_attention(
        *arrays,
        groups="run",
        method=settings["method"],
        tmin=settings["lags"][0],
        tmax=settings["lags"][1],
        windows=settings["windows"],
        n_shifts=settings["shifts"],
        random_state=settings["seed"],
    )
    windows, trials = found["window"].values, found["trial"].values
    by_window = {name: ("unit", found[name].values) for name in ("d_prime", "bits_per_minute", "n_windows")}
    dataset = xr.Dataset(
        {
            "score": (("model", "split", "unit"), found["trial_accuracy"].values[None]),
            "p": (("model", "unit"), found["p"].values[None]),
            "shifted": ("unit", found["chance"].values),
            **by_window,
            **{name: ("split", found[name].values) for name in ("attended", "unattended")},
        },
        {
            "model": [settings["method"]],
            "split": trials,
            "neuroid_id": ("unit", [f"{window:g} s" for window in windows]),
            "window": ("unit", windows),
        },
    )
    dataset.attrs.update(
        scoring="accuracy",
        chance=0.5,
        unit_kind="classifier",
        audit={
            "fitted_on": "the other trials alone, penalties included",
            "split": f"leave one of {len(trials)} trials out",
            "exchange": f"both talkers are rotated in time within each trial, {settings['shifts']} times",
            "ceiling": "none: nobody knows when attention wandered",
        },
        provenance={"responses": fingerprint(*(array.values for array in arrays)), "versions": versions()},
    )
    return dataset
