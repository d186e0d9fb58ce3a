"""Passes over the stimuli: each is about as many layers as what they need fits into memory."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..neuro.files import aside
from ..neuro.layers import Layer, label_features
from ..neuro.store import ShardWriter
from ..neuro.store import load as load_array
from .batches import Feed, cut_rows
from .collecting import Shards, Writer, check_finite, check_shape
from .incremental import IncrementalPCA, LinearMap, maps_of, state_of
from .plans import ExtractionPlan
from .reduction import PCA, Reducer, Reduction, as_they_are
from .trials import Setup, Trial

#: beside the shards until they are complete: fitted components, and the stores of single passes
FITTED, PASSES = "components.safetensors", "passes"


@dataclass(frozen=True)
class Extraction:
    """The work of one extraction as it was planned.

    Parameters
    ----------
    setup, trial, plan
        Network and stimuli, what a trial run showed, and how the work is cut.
    reduce
        How features are reduced.
    dtype
        Of what is kept.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from cerebridge import models
    >>> from cerebridge.models.collecting import MemoryWriter
    >>> from cerebridge.models.passes import Extraction
    >>> from cerebridge.models.plans import plan_features
    >>> from cerebridge.models.trials import Setup
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((5, 32, 32, 3), np.uint8))
    >>> setup = Setup.of(models.load("tiny", weights="random"), stimuli, ["readout"], device="cpu")
    >>> with torch.no_grad():
    ...     trial = setup.try_out()
    ...     need = {"itemsize": 4, "memory": 2**31, "batch_size": None, "device": setup.device}
    ...     plan = plan_features(trial, 5, reduce=None, **need)
    ...     extraction = Extraction(setup, trial, plan, None, torch.float32)
    ...     writer = MemoryWriter(5, extraction.shapes, np.dtype("float32"))
    ...     extraction.fill(writer)
    >>> writer.array(stimuli.table, "by hand").shape
    (5, 10)
    """

    setup: Setup
    trial: Trial
    plan: ExtractionPlan
    reduce: Reduction | None
    dtype: torch.dtype

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of what is kept of each layer for one stimulus."""
        if self.reduce is None:
            return self.trial.shapes
        return {layer: (width,) for layer, width in self.plan.features.items()}

    @property
    def neuroid(self) -> pd.DataFrame | None:
        """Labels of reduced features and of patches; those of other layers are the usual ones."""
        layers = [Layer(layer, shape, "<f4") for layer, shape in self.shapes.items()]
        if self.reduce is None:
            return label_features(layers, self.trial.grids) if self.trial.grids else None
        return label_features(layers).rename(columns={"channel": "component"})

    def fill(self, writer: Writer) -> None:
        """Compute all passes into a writer that takes layers one after the other."""
        for layers in self.plan.passes:
            self._run(list(layers), writer, None)

    def store(self, writer: ShardWriter, facts: Mapping[str, Any]) -> None:
        """Compute the rows that a store lacks; several passes have stores of their own until all are complete."""
        if len(writer.done) == writer.n_rows:
            return
        if len(self.plan.passes) == 1:
            self._run(list(self.plan.passes[0]), writer, writer.folder)
            return
        keys = list(self.setup.feed.stimuli.table["content_hash"])
        parts: dict[str, Path] = {}
        for layers in map(list, self.plan.passes):
            name = hashlib.sha256("\n".join(layers).encode()).hexdigest()[:12]
            folder = writer.folder / PASSES / name
            with ShardWriter(folder, {**facts, "layers": layers}, writer.n_rows, keys) as part:
                if len(part.done) < part.n_rows:
                    self._run(layers, part, folder)
                    part.close(self.setup.feed.stimuli.table)
            parts |= dict.fromkeys(layers, folder)
        self._put_together(parts, writer)

    def tidy(self, folder: Path) -> None:
        """Remove what a complete store does not need."""
        (folder / FITTED).unlink(missing_ok=True)
        shutil.rmtree(folder / PASSES, ignore_errors=True)

    def _run(self, layers: list[str], writer: Writer, folder: Path | None) -> None:
        """Compute the rows of some layers that a writer lacks."""
        stimuli, plan = self.setup.feed.stimuli, self.plan
        done = writer.done
        missing = [row for row in range(len(stimuli)) if row not in done]
        reducers = self._reducers(layers, folder)
        shapes = {layer: self.shapes[layer] for layer in self.shapes if layer in layers}
        rows = min(plan.shard_rows, max(len(missing), plan.batch_size))
        ids = stimuli.table["stimulus_id"].tolist()
        with Shards(writer, shapes, self.dtype, rows, ids, self.setup.device) as shards:

            def receive(rows: range, layer: str, output: Tensor) -> None:
                check_shape(layer, output.shape, (len(rows), *self.trial.shapes[layer]))
                shards.keep(layer, reducers[layer](output) if reducers else output, rows)

            for batch in self.setup.sweep(layers, cut_rows(missing, plan.batch_size), receive):
                shards.commit(batch)

    def _reducers(self, layers: list[str], folder: Path | None) -> dict[str, Reducer]:
        """Of each layer what reduces a batch of its output."""
        if self.reduce is None:
            return {}
        device, n = self.setup.device, len(self.setup.feed.stimuli)
        maps: Mapping[str, Reducer]
        if isinstance(self.reduce, PCA):
            maps = self._fitted(self.reduce, layers, folder)
        else:
            maps = {x: self.reduce.reducer(x, self.trial.size(x), n, device) for x in layers}
        return {layer: _flattened(each) for layer, each in maps.items()}

    def _fitted(self, pca: PCA, layers: list[str], folder: Path | None) -> dict[str, LinearMap]:
        """Components of some layers, fitted or as an earlier run left them."""
        device = self.setup.device
        if folder is not None and (folder / FITTED).exists():
            return {layer: each.to(device) for layer, each in maps_of(load_file(folder / FITTED)).items()}
        source, rows = pca.rows(self.setup.feed.stimuli)
        feed = self.setup.feed
        if source is not feed.stimuli:
            feed = Feed(source, feed.preprocess, feed.dtype)
        sizes = {layer: self.trial.size(layer) for layer in layers}
        fits = {
            x: IncrementalPCA(size, self.plan.features[x], max(pca.block, self.plan.features[x]), device)
            for x, size in sizes.items()
        }
        ids = source.table["stimulus_id"].tolist()

        def receive(rows: list[int], layer: str, output: Tensor) -> None:
            check_shape(layer, output.shape, (len(rows), *self.trial.shapes[layer]))
            values = output.flatten(1).float()
            check_finite(layer, values, rows, ids)
            fits[layer].add(values)

        step = self.plan.batch_size
        batches = [rows[start : start + step] for start in range(0, len(rows), step)]
        for _ in self.setup.sweep(layers, batches, receive, "fitting components", feed):
            pass
        maps = {layer: fits.pop(layer).finish() for layer in layers}
        if folder is not None:
            with aside(folder / FITTED) as part:
                save_file(state_of(maps), part)
        return maps

    def _put_together(self, parts: Mapping[str, Path], writer: ShardWriter) -> None:
        """Copy complete passes into the store of all layers."""
        arrays = {folder: load_array(folder) for folder in dict.fromkeys(parts.values())}
        missing = [row for row in range(writer.n_rows) if row not in writer.done]
        for rows in cut_rows(missing, self.plan.shard_rows):
            values = {}
            for layer, shape in self.shapes.items():
                array = arrays[parts[layer]]
                first = int((array.coords["layer"].values == layer).argmax())
                columns = slice(first, first + math.prod(shape))
                part = array.isel(presentation=slice(rows.start, rows.stop), neuroid=columns)
                values[layer] = part.values.reshape(len(rows), *shape)
            writer.write(rows.start, values)


def _flattened(reducer: Reducer) -> Reducer:
    if reducer is as_they_are:
        return lambda output: output.flatten(1)
    return lambda output: reducer(output.flatten(1))
