"""Explained shares against regression, plain and not negative."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from cerebridge.encoding.engine.commonality import explained_shares
from cerebridge.encoding.engine.partition import subsets


@pytest.mark.parametrize("nonnegative", [False, True])
def test_shares_are_those_of_regressions(nonnegative):
    rng = np.random.default_rng(0)
    predictors = rng.normal(size=(4, 40))
    predictors[1] += predictors[0]
    rows = np.vstack([predictors.T @ [1, -1, 0.5, 0] + rng.normal(size=40), rng.normal(size=(2, 40))])
    sets = subsets(4, 6)
    found, weights = explained_shares(
        *(torch.tensor(v) for v in (predictors @ predictors.T, rows @ predictors.T, (rows**2).sum(1))),
        sets,
        nonnegative,
    )
    for k, members in enumerate(sets):
        X = predictors[list(members)].T
        for j, row in enumerate(rows):
            fitted = nnls(X, row)[0] if nonnegative else np.linalg.lstsq(X, row, rcond=None)[0]
            share = 1 - ((row - X @ fitted) ** 2).sum() / (row**2).sum()
            assert found[k, j].item() == pytest.approx(share, abs=1e-10)
            if len(members) == 4:
                np.testing.assert_allclose(weights[j].numpy(), fitted, atol=1e-10)
