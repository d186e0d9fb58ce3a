"""What is left of vectors, against least squares."""

from __future__ import annotations

import numpy as np
import torch

from cerebridge.encoding.engine.residuals import orthonormal, residuals


def test_residuals_are_those_of_least_squares_at_the_old_length():
    rng = np.random.default_rng(0)
    rows, covariates = rng.normal(size=(4, 30)), rng.normal(size=(3, 30))
    basis, collinear = orthonormal(torch.tensor(covariates))
    assert not collinear.any()
    left = residuals(torch.tensor(rows), basis).numpy()
    expected = rows.T - covariates.T @ np.linalg.lstsq(covariates.T, rows.T, rcond=None)[0]
    expected *= np.linalg.norm(rows, axis=1) / np.linalg.norm(expected, axis=0)
    np.testing.assert_allclose(left, expected.T, atol=1e-12)


def test_combinations_are_found():
    rng = np.random.default_rng(1)
    some = rng.normal(size=(2, 30))
    rows = torch.tensor(np.vstack([some, 2 * some[0] - some[1], rng.normal(size=30)]))
    assert orthonormal(rows)[1].tolist() == [False, False, True, False]
    assert orthonormal(torch.ones(3, 2).double())[1].tolist() == [False, True, True]
    assert residuals(rows[2:3], orthonormal(rows[:2])[0]).isnan().all()
