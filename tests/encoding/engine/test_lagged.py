"""Lagged moments: those of the design that is never formed, whatever the window, the edges and the frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.encoding.engine import lagged
from cerebridge.encoding.engine.lagged import Lagged, convolve, materialise, window


def series(n: int, p: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, p)) + 3)


def by_hand(x: torch.Tensor, first: int, length: int, fill: torch.Tensor) -> torch.Tensor:
    """Every entry of the design, looked up one by one."""
    rows = [
        [x[t + first + j] if 0 <= t + first + j < len(x) else fill for j in range(length)]
        for t in range(len(x))
    ]
    return torch.stack([torch.stack(row) for row in rows])


def assert_moments(found: Lagged, design: torch.Tensor, y: torch.Tensor) -> None:
    design = design.reshape(len(design), -1)
    centred, truth = design - design.mean(0), y - y.mean(0)
    tolerance = {"rtol": 1e-9, "atol": 1e-8}
    torch.testing.assert_close(found.gram.products, centred.T @ centred, **tolerance)
    torch.testing.assert_close(found.cross.products, truth.T @ centred, **tolerance)
    torch.testing.assert_close(found.square, truth.square().sum(0), **tolerance)
    torch.testing.assert_close(found.gram.mean_a, design.mean(0), **tolerance)
    torch.testing.assert_close(found.cross.mean_a, y.mean(0), **tolerance)
    assert found.gram.n == found.cross.n == len(y)


@pytest.mark.parametrize("edges", ["zero", "mean", "valid"])
@pytest.mark.parametrize(("first", "length"), [(0, 1), (-4, 5), (0, 5), (-2, 5), (3, 2), (-9, 3), (-25, 20)])
def test_windows_are_those_looked_up_one_by_one(edges, first, length):
    x = series(30, 2)
    padded, rows = window(x, first, length, edges)
    expected = by_hand(x, first, length, x.mean(0) if edges == "mean" else torch.zeros(2).double())[rows]
    torch.testing.assert_close(materialise(padded, length), expected)
    if edges == "valid":
        assert len(expected) == 30 - max(0, -first) - max(0, first + length - 1)
    else:
        assert len(expected) == 30


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 400), st.integers(1, 30), st.integers(-40, 20), st.integers(1, 3),
    st.sampled_from(["zero", "mean", "valid"]),
)  # fmt: skip
def test_moments_are_those_of_the_design(n, length, first, p, edges):
    x, y = series(n, p), series(n, 2, seed=1)
    padded, rows = window(x, first, length, edges)
    if rows.stop == rows.start:
        return
    found = Lagged.of(padded, y[rows], length)
    assert_moments(found, materialise(padded, length), y[rows])


def test_moments_of_runs_add_and_no_lag_crosses():
    x, y = series(90, 2), series(90, 3, seed=1)
    parts = [slice(0, 20), slice(20, 70), slice(70, 90)]
    designs, total = [], None
    for part in parts:
        padded, _ = window(x[part], -3, 6, "zero")
        designs.append(materialise(padded, 6))
        moments = Lagged.of(padded, y[part], 6)
        total = moments if total is None else total + moments
    assert_moments(total, torch.cat(designs), y)
    across = Lagged.of(window(x, -3, 6, "zero")[0], y, 6)
    assert (across.gram.products - total.gram.products).abs().max() > 1


@pytest.mark.parametrize("knobs", [{"FRAME": 8}, {"FRAME": 2048}, {"AT_ONCE": 1}, {"IN_CACHE": 1}])
def test_frames_and_blocks_do_not_change_the_answer(monkeypatch, knobs):
    x, y = series(500, 3), series(500, 4, seed=1)
    padded, _ = window(x, -7, 12, "mean")
    weights = series(12, 12, seed=2).reshape(12, 3, 4)
    before, predicted = Lagged.of(padded, y, 12), convolve(padded, weights)
    for name, value in knobs.items():
        monkeypatch.setattr(lagged, name, value)
    torch.testing.assert_close(
        Lagged.of(padded, y, 12).gram.products, before.gram.products, rtol=0, atol=1e-9
    )
    torch.testing.assert_close(
        Lagged.of(padded, y, 12).cross.products, before.cross.products, rtol=0, atol=1e-9
    )
    torch.testing.assert_close(convolve(padded, weights), predicted, rtol=0, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 4), st.integers(1, 3))
def test_convolution_is_the_design_times_weights(n, length, p, targets):
    x = series(n, p)
    weights = series(length * p, targets, seed=2)
    padded, _ = window(x, -length // 2, length, "zero")
    expected = materialise(padded, length).reshape(n, -1) @ weights
    found = convolve(padded, weights.reshape(length, p, targets))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_large_offset_costs_no_precision():
    x, y = series(200, 2) + 1e6, series(200, 2, seed=1) - 1e6
    padded, _ = window(x, -3, 4, "mean")
    assert_moments(Lagged.of(padded, y, 4), materialise(padded, 4), y)


def test_constant_series_vary_by_exactly_nothing():
    padded, _ = window(torch.full((50, 1), 0.1, dtype=torch.float64), -3, 4, "mean")
    found = Lagged.of(padded, torch.full((50, 1), 0.3, dtype=torch.float64), 4)
    assert float(found.square) == 0
    assert float(found.gram.products.abs().max()) == 0


def test_about_the_origin_nothing_is_centred():
    x, y = series(40, 2), series(40, 2, seed=1)
    padded, _ = window(x, -2, 3, "zero")
    design = materialise(padded, 3).reshape(40, -1)
    found = Lagged.of(padded, y, 3).about_origin()
    torch.testing.assert_close(found.gram.products, design.T @ design)
    torch.testing.assert_close(found.cross.products, y.T @ design)


def test_on_every_device(device):
    x, y = series(60, 2), series(60, 2, seed=1)
    padded, _ = window(x, -2, 4, "mean")
    here, there = (Lagged.of(padded.to(d), y.to(d), 4).gram.products.cpu() for d in ("cpu", device))
    torch.testing.assert_close(here, there)
