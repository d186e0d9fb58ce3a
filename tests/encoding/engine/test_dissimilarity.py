"""Dissimilarities against scipy and rsatoolbox, and what they must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

from cerebridge.encoding.engine import dissimilarity as engine

PLAIN = ["correlation", "cosine", "euclidean", "sqeuclidean"]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


@pytest.fixture
def patterns():
    return np.random.default_rng(0).normal(2, 1, (2, 3, 8, 20))


@pytest.mark.parametrize("metric", PLAIN)
def test_agrees_with_scipy_for_every_leading_axis(metric, patterns, dtype, device):
    found = getattr(engine, metric)(torch.tensor(patterns, dtype=dtype, device=device))
    assert found.shape == (2, 3, 28)
    assert found.dtype == dtype
    expected = [[pdist(each, metric) for each in some] for some in patterns]
    np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_distances_survive_a_large_common_pattern(dtype):
    patterns = torch.tensor(np.random.default_rng(0).normal(size=(5, 30)), dtype=torch.float64)
    far = (patterns + 1000).to(dtype)
    expected = pdist(far.double().numpy())
    np.testing.assert_allclose(
        engine.euclidean(far).numpy(), expected, rtol=1e-4 if dtype == torch.float32 else 1e-9
    )


def test_constant_patterns_are_undefined_not_garbage(dtype):
    patterns = torch.tensor(np.random.default_rng(0).normal(size=(3, 5)), dtype=dtype)
    patterns[1] = 0.1
    assert engine.correlation(patterns).isnan().tolist() == [True, False, True]
    patterns[1] = 0
    assert engine.cosine(patterns).isnan().tolist() == [True, False, True]


@pytest.mark.parametrize("n", [2, 64, 65, 130, 700])
def test_pairs_are_those_of_numpy_whatever_the_blocks(n):
    square = torch.arange(n * n).view(n, n)
    assert engine.upper(square).tolist() == square.numpy()[np.triu_indices(n, 1)].tolist()
    patterns = np.random.default_rng(0).normal(size=(n, 5))
    np.testing.assert_allclose(engine.euclidean(torch.tensor(patterns)), pdist(patterns), rtol=1e-9)


@pytest.mark.parametrize("full", [True, False])
def test_whitened_noise_is_white(full, dtype):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6)) * 10.0 ** np.arange(-3, 3)[:, None]
    covariance = torch.tensor(root @ root.T if full else (root**2).sum(axis=1), dtype=torch.float64)
    rows = torch.tensor(root if full else np.diag((root**2).sum(axis=1) ** 0.5), dtype=dtype).T
    white = engine.whiten(rows, covariance).double()
    np.testing.assert_allclose(white.T @ white, np.eye(6), atol=1e-8 if dtype == torch.float64 else 1e-2)


def test_euclidean_after_whitening_is_mahalanobis(patterns):
    root = np.random.default_rng(1).normal(size=(20, 40))
    covariance = root @ root.T
    found = engine.euclidean(engine.whiten(torch.tensor(patterns[0, 0]), torch.tensor(covariance)))
    expected = pdist(patterns[0, 0], "mahalanobis", VI=np.linalg.inv(covariance))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_singular_noise_is_refused_but_other_units_of_measurement_are_not():
    rows = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="singular"):
        engine.whiten(rows, torch.ones(3, 3, dtype=torch.float64))
    engine.whiten(rows, torch.diag(torch.tensor([1e-30, 1.0, 1e10], dtype=torch.float64)))


def test_every_set_of_patterns_is_whitened_by_its_own_noise(dtype):
    rng = np.random.default_rng(0)
    roots = torch.tensor(rng.normal(size=(3, 6, 20)))
    covariances = roots @ roots.mT
    patterns = torch.tensor(rng.normal(size=(3, 2, 5, 6)), dtype=dtype)
    found = engine.whiten(patterns, covariances)
    assert found.dtype == dtype
    for each, some, covariance in zip(found, patterns, covariances, strict=True):
        np.testing.assert_allclose(each, engine.whiten(some, covariance), rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([*PLAIN, "crossnobis"]))
def test_order_of_units_and_relabelled_stimuli_do_not_matter(seed, metric):
    rng = np.random.default_rng(seed)
    n, f = 6, 7

    def rdm(patterns):
        if metric == "crossnobis":
            found = engine.crossnobis(torch.tensor(patterns.copy()), torch.ones(n, 3))
        else:
            found = getattr(engine, metric)(torch.tensor(patterns[:, 0].copy()))
        square = np.zeros((n, n))
        square[np.triu_indices(n, 1)] = found
        return square + square.T

    patterns = rng.normal(size=(n, 3, f))
    before = rdm(patterns)
    np.testing.assert_allclose(rdm(patterns[..., rng.permutation(f)]), before, atol=1e-7)
    order = rng.permutation(n)
    np.testing.assert_allclose(rdm(patterns[order]), before[np.ix_(order, order)], atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_rotations_and_shifts_leave_euclidean_and_crossnobis_alone(seed):
    rng = np.random.default_rng(seed)
    patterns = rng.normal(size=(5, 3, 6))
    moved = patterns @ ortho_group.rvs(6, random_state=seed) + rng.normal(size=6)
    counts = torch.tensor(rng.integers(1, 4, (5, 3)))
    for function in (
        lambda x: engine.euclidean(torch.tensor(x[:, 0])),
        lambda x: engine.crossnobis(torch.tensor(x), counts),
    ):
        np.testing.assert_allclose(function(moved), function(patterns), atol=1e-9)
