"""Plans: how an extraction is cut into passes, batches and shards so that it keeps its promise about memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from .batches import count_decoders
from .memory import LABEL_BYTES, WORKSPACE, choose_batch, format_bytes, plan_batches
from .reduction import PCA, Reduction
from .trials import PROBE, Trial

#: stimuli a shard at most where features are reduced, so that not too much is computed again after a kill
REDUCED_ROWS = 1024
#: decoded stimuli are kept between sweeps at the expense of passes if they take no more of the memory
KEPT_SHARE = 8
#: features of all stimuli that are multiplied at once
GRAM_COLUMNS = 1 << 13
#: share of the room for features that is left to kernels and allocators, of which a trial run shows little
RESERVE = 1 / 24


@dataclass(frozen=True)
class ExtractionPlan:
    """What an extraction takes; ``print`` it.

    Parameters
    ----------
    n_stimuli
        Stimuli in all.
    features
        Of each layer, in the order in which they were asked for, as they are kept or multiplied.
    passes
        For each pass the layers, in the order in which they run, and the stretch of their features that it works on.
    batch_size, shard_rows
        Stimuli that run together, and that are written together.
    sweeps
        How often all stimuli are shown in each pass.
    kept_rows
        Decoded stimuli that are kept between sweeps.
    result_bytes
        Of the result, on disk or in memory.
    peak_bytes, memory
        Most bytes at one time beside the network and a result in memory, and the promise.
    seconds
        About how long it takes, from a trial run.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> net = models.load("tiny", weights="random")
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((5, 32, 32, 3), np.uint8))
    >>> plan = models.plan_extraction(net, stimuli, ["conv1", "conv3"])
    >>> print(str(plan).splitlines()[0])
    5 stimuli, 2 layers, 5,120 features
    """

    n_stimuli: int
    features: dict[str, int]
    passes: list[dict[str, slice]]
    batch_size: int
    shard_rows: int
    sweeps: int
    kept_rows: int
    result_bytes: int
    peak_bytes: int
    memory: int
    seconds: float

    @property
    def showings(self) -> int:
        """How often all stimuli are shown."""
        return self.sweeps * len(self.passes)

    @property
    def decodings(self) -> int:
        """How often a stimulus is decoded at most."""
        return 1 if self.kept_rows == self.n_stimuli else self.showings

    def __str__(self) -> str:
        """Bytes, passes and time, one fact a line."""
        again = f", {self.sweeps} sweeps each" if self.sweeps > 1 else ""
        if self.decodings == 1:
            decoding = "each stimulus once"
        else:
            kept = f", but {self.kept_rows} that are kept once" if self.kept_rows else ""
            decoding = f"each stimulus {self.decodings} times{kept}: decoded, all would take too much memory"
        lines = [
            f"{self.n_stimuli:,} stimuli, {len(self.features)} layers, {sum(self.features.values()):,} features",
            f"result    {format_bytes(self.result_bytes)}",
            f"memory    {format_bytes(self.peak_bytes)} at most of {format_bytes(self.memory)}",
            f"passes    {len(self.passes)}{again}, batches of {min(self.batch_size, self.n_stimuli)}",
            f"decoding  {decoding}",
            f"time      about {_duration(self.seconds)}",
        ]
        if len(self.passes) > 1:
            lines += [f"pass {number}: {_named(layers)}" for number, layers in enumerate(self.passes, 1)]
        return "\n".join(lines)


def plan_features(
    trial: Trial,
    n_stimuli: int,
    *,
    reduce: Reduction | None,
    itemsize: int,
    memory: int,
    batch_size: int | None,
    device: torch.device,
) -> ExtractionPlan:
    """Plan the extraction of features, whole or reduced.

    Parameters
    ----------
    trial
        What a trial run showed.
    n_stimuli
        Stimuli in all.
    reduce
        How features are reduced; what that needs of all layers may not fit at once, which makes several passes.
    itemsize
        Bytes of a number that is kept.
    memory
        The promise.
    batch_size
        Given, or ``None``.
    device
        Where the network runs.

    Raises
    ------
    ValueError
        If a stimulus, a batch or what one layer's reduction needs does not fit.
    """
    whole = {layer: trial.size(layer) for layer in trial.shapes}
    features = whole if reduce is None else {x: reduce.width(size, n_stimuli) for x, size in whole.items()}
    outputs, labels = sum(features.values()) * itemsize, sum(features.values()) * LABEL_BYTES
    # a reduction flattens a layer to single precision, and turns it over
    working = trial.forward + (0 if reduce is None else 4 * max(whole.values()))
    need = {"forward": working, "inputs": trial.inputs, "outputs": outputs}
    passes, state, sweeps = [{x: slice(0, whole[x]) for x in trial.order}], 0.0, 1
    if reduce is not None:
        sweeps = 2 if isinstance(reduce, PCA) else 1
        batch_size = choose_batch(
            working, trial.inputs, outputs, free=memory - labels, batch_size=batch_size, device=device
        )
        room = memory - labels - batch_size * (WORKSPACE * working + 3 * trial.inputs + 2 * outputs)
        states = {x: reduce.state_bytes(size, n_stimuli) for x, size in whole.items()}
        layers = pack_layers(trial.order, states, room, memory)
        passes = [{x: slice(0, whole[x]) for x in chosen} for chosen in layers]
        state = max(sum(states[x] for x in chosen) for chosen in layers)
    plan = plan_batches(**need, labels=labels + state, memory=memory, batch_size=batch_size, device=device)
    rows = plan.shard_rows
    if reduce is not None:
        rows = min(rows, max(1, REDUCED_ROWS // plan.batch_size) * plan.batch_size)
    rows = min(rows, -(-n_stimuli // plan.batch_size) * plan.batch_size)
    peak = plan.peak_bytes - 2 * (plan.shard_rows - rows) * outputs
    # what is shown once need not be kept
    kept = min(n_stimuli, int((memory - peak) // trial.inputs)) if sweeps * len(passes) > 1 else 0
    return ExtractionPlan(
        n_stimuli=n_stimuli,
        features=features,
        passes=passes,
        batch_size=plan.batch_size,
        shard_rows=rows,
        sweeps=sweeps,
        kept_rows=kept,
        result_bytes=n_stimuli * outputs,
        peak_bytes=int(peak + kept * trial.inputs),
        memory=memory,
        seconds=estimate_seconds(trial, passes, n_stimuli, sweeps, kept, device),
    )


def plan_gram(
    trial: Trial, n_stimuli: int, *, memory: int, batch_size: int | None, device: torch.device
) -> ExtractionPlan:
    """Plan Gram matrices: each pass holds stretches of features of all stimuli.

    Parameters
    ----------
    trial, n_stimuli, memory, batch_size, device
        As of :func:`plan_features`.

    Raises
    ------
    ValueError
        If a batch, or one feature of all stimuli, does not fit.
    """
    need = {"forward": trial.forward, "inputs": trial.inputs, "outputs": 0.0}
    # sums of one layer beside the result, products that are added to them, a block of features without its mean, and
    # what the trial run leaves with the allocator
    sizes = {layer: trial.size(layer) for layer in trial.order}
    fixed = n_stimuli * (24 * n_stimuli + 12 * min(GRAM_COLUMNS, max(sizes.values())))
    fixed += math.ceil(PROBE * trial.forward)
    kept_bytes = n_stimuli * trial.inputs
    batch_size = choose_batch(
        trial.forward, trial.inputs, 0, free=memory - fixed, batch_size=batch_size, device=device
    )
    plan = plan_batches(**need, labels=fixed, memory=memory, batch_size=batch_size, device=device)
    room = memory - plan.peak_bytes
    fits_at_once = sum(sizes.values()) * 4 * n_stimuli <= room * (1 - RESERVE)
    keeping = not fits_at_once and kept_bytes <= min(memory / KEPT_SHARE, room / 2)
    kept, held = (n_stimuli, kept_bytes) if keeping else (0, 0.0)
    columns = int((room - held) * (1 - RESERVE) // (4 * n_stimuli))
    if columns < 1:
        raise ValueError(
            f"one feature of {n_stimuli} stimuli, their Gram matrix and a batch need more than "
            f"memory={format_bytes(memory)}; raise memory= or give fewer stimuli."
        )
    passes = cut_layers(trial.order, sizes, columns)
    largest = max(sum(part.stop - part.start for part in chosen.values()) for chosen in passes)
    return ExtractionPlan(
        n_stimuli=n_stimuli,
        features={layer: sizes[layer] for layer in trial.shapes},
        passes=passes,
        batch_size=plan.batch_size,
        shard_rows=n_stimuli,
        sweeps=1,
        kept_rows=kept,
        result_bytes=8 * n_stimuli**2 * len(sizes),
        peak_bytes=int(plan.peak_bytes + held + 4 * n_stimuli * largest),
        memory=memory,
        seconds=estimate_seconds(trial, passes, n_stimuli, 1, kept, device),
    )


def pack_layers(order: Sequence[str], need: Mapping[str, float], room: float, memory: int) -> list[list[str]]:
    """Put layers together into passes whose needs fit, the first pass first.

    A pass costs as much as the way to its last layer, so that layers are placed from the last one on, each into the
    deepest pass that has room for it.

    Parameters
    ----------
    order
        Layers in the order in which they run.
    need
        Bytes of each.
    room
        Bytes of a pass.
    memory
        The promise, for the message.

    Raises
    ------
    ValueError
        Naming a layer that does not fit alone.

    Examples
    --------
    >>> from cerebridge.models.plans import pack_layers
    >>> pack_layers(["a", "b", "c", "d"], {"a": 1, "b": 5, "c": 3, "d": 4}, room=7, memory=10)
    [['a', 'b'], ['c', 'd']]
    """
    passes: list[tuple[list[str], float]] = []
    for layer in reversed(order):
        if need[layer] > room:
            raise ValueError(
                f"the reduction of the layer {layer!r} takes {format_bytes(need[layer])}, more than is left of "
                f"memory={format_bytes(memory)}; raise memory=, pool the layer, or ask for fewer components."
            )
        for number, (chosen, taken) in enumerate(passes):
            if taken + need[layer] <= room:
                passes[number] = ([layer, *chosen], taken + need[layer])
                break
        else:
            passes.append(([layer], need[layer]))
    return [chosen for chosen, _ in reversed(passes)]


def cut_layers(order: Sequence[str], sizes: Mapping[str, int], columns: int) -> list[dict[str, slice]]:
    """Cut the features of layers into passes of at most ``columns`` of them, the first pass first.

    From the last layer on every pass is filled, for a pass costs as much as the way to its last layer.

    Examples
    --------
    >>> from cerebridge.models.plans import cut_layers
    >>> cut_layers(["a", "b"], {"a": 5, "b": 4}, 6)
    [{'a': slice(0, 3, None)}, {'a': slice(3, 5, None), 'b': slice(0, 4, None)}]
    """
    passes: list[dict[str, slice]] = [{}]
    room = columns
    for layer in reversed(order):
        stop = sizes[layer]
        while stop:
            if not room:
                passes.append({})
                room = columns
            start = max(0, stop - room)
            passes[-1] = {layer: slice(start, stop), **passes[-1]}
            room -= stop - start
            stop = start
    return passes[::-1]


def estimate_seconds(
    trial: Trial,
    passes: Sequence[Mapping[str, slice]],
    n_stimuli: int,
    sweeps: int,
    kept: int,
    device: torch.device,
) -> float:
    """Seconds of all passes, in which the network runs while stimuli are decoded beside it."""
    decoding = trial.decoding / count_decoders(device)
    seconds = 0.0
    for number, chosen in enumerate(passes):
        running = max(trial.seconds[layer] for layer in chosen)
        for sweep in range(sweeps):
            decoded = n_stimuli if number + sweep == 0 else n_stimuli - kept
            seconds += max(n_stimuli * running, decoded * decoding)
    return seconds


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _named(layers: Mapping[str, slice]) -> str:
    names = [
        layer if part.start == 0 else f"{layer} from feature {part.start:,}" for layer, part in layers.items()
    ]
    return ", ".join(names if len(names) <= 6 else [*names[:3], "…", *names[-2:]])
