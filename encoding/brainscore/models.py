"""Networks and encoders as subjects of Brain-Score's experiments."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from torch import nn

from ...models.activations import extract
from ...models.names import nearest
from ...models.stimuli import StimulusSet
from ...neuro.assembly import assemble
from ...neuro.interchange import import_brainscore, to_brainscore
from .sides import neuroid_labels
from .stimuli import from_stimulus_set

#: milliseconds in which Brain-Score usually averages responses
TIME_BIN = (70, 170)

#: stimuli in, a labelled array out
Features = Callable[[StimulusSet], xr.DataArray]


def to_model(
    model: nn.Module | Features,
    region_layer_map: Mapping[str, str | Sequence[str] | None],
    *,
    readouts: Mapping[str, Any] | None = None,
    identifier: str | None = None,
    visual_degrees: float = 8,
    behavioural_layer: str | None = None,
    **extraction: Any,
) -> Any:
    """Make a network, a feature space or a fitted encoder a ``BrainModel``.

    Parameters
    ----------
    model
        A torch network; or a function of stimuli that gives a labelled array, such as a hand-built feature space or
        what :func:`~cerebridge.encoding.brainscore.from_model` returns.
    region_layer_map
        Which layers (names of ``net.named_modules()``) stand for a region: ``{"V4": "features.6"}``. ``None`` where
        the model is a function.
    readouts
        Fitted encoders by region: anything with ``predict``. The recording of such a region is what its encoder
        predicts from the activations of the region's layers, in the units and with the labels that it was fitted to.
    identifier
        Default: the class or function's name.
    visual_degrees
        Degrees of the visual field that the input covers; benchmarks place their images accordingly.
    behavioural_layer
        What behaviour is read out from; default: the last layer of the map.
    extraction
        For :func:`cerebridge.models.extract`: ``preprocess``, ``pool``, ``batch_size``, ``memory``, ``device``, ….

    Returns
    -------
    BrainModel
        An instance of Brain-Score's class where that is installed. ``look_at`` takes stimuli of ours (and returns a
        labelled array) or of Brain-Score's (and returns an assembly). Tasks (``passive``, ``label``,
        ``probabilities``, ``odd_one_out``) are Brain-Score's own behaviours on these activations; for ``label``
        the network's output must be the 1000 classes of ImageNet.

    Raises
    ------
    ValueError
        If a layer is unknown, or a readout belongs to no region.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding, models
    >>> net = models.load("tiny", weights="random")
    >>> brain_model = encoding.brainscore.to_model(net, {"IT": "conv3"}, pool="global", progress=False)
    >>> brain_model.start_recording("IT")
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((2, 32, 32, 3), np.uint8))
    >>> brain_model.look_at(stimuli).sizes["presentation"]
    2
    """
    if not region_layer_map:
        raise ValueError(
            "region_layer_map is empty; say which layer stands for which region: {'IT': 'layer4'}."
        )
    stray = [region for region in readouts or {} if region not in region_layer_map]
    if stray:
        raise ValueError(f"the readout of {stray[0]!r} has no layers; add the region to region_layer_map.")
    regions = {
        region: [layers] if isinstance(layers, str) else list(layers or [])
        for region, layers in region_layer_map.items()
    }
    if not visual_degrees > 0:
        raise ValueError(f"visual_degrees is {visual_degrees!r}; it must be above 0.")
    if isinstance(model, nn.Module):
        wanted = {f"the region {region!r}": layers for region, layers in regions.items()}
        _check_layers(model, wanted | ({"behaviour": [behavioural_layer]} if behavioural_layer else {}))
        if identifier is None:
            identifier = type(model).__name__
    elif extraction:
        raise TypeError(f"{next(iter(extraction))}= is for networks; the model is a function of stimuli.")
    source = _Source(model, extraction)
    name = identifier or getattr(model, "identifier", getattr(model, "__name__", type(model).__name__))
    listed = [layer for layers in regions.values() for layer in layers]
    last = behavioural_layer or (listed[-1] if listed else None)
    return _subject_class()(source, regions, dict(readouts or {}), str(name), visual_degrees, last)


def _check_layers(net: nn.Module, wanted: Mapping[str, Sequence[str]]) -> None:
    """All layers must be there, by what they are for."""
    known = dict(net.named_modules())
    for purpose, layers in wanted.items():
        unknown = [layer for layer in layers if layer.partition("[")[0].partition(":")[0] not in known]
        if unknown or not layers:
            wrong = f"no layer {unknown[0]!r}; {nearest(unknown[0], known)}" if unknown else "no layers given"
            raise ValueError(f"for {purpose} the network has {wrong}.")


@dataclass(frozen=True)
class _Source:
    """What gives the activations of layers for stimuli of ours."""

    model: Any
    extraction: Mapping[str, Any]

    def record(self, stimuli: StimulusSet, layers: Sequence[str]) -> xr.DataArray:
        """Activations of some layers; a function of stimuli gives all that it has."""
        if isinstance(self.model, nn.Module):
            return extract(self.model, stimuli, layers, **self.extraction)
        array = self.model(stimuli)
        if not layers:
            return array
        if "layer" not in array.coords or not set(layers) <= set(array["layer"].values.tolist()):
            raise ValueError(
                f"the model's array has not all of the layers {', '.join(layers)}; correct the map."
            )
        return array.isel(neuroid=np.flatnonzero(np.isin(array["layer"].values, layers)))


class Subject:
    """A network in Brain-Score's experiments: it looks at stimuli and is recorded from; made by :func:`to_model`."""

    def __init__(
        self,
        source: _Source,
        regions: Mapping[str, list[str]],
        readouts: Mapping[str, Any],
        identifier: str,
        visual_degrees: float,
        behavioural_layer: str | None,
    ) -> None:
        self.source, self.region_layer_map, self.readouts = source, dict(regions), readouts
        self._identifier, self._degrees = identifier, visual_degrees
        self._behavioural_layer = behavioural_layer
        self._region: str | None = None
        self._time_bins: list[tuple[float, float]] = []
        self._behaviour: Any = None

    @property
    def identifier(self) -> str:
        """Name the model."""
        return self._identifier

    def visual_degrees(self) -> float:
        """Say how many degrees of the visual field the input covers."""
        return self._degrees

    def start_recording(self, recording_target: str, time_bins: Any = None) -> None:
        """Record from a region from now on, in bins of milliseconds; activations are the same in all of them."""
        if recording_target not in self.region_layer_map:
            raise ValueError(
                f"{self.identifier} has no layers for the region {recording_target!r}, only for "
                f"{', '.join(map(repr, self.region_layer_map))}; add it to region_layer_map."
            )
        # Brain-Score's single bins are tuples within arrays without dimensions
        bins = [np.asarray(each).tolist() for each in ([TIME_BIN] if time_bins is None else time_bins)]
        if not bins or not all(isinstance(each, list | tuple) and len(each) == 2 for each in bins):
            raise ValueError(f"time_bins are {time_bins!r}; give pairs of milliseconds, [(70, 170)].")
        self._region, self._behaviour = recording_target, None
        self._time_bins = [(float(start), float(end)) for start, end in bins]

    def start_task(self, task: str, *args: Any, **kwargs: Any) -> None:
        """Perform one of Brain-Score's tasks from now on."""
        if task == "passive":
            self._behaviour = None
            return
        behaviour = import_brainscore("brainscore_vision.model_helpers.brain_transformation.behavior")
        classes = {
            "label": behaviour.LabelBehavior,
            "probabilities": partial(behaviour.ProbabilitiesMapping, layer=self._behavioural_layer),
            "odd_one_out": partial(behaviour.OddOneOut, layer=self._behavioural_layer),
        }
        if task not in classes:
            raise ValueError(
                f"there is no task {task!r}; there are 'passive', {', '.join(map(repr, classes))}."
            )
        self._behaviour = classes[task](identifier=self.identifier, activations_model=self._activations)
        self._behaviour.start_task(task, *args, **kwargs)

    def look_at(self, stimuli: Any, number_of_trials: int = 1, require_variance: bool = False) -> Any:
        """Show stimuli and give what is recorded, or what is done; trials are all the same.

        Raises
        ------
        ValueError
            If nothing is recorded, or trials are to vary.
        """
        if require_variance:
            raise ValueError(
                f"{self.identifier} responds the same in every trial; require_variance cannot be met."
            )
        if self._behaviour is not None:
            return self._behaviour.look_at(stimuli)
        if self._region is None:
            raise ValueError("nothing is recorded; call start_recording with a region, or start_task, first.")
        ours, rows = _shown(stimuli)
        array = self._recorded(ours, self._region)
        if len(self._time_bins) > 1:
            array = _in_bins(array, self._time_bins)
        return array if ours is stimuli else to_brainscore(array.isel(presentation=rows))

    def _recorded(self, stimuli: StimulusSet, region: str) -> xr.DataArray:
        array = self.source.record(stimuli, self.region_layer_map[region])
        if region in self.readouts:
            array = _predicted(self.readouts[region], array, region)
        return array.assign_coords(region=("neuroid", [region] * array.sizes["neuroid"]))

    def _activations(self, stimuli: Any, layers: Sequence[str], **_: Any) -> Any:
        """What behaviours read: an assembly of the layers, or of the network's output (``"logits"``)."""
        if not isinstance(self.source.model, nn.Module):
            names = [layer for layer in layers if layer is not None]
        else:
            output = [name for name, _ in self.source.model.named_modules()][-1]
            names = [output if layer == "logits" else layer for layer in layers]
        ours, rows = _shown(stimuli)
        return to_brainscore(self.source.record(ours, names).isel(presentation=rows))


