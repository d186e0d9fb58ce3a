"""Adaptive dependence: distance correlation, its search, and chance that pays for the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa import dependence as module


def distance_correlation(a, b):
    """By the definition: squared, of square matrices."""

    def centred(d):
        return d - d.mean(0) - d.mean(1)[:, None] + d.mean()

    a, b = centred(a), centred(b)
    return (a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean())


@pytest.fixture
def rows():
    return np.stack([pdist(np.random.default_rng(k).normal(size=(14, 4))) for k in range(3)])


def test_whole_range_is_the_distance_correlation(rows):
    found = rsa.compare_adaptively(rows[:2], rows[2], kind="absolute", grid=[0, 1], permutations=0)
    expected = [distance_correlation(squareform(row), squareform(rows[2])) for row in rows[:2]]
    np.testing.assert_allclose(found["dependence"].values[:, 0], expected, rtol=1e-10)
    assert "p" not in found
    with_itself = rsa.compare_adaptively(rows, rows, permutations=0)["dependence"].values
    np.testing.assert_allclose(np.diag(with_itself), 1, rtol=1e-12)
    assert (with_itself[~np.eye(3, dtype=bool)] < 0.9).all()


def test_search_and_chance_agree_with_brute_force(rows, monkeypatch):
    grid = [0, 0.4, 0.7, 1]
    pairs = [
        (low, high) for low in grid for high in grid if low <= high and (low, high) not in ((0, 0), (1, 1))
    ]

    def bent(row):
        return np.stack([squareform(rsa.transform_rdms(row, *pair)) for pair in pairs])

    def largest(a, b):
        return max((distance_correlation(x, y), i, j) for i, x in enumerate(a) for j, y in enumerate(b))

    a, b = bent(rows[0]), bent(rows[1])
    value, first, second = largest(a, b)
    rng = np.random.default_rng(5)
    orders = [rng.permuted(np.arange(14)[None], axis=1)[0] for _ in range(12)]
    expected = (1 + sum(largest(a, b[:, o][:, :, o])[0] >= value for o in orders)) / 13
    monkeypatch.setattr(module, "CHUNK", 1)
    found = rsa.compare_adaptively(rows[0], rows[1], grid=grid, permutations=12, random_state=5)
    assert found["dependence"].item() == pytest.approx(value, rel=1e-10)
    assert (found["lower_a"].item(), found["upper_a"].item()) == pairs[first]
    assert (found["lower_b"].item(), found["upper_b"].item()) == pairs[second]
    assert found["p"].item() == pytest.approx(expected)


def test_neighbourhoods_that_a_correlation_misses_are_found():
    rng = np.random.default_rng(1)
    groups = np.arange(24) // 4
    near = (groups[:, None] == groups)[np.triu_indices(24, 1)]
    a, b = (
        np.where(near, rng.uniform(0, 1, near.size), 1 + 30 * rng.pareto(0.7, near.size)) for _ in range(2)
    )
    found = rsa.compare_adaptively(a, b, permutations=100, random_state=0)
    assert found["p"].item() == pytest.approx(1 / 101)
    assert rsa.compare(a, b, "pearson") < 0.2 < 0.9 < found["dependence"].item()


def test_independent_rdms_have_uniform_p():
    rng = np.random.default_rng(0)
    a, b = (np.stack([pdist(rng.normal(size=(12, 3))) for _ in range(15)]) for _ in range(2))
    p = rsa.compare_adaptively(a, b, grid=[0, 0.3, 0.7, 1], permutations=60, random_state=0)["p"].values
    assert 0.4 < p.mean() < 0.6
    assert (p <= 0.05).mean() < 0.12


def test_labelled_rdms_are_matched_and_named(rows):
    pairs = {
        name: [f"s{k}" for k in index]
        for name, index in zip(("stimulus_a", "stimulus_b"), np.triu_indices(14, 1), strict=True)
    }
    arrays = [
        neuro.assemble(row[None], rdm={"neuroid_id": [name]}, pair=pairs, modality="x", units="1")
        for row, name in zip(rows, ("V1", "V4", "IT"), strict=True)
    ]
    order = np.random.default_rng(0).permutation(91)
    found = rsa.compare_adaptively(arrays[0], arrays[1].isel(pair=order), permutations=20, random_state=1)
    plain = rsa.compare_adaptively(torch.as_tensor(rows[0]), rows[1], permutations=20, random_state=1)
    assert (found.rdm_a.item(), found.rdm_b.item()) == ("V1", "V4")
    assert found["dependence"].item() == pytest.approx(plain["dependence"].item(), rel=1e-10)
    assert found["p"].item() == plain["p"].item()
    with pytest.raises(TypeError, match="one of a and b is labelled"):
        rsa.compare_adaptively(arrays[0], rows[1])


BAD = {
    "lengths": (lambda r: rsa.compare_adaptively(r, r[:, :78]), "a has 91 dissimilarities and b 78"),
    "pairs": (lambda r: rsa.compare_adaptively(r[:, :5], r[:, :5]), "5 dissimilarities a row"),
    "missing": (lambda r: rsa.compare_adaptively(r, np.where(r > 4, np.nan, r)), r"b\[0\] has missing"),
    "constant": (lambda r: rsa.compare_adaptively(r, 0 * r + 1), r"RDM 'b\[0\]' is constant"),
    "kind": (lambda r: rsa.compare_adaptively(r, r, kind="rank"), "use 'relative' or 'absolute'"),
    "grid": (lambda r: rsa.compare_adaptively(r, r, grid=[-1, 1]), "from 0 to 1"),
    "permutations": (lambda r: rsa.compare_adaptively(r, r, permutations=1.5), "permutations is 1.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(rows, case):
    call, match = BAD[case]
    with pytest.raises(ValueError, match=match) as error:
        call(rows)
    assert "\n" not in str(error.value)
