"""Independent pieces of work on the processor's cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def spread(function: Callable[[T], R], items: Sequence[T], device: torch.device) -> Iterator[R]:
    """Results of ``items`` in their order; on the CPU every piece on one thread, as many at once as torch may use.

    Threads that share each small product wait for one another at its end, the longer the busier the machine; threads
    with a piece each never do. Where there are fewer pieces than threads, all threads share each.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.threads import spread
    >>> list(spread(lambda x: 2 * x, [1, 2, 3], torch.device("cpu")))
    [2, 4, 6]
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads < 2 or len(items) < n_threads:
        yield from map(function, items)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(function, items)
    finally:
        torch.set_num_threads(n_threads)
