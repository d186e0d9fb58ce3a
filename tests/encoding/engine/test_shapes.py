"""Alignments against scikit-learn, scipy and the definitions; metrics keep the triangle inequality."""

from __future__ import annotations

from functools import partial
from itertools import permutations

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import CCA

from cerebridge.encoding.engine.shapes import canonical_correlation, fit_space, leading, mixed, shape_distance

N = 40


def patterns(seed, p, n=N):
    rng = np.random.default_rng(seed)
    shared = np.random.default_rng(99).standard_normal((n, 3))
    return torch.from_numpy(shared @ rng.standard_normal((3, p)) + rng.standard_normal((n, p)) + 2)


ORDER = torch.arange(N)[None]
FOLDS = [(torch.arange(10, N), torch.arange(10)), (torch.arange(30), torch.arange(30, N))]


def single(function, x, y, **options):
    return float(function([x], [y], ORDER, **options))


def test_canonical_correlations_are_scikit_learns():
    x, y = patterns(0, 4), patterns(1, 6)
    peer = CCA(n_components=4, max_iter=20000, tol=1e-12).fit(x, y)
    u, v = peer.transform(x, y)
    wanted = np.mean([np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(4)])
    assert single(canonical_correlation, x, y) == pytest.approx(wanted, abs=1e-5)


def test_held_out_canonical_correlations():
    x, y = patterns(0, 4), patterns(1, 6)
    wanted = []
    for train, test in FOLDS:
        peer = CCA(n_components=4, max_iter=20000, tol=1e-12).fit(x[train], y[train])
        u, v = peer.transform(x[test], y[test])
        wanted.append(np.mean([np.corrcoef(u[:, k], v[:, k])[0, 1] for k in range(4)]))
    found = float(canonical_correlation([x], [y], ORDER, FOLDS))
    assert found == pytest.approx(np.mean(wanted), abs=1e-4)
    assert found < single(canonical_correlation, x, y)


def canonical(x, y):
    """Correlations and variates of x by the textbook's matrix."""
    x, y = (side - side.mean(0) for side in (x.numpy(), y.numpy()))
    qx, qy = (np.linalg.qr(side)[0] for side in (x, y))
    left, r, _ = np.linalg.svd(qx.T @ qy, full_matrices=False)
    return x, r, qx @ left


def test_svcca_and_pwcca_are_their_definitions():
    x, y = patterns(0, 7), patterns(1, 9)
    centred, r, variates = canonical(x, y)
    weights = np.abs(variates.T @ centred).sum(1)
    wanted = (weights * r).sum() / weights.sum()
    assert single(canonical_correlation, x, y, projection_weighted=True) == pytest.approx(wanted)
    kept = []
    for side in (x, y):
        left, values, _ = np.linalg.svd((side - side.mean(0)).numpy(), full_matrices=False)
        share = np.cumsum(values**2) / (values**2).sum()
        k = int(np.searchsorted(share, 0.8)) + 1
        kept.append(torch.from_numpy(left[:, :k] * values[:k]))
    wanted = canonical(*kept)[1].mean()
    assert single(canonical_correlation, x, y, variance=0.8) == pytest.approx(wanted)
    assert kept[0].shape[1] < 7


def test_procrustes_is_scipys():
    x, y = patterns(0, 5), patterns(1, 5)
    disparity = scipy.spatial.procrustes(x.numpy(), y.numpy())[2]
    similarity = single(shape_distance, x, y, kind="similarity")
    assert 1 - similarity**2 == pytest.approx(disparity)
    assert single(shape_distance, x, y, kind="chord") == pytest.approx(np.sqrt(2 - 2 * similarity))
    assert single(shape_distance, x, y) == pytest.approx(np.arccos(similarity))
    x_, y_ = (side.numpy() - side.numpy().mean(0) for side in (x, y))
    rotation, _ = scipy.linalg.orthogonal_procrustes(y_, x_)
    wanted = np.linalg.norm(x_ - y_ @ rotation)
    assert single(shape_distance, x, y, kind="euclidean") == pytest.approx(wanted)


