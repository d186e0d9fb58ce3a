"""Brain-Score's models as functions of stimuli that give labelled arrays."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import xarray as xr

from ...models.stimuli import StimulusSet
from ...neuro.interchange import from_brainscore
from .models import TIME_BIN
from .plugins import load_plugin
from .stimuli import to_stimulus_set


def from_model(
    model: Any,
    *,
    layers: str | Sequence[str] | None = None,
    region: str | None = None,
    time_bin: tuple[int, int] = TIME_BIN,
) -> Extractor:
    """Make a model of Brain-Score's a function of stimuli that gives labelled arrays.

    Parameters
    ----------
    model
        A ``PytorchWrapper`` or another activations model, a ``BrainModel`` such as a ``ModelCommitment``, or the
        identifier of one that Brain-Score can load.
    layers
        Names of layers, to read activations.
    region
        What to record from a ``BrainModel``: ``"V1"``, ``"V2"``, ``"V4"``, ``"IT"``.
    time_bin
        Start and end of the recording, in ms.

    Returns
    -------
    Extractor
        ``extractor(stimuli)`` is ``presentation × neuroid`` in the order of the stimuli; ``.identifier``.

    Raises
    ------
    ValueError
        If neither or both of ``layers`` and ``region`` are given, or the model has no such thing.
    ConnectionError, ImportError
        If a model is to be loaded and cannot be.

    Examples
    --------
    >>> from cerebridge import encoding
    >>> extractor = encoding.brainscore.from_model("alexnet", region="IT")  # doctest: +SKIP
    >>> activations = extractor(stimuli)  # doctest: +SKIP
    """
    if isinstance(model, str):
        model = load_plugin("model", model)
    if (layers is None) == (region is None):
        raise ValueError(
            "give layers= to read activations, or region= to record from a BrainModel; one of the two."
        )
    records, activations = hasattr(model, "look_at"), getattr(model, "activations_model", model)
    if region is not None and not records:
        raise ValueError(f"{type(model).__name__} has no regions to record from; give layers=.")
    if layers is not None and (activations is model and records):
        raise ValueError(f"{type(model).__name__} does not show its layers; give region=.")
    names = (layers,) if isinstance(layers, str) else tuple(layers or ())
    if not names and region is None:
        raise ValueError("layers is empty; name one at least, or give region=.")
    return Extractor(activations if names else model, names, region, time_bin)


@dataclass(frozen=True)
class Extractor:
    """A model of Brain-Score's as a function of stimuli; made by :func:`from_model`."""

    model: Any
    layers: tuple[str, ...]
    region: str | None
    time_bin: tuple[int, int]

    @property
    def identifier(self) -> str:
        """Name the model."""
        return str(getattr(self.model, "identifier", type(self.model).__name__))

    def __call__(self, stimuli: StimulusSet) -> xr.DataArray:
        """Show the stimuli, and give what is recorded.

        Raises
        ------
        ValueError
            If the model has no such layer or region.
        """
        with tempfile.TemporaryDirectory(prefix="brainscore-") as folder:
            shown = to_stimulus_set(stimuli, folder)
            try:
                assembly = self._show(shown)
            except (AssertionError, KeyError) as error:
                what = (
                    f"the region {self.region!r}" if self.region else f"the layers {', '.join(self.layers)}"
                )
                raise ValueError(f"{self.identifier} cannot record {what} ({error}).") from error
        facts = {"model": self.identifier, "layers": self.layers, "region": self.region, "by": "Brain-Score"}
        array = from_brainscore(assembly, modality="activation", units="a.u.", provenance=json.dumps(facts))
        place = {stimulus: row for row, stimulus in enumerate(array["stimulus_id"].values.tolist())}
        array = array.isel(presentation=[place[stimulus] for stimulus in stimuli.table["stimulus_id"]])
        return array.drop_vars([name for name in ("stimulus_path",) if name in array.coords])

    def _show(self, shown: Any) -> Any:
        if self.region is None:
            return self.model(shown, layers=list(self.layers))
        timed = (
            "time_bins" in signature(self.model.start_recording).parameters
        )  # models of layers know no time
        self.model.start_recording(self.region, **({"time_bins": [self.time_bin]} if timed else {}))
        return self.model.look_at(shown)
