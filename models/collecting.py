"""From batches of layer outputs to shards that are written while the network goes on."""

from __future__ import annotations

import itertools
import math
from collections import deque
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
from .sidestreams import HostCopies

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

    def array(self, presentation: Table, provenance: str, neuroid: Table | None = None) -> xr.DataArray:
        """Label what was collected."""
        layers = [Layer(name, shape, self._values.dtype.str) for name, shape in self.shapes.items()]
        return assemble(
            self._values,
            presentation=presentation,
            neuroid=label_features(layers) if neuroid is None else neuroid,
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
    ...         shards.keep("fc", torch.full((2, 3), float(rows.start)), rows)
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
        self._writer, self._ids, self._rows = writer, stimulus_ids, rows
        self._copies = HostCopies(device)
        self._buffers = [
            {layer: self._copies.empty((rows, *shape), dtype) for layer, shape in shapes.items()}
            for _ in range(2)
        ]
        # rows of the shard that is being filled: those that were placed, and of these those that are complete
        self._placed = self._complete = range(0)
        self._coming: deque[tuple[range, torch.cuda.Event | None]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing: Future[None] | None = None

    def keep(self, layer: str, values: Tensor, rows: range) -> None:
        """Take the outputs of a layer for a batch.

        Raises
        ------
        ValueError
            If they are shaped unlike those of the first stimulus.
        """
        if rows.start != self._placed.stop or rows.stop - self._placed.start > self._rows:
            self._flush()
            self._placed = self._complete = range(rows.start, rows.start)
        place = self._of(rows)[layer]
        check_shape(layer, values.shape, place.shape)
        self._copies.copy(place, values)

    def commit(self, rows: range) -> None:
        """Count a batch as taken.

        Raises
        ------
        ValueError
            If there are values that are not finite, naming layer and stimulus.
        """
        self._placed = range(self._placed.start, rows.stop)
        self._coming.append((rows, self._copies.mark()))
        self._check(self._copies.lag)

    def _of(self, rows: range) -> dict[str, Tensor]:
        """Each layer's place for the outputs of a batch."""
        start = rows.start - self._placed.start
        return {layer: buffer[start : start + len(rows)] for layer, buffer in self._buffers[0].items()}

    def _check(self, lag: int) -> None:
        """Wait for all batches but the last ones, and see that their values are finite."""
        while len(self._coming) > lag:
            rows, mark = self._coming.popleft()
            self._copies.finish(mark)
            for layer, place in self._of(rows).items():
                check_finite(layer, place, rows, self._ids)
            self._complete = range(self._complete.start, rows.stop)

    def _flush(self) -> None:
        self._check(0)
        self._hand_over()

    def _hand_over(self) -> None:
        """Let the thread write what is complete, and go on in the other buffers."""
        if len(self._complete):
            self._wait()
            values = {
                layer: buffer[: len(self._complete)].numpy() for layer, buffer in self._buffers[0].items()
            }
            self._writing = self._thread.submit(self._writer.write, self._complete.start, values)
            self._buffers.reverse()
            self._complete = range(0)

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
            if error is None:
                self._check(0)
            if self._writing is None or not self._writing.done() or self._writing.exception() is None:
                self._hand_over()
            self._wait()
        finally:
            self._thread.shutdown()


def check_shape(layer: str, given: Sequence[int], expected: Sequence[int]) -> None:
    """Refuse the output for a batch if it is shaped unlike that of the first stimulus.

    Raises
    ------
    ValueError
        Naming the layer and both shapes.

    Examples
    --------
    >>> from cerebridge.models.collecting import check_shape
    >>> check_shape("fc", (3, 4), (3, 4))
    """
    if tuple(given) != tuple(expected):
        raise ValueError(
            f"the layer {layer!r} gives the shape {tuple(given)} where the first stimulus led to {tuple(expected)}; "
            "let preprocess= bring all stimuli to one size."
        )


def check_finite(layer: str, values: Tensor, rows: Sequence[int], stimulus_ids: Sequence[Any]) -> None:
    """Refuse values that are missing or infinite.

    Raises
    ------
    ValueError
        Naming the layer and the first stimulus.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.collecting import check_finite
    >>> check_finite("fc", torch.ones(2, 3), range(2), ["a", "b"])
    """
    # a sum is a tenth of the work of a test, and finite sums have finite terms
    if math.isfinite(values.sum(dtype=torch.float32)):
        return
    finite = torch.isfinite(values).flatten(1).all(1)
    if not finite.all():
        row = rows[int((~finite).nonzero()[0])]
        half = values.dtype == torch.float16
        hint = "use dtype='float32'" if half else "check the network and its preprocessing"
        raise ValueError(
            f"the layer {layer!r} gives NaN or infinite values for stimulus {stimulus_ids[row]!r}; {hint}."
        )
