"""Decoding stimuli and stacking them to batches, one batch ahead of the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .preprocessing import IMAGENET
from .stimuli import StimulusSet

Preprocess = Callable[[Any], Any]


def preprocess_by_default(stimulus: Any) -> Tensor:
    """Take images as most ImageNet networks do, and arrays as they are.

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
    return (
        IMAGENET(stimulus)
        if isinstance(stimulus, Image.Image)
        else torch.from_numpy(np.ascontiguousarray(stimulus))
    )


@dataclass(frozen=True)
class Feed:
    """Stimuli as a network's input.

    Parameters
    ----------
    stimuli
        What is shown.
    preprocess
        Turns a PIL image (or an array that is none) into a tensor or array without a batch axis.
    dtype
        Of the network; inputs of integers (such as tokens) stay integers.

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

    def load(self, row: int) -> Tensor:
        """Decode and preprocess one stimulus.

        Raises
        ------
        ValueError
            Naming the stimulus that cannot be read or preprocessed.
        """
        stimulus: Any = self.stimuli[row]
        if stimulus.dtype == np.uint8 and stimulus.ndim == 3 and stimulus.shape[2] == 3:
            stimulus = Image.fromarray(stimulus)
        try:
            prepared = torch.as_tensor(self.preprocess(stimulus))
        except Exception as error:  # whatever the user's own function stumbles over
            raise ValueError(f"the preprocessing failed on stimulus {self._name(row)}: {error}") from error
        return prepared.to(self.dtype) if prepared.is_floating_point() else prepared

    def ahead(self, batches: Iterable[range], workers: int = 1) -> Iterator[tuple[range, Tensor]]:
        """Yield each batch of rows with its input, while the next one is being decoded.

        Parameters
        ----------
        batches
            Rows of the stimulus set.
        workers
            Threads that decode.

        Raises
        ------
        ValueError
            Naming the first stimulus that cannot be read, or that is shaped unlike the others.
        """
        threads = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        queue: deque[tuple[range, list[Future[Tensor]]]] = deque()
        try:
            for rows in batches:
                queue.append((rows, [threads.submit(self.load, row) for row in rows]))
                if len(queue) > 1:
                    yield self._stacked(*queue.popleft())
            while queue:
                yield self._stacked(*queue.popleft())
        finally:
            threads.shutdown(cancel_futures=True)

    def _stacked(self, rows: range, futures: list[Future[Tensor]]) -> tuple[range, Tensor]:
        inputs = [future.result() for future in futures]
        for row, each in zip(rows, inputs, strict=True):
            if each.shape != inputs[0].shape:
                raise ValueError(
                    f"stimulus {self._name(row)} becomes an input of shape {tuple(each.shape)}, but "
                    f"{self._name(rows[0])} one of {tuple(inputs[0].shape)}; let preprocess= bring all to one shape."
                )
        return rows, torch.stack(inputs)

    def _name(self, row: int) -> str:
        return repr(self.stimuli.table["stimulus_id"].iloc[row])


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
