"""Whitened forms against the pairs × pairs covariance itself, with and without missing pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

from cerebridge.encoding.engine.whitened import (
    contrast_moments,
    count_conditions,
    second_moments,
    whitened_form,
)


def covariance(n, noise):
    """Of squared distances whose patterns have the noise covariance, up to a factor."""
    contrasts = np.zeros((n * (n - 1) // 2, n))
    for row, (i, j) in enumerate(zip(*np.triu_indices(n, 1), strict=True)):
        contrasts[row, [i, j]] = 1, -1
    return (contrasts @ noise @ contrasts.T) ** 2


def noise_of(n, seed=0):
    loadings = np.random.default_rng(seed).normal(size=(n, 3 * n))
    return loadings @ loadings.T / n


@pytest.mark.parametrize("n", [3, 4, 9])
@pytest.mark.parametrize("correlated", [False, True])
def test_inner_products_are_those_under_the_inverse_covariance(n, correlated):
    noise = noise_of(n) if correlated else np.eye(n)
    rows = np.random.default_rng(1).normal(size=(3, n * (n - 1) // 2))
    form = whitened_form(torch.tensor(rows), torch.tensor(noise) if correlated else None).numpy()
    expected = rows @ np.linalg.solve(covariance(n, noise), rows.T)
    np.testing.assert_allclose(form @ form.T, expected * (form[0] @ form[0]) / expected[0, 0], atol=1e-10)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_missing_pairs_are_as_if_they_did_not_exist(share):
    n = 9
    rng = np.random.default_rng(2)
    known = rng.random(n * (n - 1) // 2) > share
    rows = rng.normal(size=(3, known.sum()))
    form = whitened_form(torch.tensor(rows), known=torch.tensor(known)).numpy()
    expected = rows @ np.linalg.solve(covariance(n, np.eye(n))[np.ix_(known, known)], rows.T)
    np.testing.assert_allclose(form @ form.T, expected * (form[0] @ form[0]) / expected[0, 0], atol=1e-10)


def test_all_pairs_known_is_the_closed_form():
    rows = torch.tensor(np.random.default_rng(3).random((2, 36)))
    torch.testing.assert_close(
        whitened_form(rows, known=torch.ones(36, dtype=torch.bool)), whitened_form(rows)
    )


def test_moments_belong_to_the_squared_distances():
    patterns = np.random.default_rng(4).normal(size=(7, 5))
    distances = torch.tensor(pdist(patterns, "sqeuclidean"))
    moments = second_moments(distances).numpy()
    centred = patterns - patterns.mean(0)
    np.testing.assert_allclose(moments, centred @ centred.T, atol=1e-12)
    own = np.diag(moments)
    np.testing.assert_allclose(own[:, None] + own - 2 * moments, squareform(distances.numpy()), atol=1e-12)
    values = np.linalg.eigvalsh(contrast_moments(distances).numpy())
    np.testing.assert_allclose(values, np.linalg.eigvalsh(moments)[1:], atol=1e-12)


def test_numbers_of_pairs():
    assert [count_conditions(n * (n - 1) // 2) for n in range(2, 200)] == list(range(2, 200))
    with pytest.raises(ValueError, match="7 dissimilarities are not all pairs"):
        count_conditions(7)
