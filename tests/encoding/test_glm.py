"""Count encoders: scikit-learn's and the peers' answers, labels, masks, invariances, and every bad input."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.metrics import d2_tweedie_score
from sklearn.model_selection import KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import neuro
from cerebridge.encoding.evaluation import evaluate
from cerebridge.encoding.glm import BernoulliGLM, NegativeBinomialGLM, PoissonGLM
from cerebridge.encoding.persistence import load, save

ALPHAS = np.logspace(-4, 0, 5)

pytestmark = pytest.mark.filterwarnings("ignore:.*edge of the grid")
GLMS = [PoissonGLM, NegativeBinomialGLM, BernoulliGLM]


@parametrize_with_checks([PoissonGLM([1e-2, 1.0], cv=2), NegativeBinomialGLM(1e-2)])
def test_the_contract_of_scikit_learn(estimator, check):
    if check.func.__name__ == "check_regressor_multioutput":
        pytest.skip("fits negative targets")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def simulate(
    n: int = 300, p: int = 5, targets: int = 4, seed: int = 0, binary: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) @ (np.eye(p) + 0.5 * rng.standard_normal((p, p))) + 1
    predictor = (X - 1) @ rng.standard_normal((p, targets)) / np.sqrt(p) * np.linspace(0.1, 0.7, targets)
    counts = rng.poisson(np.exp(predictor - 0.5)).astype(float)
    return X, np.minimum(counts, 1) if binary else counts


@pytest.mark.parametrize("p", [4, 30])
@pytest.mark.parametrize("alpha", [1e-4, 1e-1])
def test_agrees_with_scikit_learn_for_every_target(p, alpha):
    X, Y = simulate(p=p)
    glm = PoissonGLM(alpha, tol=1e-8).fit(X, Y)
    for t in range(Y.shape[1]):
        peer = PoissonRegressor(alpha=alpha, tol=1e-10, solver="newton-cholesky").fit(X, Y[:, t])
        np.testing.assert_allclose(glm.coef_[t], peer.coef_, atol=1e-6)
        assert glm.intercept_[t] == pytest.approx(peer.intercept_, abs=1e-6)
        np.testing.assert_allclose(glm.predict(X)[:, t], peer.predict(X), rtol=1e-5)
    assert glm.converged_.all()
    assert glm.n_iter_.max() < 30
    X, Y = simulate(p=p, binary=True)
    glm = BernoulliGLM(alpha, tol=1e-8).fit(X, Y)
    for t in range(Y.shape[1]):
        peer = LogisticRegression(C=1 / (alpha * len(X)), tol=1e-10, solver="newton-cholesky").fit(X, Y[:, t])
        np.testing.assert_allclose(glm.coef_[t], peer.coef_[0], atol=1e-5)
        np.testing.assert_allclose(glm.predict(X)[:, t], peer.predict_proba(X)[:, 1], atol=1e-5)


@pytest.mark.parametrize("p", [4, 12])
def test_softplus_link_against_a_general_minimiser(p):
    X, Y = simulate(p=p, targets=2)
    glm = PoissonGLM(1e-2, link="softplus", tol=1e-8).fit(X, Y)

    def objective(parameters, y):
        rate = np.logaddexp(0, X @ parameters[1:] + parameters[0])
        return np.mean(rate - y * np.log(rate)) + 0.5e-2 * (parameters[1:] ** 2).sum()

    for t in range(2):
        found = optimize.minimize(objective, np.zeros(p + 1), args=(Y[:, t],), method="BFGS", tol=1e-8)
        np.testing.assert_allclose(glm.coef_[t], found.x[1:], atol=1e-4)
        assert objective(np.r_[glm.intercept_[t], glm.coef_[t]], Y[:, t]) <= found.fun + 1e-9


@pytest.mark.parametrize("p", [3, 12])
def test_negative_binomial_against_a_general_minimiser(p):
    rng = np.random.default_rng(1)
    X, _ = simulate(600, p)
    rate = np.exp(0.4 * X[:, 0]) * rng.gamma(1.5, 1 / 1.5, 600)
    y = rng.poisson(rate).astype(float)
    glm = NegativeBinomialGLM(1e-3, tol=1e-7).fit(X, y)

    def objective(parameters):
        size, mean = np.exp(-parameters[0]), np.exp(X @ parameters[2:] + parameters[1])
        likelihood = stats.nbinom.logpmf(y, size, size / (size + mean)).mean()
        return -likelihood + 0.5e-3 * (parameters[2:] ** 2).sum()

    start = np.zeros(p + 2)
    found = optimize.minimize(
        objective, start, method="L-BFGS-B", options={"ftol": 1e-14, "gtol": 1e-9, "maxfun": 10**5}
    )
    ours = np.r_[np.log(glm.dispersion_), glm.intercept_, glm.coef_]
    assert objective(ours) <= found.fun + 1e-8
    np.testing.assert_allclose(ours, found.x, atol=2e-3)
    assert 0.4 < glm.dispersion_ < 0.9
    assert NegativeBinomialGLM(1e-3).fit(X, rng.poisson(2.0, 600)).dispersion_ < 0.05


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_elastic_net_is_optimal_and_sparse(l1_ratio):
    X, Y = simulate(p=12)
    alpha = 0.03
    glm = PoissonGLM(alpha, l1_ratio=l1_ratio, tol=1e-7).fit(X, Y)
    gradient = X.T @ (glm.predict(X) - Y) / len(X) + alpha * (1 - l1_ratio) * glm.coef_.T
    zero = glm.coef_.T == 0
    assert 0 < zero.mean() < 1
    assert (np.abs(gradient[zero]) <= alpha * l1_ratio + 1e-6).all()
    np.testing.assert_allclose(gradient[~zero], -alpha * l1_ratio * np.sign(glm.coef_.T[~zero]), atol=1e-6)
    np.testing.assert_allclose((glm.predict(X) - Y).mean(0), 0, atol=1e-6)


@pytest.mark.slow
def test_agrees_with_nemos():
    nemos = pytest.importorskip("nemos")
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        X, Y = simulate(p=6)
        solver = {"solver_kwargs": {"tol": 1e-10, "maxiter": 5000}}
        net = nemos.glm.PopulationGLM(
            regularizer="ElasticNet",
            regularizer_strength=(2e-2, 0.5),
            solver_name="ProximalGradient",
            **solver,
        ).fit(X, Y)
        sparse = PoissonGLM(2e-2, l1_ratio=0.5, tol=1e-8).fit(X, Y)
        np.testing.assert_allclose(sparse.coef_, np.asarray(net.coef_).T, atol=1e-5)
        np.testing.assert_array_equal(sparse.coef_ == 0, np.asarray(net.coef_).T == 0)
    finally:
        jax.config.update("jax_enable_x64", before)


def test_penalties_are_chosen_by_the_deviance_of_all_held_out_samples():
    X, Y = simulate(n=120, p=10)
    glm = PoissonGLM(ALPHAS, cv=KFold(3), tol=1e-8).fit(X, Y)
    for t in range(Y.shape[1]):
        scores = []
        for alpha in ALPHAS:
            predicted, null = np.zeros(len(X)), np.zeros(len(X))
            for train, test in KFold(3).split(X):
                peer = PoissonRegressor(alpha=alpha, tol=1e-9, solver="newton-cholesky").fit(
                    X[train], Y[train, t]
                )
                predicted[test], null[test] = peer.predict(X[test]), Y[train, t].mean()
            lost, lost_by_null = (
                2 * (special.xlogy(Y[:, t], Y[:, t] / rate) - Y[:, t] + rate).sum()
                for rate in (predicted, null)
            )
            scores.append(1 - lost / lost_by_null)
        np.testing.assert_allclose(glm.cv_scores_[:, t], scores, atol=1e-6)
        assert glm.alpha_[t] == ALPHAS[np.argmax(scores)]
        assert glm.best_score_[t] == pytest.approx(max(scores), abs=1e-6)
    chosen = PoissonGLM(ALPHAS, cv=KFold(3), tol=1e-8, scoring="mcfadden").fit(X, Y)
    np.testing.assert_array_equal(chosen.alpha_, glm.alpha_)
    assert (np.abs(chosen.best_score_) < np.abs(glm.best_score_)).all()


def test_score_is_the_share_of_deviance():
    X, Y = simulate()
    glm = PoissonGLM(1e-3).fit(X, Y)
    shares = [d2_tweedie_score(y, rate, power=1) for y, rate in zip(Y.T, glm.predict(X).T, strict=True)]
    assert glm.score(X, Y) == pytest.approx(np.mean(shares))
    doubled = glm.score(np.r_[X, X[:50]], np.r_[Y, Y[:50]])
    assert glm.score(X, Y, np.r_[np.full(50, 2.0), np.ones(len(X) - 50)]) == pytest.approx(doubled)


@pytest.mark.parametrize("glm", GLMS)
def test_noise_is_not_explained_and_signal_is(glm):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 6))
    rates = np.column_stack([np.exp(X[:, 0] - 1), np.full(600, 0.4)])
    Y = np.minimum(rng.poisson(rates), 1)
    fitted = glm().fit(X[:400], Y[:400])
    assert fitted.best_score_[0] > 0.1
    assert abs(fitted.best_score_[1]) < 0.02
    assert fitted.alpha_[1] > fitted.alpha_[0]
    held_out = glm().fit(X[:400], rng.permutation(Y[:400])).score(X[400:], Y[400:])
    assert held_out < 0.01


@pytest.mark.parametrize("glm", GLMS)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_what_comes_in_goes_out(glm, kind, device, dtype):
    X, Y = (torch.from_numpy(x).to(device, dtype) for x in simulate(p=12, binary=True))
    if kind == "numpy":
        X, Y = X.cpu().numpy(), Y.cpu().numpy()
    fitted = glm(1e-2, device=device).fit(X, Y)
    expected = torch.Tensor if kind == "torch" else np.ndarray
    for result in (fitted.predict(X), fitted.coef_, fitted.intercept_, fitted.baseline_):
        assert isinstance(result, expected)
        assert torch.as_tensor(result).dtype == dtype
        assert kind == "numpy" or result.device.type == device
    reference = glm(1e-2).fit(*simulate(p=12, binary=True))
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    np.testing.assert_allclose(torch.as_tensor(fitted.coef_).cpu(), reference.coef_, atol=tolerance)


def recording() -> tuple[xr.DataArray, xr.DataArray]:
    X, Y = simulate(n=80, p=3, targets=2)
    time = {
        "time_bin_start": np.arange(80) * 0.1,
        "time_bin_end": np.arange(1, 81) * 0.1,
        "run": np.arange(80) // 20,
    }
    features = neuro.assemble(
        X,
        time_bin=time,
        neuroid={"neuroid_id": ["x", "y", "z"]},
        modality="behavior",
        units="a.u.",
        sfreq=10.0,
    )
    counts = neuro.assemble(
        Y,
        time_bin=time,
        neuroid={"neuroid_id": ["a", "b"], "region": ["M1", "PMd"]},
        modality="spikes",
        units="spikes/bin",
        sfreq=10.0,
    )
    return features, counts


@pytest.mark.parametrize("glm", [PoissonGLM, NegativeBinomialGLM])
def test_labels_stay_on_everything(glm, tmp_path):
    features, counts = recording()
    fitted = glm(ALPHAS, cv=4).fit(features, counts, groups="run")
    assert fitted.coef_.dims == ("neuroid", "feature")
    assert list(fitted.coef_.feature_neuroid_id.values) == ["x", "y", "z"]
    for result in (
        fitted.coef_,
        fitted.alpha_,
        fitted.converged_,
        fitted.cv_scores_,
        fitted.predict(features),
    ):
        assert list(result.region.values) == ["M1", "PMd"]
    save(tmp_path / "glm.skops", fitted)
    for again in (load(tmp_path / "glm.skops"), copy.deepcopy(fitted)):
        xr.testing.assert_identical(again.predict(features), fitted.predict(features))
        assert again.score(features, counts) == fitted.score(features, counts)


def test_evaluate_scores_it_by_pseudo_r2():
    features, counts = recording()
    result = evaluate(PoissonGLM(ALPHAS), features, counts, groups="run", scoring="pseudo_r2")
    assert result.dataset["score"].dims == ("model", "split", "unit")
    assert np.isfinite(result.dataset["score"].values).all()
    assert result.dataset["alpha"].shape == result.dataset["score"].shape


def test_a_mask_fits_each_target_to_its_own_features():
    X, Y = simulate(p=5, targets=3)
    mask = np.array([[1, 1, 0], [0, 1, 1], [0, 1, 1], [1, 1, 0], [1, 1, 0]], bool)
    masked = PoissonGLM(ALPHAS, feature_mask=mask).fit(X, Y)
    assert not masked.coef_[~mask.T].any()
    for t in range(3):
        alone = PoissonGLM(ALPHAS).fit(X[:, mask[:, t]], Y[:, t])
        np.testing.assert_allclose(masked.coef_[t, mask[:, t]], alone.coef_, atol=1e-8)
        assert masked.alpha_[t] == alone.alpha_
    assert not masked.independent_targets
    assert PoissonGLM().independent_targets


@settings(max_examples=6, deadline=None)
@given(st.sampled_from([3, 12]), st.integers(0, 100), st.permutations(range(4)))
def test_targets_do_not_know_of_each_other(p, seed, order):
    X, Y = simulate(150, p, seed=seed)
    glm, permuted = PoissonGLM(ALPHAS).fit(X, Y), PoissonGLM(ALPHAS).fit(X, Y[:, order])
    np.testing.assert_array_equal(permuted.alpha_, glm.alpha_[order])
    np.testing.assert_allclose(permuted.coef_, glm.coef_[order], atol=1e-8)


@settings(max_examples=6, deadline=None)
@given(st.sampled_from([3, 12]), st.integers(0, 100), st.floats(0.01, 100))
def test_rotating_and_scaling_features_changes_no_prediction(p, seed, scale):
    X, Y = simulate(150, p, seed=seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((p, p)))[0]
    glm = PoissonGLM(ALPHAS, tol=1e-8).fit(X, Y)
    turned = PoissonGLM(ALPHAS * scale**2, tol=1e-8).fit(scale * X @ rotation, Y)
    np.testing.assert_allclose(turned.alpha_, glm.alpha_ * scale**2)
    np.testing.assert_allclose(turned.predict(scale * X @ rotation), glm.predict(X), rtol=1e-5)


def test_held_out_samples_teach_nothing():
    X, Y = simulate(p=12)
    splits = [(np.arange(100, 300), np.arange(100))]
    other = Y.copy()
    other[:100] = 3.0
    alone = PoissonGLM([1e-3, 1e-2], cv=splits).fit(X, Y)
    peer = PoissonGLM(1e-3).fit(X[100:], Y[100:])
    rates, y = peer.predict(X[:100]), Y[:100]
    lost = (special.xlogy(y, y / rates) - y + rates).sum(0)
    null = Y[100:].mean(0)
    lost_by_null = (special.xlogy(y, y / null) - y + null).sum(0)
    np.testing.assert_allclose(alone.cv_scores_[0], 1 - lost / lost_by_null, atol=1e-5)


def test_silent_and_separable_targets_are_said():
    X, Y = simulate(p=3)
    Y[:, 1] = 0
    with pytest.warns(UserWarning, match=r"1 of 4 targets \(first column 1\) have no counts"):
        glm = PoissonGLM(ALPHAS).fit(X, Y)
    assert not glm.coef_[1].any()
    np.testing.assert_allclose(glm.predict(X)[:, 1], 0.5 / len(X))
    assert np.isfinite(glm.cv_scores_).all()
    Y = np.column_stack([X[:, 0] > 1, X[:, 1] + 3 * np.random.default_rng(0).standard_normal(len(X)) > 1])
    with pytest.warns(UserWarning, match=r"1 of 2 targets \(first column 0\) are told apart from silence"):
        glm = BernoulliGLM(1e-6, max_iter=1000).fit(X, Y)
    assert np.isfinite(glm.coef_).all()
    with pytest.warns(UserWarning, match="1 of 1 targets .* have a count in every sample"):
        assert BernoulliGLM(1e-3).fit(X, np.ones(len(X))).predict(X[:1]) > 0.99


def test_rates_that_overflow_are_never_reached():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 12)) * 1e3
    X[0] *= 100
    Y = rng.poisson(1.0, (200, 2))
    Y[0] = 1000
    glm = PoissonGLM(1e-6).fit(X, Y)
    assert np.isfinite(glm.coef_).all()
    assert np.isfinite(glm.predict(X * 1e9)).all()
    assert (glm.predict(-X * 1e9) > 0).all()


def test_fits_that_do_not_converge_are_said():
    X, Y = simulate(p=12)
    with pytest.warns(UserWarning, match="4 of 4 targets .* did not converge in 1 steps"):
        glm = PoissonGLM(1e-4, max_iter=1).fit(X, Y)
    assert not glm.converged_.any()


@pytest.mark.parametrize("p", [3, 12])
def test_constant_and_repeated_features(p):
    X, Y = simulate(p=p)
    X = np.column_stack([X, X[:, 0], np.full(len(X), 3.0)])
    glm = PoissonGLM(1e-3, tol=1e-8).fit(X, Y)
    np.testing.assert_allclose(glm.coef_[:, -2], glm.coef_[:, 0], atol=1e-5)
    np.testing.assert_allclose(glm.coef_[:, -1], 0, atol=1e-7)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alphas": [1.0, 0.0]}, "alphas must be positive, got 0.0 at position 1"),
        ({"l1_ratio": 2}, "l1_ratio must lie between 0"),
        ({"link": "probit"}, "link='probit' is unknown"),
        ({"scoring": "r2"}, "scoring='r2' is unknown; use 'pseudo_r2' or 'mcfadden'"),
        ({"tol": 0}, "tol must be positive"),
        ({"max_iter": 0}, "max_iter must be a whole number from 1"),
        ({"feature_mask": np.ones((2, 2))}, "feature_mask has shape"),
        ({"feature_mask": np.zeros((5, 4))}, "leaves 4 targets without a feature, first column 0"),
        ({"cv": 301}, "301"),
    ],
)
def test_parameters_that_are_wrong(parameters, message):
    with pytest.raises(ValueError, match=message):
        PoissonGLM(**parameters).fit(*simulate())


def test_counts_that_are_none():
    X, Y = simulate()
    Y[3, 2] = -1
    with pytest.raises(ValueError, match="y holds what is no count in 1 of 4 targets, first column 2"):
        PoissonGLM().fit(X, Y)
    with pytest.raises(ValueError, match="give 0 .no spike. or 1"):
        BernoulliGLM().fit(X, np.abs(Y) * 2)
