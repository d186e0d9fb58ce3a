"""BandedRidgeCV: brute force and himalaya, known truth, warm restarts, budgets, labels, and every bad input."""

from __future__ import annotations

import copy
import itertools
import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import encoding, neuro
from cerebridge.encoding.banded import BandedRidgeCV
from cerebridge.encoding.engine.banded import PrimalBands
from cerebridge.encoding.engine.bandsearch import draw_candidates
from cerebridge.encoding.ridge import RidgeCV
from cerebridge.models.memory import LiveBytes

ALPHAS = np.logspace(-2, 5, 8)
SHAPES = [(60, 12), (30, 80)]
WEIGHTS = np.random.default_rng(5).dirichlet([0.5, 0.5], 8)


@parametrize_with_checks([BandedRidgeCV(), BandedRidgeCV(scoring="pearsonr", cv=2, polish=0)])
def test_the_contract_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def simulate(n: int, p: int, targets: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, responses, and band labels: a third of the features are one band."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + 2
    noise = rng.standard_normal((n, targets)) * np.logspace(-1, 1, targets)
    Y = X @ rng.standard_normal((p, targets)) / np.sqrt(p) + noise + 4
    return X, Y, np.where(np.arange(p) < p // 3, "first", "second")


def score(truth: np.ndarray, predicted: np.ndarray, scoring: str) -> float:
    if scoring == "pearsonr":
        return np.corrcoef(truth, predicted)[0, 1]
    return 1 - np.square(truth - predicted).sum() / np.square(truth - truth.mean()).sum()


def brute_force(X, y, scale, alpha, cv, scoring="r2", fit_intercept=True):
    """Cross-validated score of scikit-learn's ridge on scaled features."""
    scores = []
    for train, test in cv.split(X):
        fitted = Ridge(alpha, solver="svd", fit_intercept=fit_intercept).fit((X * scale)[train], y[train])
        scores.append(score(y[test], fitted.predict((X * scale)[test]), scoring))
    return np.mean(scores)


@pytest.mark.parametrize("cv", [KFold(3), ShuffleSplit(2, train_size=0.5, test_size=0.3, random_state=0)])
@pytest.mark.parametrize(("scoring", "fit_intercept"), [("r2", True), ("pearsonr", True), ("r2", False)])
@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_agrees_with_brute_force(n, p, scoring, fit_intercept, cv):
    X, Y, labels = simulate(n, p, targets=2)
    ridge = BandedRidgeCV(labels, ALPHAS, WEIGHTS, cv, scoring, fit_intercept, polish=0, device="cpu").fit(
        X, Y
    )
    assert ridge.path_ == ("primal" if n > p else "dual")
    scales = np.sqrt(WEIGHTS)[:, (labels == "second").astype(int)]
    for t, y in enumerate(Y.T):
        scores = np.array(
            [[brute_force(X, y, s, a, cv, scoring, fit_intercept) for a in ALPHAS] for s in scales]
        )
        np.testing.assert_allclose(ridge.cv_scores_[:, t], scores.max(1), atol=1e-9)
        best, alpha = np.unravel_index(scores.argmax(), scores.shape)
        assert ridge.candidate_[t] == best
        assert ridge.alpha_[t] == pytest.approx(ALPHAS[alpha])
        np.testing.assert_allclose(ridge.band_alphas_[:, t], ALPHAS[alpha] / WEIGHTS[best])
        refit = Ridge(ALPHAS[alpha], solver="svd", fit_intercept=fit_intercept).fit(X * scales[best], y)
        np.testing.assert_allclose(ridge.coef_[t], refit.coef_ * scales[best], atol=1e-9)
        assert ridge.intercept_[t] == pytest.approx(refit.intercept_)


@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_polishing_only_improves_and_is_what_it_says(n, p, scoring):
    X, Y, labels = simulate(n, p)
    rough, fine = (
        BandedRidgeCV(labels, ALPHAS, WEIGHTS[:3], 3, scoring, polish=steps).fit(X, Y) for steps in (0, 12)
    )
    assert (fine.best_score_ >= rough.best_score_).all()
    assert (fine.best_score_ > rough.best_score_ + 1e-4).any()
    np.testing.assert_array_equal(fine.cv_scores_, rough.cv_scores_)
    for t, y in enumerate(Y.T):
        scale = np.exp(fine.deltas_[:, t] / 2)[(labels == "second").astype(int)]
        assert fine.best_score_[t] == pytest.approx(brute_force(X, y, scale, 1, KFold(3), scoring), abs=1e-9)
        np.testing.assert_allclose(
            fine.coef_[t], Ridge(1, solver="svd").fit(X * scale, y).coef_ * scale, atol=1e-9
        )


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_agrees_with_himalaya(n, p):
    himalaya = pytest.importorskip("himalaya")
    himalaya.backend.set_backend("numpy")
    X, Y, labels = simulate(n, p, targets=20)
    params = {"n_iter": WEIGHTS, "alphas": ALPHAS, "score_func": himalaya.scoring.r2_score}
    peer = himalaya.ridge.GroupRidgeCV(
        groups=(labels == "second").astype(int),
        fit_intercept=True,
        cv=4,
        solver_params=params | {"progress_bar": False, "warn": False},
    ).fit(X, Y)
    ours = BandedRidgeCV(labels, ALPHAS, WEIGHTS, cv=4, polish=0).fit(X, Y)
    np.testing.assert_allclose(ours.deltas_, peer.deltas_, rtol=1e-9)
    np.testing.assert_allclose(ours.coef_, peer.coef_.T, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, peer.intercept_, atol=1e-8)
    np.testing.assert_allclose(ours.cv_scores_, peer.cv_scores_, atol=1e-8)


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_one_band_is_plain_ridge(n, p):
    X, Y, _ = simulate(n, p)
    banded, plain = BandedRidgeCV([slice(None)], ALPHAS).fit(X, Y), RidgeCV(ALPHAS).fit(X, Y)
    np.testing.assert_allclose(banded.alpha_, plain.alpha_)
    np.testing.assert_allclose(banded.coef_, plain.coef_, atol=1e-9)
    np.testing.assert_allclose(banded.best_score_, plain.best_score_, atol=1e-9)


@pytest.mark.parametrize("signal", ["small band", "both bands"])
def test_gains_where_bands_differ_and_nowhere_else(signal):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 130))
    bands = [slice(0, 10), slice(10, 130)]
    informative = slice(0, 10) if signal == "small band" else slice(None)
    truth = X[:, informative] @ rng.standard_normal((130, 20))[informative]
    Y = truth / truth.std(0) + rng.standard_normal((1000, 20))
    gains = [
        model.fit(X[:200], Y[:200]).predict(X[200:])
        for model in (BandedRidgeCV(bands, n_candidates=30, random_state=0), RidgeCV())
    ]
    banded, plain = (
        [score(y, predicted, "r2") for y, predicted in zip(Y[200:].T, p.T, strict=True)] for p in gains
    )
    difference = np.subtract(banded, plain)
    if signal == "small band":
        assert (difference > 0.05).all()
    else:
        assert abs(difference.mean()) < 0.02


