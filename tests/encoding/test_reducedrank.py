"""ReducedRankRegression: scikit-learn's contract, known ranks, ridge at full rank, labels, and every bad input."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import neuro
from cerebridge.encoding.persistence import load, save
from cerebridge.encoding.reducedrank import ReducedRankRegression
from cerebridge.encoding.ridge import RidgeCV

pytestmark = pytest.mark.filterwarnings("ignore:.* at the edge of the grid")
SHAPES = [(60, 12, 5), (30, 80, 5), (40, 10, 60)]


@parametrize_with_checks([ReducedRankRegression(cv=2), ReducedRankRegression(1, 1.0)])
def test_the_contract_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def simulate(n: int, p: int, targets: int, rank: int = 2, noise: float = 1.0, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + 2
    coef = rng.standard_normal((p, rank)) @ rng.standard_normal((rank, targets)) / np.sqrt(p)
    return X, X @ coef + noise * rng.standard_normal((n, targets)) + 4, coef.T


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_the_rank_and_the_coefficients_are_found(rank):
    X, Y, coef = simulate(500, 20, 40, rank)
    ours = ReducedRankRegression(alphas=[1e-3, 1.0, 1e3]).fit(X, Y)
    assert ours.rank_ == np.linalg.matrix_rank(ours.coef_) == rank
    error = np.linalg.norm(ours.coef_ - coef)
    assert error < 0.2 * np.linalg.norm(coef)
    assert error < 0.9 * np.linalg.norm(RidgeCV([1e-3, 1.0, 1e3]).fit(X, Y).coef_ - coef)


def test_noise_has_no_score_whatever_the_rank():
    X, _, _ = simulate(200, 20, 40)
    noise = np.random.default_rng(1).standard_normal((200, 40))
    ours = ReducedRankRegression().fit(X, noise)
    assert ours.rank_ <= 2
    assert ours.best_score_.mean() < 0.01
    assert (ours.cv_scores_.mean(2).max(1) < 0.01).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_full_rank_is_ridge(shape):
    X, Y, _ = simulate(*shape)
    ours = ReducedRankRegression(60, 3.0).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, Ridge(3.0).fit(X, Y).coef_, atol=1e-8)
    assert ours.rank_ == min(shape[0] - 1, *shape[1:])
    assert not hasattr(ours, "cv_scores_")


def test_agrees_with_a_grid_search():
    X, Y, _ = simulate(60, 12, 5)
    grid = {"rank": [1, 2, 4], "alphas": [0.1, 10.0, 100.0]}
    ours = ReducedRankRegression(grid["rank"], grid["alphas"], cv=KFold(4)).fit(X, Y)
    search = GridSearchCV(ReducedRankRegression(), grid, cv=KFold(4), scoring="r2").fit(X, Y)
    assert search.best_params_ == {"rank": ours.rank_, "alphas": ours.alpha_}
    assert ours.best_score_.mean() == pytest.approx(search.best_score_)
    scores = search.cv_results_["mean_test_score"].reshape(3, 3)
    np.testing.assert_allclose(ours.cv_scores_.mean(2), scores, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 100), st.floats(0.01, 100), st.floats(-100, 100))
def test_rotating_moving_and_scaling_change_no_prediction(shape, seed, scale, shift):
    X, Y, _ = simulate(*shape, seed=seed)
    rng = np.random.default_rng(seed)
    turn_x, turn_y = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in shape[1:])
    ours = ReducedRankRegression(2, 1.0).fit(X, Y)
    turned = scale * X @ turn_x + shift
    other = ReducedRankRegression(2, scale**2).fit(turned, scale * Y @ turn_y + shift)
    expected = scale * ours.predict(X) @ turn_y + shift
    np.testing.assert_allclose(other.predict(turned), expected, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_comes_in_goes_out(shape, kind, device, dtype):
    X, Y, _ = (torch.from_numpy(x).to(device, dtype) for x in simulate(*shape))
    if kind == "numpy":
        X, Y = X.cpu().numpy(), Y.cpu().numpy()
    ours = ReducedRankRegression([1, 3], [1.0, 10.0], device=device).fit(X, Y)
    for result in (ours.predict(X), ours.coef_, ours.intercept_):
        assert isinstance(result, torch.Tensor if kind == "torch" else np.ndarray)
        assert torch.as_tensor(result).dtype == dtype
    single = ReducedRankRegression("cv", [1.0, 10.0], device=device).fit(X, Y[:, 0])
    assert single.rank_ == 1
    assert single.coef_.shape == (shape[1],)
    assert single.cv_scores_.shape == (2, 1)
    assert single.predict(X).shape == (shape[0],)
    ridge = Ridge(single.alpha_).fit(
        np.asarray(torch.as_tensor(X).cpu()), torch.as_tensor(Y)[:, 0].cpu().numpy()
    )
    np.testing.assert_allclose(torch.as_tensor(single.coef_).cpu(), ridge.coef_, atol=1e-4)


def test_labels_stay_on_everything_through_files(tmp_path):
    X, Y, _ = simulate(40, 6, 3)
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
    ours = ReducedRankRegression(alphas=[1.0, 10.0], cv=4).fit(features, responses, groups="run")
    assert ours.cv_scores_.dims == ("alpha", "rank", "neuroid")
    assert list(ours.cv_scores_["rank"].values) == [1, 2, 3]
    assert list(ours.best_score_.region.values) == ["V1", "V4", "IT"]
    plain = ReducedRankRegression(alphas=[1.0, 10.0], cv=4).fit(X, Y, groups=features.run.values)
    np.testing.assert_array_equal(ours.predict(features).values, plain.predict(X))
    save(tmp_path / "model.skops", ours)
    for again in (copy.deepcopy(ours), load(tmp_path / "model.skops")):
        xr.testing.assert_identical(again.predict(features), ours.predict(features))


def test_constant_targets_are_predicted_and_said():
    X, Y, _ = simulate(30, 8, 4)
    Y[:, 1] = 0.3
    with pytest.warns(UserWarning, match="1 of 4 targets vary in no held-out set, first column 1"):
        ours = ReducedRankRegression().fit(X, Y)
    np.testing.assert_allclose(ours.predict(X)[:, 1], 0.3)


def test_a_penalty_at_the_edge_of_the_grid_is_said():
    X, Y, _ = simulate(60, 12, 5)
    with pytest.warns(
        UserWarning, match="5 of 5 targets chose an alpha at the edge of the grid: 5 the smallest"
    ):
        ReducedRankRegression(2, [300.0, 1000.0]).fit(X, Y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rank": 0}, "rank must be a whole number from 1, got 0"),
        ({"rank": "full"}, "rank must be a whole number from 1, got 'full'"),
        ({"rank": []}, "rank is an empty list"),
        ({"alphas": [1.0, -1.0]}, "alphas must be positive, got -1.0 at position 1"),
        ({"scoring": "accuracy"}, "scoring='accuracy' is unknown; use 'r2' or 'pearsonr'"),
        ({"cv": 31}, "cv=31 folds need at least 31 samples"),
        ({"device": "tpu9"}, "device='tpu9' is unknown"),
    ],
)
def test_parameters_that_are_wrong(parameters, message):
    with pytest.raises(ValueError, match=message):
        ReducedRankRegression(**parameters).fit(*simulate(30, 4, 3)[:2])


def test_missing_values_are_named():
    X, Y, _ = simulate(30, 4, 3)
    Y[3, 1] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN: in 1 of 3 targets, first column 1"):
        ReducedRankRegression().fit(X, Y)
