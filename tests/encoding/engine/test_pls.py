"""Partial least squares on principal components: orthogonal scores, exact weights, one fit for all numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import PLSRegression as Peer
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, ShuffleSplit

from cerebridge.encoding.engine.moments import Split
from cerebridge.encoding.engine.pls import Standard, cross_validate, fit

SHAPES = {
    "tall": (60, 12, 4),
    "wide": (30, 80, 4),
    "many targets": (40, 10, 70),
    "wide, many targets": (25, 60, 90),
}


def simulate(n: int, p: int, targets: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * np.arange(1, p + 1) ** -0.5 + 2
    Y = X @ rng.standard_normal((p, targets)) + rng.standard_normal((n, targets))
    return torch.from_numpy(X), torch.from_numpy(Y)


@pytest.mark.parametrize("shape", SHAPES)
def test_components_have_largest_covariance_and_orthogonal_scores(shape):
    X, Y = (Standard.of(x, False)[1] for x in simulate(*SHAPES[shape]))
    found = fit(X, Y, 6, tol=0.0, max_iter=1)
    scores = X @ found.rotations
    torch.testing.assert_close(scores.T @ scores, torch.eye(6).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.loadings, Y.T @ scores)
    residual = X
    for score in scores.T:
        weights = torch.linalg.svd(residual.T @ Y).U[:, 0]
        direction = residual @ weights
        assert (direction @ score).abs() / torch.linalg.vector_norm(direction) == pytest.approx(1, abs=1e-10)
        residual = residual - torch.outer(score, score @ residual)


def test_it_stops_where_nothing_is_left():
    X, Y = (Standard.of(x, False)[1] for x in simulate(30, 8, 3))
    X[:, 5:] = X[:, :3] @ torch.rand(3, 3).double()
    assert len(fit(X, Y, 8, 1e-6, 500).iterations) == 5
    assert len(fit(X, X[:, :2] @ torch.rand(2, 3).double(), 8, 1e-6, 500).iterations) <= 5
    nothing = fit(X, torch.zeros(30, 2).double(), 8, 1e-6, 500)
    assert nothing.iterations == []
    assert (nothing.rotations @ nothing.loadings.T).shape == (8, 2)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("cv", [KFold(4), ShuffleSplit(3, random_state=0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_every_fit_by_itself(shape, cv, scale):
    X, Y = simulate(*SHAPES[shape])
    pairs, grid = list(cv.split(X)), [1, 2, 5]
    splits = [Split(*(torch.from_numpy(np.sort(part)) for part in pair)) for pair in pairs]
    expected = {scoring: np.zeros((len(pairs), Y.shape[1], len(grid))) for scoring in ("r2", "pearsonr")}
    for k, (train, test) in enumerate(pairs):
        for a, number in enumerate(grid):
            peer = Peer(number, scale=scale).fit(X[train].numpy(), Y[train].numpy())
            truth, predicted = Y[test].numpy(), peer.predict(X[test].numpy())
            expected["r2"][k, :, a] = r2_score(truth, predicted, multioutput="raw_values")
            expected["pearsonr"][k, :, a] = [
                np.corrcoef(*pair)[0, 1] for pair in zip(truth.T, predicted.T, strict=True)
            ]
    for scoring, values in expected.items():
        found = cross_validate(X, Y, splits, grid, scale, scoring, 1e-6, 500)
        np.testing.assert_allclose(found, values.mean(0), atol=1e-8)
        single = cross_validate(X.float(), Y.float(), splits, grid, scale, scoring, 1e-6, 500)
        assert single.dtype == torch.float32
        np.testing.assert_allclose(single, values.mean(0), atol=1e-2)


def test_scales_are_those_of_the_rows():
    rows = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    standard, scaled = Standard.of(rows, True)
    assert standard.mean.tolist() == [2, 5]
    assert standard.scale.tolist() == pytest.approx([2**0.5, 1])
    assert scaled[:, 1].tolist() == [0, 0]
    assert Standard.of(rows[:1], True)[0].scale.tolist() == [1, 1]