def test_the_band_without_signal_is_turned_off():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((300, 40))
    y = X[:, :20].sum(1) + rng.standard_normal(300)
    ridge = BandedRidgeCV([slice(20), slice(20, 40)], n_candidates=40).fit(X, y)
    assert ridge.band_alphas_[1] > 100 * ridge.band_alphas_[0]
    alone = BandedRidgeCV([slice(20), slice(20, 40)], n_candidates=[[1, 0]], polish=0).fit(X, y)
    assert np.isinf(alone.band_alphas_[1])
    np.testing.assert_array_equal(alone.coef_[20:], 0)
    np.testing.assert_allclose(alone.coef_[:20], RidgeCV().fit(X[:, :20], y).coef_, atol=1e-9)


@pytest.mark.parametrize("n_bands", [2, 4])
def test_candidates_are_weights_and_longer_draws_continue_shorter_ones(n_bands):
    drawn = draw_candidates(50, n_bands, seed=3).numpy()
    assert drawn.shape == (50, n_bands)
    np.testing.assert_allclose(drawn.sum(1), 1)
    assert (drawn >= 0).all()
    np.testing.assert_array_equal(
        drawn[: n_bands + 1], np.vstack([np.full(n_bands, 1 / n_bands), np.eye(n_bands)])
    )
    np.testing.assert_array_equal(draw_candidates(20, n_bands, seed=3).numpy(), drawn[:20])
    assert not np.array_equal(draw_candidates(50, n_bands, seed=4).numpy(), drawn)


