"""Spectra: reconstruction, directions that are absent, Gram matrices that are too rough, and the choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cerebridge.encoding.engine.spectral import (
    choose,
    inverse_filters,
    is_rough,
    robust_spectrum,
    spectrum,
    spectrum_of_rows,
)


def rows(n: int, p: int, rank: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p)))


@pytest.mark.parametrize(("n", "p", "rank"), [(20, 6, 6), (20, 6, 4), (6, 20, 6), (6, 20, 3)])
def test_both_ways_give_the_same_spectrum(n, p, rank, device):
    x = rows(n, p, rank).to(device)
    for found in (spectrum(x.T @ x), spectrum_of_rows(x)):
        assert found.values.shape == (p,)
        assert int((found.values > 0).sum()) == rank
        assert bool((found.values.diff() >= 0).all())
        torch.testing.assert_close((found.vectors * found.values) @ found.vectors.T, x.T @ x)
        torch.testing.assert_close(
            found.vectors.T @ found.vectors, torch.eye(p, dtype=x.dtype, device=x.device)
        )


def test_nothing_varies():
    found = spectrum(torch.zeros(3, 3))
    assert not found.values.any()
    assert not inverse_filters(found.values, torch.ones(2)).any()


def test_rows_keep_what_their_gram_matrix_loses():
    x = torch.diag(torch.tensor([1e8, 1e-4], dtype=torch.float64))
    assert spectrum(x.T @ x).values[0] == 0
    assert spectrum_of_rows(x).values[0] == pytest.approx(1e-8)
    calls = []
    found = robust_spectrum(x.T @ x, 1e-8, lambda: calls.append(1) or x)
    assert calls
    assert found.values[0] == pytest.approx(1e-8)
    robust_spectrum(x.T @ x, 1e8, lambda: pytest.fail("the Gram matrix is good enough for this penalty"))


def test_roughness_follows_the_smallest_penalised_eigenvalue():
    values = torch.tensor([1.0, 1e12], dtype=torch.float64)
    assert is_rough(values, 1e-3)
    assert not is_rough(values, 1e3)
    assert not is_rough(values + 1e3, 1e-3)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.1, 0.3, 0.2], 1),
        ([0.3, 0.3, 0.3], 0),
        ([0.3, 0.3 + 1e-14, 0.1], 0),
        ([0.3, 0.3 + 1e-9, 0.1], 1),
        ([float("nan"), -5.0, float("nan")], 1),
        ([float("nan")] * 3, 0),
    ],
)
def test_the_best_score_wins_and_among_equals_the_largest_penalty(scores, expected):
    alphas = torch.tensor([100.0, 1.0, 10.0], dtype=torch.float64)
    assert choose(torch.tensor([scores], dtype=torch.float64), alphas).tolist() == [expected]
