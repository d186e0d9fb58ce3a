"""Covariances against scikit-learn, and what whitening by them leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import covariance as peer

from cerebridge.encoding.engine import covariance as engine


@pytest.fixture(params=[(50, 8), (6, 20), (12, 1)], ids=["long", "wide", "one unit"])
def rows(request):
    """Four sets of centred rows whose units differ in scale."""
    n, p = request.param
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, n, p)) @ (np.eye(p) + 0.3 * rng.normal(size=(p, p))) * rng.uniform(0.5, 2, p)
    return values - values.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("shrinkage", ["ledoit-wolf", "oas", 0.3, 0, None])
def test_agrees_with_scikit_learn_for_every_leading_axis(rows, shrinkage, dtype, device):
    theirs = {
        "ledoit-wolf": lambda x: peer.ledoit_wolf(x, assume_centered=True)[0],
        "oas": lambda x: peer.oas(x, assume_centered=True)[0],
        None: lambda x: peer.empirical_covariance(x, assume_centered=True),
    }.get(shrinkage, lambda x: peer.shrunk_covariance(x.T @ x / len(x), shrinkage))
    found = engine.estimate(torch.tensor(rows, dtype=dtype, device=device), shrinkage)
    assert found.dtype == dtype
    expected = [theirs(each) for each in rows]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(found.cpu(), expected, rtol=tolerance, atol=tolerance)


def test_white_rows_are_shrunk_all_the_way():
    white = torch.eye(6, dtype=torch.float64)
    assert engine.oas(white, 10).item() == 1
    few = torch.tensor(np.random.default_rng(0).normal(size=(5, 200)))
    many = torch.tensor(np.random.default_rng(0).normal(size=(5000, 3)) @ np.diag([1, 2, 3]))
    assert engine.ledoit_wolf(few) > 0.75
    assert engine.ledoit_wolf(many) < 0.01


def test_symmetric_root_whitens_and_follows_the_order_of_units():
    rng = np.random.default_rng(0)
    factors = torch.tensor(rng.normal(size=(3, 7, 20)))
    covariance = factors @ factors.mT
    roots = engine.inverse_root(covariance)
    np.testing.assert_allclose(roots @ covariance @ roots, np.broadcast_to(np.eye(7), (3, 7, 7)), atol=1e-10)
    order = rng.permutation(7)
    mixed = engine.inverse_root(covariance[:, order][:, :, order])
    np.testing.assert_allclose(mixed, roots[:, order][:, :, order], atol=1e-10)


def test_singular_noise_has_no_root():
    with pytest.raises(ValueError, match="singular"):
        engine.inverse_root(torch.ones(3, 3, dtype=torch.float64))
