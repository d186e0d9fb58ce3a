"""Ranks and tau-a against scipy and rsatoolbox, with and without ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, rankdata

from cerebridge.encoding.engine import ranks
from cerebridge.encoding.engine.ranks import inversions, kendall_tau_a, midranks, strict_ranks, untied_share

SIZES = [2, 3, 16, 17, 33, 150]


def tau_a(x, y):
    """By definition, pair by pair."""
    signs = np.sign(np.subtract.outer(x, x)) * np.sign(np.subtract.outer(y, y))
    n = len(x)
    return signs.sum() / (n * (n - 1))


@pytest.mark.parametrize("levels", [2, 7, 10_000])
def test_midranks_are_those_of_scipy(levels, dtype, device):
    values = np.random.default_rng(levels).integers(0, levels, (4, 3, 50))
    found = midranks(torch.tensor(values, dtype=dtype, device=device))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.cpu().numpy(), rankdata(values, axis=-1))


def test_midranks_of_values_that_differ_in_their_last_bits(dtype, device):
    one = np.ones((), dtype=np.float32 if dtype == torch.float32 else np.float64)
    step = np.finfo(one.dtype).eps
    rng = np.random.default_rng(0)
    # more values than distinct ones, so near each other that keys cut short by their places cannot tell them apart
    values = (one + step * rng.integers(-40, 40, (3, 3000))).astype(one.dtype) * np.array(
        [[1], [-1], [1e-30]], one.dtype
    )
    values[0, :7] = [0.0, -0.0, 0.0, -np.inf, np.inf, -step, step]
    found = midranks(torch.tensor(values, device=device))
    np.testing.assert_array_equal(found.cpu().numpy(), rankdata(values, axis=-1))


def test_midranks_in_parts_are_the_same(monkeypatch):
    values = torch.tensor(np.random.default_rng(1).integers(0, 9, (7, 40)) / 3)
    whole = midranks(values)
    monkeypatch.setitem(ranks.CHUNK, "cpu", 100)
    assert torch.equal(midranks(values), whole)


@pytest.mark.parametrize("n", [100, 700])
def test_rows_longer_than_a_table_are_split(monkeypatch, n):
    rows = torch.tensor(np.stack([np.random.default_rng(k).permutation(n) for k in range(3)]))
    whole = inversions(rows)
    monkeypatch.setattr(ranks, "LONGEST", 64)
    assert torch.equal(inversions(rows), whole)


@pytest.mark.parametrize("levels", [(None, None), (3, None), (3, 4)])
def test_tau_b_is_that_of_scipy(levels):
    rng = np.random.default_rng(5)
    x, y = (rng.normal(size=(4, 90)) if k is None else rng.integers(0, k, (4, 90)) for k in levels)
    a, b = (strict_ranks(torch.tensor(v, dtype=torch.float64)) for v in (x, y))
    found = kendall_tau_a(a, b) / (untied_share(a) * untied_share(b)).sqrt()
    np.testing.assert_allclose(
        found, [kendalltau(*pair).statistic for pair in zip(x, y, strict=True)], atol=1e-12
    )


def test_strict_ranks_break_ties_both_ways(device):
    ranks_of = strict_ranks(torch.tensor([[5.0, 1.0, 5.0, 1.0], [0.0, 1.0, 2.0, 3.0]], device=device))
    ranks_of = ranks_of.cpu().numpy()
    assert (np.sort(ranks_of, axis=-1) == np.arange(4)).all()
    assert ranks_of[0].sum(axis=0).tolist() == [5, 1, 5, 1]
    assert (ranks_of[0, 0] != ranks_of[0, 1]).all()
    assert (ranks_of[1] == np.arange(4)).all()
    assert strict_ranks(torch.arange(6.0, device=device)).shape == (1, 6)


@pytest.mark.parametrize("n", SIZES)
def test_inversions_are_counted(n, device):
    rng = np.random.default_rng(n)
    rows = np.stack([rng.permutation(n) for _ in range(5)] + [np.arange(n), np.arange(n)[::-1]])
    expected = [(np.triu(np.greater.outer(row, row), 1)).sum() for row in rows]
    assert inversions(torch.tensor(rows.copy(), device=device)).tolist() == expected


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("levels", [(None, None), (3, None), (None, 3), (2, 4)])
def test_tau_a_is_its_definition(n, levels, dtype, device):
    rng = np.random.default_rng(n)
    x, y = (rng.normal(size=(4, n)) if k is None else rng.integers(0, k, (4, n)) for k in levels)
    found = kendall_tau_a(*(strict_ranks(torch.tensor(v, dtype=dtype, device=device)) for v in (x, y)))
    np.testing.assert_allclose(
        found.cpu().numpy(), [tau_a(*pair) for pair in zip(x, y, strict=True)], atol=1e-12
    )


def test_tau_a_without_ties_is_tau_b():
    x, y = np.random.default_rng(0).normal(size=(2, 300))
    found = kendall_tau_a(strict_ranks(torch.tensor(x[None])), strict_ranks(torch.tensor(y[None])))
    assert found.item() == pytest.approx(kendalltau(x, y).statistic, abs=1e-12)


def test_working_in_parts_changes_nothing(monkeypatch):
    x, y = (strict_ranks(torch.tensor(v)) for v in np.random.default_rng(1).integers(0, 9, (2, 12, 40)))
    whole = kendall_tau_a(x, y)
    monkeypatch.setitem(ranks.CHUNK, "cpu", 1)
    assert torch.equal(kendall_tau_a(x, y), whole)


def test_unrelated_vectors_have_no_tau():
    x, y = np.random.default_rng(2).normal(size=(2, 400, 60))
    found = kendall_tau_a(strict_ranks(torch.tensor(x)), strict_ranks(torch.tensor(y)))
    # 400 draws whose standard deviation is sqrt(2 (2n + 5) / (9 n (n - 1))) = 0.089
    assert abs(found.mean().item()) < 4 * 0.089 / 20
    assert found.std().item() == pytest.approx(0.089, rel=0.15)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=20), st.randoms())
def test_tau_a_is_antisymmetric_and_blind_to_order(pairs, random):
    def tau(rows):
        x, y = (torch.tensor([[float(row[k]) for row in rows]]) for k in (0, 1))
        return kendall_tau_a(strict_ranks(x), strict_ranks(y)).item()

    before = tau(pairs)
    shuffled = random.sample(pairs, len(pairs))
    assert tau(shuffled) == pytest.approx(before, abs=1e-12)
    assert tau([(y, x) for x, y in pairs]) == pytest.approx(before, abs=1e-12)
    assert tau([(-x, y) for x, y in pairs]) == pytest.approx(-before, abs=1e-12)
