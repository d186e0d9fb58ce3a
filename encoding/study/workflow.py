"""From a study to its steps: what has to be read, computed and analysed, and what each step rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...models.devices import resolve_device
from ...models.stimuli import StimulusSet
from .features import (
    DERIVED,
    OF_PICTURES,
    array_step,
    derived_step,
    network_step,
    of_layer,
    picture_step,
    timecourse_step,
)
from .format import NO_FILES, PATH_KEYS, PATTERN_KEYS, Model, Study
from .graph import Inputs, Step
from .recordings import Source, read_recording
from .stimuli import read_stimuli

#: keys of an analysis that do not change its numbers
LABELS = ("name", "recordings", "models")


@dataclass(frozen=True)
class Analysis:
    """One analysis of one recording: its entry in the study, and the step that gives its results."""

    entry: Mapping[str, Any]
    recording: str
    step: Step

    @property
    def group(self) -> str:
        """Where its results lie in ``results.nc``."""
        return f"{self.entry['name']}/{self.recording}"


class Workflow:
    """Builds the steps of a study; nothing is computed, but stimuli are opened for their hashes.

    Parameters
    ----------
    study
        A checked study.
    device
        Instead of the study's.

    Raises
    ------
    ValueError
        If the device is not there.
    """

    def __init__(self, study: Study, device: str | None = None) -> None:
        self.study = study
        self.device = device or str(study.table["study"]["device"])
        resolve_device(self.device)
        self._stimuli: dict[str, StimulusSet] = {}
        self._recordings: dict[str, Step] = {}

    def analyses(self) -> list[Analysis]:
        """All analyses of the study, one for each of their recordings."""
        return [
            Analysis(entry, name, ANALYSES[entry["kind"]](self, entry, name))
            for entry in self.study.table["analyses"]
            for name in entry["recordings"]
        ]

    def stimuli(self, name: str) -> StimulusSet:
        """A stimulus set, opened once."""
        if name not in self._stimuli:
            entry = self.study.entry("stimuli", name)
            path = self.study.files(entry["path"])[0] if "path" in entry else None
            self._stimuli[name] = read_stimuli(entry, path, self.study.seed)
        return self._stimuli[name]

    def recording(self, name: str) -> Step:
        """The step that reads or simulates a recording."""
        if name not in self._recordings:
            self._recordings[name] = self._recording(name)
        return self._recordings[name]

    def features(self, model: Model, recording: str) -> Step:
        """The step that gives what a model predicts with, for the stimuli of a recording."""
        if model.section == "recordings":
            return self.recording(model.entry)
        entry = self.study.entry(model.section, model.entry)
        if entry.get("kind") == "timecourse":
            return timecourse_step(model.entry, entry, self.study.files(entry["path"])[0])
        if entry.get("kind") in DERIVED:
            return derived_step(model.entry, entry, self.recording(recording))
        return self._features(model, str(self.study.entry("recordings", recording)["stimuli"]))

    def _features(self, model: Model, shown: str) -> Step:
        entry, stimuli = self.study.entry(model.section, model.entry), self.stimuli(shown)
        if model.section == "networks":
            return network_step(
                model.entry, entry, self.weights(entry), shown, stimuli, self.study.seed, self.device
            )
        if entry["kind"] in OF_PICTURES:
            return picture_step(model.entry, entry, shown, stimuli)
        return array_step(model.entry, entry, self.study.files(entry["path"])[0], shown, stimuli)

    def weights(self, entry: Mapping[str, Any]) -> Path | str:
        """A network's file of weights, or the word that stands for none."""
        return (
            str(entry["weights"]) if entry["weights"] in NO_FILES else self.study.files(entry["weights"])[0]
        )

    def _recording(self, name: str) -> Step:
        entry = self.study.entry("recordings", name)
        files = {key: self.study.files(entry[key], key in PATTERN_KEYS) for key in PATH_KEYS if key in entry}
        stimuli = self.stimuli(entry["stimuli"]) if "stimuli" in entry else None
        drivers = {
            region: (self._features(model, entry["stimuli"]), model.layer)
            for region, reference in entry.get("regions", {}).items()
            for model in self.study.models([reference])
        }
        layers = {region: layer for region, (_, layer) in drivers.items()}
        # where files lie and how stimuli are called is no part of what is read
        settings = {
            key: value for key, value in entry.items() if key not in (*PATH_KEYS, "stimuli", "regions")
        }
        settings |= {"shown": None if stimuli is None else stimuli.hash, "layers": layers}
        if drivers:
            settings["seed"] = self.study.seed
        return Step(
            title=f"{'simulation' if drivers else 'recording'} {name}",
            kind="recording",
            work=partial(_read, files, stimuli, self.study.seed, layers),
            settings=settings,
            inputs={region: step for region, (step, _) in drivers.items()},
            files=tuple(path for paths in files.values() for path in paths),
            form="array",
        )


def _read(
    files: Mapping[str, list[Path]],
    stimuli: StimulusSet | None,
    seed: int,
    layers: Mapping[str, str | None],
    settings: Mapping[str, Any],
    inputs: Inputs,
    folder: Path,
) -> Any:
    drivers = {region: of_layer(inputs[region], layer).load() for region, layer in layers.items()}
    return read_recording(Source(settings, files, stimuli, seed, drivers))