@pytest.mark.parametrize("single", [False, True])
def test_a_warm_restart_equals_one_long_search(single):
    X, Y, labels = simulate(60, 12)
    Y = Y[:, 1] if single else Y
    long = BandedRidgeCV(labels, n_candidates=40, random_state=7).fit(X, Y)
    short = BandedRidgeCV(labels, n_candidates=20, random_state=7, warm_start=True).fit(X, Y)
    continued = short.set_params(n_candidates=40).fit(X, Y)
    for name in ("candidates_", "cv_scores_", "candidate_", "band_alphas_", "coef_", "best_score_"):
        np.testing.assert_array_equal(getattr(continued, name), getattr(long, name))


def test_a_warm_restart_tries_only_what_is_new(monkeypatch):
    X, Y, labels = simulate(60, 12)
    ridge = BandedRidgeCV(labels, n_candidates=5, warm_start=True).fit(X, Y)
    tried = []
    scores = PrimalBands.scores
    monkeypatch.setattr(PrimalBands, "scores", lambda self, *given: tried.append(1) or scores(self, *given))
    ridge.set_params(n_candidates=8).fit(X, Y)
    assert len(tried) == 1 + 3, "the first again, to see that nothing else has changed"
    with pytest.raises(
        ValueError, match="continues a search for 4 targets and 2 bands, but there are 3 and 2"
    ):
        ridge.fit(X, Y[:, :3])


def test_a_warm_restart_with_given_candidates_keeps_those_before():
    X, Y, labels = simulate(60, 12)
    first, second = np.eye(2), np.array([[0.5, 0.5], [1, 0], [0.9, 0.1]])
    whole = BandedRidgeCV(labels, n_candidates=np.vstack([first, second[[0, 2]]])).fit(X, Y)
    ridge = BandedRidgeCV(labels, n_candidates=first, warm_start=True).fit(X, Y)
    ridge.set_params(n_candidates=second).fit(X, Y)
    for name in ("candidates_", "cv_scores_", "candidate_", "band_alphas_", "coef_", "best_score_"):
        np.testing.assert_array_equal(getattr(ridge, name), getattr(whole, name))


@pytest.mark.parametrize("change", ["data", "scoring", "cv"])
def test_a_warm_restart_refuses_what_it_cannot_continue(change):
    X, Y, labels = simulate(60, 12)
    ridge = BandedRidgeCV(labels, n_candidates=5, warm_start=True).fit(X, Y)
    if change == "data":
        Y = Y[::-1]
    else:
        ridge.set_params(**{change: {"scoring": "pearsonr", "cv": 3}[change]})
    with pytest.raises(ValueError, match="first candidate has other scores now"):
        ridge.fit(X, Y)


def test_the_time_budget_ends_the_search_with_the_best_so_far(monkeypatch):
    X, Y, labels = simulate(60, 12)
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    ridge = BandedRidgeCV(labels, n_candidates=30, time_budget=4.5, polish=3).fit(X, Y)
    tried = np.flatnonzero(~np.isnan(ridge.cv_scores_).all(1))
    assert tried.tolist() == [0, 1, 2, 3, 4]
    same = BandedRidgeCV(labels, n_candidates=5, polish=0).fit(X, Y)
    np.testing.assert_array_equal(ridge.coef_, same.coef_)


def test_an_interrupt_gives_the_best_so_far(monkeypatch):
    X, Y, labels = simulate(60, 12)
    scores, count = PrimalBands.scores, itertools.count()

    def interrupted(self, *given):
        if next(count) == 4:
            raise KeyboardInterrupt
        return scores(self, *given)

    monkeypatch.setattr(PrimalBands, "scores", interrupted)
    with pytest.warns(UserWarning, match="interrupted; this is the best"):
        ridge = BandedRidgeCV(labels, n_candidates=30).fit(X, Y)
    same = BandedRidgeCV(labels, n_candidates=4, polish=0).fit(X, Y)
    np.testing.assert_array_equal(ridge.coef_, same.coef_)
    assert np.isnan(ridge.cv_scores_[4:]).all()
    count = itertools.count(4)
    with pytest.raises(KeyboardInterrupt):
        BandedRidgeCV(labels, n_candidates=30).fit(X, Y)


