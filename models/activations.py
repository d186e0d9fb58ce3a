"""Network × stimuli → activations: streamed to a store, within a memory promise, resumable."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from .. import __version__
from ..neuro.progress import track
from ..neuro.store import ShardWriter
from ..neuro.store import load as load_array
from .batches import Feed, Preprocess, cut_rows, preprocess_by_default
from .collecting import MemoryWriter, Shards, Writer
from .devices import resolve_device
from .memory import LABEL_BYTES, LiveBytes, Plan, format_bytes, keep_freed_memory, parse_bytes, plan_batches
from .names import describe
from .pooling import Pool, resolve_pool
from .stimuli import StimulusSet
from .taps import LayerTaps, evaluating
from .zoo import fingerprint

#: copies of one stimulus in the trial run: a number that hardly any axis but the batch has
PROBE = 3


def extract(
    net: nn.Module,
    stimuli: StimulusSet,
    layers: Sequence[str],
    *,
    store: str | Path | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    pool: Pool = None,
    preprocess: Preprocess | None = None,
    batch_size: int | Literal["auto"] = "auto",
    memory: str | int = "2GiB",
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.DataArray:
    """Extract the activations of several layers in one pass, which ends after the last of them.

    Parameters
    ----------
    net
        Any network whose forward pass takes one batch. It is run in evaluation mode and left as it was.
    stimuli
        What is shown to it.
    layers
        Names of ``net.named_modules()``; a module that runs several times a pass is asked for as ``"relu[1]"``.
        Of an output that is a tuple or mapping the first entry is taken.
    store
        A folder. Complete shards are added to it while the network runs; called again after a crash, the same
        call goes on where it stopped, with equal content. ``None`` (default) keeps everything in memory.
    dtype
        Of what is kept; the network computes in its own type.
    pool
        ``None``, ``7`` (feature maps averaged down to 7 × 7), ``"global"``, or a function of a layer's output.
    preprocess
        Turns a PIL image into the network's input. Default: ``net.preprocess``, else
        ``models.preprocessing.IMAGENET`` for images, and arrays as they are.
    batch_size
        ``"auto"`` takes the largest batch that is worth it and that fits; it never changes a result beyond rounding.
    memory
        What a run may take beside the network and a result in memory; measured on a trial batch.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ….
    progress
        A progress bar; ``None`` (default) where standard error is a terminal.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``; presentations carry the columns of ``stimuli.table``, neuroids ``layer`` and
        their place (``channel``, ``row``, ``column``). From a store it is read on demand: select, then compute.

    Raises
    ------
    ValueError
        Naming the layer, stimulus or option that is wrong, or the folder that holds something else.
    OSError
        If the disk is, or would be, too full; complete shards stay.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> net = models.load("tiny", weights="random")
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((5, 32, 32, 3), np.uint8))
    >>> activations = models.extract(net, stimuli, ["conv2", "readout"], pool=2)
    >>> activations.sizes["presentation"], activations.sizes["neuroid"]
    (5, 138)
    """
    budget, size = parse_bytes(memory), _batch_size(batch_size)
    taps = LayerTaps(net, [layers] if isinstance(layers, str) else list(layers))
    prepare = cast(Preprocess, preprocess or getattr(net, "preprocess", preprocess_by_default))
    job = _Extraction(
        taps=taps,
        feed=Feed(stimuli, prepare, _input_type(net)),
        reduce=resolve_pool(pool),
        dtype=_kept_type(dtype),
        device=resolve_device(device),
        progress=progress,
    )
    facts = {
        "network": type(net).__name__,
        "weights": fingerprint(net),
        "layers": taps.layers,
        "pool": describe(pool),
        "preprocess": describe(prepare),
        "dtype": dtype,
    }
    with evaluating(net, job.device):
        trial = job.try_out()
        outputs = trial.features * job.dtype.itemsize
        plan = plan_batches(
            forward=trial.forward,
            inputs=trial.inputs,
            outputs=outputs,
            labels=trial.features * LABEL_BYTES,
            memory=budget,
            batch_size=size,
            device=job.device,
        )
        run = {"stimuli": stimuli.hash, "device": job.device.type, "batch_size": plan.batch_size}
        provenance = json.dumps({**facts, **run, "torch": torch.__version__, "cerebridge": __version__})
        if store is None:
            _refuse_large_result(len(stimuli) * outputs, budget)
            kept = MemoryWriter(len(stimuli), trial.shapes, np.dtype(dtype))
            job.run(kept, trial, plan)
            return kept.array(stimuli.table, provenance)
        with ShardWriter(store, facts, len(stimuli), keys=list(stimuli.table["content_hash"])) as writer:
            _refuse_full_disk(Path(store), (len(stimuli) - len(writer.done)) * outputs)
            job.run(writer, trial, plan)
            writer.close(stimuli.table, provenance=provenance)
    return load_array(store)


@dataclass(frozen=True)
class _Trial:
    """What a trial run showed: the shape of each layer's reduced output, and bytes for one stimulus."""

    shapes: dict[str, tuple[int, ...]]
    forward: float
    inputs: float

    @property
    def features(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())


