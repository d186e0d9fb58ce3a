"""Partial and semi-partial similarity against regression, and missing pairs against dropped ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, rankdata, spearmanr

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.engine.similarity import MATRIX_METHODS, METHODS
from cerebridge.encoding.rsa.pairs import pair_table

PLAIN = [method for method in METHODS if method not in MATRIX_METHODS]
THEIRS = {
    "pearson": "corr",
    "whitened-pearson": "corr_cov",
    "whitened-cosine": "cosine_cov",
    "riemannian": "neg_riem_dist",
}


def labelled(vectors, n, prefix="m"):
    ids = [f"{prefix}{k}" for k in range(len(vectors))]
    return neuro.assemble(
        vectors, rdm={"neuroid_id": ids}, pair=pair_table(np.arange(n)), modality="fmri", units="1"
    )


def distances(m, n=8, units=12, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([pdist(rng.normal(size=(n, units)), "sqeuclidean") for _ in range(m)])


def residual(row, covariates, intercept=True):
    X = np.column_stack([*covariates, *([np.ones(len(row))] if intercept else [])])
    return row - X @ np.linalg.lstsq(X, row, rcond=None)[0]


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("n_covariates", [1, 2])
def test_partial_similarity_is_that_of_residuals(method, n_covariates):
    a, b, c = distances(2), distances(3, seed=1), distances(n_covariates, seed=2)
    a[0] += c[0]
    to_rows = (lambda v: rankdata(v, axis=-1)) if method == "spearman" else (lambda v: v)
    x, y, z = map(to_rows, (a, b, c))
    found = {semi: rsa.compare(a, b, method, given=c, semi=semi) for semi in (False, "a", "b")}
    for i in range(2):
        for j in range(3):
            left, right = residual(x[i], z), residual(y[j], z)
            for semi, pair in {False: (left, right), "a": (left, y[j]), "b": (x[i], right)}.items():
                assert found[semi][i, j] == pytest.approx(pearsonr(*pair).statistic, abs=1e-12)


def test_one_covariate_is_the_formula_of_three_correlations():
    a, b, c = distances(3)
    ab, ac, bc = (spearmanr(*pair).statistic for pair in ((a, b), (a, c), (b, c)))
    expected = (ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2))
    assert rsa.compare(a, b, given=c) == pytest.approx(expected, abs=1e-12)


def test_covariates_leave_the_loss_to_ties_as_it_was():
    a, b, c = distances(1)[0], distances(1, seed=1)[0], distances(1, seed=2)[0]
    tied = np.digitize(a, np.quantile(a, [0.3, 0.6]))
    ratio = rsa.compare(tied, b, "rho-a") / rsa.compare(tied, b, "spearman")
    assert ratio < 0.98
    rho, spearman = (rsa.compare(tied, b, method, given=c) for method in ("rho-a", "spearman"))
    assert rho / spearman == pytest.approx(ratio)


def test_whitened_partial_similarity_is_generalised_least_squares():
    a, b, c = distances(3, n=5)
    contrasts = np.zeros((10, 5))
    for row, (i, j) in enumerate(zip(*np.triu_indices(5, 1), strict=True)):
        contrasts[row, [i, j]] = 1, -1
    root = np.linalg.cholesky(np.linalg.inv((contrasts @ contrasts.T) ** 2)).T
    x, y, z = (root @ v for v in (a, b, c))
    left, right = residual(x, [z], False), residual(y, [z], False)
    expected = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
    assert rsa.compare(a, b, "whitened-cosine", given=c) == pytest.approx(expected, abs=1e-10)


def test_a_model_that_is_all_covariate_and_noise_is_left_with_nothing():
    rng = np.random.default_rng(3)
    c = rng.normal(size=1225)
    models, data = (c + rng.normal(size=(20, 1225)) for _ in range(2))
    raw, after = (rsa.compare(models, data, "pearson", given=given) for given in (None, c))
    assert raw.mean() > 0.4
    assert abs(after.mean()) < 4 * after.std() / 20
    assert after.std() < 2 / 35


def test_labelled_covariates_are_matched_by_stimulus():
    a, b, c = (labelled(distances(k, seed=k), 8) for k in (2, 3, 1))
    expected = rsa.compare(a.values, b.values, given=c.values)
    order = np.random.default_rng(0).permutation(28)
    found = rsa.compare(a, b, given=c[:, order])
    assert found.dims == ("rdm_a", "rdm_b")
    np.testing.assert_allclose(found.values, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"given": np.vstack([distances(2), distances(2).sum(0)]), "method": "pearson"},
            "covariate 2 is collinear",
        ),
        ({"given": distances(1)}, "RDM 0 of a is a combination of the covariates"),
        (
            {"given": distances(1, seed=9), "method": "tau-a"},
            "method='tau-a' cannot take out covariates; use 'pearson'",
        ),
        ({"given": distances(1, seed=9), "semi": True}, "semi=True does not say which side"),
        ({"semi": "a"}, "semi= needs covariates"),
        ({"given": np.ones(28)}, "RDM 0 of given is constant"),
        ({"given": distances(1)[:, 1:]}, r"a has the shape \(2, 28\) and given \(1, 27\)"),
    ],
)
def test_bad_covariates_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        rsa.compare(distances(2), distances(3, seed=5), **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", METHODS)
def test_missing_pairs_are_dropped_for_each_two_rdms(method):
    a, b = distances(3), distances(2, seed=1)
    a[1, :7] = np.nan  # all pairs of the first condition
    b[1, [6, 12, 17, 21, 24, 26, 27]] = np.nan  # all of the last
    expected = np.empty((3, 2))
    for i in range(3):
        for j in range(2):
            known = ~np.isnan(a[i] + b[j])
            expected[i, j] = rsa.compare(a[i][known], b[j][known], method)
    with pytest.warns(UserWarning, match="13 of 28 dissimilarities are missing in some RDM"):
        np.testing.assert_allclose(rsa.compare(a, b, method), expected, atol=1e-10)
    found = rsa.compare(labelled(a, 8), labelled(b, 8, "d"), method)
    assert found.attrs["missing_pairs"] == 13
    np.testing.assert_allclose(found.values, expected, atol=1e-10)
    assert "missing_pairs" not in rsa.compare(labelled(a[:1], 8), method=method).attrs


@pytest.mark.parametrize("method", [*PLAIN, "whitened-cosine"])
def test_missing_pairs_agree_with_rsatoolbox(method):
    peer = pytest.importorskip("rsatoolbox")
    a, b = distances(3), distances(2, seed=1)
    a[:, [3, 11, 20]] = b[:, [3, 11, 20]] = np.nan
    expected = peer.rdm.compare(a, b, THEIRS.get(method, method))
    with pytest.warns(UserWarning, match="3 of 28"):
        np.testing.assert_allclose(rsa.compare(a, b, method), expected, atol=1e-10)


@pytest.mark.parametrize("method", ["whitened-pearson", "whitened-cosine"])
def test_whitened_similarity_misses_single_pairs_exactly(method):
    a, b = distances(2)
    known = np.ones(28, bool)
    known[[3, 11, 20]] = False
    contrasts = np.zeros((28, 8))
    for row, (i, j) in enumerate(zip(*np.triu_indices(8, 1), strict=True)):
        contrasts[row, [i, j]] = 1, -1
    inverse = np.linalg.inv((contrasts @ contrasts.T)[np.ix_(known, known)] ** 2)
    x, y = (v[known] - (v[known].mean() if method == "whitened-pearson" else 0) for v in (a, b))
    expected = x @ inverse @ y / np.sqrt((x @ inverse @ x) * (y @ inverse @ y))
    a[~known] = np.nan
    with pytest.warns(UserWarning, match="3 of 28"):
        assert rsa.compare(a, b, method) == pytest.approx(expected, abs=1e-10)


def test_missing_pairs_of_covariates_count_for_nobody():
    a, b, c = distances(2), distances(2, seed=1), distances(1, seed=2)
    c[0, [4, 5]] = np.nan
    known = ~np.isnan(c[0])
    expected = rsa.compare(a[:, known], b[:, known], given=c[:, known])
    with pytest.warns(UserWarning, match="2 of 28"):
        np.testing.assert_allclose(rsa.compare(a, b, given=c), expected, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(PLAIN))
def test_any_pattern_of_missing_pairs_is_exact(seed, method):
    rng = np.random.default_rng(seed)
    a, b = rng.random((4, 28)), rng.integers(0, 5, (3, 28)).astype(float)
    a[rng.random(a.shape) < 0.2] = np.nan
    b[rng.random(b.shape) < 0.1] = np.nan
    with pytest.warns(UserWarning, match="of 28 dissimilarities"):
        found = rsa.compare(a, b, method)
    for i in range(4):
        for j in range(3):
            known = ~np.isnan(a[i] + b[j])
            assert found[i, j] == pytest.approx(rsa.compare(a[i][known], b[j][known], method), abs=1e-12)


@pytest.mark.parametrize("method", ["bures", "riemannian"])
def test_matrices_need_whole_conditions(method):
    a = distances(2)
    a[0, 3] = np.nan
    with pytest.raises(ValueError, match="leave out the conditions that lack pairs") as error:
        rsa.compare(a, distances(2, seed=1), method)
    assert "\n" not in str(error.value)


def test_rdms_that_know_no_pair_together_are_refused():
    a, b = distances(1), distances(1, seed=1)
    a[0, :14], b[0, 13:] = np.nan, np.nan
    with pytest.raises(ValueError, match="0 dissimilarities that are not missing on either side"):
        rsa.compare(a, b)
