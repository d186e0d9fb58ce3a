"""Divergences of rates and shares against scipy and rsatoolbox."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from cerebridge.encoding.engine import divergence as engine


@pytest.fixture
def rates():
    return np.random.default_rng(0).gamma(2, 3, (2, 3, 8, 20))


def test_poisson_agrees_with_rsatoolbox(rates, dtype, device):
    peer = pytest.importorskip("rsatoolbox")
    found = engine.poisson((torch.tensor(rates, dtype=dtype, device=device) + 0.1) / 1.1)
    assert found.dtype == dtype
    expected = [
        [peer.rdm.calc_rdm(peer.data.Dataset(each), "poisson").get_vectors()[0] for each in some]
        for some in rates
    ]
    tolerance = 1e-11 if dtype == torch.float64 else 1e-4
    np.testing.assert_allclose(found.cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mixtures", [1, 500, 1 << 22])
def test_jensen_shannon_agrees_with_scipy(rates, dtype, device, mixtures, monkeypatch):
    monkeypatch.setattr(engine, "MIXTURES", mixtures)
    rates[0, 0, 0, :10] = 0
    found = engine.jensen_shannon(torch.tensor(rates, dtype=dtype, device=device))
    expected = [[pdist(each, "jensenshannon") / np.log(2) ** 0.5 for each in some] for some in rates]
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    np.testing.assert_allclose(found.cpu(), expected, rtol=tolerance, atol=tolerance)


def test_patterns_without_a_common_unit_are_one_apart():
    halves = torch.tensor(
        [[1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 2.0, 5.0], [0.0, 0.0, 4.0, 10.0]], dtype=torch.float64
    )
    np.testing.assert_allclose(engine.jensen_shannon(halves), [1, 1, 0], atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["poisson", "jensen_shannon"]))
def test_order_of_units_does_not_matter_and_order_of_stimuli_moves_pairs(seed, name):
    rng = np.random.default_rng(seed)
    rates, function = rng.gamma(2, 3, (6, 7)), getattr(engine, name)
    rows, columns = np.triu_indices(6, 1)

    def square(patterns):
        out = np.zeros((6, 6))
        out[rows, columns] = function(torch.tensor(patterns.copy()))
        return out + out.T

    before, order = square(rates), rng.permutation(6)
    np.testing.assert_allclose(square(rates[:, rng.permutation(7)]), before, atol=1e-10)
    np.testing.assert_allclose(square(rates[order]), before[np.ix_(order, order)], atol=1e-10)
