"""The same work on other machines: blocks of it go to the workers of a Dask client and come back in order."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

#: blocks that wait or run for each thread of the workers, so that none is idle and few results are held
AHEAD = 2
#: times that data are sent again after every worker that had them died
ATTEMPTS = 5


class Blocks:
    """Blocks of work on shared data, here or on the workers of a Dask client.

    Data go to the workers once, to each of them. A block whose worker dies is done by another one; where the data
    died with the last worker that had them, they are sent again. Blocks compute on one thread each, so that results
    are those of one thread, whoever computes them.

    Parameters
    ----------
    shared
        First arguments of every function that is mapped.
    client
        A connected ``distributed.Client``, or ``None``: everything is done in this process, one block after another.

    Raises
    ------
    TypeError, ValueError, ImportError
        If ``client`` is no client, is closed, or Dask is not installed.

    Examples
    --------
    >>> from cerebridge.encoding.cluster import Blocks
    >>> list(Blocks([10]).map(pow, [1, 2]))
    [10, 100]
    """

    def __init__(self, shared: Sequence[Any], client: Any = None) -> None:
        check_client(client)
        self.shared, self.client = list(shared), client
        self._sent: list[Any] | None = None

    @property
    def n_threads(self) -> int:
        """Blocks that can run at the same time."""
        return 1 if self.client is None else max(1, sum(self.client.nthreads().values()))

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield ``function(*shared, item)`` for each item, in order; items are taken as they are needed."""
        if self.client is None:
            yield from (function(*self.shared, item) for item in items)
            return
        waiting: deque[tuple[Any, Any, Any]] = deque()
        for item in items:
            waiting.append((item, *self._submit(function, item)))
            if len(waiting) >= AHEAD * self.n_threads:
                yield self._result(function, *waiting.popleft())
        while waiting:
            yield self._result(function, *waiting.popleft())

    def _submit(self, function: Callable[..., Any], item: Any) -> tuple[Any, Any]:
        if self._sent is None:
            self._sent = self.client.scatter(self.shared, broadcast=True, hash=False)
        return self.client.submit(_work, function, item, *self._sent, pure=False), self._sent

    def _result(self, function: Callable[..., Any], item: Any, future: Any, sent: Any) -> Any:
        for _ in range(ATTEMPTS):
            try:
                result, said = future.result()
            except CancelledError:
                check_client(self.client)
                if sent is self._sent:
                    self._sent = None
                future, sent = self._submit(function, item)
                continue
            for message, category in said:
                warnings.warn(message, category, stacklevel=2)
            return result
        raise RuntimeError(
            f"the workers that had the data died {ATTEMPTS} times; see their logs, and give them more memory."
        )


def check_client(client: Any) -> None:
    """Raise an error if ``client`` is neither ``None`` nor a connected Dask client."""
    if client is None:
        return
    try:
        from distributed import Client
    except ImportError:
        raise ImportError(
            "client= needs Dask, which is not installed; pip install cerebridge[scale]."
        ) from None
    if not isinstance(client, Client) or client.asynchronous:
        raise TypeError(
            f"client is {client!r}; give a connected, synchronous distributed.Client, or None for this process."
        )
    if client.status != "running":
        raise ValueError(f"the Dask client is {client.status}; connect a new one.")


def at_a_time(n_items: int, client: Any) -> int:
    """How many jobs of so many blocks keep all threads of the workers busy."""
    if client is None:
        return 1
    return max(1, math.ceil(AHEAD * sum(client.nthreads().values()) / n_items))


def _work(
    function: Callable[..., Any], item: Any, *shared: Any
) -> tuple[Any, list[tuple[str, type[Warning]]]]:
    """Run on a worker, on one thread: the result, and what was warned of."""
    import torch
    from threadpoolctl import threadpool_limits

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = function(*shared, item)
    finally:
        torch.set_num_threads(n_threads)
    return result, [(str(warning.message), warning.category) for warning in caught]
