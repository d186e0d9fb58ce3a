"""Comparison of vectors against rsatoolbox and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import kendalltau, pearsonr, spearmanr

from cerebridge.encoding.engine.similarity import (
    MATRIX_METHODS,
    METHODS,
    is_undefined,
    paired_similarities,
    prepare,
    similarities,
    unit_length,
)

THEIRS = {"pearson": "corr", "whitened-pearson": "corr_cov", "whitened-cosine": "cosine_cov"}
PLAIN = [method for method in METHODS if method not in MATRIX_METHODS]
SPD = ["bures", "riemannian"]


@pytest.fixture(params=["continuous", "tied"])
def vectors(request):
    rng = np.random.default_rng(0)
    return [
        rng.random((k, 45)) if request.param == "continuous" else rng.integers(0, 4, (k, 45)) for k in (3, 4)
    ]


@pytest.mark.parametrize("method", [method for method in METHODS if method not in SPD])
def test_agrees_with_rsatoolbox(vectors, method, dtype, device):
    peer = pytest.importorskip("rsatoolbox")
    a, b = (prepare(torch.tensor(v, dtype=dtype, device=device), method) for v in vectors)
    found = similarities(a, b, method).cpu().numpy()
    expected = peer.rdm.compare(*(v.astype(float) for v in vectors), THEIRS.get(method, method))
    np.testing.assert_allclose(found, expected, atol=1e-10 if dtype == torch.float64 else 2e-6)


@pytest.mark.parametrize(
    ("method", "oracle"), [("pearson", pearsonr), ("spearman", spearmanr), ("tau-b", kendalltau)]
)
def test_agrees_with_scipy(vectors, method, oracle):
    x, y = (v[:1].astype(float) for v in vectors)
    found = similarities(prepare(torch.tensor(x), method), prepare(torch.tensor(y), method), method)
    assert found.item() == pytest.approx(oracle(x[0], y[0]).statistic, abs=1e-12)


@pytest.fixture
def distances():
    """Squared distances of patterns with more units than conditions."""
    rng = np.random.default_rng(1)
    return [np.stack([pdist(rng.normal(size=(10, 15)), "sqeuclidean") for _ in range(k)]) for k in (3, 4)]


@pytest.mark.parametrize("method", SPD)
def test_second_moments_agree_with_rsatoolbox(distances, method):
    peer = pytest.importorskip("rsatoolbox")
    a, b = (prepare(torch.tensor(v), method) for v in distances)
    expected = peer.rdm.compare(*distances, {"riemannian": "neg_riem_dist"}.get(method, method))
    np.testing.assert_allclose(similarities(a, b, method).numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_paired_rows_are_the_diagonal(distances, method):
    a, b = (prepare(torch.tensor(v[:3]), method) for v in distances)
    whole = similarities(a, b, method)
    torch.testing.assert_close(paired_similarities(a, b, method), whole.diagonal())
    torch.testing.assert_close(paired_similarities(a[:1], b, method), whole[0])


@pytest.mark.parametrize("method", PLAIN)
def test_permuting_commutes_with_preparing(vectors, method):
    order = torch.randperm(45, generator=torch.Generator().manual_seed(0))
    a, b = (torch.tensor(v, dtype=torch.float64) for v in vectors)
    before = similarities(prepare(a[:, order], method), prepare(b, method), method)
    after = similarities(prepare(a, method)[..., order], prepare(b, method), method)
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize(
    "method", [method for method in METHODS if method not in ("tau-a", "rho-a", "riemannian")]
)
def test_constant_vectors_have_no_similarity(method, dtype):
    value = 0.0 if method in ("cosine", "whitened-cosine", "bures") else 0.1
    rows = torch.stack([torch.full((6,), value), torch.arange(6.0)]).to(dtype)
    assert is_undefined(prepare(rows, method), method).tolist() == [True, False]


@pytest.mark.parametrize("method", ["tau-a", "rho-a"])
def test_constant_vectors_score_zero_where_ties_do_not_count(method):
    a, b = (prepare(torch.tensor(v[None]), method) for v in (np.ones(6), np.arange(6.0)))
    assert similarities(a, b, method).item() == 0


def test_length_of_rounding_is_no_length():
    row = torch.tensor([[0.1, 0.1, 0.1]], dtype=torch.float64) * 3
    assert unit_length(row - row.mean(), row).isnan().all()
    assert unit_length(torch.tensor([[1e-30, 0.0]], dtype=torch.float64)).tolist() == [[1.0, 0.0]]
