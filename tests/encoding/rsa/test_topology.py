"""Geo-topological transforms: quantiles, monotone invariance, rings, and one sentence for what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa import topology as module

GEODESIC = ("relative-geodesic", "absolute-geodesic")
KINDS = ("relative", "absolute", *GEODESIC)


def labelled(values, **rdm):
    values = np.atleast_2d(values)
    n = len(squareform(values[0]))
    a, b = np.triu_indices(n, 1)
    stimuli = np.array([f"s{k:02d}" for k in range(n)])
    return neuro.assemble(
        values,
        rdm={"neuroid_id": [f"r{k}" for k in range(len(values))], **rdm},
        pair={"stimulus_a": stimuli[a], "stimulus_b": stimuli[b]},
        modality="simulated",
        units="V",
    )


@pytest.fixture
def distances():
    return np.stack([pdist(np.random.default_rng(k).normal(size=(16, 5))) for k in range(3)])


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["relative", "relative-geodesic"]),
    function=st.sampled_from([np.exp, np.sqrt, np.log1p, lambda d: d**5]),
    upper=st.sampled_from([0.3, 0.5, 0.8]),
)
def test_relative_kinds_see_order_alone(seed, kind, function, upper):
    distances = pdist(np.random.default_rng(seed).normal(size=(12, 3)))
    before, after = (rsa.transform_rdms(d, 0.1, upper, kind) for d in (distances, function(distances)))
    np.testing.assert_array_equal(before, after)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(KINDS), rerank=st.booleans())
def test_order_of_stimuli_and_other_rdms_do_not_matter(seed, kind, rerank):
    rng = np.random.default_rng(seed)
    square = np.stack([squareform(pdist(rng.normal(size=(10, 3)))) for _ in range(2)])
    order = rng.permutation(10)
    a, b = np.triu_indices(10, 1)
    options = {"rerank": rerank} if kind in GEODESIC else {}
    lower, upper = (0, 0.4) if kind.startswith("relative") else (0.2, 2.0)
    found = rsa.transform_rdms(square[:, a, b], lower, upper, kind, **options)
    alone = rsa.transform_rdms(square[1, a, b], lower, upper, kind, **options)
    moved = rsa.transform_rdms(square[:, order[a], order[b]], lower, upper, kind, **options)
    np.testing.assert_allclose(found[1], alone, rtol=1e-12)
    whole = np.stack([squareform(row) for row in found])
    np.testing.assert_allclose(whole[:, order[a], order[b]], moved, rtol=1e-12)


@pytest.mark.parametrize("n", [11, 62, 92])
def test_a_fifth_becomes_0_and_a_fifth_1(n):
    distances = np.random.default_rng(0).uniform(size=(4, n * (n - 1) // 2))
    found = rsa.transform_rdms(distances, 0.2, 0.8)
    for edge in (0, 1):
        assert np.abs((found == edge).sum(axis=1) - distances.shape[1] / 5).max() <= 1
    np.testing.assert_allclose(
        rsa.transform_rdms(distances, 0, 1)[0], (rankdata(distances[0]) - 1) / (distances.shape[1] - 1)
    )
    assert set(np.unique(rsa.transform_rdms(distances, 0.5, 0.5))) == {0, 1}


@pytest.mark.parametrize("thresholds", [(0.2, 0.8), (0, 0.5), (0.3, 0.4), (0, 1)])
def test_agrees_with_rsatoolbox_on_each_rdm(distances, thresholds):
    transform = pytest.importorskip("rsatoolbox.rdm.transform")
    RDMs = pytest.importorskip("rsatoolbox").rdm.RDMs
    for row, found in zip(distances, rsa.transform_rdms(distances, *thresholds), strict=True):
        ranked = transform.rank_transform(RDMs(row[None]))
        expected = transform.geotopological_transform(ranked, *thresholds).get_vectors()[0]
        np.testing.assert_allclose(found, expected, atol=1e-12)
        raw = np.quantile(row, thresholds)
        absolute = transform.geotopological_transform(RDMs(row[None].copy()), *thresholds).get_vectors()[0]
        np.testing.assert_allclose(rsa.transform_rdms(row, *raw, "absolute"), absolute, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 1 << 17])
def test_paths_agree_with_scipy(distances, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    found = rsa.transform_rdms(distances, 0, 2.5, "absolute-geodesic")
    near = rsa.transform_rdms(distances, 0, 9, "absolute-geodesic", neighbours=3)
    for k, row in enumerate(distances):
        square = squareform(row)
        expected = shortest_path(np.where(square < 2.5, square, 0) / 2.5, directed=False)
        expected[np.isinf(expected)] = expected[np.isfinite(expected)].max() + 1
        np.testing.assert_allclose(squareform(found[k]), expected, rtol=1e-12)
        order = np.argsort(square + 99 * np.eye(16), axis=1)[:, :3]
        joined = np.zeros((16, 16), dtype=bool)
        np.put_along_axis(joined, order, True, axis=1)
        expected = shortest_path(np.where(joined | joined.T, square, 0) / 9, directed=False)
        np.testing.assert_allclose(squareform(near[k]), expected, rtol=1e-12)


def test_parts_that_no_path_joins_are_one_rank_farther():
    points = np.r_[np.arange(4), 100 + np.arange(4)][:, None] + 0.01 * np.arange(8)[:, None] ** 2
    distances = pdist(points)
    found = rsa.transform_rdms(distances, 0, 0.4, "relative-geodesic", rerank=True)
    apart = np.abs(np.subtract.outer(np.arange(8) // 4, np.arange(8) // 4))[np.triu_indices(8, 1)] == 1
    assert found[~apart].max() == 1
    np.testing.assert_allclose(found[apart], 1 + 1 / 27)
    lengths = rsa.transform_rdms(distances, 0, 5, "absolute-geodesic")
    np.testing.assert_allclose(lengths[apart], lengths[~apart].max() + 1)
    distances[apart.argmax()] = np.nan
    known = ~np.isnan(distances)
    lengths = rsa.transform_rdms(distances, 0, 0.4, "relative-geodesic")
    np.testing.assert_allclose(lengths[apart & known], lengths[~apart].max() + 1 / (26 * 0.4))


def ring_like(n=60):
    """A ring, 85 % of it, and the whole ring crumpled."""
    angle = 2 * np.pi * np.arange(n) / n
    ring, arc = (np.c_[np.cos(a), np.sin(a)] for a in (angle, 0.85 * angle))
    return ring, arc, (1 + 0.5 * np.cos(4 * angle))[:, None] * ring


def test_geometry_takes_the_arc_for_the_ring_and_topology_the_crumpled_ring():
    ring, arc, crumpled = (pdist(points) for points in ring_like())
    to_arc, to_crumpled = (rsa.compare(ring, other, "pearson") for other in (arc, crumpled))
    assert to_arc > 0.92 > 0.9 > to_crumpled
    bent = [rsa.transform_rdms(d, 0, 0.1, "relative-geodesic") for d in (ring, arc, crumpled)]
    to_arc, to_crumpled = (rsa.compare(bent[0], other, "pearson") for other in bent[1:])
    assert to_crumpled > 0.95 > 0.68 > to_arc
    shuffled = np.random.default_rng(0).permutation(bent[2])
    assert abs(rsa.compare(bent[0], shuffled, "pearson")) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_and_precision_comes_back(distances, kind):
    thresholds = (0, 0.5) if kind.startswith("relative") else (0, 3)
    expected = rsa.transform_rdms(distances, *thresholds, kind)
    single = rsa.transform_rdms(torch.as_tensor(distances, dtype=torch.float32), *thresholds, kind)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-5, atol=1e-5)
    array = labelled(distances, region=["V1", "V4", "IT"])
    order = np.random.default_rng(0).permutation(array.sizes["pair"])
    found = rsa.transform_rdms(array.isel(pair=order), *thresholds, kind)
    np.testing.assert_allclose(found.values, expected[:, order], rtol=1e-12)
    assert found.region.values.tolist() == ["V1", "V4", "IT"]
    assert found.attrs["units"] == "1" and kind in found.attrs["provenance"]
    assert array.attrs["units"] == "V"
    assert rsa.transform_rdms(distances[0], *thresholds, kind).shape == distances[0].shape


@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_missing_pairs_stay_missing_and_others_do_not_know(distances, kind):
    thresholds = (0.2, 0.7) if kind == "relative" else (1, 4)
    gaps = np.random.default_rng(0).uniform(size=distances.shape) < 0.1
    holed = np.where(gaps, np.nan, distances)
    found = rsa.transform_rdms(holed, *thresholds, kind)
    for k in range(3):
        known = rsa.transform_rdms(distances[k][~gaps[k]], *thresholds, kind)
        np.testing.assert_allclose(found[k][~gaps[k]], known, rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(found), gaps)


def test_missing_pairs_are_no_edges(distances):
    holed = distances.copy()
    holed[:, 7] = np.nan
    found = rsa.transform_rdms(holed, 0, 4, "absolute-geodesic")
    far = distances.copy()
    far[:, 7] = 100
    expected = rsa.transform_rdms(far, 0, 4, "absolute-geodesic")
    np.testing.assert_array_equal(np.isnan(found[:, 7]), True)
    np.testing.assert_allclose(np.delete(found, 7, axis=1), np.delete(expected, 7, axis=1), rtol=1e-12)


def test_ties_share_their_rank():
    found = rsa.transform_rdms(np.array([0.0, 0, 0, 0, 0, 0, 1, 1, 1, 1]))
    assert found.tolist() == [0.0] * 6 + [1.0] * 4


BAD = {
    "kind": (lambda d: rsa.transform_rdms(d, kind="ranks"), "kind='ranks' is unknown; use 'relative'"),
    "order": (lambda d: rsa.transform_rdms(d, 0.8, 0.2), "rising order"),
    "range": (lambda d: rsa.transform_rdms(d, 0.2, 3.0), "from 0 to 1 .* kind='absolute'"),
    "not a number": (lambda d: rsa.transform_rdms(d, np.nan, 0.2), "two numbers in rising order"),
    "constant": (lambda d: rsa.transform_rdms(np.ones_like(d)), "RDM 0 is constant"),
    "infinite": (lambda d: rsa.transform_rdms(d + np.inf), "RDM 0 has infinite"),
    "one pair known": (lambda d: rsa.transform_rdms(labelled(d * np.nan)), "RDM 'r0' is constant or has no"),
    "pairs": (lambda d: rsa.transform_rdms(d[:, :5], kind="relative-geodesic"), "5 dissimilarities a row"),
    "no edges": (
        lambda d: rsa.transform_rdms(labelled(d), 0, 1e-3, "absolute-geodesic"),
        "no pair of RDM 'r0' is below upper=0.001",
    ),
    "zero edges": (lambda d: rsa.transform_rdms(d, 0.2, 0.2, "relative-geodesic"), "edges without length"),
    "neighbours": (lambda d: rsa.transform_rdms(d, neighbours=3), "for paths, and kind='relative' has none"),
    "rerank": (lambda d: rsa.transform_rdms(d, rerank=True), "for paths"),
    "no neighbours": (
        lambda d: rsa.transform_rdms(d, kind="relative-geodesic", neighbours=0),
        "neighbours must be a whole number from 1",
    ),
    "shape": (lambda d: rsa.transform_rdms(d[None]), "give a vector, or one vector a row"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(distances, case):
    call, match = BAD[case]
    with pytest.raises(ValueError, match=match) as error:
        call(distances)
    assert "\n" not in str(error.value)
