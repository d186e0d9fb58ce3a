"""Bures similarity and Riemannian distance: by definition, and what leaves them as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import eigvalsh, sqrtm
from scipy.optimize import minimize

from cerebridge.encoding.engine.spd import bures, negative_riemannian


def spd(seed, m=3, n=6):
    loadings = np.random.default_rng(seed).normal(size=(m, n, 2 * n))
    return torch.tensor(loadings @ loadings.swapaxes(-1, -2) / n)


def test_bures_by_definition():
    a, b = spd(0), spd(1)
    expected = [
        np.trace(sqrtm(sqrtm(x) @ y @ sqrtm(x))).real / np.sqrt(np.trace(x) * np.trace(y))
        for x, y in zip(a.numpy(), b.numpy(), strict=True)
    ]
    np.testing.assert_allclose(bures(a, b).numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(bures(a, b).numpy(), bures(b, a).numpy(), atol=1e-9)
    np.testing.assert_allclose(bures(a, 7 * a).numpy(), 1, atol=1e-7)


def test_the_distance_is_the_best_over_scale_and_noise():
    a, b = spd(2)[0], spd(3)[0]

    def distance(theta):
        values = eigvalsh(np.exp(theta[0]) * a.numpy() + np.exp(theta[1]) * np.eye(6), b.numpy())
        return np.sqrt((np.log(values) ** 2).sum())

    found = negative_riemannian(a, b).item()
    starts = [minimize(distance, x, method="Nelder-Mead", tol=1e-10).fun for x in ((0, 0), (3, -3), (-3, 3))]
    assert -found == pytest.approx(min(starts), abs=1e-7)


def test_what_a_model_predicts_up_to_scale_and_noise_is_at_no_distance():
    a = spd(4)
    noisy = 30 * a + 0.2 * torch.eye(6)
    assert (negative_riemannian(a, noisy) > -1e-5).all()
    assert (negative_riemannian(spd(5), noisy) < -0.5).all()
    torch.testing.assert_close(negative_riemannian(1e6 * a, spd(6)), negative_riemannian(a, spd(6)))


def test_singular_measurements_have_no_distance():
    flat = torch.diag(torch.tensor([1.0, 1.0, 0.0]).double())
    whole = torch.eye(3).double()
    found = negative_riemannian(whole, torch.stack([flat, whole]))
    assert found.isnan().tolist() == [True, False]
    assert not negative_riemannian(flat, whole).isnan()


def test_all_pairs_are_broadcast():
    a, b = spd(7), spd(8, m=2)
    for measure in (bures, negative_riemannian):
        whole = measure(a[:, None], b)
        assert whole.shape == (3, 2)
        assert whole[2, 1].item() == pytest.approx(measure(a[2], b[1]).item(), abs=1e-9)
