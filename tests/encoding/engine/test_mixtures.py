"""Mixtures of vectors against scipy, dense covariances and searches over a grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from cerebridge.encoding.engine import mixtures


def problem(n_bases=5, n=40, batch=(), seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((*batch, n_bases, n))
    target = rng.standard_normal((*batch, n))
    return (
        rows,
        target,
        torch.as_tensor(rows @ rows.swapaxes(-1, -2)),
        torch.as_tensor((rows @ target[..., None])[..., 0]),
    )


def unit(weights):
    return weights / np.linalg.norm(weights, axis=-1, keepdims=True)


def cosine(weights, rows, target):
    mixed = weights @ rows
    return mixed @ target / np.linalg.norm(mixed) / np.linalg.norm(target)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_both_weightings_are_least_squares(seed, n_bases):
    rows, target, gram, cross = problem(n_bases, batch=(3,), seed=seed)
    free, kept = (solve(gram, cross).numpy() for solve in (mixtures.unconstrained, mixtures.nonnegative))
    for k in range(3):
        np.testing.assert_allclose(free[k], unit(np.linalg.lstsq(rows[k].T, target[k])[0]), atol=1e-9)
        expected = nnls(rows[k].T, target[k])[0]
        if expected.any():
            np.testing.assert_allclose(kept[k], unit(expected), atol=1e-9)


def test_weights_do_not_depend_on_the_scale_of_bases():
    rows, _, gram, cross = problem()
    scale = torch.tensor([1e-8, 1.0, 1e6, 3.0, 10.0], dtype=torch.float64)
    for solve in (mixtures.unconstrained, mixtures.nonnegative):
        expected = solve(gram, cross).numpy() @ rows
        found = solve(gram * scale[:, None] * scale, cross * scale) * scale
        np.testing.assert_allclose(unit(found.numpy() @ rows), unit(expected), atol=1e-8)


@pytest.mark.parametrize("solve", [mixtures.unconstrained, mixtures.nonnegative])
def test_equal_and_empty_bases_are_no_obstacle(solve):
    rows, target, _, _ = problem(3)
    rows = np.concatenate([rows, rows[:1], np.zeros((1, 40))])
    gram, cross = torch.as_tensor(rows @ rows.T), torch.as_tensor(rows @ target)
    found = solve(gram, cross).numpy()
    fewer = solve(gram[:3, :3], cross[:3]).numpy()
    assert np.isfinite(found).all() and found[4] == 0
    assert cosine(found, rows, target) == pytest.approx(cosine(fewer, rows[:3], target), abs=1e-9)


def test_where_no_basis_helps_the_least_dissimilar_is_the_best_of_all_mixtures():
    rows, target, _, _ = problem(4)
    signs = -np.sign(rows @ target)
    rows = rows * signs[:, None]
    found = mixtures.nonnegative(torch.as_tensor(rows @ rows.T), torch.as_tensor(rows @ target)).numpy()
    assert (found > 0).sum() == 1
    draws = np.random.default_rng(0).exponential(size=(3000, 4)) ** 3
    assert max(cosine(w, rows, target) for w in draws) <= cosine(found, rows, target) + 1e-12


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_interpolation_is_the_best_of_a_fine_grid(seed):
    rows, target, gram, cross = problem(4, seed=seed)
    found = mixtures.interpolated(gram, cross).numpy()
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    assert np.ptp(np.flatnonzero(found)) <= 1
    shares = np.linspace(0, 1, 501)
    grid = [
        cosine((1 - t) * np.eye(4)[k] + t * np.eye(4)[k + 1], rows, target) for k in range(3) for t in shares
    ]
    assert max(grid) <= cosine(found, rows, target) + 1e-12
    assert max(grid) == pytest.approx(cosine(found, rows, target), abs=1e-4)


@pytest.mark.parametrize("solve", [mixtures.interpolated, mixtures.nonnegative, mixtures.unconstrained])
def test_rounding_does_not_choose_among_equal_mixtures(solve):
    rng = np.random.default_rng(0)
    # in a plane many mixtures of five bases have the direction of the target
    rows, target = rng.random((5, 2)), np.array([1.0, 1.0])
    gram, cross = torch.as_tensor(rows @ rows.T), torch.as_tensor(rows @ target)
    expected = solve(gram, cross)
    for _ in range(20):
        rounded = gram * (1 + 4e-16 * torch.as_tensor(rng.standard_normal((5, 5))))
        torch.testing.assert_close(solve(rounded, cross), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("share", [1.0, 0.7])
@pytest.mark.parametrize("method", ["whitened-cosine", "whitened-pearson"])
def test_whitened_products_are_those_of_the_covariance_of_the_known_pairs(method, share):
    rng = np.random.default_rng(0)
    first, second = np.triu_indices(9, 1)
    contrasts = np.eye(9)[first] - np.eye(9)[second]
    keep = rng.random(len(first)) < share
    covariance = ((contrasts @ contrasts.T) ** 2)[np.ix_(keep, keep)]
    rows = rng.random((4, keep.sum()))
    centred = rows - rows.mean(axis=1, keepdims=True) if method == "whitened-pearson" else rows
    places = torch.as_tensor(np.stack([first[keep], second[keep]]))
    found = mixtures.products(torch.as_tensor(rows), places, method)[0]
    np.testing.assert_allclose(found, centred @ np.linalg.solve(covariance, centred.T), atol=1e-12)
    lengths = mixtures.scaled(torch.as_tensor(rows), places, method)
    np.testing.assert_allclose(mixtures.products(lengths, places, method)[0].diagonal(), 1)


@pytest.mark.parametrize("method", ["cosine", "pearson", "whitened-cosine", "whitened-pearson"])
def test_counts_are_copies_without_the_pairs_of_copies(method):
    rng = np.random.default_rng(0)
    rows = rng.random((3, 36))
    counts = rng.multinomial(9, np.full(9, 1 / 9), 5)
    places = torch.triu_indices(9, 9, 1)
    index = np.zeros((9, 9), dtype=int)
    index[places[0], places[1]] = np.arange(36)
    index += index.T
    found = mixtures.products(torch.as_tensor(rows), places, method, torch.as_tensor(counts))
    for k, count in enumerate(counts):
        drawn = np.repeat(np.arange(9), count)
        new = np.stack(np.triu_indices(9, 1))
        new = new[:, drawn[new[0]] != drawn[new[1]]]
        copied = torch.as_tensor(rows[:, index[drawn[new[0]], drawn[new[1]]]])
        expected = mixtures.products(copied, torch.as_tensor(new), method)[0]
        np.testing.assert_allclose(found[k], expected, atol=1e-10)


def test_a_constant_row_has_no_product_with_anything():
    rows = torch.cat([torch.full((1, 36), 0.1), torch.rand(2, 36)]).double()
    found = mixtures.products(rows, torch.triu_indices(9, 9, 1), "whitened-pearson")[0]
    assert (found[0] == 0).all() and (found[1:, 1:] != 0).all()


def test_a_target_that_is_a_mixture_is_found_and_noise_is_not():
    rows, noise, gram, _ = problem(6, n=3000)
    truth = np.array([0.0, 1.0, 0.0, 2.0, 0.0, 2.0])
    found = mixtures.nonnegative(gram, torch.as_tensor(rows @ (truth @ rows))).numpy()
    np.testing.assert_allclose(found, unit(truth), atol=1e-9)
    by_chance = mixtures.unconstrained(gram, torch.as_tensor(rows @ noise)).numpy()
    assert abs(cosine(by_chance, rows, noise)) < 0.1
