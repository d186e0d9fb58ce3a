"""Dimensions of clouds whose dimension is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from cerebridge.encoding import geometry


@pytest.mark.parametrize("shape", [(50, 8), (8, 50)])
def test_linear_dimensions_agree_with_principal_components(shape):
    activity = np.random.default_rng(0).normal(size=shape) @ np.diag(np.geomspace(1, 0.05, shape[1]))
    variances = PCA().fit(activity).explained_variance_
    expected = variances.sum() ** 2 / (variances**2).sum()
    assert geometry.participation_ratio(activity) == pytest.approx(expected, rel=1e-8)
    assert geometry.participation_ratio(torch.as_tensor(activity).float()) == pytest.approx(
        expected, rel=1e-4
    )
    shares = np.cumsum(variances) / variances.sum()
    for share in (0.5, 0.9, 0.99):
        assert geometry.components_for(activity, share) == np.searchsorted(shares, share) + 1


@pytest.mark.parametrize("n", [1, 3, 6])
def test_equal_variances_fill_all_their_dimensions(n):
    activity = (
        np.random.default_rng(0).normal(size=(4000, n))
        @ np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))[0][:n]
    )
    assert geometry.participation_ratio(7 + 3 * activity) == pytest.approx(n, rel=0.02)
    assert geometry.components_for(activity, 1.0) == n


@pytest.mark.parametrize("n", [1, 2, 5])
def test_curved_manifolds_have_their_own_dimension(n):
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (1500, n))
    tori = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    turned = tori @ np.linalg.qr(np.random.default_rng(1).normal(size=(20, 20)))[0][: 2 * n]
    assert geometry.two_nn(turned) == pytest.approx(n, rel=0.1)
    assert geometry.participation_ratio(turned) == pytest.approx(2 * n, rel=0.05)


BAD = {
    "flat": (lambda: geometry.participation_ratio(np.ones((5, 3))), "same in all rows"),
    "share": (lambda: geometry.components_for(np.eye(3), 90), "share is 90"),
    "discard": (lambda: geometry.two_nn(np.eye(20), discard=1), "discard is 1"),
    "few": (lambda: geometry.two_nn(np.eye(9)), "has 9 rows"),
    "twice": (lambda: geometry.two_nn(np.r_[np.eye(10), np.eye(10)]), "row 0 of the activity occurs twice"),
    "missing": (lambda: geometry.two_nn(np.eye(20) / 0 * 0), "first in row 0 of unit 0"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:divide by zero")
def test_bad_input_is_one_sentence(case):
    call, match = BAD[case]
    with pytest.raises(ValueError, match=match):
        call()
