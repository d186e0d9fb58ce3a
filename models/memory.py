"""How much memory a forward pass takes, and the largest batch that keeps a promise about it."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

#: beyond this a GPU is busy already
LARGEST_BATCH = 256
#: beyond this two threads of a CPU wait for fresh pages instead of computing
CPU_BYTES = 24 * 2**20
#: kernels need room of their own (reordered inputs, column buffers), and allocators keep some
WORKSPACE = 2
#: of one unit: its id, layer and place, as text and numbers, while the index is written
LABEL_BYTES = 500
#: share of a promise that shards leave alone: every thread that decodes, runs or writes keeps some of what it has freed
KEPT_BY_THREADS = 1 / 4
#: a shard this large is written at full speed, and no more than this is computed again after a kill
SHARD_BYTES = 64 * 2**20


def parse_bytes(memory: str | int) -> int:
    """Turn ``"2GiB"`` or a number of bytes into bytes.

    Raises
    ------
    ValueError
        If it is no positive amount of memory.

    Examples
    --------
    >>> from cerebridge.models.memory import parse_bytes
    >>> parse_bytes("1.5 KiB")
    1536
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(memory))
    if match is None or match[2].upper() not in UNITS or float(match[1]) == 0:
        raise ValueError(
            f"memory={memory!r} is no amount of memory; give it as '2GiB', '500MB' or a number of bytes."
        )
    return int(float(match[1]) * UNITS[match[2].upper()])


def format_bytes(count: float) -> str:
    """Write bytes for people.

    Examples
    --------
    >>> from cerebridge.models.memory import format_bytes
    >>> format_bytes(3 * 2**30)
    '3.0 GiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


class LiveBytes(TorchDispatchMode):
    """Follow the tensors that are alive while a network runs; ``peak`` is the most bytes at one time.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.memory import LiveBytes
    >>> with LiveBytes() as live:
    ...     total = (torch.ones(1000) + 1).sum()
    >>> live.peak
    8000
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and count what it allocated."""
        result = func(*args, **(kwargs or {}))
        before = {
            tensor.untyped_storage()._cdata
            for tensor in tree_leaves((args, kwargs))
            if isinstance(tensor, Tensor)
        }
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in before | self._known:
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def keep_freed_memory() -> None:
    """Let a C library such as glibc keep what the layers free for the next batch.

    By default it gives large blocks back to the system at once, and a third of a forward pass is spent on getting
    them again. It adapts when it sees such a block freed; this one is never touched, so it costs nothing.

    Examples
    --------
    >>> from cerebridge.models.memory import keep_freed_memory
    >>> keep_freed_memory()
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


@dataclass(frozen=True)
class Plan:
    """How an extraction is cut: stimuli a batch, stimuli a shard, and the bytes this takes at most."""

    batch_size: int
    shard_rows: int
    peak_bytes: int


def plan_batches(
    *,
    forward: float,
    inputs: float,
    outputs: float,
    labels: float,
    memory: int,
    batch_size: int | None,
    device: torch.device,
) -> Plan:
    """Cut an extraction so that it stays within ``memory``.

    Parameters
    ----------
    forward, inputs, outputs
        Bytes that one stimulus takes while the network runs, as its input, and as what is kept of it.
    labels
        Bytes that the labels of all units take.
    memory
        The promise, in bytes.
    batch_size
        Given, or ``None`` to take the largest that fits (and is worth it).
    device
        Where the network runs.

    Raises
    ------
    ValueError
        If not even the labels and the batch asked for, or one stimulus, fit.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.memory import plan_batches
    >>> need = {"forward": 9e6, "inputs": 1e5, "outputs": 1e5, "labels": 2e5}
    >>> plan_batches(**need, memory=10**8, batch_size=4, device=torch.device("cpu"))
    Plan(batch_size=4, shard_rows=8, peak_bytes=75000000)
    """
    # the batch that runs, the one decoded ahead and its stacked copy; one shard is filled while another is written
    running = forward * WORKSPACE + 3 * inputs
    free = memory - labels
    size = choose_batch(forward, inputs, outputs, free=free, batch_size=batch_size, device=device, share=1)
    needed = labels + size * (running + 2 * outputs)
    if needed > memory:
        what = "one stimulus" if size == 1 else f"a batch of {size}"
        raise ValueError(
            f"{what} and the labels of all units need about {format_bytes(needed)}, more than "
            f"memory={format_bytes(memory)}; raise memory=, {'lower batch_size=, ' if size > 1 else ''}pool the layers "
            "or ask for fewer."
        )
    room = free - memory * KEPT_BY_THREADS - size * running
    batches = int(min(SHARD_BYTES, room / 2) // max(size * outputs, 1))
    shard_rows = size * max(1, batches)
    return Plan(size, shard_rows, int(labels + size * running + 2 * shard_rows * outputs))


def choose_batch(
    forward: float,
    inputs: float,
    outputs: float,
    *,
    free: float,
    batch_size: int | None,
    device: torch.device,
    share: int = 4,
) -> int:
    """The batch that is asked for, or the largest that is worth it and takes no more than a share of what is free.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.memory import choose_batch
    >>> choose_batch(1e6, 1e5, 1e5, free=1e8, batch_size=None, device=torch.device("cpu"))
    8
    """
    running = forward * WORKSPACE + 3 * inputs + 2 * outputs
    return batch_size or _power_of_two(min(free / share / running, _worthwhile(forward, device)))


def _worthwhile(forward: float, device: torch.device) -> float:
    if device.type == "cpu":
        return min(LARGEST_BATCH, CPU_BYTES * max(1, torch.get_num_threads() // 2) / max(forward, 1))
    return LARGEST_BATCH


def _power_of_two(most: float) -> int:
    return 1 << max(0, int(max(most, 1)).bit_length() - 1)
