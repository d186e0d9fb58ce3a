"""Comparison of labelled and plain RDMs: matched by stimulus, whatever the order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.rsa.pairs import pair_table

METHODS = {
    "pearson": "corr",
    "spearman": "spearman",
    "cosine": "cosine",
    "tau-a": "tau-a",
    "tau-b": "tau-b",
    "rho-a": "rho-a",
    "whitened-pearson": "corr_cov",
    "whitened-cosine": "cosine_cov",
}
RANKS = ["spearman", "tau-a", "tau-b", "rho-a"]


def labelled(vectors, stimuli=None, **rdm):
    """RDMs of five stimuli, or of those given."""
    stimuli = np.array(list("abcde" if stimuli is None else stimuli))
    ids = [f"m{k}" for k in range(len(vectors))]
    return neuro.assemble(
        vectors, rdm={"neuroid_id": ids, **rdm}, pair=pair_table(stimuli), modality="fmri", units="1"
    )


@pytest.fixture
def a():
    return labelled(np.random.default_rng(0).random((3, 10)), region=["V1", "V4", "IT"])


@pytest.fixture
def b():
    return labelled(np.random.default_rng(1).integers(0, 3, (2, 10)), layer=["conv1", "fc"])


@pytest.mark.parametrize("method", METHODS)
def test_agrees_with_rsatoolbox(a, b, method):
    peer = pytest.importorskip("rsatoolbox")
    found = rsa.compare(a, b, method)
    assert found.dims == ("rdm_a", "rdm_b")
    expected = peer.rdm.compare(a.values, b.values.astype(float), METHODS[method])
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(rsa.compare(a.values, b.values, method), expected, rtol=0, atol=1e-10)


def test_both_sides_keep_their_labels(a, b):
    found = rsa.compare(a, b)
    assert found.region_a.values.tolist() == ["V1", "V4", "IT"]
    assert found.layer_b.values.tolist() == ["conv1", "fc"]
    assert found.sel(rdm_a="m2", rdm_b="m1").item() == pytest.approx(
        spearmanr(a.values[2], b.values[1]).statistic
    )


def scrambled(rdms, rng):
    """The same dissimilarities: pairs in another order, half of them the other way round."""
    order, swap = rng.permutation(rdms.sizes["pair"]), rng.random(rdms.sizes["pair"]) < 0.5
    moved = rdms.isel(pair=order)
    first, second = moved.stimulus_a.values, moved.stimulus_b.values
    return moved.assign_coords(
        stimulus_a=("pair", np.where(swap, second, first)), stimulus_b=("pair", np.where(swap, first, second))
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(METHODS)))
def test_order_and_orientation_of_pairs_do_not_matter(seed, method):
    rng = np.random.default_rng(seed)
    a, b = labelled(rng.random((2, 10))), labelled(rng.random((3, 10)))
    expected = rsa.compare(a, b, method)
    np.testing.assert_allclose(rsa.compare(a, scrambled(b, rng), method).values, expected.values, atol=1e-12)
    np.testing.assert_allclose(rsa.compare(scrambled(a, rng), b, method).values, expected.values, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(METHODS)))
def test_what_stimuli_are_called_does_not_matter(seed, method):
    rng = np.random.default_rng(seed)
    a, b = labelled(rng.random((2, 10))), labelled(rng.random((3, 10)))
    names = rng.permutation(5)
    renamed = [labelled(each.values, stimuli=names) for each in (a, b)]
    np.testing.assert_array_equal(rsa.compare(*renamed, method).values, rsa.compare(a, b, method).values)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(RANKS))
def test_ranks_see_no_monotone_transform(seed, method):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, (2, 12)).astype(float), rng.random((3, 12))
    a[:, 0] = 7
    np.testing.assert_allclose(rsa.compare(np.exp(a), b**3, method), rsa.compare(a, b, method), atol=1e-12)
    np.testing.assert_allclose(rsa.compare(-a, b, method), -rsa.compare(a, b, method), atol=1e-12)


def test_one_set_is_compared_with_itself(a):
    found = rsa.compare(a, method="tau-a")
    np.testing.assert_allclose(found.values, found.values.T)
    np.testing.assert_allclose(np.diag(found.values), 1)


@pytest.mark.parametrize("method", METHODS)
def test_plain_vectors_give_back_what_came_in(method):
    x, y = np.random.default_rng(0).random((3, 10)), np.random.default_rng(1).random((2, 10))
    whole = rsa.compare(x, y, method)
    assert isinstance(rsa.compare(x[0], y[1], method), float)
    assert rsa.compare(x[0], y[1], method) == pytest.approx(whole[0, 1], abs=1e-12)
    assert rsa.compare(x[0], y, method).shape == (2,)
    tensor = rsa.compare(torch.tensor(x), torch.tensor(y), method)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), whole)
    assert rsa.compare(x.tolist(), y.tolist(), method).shape == (3, 2)


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_is_compared_in_double(a, b, method, device):
    peer = pytest.importorskip("rsatoolbox")
    a, b = a.astype(np.float32), b.astype(np.float32)
    expected = peer.rdm.compare(a.values.astype(float), b.values.astype(float), METHODS[method])
    np.testing.assert_allclose(rsa.compare(a, b, method, device=device).values, expected, atol=1e-10)


def test_unrelated_rdms_are_not_similar():
    rng = np.random.default_rng(3)
    for method in METHODS:
        found = rsa.compare(rng.normal(size=(40, 190)), rng.normal(size=(40, 190)), method)
        assert abs(found.mean()) < 4 * found.std() / 40
        assert found.std() < 2 / 190**0.5


def changed(rdms, at, value):
    values = np.array(rdms.values, dtype=float)
    values[at] = value
    return rdms.copy(data=values)


BAD = {
    "stimuli": (
        lambda a, b: (a, labelled(b.values, stimuli="abcxy")),
        r"different stimuli: 2 only in a \('d', 'e'\) and 2 only in b \('x', 'y'\); select",
    ),
    "types": (
        lambda a, b: (labelled(a.values, stimuli=range(5)), labelled(b.values, stimuli="01234")),
        r"5 only in a \(0, 1, 2, …\) and 5 only in b \('0', '1', '2', …\)",
    ),
    "fewer pairs": (lambda a, b: (a, b[:, :9]), "same stimuli, but not the same pairs"),
    "pairs twice": (lambda a, b: (a[:, [0, 0, *range(2, 10)]], b), "same stimuli, but not the same pairs"),
    "constant": (
        lambda a, b: (changed(a, 1, 0.5), b),
        "RDM 'm1' of a is constant, so its spearman similarity",
    ),
    "infinite": (lambda a, b: (b, changed(a, (2, 3), np.inf)), "RDM 'm2' of b has 1 missing or infinite"),
    "single": (lambda a, b: (a[0], b), r"select it with isel\(rdm=\[0\]\)"),
    "three stimuli": (lambda a, b: (labelled([[1.0, 2.0, 3.0]], stimuli="xyz"),) * 2, "a has 3 stimuli"),
    "one pair": (lambda a, b: ([1.0], [2.0]), "RDM 0 of a has 1 dissimilarities; comparing needs"),
    "length": (lambda a, b: (a.values, b.values[:, 1:]), r"a has the shape \(3, 10\) and b \(2, 9\)"),
    "axes": (lambda a, b: (a.values[None], b.values), "give vectors"),
    "plain constant": (lambda a, b: ([1, 1, 1], [1, 2, 3]), "RDM 0 of a is constant"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(a, b, case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message) as error:
        rsa.compare(*call(a, b))
    assert "\n" not in str(error.value)


def test_a_zero_rdm_has_no_cosine(a):
    with pytest.raises(ValueError, match="RDM 'm0' of a is zero, so its cosine similarity is undefined"):
        rsa.compare(changed(a, 0, 0.0), method="cosine")


def test_unknown_methods_and_mixed_kinds_are_refused(a):
    with pytest.raises(ValueError, match="method='kendall' is unknown; use 'pearson', 'spearman'"):
        rsa.compare(a, method="kendall")
    with pytest.raises(TypeError, match="one of the sets of RDMs is labelled"):
        rsa.compare(a, a.values)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device='cuda' was asked for"):
            rsa.compare(a, device="cuda")


def patterns_of(m, seed=0, n=6):
    """RDMs of squared distances, with more units than stimuli."""
    rng = np.random.default_rng(seed)
    return np.stack([pdist(rng.normal(size=(n, 9)), "sqeuclidean") for _ in range(m)])


def noise_of(n=6, seed=4):
    loadings = np.random.default_rng(seed).normal(size=(n, 20))
    return loadings @ loadings.T / 20


MATRICES = {"bures": "bures", "riemannian": "neg_riem_dist"}


@pytest.mark.parametrize("method", MATRICES)
def test_second_moments_agree_with_rsatoolbox(method):
    peer = pytest.importorskip("rsatoolbox")
    a, b = patterns_of(2), patterns_of(3, 1)
    expected = peer.rdm.compare(a, b, MATRICES[method])
    np.testing.assert_allclose(rsa.compare(a, b, method), expected, atol=1e-7)


@pytest.mark.parametrize("method", ["whitened-pearson", "whitened-cosine", "riemannian"])
@pytest.mark.parametrize("diagonal", [False, True])
def test_a_noise_covariance_agrees_with_rsatoolbox(method, diagonal):
    peer = pytest.importorskip("rsatoolbox")
    a, b, noise = patterns_of(2), patterns_of(3, 1), noise_of()
    noise = np.diag(noise.diagonal()) if diagonal else noise
    expected = peer.rdm.compare(a, b, (METHODS | MATRICES)[method], sigma_k=noise)
    sigma = noise.diagonal() if diagonal else noise
    # theirs solves by conjugate gradients, or by a simplex, to no more than that
    np.testing.assert_allclose(rsa.compare(a, b, method, sigma=sigma), expected, atol=5e-5)


@pytest.mark.parametrize("method", ["whitened-pearson", "whitened-cosine", "riemannian"])
def test_a_noise_covariance_goes_with_single_precision(method):
    a, b, noise = patterns_of(2).astype(np.float32), patterns_of(3, 1).astype(np.float32), noise_of()
    expected = rsa.compare(a.astype(float), b.astype(float), method, sigma=noise)
    np.testing.assert_allclose(rsa.compare(a, b, method, sigma=noise), expected, rtol=1e-6)
    named = rsa.compare(labelled(a, "abcdef"), labelled(b, "abcdef"), method, sigma=noise)
    np.testing.assert_allclose(named.values, expected, rtol=1e-6)


@pytest.mark.parametrize("method", ["whitened-pearson", "bures", "riemannian"])
def test_matrices_are_read_by_stimulus_not_by_position(method):
    rng = np.random.default_rng(0)
    a, b = (labelled(patterns_of(2, seed), stimuli="abcdef") for seed in (0, 1))
    expected = rsa.compare(a, b, method).values
    found = rsa.compare(scrambled(a, rng), scrambled(b, rng), method).values
    np.testing.assert_allclose(found, expected, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["pearson", "cosine", *MATRICES, "whitened-cosine", "whitened-pearson"]),
)
def test_scale_does_not_matter(seed, method):
    a, b = patterns_of(2, seed), patterns_of(2, seed + 1)
    expected = rsa.compare(a, b, method)
    np.testing.assert_allclose(rsa.compare(1e3 * a, b, method), expected, atol=1e-6)
    if method != "riemannian":
        np.testing.assert_allclose(rsa.compare(a, b / 7, method), expected, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([*METHODS, *MATRICES]))
def test_the_order_of_stimuli_does_not_matter(seed, method):
    a, b = patterns_of(2, seed), patterns_of(2, seed + 1)
    order = np.random.default_rng(seed).permutation(6)
    moved = [np.stack([squareform(squareform(v)[np.ix_(order, order)]) for v in side]) for side in (a, b)]
    np.testing.assert_allclose(rsa.compare(*moved, method), rsa.compare(a, b, method), atol=1e-6)


@pytest.mark.parametrize("method", ["spearman", "whitened-cosine", "tau-b"])
def test_parts_of_the_larger_set_change_nothing(monkeypatch, method):
    a, b = patterns_of(2), patterns_of(7, 1)
    whole = rsa.compare(a, b, method)
    monkeypatch.setattr("cerebridge.encoding.rsa.comparison.CHUNK", 30)
    np.testing.assert_allclose(rsa.compare(a, b, method), whole, atol=1e-14)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("bures", {"sigma": np.eye(6)}, "method='bures' does not use sigma="),
        (
            "whitened-cosine",
            {"sigma": np.eye(5)},
            r"sigma has the shape \(5, 5\); for 15 dissimilarities .* of 6 conditions",
        ),
        ("whitened-cosine", {"sigma": np.tri(6)}, "sigma is not symmetric"),
        ("whitened-cosine", {"sigma": np.ones((6, 6))}, "sigma is singular"),
    ],
)
def test_bad_noise_is_refused_in_one_sentence(method, options, message):
    with pytest.raises(ValueError, match=message) as error:
        rsa.compare(patterns_of(2), method=method, **options)
    assert "\n" not in str(error.value)


def test_matrices_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="reads matrices, and RDM 0 of a is none: 7 dissimilarities"):
        rsa.compare(np.random.default_rng(0).random((2, 7)), method="bures")
    flat = pdist(np.random.default_rng(0).normal(size=(6, 3)), "sqeuclidean")
    with pytest.raises(ValueError, match="RDM 0 of b has second moments that are singular"):
        rsa.compare(patterns_of(1), flat, "riemannian")
    assert np.isfinite(rsa.compare(flat, patterns_of(1), "riemannian"))
