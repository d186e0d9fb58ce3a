"""Matrices that stay where they are, on a disk for instance, and are read in pieces that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

#: bytes of the rows of all tables that are read together, in double precision
PIECE = 2**24


@dataclass(frozen=True)
class Table:
    """A matrix of which any rectangle can be read.

    Parameters
    ----------
    read
        Gives the values of neighbouring rows and columns, ``(rows, columns)``.
    shape
        Rows and columns.
    dtype, device
        What the values are computed with, and where.
    largest
        Largest magnitude of each column, ``(columns,)``.
    first
        Column of what is read that is the first of this table.
    scale
        What every column is multiplied by, one number or ``(columns,)``; default: nothing.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.tables import Table
    >>> values = torch.arange(12.0).reshape(3, 4)
    >>> table = Table(lambda rows, columns: values[rows, columns], (3, 4), values.dtype, values.device, values[2])
    >>> table.columns(1, 3).whole().tolist()
    [[1.0, 2.0], [5.0, 6.0], [9.0, 10.0]]
    """

    read: Callable[[slice, slice], torch.Tensor]
    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    largest: torch.Tensor
    first: int = 0
    scale: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def columns(self, start: int, stop: int) -> Table:
        """Neighbouring columns as a table of their own."""
        start, stop, _ = slice(start, stop).indices(self.shape[1])
        scale = self.scale if self.scale is None or self.scale.numel() == 1 else self.scale[start:stop]
        return replace(
            self,
            shape=(len(self), stop - start),
            largest=self.largest[start:stop],
            first=self.first + start,
            scale=scale,
        )

    def times(self, scale: torch.Tensor) -> Table:
        """The table times a number, or times one number a column."""
        return replace(self, scale=scale if self.scale is None else self.scale * scale)

    def to(self, device: torch.device, dtype: torch.dtype) -> Table:
        """The table with values that are computed with elsewhere, or in another precision."""
        return replace(self, device=device, dtype=dtype, largest=self.largest.to(device, dtype))

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        """Rows at sorted indices, in memory; all between the first and the last are read."""
        first, last = int(index[0]), int(index[-1])
        slab = self.read(slice(first, last + 1), slice(self.first, self.first + self.shape[1]))
        if len(slab) > len(index):
            slab = slab[index.to(slab.device) - first]
        slab = slab.to(self.device, self.dtype)
        return slab if self.scale is None else slab * self.scale.to(slab)

    def whole(self) -> torch.Tensor:
        """All of it, in memory."""
        return self.rows(torch.arange(len(self)))


Matrix = torch.Tensor | Table


def pieces(index: torch.Tensor, *matrices: Matrix) -> Sequence[torch.Tensor]:
    """Parts of sorted indices whose rows of all matrices fit in memory together; one part where none is a table.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.tables import pieces
    >>> len(pieces(torch.arange(5), torch.ones(5, 2)))
    1
    """
    if not any(isinstance(matrix, Table) for matrix in matrices):
        return [index]
    at_once = max(1, PIECE // (8 * sum(matrix.shape[1] for matrix in matrices)))
    window = torch.div(index - index[0], at_once, rounding_mode="floor")
    return torch.tensor_split(index, (window.diff().nonzero()[:, 0] + 1).cpu())


def take(x: Matrix, index: torch.Tensor) -> torch.Tensor:
    """Rows of ``x`` at sorted indices, as a view where they are neighbours."""
    if isinstance(x, Table):
        return x.rows(index)
    first, last = int(index[0]), int(index[-1])
    return x[first : last + 1] if last - first + 1 == len(index) else x[index]


def columns(x: Matrix, start: int, stop: int) -> torch.Tensor:
    """Neighbouring columns of ``x`` in memory, as a view where they are there already."""
    return x.columns(start, stop).whole() if isinstance(x, Table) else x[:, start:stop]


def triangle(
    x: Matrix, index: torch.Tensor, mean: torch.Tensor, basis: torch.Tensor | None = None
) -> torch.Tensor:
    """Upper triangle or trapezoid with the Gram matrix of some rows, their mean taken off, seen in a basis.

    Triangles of pieces add up: the next one is that of the last one and the next rows.

    Parameters
    ----------
    x
        ``(n, p)``.
    index
        Sorted rows.
    mean
        What is taken off, ``(p,)``, in the precision for taking it off.
    basis
        ``(p, directions)``; default: the features themselves.

    Returns
    -------
    torch.Tensor
        ``(at most p, directions)``, in the precision of the basis.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.tables import triangle
    >>> triangle(torch.tensor([[3.0], [4.0]]), torch.arange(2), torch.zeros(1)).abs()
    tensor([[5.]])
    """
    found: torch.Tensor | None = None
    for part in pieces(index, x):
        rows = take(x, part).to(mean.dtype) - mean
        if basis is not None:
            rows = rows.to(basis.dtype) @ basis
        found = torch.linalg.qr(rows if found is None else torch.cat([found, rows]), mode="r").R
    assert found is not None
    return found
