"""From batches of layer outputs to shards that are written while the network goes on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from ..neuro.assembly import Table, assemble
from ..neuro.layers import Layer, label_features

Shapes = Mapping[str, tuple[int, ...]]


class Writer(Protocol):
    """Where shards go: a folder (``neuro.store.ShardWriter``) or memory."""

    @property
    def done(self) -> set[int]:
        """Rows that need not be computed."""

    def write(self, start: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Take the rows from ``start`` on."""


class MemoryWriter:
    """Keeps all activations in one array.

    Parameters
    ----------
    n_rows
        Number of stimuli.
    shapes
        Of each layer's output for one stimulus.
    dtype
        Of the array.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.collecting import MemoryWriter
    >>> writer = MemoryWriter(2, {"fc": (3,)}, np.dtype("float32"))
    >>> writer.write(0, {"fc": np.ones((2, 3), np.float32)})
    >>> writer.array({"stimulus_id": ["a", "b"]}, "by hand").shape
    (2, 3)
    """

    def __init__(self, n_rows: int, shapes: Shapes, dtype: np.dtype[Any]) -> None:
        self.shapes = shapes
        edges = np.cumsum([0, *(math.prod(shape) for shape in shapes.values())])
        self._columns = {
            layer: slice(*pair) for layer, pair in zip(shapes, itertools.pairwise(edges), strict=True)
        }
        self._values = np.empty((n_rows, edges[-1]), dtype)

    @property
    def done(self) -> set[int]:
        """Nothing: memory begins empty."""
        return set()

    def write(self, start: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Take the rows from ``start`` on."""
        for layer, array in values.items():
            self._values[start : start + len(array), self._columns[layer]] = array.reshape(len(array), -1)

    def array(self, presentation: Table, provenance: str) -> xr.DataArray:
        """Label what was collected."""
        layers = [Layer(name, shape, self._values.dtype.str) for name, shape in self.shapes.items()]
        return assemble(
            self._values,
            presentation=presentation,
            neuroid=label_features(layers),
            modality="activation",
            units="a.u.",
            provenance=provenance,
        )


class Shards:
    """Gathers batches; a full shard is written by a thread while the next one is filled.

    Used as a context: at its end, also after an error, what is complete is written.

    Parameters
    ----------
    writer
        Where shards go.
    shapes
        Of each layer's output for one stimulus.
    dtype
        Of what is kept.
    rows
        Stimuli a shard.
    stimulus_ids
        To name the stimulus that something is wrong with.
    device
        Where outputs come from.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from cerebridge.models.collecting import MemoryWriter, Shards
    >>> writer = MemoryWriter(4, {"fc": (3,)}, np.dtype("float32"))
    >>> with Shards(writer, {"fc": (3,)}, torch.float32, 2, list("abcd"), torch.device("cpu")) as shards:
    ...     for rows in (range(0, 2), range(2, 4)):
    ...         _ = shards.place(rows)["fc"].fill_(rows.start)
    ...         shards.commit(rows)
    >>> writer.array({"stimulus_id": list("abcd")}, "by hand").values[:, 0].tolist()
    [0.0, 0.0, 2.0, 2.0]
    """

    def __init__(
        self,
        writer: Writer,
        shapes: Shapes,
        dtype: torch.dtype,
        rows: int,
        stimulus_ids: Sequence[Any],
        device: torch.device,
    ) -> None:
        self._writer, self._ids, self._rows, self._dtype = writer, stimulus_ids, rows, dtype
        self._asynchronous = device.type == "cuda"
        self._buffers = [
            {
                layer: torch.empty((rows, *shape), dtype=dtype, pin_memory=self._asynchronous)
                for layer, shape in shapes.items()
            }
            for _ in range(2)
        ]
        self._filled = range(0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing: Future[None] | None = None

    def place(self, rows: range) -> dict[str, Tensor]:
        """Give each layer's place for the outputs of a batch."""
        if rows.start != self._filled.stop or len(self._filled) + len(rows) > self._rows:
            self._flush()
            self._filled = range(rows.start, rows.start)
        start = len(self._filled)
        return {layer: buffer[start : start + len(rows)] for layer, buffer in self._buffers[0].items()}

    def commit(self, rows: range) -> None:
        """Count a batch as complete.

        Raises
        ------
        ValueError
            If there are values that are not finite, naming layer and stimulus.
        """
        if self._asynchronous:
            torch.cuda.synchronize()
        for layer, place in self.place(rows).items():
            # a sum is a tenth of the work of a test, and finite sums have finite terms
            if not math.isfinite(place.sum(dtype=torch.float32)):
                self._refuse_infinite(layer, place, rows)
        self._filled = range(self._filled.start, rows.stop)

    def _refuse_infinite(self, layer: str, place: Tensor, rows: range) -> None:
        finite = torch.isfinite(place).flatten(1).all(1)
        if not finite.all():
            row = rows[int((~finite).nonzero()[0])]
            hint = (
                "use dtype='float32'"
                if self._dtype == torch.float16
                else "check the network and its preprocessing"
            )
            raise ValueError(
                f"the layer {layer!r} gives NaN or infinite values for stimulus {self._ids[row]!r}; {hint}."
            )

    def _flush(self) -> None:
        if len(self._filled):
            self._wait()
            values = {
                layer: buffer[: len(self._filled)].numpy() for layer, buffer in self._buffers[0].items()
            }
            self._writing = self._thread.submit(self._writer.write, self._filled.start, values)
            self._buffers.reverse()
            self._filled = range(0)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()

    def __enter__(self) -> Shards:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is complete, unless writing is what failed."""
        try:
            if self._writing is None or not self._writing.done() or self._writing.exception() is None:
                self._flush()
            self._wait()
        finally:
            self._thread.shutdown()
