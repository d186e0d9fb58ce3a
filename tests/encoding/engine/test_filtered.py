"""Quadratic forms of filtered vectors: the one product against one product a penalty, wherever eigenvalues lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cerebridge.encoding.engine.filtered import filtered_squares

RNG = np.random.default_rng(0)
SPECTRA = {
    "apart": np.sort(RNG.uniform(0, 100, 40)),
    "decaying": np.sort(1e6 * np.arange(1.0, 41) ** -3),
    "equal": np.full(40, 7.0),
    "clusters": np.sort(np.repeat([1.0, 5.0, 9.0, 2000.0], 10) * (1 + 1e-9 * RNG.standard_normal(40))),
    "nearly equal": np.sort(3 * (1 + np.logspace(-12, -3, 40))),
    "absent": np.r_[np.zeros(15), np.sort(RNG.uniform(0, 100, 25))],
}


@pytest.mark.parametrize("values", SPECTRA.values(), ids=SPECTRA)
def test_equals_a_product_for_every_penalty(values):
    root = RNG.standard_normal((60, 40))
    gram, z = root.T @ root, RNG.standard_normal((5, 40)) * np.sqrt(values + 0.1)
    alphas = np.logspace(-3, 8, 12)
    found = filtered_squares(*(torch.from_numpy(x) for x in (z, values, gram, alphas))).numpy()
    weights = z[:, None] / (values + alphas[:, None])
    expected = np.square(weights @ root.T).sum(2)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
