"""Moments: they add, leave blocks out without a trace, and are exact where sums of squares would not be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.encoding.engine.moments import (
    Moments,
    Split,
    centre,
    is_partition,
    leave_one_out,
    split_moments,
    take,
    whole,
)


def variables(
    n: int = 24, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, 3)) + 5, rng.standard_normal((n, 2)) - 7
    return torch.from_numpy(a).to(dtype), torch.from_numpy(b).to(dtype)


def complement(test: torch.Tensor, n: int) -> Split:
    return Split(torch.from_numpy(np.setdiff1d(np.arange(n), test.numpy())), test)


def assert_same(one: Moments, other: Moments, **tolerance: float) -> None:
    assert one.n == other.n
    for name in ("mean_a", "mean_b", "products"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), **tolerance)


def test_moments_are_those_of_numpy(dtype, device):
    a, b = variables(dtype=dtype)
    moments = Moments.of(a.to(device), b.to(device))
    expected = np.cov(a.double().numpy().T, b.double().numpy().T, bias=True)[:3, 3:] * len(a)
    torch.testing.assert_close(
        moments.products.cpu().double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-4
    )
    torch.testing.assert_close(moments.mean_a.cpu(), a.mean(0))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=7), st.integers(0, 100))
def test_leaving_out_is_the_same_as_never_having_had(sizes, seed):
    a, b = variables(sum(sizes), seed)
    parts = [Moments.of(x, y) for x, y in zip(a.split(sizes), b.split(sizes), strict=True)]
    rest = list(leave_one_out(parts))
    assert len(rest) == len(parts)
    for k, moments in enumerate(rest):
        keep = torch.cat([rows for j, rows in enumerate(torch.arange(len(a)).split(sizes)) if j != k])
        assert_same(moments, Moments.of(a[keep], b[keep]), rtol=1e-9, atol=1e-9)
        assert_same(moments + parts[k], Moments.of(a, b), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("interleaved", [False, True])
def test_held_out_rows_leave_no_trace_in_the_training_moments(interleaved):
    n = 24
    a, b = variables(n)
    tests = [torch.arange(k, n, 4) if interleaved else torch.arange(6 * k, 6 * k + 6) for k in range(4)]
    splits = [complement(test, n) for test in tests]
    for k, test in enumerate(tests):
        changed_a, changed_b = a.clone(), b.clone()
        changed_a[test], changed_b[test] = 1e12 * torch.rand(6, 3).double(), -1e12
        before, after = (
            [pair[0] for pair in split_moments(x, y, splits)] for x, y in ((a, b), (changed_a, changed_b))
        )
        for name in ("mean_a", "mean_b", "products"):
            assert torch.equal(getattr(before[k], name), getattr(after[k], name))
            assert not torch.equal(getattr(before[k - 1], name), getattr(after[k - 1], name))


def test_splits_that_are_no_partition_are_read_one_by_one():
    a, b = variables()
    splits = [Split(torch.arange(8), torch.arange(8, 14)), Split(torch.arange(14), torch.arange(14, 24))]
    for (training, held), split in zip(split_moments(a, b, splits), splits, strict=True):
        assert_same(training, Moments.of(a[split.train], b[split.train]))
        assert_same(held, Moments.of(a[split.test], b[split.test]))


def test_sums_have_the_precision_asked_for():
    a, b = variables(dtype=torch.float32)
    splits = [complement(torch.arange(12), 24), complement(torch.arange(12, 24), 24)]
    for training, held in split_moments(a, b, splits, torch.float64):
        assert training.products.dtype == held.products.dtype == torch.float64


@pytest.mark.parametrize("left_out", [0, 4])
def test_the_whole_comes_from_its_parts_or_from_the_rows(left_out):
    a, b = variables()
    split = Split(torch.arange(12), torch.arange(12, 24 - left_out))
    ((training, held),) = split_moments(a, b, [split])
    assert_same(whole(a, b, training, held), Moments.of(a, b))


def test_deviations_from_zero_are_plain_products():
    a, b = variables()
    about = Moments.of(a, b).about_origin()
    torch.testing.assert_close(about.products, a.T @ b)
    assert not about.mean_a.any()
    assert not about.mean_b.any()


def test_a_large_mean_costs_no_precision():
    a, b = variables()
    near, far = Moments.of(a, b), Moments.of(a + 2.0**30, b - 2.0**30)
    torch.testing.assert_close(far.products, near.products, rtol=1e-5, atol=1e-5)
    naive = ((a + 2.0**30).T @ (b - 2.0**30)) - 24 * torch.outer((a + 2.0**30).mean(0), (b - 2.0**30).mean(0))
    assert (naive - near.products).abs().max() > 1


def test_a_constant_column_deviates_by_exactly_zero(dtype, device):
    x = torch.full((7, 2), 0.1, dtype=dtype, device=device)
    x[3, 1] = 0.2
    deviations, mean = centre(x)
    assert not deviations[:, 0].any()
    assert deviations[:, 1].any()
    assert mean[0] == x[0, 0]


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ([[0, 1], [2, 3]], True),
        ([[0, 2], [1, 3]], True),
        ([[0, 1], [1, 3]], False),
        ([[0, 1], [2]], False),
        ([[0, 1, 2, 3]], False),
    ],
)
def test_partitions(tests, expected):
    assert is_partition([complement(torch.tensor(test), 4) for test in tests], 4) is expected


def test_a_training_set_that_leaves_rows_out_is_no_partition():
    splits = [
        Split(torch.tensor([2]), torch.tensor([0, 1])),
        Split(torch.tensor([0, 1]), torch.tensor([2, 3])),
    ]
    assert not is_partition(splits, 4)


def test_neighbouring_rows_are_a_view():
    x = torch.arange(12.0).reshape(6, 2)
    assert take(x, torch.tensor([2, 3, 4])).data_ptr() == x[2:].data_ptr()
    assert torch.equal(take(x, torch.tensor([0, 3])), x[[0, 3]])
