"""Weighted ranks and rank correlations against scipy on elements written out as often as they count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, rankdata, spearmanr

from cerebridge.encoding.engine import reranking
from cerebridge.encoding.engine.reranking import (
    dense_codes,
    paired_rank_similarities,
    reweighted_ranks,
    weighted_inversions,
)


def rows(levels, n=40, m=5, heaviest=4, seed=0):
    """Values with as many levels, twice, and how often each element counts."""
    rng = np.random.default_rng(seed)
    y, x = rng.integers(0, levels, (2, m, n))
    return torch.from_numpy(y), torch.from_numpy(x), torch.from_numpy(rng.integers(0, heaviest, (m, n)))


def written_out(row, weights):
    return np.repeat(row.numpy(), weights.numpy())


@pytest.mark.parametrize("levels", [3, 1000])
def test_ranks_are_those_of_elements_written_out(levels):
    values, _, weights = rows(levels)
    ranks = reweighted_ranks(dense_codes(values), weights)
    for n, counts in enumerate(weights):
        for v, row in enumerate(values):
            expected = rankdata(written_out(row, counts))
            found = written_out(ranks[n, v], counts) / 2
            np.testing.assert_allclose(found, expected - (len(expected) + 1) / 2)


@pytest.mark.parametrize("n", [3, 17, 40, 130])
@pytest.mark.parametrize("levels", [3, 1000])
def test_inversions_are_those_of_all_pairs(levels, n):
    values, _, weights = rows(levels, n)
    falling = (values[:, :, None] > values[:, None]) & (torch.arange(n)[:, None] < torch.arange(n))
    expected = (falling * weights[:, :, None] * weights[:, None]).sum(dim=(1, 2))
    assert weighted_inversions(values, weights).tolist() == expected.tolist()


@pytest.mark.parametrize("levels", [4, 1000])
@pytest.mark.parametrize(
    ("method", "peer"),
    [("spearman", spearmanr), ("tau-b", kendalltau)],
)
def test_correlations_are_those_of_scipy(method, peer, levels):
    y, x, weights = rows(levels)
    inner = x
    if method == "spearman":
        inner = torch.cat(
            [reweighted_ranks(dense_codes(x[k : k + 1]), weights[k : k + 1])[:, 0] for k in range(5)]
        )
    found = paired_rank_similarities(y, inner, weights, method)
    expected = [peer(*(written_out(side[k], weights[k]) for side in (y, x))).statistic for k in range(5)]
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_values_known_to_differ_need_no_count_of_ties():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.permuted(np.tile(np.arange(50), (4, 1)), axis=1))
    y, _, weights = rows(5, n=50, m=4)
    for method in ("tau-a", "tau-b"):
        found = paired_rank_similarities(y, x, weights, method, distinct=True)
        np.testing.assert_array_equal(found, paired_rank_similarities(y, x, weights, method))


def test_large_values_are_numbered_where_their_bits_do_not_fit():
    y, x, weights = rows(1000)
    small = paired_rank_similarities(y, x, weights, "tau-a")
    np.testing.assert_array_equal(paired_rank_similarities(y * 2**45, x, weights, "tau-a"), small)
    wide = paired_rank_similarities(y, x * 2**30, weights, "tau-a")
    np.testing.assert_array_equal(wide, small)


@pytest.mark.parametrize("method", reranking.RANKED)
def test_one_level_is_related_to_nothing(method):
    _, x, weights = rows(1000)
    inner = (
        reweighted_ranks(dense_codes(x[:1]), weights[:1])[:, 0] if method in ("spearman", "rho-a") else x[:1]
    )
    assert paired_rank_similarities(torch.zeros_like(x[:1]), inner, weights[:1], method).item() == 0