def _options(entry: Mapping[str, Any], workflow: Workflow) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in LABELS} | {"seed": workflow.study.seed}


def _with_models(
    workflow: Workflow, entry: Mapping[str, Any], recording: str
) -> tuple[list[dict[str, Any]], dict[str, Step]]:
    """The models of an analysis as settings, and the steps they and the recording come from."""
    inputs, named = {"recording": workflow.recording(recording)}, []
    for model in workflow.study.models(entry["models"]):
        key = f"model {model.entry}"
        inputs[key] = workflow.features(model, recording)
        named.append({"name": model.name, "input": key, "layer": model.layer})
    return named, inputs


def _encoding(workflow: Workflow, entry: Mapping[str, Any], recording: str) -> Step:
    from .encoders import estimate_fit, evaluate_seed, join_encoders, join_seeds
    from .estimators import RIDGE

    named, inputs = _with_models(workflow, entry, recording)
    options = _options(entry, workflow)
    seeds = options.pop("seeds", [options["seed"]])
    encoders = options.pop("encoders")
    title = f"{entry['name']} of {recording}"
    joined = {}
    for encoder in encoders:
        by = f" by {encoder}" if len(encoders) > 1 else ""
        settings = options | {
            "encoder": workflow.study.table["encoders"].get(encoder, RIDGE),
            "models": named,
        }
        steps = {
            # permutations of the first seed's shuffle control would cost as much as its fit for every seed
            f"seed {seed}": Step(
                title=f"{title}{by}, seed {seed}",
                kind="encoding",
                work=partial(evaluate_seed, workflow.device),
                settings={**settings, "seed": seed, "control": seed == seeds[0]},
                inputs=inputs,
                estimate=partial(estimate_fit, workflow.device),
            )
            for seed in seeds
        }
        joined[encoder] = Step(f"{title}{by}", "encodings", join_seeds, {"seeds": seeds}, steps)
    if len(encoders) == 1:
        return joined[encoders[0]]
    return Step(title, "encoders", join_encoders, {"encoders": encoders}, joined)


def _similarity(workflow: Workflow, entry: Mapping[str, Any], recording: str) -> Step:
    from .similarity import compare_models

    named, inputs = _with_models(workflow, entry, recording)
    settings = {**_options(entry, workflow), "models": named}
    if "sort" in entry:
        settings["groups"] = _groups(workflow, recording, entry)
    return Step(f"{entry['name']} of {recording}", "similarity", compare_models, settings, inputs)


def _groups(workflow: Workflow, recording: str, entry: Mapping[str, Any]) -> dict[str, str]:
    """The label by which stimuli are sorted, for each stimulus id."""
    from .validation import StudyError, allowed

    where = f"{workflow.study.file}: analyses {entry['name']!r}.sort"
    shown = workflow.study.entry("recordings", recording).get("stimuli")
    if shown is None:
        raise StudyError(f"{where} needs the key 'stimuli' in recordings.{recording}.")
    table = workflow.stimuli(shown).table
    if entry["sort"] not in table:
        known = [str(name) for name in table if name != "content_hash"]
        raise StudyError(f"{where} is {entry['sort']!r}{allowed(entry['sort'], known)}")
    return dict(zip(table["stimulus_id"].astype(str), table[entry["sort"]].astype(str), strict=True))


def _decoding(workflow: Workflow, entry: Mapping[str, Any], recording: str) -> Step:
    from .decoding import decode

    inputs = {"recording": workflow.recording(recording)}
    return Step(f"{entry['name']} of {recording}", "decoding", decode, _options(entry, workflow), inputs)


def _agreement(workflow: Workflow, entry: Mapping[str, Any], recording: str) -> Step:
    from .agreement import agree

    inputs = {"recording": workflow.recording(recording)}
    return Step(f"{entry['name']} of {recording}", "agreement", agree, _options(entry, workflow), inputs)


def _exciting(workflow: Workflow, entry: Mapping[str, Any], recording: str) -> Step:
    from .exciting import Shown, excite

    (model,) = workflow.study.models([entry["model"]])
    network = workflow.study.entry("networks", model.entry)
    stimuli = workflow.stimuli(str(workflow.study.entry("recordings", recording)["stimuli"]))
    shown = Shown(stimuli, network, workflow.weights(network), workflow.device)
    settings = {**_options(entry, workflow), "model": {"name": model.name, "layer": model.layer}}
    inputs = {"recording": workflow.recording(recording), "features": workflow.features(model, recording)}
    return Step(f"{entry['name']} of {recording}", "exciting", partial(excite, shown), settings, inputs)


def _attention(workflow: Workflow, entry: Mapping[str, Any], recording: str) -> Step:
    from .attention import follow

    inputs = {"recording": workflow.recording(recording)}
    inputs |= {talker: workflow.recording(entry[talker]) for talker in ("attended", "unattended")}
    return Step(f"{entry['name']} of {recording}", "attention", follow, _options(entry, workflow), inputs)


#: analyses by their kind in study files
ANALYSES: dict[str, Callable[[Workflow, Mapping[str, Any], str], Step]] = {
    "encoding": _encoding,
    "similarity": _similarity,
    "decoding": _decoding,
    "agreement": _agreement,
    "attention": _attention,
    "exciting": _exciting,
}