def _subject_class() -> type:
    """:class:`Subject`, and a ``BrainModel`` too where Brain-Score is installed."""
    if find_spec("brainscore_vision") is None:
        return Subject
    base = import_brainscore("brainscore_vision.model_interface").BrainModel
    return type("Subject", (Subject, base), {"__doc__": Subject.__doc__, "__module__": __name__})


def _shown(stimuli: Any) -> tuple[StimulusSet, list[int]]:
    """Stimuli of ours, each once, and the row of each that was asked for."""
    if isinstance(stimuli, StimulusSet):
        return stimuli, list(range(len(stimuli)))
    if isinstance(stimuli, pd.DataFrame):
        ids = stimuli["stimulus_id"].tolist()
        first = stimuli.drop_duplicates("stimulus_id")
        if first is not stimuli:
            first.stimulus_paths = stimuli.stimulus_paths
        ours = from_stimulus_set(first)
    else:
        if isinstance(stimuli, str | Path) or not all(isinstance(path, str | Path) for path in stimuli):
            raise TypeError(
                f"a model looks at stimuli of ours or Brain-Score's, or a list of files, got {type(stimuli).__name__}."
            )
        ids = [Path(path).as_posix() for path in stimuli]
        ours = StimulusSet.from_table({"path": list(dict.fromkeys(ids))})
    place = {stimulus: row for row, stimulus in enumerate(ours.table["stimulus_id"])}
    return ours, [place[stimulus] for stimulus in ids]


