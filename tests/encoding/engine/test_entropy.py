"""Entropies and informations against their definitions and against what is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as peer_entropy
from sklearn.metrics import mutual_info_score

from cerebridge.encoding.engine import entropy as engine


def points(seed, n=30, p=3):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, p)))


@pytest.mark.parametrize("t", [1.0, 2.0])
def test_spectral_entropy_is_its_definition(t):
    x = points(0)
    squares = ((x[:, None] - x[None]) ** 2).sum(2).numpy()
    kernel = np.exp(-squares / (2 * 0.7**2))
    root = np.diag(kernel.sum(0) ** -0.5)
    values = np.abs(np.linalg.eigvalsh(root @ kernel @ root)) ** t
    found = float(engine.spectral_entropy(engine.gaussian_kernel(x, 0.7), t))
    assert found == pytest.approx(peer_entropy(values, base=2), abs=1e-9)


def test_entropy_of_counts():
    counts = torch.tensor([[5, 0, 3, 2], [1, 1, 1, 1]])
    np.testing.assert_allclose(engine.entropy(counts), peer_entropy(counts.numpy(), base=2, axis=1))
    assert str(float(engine.entropy(torch.tensor([4])))) == "0.0"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_discrete_information_is_scikit_learns(seed, classes):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, classes, (2, 40))
    found = engine.discrete_information(torch.from_numpy(a), torch.from_numpy(b))
    assert found == pytest.approx(mutual_info_score(a, b) / np.log(2), abs=1e-9)


def test_joint_states_number_the_rows_that_occur():
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (200, 6)))
    found = engine.joint_states(codes)
    wanted = np.unique(codes.numpy(), axis=0, return_inverse=True)[1].ravel()
    assert (
        len(np.unique(np.stack([found, wanted], axis=1), axis=0)) == wanted.max() + 1 == int(found.max()) + 1
    )


def test_many_units_with_many_bins_do_not_overflow():
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 10_000, (50, 200)))
    assert len(engine.joint_states(codes).unique()) == 50


def test_equal_bins_hold_their_lower_ends():
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    assert engine.equal_bins(x, 4, -1, 1).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3]


def test_adaptive_bins_hold_equally_many_values():
    x = torch.from_numpy(np.random.default_rng(0).exponential(size=(60, 5)))
    assert engine.adaptive_bins(x, 30).flatten().bincount().tolist() == [10] * 30
    silent = x.clone()
    silent[:20] = 0
    found = engine.adaptive_bins(silent, 10)
    assert found[:20].unique().tolist() == [0]
    assert found[20:].flatten().bincount().tolist() == [0] + [20] * 10
    # one zero is a value as any other
    assert int(engine.adaptive_bins(torch.arange(4.0), 2).max()) == 1


@pytest.mark.parametrize("chunk", [1 << 24, 70])
def test_cloud_information_is_its_definition(chunk, monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", chunk)
    x, variance = points(0), 0.3
    squares = ((x[:, None] - x[None]) ** 2).sum(2).numpy()
    for bound, factor in (("upper", 2), ("lower", 8)):
        wanted = -np.log2(np.exp(-squares / (factor * variance)).mean(1)).mean()
        assert engine.cloud_information(x, variance, bound) == pytest.approx(wanted)
    lower, upper = (engine.cloud_information(x, variance, bound) for bound in ("lower", "upper"))
    assert lower < upper


def binary_entropy(p):
    return peer_entropy([p, 1 - p], base=2)


def test_bottleneck_of_a_binary_channel_is_the_known_curve():
    """Symmetric flips of the input are the best bottleneck of symmetric flips (Wyner & Ziv, 1973)."""
    flip = 0.1
    joint = torch.tensor([[1 - flip, flip], [flip, 1 - flip]], dtype=torch.float64) / 2
    found = engine.bottleneck(joint, [1.2, 2.0, 3.0, 10.0, 1000.0], 1e-10, 5000)
    for known_x, known_y in found.tolist():
        low, high = 0.0, 0.5
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if 1 - binary_entropy(middle) > known_x else (low, middle)
        assert known_y == pytest.approx(1 - binary_entropy(low * (1 - flip) + (1 - low) * flip), abs=1e-6)
    assert found[0].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert found[-1].tolist() == pytest.approx([1, 1 - binary_entropy(flip)], abs=1e-6)


def test_bottleneck_is_concave_and_below_both_limits():
    rng = np.random.default_rng(0)
    joint = rng.dirichlet(np.full(24, 0.4)).reshape(8, 3)
    betas = np.geomspace(1, 300, 25)
    found = engine.bottleneck(torch.from_numpy(joint), betas.tolist(), 1e-9, 5000).numpy()
    total = (
        peer_entropy(joint.sum(1), base=2)
        + peer_entropy(joint.sum(0), base=2)
        - peer_entropy(joint.ravel(), base=2)
    )
    assert found[-1, 1] == pytest.approx(total, rel=0.02)
    assert (found[:, 1] <= np.minimum(found[:, 0], total) + 1e-9).all()
    assert (np.diff(found, axis=0) > -1e-6).all()
    # the slope of the curve is the price of a bit
    steps = np.diff(found, axis=0)
    moved = steps[:, 0] > 1e-3
    slopes = steps[moved, 1] / steps[moved, 0]
    assert (slopes <= 1 / betas[:-1][moved] + 1e-3).all()
    assert (slopes >= 1 / betas[1:][moved] - 1e-3).all()