def recording(n: int = 40, p: int = 6):
    X, Y, _ = simulate(n, p, targets=3)
    stimuli = {"stimulus_id": [f"s{i}" for i in range(n)], "run": np.arange(n) // 10}
    features = neuro.assemble(
        X,
        presentation=stimuli,
        neuroid={
            "neuroid_id": [f"f{i}" for i in range(p)],
            "layer": ["low", "high"] * (p // 2),
            "band": ["a", "a", "b", "b", "c", "c"],
        },
        modality="activation",
        units="a.u.",
    )
    responses = neuro.assemble(
        Y,
        presentation={"stimulus_id": stimuli["stimulus_id"]},
        neuroid={"neuroid_id": ["a", "b", "c"], "region": ["V1", "V4", "IT"]},
        modality="spikes",
        units="spikes/s",
    )
    return features, responses


def test_labels_of_bands_and_targets(tmp_path):
    features, responses = recording()
    ridge = BandedRidgeCV(n_candidates=10, cv=4).fit(features, responses, groups="run")
    assert ridge.band_alphas_.dims == ridge.deltas_.dims == ("band", "neuroid")
    assert ridge.band_alphas_.band.values.tolist() == ["a", "b", "c"]
    assert ridge.band_alphas_.region.values.tolist() == ["V1", "V4", "IT"]
    assert ridge.candidates_.dims == ("candidate", "band")
    assert ridge.cv_scores_.dims == ("candidate", "neuroid")
    assert BandedRidgeCV("layer", n_candidates=2).fit(features, responses).deltas_.band.values.tolist() == [
        "low",
        "high",
    ]
    plain = BandedRidgeCV(features.band.values, n_candidates=10, cv=4)
    plain.fit(features.values, responses.values, groups=features.run.values)
    np.testing.assert_array_equal(ridge.coef_.values, plain.coef_)
    encoding.save(tmp_path / "banded.skops", ridge)
    for again in (copy.deepcopy(ridge), encoding.load(tmp_path / "banded.skops")):
        np.testing.assert_array_equal(again.predict(features).values, ridge.predict(features).values)


def test_inside_an_evaluation():
    features, responses = recording(n=60)
    model = BandedRidgeCV(features.band.values, n_candidates=5, polish=2)
    result = encoding.evaluate(model, features, responses, cv=3, permutations=3)
    assert result.score.shape == (1, 3, 3)


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_what_comes_in_goes_out(n, p, device, dtype):
    X, Y, labels = simulate(n, p)
    expected = BandedRidgeCV(labels, ALPHAS, 10, device="cpu").fit(X, Y)
    ridge = BandedRidgeCV(labels, ALPHAS, 10, device=device)
    ridge.fit(torch.from_numpy(X).to(device, dtype), torch.from_numpy(Y).to(device, dtype))
    assert ridge.coef_.dtype == dtype
    assert ridge.coef_.device.type == device
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    np.testing.assert_allclose(ridge.coef_.cpu(), expected.coef_, atol=tolerance)


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(SHAPES), st.permutations(range(4)))
def test_targets_do_not_know_of_each_other(shape, order):
    X, Y, labels = simulate(*shape)
    ridge, permuted = (BandedRidgeCV(labels, ALPHAS, 6, polish=3).fit(X, y) for y in (Y, Y[:, order]))
    np.testing.assert_allclose(permuted.coef_, ridge.coef_[order], atol=1e-9)


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 9))
def test_the_order_of_features_does_not_matter(shape, seed):
    X, Y, labels = simulate(*shape)
    order = np.random.default_rng(seed).permutation(shape[1])
    order = np.r_[0, order[order != 0]]  # the first band stays the first
    ridge = BandedRidgeCV(labels, ALPHAS, 6, polish=3).fit(X, Y)
    shuffled = BandedRidgeCV(labels[order], ALPHAS, 6, polish=3).fit(X[:, order], Y)
    np.testing.assert_allclose(shuffled.coef_, ridge.coef_[:, order], atol=1e-8)


