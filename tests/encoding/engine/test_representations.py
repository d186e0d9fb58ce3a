"""Kernel alignment against its definition: whichever form is computed, and in whatever parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.encoding.engine import representations as engine
from cerebridge.encoding.engine.representations import adjusted_rv, kernel_alignment, median_distance


def patterns(seed, n=14, sizes=(3, 9, 20)):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 2))
    return [
        torch.from_numpy(shared @ rng.standard_normal((2, p)) + rng.standard_normal((n, p)) + 3)
        for p in sizes
    ]


def kernel_of(x, kernel, bandwidth=1.0):
    x = x.numpy()
    if kernel == "linear":
        return x @ x.T
    squares = ((x[:, None] - x[None]) ** 2).sum(2)
    sigma = bandwidth * torch.from_numpy(np.sqrt(squares[np.triu_indices(len(x), 1)])).median().item()
    return np.exp(-squares / (2 * sigma**2))


def hsic(k, m):
    centring = np.eye(len(k)) - 1 / len(k)
    return np.trace(k @ centring @ m @ centring)


def hsic1(k, m):
    """Song et al. (2012), equation 5."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    first = np.trace(k @ m)
    second = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (first + second - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def expected(a, b, order, kernel, debiased, bandwidth=1.0):
    inner = hsic1 if debiased else hsic
    table = np.zeros((len(a), len(b)))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            k, m = kernel_of(x, kernel, bandwidth), kernel_of(y[order], kernel, bandwidth)
            table[i, j] = inner(k, m) / np.sqrt(inner(k, k) * inner(m, m))
    return table


def orders_of(n, k, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([np.arange(n), *(rng.permutation(n) for _ in range(k))]))


@pytest.mark.parametrize("form", ["units", "kernels", "kernels in parts"])
@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_definition(kernel, debiased, form, monkeypatch):
    monkeypatch.setattr(engine, "_units_are_cheaper", lambda a, b: form == "units")
    if form == "kernels in parts":
        monkeypatch.setattr(engine, "CHUNK", 14 * 3 * 5)
    a, b, orders = patterns(0), patterns(1, sizes=(4, 30)), orders_of(14, 2)
    options = {"bandwidth": 0.7} if kernel == "rbf" else {}
    for second in (b, a):
        found = kernel_alignment(a, second, orders, kernel=kernel, debiased=debiased, **options)
        wanted = [expected(a, second, order, kernel, debiased, 0.7) for order in orders]
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_no_first_order_is_taken_for_granted():
    a, b, orders = patterns(0), patterns(1, sizes=(4, 30)), orders_of(14, 3)
    for second in (a, b):
        for debiased in (False, True):
            all_at_once = kernel_alignment(a, second, orders, kernel="rbf", debiased=debiased)
            later = kernel_alignment(a, second, orders[1:], kernel="rbf", debiased=debiased)
            torch.testing.assert_close(all_at_once[1:], later)


def test_the_cheaper_form_is_chosen():
    tall, wide = [torch.zeros(1000, 5)] * 3, [torch.zeros(20, 500)] * 3
    assert engine._units_are_cheaper(tall, tall)
    assert not engine._units_are_cheaper(wide, list(wide))


def test_many_stimuli_never_make_a_kernel(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("rows of a kernel of 100,000 stimuli were computed")

    monkeypatch.setattr(engine, "_kernel_rows", refuse)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100_000, 10, generator=generator, dtype=torch.float64)
    y = x + torch.randn(100_000, 10, generator=generator, dtype=torch.float64)
    found = kernel_alignment([x], [y], torch.arange(100_000)[None], debiased=True)
    # squared covariances of units: 10 of 1; variances 1 and 2
    assert float(found) == pytest.approx(0.5, abs=0.01)


def test_biased_alignment_of_noise_grows_with_units_and_the_debiased_does_not():
    rng = np.random.default_rng(0)
    a, b = ([torch.from_numpy(rng.standard_normal((30, 3000)))] for _ in range(2))
    order = torch.arange(30)[None]
    for kernel in ("linear", "rbf"):
        assert float(kernel_alignment(a, b, order, kernel=kernel)) > 0.9
        assert abs(float(kernel_alignment(a, b, order, kernel=kernel, debiased=True))) < 0.15


def test_debiased_alignment_is_zero_on_average():
    rng = np.random.default_rng(0)
    draws = [torch.from_numpy(rng.standard_normal((10, 200))) for _ in range(60)]
    found = kernel_alignment(draws[:30], draws[30:], torch.arange(10)[None], debiased=True)[0]
    assert abs(float(found.mean())) < 4 * float(found.mean(1).std()) / 30**0.5
    assert abs(float(found.mean())) < 0.02


def test_adjusted_rv_is_its_definition():
    a, b, orders = patterns(0), patterns(1, sizes=(4, 30)), orders_of(14, 2)
    found = adjusted_rv(a, b, orders)
    n = 14

    def adjusted(x, y):
        r = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]
        return (1 - (n - 1) / (n - 2) * (1 - r**2)).sum()

    for k, order in enumerate(orders):
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                x_, y_ = x.numpy(), y[order].numpy()
                wanted = adjusted(x_, y_) / np.sqrt(adjusted(x_, x_) * adjusted(y_, y_))
                assert float(found[k, i, j]) == pytest.approx(wanted, abs=1e-12)


def test_median_distance(monkeypatch):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 4)))
    assert median_distance(x) == pytest.approx(float(torch.pdist(x).median()))
    monkeypatch.setattr(engine, "MEDIAN_OF", 3)
    assert median_distance(x) == pytest.approx(float(torch.pdist(x[::3]).median()))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["linear", "rbf"]), st.booleans())
def test_rotation_scale_and_shift_do_not_matter(seed, kernel, debiased):
    a = patterns(seed)
    rng = np.random.default_rng(seed)
    turned = []
    for x in a:
        rotation = np.linalg.qr(rng.standard_normal((x.shape[1],) * 2))[0]
        turned.append(5 * x @ torch.from_numpy(rotation) + torch.from_numpy(rng.standard_normal(x.shape[1])))
    order = torch.arange(14)[None]
    options = {"kernel": kernel, "debiased": debiased}
    torch.testing.assert_close(
        kernel_alignment(a, turned, order, **options), kernel_alignment(a, a, order, **options)
    )
