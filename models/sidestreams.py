"""Copies from a GPU to pinned host memory that run beside the network; on a processor plain copies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class HostCopies:
    """A side stream for results on their way to the host.

    Parameters
    ----------
    device
        Where the network runs.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.sidestreams import HostCopies
    >>> copies = HostCopies(torch.device("cpu"))
    >>> place = copies.empty((2, 3), torch.float16)
    >>> copies.copy(place, torch.ones(2, 3))
    >>> copies.finish(copies.mark())
    >>> place.sum()
    tensor(6., dtype=torch.float16)
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @property
    def lag(self) -> int:
        """How many batches may still be on their way while the next one runs."""
        return 0 if self._stream is None else 1

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Host memory that a copy may go to."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=self._stream is not None)

    def copy(self, place: Tensor, values: Tensor) -> None:
        """Begin to copy ``values``, which the network may overwrite as soon as this returns."""
        if self._stream is None:
            place.copy_(values)
            return
        # later layers may work in place on the output, so the side stream reads a copy of its own
        own = values.to(place.dtype, copy=True)
        self._stream.wait_stream(torch.cuda.current_stream(values.device))
        with torch.cuda.stream(self._stream):
            place.copy_(own, non_blocking=True)
        own.record_stream(self._stream)

    def mark(self) -> torch.cuda.Event | None:
        """A mark behind all copies begun so far."""
        return None if self._stream is None else self._stream.record_event()

    def finish(self, mark: torch.cuda.Event | None) -> None:
        """Wait until all copies before a mark have arrived."""
        if mark is not None:
            mark.synchronize()