def _predicted(readout: Any, array: xr.DataArray, region: str) -> xr.DataArray:
    """What an encoder predicts, labelled as what it was fitted to where it knows that."""
    found = readout.predict(array)
    labels: dict[str, Any] = {}
    if isinstance(found, xr.DataArray):
        labels = neuroid_labels(found.transpose("presentation", "neuroid"))
        found = found.transpose("presentation", "neuroid").values
    values = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found)
    values = values.reshape(len(values), -1)
    if "neuroid_id" not in labels:
        labels = {"neuroid_id": [f"{region}.{unit}" for unit in range(values.shape[1])]}
    table = {str(name): c.values for name, c in array.coords.items() if c.dims == ("presentation",)}
    provenance = json.dumps(
        {"readout": type(readout).__name__, "features": array.attrs.get("provenance", "")}
    )
    return assemble(
        values, presentation=table, neuroid=labels, modality="prediction", units="a.u.", provenance=provenance
    )


def _in_bins(array: xr.DataArray, bins: Sequence[tuple[float, float]]) -> xr.DataArray:
    """The same values in every time bin."""
    start, end = (np.array([each[side] for each in bins]) / 1000 for side in (0, 1))
    timed = array.expand_dims(time_bin=len(bins), axis=2).copy()
    timed.attrs.update(array.attrs)
    return timed.assign_coords(time_bin_start=("time_bin", start), time_bin_end=("time_bin", end))