@pytest.mark.parametrize(("n", "p"), [(300, 40), (80, 300)])
def test_memory_is_kept_and_changes_nothing(n, p):
    X, Y, labels = simulate(n, p, targets=150)
    X, Y = torch.from_numpy(X), torch.from_numpy(Y)
    whole = BandedRidgeCV(labels, ALPHAS, 4, cv=3, polish=1, device="cpu")
    with LiveBytes() as free:
        whole.fit(X, Y)
    memory = 2_500_000 if n > p else 7_500_000
    parts = BandedRidgeCV(labels, ALPHAS, 4, cv=3, polish=1, device="cpu", memory=memory)
    with LiveBytes() as live:
        parts.fit(X, Y)
    np.testing.assert_allclose(parts.coef_, whole.coef_, atol=1e-9)
    results = 2 * parts.coef_.nbytes + 4 * parts.cv_scores_.nbytes
    assert memory / 8 < live.peak <= memory + results < free.peak
    with pytest.raises(ValueError, match="memory=1000 is too little: this fit needs"):
        BandedRidgeCV(labels, memory=1000).fit(X, Y)


def test_constant_features_collinear_features_and_offsets():
    X, Y, labels = simulate(60, 12)
    X[:, 3], X[:, 5] = 7, X[:, 4]
    ridge = BandedRidgeCV(labels, [1e-8, 1.0], WEIGHTS[:2], 3, polish=3).fit(X + 1e4, Y)
    expected = BandedRidgeCV(labels, [1e-8, 1.0], WEIGHTS[:2], 3, polish=3).fit(X, Y)
    assert np.isfinite(ridge.coef_).all()
    np.testing.assert_allclose(ridge.predict(X + 1e4), expected.predict(X), atol=1e-5)


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_penalties_too_small_for_gram_matrices(n, p):
    X, Y, labels = simulate(n, p, targets=1)
    X = X * np.logspace(0, -5, p)
    ridge = BandedRidgeCV(labels, [1e-11], WEIGHTS[:1], 3, polish=0).fit(X, Y)
    scale = np.sqrt(WEIGHTS[0])[(labels == "second").astype(int)]
    assert ridge.best_score_[0] == pytest.approx(brute_force(X, Y[:, 0], scale, 1e-11, KFold(3)), rel=1e-4)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"bands": [slice(4)]}, "bands do not cover 8 of 12 features"),
        ({"n_candidates": 0}, "n_candidates must be a whole number from 1"),
        ({"n_candidates": np.ones((3, 3))}, r"shape \(3, 3\), but there are 2 bands"),
        ({"n_candidates": [[0, 0]]}, "weights of bands"),
        ({"alphas": [1, -1]}, "alphas must be positive, got -1.0 at position 1"),
        ({"scoring": "mse"}, "scoring='mse' is unknown"),
        ({"polish": -1}, "polish must be a whole number from 0"),
    ],
)
def test_bad_parameters(parameters, match):
    X, Y, labels = simulate(60, 12)
    with pytest.raises(ValueError, match=match):
        BandedRidgeCV(**{"bands": labels} | parameters).fit(X, Y)


def test_without_labels_there_is_one_band_and_a_warning():
    X, Y, _ = simulate(60, 12)
    with pytest.warns(UserWarning, match="all features are one band"):
        BandedRidgeCV().fit(X, Y)


def test_targets_that_do_not_vary():
    X, Y, labels = simulate(60, 12)
    Y[:, 1] = 3
    with pytest.warns(UserWarning, match="1 of 4 targets vary in no held-out set"):
        ridge = BandedRidgeCV(labels, n_candidates=5).fit(X, Y)
    assert np.isnan(ridge.best_score_[1])
    np.testing.assert_array_equal(ridge.coef_[1], 0)
    assert ridge.intercept_[1] == 3


def test_penalties_at_the_edge_of_the_grid():
    X, Y, labels = simulate(60, 12)
    with pytest.warns(UserWarning, match=r"\d of 4 targets chose an alpha at the edge of the grid"):
        BandedRidgeCV(labels, [100, 1000], n_candidates=5).fit(X, Y)
