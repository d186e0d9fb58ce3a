"""Network × stimuli → activations: streamed to a store, within a memory promise, resumable."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import nn

from .. import __version__
from ..neuro.store import ShardWriter
from ..neuro.store import load as load_array
from .batches import Preprocess
from .collecting import MemoryWriter
from .limits import refuse_full_disk, refuse_large_result, resolve_batch_size, resolve_kept_type
from .loading import describe_network
from .memory import parse_bytes
from .passes import Extraction
from .plans import ExtractionPlan, plan_features, plan_gram
from .pooling import Pool
from .reduction import Reduction
from .stimuli import StimulusSet
from .taps import evaluating
from .trials import Setup


def extract(
    net: nn.Module,
    stimuli: StimulusSet,
    layers: Sequence[str],
    *,
    store: str | Path | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    pool: Pool = None,
    reduce: Reduction | None = None,
    preprocess: Preprocess | None = None,
    batch_size: int | Literal["auto"] = "auto",
    memory: str | int = "2GiB",
    device: str | torch.device = "auto",
    allow_nondeterministic: bool = False,
    progress: bool | None = None,
) -> xr.DataArray:
    """Extract the activations of several layers, in passes that end after the last layer that they are about.

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
    reduce
        :class:`PCA` or :class:`RandomProjection` of what ``pool`` leaves of each layer, computed while the network
        runs. What this needs is within ``memory``: where not all layers fit at once, several passes are made.
        Nothing but the components is kept.
    preprocess
        Turns a PIL image (or text, clip, array) into the network's input. Default: ``net.preprocess``, else
        ``models.preprocessing.IMAGENET`` for images, and arrays and clips as they are.
    batch_size
        ``"auto"`` takes the largest batch that is worth it and that fits; it never changes a result beyond rounding.
    memory
        What a run may take beside the network and a result in memory; measured on a trial batch.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ….
    allow_nondeterministic
        Go on where a layer gives other values when the same stimulus is shown again.
    progress
        A progress bar; ``None`` (default) where standard error is a terminal.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``; presentations carry the columns of ``stimuli.table``, neuroids ``layer`` and
        their place (``channel``, ``row``, ``column``; ``component`` if reduced). From a store it is read on demand:
        select, then compute.

    Raises
    ------
    ValueError
        Naming the layer, stimulus or option that is wrong, or the folder that holds something else.
    OSError
        If the disk is, or would be, too full; complete shards stay.

    Warns
    -----
    UserWarning
        If the network was given in training mode and behaves otherwise in evaluation mode.

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
    budget, size = parse_bytes(memory), resolve_batch_size(batch_size)
    kept_type = resolve_kept_type(dtype)
    setup = Setup.of(net, stimuli, layers, pool=pool, preprocess=preprocess, device=device, progress=progress)
    facts = {**setup.facts, "dtype": dtype, "reduce": None if reduce is None else reduce.facts(stimuli)}
    with evaluating(net, setup.device):
        trial = setup.try_out(allow_nondeterministic)
        plan = plan_features(
            trial,
            len(stimuli),
            reduce=reduce,
            itemsize=kept_type.itemsize,
            memory=budget,
            batch_size=size,
            device=setup.device,
        )
        run = {"stimuli": stimuli.hash, "device": setup.device.type, "batch_size": plan.batch_size}
        versions = {"torch": torch.__version__, "cerebridge": __version__}
        provenance = json.dumps({**describe_network(net), **facts, **run, **versions})
        extraction = Extraction(setup.keeping(plan.kept_rows), trial, plan, reduce, kept_type)
        if store is None:
            refuse_large_result(plan.result_bytes, budget)
            kept = MemoryWriter(len(stimuli), extraction.shapes, np.dtype(dtype))
            extraction.fill(kept)
            return kept.array(stimuli.table, provenance, extraction.neuroid)
        with ShardWriter(store, facts, len(stimuli), keys=list(stimuli.table["content_hash"])) as writer:
            missing = 1 - len(writer.done) / len(stimuli)
            refuse_full_disk(Path(store), missing * plan.result_bytes)
            extraction.store(writer, facts)
            writer.close(stimuli.table, extraction.neuroid, provenance=provenance)
            extraction.tidy(writer.folder)
    return load_array(store)


def plan_extraction(
    net: nn.Module,
    stimuli: StimulusSet,
    layers: Sequence[str],
    *,
    gram: bool = False,
    dtype: Literal["float32", "float16"] = "float32",
    pool: Pool = None,
    reduce: Reduction | None = None,
    preprocess: Preprocess | None = None,
    batch_size: int | Literal["auto"] = "auto",
    memory: str | int = "2GiB",
    device: str | torch.device = "auto",
    allow_nondeterministic: bool = False,
) -> ExtractionPlan:
    """Say what an extraction would take, from a trial run of one stimulus.

    Parameters
    ----------
    net, stimuli, layers, dtype, pool, reduce, preprocess, batch_size, memory, device, allow_nondeterministic
        As of :func:`extract`.
    gram
        Plan :func:`extract_gram` instead.

    Returns
    -------
    ExtractionPlan
        Bytes, passes, batch size and about how long it takes; print it.

    Raises
    ------
    ValueError
        If it does not fit into ``memory``, or something is wrong with network, layers or options.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> net = models.load("tiny", weights="random")
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((5, 32, 32, 3), np.uint8))
    >>> plan = models.plan_extraction(net, stimuli, ["conv1", "readout"], reduce=models.PCA(4))
    >>> len(plan.passes), plan.sweeps, plan.features
    (1, 2, {'conv1': 4, 'readout': 4})
    """
    budget, size = parse_bytes(memory), resolve_batch_size(batch_size)
    setup = Setup.of(net, stimuli, layers, pool=pool, preprocess=preprocess, device=device)
    with evaluating(net, setup.device):
        trial = setup.try_out(allow_nondeterministic)
    if gram:
        return plan_gram(trial, len(stimuli), memory=budget, batch_size=size, device=setup.device)
    return plan_features(
        trial,
        len(stimuli),
        reduce=reduce,
        itemsize=resolve_kept_type(dtype).itemsize,
        memory=budget,
        batch_size=size,
        device=setup.device,
    )
