"""Cosines and spectra against their definitions, in both precisions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cerebridge.encoding.engine import geometry as engine


def values(*shape, seed=0, dtype=torch.float64):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=dtype)


def test_cosines_of_directions():
    directions = values(4, 6)
    unit = directions / directions.norm(dim=1, keepdim=True)
    expected = (unit @ unit.mT)[~torch.eye(4, dtype=torch.bool)].mean()
    torch.testing.assert_close(engine.mean_cosine(directions), expected)
    with_none = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert engine.mean_cosine(with_none).item() == pytest.approx(1 / 3)
    a, b = values(3, 6), values(2, 6, seed=1)
    found = engine.pair_cosines(a, b)
    for (i, j), (k, m) in (((0, 1), (2, 0)), ((1, 1), (1, 0))):
        expected = torch.cosine_similarity(b[j] - a[i], b[m] - a[k], dim=0)
        torch.testing.assert_close(found[2 * i + j, 2 * k + m], expected)


def test_spectrum_is_that_of_the_covariance(dtype):
    activity = values(3, 12, 5, dtype=dtype)
    found = engine.spectrum(activity)
    for k in range(3):
        expected = np.linalg.eigvalsh(np.cov(activity[k].double().numpy().T))[::-1]
        np.testing.assert_allclose(found[k], expected, rtol=1e-4)
    np.testing.assert_allclose(
        engine.participation_ratio(found), found.sum(-1) ** 2 / (found**2).sum(-1), rtol=1e-5
    )


def test_second_neighbours_over_first():
    found = engine.two_nearest_ratio(torch.tensor([[0.0, 0], [3, 4], [0, 2], [0, 2]]))
    np.testing.assert_allclose(found[0], 1.0)
    assert found[2:].isnan().all()
