"""LassoCV and GroupLassoCV: scikit-learn's contract and answers, known supports, labels, and every bad input."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LassoCV as Peer
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import neuro
from cerebridge.encoding.lasso import GroupLassoCV, LassoCV
from cerebridge.encoding.persistence import load, save

pytestmark = pytest.mark.filterwarnings(
    "ignore:.* at the edge of the grid", "ignore:.* the smallest alpha of their grid"
)
SHAPES = [(60, 12), (30, 50)]


@parametrize_with_checks([LassoCV(20), GroupLassoCV(None, 5, eps=0.1, cv=2)])
def test_the_contract_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def simulate(n: int, p: int, targets: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + 0.5 * rng.standard_normal((n, 1)) + 2
    weights = rng.standard_normal((p, targets)) * (rng.random((p, targets)) < 0.2)
    return X, X @ weights + rng.standard_normal((n, targets)) * np.logspace(-1, 1, targets) + 4


@pytest.mark.parametrize("cv", [KFold(4), ShuffleSplit(3, random_state=0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_scikit_learn_target_by_target(shape, cv):
    X, Y = simulate(*shape)
    ours = LassoCV(40, eps=0.01, cv=cv, device="cpu").fit(X, Y)
    for t, y in enumerate(Y.T):
        alphas = ours.alphas_[:, t]
        peer = Peer(alphas=alphas, cv=cv, tol=1e-11, max_iter=1_000_000).fit(X, y)
        np.testing.assert_allclose(alphas[0], np.abs((X - X.mean(0)).T @ (y - y.mean())).max() / len(y))
        np.testing.assert_allclose(ours.cv_scores_[:, t], -peer.mse_path_.mean(1), rtol=1e-4)
        assert ours.alpha_[t] == pytest.approx(peer.alpha_)
        np.testing.assert_allclose(ours.coef_[t], peer.coef_, atol=1e-5)
        assert ours.intercept_[t] == pytest.approx(peer.intercept_, abs=1e-4)
        assert ours.best_score_[t] == ours.cv_scores_[:, t].max()
    assert (ours.dual_gap_ < 1e-6).all()


@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
def test_other_scores(scoring):
    X, Y = simulate(60, 12, seed=1)
    alphas = [0.2, 0.05]
    ours = LassoCV(alphas, cv=3, scoring=scoring).fit(X, Y)
    np.testing.assert_array_equal(ours.alphas_, np.repeat([[0.2], [0.05]], 4, 1))
    for a, alpha in enumerate(alphas):
        scores = []
        for train, test in KFold(3).split(X):
            predicted = LassoCV(alpha, cv=2).fit(X[train], Y[train]).predict(X[test])
            pairs = list(zip(Y[test].T, predicted.T, strict=True))
            scores.append([r2_score(*p) if scoring == "r2" else np.corrcoef(*p)[0, 1] for p in pairs])
        np.testing.assert_allclose(ours.cv_scores_[a], np.mean(scores, 0), atol=1e-5)


def test_known_supports_are_found_and_noise_has_none():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 100))
    weights = np.zeros((22, 100))
    for t, features in enumerate([[3, 50], [7, 8, 9, 99]]):
        weights[t, features] = [2, -2, 1.5, -1.5][: len(features)]
    Y = X @ weights.T + rng.standard_normal((400, 22))
    ours = LassoCV(30, eps=0.03, scoring="r2").fit(X, Y)
    largest = [set(np.argsort(-np.abs(row))[: (weights[t] != 0).sum()]) for t, row in enumerate(ours.coef_)]
    assert largest[:2] == [{3, 50}, {7, 8, 9, 99}]
    assert np.abs(ours.coef_ - weights)[weights != 0].max() < 0.3
    assert np.abs(ours.coef_)[weights == 0].max() < 0.15
    assert np.median((ours.coef_[2:] != 0).sum(1)) == 0
    assert np.median(ours.best_score_[2:]) < 0.005
    # at the smallest penalty under which noise stays out with certainty, nothing else is in the support
    universal = LassoCV([2 * np.sqrt(2 * np.log(100) / 400)]).fit(X, Y)
    np.testing.assert_array_equal(universal.coef_ != 0, weights != 0)


def test_known_groups_are_found_and_noise_has_none():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 60))
    labels = np.array([f"g{i % 12}" for i in range(60)])
    weights = rng.standard_normal(60) * np.isin(labels, ["g2", "g5"])
    Y = rng.standard_normal((300, 12))
    Y[:, 0] += X @ weights
    ours = GroupLassoCV(labels, 30, eps=0.01, scoring="r2").fit(X, Y)
    for row in ours.coef_:
        for label in set(labels):
            assert len(set(row[labels == label] != 0)) == 1
    lengths = {label: np.linalg.norm(ours.coef_[0, labels == label]) for label in set(labels)}
    assert set(sorted(lengths, key=lengths.get)[-2:]) == {"g2", "g5"}
    assert np.median((ours.coef_[1:] != 0).sum(1)) == 0
    assert ours.best_score_[0] > LassoCV(30, eps=0.01, scoring="r2").fit(X, Y).best_score_[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_groups_of_one_are_the_lasso(shape):
    X, Y = simulate(*shape)
    settings = {"alphas": 10, "eps": 0.05, "cv": 3, "tol": 1e-11, "max_iter": 100_000}
    alone, lasso = GroupLassoCV(**settings).fit(X, Y), LassoCV(**settings).fit(X, Y)
    np.testing.assert_allclose(alone.alpha_, lasso.alpha_)
    np.testing.assert_allclose(alone.coef_, lasso.coef_, atol=1e-4)
    assert alone.groups_.tolist() == list(range(shape[1]))


def test_what_did_not_converge_is_said_once():
    X, Y = simulate(60, 12)
    with pytest.warns(
        ConvergenceWarning, match="4 of 4 targets did not reach the duality gap tol=1e-12"
    ) as caught:
        ours = GroupLassoCV([0] * 6 + [1] * 6, 10, max_iter=1, tol=1e-12).fit(X, Y)
    assert sum(caution.category is ConvergenceWarning for caution in caught) == 1
    assert (ours.dual_gap_ > 1e-12).any()


def test_penalties_at_the_edge_of_the_grid_are_said():
    X, Y = simulate(60, 12, seed=1)
    with pytest.warns(UserWarning, match="targets chose the smallest alpha of their grid; lower eps=0.5"):
        LassoCV(5, eps=0.5).fit(X, Y)
    with pytest.warns(
        UserWarning, match=r"targets chose an alpha at the edge of the grid: \d the smallest \(1\)"
    ):
        LassoCV([1, 2]).fit(X, Y)


def test_features_that_others_determine():
    X, Y = simulate(60, 12)
    X[:, 5] = X[:, 4]
    X[:, 6] = X[:, 7] - X[:, 8]
    X[:, 9] = 3.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ours = LassoCV(cv=3).fit(X, Y)
    peer = Peer(cv=3, tol=1e-10, max_iter=1_000_000)
    np.testing.assert_allclose(ours.predict(X)[:, 1], peer.fit(X, Y[:, 1]).predict(X), atol=1e-3)


@settings(max_examples=5, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 100), st.permutations(range(4)))
def test_targets_do_not_know_of_each_other(shape, seed, order):
    X, Y = simulate(*shape, seed=seed)
    for lasso in (LassoCV(10), GroupLassoCV(np.arange(shape[1]) // 3, 5, eps=0.1)):
        plain, permuted = copy.copy(lasso).fit(X, Y), copy.copy(lasso).fit(X, Y[:, order])
        np.testing.assert_allclose(permuted.alpha_, plain.alpha_[order])
        np.testing.assert_allclose(permuted.coef_, plain.coef_[order], atol=2e-3)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 100), st.floats(1e-12, 1e12), st.floats(-100, 100))
def test_scaling_and_shifting_targets_changes_no_choice(shape, seed, scale, shift):
    X, Y = simulate(*shape, seed=seed)
    plain, other = LassoCV(10).fit(X, Y), LassoCV(10).fit(X, scale * (Y + shift))
    np.testing.assert_allclose(other.alpha_, scale * plain.alpha_)
    np.testing.assert_allclose(other.coef_, scale * plain.coef_, atol=1e-5 * scale)


def test_blocks_of_targets_change_nothing(monkeypatch):
    X, Y = simulate(60, 12, targets=7)
    whole = LassoCV(10).fit(X, Y)
    monkeypatch.setattr("cerebridge.encoding.engine.lasso.WEIGHTS", 2 * 10 * 12)
    np.testing.assert_allclose(LassoCV(10).fit(X, Y).coef_, whole.coef_, atol=1e-9)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("lasso", [LassoCV(5), GroupLassoCV(np.arange(12) // 2, 5, eps=0.05)])
def test_what_comes_in_goes_out(lasso, kind, device, dtype):
    X, Y = (torch.from_numpy(x).to(device, dtype) for x in simulate(60, 12))
    if kind == "numpy":
        X, Y = X.cpu().numpy(), Y.cpu().numpy()
    lasso = copy.copy(lasso).set_params(device=device).fit(X, Y)
    for result in (lasso.predict(X), lasso.coef_, lasso.intercept_):
        assert isinstance(result, torch.Tensor if kind == "torch" else np.ndarray)
        assert torch.as_tensor(result).dtype == dtype
    single = copy.copy(lasso).fit(X, Y[:, 0])
    assert single.coef_.shape == (12,)
    assert single.alphas_.shape == single.cv_scores_.shape == (5,)
    np.testing.assert_allclose(
        torch.as_tensor(single.coef_).cpu(), torch.as_tensor(lasso.coef_)[0].cpu(), atol=1e-3
    )


def test_labels_stay_on_everything_through_files(tmp_path):
    X, Y = simulate(40, 6, 3)
    features = neuro.assemble(
        X,
        presentation={"stimulus_id": [f"s{i}" for i in range(40)], "run": np.arange(40) // 10},
        neuroid={"neuroid_id": [f"f{i}" for i in range(6)], "layer": ["low", "high"] * 3},
        modality="activation",
        units="a.u.",
    )
    responses = neuro.assemble(
        Y,
        presentation={"stimulus_id": [f"s{i}" for i in range(40)]},
        neuroid={"neuroid_id": ["a", "b", "c"], "region": ["V1", "V4", "IT"]},
        modality="spikes",
        units="spikes/s",
    )
    ours = GroupLassoCV("layer", 5, eps=0.05, cv=4).fit(features, responses, groups="run")
    assert ours.groups_.tolist() == [0, 1] * 3
    assert ours.alphas_.dims == ("alpha", "neuroid")
    assert list(ours.dual_gap_.region.values) == ["V1", "V4", "IT"]
    assert list(ours.coef_.feature_layer.values) == list(features.layer.values)
    plain = GroupLassoCV([slice(0, 6, 2), [1, 3, 5]], 5, eps=0.05, cv=4).fit(X, Y, groups=features.run.values)
    np.testing.assert_array_equal(ours.predict(features).values, plain.predict(X))
    save(tmp_path / "lasso.skops", ours)
    for again in (copy.deepcopy(ours), load(tmp_path / "lasso.skops")):
        xr.testing.assert_identical(again.predict(features), ours.predict(features))


def test_constant_targets_are_predicted():
    X, Y = simulate(30, 8)
    Y[:, 1] = 0.3
    ours = LassoCV().fit(X, Y)
    assert not ours.coef_[1].any()
    assert (ours.predict(X)[:, 1] == 0.3).all()
    with pytest.warns(UserWarning, match="1 of 4 targets vary in no held-out set, first column 1"):
        LassoCV(scoring="r2").fit(X, Y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alphas": 0}, "alphas must be a whole number from 1, got 0"),
        ({"alphas": [1.0, 0.0]}, "alphas must be positive, got 0.0 at position 1"),
        ({"eps": 0}, "eps must be positive"),
        ({"eps": 2}, "eps=2 must be less than 1"),
        ({"scoring": "accuracy"}, "scoring='accuracy' is unknown; use one of 'neg_mean_squared_error', 'r2'"),
        ({"tol": 0}, "tol must be positive"),
        ({"max_iter": 0}, "max_iter must be a whole number from 1"),
        ({"groups": [0, 1]}, "have 2 labels, but X has 4 features"),
        ({"groups": "layer"}, "groups='layer' names a coordinate, but X has no labels here"),
    ],
)
def test_parameters_that_are_wrong(parameters, message):
    with pytest.raises(ValueError, match=message):
        GroupLassoCV(**parameters).fit(*simulate(30, 4))


def test_missing_values_are_named():
    X, Y = simulate(30, 4)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN: in 1 of 30 samples, first row 3"):
        LassoCV().fit(X, Y)
