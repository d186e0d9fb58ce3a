"""The exciting analysis: the pictures that a model holds most exciting for a unit, and one made for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...models.preprocessing import resize
from ...models.stimuli import StimulusSet
from ...neuro import align, average_repeats
from ..evaluation import evaluate
from ..ridge import RidgeCV
from ..splits import make_splits
from .features import load_network, of_layer
from .graph import Inputs
from .threads import threads_for

Array = NDArray[Any]

#: side of the pictures that are kept with the results, in pixels
THUMBNAIL = 112
#: by how much red, green and blue of a grey picture may differ where it was compressed
GREY = 8


@dataclass(frozen=True)
class Shown:
    """What an analysis needs beside arrays: the pictures, the network's entry and weights, and where it runs."""

    stimuli: StimulusSet
    network: Mapping[str, Any]
    weights: Path | str
    device: str


def excite(shown: Shown, settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> xr.Dataset:
    """Pictures that a ridge encoder holds most exciting for the units that it predicts best.

    Pictures are ranked by predictions of fits that did not see them. A picture is then made for each unit, by
    ascent on what an encoder fitted to all pictures predicts.

    Parameters
    ----------
    shown
        The pictures and the network.
    settings
        The analysis' options and ``model`` (name and layer).
    inputs
        ``"recording"`` and ``"features"``.

    Returns
    -------
    xarray.Dataset
        ``score`` as :func:`cerebridge.encoding.evaluate` gives it; ``measured`` and ``predicted`` (best unit × rank),
        in standard deviations of the unit over pictures, and ``stimulus`` (their ids), by predicted rank;
        ``highest`` (measured responses, best first); ``picture`` (best unit × rank × row × column × colour);
        where pictures are made ``made`` and ``made_predicted``.
    """
    model, cv, seed = settings["model"], settings["cv"], settings["seed"]
    features = of_layer(inputs["features"], model["layer"]).load()
    recording = average_repeats(inputs["recording"])
    with threads_for(features.size):
        dataset = evaluate(
            _encoder(shown.device), {model["name"]: features}, inputs["recording"], cv=cv, random_state=seed
        ).dataset
        x, responses, _ = align(features, recording)
        predicted = _held_out(
            _encoder(shown.device), x, responses, make_splits(responses, cv, random_state=seed).folds
        )
        best = np.argsort(-np.nan_to_num(dataset["score"].mean("split").values[0], nan=-1))[
            : settings["units"]
        ]
        made = _made(shown, settings, x, responses, best)
    return dataset.assign(**_ranked(shown, settings, responses, predicted, best), **made)


def _encoder(device: str) -> RidgeCV:
    return RidgeCV(device=device)


def _held_out(encoder: RidgeCV, x: xr.DataArray, y: xr.DataArray, folds: list[tuple[Array, Array]]) -> Array:
    """Predictions of every response by a fit without it."""
    predicted = np.full(y.shape, np.nan)
    for train, test in folds:
        predicted[test] = encoder.fit(x.values[train], y.values[train]).predict(x.values[test])
    return predicted


def _ranked(
    shown: Shown, settings: Mapping[str, Any], responses: xr.DataArray, predicted: Array, best: Array
) -> dict[str, Any]:
    """The pictures with the highest predictions for each unit, and what was measured."""
    measured = _standardised(responses.values[:, best], responses.values[:, best])
    guessed = _standardised(predicted[:, best], responses.values[:, best])
    order = np.argsort(-guessed, axis=0)[: settings["pictures"]].T
    units = np.arange(len(best))[:, None]
    ids = responses.coords["stimulus_id"].values
    row_of = {key: row for row, key in enumerate(shown.stimuli.table["stimulus_id"])}
    thumbnails = {key: resize(shown.stimuli[row_of[key]], THUMBNAIL) for key in np.unique(ids[order])}
    where = ("best_unit", "rank")
    return {
        "measured": (where, measured.T[units, order]),
        "predicted": (where, guessed.T[units, order]),
        "highest": (where, -np.sort(-measured, axis=0)[: settings["pictures"]].T),
        "stimulus": (where, ids[order].astype(str)),
        "best_neuroid": ("best_unit", responses.coords["neuroid_id"].values[best]),
        "picture": (
            (*where, "row", "column", "colour"),
            np.array([[thumbnails[key] for key in row] for row in ids[order]]),
        ),
    }


def _made(
    shown: Shown, settings: Mapping[str, Any], x: xr.DataArray, y: xr.DataArray, best: Array
) -> dict[str, Any]:
    """A picture for each unit, from an encoder that was fitted to all pictures."""
    from ...models.synthesis import make_exciting

    if not settings["steps"]:
        return {}
    encoder = _encoder(shown.device).fit(x.values, y.values[:, best])
    synthesis = make_exciting(
        load_network(shown.weights, {**shown.network, "seed": settings["seed"]}),
        settings["model"]["layer"],
        encoder.coef_,
        encoder.intercept_,
        pool=shown.network.get("pool"),
        n_starts=1,
        size=int(shown.stimuli[0].shape[0]),
        steps=settings["steps"],
        jitter=4,
        # contrasts and colours that were never shown would excite whatever they show
        contrast=float(np.median([np.std(picture / 255) for picture in shown.stimuli])),
        grey=all(np.ptp(picture.astype(int), axis=2).max() <= GREY for picture in shown.stimuli),
        device=shown.device,
        random_state=settings["seed"],
    )
    pictures = np.stack([resize(picture, THUMBNAIL) for picture in synthesis.stimuli])
    return {
        "made": (("best_unit", "row", "column", "colour"), pictures),
        "made_predicted": ("best_unit", _standardised(synthesis.scores[None], y.values[:, best])[0]),
    }


def _standardised(values: Array, responses: Array) -> Array:
    """In standard deviations from the mean of the unit's responses."""
    centred = values - responses.mean(axis=0)
    return np.asarray(centred / responses.std(axis=0))
