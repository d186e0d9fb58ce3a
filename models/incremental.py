"""Principal components of rows that stream by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: features that are multiplied at once in double precision
COLUMNS = 1 << 14
#: variance below this share of the first component's is rounding of single precision
ROUNDING = 1e-10


@dataclass(frozen=True)
class LinearMap:
    """Components of a layer: ``(values - mean) @ components.T``.

    Parameters
    ----------
    mean
        Of each feature over the stimuli that were fitted on.
    components
        Components × features, of length 1.
    explained
        Share of the variance of those stimuli that each component explains.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.incremental import LinearMap
    >>> LinearMap(torch.ones(2), torch.eye(2)[:1], torch.ones(1))(torch.tensor([[3.0, 4.0]]))
    tensor([[2.]])
    """

    mean: Tensor
    components: Tensor
    explained: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Project rows of features."""
        return (values.float() - self.mean) @ self.components.T

    def to(self, device: torch.device) -> LinearMap:
        """The same on another device."""
        return LinearMap(self.mean.to(device), self.components.to(device), self.explained)


class IncrementalPCA:
    """Leading components of rows that come in any batches; it works on blocks of a fixed number of them.

    scikit-learn's class of this name does the same for rows in memory; this one keeps its promise about memory for
    very many features, multiplies in double precision, and works on the device of the rows.

    Parameters
    ----------
    n_features, n_components
        Sizes.
    block_rows
        Rows that are taken in at once.
    device
        Where rows come from.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.incremental import IncrementalPCA
    >>> fit = IncrementalPCA(3, 1, block_rows=4, device=torch.device("cpu"))
    >>> fit.add(torch.tensor([[0.0, 1.0, 0.0], [0.0, 5.0, 0.0]]))
    >>> fit.finish().components
    tensor([[0., 1., 0.]])
    """

    def __init__(self, n_features: int, n_components: int, block_rows: int, device: torch.device) -> None:
        self.n_components, self._block = n_components, block_rows
        # components times singular values, then the rows of a block, then the way from one mean to the next
        self._stack = torch.zeros((n_components + block_rows + 1, n_features), device=device)
        self._mean = torch.zeros(n_features, device=device)
        self._seen = self._waiting = 0
        self._variance = 0.0
        self._singular = torch.zeros(n_components, dtype=torch.float64)
        # Metal has no double precision
        self._wide = torch.float32 if device.type == "mps" else torch.float64

    @staticmethod
    def state_bytes(n_features: int, n_components: int, block_rows: int) -> int:
        """Bytes that a fit takes."""
        stack = 4 * n_features * (n_components + block_rows + 3)
        return stack + 8 * min(COLUMNS, n_features) * (2 * n_components + block_rows + 1)

    def add(self, rows: Tensor) -> None:
        """Take rows, ``n × features``."""
        while len(rows):
            some = rows[: self._block - self._waiting]
            start = self.n_components + self._waiting
            self._stack[start : start + len(some)] = some
            self._waiting += len(some)
            rows = rows[len(some) :]
            if self._waiting == self._block:
                self._take_in()

    def finish(self) -> LinearMap:
        """Take in what waits and give the components; those of no variance are zero."""
        if self._waiting:
            self._take_in()
        components = self._stack[: self.n_components]
        scale = self._singular.to(torch.float32).to(components.device)
        found = components / torch.where(scale > 0, scale, 1)[:, None]
        largest = found.abs().argmax(1, keepdim=True)
        signs = torch.where(found.gather(1, largest) < 0, -1.0, 1.0)
        explained = self._singular.square() / max(self._variance, torch.finfo(torch.float64).tiny)
        return LinearMap(self._mean, found.mul_(signs), explained.float())

    def _take_in(self) -> None:
        """Merge the waiting rows into the components (Ross et al., 2008)."""
        n, seen, k = self._waiting, self._seen, self.n_components
        rows = self._stack[k : k + n]
        mean = rows.mean(0)
        rows -= mean
        used = k + n
        if seen:
            self._stack[used] = (self._mean - mean) * (seen * n / (seen + n)) ** 0.5
            used += 1
        self._mean += (mean - self._mean) * (n / (seen + n))
        self._seen, self._waiting = seen + n, 0
        stack = self._stack[:used]
        inner = torch.zeros((used, used), dtype=self._wide, device=stack.device)
        for columns in stack.split(COLUMNS, dim=1):
            wide = columns.to(self._wide)
            inner += wide @ wide.T
        inner = inner.double() if inner.device.type != "mps" else inner.cpu().double()
        # the variance that earlier blocks lost is not in the rows any more
        new = float(inner.diagonal()[k:].sum())
        self._variance += new
        values, vectors = torch.linalg.eigh(inner)
        values, vectors = values[-k:].flip(0), vectors[:, -k:].flip(1)
        kept = values > values[0] * ROUNDING
        singular = torch.where(kept, values.clamp(min=0).sqrt(), 0)
        rotation = torch.where(kept, vectors, 0).T.to(self._wide).to(stack.device)
        for columns in stack.split(COLUMNS, dim=1):
            columns[: len(rotation)] = (rotation @ columns.to(self._wide)).float()
        self._singular = torch.zeros(k, dtype=torch.float64)
        self._singular[: len(singular)] = singular.cpu()


def state_of(maps: dict[str, LinearMap]) -> dict[str, Tensor]:
    """The tensors of several layers' components, by name.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.incremental import LinearMap, maps_of, state_of
    >>> kept = state_of({"fc": LinearMap(torch.ones(2), torch.eye(2), torch.ones(2))})
    >>> maps_of(kept)["fc"].mean
    tensor([1., 1.])
    """
    return {
        f"{layer}/{name}": tensor.cpu().contiguous()
        for layer, each in maps.items()
        for name, tensor in vars(each).items()
    }


def maps_of(state: dict[str, Tensor]) -> dict[str, LinearMap]:
    """The components of several layers, of what :func:`state_of` gave.

    Examples
    --------
    >>> from cerebridge.models.incremental import maps_of
    >>> maps_of({})
    {}
    """
    parts: dict[str, dict[str, Any]] = {}
    for key, tensor in state.items():
        layer, _, name = key.rpartition("/")
        parts.setdefault(layer, {})[name] = tensor
    return {layer: LinearMap(**each) for layer, each in parts.items()}
