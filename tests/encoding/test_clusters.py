"""Cluster permutation tests: MNE and plain loops as oracles, effects that are there, and noise in which nothing is."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, sparse, stats

from cerebridge.encoding.clusters import cluster_test
from cerebridge.encoding.engine import clusters as engine


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def ring(n: int) -> sparse.coo_matrix:
    """Points on a circle."""
    here = np.arange(n)
    return sparse.coo_matrix((np.ones(n), (here, (here + 1) % n)), shape=(n, n))


def brute_largest(t: np.ndarray, limit: float) -> float:
    """Largest mass by scipy's labelling of a grid, both signs apart."""
    masses = [0.0]
    for side in (t, -t):
        labels, n = ndimage.label(side > limit)
        masses += list(np.atleast_1d(ndimage.sum_labels(side, labels, np.arange(1, n + 1)))) if n else []
    return max(masses)


@pytest.mark.parametrize("shape", [(40,), (8, 9)])
def test_same_statistic_clusters_and_exact_p_as_mne(shape):
    mne = pytest.importorskip("mne")
    maps = noise(8, *shape)
    maps[(slice(None), *[slice(2, 6)] * len(shape))] += 1
    test = cluster_test(maps)
    t, clusters, p, null = mne.stats.permutation_cluster_1samp_test(
        maps, n_permutations=1024, out_type="mask", tail=0, verbose="error"
    )
    assert test["t"].values == pytest.approx(t)
    assert np.sort(test["cluster_p"].values) == pytest.approx(np.sort(p))
    assert np.sort(test["null"].values) == pytest.approx(np.sort(np.abs(null)))
    for mask, value in zip(clusters, p, strict=True):
        inside = np.zeros(shape, dtype=bool)
        inside[mask] = True
        number = np.unique(test["cluster"].values[inside])
        assert len(number) == 1 and number[0] > 0
        assert ((test["cluster"].values == number[0]) == inside).all()
        assert (test["p"].values[mask] == value).all()


def test_same_as_mne_on_a_surface_over_time():
    mne = pytest.importorskip("mne")
    maps = noise(7, 6, 10)
    matrix = ring(10)
    test = cluster_test(maps, matrix, threshold=1.0)
    _, _, p, _ = mne.stats.spatio_temporal_cluster_1samp_test(
        maps,
        threshold=1.0,
        n_permutations=1024,
        adjacency=(matrix + matrix.T).tocsr(),
        tail=0,
        out_type="mask",
        verbose="error",
    )
    assert np.sort(test["cluster_p"].values) == pytest.approx(np.sort(p))
    full = mne.stats.combine_adjacency(6, (matrix + matrix.T).tocsr())
    assert cluster_test(maps, full, threshold=1.0).equals(test)


def enhanced(t: np.ndarray, step: float) -> np.ndarray:
    """Enhanced values height by height, with scipy's labelling of a grid."""
    scores = np.zeros(t.shape)
    for side in (t, -t):
        for height in np.arange(step, side.max(), step):
            labels, n = ndimage.label(side > height)
            sizes = np.bincount(labels.ravel(), minlength=n + 1)
            scores += np.where(labels > 0, np.sqrt(sizes[labels]) * height**2 * step, 0)
    return scores


def test_enhanced_values_against_a_loop_over_heights_and_signs():
    maps = noise(6, 5, 12)
    test = cluster_test(maps, threshold="tfce")
    step = float(np.abs(test["t"]).max()) / 100
    own = enhanced(test["t"].values, step)
    assert test["tfce"].values == pytest.approx(own)
    largest = [
        enhanced(stats.ttest_1samp(maps * np.array((1, *signs))[:, None, None], 0).statistic, step).max()
        for signs in product([1, -1], repeat=5)
    ]
    assert test["null"].values == pytest.approx(largest)
    assert test["p"].values == pytest.approx((np.array(largest) >= own[..., None] - 1e-9).mean(-1))


