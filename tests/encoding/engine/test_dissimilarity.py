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


def run_means(values, conditions, runs):
    n, k = conditions.max() + 1, runs.max() + 1
    means, counts = np.zeros((n, k, values.shape[1])), np.zeros((n, k), dtype=int)
    for i in range(n):
        for j in range(k):
            here = (conditions == i) & (runs == j)
            counts[i, j] = here.sum()
            if here.any():
                means[i, j] = values[here].mean(axis=0)
    return torch.tensor(means), torch.tensor(counts)


def by_definition(means, counts):
    """Mean over the runs that hold both conditions; one loop a pair and run."""
    means, counts = means.numpy(), counts.numpy()
    n, k, f = means.shape
    totals = means * counts[..., None]
    out = []
    for i, j in zip(*np.triu_indices(n, 1), strict=True):
        folds = []
        for run in range(k):
            if counts[i, run] and counts[j, run]:
                others = np.arange(k) != run
                train = [totals[c, others].sum(axis=0) / counts[c, others].sum() for c in (i, j)]
                folds.append((train[0] - train[1]) @ (means[i, run] - means[j, run]) / f)
        out.append(np.mean(folds))
    return np.array(out)


def design(kind, n=5, k=4):
    rng = np.random.default_rng(3)
    counts = {"balanced": np.full((n, k), 2), "unbalanced": rng.integers(1, 4, (n, k))}.get(kind)
    if counts is None:
        counts = rng.integers(0, 3, (n, k))
        counts[:, :2] = np.maximum(counts[:, :2], 1)
    conditions, runs = (np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices((n, k)))
    return conditions, runs, rng.normal(1, 1, (len(runs), 12))


@pytest.mark.parametrize("kind", ["balanced", "unbalanced"])
def test_crossnobis_agrees_with_rsatoolbox(kind):
    peer = pytest.importorskip("rsatoolbox")
    conditions, runs, values = design(kind)
    root = np.random.default_rng(5).normal(size=(12, 12))
    covariance = root @ root.T + np.eye(12)
    data = peer.data.Dataset(values, obs_descriptors={"condition": conditions, "run": runs})
    expected = peer.rdm.calc_rdm(
        data, "crossnobis", descriptor="condition", noise=np.linalg.inv(covariance), cv_descriptor="run"
    ).get_vectors()[0]
    means, counts = run_means(values, conditions, runs)
    found = engine.crossnobis(engine.whiten(means, torch.tensor(covariance)), counts)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["unbalanced", "missing"])
def test_crossnobis_is_its_definition(kind):
    conditions, runs, values = design(kind)
    means, counts = run_means(values, conditions, runs)
    assert kind == "unbalanced" or (counts == 0).any()
    np.testing.assert_allclose(
        engine.crossnobis(means, counts).numpy(), by_definition(means, counts), atol=1e-12
    )


def test_crossnobis_of_many_recordings_at_once(dtype, device):
    conditions, runs, values = design("missing")
    means, counts = run_means(values, conditions, runs)
    many = torch.stack([means, 2 * means, means + 3]).to(device, dtype)
    many = many * (counts > 0)[..., None].to(device)
    found = engine.crossnobis(many, counts.to(device)).double().cpu().numpy()
    single = by_definition(means, counts)
    np.testing.assert_allclose(
        found, [single, 4 * single, single], rtol=0, atol=1e-9 if dtype == torch.float64 else 2e-4
    )


def test_crossnobis_is_zero_on_average_without_an_effect_and_right_with_one():
    rng = np.random.default_rng(7)
    noise = torch.tensor(rng.normal(size=(600, 4, 3, 10)))
    counts = torch.tensor([[1, 2, 1], [1, 1, 1], [2, 1, 0], [1, 1, 3]])
    noise = noise / counts.clamp(min=1).sqrt()[..., None] * (counts > 0)[..., None]
    without = engine.crossnobis(noise, counts)
    error = without.std(dim=0) / len(without) ** 0.5
    assert (without.mean(dim=0).abs() < 4 * error).all()
    assert (without < 0).double().mean() > 0.4
    truth = torch.tensor(rng.normal(size=(4, 1, 10)))
    shifted = (noise + truth) * (counts > 0)[..., None]
    expected = torch.tensor(pdist(truth[:, 0].numpy(), "sqeuclidean") / 10)
    found = engine.crossnobis(shifted, counts)
    assert ((found.mean(dim=0) - expected).abs() < 4 * found.std(dim=0) / len(found) ** 0.5).all()
    # the plain distance of the same data is biased: what cross-validation is for
    plain = engine.sqeuclidean((noise * counts[..., None]).sum(dim=-2) / counts.sum(dim=-1)[:, None])
    assert (plain.mean(dim=0) > 20 * error).all()


def test_crossnobis_has_no_value_without_a_common_run():
    counts = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    means = torch.ones(3, 4, 2, dtype=torch.float64) * (counts > 0)[..., None]
    assert engine.crossnobis(means, counts).isnan().tolist() == [True, False, False]


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
