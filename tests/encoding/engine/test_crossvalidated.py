"""Cross-validated dissimilarities against their definitions, rsatoolbox and simulations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from cerebridge.encoding.engine import crossvalidated as engine
from cerebridge.encoding.engine.dissimilarity import crossnobis, sqeuclidean, whiten


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
    found = crossnobis(whiten(means, torch.tensor(covariance)), counts)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["unbalanced", "missing"])
def test_crossnobis_is_its_definition(kind):
    conditions, runs, values = design(kind)
    means, counts = run_means(values, conditions, runs)
    assert kind == "unbalanced" or (counts == 0).any()
    np.testing.assert_allclose(crossnobis(means, counts).numpy(), by_definition(means, counts), atol=1e-12)


def test_crossnobis_of_many_recordings_at_once(dtype, device):
    conditions, runs, values = design("missing")
    means, counts = run_means(values, conditions, runs)
    many = torch.stack([means, 2 * means, means + 3]).to(device, dtype)
    many = many * (counts > 0)[..., None].to(device)
    found = crossnobis(many, counts.to(device)).double().cpu().numpy()
    single = by_definition(means, counts)
    np.testing.assert_allclose(
        found, [single, 4 * single, single], rtol=0, atol=1e-9 if dtype == torch.float64 else 2e-4
    )


def test_crossnobis_is_zero_on_average_without_an_effect_and_right_with_one():
    rng = np.random.default_rng(7)
    noise = torch.tensor(rng.normal(size=(600, 4, 3, 10)))
    counts = torch.tensor([[1, 2, 1], [1, 1, 1], [2, 1, 0], [1, 1, 3]])
    noise = noise / counts.clamp(min=1).sqrt()[..., None] * (counts > 0)[..., None]
    without = crossnobis(noise, counts)
    error = without.std(dim=0) / len(without) ** 0.5
    assert (without.mean(dim=0).abs() < 4 * error).all()
    assert (without < 0).double().mean() > 0.4
    truth = torch.tensor(rng.normal(size=(4, 1, 10)))
    shifted = (noise + truth) * (counts > 0)[..., None]
    expected = torch.tensor(pdist(truth[:, 0].numpy(), "sqeuclidean") / 10)
    found = crossnobis(shifted, counts)
    assert ((found.mean(dim=0) - expected).abs() < 4 * found.std(dim=0) / len(found) ** 0.5).all()
    # the plain distance of the same data is biased: what cross-validation is for
    plain = sqeuclidean((noise * counts[..., None]).sum(dim=-2) / counts.sum(dim=-1)[:, None])
    assert (plain.mean(dim=0) > 20 * error).all()


def test_crossnobis_has_no_value_without_a_common_run():
    counts = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    means = torch.ones(3, 4, 2, dtype=torch.float64) * (counts > 0)[..., None]
    assert crossnobis(means, counts).isnan().tolist() == [True, False, False]


def designed(kind):
    conditions, runs, values = design(kind)
    return run_means(values, conditions, runs)


def t_by_definition(means, counts):
    """Mean over runs of the contrast over its standard error; one loop a pair and run."""
    means, counts = means.numpy(), counts.numpy()
    n, k, _ = means.shape
    totals = means * counts[..., None]
    out = []
    for i, j in zip(*np.triu_indices(n, 1), strict=True):
        values = []
        for run in range(k):
            if counts[i, run] and counts[j, run]:
                others = np.arange(k) != run
                a, b = (totals[c, others].sum(axis=0) / counts[c, others].sum() for c in (i, j))
                error = np.linalg.norm(a - b) * (1 / counts[i, run] + 1 / counts[j, run]) ** 0.5
                values.append((a - b) @ (means[i, run] - means[j, run]) / error)
        out.append(np.mean(values))
    return np.array(out)


@pytest.mark.parametrize("kind", ["balanced", "unbalanced", "missing"])
def test_discriminant_t_is_its_definition(kind, dtype):
    means, counts = designed(kind)
    found = engine.discriminant_t(torch.stack([means, 2 * means]).to(dtype), counts)
    expected = t_by_definition(means, counts)
    np.testing.assert_allclose(
        found, [expected, 2 * expected], rtol=0, atol=1e-9 if dtype == torch.float64 else 1e-3
    )


def test_discriminant_t_of_noise_is_standard_normal_in_each_run():
    rng = np.random.default_rng(0)
    counts = torch.tensor([[1, 3], [2, 1], [1, 1]])
    noise = torch.tensor(rng.normal(size=(4000, 3, 2, 6))) / counts.sqrt()[..., None]
    t = engine.discriminant_t(noise, counts)
    assert (t.mean(dim=0).abs() < 4 / 4000**0.5).all()
    # two runs test each other by one product, so their mean has nearly the variance of either
    assert ((t.var(dim=0) > 0.9) & (t.var(dim=0) < 1.06)).all()
    shifted = noise + torch.tensor(rng.normal(size=(3, 1, 6)))
    assert (engine.discriminant_t(shifted, counts).mean(dim=0) > 0.5).all()


@pytest.mark.parametrize("kind", ["balanced", "unbalanced"])
def test_poisson_is_the_mean_of_the_folds_of_rsatoolbox(kind):
    peer = pytest.importorskip("rsatoolbox")
    conditions, runs, values = design(kind)
    counted = np.random.default_rng(1).poisson(np.exp(values)).astype(float)
    expected = []
    for run in range(4):
        # it returns its last fold only: every run is made the last once
        last = np.where(runs == run, 9, runs)
        data = peer.data.Dataset(counted, obs_descriptors={"condition": conditions, "run": last})
        rdm = peer.rdm.calc_rdm(data, "poisson_cv", descriptor="condition", cv_descriptor="run")
        expected.append(rdm.get_vectors()[0])
    means, counts = run_means(counted, conditions, runs)
    found = engine.poisson((means + 0.1) / 1.1, counts)
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=0, atol=1e-10)


def test_poisson_of_equal_rates_is_zero_on_average():
    rng = np.random.default_rng(0)
    counted = torch.tensor(rng.poisson(5, size=(3000, 3, 4, 8)), dtype=torch.float64)
    found = engine.poisson((counted + 0.1) / 1.1, torch.ones(3, 4))
    assert (found.mean(dim=0).abs() < 4 * found.std(dim=0) / 3000**0.5).all()