@pytest.mark.parametrize(("tail", "sign"), [("greater", 1), ("less", -1)])
def test_one_sided_p_against_a_loop_over_all_signs(tail, sign):
    maps = noise(6, 20) + sign * 0.5
    test = cluster_test(maps, tail=tail)
    limit = stats.t.isf(0.05, 5)
    largest = []
    for signs in product([1, -1], repeat=6):
        t = sign * stats.ttest_1samp(maps * np.array(signs)[:, None], 0).statistic
        labels, n = ndimage.label(t > limit)
        largest.append(max([0.0, *ndimage.sum_labels(t, labels, range(1, n + 1))]))
    expected = [(np.array(largest) >= mass - 1e-9).mean() for mass in test["cluster_mass"].values]
    assert test["cluster_p"].values == pytest.approx(expected)
    assert test.attrs["exact"] == 1 and test.attrs["permutations"] == 63


def test_two_groups_against_a_loop_over_all_exchanges():
    maps = noise(7, 4, 5)
    groups = np.array(["b", "a", "b", "b", "a", "a", "b"])
    maps[groups == "b", :2, :3] += 1.5
    test = cluster_test(maps, groups=groups)
    t = stats.ttest_ind(maps[groups == "b"], maps[groups == "a"]).statistic
    assert test["t"].values == pytest.approx(t)
    largest, highest = [], []
    for chosen in combinations(range(7), 4):
        first = np.isin(np.arange(7), chosen)
        drawn = stats.ttest_ind(maps[first], maps[~first]).statistic
        largest.append(brute_largest(drawn, stats.t.isf(0.025, 5)))
        highest.append(np.abs(drawn).max())
    expected = [(np.array(largest) >= mass - 1e-9).mean() for mass in test["cluster_mass"].values]
    assert test["cluster_p"].values == pytest.approx(expected)
    assert test["p_max"].values == pytest.approx(
        (np.array(highest)[:, None, None] >= np.abs(t) - 1e-9).mean(0)
    )


def test_similarities_of_two_people_against_a_loop_over_signs():
    people = np.array(list(combinations("abcde", 2)))
    maps = noise(10, 15) + np.where(np.arange(15) < 5, 0.8, 0.0)
    test = cluster_test(maps, pairs=people, tail="greater", alpha=0.1)
    own = maps.sum(0) / np.sqrt((maps**2).sum(0))
    assert test["t"].values == pytest.approx(own)
    largest = []
    for flips in product([1, -1], repeat=5):
        sign = dict(zip("abcde", flips, strict=True))
        rows = np.array([sign[a] * sign[b] for a, b in people])
        drawn = (rows[:, None] * maps).sum(0) / np.sqrt((maps**2).sum(0))
        labels, n = ndimage.label(drawn > stats.norm.isf(0.05))
        largest.append(max([0.0, *ndimage.sum_labels(drawn, labels, range(1, n + 1))]))
    expected = [(np.array(largest) >= mass - 1e-9).mean() for mass in test["cluster_mass"].values]
    assert test["cluster_p"].values == pytest.approx(expected)
    assert test.attrs["n_people"] == 5 and test.attrs["permutations"] == 15


def test_similarities_of_people_without_anything_in_common():
    pairs = np.array(list(combinations(range(8), 2)))
    found, naive = [], []
    for seed in range(150):
        vectors = noise(8, 40, seed=seed)
        alike = (vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(1)[:, None]
        found.append(bool(cluster_test(alike, pairs=pairs, tail="greater")["significant"].any()))
        means = np.stack([alike[(pairs == k).any(1)].mean(0) for k in range(8)])
        naive.append(bool(cluster_test(means, tail="greater")["significant"].any()))
    assert np.mean(found) < 0.09
    # a person's mean similarity with the others is a part of theirs
    assert np.mean(naive) > np.mean(found) + 0.02


def test_neighbours_of_opposite_sign_are_two_clusters():
    maps = noise(10, 12) * 0.1
    maps[:, 3:6] += 1
    maps[:, 6:9] -= 1
    assert cluster_test(maps)["cluster"].values[3:9].tolist() in ([1, 1, 1, 2, 2, 2], [2, 2, 2, 1, 1, 1])


def test_without_neighbours_every_point_stands_alone():
    test = cluster_test(noise(8, 30) + 0.3, None, threshold=0.0)
    assert (test["cluster_size"] == 1).all()
    # the largest mass is then the largest t
    assert test["p"].values == pytest.approx(test["p_max"].values)


def test_labels_are_kept_and_clusters_are_numbered_by_mass():
    maps = xr.DataArray(
        noise(9, 3, 20) + np.where(np.arange(20) > 12, 2.0, 0.0),
        {"layer": ["a", "b", "c"], "time": np.arange(20) / 100},
        ("subject", "layer", "time"),
    )
    test = cluster_test(maps)
    assert test["p"].dims == ("layer", "time") and test["layer"].values.tolist() == ["a", "b", "c"]
    assert (np.diff(test["cluster_mass"]) <= 0).all()
    assert test["significant"].sel(time=slice(0.14, None)).mean() > 0.8
    assert cluster_test(torch.as_tensor(maps.values))["p"].values == pytest.approx(test["p"].values)


@pytest.mark.parametrize(
    "options", [{}, {"threshold": "tfce", "permutations": 80}, {"groups": np.arange(12) % 2}]
)
def test_noise_has_a_cluster_in_one_of_twenty(options):
    n = 30 if "threshold" in options else 120
    smooth = ndimage.gaussian_filter1d(noise(n, 12, 30), 1.5, axis=-1)
    found = [
        bool(cluster_test(maps, **{"permutations": 200, **options}, random_state=k)["significant"].any())
        for k, maps in enumerate(smooth)
    ]
    assert np.mean(found) < 0.11 and (any(found) or n < 120)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), chunk=st.sampled_from([1, 50, 10**6]))
