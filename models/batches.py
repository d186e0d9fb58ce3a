"""Decoding stimuli and stacking them to batches, one batch ahead of the network."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .clips import Clip
from .preprocessing import IMAGENET
from .stimuli import StimulusSet
from .taps import Inputs

Preprocess = Callable[[Any], Any]
Rows = TypeVar("Rows", bound=Sequence[int])


def preprocess_by_default(stimulus: Any) -> Tensor:
    """Take images as most ImageNet networks do, clips by their values, and arrays as they are.

    Raises
    ------
    TypeError
        If it is a text, which every network cuts into tokens of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from PIL import Image
    >>> from cerebridge.models.batches import preprocess_by_default
    >>> preprocess_by_default(Image.new("RGB", (64, 48))).shape
    torch.Size([3, 224, 224])
    >>> preprocess_by_default(np.zeros((2, 5))).shape
    torch.Size([2, 5])
    """
    if isinstance(stimulus, Image.Image):
        return IMAGENET(stimulus)
    if isinstance(stimulus, str):
        raise TypeError("a text reaches the network as tokens; give its tokenizer as preprocess=.")
    values = stimulus.values if isinstance(stimulus, Clip) else stimulus
    return torch.from_numpy(np.ascontiguousarray(values))


def map_inputs(inputs: Any, function: Callable[[Any], Tensor]) -> Any:
    """Apply ``function`` to a network's input, or to each of those that it takes by name.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.batches import map_inputs
    >>> map_inputs({"ids": torch.zeros(2, 3)}, lambda tensor: tensor + 1)["ids"].sum()
    tensor(6.)
    """
    if isinstance(inputs, Mapping):
        return {name: function(each) for name, each in inputs.items()}
    return function(inputs)


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """The tensors of a network's input.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.batches import tensors_of
    >>> len(tensors_of({"ids": torch.zeros(2, 3), "mask": torch.ones(2, 3)}))
    2
    """
    return list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]


def stack_inputs(inputs: Sequence[Inputs], pinned: bool = False) -> Any:
    """Stack the inputs of single stimuli to those of a batch.

    Parameters
    ----------
    inputs
        One a stimulus, all of one form.
    pinned
        Whether they are to lie in pinned memory, from which a GPU reads while the processor goes on.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.batches import stack_inputs
    >>> stack_inputs([torch.zeros(3), torch.ones(3)]).shape
    torch.Size([2, 3])
    """

    def stacked(tensors: list[Tensor]) -> Tensor:
        batch = torch.stack(tensors)
        return batch.pin_memory() if pinned else batch

    if isinstance(inputs[0], Mapping):
        entries = [cast(Mapping[str, Tensor], each) for each in inputs]
        return {name: stacked([each[name] for each in entries]) for name in entries[0]}
    return stacked([cast(Tensor, each) for each in inputs])


@dataclass(frozen=True)
class Feed:
    """Stimuli as a network's input.

    Parameters
    ----------
    stimuli
        What is shown.
    preprocess
        Turns a PIL image (a text, a clip, or an array that is no image) into a tensor or array without a batch
        axis, or into a mapping of those that the network takes by name.
    dtype
        Of the network; inputs of integers (such as tokens) stay integers.
    kept_rows
        How many decoded stimuli may be kept for the next time that they are asked for.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from cerebridge import models
    >>> from cerebridge.models.batches import Feed, preprocess_by_default
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((5, 4), np.float32))
    >>> feed = Feed(stimuli, preprocess_by_default, torch.float32)
    >>> [inputs.shape[0] for _, inputs in feed.ahead([range(0, 3), range(3, 5)])]
    [3, 2]
    """

    stimuli: StimulusSet
    preprocess: Preprocess
    dtype: torch.dtype
    kept_rows: int = 0
    _kept: dict[int, Inputs] = field(default_factory=dict, repr=False)

    def load(self, row: int) -> Any:
        """Decode and preprocess one stimulus, unless it was kept: a tensor, or tensors by name.

        Raises
        ------
        ValueError
            Naming the stimulus that cannot be read or preprocessed.
        """
        if row in self._kept:
            return self._kept[row]
        stimulus: Any = self.stimuli[row]
        if (
            isinstance(stimulus, np.ndarray)
            and stimulus.dtype == np.uint8
            and stimulus.ndim == 3
            and stimulus.shape[2] == 3
        ):
            stimulus = Image.fromarray(stimulus)
        try:
            prepared = map_inputs(self.preprocess(stimulus), self._converted)
        except Exception as error:  # whatever the user's own function stumbles over
            raise ValueError(f"the preprocessing failed on stimulus {self._name(row)}: {error}") from error
        if len(self._kept) < self.kept_rows:
            self._kept[row] = prepared
        return prepared

    def ahead(
        self, batches: Iterable[Rows], device: torch.device | None = None
    ) -> Iterator[tuple[Rows, Any]]:
        """Yield each batch of rows with its input, while the next one is being decoded.

        Parameters
        ----------
        batches
            Rows of the stimulus set.
        device
            Where the network runs. For a GPU several threads decode, into pinned memory; beside a network on the
            processor one does.

        Raises
        ------
        ValueError
            Naming the first stimulus that cannot be read, or that is shaped unlike the others.
        """
        threads = ThreadPoolExecutor(count_decoders(device), thread_name_prefix="decode")
        pinned = device is not None and device.type == "cuda"
        queue: deque[tuple[Rows, list[Future[Inputs]]]] = deque()
        try:
            for rows in batches:
                queue.append((rows, [threads.submit(self.load, row) for row in rows]))
                if len(queue) > 1:
                    yield self._stacked(*queue.popleft(), pinned)
            while queue:
                yield self._stacked(*queue.popleft(), pinned)
        finally:
            threads.shutdown(cancel_futures=True)

    def _converted(self, values: Any) -> Tensor:
        tensor = torch.as_tensor(values)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _stacked(self, rows: Rows, futures: list[Future[Inputs]], pinned: bool) -> tuple[Rows, Any]:
        inputs = [future.result() for future in futures]
        for row, each in zip(rows, inputs, strict=True):
            if _form(each) != _form(inputs[0]):
                raise ValueError(
                    f"stimulus {self._name(row)} becomes an input of shape {_form(each)}, but "
                    f"{self._name(rows[0])} one of {_form(inputs[0])}; let preprocess= bring all to one shape."
                )
        return rows, stack_inputs(inputs, pinned)

    def _name(self, row: int) -> str:
        return repr(self.stimuli.table["stimulus_id"].iloc[row])


def count_decoders(device: torch.device | None) -> int:
    """How many threads decode: the processor's cores are free where a GPU runs the network.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.batches import count_decoders
    >>> count_decoders(torch.device("cpu"))
    1
    """
    return 1 if device is None or device.type == "cpu" else min(8, os.cpu_count() or 1)


def _form(inputs: Inputs) -> Any:
    """Shapes, for comparison and messages."""
    if isinstance(inputs, Mapping):
        return {name: tuple(tensor.shape) for name, tensor in inputs.items()}
    return tuple(inputs.shape)


def cut_rows(rows: Iterable[int], size: int) -> list[range]:
    """Cut sorted rows into batches at multiples of ``size``.

    The borders do not depend on what is missing, so that work which is taken up again forms the same batches.

    Examples
    --------
    >>> from cerebridge.models.batches import cut_rows
    >>> cut_rows([0, 1, 2, 5, 6, 7, 8], 4)
    [range(0, 3), range(5, 8), range(8, 9)]
    """
    batches: list[range] = []
    for row in rows:
        if batches and row == batches[-1].stop and row % size:
            batches[-1] = range(batches[-1].start, row + 1)
        else:
            batches.append(range(row, row + 1))
    return batches
