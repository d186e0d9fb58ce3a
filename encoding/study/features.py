"""What predicts: activations of a network's layers, hand-built features, or features in a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import xarray as xr

from ... import encoding, models
from ...models.stimuli import StimulusSet
from ...neuro.assembly import assemble
from .continuous import read_continuous
from .files import load_values
from .graph import Inputs, Step
from .recordings import presentations_of
from .validation import allowed

#: hand-built feature spaces of pictures: kinds in study files, and what computes them in ``models.features``
OF_PICTURES = {"pixels": "pixels", "gabor": "gabor_pyramid", "hmax": "hmax", "colour": "colour_statistics"}


def network_step(
    name: str,
    entry: Mapping[str, Any],
    weights: Path | str,
    stimuli_name: str,
    stimuli: StimulusSet,
    seed: int,
    device: str,
) -> Step:
    """The step that runs a network over a stimulus set and keeps all its layers.

    Parameters
    ----------
    name, entry
        The network in the study.
    weights
        Its file of weights; ``"random"`` draws them with ``seed``, ``"pretrained"`` looks into the local cache.
    stimuli_name, stimuli
        What it is shown.
    device
        Where it runs; has no part in the step's key.
    """
    settings = {key: entry.get(key) for key in ("name", "layers", "pool", "dtype")} | {
        "stimuli": stimuli.hash
    }
    if isinstance(weights, str):
        settings |= {"weights": weights, "seed": seed}
    return Step(
        title=f"activations of {name} on {stimuli_name}",
        kind="activations",
        work=partial(_extract, weights, stimuli, device),
        settings=settings,
        files=() if isinstance(weights, str) else (weights,),
        form="folder",
        estimate=partial(_try_out, weights, stimuli, device),
    )


def picture_step(name: str, entry: Mapping[str, Any], stimuli_name: str, stimuli: StimulusSet) -> Step:
    """The step that computes a hand-built feature space of pictures.

    Parameters
    ----------
    name, entry
        The feature space in the study; all but its ``kind`` are arguments.
    stimuli_name, stimuli
        Of which pictures.
    """
    compute = picture_space(entry["kind"])
    return Step(
        title=f"{name} of {stimuli_name}",
        kind=entry["kind"],
        work=lambda settings, inputs, folder: compute(stimuli, **settings["options"]),
        settings={"options": picture_options(entry), "stimuli": stimuli.hash},
        form="array",
        estimate=partial(_try_one, compute, stimuli),
    )


def picture_space(kind: str) -> Callable[..., xr.DataArray]:
    """The function behind a kind of feature space."""
    return cast(Callable[..., xr.DataArray], getattr(models.features, OF_PICTURES[kind]))


def picture_options(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Its arguments, as a study gives them."""
    return dict(entry.get("options", {key: value for key, value in entry.items() if key != "kind"}))


