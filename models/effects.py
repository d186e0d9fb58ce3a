"""What changing a network's activations does to its outputs: paired differences, and those of other units."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__
from ..neuro.layers import Layer, label_features
from ..neuro.progress import track
from .batches import Feed, Preprocess, cut_rows, map_inputs, preprocess_by_default, stack_inputs
from .changes import Ablate, Change, Intervention
from .devices import resolve_device
from .interventions import intervene
from .memory import format_bytes, parse_bytes
from .names import describe
from .pooling import Pool, resolve_pool
from .stimuli import StimulusSet
from .taps import Inputs, LayerTaps, evaluating
from .zoo import fingerprint

Changes = Mapping[str, Change]
Array = NDArray[Any]

#: share of intervals that should hold the true mean difference
COVERAGE = 0.95


def measure_effect(
    net: nn.Module,
    stimuli: StimulusSet,
    interventions: Changes | Mapping[str, Changes],
    outputs: Sequence[str] | None = None,
    *,
    controls: int = 19,
    pool: Pool = None,
    preprocess: Preprocess | None = None,
    batch_size: int = 64,
    bootstrap: int = 1000,
    memory: str | int = "2GiB",
    device: str | torch.device = "auto",
    random_state: int = 0,
    progress: bool | None = None,
) -> xr.Dataset:
    """Measure what interventions do to a network's outputs, stimulus by stimulus, beside the same done to other units.

    Parameters
    ----------
    net
        Any network whose forward pass takes one batch.
    stimuli
        What is shown to it.
    interventions
        Changes by layer, as :func:`models.intervene` takes them; or several such sets by name. ``Ablate`` by mean or
        by other stimuli refers to all of ``stimuli`` unless it has a reference.
    outputs
        Layers at which effects are measured. Default: what the network gives.
    controls
        How often each intervention is repeated on as many random other units of its layers. 0 for none, which changes
        of whole layers and functions need, as they have no units to exchange.
    pool
        Reduces the outputs, as in :func:`models.extract`.
    preprocess
        Turns a stimulus into the network's input. Default: as in :func:`models.extract`.
    batch_size
        Stimuli that run at a time.
    bootstrap
        Draws of stimuli for the 95 % interval of the mean difference.
    memory
        What the differences may take.
    device, progress
        As everywhere.
    random_state
        Seeds controls and draws.

    Returns
    -------
    xarray.Dataset
        ``difference`` (intervention × presentation × neuroid), output with the intervention minus output without it;
        ``effect``, its mean over stimuli, with ``low`` and ``high``; ``baseline``, the mean output without;
        ``control_effect`` (intervention × control × neuroid), those of random units; and ``p``, the share of controls
        (and the effect itself) that are at least as large in size. ``["effect", "low", "high", "p"]`` makes a table
        by ``to_dataframe()``.

    Raises
    ------
    ValueError
        If a layer or unit is unknown, controls are impossible, or the differences exceed the memory.

    References
    ----------
    Bau et al. (2020). Understanding the role of individual units in a deep neural network. PNAS 117:30071.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> net = models.load("tiny", weights="random")
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((5, 32, 32, 3), np.uint8))
    >>> effect = models.measure_effect(net, stimuli, {"conv2": models.Ablate(units=[3])}, ["readout"])
    >>> dict(effect.effect.sizes)
    {'intervention': 1, 'neuroid': 10}
    """
    sets = _named(interventions)
    for name, count in (("controls", controls), ("bootstrap", bootstrap - 1), ("batch_size", batch_size - 1)):
        if count < 0:
            raise ValueError(f"{name}= is too small; give a larger whole number.")
    prepare = cast(Preprocess, preprocess or getattr(net, "preprocess", preprocess_by_default))
    kept = next((w.dtype for w in net.parameters() if w.is_floating_point()), torch.float32)
    taps = None if outputs is None else LayerTaps(net, [outputs] if isinstance(outputs, str) else outputs)
    lab = _Lab(
        net,
        taps,
        resolve_pool(pool, taps.layers if taps else ()),
        Feed(stimuli, prepare, kept),
        batch_size,
        resolve_device(device),
    )
    rng = np.random.default_rng(random_state)
    with evaluating(net, lab.device):
        first = lab.moved(stack_inputs([lab.feed.load(0)]))
        if taps is not None:
            taps.check(first)
        shapes = _label(lab, first)
        _require_memory(len(sets) * len(stimuli) * sum(s.size for s in shapes) * 4, parse_bytes(memory))
        sets = {name: _referring(lab, changes) for name, changes in sets.items()}
        others = [_controls(lab, changes, first, controls, rng) for changes in sets.values()]
        measured = _measure(lab, list(sets.values()), others, progress)
    facts = {
        "network": type(net).__name__,
        "weights": fingerprint(net),
        "interventions": {
            name: {layer: _described(change) for layer, change in changes.items()}
            for name, changes in sets.items()
        },
        "pool": describe(pool),
        "preprocess": describe(prepare),
        "stimuli": stimuli.hash,
        "random_state": random_state,
        "cerebridge": __version__,
    }
    return _dataset(list(sets), stimuli, shapes, measured, bootstrap, rng, json.dumps(facts))


@dataclass(frozen=True)
class _Lab:
    """A network, what is shown to it and where it is listened to."""

    net: nn.Module
    taps: LayerTaps | None
    reduce: Callable[[Tensor], Tensor]
    feed: Feed
    batch_size: int
    device: torch.device

    def batches(self) -> tuple[int, Iterator[Inputs]]:
        rows = cut_rows(range(len(self.feed.stimuli)), self.batch_size)
        return len(rows), (self.moved(inputs) for _, inputs in self.feed.ahead(rows, self.device))

    def moved(self, inputs: Inputs) -> Any:
        return map_inputs(inputs, lambda tensor: tensor.to(self.device))

    def call(self, inputs: Inputs) -> Any:
        return self.net(**inputs) if isinstance(inputs, Mapping) else self.net(inputs)

    def listen(self, inputs: Inputs) -> dict[str, Tensor]:
        """The reduced outputs, by layer."""
        heard: dict[str, Tensor] = {}

        def receive(layer: str, output: Tensor) -> None:
            heard[layer] = self.reduce(output).clone()

        if self.taps is not None:
            self.taps.run(inputs, receive)
            return {layer: heard[layer] for layer in self.taps.layers}
        output = self.call(inputs)
        while not isinstance(output, Tensor) and len(output):
            output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
        receive("output", output)
        return heard

    def outputs(self, inputs: Inputs) -> Tensor:
        """All reduced outputs side by side (batch × features)."""
        return torch.cat([output.reshape(len(output), -1) for output in self.listen(inputs).values()], 1)


def _named(interventions: Changes | Mapping[str, Changes]) -> dict[str, Changes]:
    if not isinstance(interventions, Mapping) or not interventions:
        raise ValueError(
            "interventions= is empty or no mapping; give {layer: change}, or {name: {layer: change}}."
        )
    if all(isinstance(entry, Mapping) for entry in interventions.values()):
        return dict(cast(Mapping[str, Changes], interventions))
    return {"intervention": cast(Changes, interventions)}


def _label(lab: _Lab, first: Inputs) -> list[Layer]:
    return [Layer(name, tuple(o.shape[1:]) or (1,), "<f4") for name, o in lab.listen(first).items()]


def _require_memory(needed: int, budget: int) -> None:
    if needed > budget:
        raise ValueError(
            f"the differences take {format_bytes(needed)}, more than memory={format_bytes(budget)}; name fewer "
            "outputs, pool them, or raise memory=."
        )


def _spied(lab: _Lab, layers: Sequence[str], inputs: Inputs) -> dict[str, Tensor]:
    """Activations at the places where changes will be made."""
    seen: dict[str, Tensor] = {}

    def spy(layer: str) -> Change:
        return lambda activations: seen.setdefault(layer, activations) if layer not in seen else activations

    with intervene(lab.net, {layer: spy(layer) for layer in layers}):
        lab.call(inputs)
    return seen


def _referring(lab: _Lab, changes: Changes) -> Changes:
    """The changes with all stimuli as the reference of ablations that lack one."""
    wanting = {
        layer: change
        for layer, change in changes.items()
        if isinstance(change, Ablate) and change.how != "zero" and change.reference is None
    }
    if not wanting:
        return changes
    parts: dict[str, list[Tensor]] = {layer: [] for layer in wanting}
    for inputs in lab.batches()[1]:
        for layer, seen in _spied(lab, list(wanting), inputs).items():
            # of a mean no more is kept than each batch's share of it
            share = seen.sum(0, dtype=torch.float64)[None] / len(lab.feed.stimuli)
            parts[layer].append(seen.clone() if wanting[layer].how == "resample" else share)
    references = {
        layer: torch.cat(found) if wanting[layer].how == "resample" else torch.cat(found).sum(0, keepdim=True)
        for layer, found in parts.items()
    }
    return {
        layer: replace(wanting[layer], reference=references[layer]) if layer in wanting else change
        for layer, change in changes.items()
    }


def _controls(lab: _Lab, changes: Changes, first: Inputs, n: int, rng: np.random.Generator) -> list[Changes]:
    """The same changes of random other units."""
    if not n:
        return []
    seen = _spied(lab, list(changes), first)
    drawn: list[Changes] = []
    for _ in range(n):
        control: dict[str, Change] = {}
        for layer, change in changes.items():
            try:
                if not isinstance(change, Intervention):
                    raise ValueError("the change is a function, which has no units to exchange")
                control[layer] = change.matched(seen[layer], rng)
            except ValueError as error:
                raise ValueError(f"there can be no controls at {layer!r}: {error}; use controls=0.") from None
        drawn.append(control)
    return drawn


@dataclass
class _Measured:
    """Sums and differences over all stimuli."""

    baseline: Array
    differences: Array
    controls: Array


def _measure(lab: _Lab, sets: list[Changes], others: list[list[Changes]], progress: bool | None) -> _Measured:
    # what is random goes on from batch to batch, so that batches do not repeat each other
    begun = [_begun(changes) for changes in sets]
    begun_others = [[_begun(changes) for changes in controls] for controls in others]
    n = len(lab.feed.stimuli)
    sums: Any = 0.0
    differences: list[list[Array]] = [[] for _ in sets]
    controls = [[cast(Any, 0.0)] * len(own) for own in begun_others]
    total, batches = lab.batches()
    for inputs in track(batches, "intervening", total=total, show=progress):
        plain = lab.outputs(inputs)
        sums = sums + plain.sum(0, dtype=torch.float64).cpu().numpy()
        for k, changes in enumerate(begun):
            with intervene(lab.net, changes):
                differences[k].append((lab.outputs(inputs) - plain).float().cpu().numpy())
            for c, control in enumerate(begun_others[k]):
                with intervene(lab.net, control):
                    moved = (lab.outputs(inputs) - plain).sum(0, dtype=torch.float64)
                controls[k][c] = controls[k][c] + moved.cpu().numpy() / n
    return _Measured(sums / n, np.stack([np.concatenate(parts) for parts in differences]), np.array(controls))


def _begun(changes: Changes) -> Changes:
    return {
        layer: change.begin() if isinstance(change, Intervention) else change
        for layer, change in changes.items()
    }


def _dataset(
    names: list[str],
    stimuli: StimulusSet,
    layers: list[Layer],
    measured: _Measured,
    draws: int,
    rng: np.random.Generator,
    provenance: str,
) -> xr.Dataset:
    differences = measured.differences
    effect = differences.mean(axis=1, dtype=np.float64)
    n = differences.shape[1]
    counts = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float32) / n
    tails = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
    low, high = np.stack([np.quantile(counts @ each, tails, axis=0) for each in differences], axis=1)
    dims = ("intervention", "neuroid")
    variables: dict[str, Any] = {
        "effect": (dims, effect),
        "low": (dims, low),
        "high": (dims, high),
        "baseline": (("neuroid",), measured.baseline),
        "difference": (("intervention", "presentation", "neuroid"), differences),
    }
    if measured.controls.size:
        at_least = np.abs(measured.controls) >= np.abs(effect)[:, None]
        variables["control_effect"] = (("intervention", "control", "neuroid"), measured.controls)
        variables["p"] = (dims, (1 + at_least.sum(axis=1)) / (1 + measured.controls.shape[1]))
    coords: dict[str, Any] = {"intervention": names}
    coords |= {name: ("presentation", column.to_numpy()) for name, column in stimuli.table.items()}
    coords |= {name: ("neuroid", column.to_numpy()) for name, column in label_features(layers).items()}
    return xr.Dataset(variables, coords, {"units": "a.u.", "provenance": provenance})


def _described(change: Change) -> str:
    if not isinstance(change, Intervention):
        return describe(change)
    parts = {name: value for name, value in vars(change).items() if name != "reference"}
    return f"{type(change).__name__}({', '.join(f'{name}={value}' for name, value in parts.items())})"
