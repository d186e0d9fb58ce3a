"""Shared neighbours against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from cerebridge.encoding.engine import neighbours as engine
from cerebridge.encoding.engine.neighbours import nearest, neighbour_overlap


def patterns(seed, n=40, p=6):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, p)))


def peer(x, k, metric):
    found = NearestNeighbors(n_neighbors=k, metric=metric).fit(x.numpy()).kneighbors()[1]
    return [set(row) for row in found.tolist()]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("chunk", [1 << 24, 40 * 7])
def test_overlap_is_that_of_scikit_learns_neighbours(metric, chunk, monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", chunk)
    a, b = [patterns(0), patterns(1, p=60)], [patterns(2), patterns(0) + 0.1]
    orders = torch.from_numpy(np.stack([np.arange(40), np.random.default_rng(3).permutation(40)]))
    found = neighbour_overlap(a, b, orders, n_neighbours=5, metric=metric)
    for k, order in enumerate(orders):
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                pairs = zip(peer(x, 5, metric), peer(y[order], 5, metric), strict=True)
                wanted = np.mean([len(mine & theirs) / 5 for mine, theirs in pairs])
                assert float(found[k, i, j]) == pytest.approx(wanted)


def test_neighbours_are_others_even_where_stimuli_coincide():
    x = torch.zeros(3, 2, dtype=torch.float64)
    x[2] = 1
    found = nearest(x, 1, "euclidean")
    assert found[:2].flatten().tolist() == [1, 0]


def test_unrelated_representations_share_what_chance_gives():
    a, b = [patterns(k, n=400) for k in range(3)], [patterns(10 + k, n=400) for k in range(3)]
    found = neighbour_overlap(a, b, torch.arange(400)[None], n_neighbours=20)
    np.testing.assert_allclose(found, 20 / 399, atol=0.015)