@dataclass(frozen=True)
class _Extraction:
    """One network over one stimulus set."""

    taps: LayerTaps
    feed: Feed
    reduce: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    device: torch.device
    progress: bool | None

    def try_out(self) -> _Trial:
        """Run copies of the first stimulus: once through all of the network, once as far as needed and measured."""
        inputs = torch.stack([self.feed.load(0)] * PROBE).to(self.device)
        shapes: dict[str, tuple[int, ...]] = {}

        def receive(layer: str, output: Tensor) -> None:
            reduced = self.reduce(output)
            if not isinstance(reduced, Tensor) or reduced.ndim == 0 or reduced.shape[0] != PROBE:
                raise ValueError(
                    f"pool= does not leave one row a stimulus of the layer {layer!r}; keep the first axis."
                )
            if not reduced.numel():
                raise ValueError(f"the layer {layer!r} has no features; leave it out.")
            shapes[layer] = tuple(reduced.shape[1:]) or (1,)

        try:
            self.taps.check(inputs)
            with LiveBytes() as live:
                self.taps.run(inputs, receive)
        except (RuntimeError, TypeError, IndexError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"the network fails on an input of shape {tuple(inputs.shape)} ({reason}); "
                "check preprocess= and pool=."
            ) from None
        ordered = {layer: shapes[layer] for layer in self.taps.layers}
        return _Trial(ordered, live.peak / PROBE, inputs.nbytes / PROBE)

    def run(self, writer: Writer, trial: _Trial, plan: Plan) -> None:
        """Extract the rows that the writer lacks."""
        keep_freed_memory()
        done = writer.done
        missing = [row for row in range(len(self.feed.stimuli)) if row not in done]
        batches = cut_rows(missing, plan.batch_size)
        workers = 1 if self.device.type == "cpu" else min(8, os.cpu_count() or 1)
        ids = self.feed.stimuli.table["stimulus_id"].tolist()
        rows_a_shard = min(plan.shard_rows, max(len(missing), plan.batch_size))
        with Shards(writer, trial.shapes, self.dtype, rows_a_shard, ids, self.device) as shards:
            ahead = self.feed.ahead(batches, workers)
            for rows, inputs in track(ahead, "extracting", total=len(batches), show=self.progress):
                places = shards.place(rows)
                self.taps.run(inputs.to(self.device), partial(self._keep, places))
                shards.commit(rows)

    def _keep(self, places: dict[str, Tensor], layer: str, output: Tensor) -> None:
        reduced = self.reduce(output)
        if reduced.ndim == 1:
            reduced = reduced[:, None]
        if reduced.shape != places[layer].shape:
            raise ValueError(
                f"the layer {layer!r} gives the shape {tuple(reduced.shape)} where the first stimulus led to "
                f"{tuple(places[layer].shape)}; let preprocess= bring all stimuli to one size."
            )
        places[layer].copy_(reduced, non_blocking=True)


def _kept_type(dtype: str) -> torch.dtype:
    if dtype not in ("float32", "float16"):
        raise ValueError(f"dtype is {dtype!r}; activations are kept as 'float32' or 'float16'.")
    return torch.float16 if dtype == "float16" else torch.float32


def _batch_size(batch_size: int | str) -> int | None:
    if batch_size == "auto":
        return None
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; give 'auto' or a positive number of stimuli.")
    return batch_size


def _input_type(net: nn.Module) -> torch.dtype:
    return next((weights.dtype for weights in net.parameters() if weights.is_floating_point()), torch.float32)


def _refuse_large_result(needed: float, budget: int) -> None:
    if needed > budget:
        raise ValueError(
            f"the activations take {format_bytes(needed)}, more than memory={format_bytes(budget)}; give a folder as "
            "store=, pool the layers, use dtype='float16', or raise memory=."
        )


def _refuse_full_disk(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"the activations take {format_bytes(needed)}, but only {format_bytes(free)} are free at {folder}; pool "
            "the layers, use dtype='float16', or choose another disk."
        )
