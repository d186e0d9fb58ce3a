"""Shuffled batches of samples that do not fit into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ..training import Batch, Batches, Rows
from .samples import Samples

#: a run of rows on disk that is worth a seek
RUN_BYTES = 1 << 20
#: share of the memory that the rows drawn from may take; as many are read ahead
POOL_SHARE = 3


@dataclass(frozen=True)
class Stream:
    """Batches of samples that stay on disk, shuffled as well as memory allows.

    An epoch takes runs of neighbouring rows in random order. As many as fit form a pool whose samples are mixed; the
    next pool is read by a thread while batches are drawn from this one. Every sample comes once an epoch.

    Parameters
    ----------
    sources
        By name, all of as many samples.
    batch_size
        Most samples of a batch; batches are of equal size up to one.
    memory
        Bytes that the samples in memory may take.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.samples import Samples
    >>> from cerebridge.models.decompose.streams import Stream
    >>> stream = Stream({"x": Samples(torch.arange(10.0)[:, None])}, batch_size=4, memory=10**6)
    >>> batches = [batch["x"] for batch in stream.draw(torch.Generator().manual_seed(0))]
    >>> [len(batch) for batch in batches], int(torch.cat(batches).sum())
    ([4, 3, 3], 45)
    """

    sources: Mapping[str, Samples]
    batch_size: int
    memory: int

    def __len__(self) -> int:
        return math.ceil(len(next(iter(self.sources.values()))) / self.batch_size)

    def draw(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch."""
        n = len(next(iter(self.sources.values())))
        sizes = [len(part) for part in torch.empty(n, 0).tensor_split(len(self))]
        rest: dict[str, Tensor] = {}
        for pool in self._pools(generator):
            have = len(next(iter(pool.values())))
            order = torch.randperm(have, generator=generator)
            taken = 0
            while sizes:
                left = len(next(iter(rest.values()))) if rest else 0
                if left + have - taken < sizes[0]:
                    break
                rows = order[taken : taken + sizes[0] - left]
                taken += len(rows)
                batch = _joined(rest, {name: values[rows] for name, values in pool.items()})
                rest = {}
                sizes.pop(0)
                yield batch
            rest = _joined(rest, {name: values[order[taken:]] for name, values in pool.items()})

    def _pools(self, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
        """Random runs of rows, as many as fit, read one pool ahead."""
        first = next(iter(self.sources.values()))
        n_rows = int(first.values.shape[0])
        row_bytes = sum(source.nbytes for source in self.sources.values()) / n_rows
        room = max(1, int(self.memory / POOL_SHARE / row_bytes))
        # a pool is of several runs, else neighbours would stay neighbours
        run = max(1, min(int(RUN_BYTES / row_bytes), room // 8))
        starts = (torch.randperm(math.ceil(n_rows / run), generator=generator) * run).tolist()
        pools = [
            starts[first : first + max(1, room // run)]
            for first in range(0, len(starts), max(1, room // run))
        ]

        def read(runs: list[int]) -> dict[str, Tensor]:
            return {
                name: torch.cat([source.read(start, min(start + run, n_rows)) for start in runs])
                for name, source in self.sources.items()
            }

        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as thread:
            ahead = thread.submit(read, pools[0])
            for following in [*pools[1:], None]:
                pool = ahead.result()
                if following is not None:
                    ahead = thread.submit(read, following)
                yield pool


def make_batches(sources: Mapping[str, Samples], batch_size: int, memory: int) -> Batches:
    """Batches of what is in memory or fits into it, else a stream from disk.

    Raises
    ------
    ValueError
        If the sources have different numbers of samples.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.samples import Samples
    >>> from cerebridge.models.decompose.streams import make_batches
    >>> len(make_batches({"x": Samples(torch.zeros(10, 2))}, 4, 10**6))
    3
    """
    sizes = {name: len(source) for name, source in sources.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"there are these numbers of samples: {sizes}; give as many of each, in the same order."
        )
    kept = sum(source.nbytes for source in sources.values() if source.on_disk)
    if kept <= memory:
        return Rows({name: source.all() for name, source in sources.items()}, batch_size)
    aligned = {source.places for source in sources.values()}
    if len(aligned) > 1:
        raise ValueError(f"the samples lie at {sorted(aligned)} places a row; give all of the same layer.")
    return Stream(sources, batch_size, memory)


def sample(batches: Batches, n: int, seed: int) -> Batch:
    """Some random samples by name, at least one batch of them.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.streams import sample
    >>> from cerebridge.models.training import Rows
    >>> sample(Rows({"x": torch.zeros(10, 2)}, 4), 6, seed=0)["x"].shape
    torch.Size([7, 2])
    """
    taken: dict[str, Tensor] = {}
    for batch in batches.draw(torch.Generator().manual_seed(seed)):
        taken = _joined(taken, batch)
        if len(next(iter(taken.values()))) >= n:
            break
    return taken


def _joined(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not first:
        return dict(second)
    return {name: torch.cat([first[name], values]) for name, values in second.items()}