def test_order_of_people_scale_and_chunks_do_not_matter(seed, chunk):
    maps = noise(6, 5, 6, seed=seed)
    want = cluster_test(maps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cerebridge.encoding.clusters.CHUNK", chunk)
        got = cluster_test(1e-13 * maps[np.random.default_rng(seed).permutation(6)])
    assert got["p"].values == pytest.approx(want["p"].values)
    assert (got["cluster"].values == want["cluster"].values).all()


def test_links_of_a_grid_are_those_of_scikit_learn():
    image = pytest.importorskip("sklearn.feature_extraction.image")
    graph = sparse.triu(image.grid_to_graph(3, 4, 5), 1).tocoo()
    want = set(zip(graph.row.tolist(), graph.col.tolist(), strict=True))
    assert set(map(tuple, engine.grid_links((3, 4, 5)).T.tolist())) == want


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        (noise(1, 9), {}, "there is one person; a test over people needs two"),
        (noise(9), {}, "shape .9,.; give people × points"),
        (np.full((4, 3), np.nan), {}, "12 missing or infinite values, the first of person 0"),
        (noise(9, 4), {"tail": "up"}, "tail='up' is unknown"),
        (noise(9, 4), {"adjacency": "mesh"}, "adjacency='mesh' is unknown"),
        (noise(9, 4), {"adjacency": sparse.eye(5)}, "5 × 5, but the maps have 4 points"),
        (noise(9, 4), {"threshold": "big"}, "threshold='big' is no t"),
        (noise(9, 4), {"threshold": -1.0}, "threshold=-1.0 is no t"),
        (noise(9, 4), {"groups": [0, 1, 2] * 3}, "9 entries of 3 kinds for 9 people"),
        (noise(9, 4), {"groups": [0, 1]}, "2 entries of 2 kinds for 9 people"),
        (noise(9, 4), {"pairs": [[0, 1]]}, "pairs has the shape .1, 2. for 9 maps"),
        (noise(2, 4), {"pairs": [[0, 1], [2, 2]]}, "name two different people"),
        (noise(2, 4), {"pairs": [[0, 1], [0, 2]], "groups": [0, 1]}, "give one of them"),
        (noise(9, 4), {"alpha": 5}, "alpha=5 is no level of significance"),
        (noise(9, 4), {"permutations": -1}, "permutations is -1"),
    ],
)
def test_bad_input_is_named(maps, options, message):
    with pytest.raises(ValueError, match=message):
        cluster_test(maps, **options)


def test_too_few_people_are_said():
    with pytest.warns(UserWarning, match="4 people were rearranged in 8 ways, so no p is below 0.125"):
        test = cluster_test(noise(4, 20) + 5)
    assert test["p"].min() == 1 / 8 and not test["significant"].any()


def test_points_without_any_difference_between_people():
    maps = noise(8, 10)
    maps[:, 4] = 0.0
    test = cluster_test(maps)
    assert test["t"][4] == 0 and np.isfinite(test["t"]).all()
