"""Ramps, ranks, shortest paths and distance profiles against definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import floyd_warshall
from scipy.stats import rankdata

from cerebridge.encoding.engine.topology import (
    distance_profiles,
    join_parts,
    nearest_neighbours,
    ramp,
    scaled_ranks,
    shortest_paths,
)


def symmetric(n, seed=0, batch=()):
    values = torch.tensor(np.random.default_rng(seed).uniform(size=(*batch, n, n)))
    return (values + values.mT).masked_fill(torch.eye(n, dtype=torch.bool), 0)


def test_ranks_are_scaled_among_known_values():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (4, 12)).astype(float)
    values[rng.uniform(size=values.shape) < 0.2] = np.nan
    found = scaled_ranks(torch.tensor(values)).numpy()
    for row, ranks in zip(values, found, strict=True):
        known = ~np.isnan(row)
        expected = rankdata(row[known])
        expected = (expected - expected.min()) / (expected.max() - expected.min())
        np.testing.assert_allclose(ranks[known], expected, rtol=1e-12)
        assert np.isnan(ranks[~known]).all()
    assert scaled_ranks(torch.tensor([2.0, 2.0, torch.nan])).isnan().all()


@pytest.mark.parametrize("thresholds", [(0.2, 0.8), (0, 1), (0.5, 0.5), (-1, 0.3)])
def test_ramp_is_0_then_straight_then_1(thresholds, dtype):
    lower, upper = thresholds
    values = torch.linspace(-1, 2, 31, dtype=dtype)
    found = ramp(torch.cat([values, values.new_tensor([torch.nan])]), lower, upper)
    assert found.dtype == dtype and found[-1].isnan()
    if lower == upper:
        expected = (values > lower).to(dtype)
    else:
        expected = torch.as_tensor(np.interp(values.numpy(), [lower, upper], [0, 1])).to(dtype)
    torch.testing.assert_close(found[:-1], expected)


def test_paths_of_a_batch_are_those_of_each_graph(device):
    edges = symmetric(9, batch=(2, 3))
    edges[edges > 0.7] = torch.inf
    found = shortest_paths(edges.to(device)).cpu()
    assert (found == found.mT).all()
    for graph, paths in zip(edges.flatten(0, 1).numpy(), found.flatten(0, 1).numpy(), strict=True):
        expected = floyd_warshall(np.where(np.isinf(graph), 0, graph))
        np.testing.assert_allclose(paths, expected, rtol=1e-12)


def test_neighbours_are_mutual_and_missing_ones_nobodys():
    distances = symmetric(8)
    distances[2, 5] = distances[5, 2] = torch.nan
    near = nearest_neighbours(distances, 2)
    for i in range(8):
        order = np.argsort(
            np.where(np.arange(8) == i, np.inf, np.nan_to_num(distances[i].numpy(), nan=np.inf))
        )
        assert near[i, order[:2]].all()
    assert (near == near.mT).all()
    assert not near[2, 5] and not near.diagonal().any()
    assert 16 <= int(near.sum()) <= 32


def test_parts_are_joined_a_step_beyond_the_longest_path():
    paths = torch.tensor([[1.0, torch.inf, 2.0], [torch.inf, torch.nan, 0.5]])
    found = join_parts(paths, 0.25)
    np.testing.assert_array_equal(found, [[1, 2.25, 2], [0.75, np.nan, 0.5]])


def test_profiles_are_doubly_centred_and_of_unit_length():
    distances = symmetric(7, batch=(4,))
    profiles = distance_profiles(distances)
    torch.testing.assert_close(
        profiles.sum(dim=-1), torch.zeros(4, 7, dtype=torch.float64), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(torch.linalg.matrix_norm(profiles), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(distance_profiles(5 * distances), profiles)
    assert (distance_profiles(torch.full((5, 5), 0.3)) == 0).all()
