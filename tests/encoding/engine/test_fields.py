"""Gaussian pools and their search: weights written out, and the best pool of every target as brute force finds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from cerebridge.encoding.engine.fields import gaussian_pools, positions, search
from cerebridge.encoding.engine.moments import Split
from cerebridge.encoding.engine.scoring import r2


@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (3, 7), (1, 4)])
def test_pools_are_round_gaussians_in_places(rows, columns):
    centres, sizes = positions(rows, columns), torch.full((rows * columns,), 0.4)
    pools = gaussian_pools(centres, sizes, rows, columns)
    spread = 0.4 * (max(rows, columns) - 1) / 2
    y, x = np.mgrid[:rows, :columns]
    for pool, (row, column) in zip(pools, np.ndindex(rows, columns), strict=True):
        expected = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * spread**2))
        np.testing.assert_allclose(pool.reshape(rows, columns), expected / expected.sum(), atol=1e-6)


def test_positions_of_a_coarser_grid_span_the_map():
    assert positions(9, 5, 3).tolist() == [[x, y] for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)]
    assert positions(9, 9, 1).tolist() == [[0.0, 0.0]]


def test_search_finds_what_fitting_every_pool_finds():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(60, 3, 12, generator=generator, dtype=torch.float64)
    pools = torch.rand(6, 12, generator=generator, dtype=torch.float64)
    Y = maps @ pools[4] @ torch.ones(3, 1, dtype=torch.float64) + torch.randn(
        60, 4, generator=generator, dtype=torch.float64
    )
    alphas = torch.tensor([0.1, 10.0], dtype=torch.float64)
    index = torch.arange(60)
    splits = [Split(index[:40], index[40:]), Split(index[20:], index[:20])]
    found = search(maps, pools, Y, splits, alphas, "r2", "primal", 4)
    scores = torch.zeros(6, 2, 4, dtype=torch.float64)
    for cell, pool in enumerate(pools):
        x = (maps @ pool).numpy()
        for a, alpha in enumerate(alphas):
            for train, test in splits:
                ridge = Ridge(float(alpha)).fit(x[train], Y[train])
                scores[cell, a] += r2(Y[test], torch.from_numpy(ridge.predict(x[test]))) / 2
    torch.testing.assert_close(found.score, scores.amax((0, 1)))
    torch.testing.assert_close(found.profile, scores.amax(1))
    assert found.cell.tolist() == scores.amax(1).argmax(0).tolist()
    x = (maps @ pools[found.cell[0]]).numpy()
    np.testing.assert_allclose(found.coef[0], Ridge(float(alphas[found.chosen[0]])).fit(x, Y[:, 0]).coef_)


def test_a_target_without_a_score_keeps_the_first_pool():
    maps = torch.randn(20, 1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    split = [Split(torch.arange(10), torch.arange(10, 20))]
    found = search(
        maps, torch.eye(4), torch.ones(20, 1, dtype=torch.float64), split, torch.ones(1), "r2", "primal", 1
    )
    assert found.cell.tolist() == [0] and bool(found.score.isnan().all())
