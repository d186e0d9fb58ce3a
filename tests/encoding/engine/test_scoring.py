"""Scores: scikit-learn and scipy where they are defined, and what is said where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from cerebridge.encoding.engine.scoring import pearsonr, r2


def columns(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((30, 5)) * [1, 10, 0.1, 1, 1] + [0, 1, 5, 100, -3]
    prediction = truth * [1, 0.5, -1, 1, 0] + rng.standard_normal((30, 5))
    return torch.from_numpy(truth).to(dtype), torch.from_numpy(prediction).to(dtype)


def test_r2_is_that_of_scikit_learn(dtype, device):
    truth, prediction = columns(dtype=dtype)
    expected = r2_score(truth.numpy(), prediction.numpy(), multioutput="raw_values")
    found = r2(truth.to(device), prediction.to(device)).cpu().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4 if dtype == torch.float32 else 1e-12)


def test_pearsonr_is_that_of_scipy(dtype, device):
    truth, prediction = columns(dtype=dtype)
    expected = scipy.stats.pearsonr(truth.double().numpy(), prediction.double().numpy(), axis=0).statistic
    found = pearsonr(truth.to(device), prediction.to(device)).cpu().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9])
def test_a_truth_that_does_not_vary_has_no_score(constant):
    truth = torch.full((7, 1), constant, dtype=torch.float64)
    prediction = torch.arange(7.0).double()[:, None]
    assert r2(truth, prediction).isnan().all()
    assert pearsonr(truth, prediction).isnan().all()
    assert r2(truth, truth).isnan().all()


def test_a_prediction_that_does_not_vary_explains_nothing():
    truth = torch.arange(7.0).double()[:, None]
    assert pearsonr(truth, torch.full_like(truth, 0.1)).item() == 0
    assert r2(truth, torch.full_like(truth, 3.0)).item() == 0
    assert r2(truth, torch.full_like(truth, 0.1)).item() < 0


def test_tiny_and_huge_values_stay_in_range():
    truth = torch.tensor([[1.0], [2.0], [4.0]])
    assert pearsonr(truth * 1e-12, truth * 1e12).item() == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-10, 10))
def test_correlation_ignores_scale_and_offset_of_either_side(seed, scale, offset):
    truth, prediction = columns(seed)
    torch.testing.assert_close(pearsonr(truth, scale * prediction + offset), pearsonr(truth, prediction))
    torch.testing.assert_close(pearsonr(scale * truth + offset, prediction), pearsonr(truth, prediction))
    torch.testing.assert_close(pearsonr(truth, -prediction), -pearsonr(truth, prediction))