def picture_problems(where: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Say which option of a hand-built feature space does not exist."""
    known = [name for name in signature(picture_space(entry["kind"])).parameters if name != "stimuli"]
    for option in picture_options(entry):
        if option not in known:
            yield f"{where}.options has the unknown key {option!r}{allowed(option, known)}"


def array_step(
    name: str, entry: Mapping[str, Any], path: Path, stimuli_name: str, stimuli: StimulusSet
) -> Step:
    """The step that reads features from a file."""
    return Step(
        title=f"{name} of {stimuli_name}",
        kind="features",
        work=partial(_read_features, path, stimuli),
        settings={"key": entry.get("key"), "stimuli": stimuli.hash},
        files=(path,),
        form="array",
    )


def timecourse_step(name: str, entry: Mapping[str, Any], path: Path) -> Step:
    """The step that reads features over time from a file."""
    return Step(
        title=f"{name} over time",
        kind="timecourse",
        work=lambda settings, inputs, folder: read_continuous(path, settings, "features", "a.u."),
        settings={key: value for key, value in entry.items() if key not in ("kind", "path")},
        files=(path,),
        form="array",
    )


def derived_step(name: str, entry: Mapping[str, Any], recording: Step) -> Step:
    """The step that makes features of a recording itself: indicators of a label, or its own past."""
    work, keys = DERIVED[entry["kind"]]
    return Step(
        title=f"{name} of {recording.title}",
        kind=entry["kind"],
        work=work,
        settings={key: entry.get(key) for key in keys},
        inputs={"recording": recording},
        form="array",
    )


def of_layer(array: xr.DataArray, layer: str | None) -> xr.DataArray:
    """One layer of activations; everything where there are no layers."""
    if layer is None:
        return array
    return array.isel(neuroid=np.flatnonzero(array.coords["layer"].values == layer))


def _extract(
    weights: Path | str,
    stimuli: StimulusSet,
    device: str,
    settings: Mapping[str, Any],
    inputs: Inputs,
    folder: Path,
) -> None:
    network = load_network(weights, settings)
    models.extract(
        network,
        stimuli,
        settings["layers"],
        store=folder,
        pool=settings["pool"],
        dtype=settings["dtype"],
        device=device,
    )


def _try_out(
    weights: Path | str, stimuli: StimulusSet, device: str, settings: Mapping[str, Any], inputs: Inputs
) -> dict[str, float]:
    """Bytes and seconds of all stimuli, from runs over one and a few, after a first one that warms up."""
    network = load_network(weights, settings)
    taken: dict[int, float] = {}
    size = 0.0
    for n in (1, 1, min(9, len(stimuli))):
        started = time.perf_counter()
        activations = models.extract(
            network,
            stimuli[:n],
            settings["layers"],
            pool=settings["pool"],
            dtype=settings["dtype"],
            device=device,
            progress=False,
        )
        taken[n], size = time.perf_counter() - started, activations.nbytes / n
    few, many = min(taken), max(taken)
    each = (taken[many] - taken[few]) / max(many - few, 1)
    return {"bytes": size * len(stimuli), "seconds": taken[many] + max(each, 0.0) * (len(stimuli) - many)}


def _try_one(
    compute: Callable[..., xr.DataArray],
    stimuli: StimulusSet,
    settings: Mapping[str, Any],
    inputs: Inputs,
) -> dict[str, float]:
    """Bytes and seconds of all stimuli, from one of them."""
    started = time.perf_counter()
    size = compute(stimuli[:1], **settings["options"]).nbytes
    return {"bytes": float(size * len(stimuli)), "seconds": (time.perf_counter() - started) * len(stimuli)}


def load_network(weights: Path | str, settings: Mapping[str, Any]) -> Any:
    """A network as a study names it; random weights are drawn with ``seed``."""
    return models.load(settings["name"], weights=weights, seed=settings.get("seed", 0))


def _read_features(
    path: Path, stimuli: StimulusSet, settings: Mapping[str, Any], inputs: Inputs, folder: Path
) -> xr.DataArray:
    values = load_values(path, settings["key"])
    values = values.reshape(len(values), -1)
    return assemble(
        values,
        presentation=presentations_of(stimuli, len(values), path.name),
        neuroid={"neuroid_id": np.arange(values.shape[1])},
        modality="features",
        units="a.u.",
        provenance=f"read from {path.name}",
    )


def _indicators(settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> xr.DataArray:
    recording = inputs["recording"]
    label, rows = settings["label"], recording.dims[0]
    if label not in recording.coords or recording.coords[label].dims != (rows,):
        raise ValueError(f"the recording has no label {label!r} along {rows!r} to make indicators of.")
    values = recording.coords[label].values
    known = [
        value for value in pd.unique(values[~pd.isna(values)]) if str(value) not in (settings["omit"] or [])
    ]
    known = sorted((value for value in known if value != ""), key=str)
    indicators = (values[:, None] == np.array(known, dtype=values.dtype)).astype(np.float64)
    labels = {name: coord.values for name, coord in recording.coords.items() if coord.dims == (rows,)}
    array = assemble(
        indicators,
        presentation=labels if rows == "presentation" else None,
        time_bin=labels if rows == "time_bin" else None,
        neuroid={"neuroid_id": [str(value) for value in known]},
        modality="features",
        units="a.u.",
        sfreq=recording.attrs.get("sfreq"),
        provenance=f"indicators of {label}",
    )
    return array if settings["hrf"] is None else encoding.convolve_hrf(array, recording, settings["hrf"])


def _past(settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> xr.DataArray:
    recording, window, n_basis = inputs["recording"], settings["window"], settings["n_basis"]
    bases = encoding.bases
    free = n_basis >= window
    basis = bases.History(window) if free else bases.RaisedCosine(n_basis, spacing="log", window=window)
    design = bases.design({"past": (basis, recording)}, groups="run" if "run" in recording.coords else None)
    labels = {name: coord.values for name, coord in recording.coords.items() if coord.dims == ("time_bin",)}
    columns = {name: design[name].values for name in ("neuroid_id", "source", "basis")}
    return assemble(
        design.values,
        time_bin=labels,
        neuroid=columns,
        modality="features",
        units="a.u.",
        sfreq=recording.attrs.get("sfreq"),
        provenance=f"past {window} time bins",
    )


#: what can be made of a recording, and from which settings
DERIVED = {"labels": (_indicators, ("label", "omit", "hrf")), "past": (_past, ("window", "n_basis"))}