def partly_whitened(x, alpha):
    """Williams et al. (2021), with both terms on one scale."""
    x = x - x.mean(0)
    covariance = x.T @ x
    root = np.real(scipy.linalg.fractional_matrix_power(covariance, -0.5))
    scale = np.sqrt(np.linalg.eigvalsh(covariance).mean())
    return x @ (alpha * np.eye(x.shape[1]) + (1 - alpha) * scale * root)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_shape_metrics_are_their_definition(alpha):
    x, y = patterns(0, 4), patterns(1, 4)
    u, v = (partly_whitened(side.numpy(), alpha) for side in (x, y))
    rotation, _ = scipy.linalg.orthogonal_procrustes(v, u)
    options = {"alpha": alpha, "kind": "euclidean"}
    assert single(shape_distance, x, y, **options) == pytest.approx(np.linalg.norm(u - v @ rotation))
    cosine = (u * (v @ rotation)).sum() / np.linalg.norm(u) / np.linalg.norm(v)
    assert single(shape_distance, x, y, alpha=alpha) == pytest.approx(np.arccos(cosine))
    best = min(np.linalg.norm(u - v[:, list(columns)]) for columns in permutations(range(4)))
    assert single(shape_distance, x, y, group="permutation", **options) == pytest.approx(best)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_held_out_shapes_are_aligned_on_training_stimuli(alpha):
    x, y = patterns(0, 4), patterns(1, 4)
    inner, own_x, own_y = 0.0, 0.0, 0.0
    for train, test in FOLDS:
        placed = []
        for side in (x.numpy(), y.numpy()):
            part = side[train] - side[train].mean(0)
            root = np.real(scipy.linalg.fractional_matrix_power(part.T @ part, -0.5))
            scale = np.sqrt(np.linalg.eigvalsh(part.T @ part).mean())
            way = alpha * np.eye(4) + (1 - alpha) * scale * root
            placed.append((part @ way, (side[test] - side[train].mean(0)) @ way))
        rotation, _ = scipy.linalg.orthogonal_procrustes(placed[1][0], placed[0][0])
        u, v = placed[0][1], placed[1][1] @ rotation
        inner, own_x, own_y = inner + (u * v).sum(), own_x + (u**2).sum(), own_y + (v**2).sum()
    found = float(shape_distance([x], [y], ORDER, FOLDS, alpha=alpha))
    assert found == pytest.approx(np.arccos(inner / np.sqrt(own_x * own_y)))
    assert found > single(shape_distance, x, y, alpha=alpha)


def test_whitened_shapes_are_canonical_correlations():
    x, y = patterns(0, 5), patterns(1, 5)
    similarity = single(shape_distance, x, y, alpha=0, kind="similarity")
    assert similarity == pytest.approx(single(canonical_correlation, x, y))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from(["angular", "euclidean", "chord"]),
    st.sampled_from(["orthogonal", "permutation"]),
)
def test_distances_are_metrics(seed, alpha, kind, group):
    rng = np.random.default_rng(seed)
    sizes = [4, 4, 4] if group == "permutation" else [3, 5, 12]
    # the second lies between the others, where the triangle inequality is tight
    first, last = (torch.from_numpy(rng.standard_normal((8, p))) for p in (sizes[0], sizes[2]))
    middle = torch.zeros(8, sizes[1], dtype=torch.float64)
    middle[:, : sizes[0]] += 0.5 * first[:, : sizes[1]]
    middle += 0.5 * last[:, : sizes[1]]
    options = {"alpha": alpha, "kind": kind, "group": group}
    sides = [first, middle, last]
    d = shape_distance(sides, sides, torch.arange(8)[None], **options)[0]
    torch.testing.assert_close(d, d.T)
    np.testing.assert_allclose(d.diagonal(), 0, atol=1e-6)
    for i, j, k in permutations(range(3)):
        assert d[i, k] <= d[i, j] + d[j, k] + 1e-7


@pytest.mark.parametrize(
    "function",
    [
        canonical_correlation,
        partial(canonical_correlation, variance=0.9),
        partial(canonical_correlation, projection_weighted=True),
        shape_distance,
        partial(shape_distance, alpha=0.5, kind="euclidean"),
    ],
)
@pytest.mark.parametrize("folds", [None, FOLDS])
def test_orders_and_mirrored_pairs_are_those_computed_one_by_one(function, folds):
    aligned = getattr(function, "func", function) is shape_distance
    sides = [patterns(k, p) for k, p in enumerate((3, 5, 60) if aligned else (3, 5))]
    orders = torch.from_numpy(np.stack([np.arange(N), np.random.default_rng(0).permutation(N)]))
    among = function(sides, sides, orders, folds)
    for i, x in enumerate(sides):
        for j, y in enumerate(sides):
            torch.testing.assert_close(among[0, i, j], function([x], [y], orders[:1], folds)[0, 0, 0])
            moved = function([x], [y[orders[1]]], orders[:1], folds)[0, 0, 0]
            if i <= j:
                torch.testing.assert_close(function([x], [y], orders, folds)[1, 0, 0], moved)
                torch.testing.assert_close(among[1, i, j], moved)


def test_weights():
    values = torch.tensor([2.0, 1.0, 1.0, 0.0])
    assert len(leading(values, 0.6)) == 1
    assert len(leading(values, 1.0)) == 3
    torch.testing.assert_close(mixed(values[:2], 1.0), values[:2])


def test_a_representation_without_variation_is_refused():
    with pytest.raises(ValueError, match="does not vary over the training stimuli"):
        fit_space(torch.ones(5, 2), torch.ones_like)
