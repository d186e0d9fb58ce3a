"""Matrices that are read in pieces: the same numbers as from memory, and no more rows at a time than fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.encoding.engine import tables
from cerebridge.encoding.engine.moments import moments_at
from cerebridge.encoding.engine.tables import Table, columns, pieces, take, triangle


def table_of(values: torch.Tensor, reads: list | None = None) -> Table:
    def read(rows: slice, chosen: slice) -> torch.Tensor:
        if reads is not None:
            reads.append((rows, chosen))
        return values[rows, chosen].clone()

    return Table(read, tuple(values.shape), values.dtype, values.device, values.abs().amax(0))


def values_of(n: int = 23, p: int = 5) -> torch.Tensor:
    return torch.randn(n, p, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 22), min_size=1), st.integers(1, 30))
def test_pieces_are_the_index_in_windows_that_fit(chosen, rows):
    table, index = table_of(values_of()), torch.tensor(sorted(chosen))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "PIECE", rows * 8 * 5)
        parts = pieces(index, table)
    assert torch.cat(list(parts)).tolist() == index.tolist()
    assert all(int(part[-1] - part[0]) < rows for part in parts)
    assert all(len(part) for part in parts)


def test_rectangles_and_scales():
    values = values_of()
    scale = torch.arange(1.0, 6.0, dtype=torch.float64)
    part = table_of(values).times(scale).columns(1, 4).times(torch.tensor(2.0))
    index = torch.tensor([3, 4, 9])
    torch.testing.assert_close(part.rows(index), 2 * (values * scale)[index, 1:4])
    torch.testing.assert_close(part.largest, values.abs().amax(0)[1:4])
    torch.testing.assert_close(columns(part, 1, 9), 2 * (values * scale)[:, 2:4])
    assert part.to(torch.device("cpu"), torch.float32).whole().dtype == torch.float32
    assert take(values, index).shape == take(table_of(values), index).shape


@pytest.mark.parametrize(
    "index", [torch.arange(4, 19), torch.arange(0, 23, 3)], ids=["neighbours", "scattered"]
)
def test_moments_and_triangles_add_up(index, monkeypatch):
    monkeypatch.setattr(tables, "PIECE", 8 * 2 * 5 * 4)
    values, reads = values_of(), []
    table = table_of(values, reads)
    whole, streamed = moments_at(values, values[:, :2], index), moments_at(table, table.columns(0, 2), index)
    torch.testing.assert_close(streamed.products, whole.products, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(streamed.mean_b, whole.mean_b)
    assert len(reads) > 4
    rows = values[index] - whole.mean_a
    root = triangle(table, index, whole.mean_a)
    torch.testing.assert_close(root.T @ root, rows.T @ rows, rtol=1e-10, atol=1e-10)
    basis = values[:5, :3]
    seen = triangle(table, index, whole.mean_a, basis)
    torch.testing.assert_close(seen.T @ seen, (rows @ basis).T @ (rows @ basis), rtol=1e-10, atol=1e-10)
