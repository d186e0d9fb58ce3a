"""PLSRegression: scikit-learn's contract and predictions, the number of components, labels, and every bad input."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cross_decomposition import PLSRegression as Peer
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import neuro
from cerebridge.encoding.persistence import load, save
from cerebridge.encoding.pls import PLSRegression
from cerebridge.encoding.ridge import RidgeCV

SHAPES = [(60, 12, 4), (30, 80, 4), (40, 30, 90), (25, 60, 1)]


@parametrize_with_checks([PLSRegression(2), PLSRegression([1, 2], scale=True, cv=2)])
def test_the_contract_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def simulate(n: int, p: int, targets: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * np.arange(1, p + 1) ** -0.5 + 2
    Y = X @ rng.standard_normal((p, targets)) + rng.standard_normal((n, targets))
    return X, Y * np.logspace(-1, 1, targets) + 4


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("tol", [1e-6, 1e-24])
@pytest.mark.parametrize("shape", SHAPES)
def test_predicts_what_scikit_learn_predicts(shape, tol, scale):
    X, Y = simulate(*shape)
    peer = Peer(8, scale=scale, tol=tol, max_iter=5000).fit(X, Y)
    ours = PLSRegression(8, scale=scale, tol=tol, max_iter=5000, device="cpu").fit(X, Y)
    np.testing.assert_allclose(ours.predict(X * 1.1), peer.predict(X * 1.1).reshape(Y.shape), atol=1e-8)
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=1e-8)
    if tol > 1e-10:  # below that rounding ends the iterations, not the tolerance
        assert ours.n_iter_ == [int(steps) for steps in peer.n_iter_]
    else:
        exact = PLSRegression(8, scale=scale, tol=0, device="cpu").fit(X, Y)
        np.testing.assert_allclose(exact.predict(X), peer.predict(X).reshape(Y.shape), atol=1e-7)


def test_all_components_are_least_squares():
    X, Y = simulate(40, 6)
    np.testing.assert_allclose(
        PLSRegression(6).fit(X, Y).predict(X), RidgeCV(1e-9).fit(X, Y).predict(X), atol=1e-6
    )


def test_fewer_components_than_asked_for_are_said():
    X, Y = simulate(40, 6)
    X[:, 4:] = X[:, :2]
    with pytest.warns(UserWarning, match="only 4 of 25 components were fitted: no covariance"):
        ours = PLSRegression().fit(X, Y)
    assert ours.n_components_ == 4
    assert ours.x_rotations_.shape == (6, 4)
    np.testing.assert_allclose(ours.predict(X), Peer(4, scale=False).fit(X, Y).predict(X), atol=1e-6)


def test_weights_that_still_change_are_said():
    X, Y = simulate(40, 6)
    with pytest.warns(ConvergenceWarning, match="of 3 components still changed after 2 iterations"):
        PLSRegression(3, max_iter=2).fit(X, Y)


def test_the_number_of_components_is_found_and_noise_gets_the_fewest():
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((300, 3))
    X = latent @ rng.standard_normal((3, 40)) + 0.3 * rng.standard_normal((300, 40))
    Y = latent @ np.diag([1, 0.7, 0.5]) @ rng.standard_normal((3, 20)) + rng.standard_normal((300, 20))
    ours = PLSRegression("cv").fit(X, Y)
    assert ours.n_components_ == 3
    assert ours.cv_scores_.shape == (25, 20)
    np.testing.assert_array_equal(ours.best_score_, ours.cv_scores_[2])
    np.testing.assert_allclose(ours.coef_, PLSRegression(3).fit(X, Y).coef_)
    noise = PLSRegression([1, 5, 10]).fit(X, rng.standard_normal((300, 20)))
    assert noise.n_components_ == 1
    assert noise.best_score_.mean() < 0


def test_inside_a_pipeline_that_reduces_the_features_first():
    X, Y = simulate(60, 40)
    ours = make_pipeline(PCA(20), PLSRegression(8)).fit(X, Y)
    peer = make_pipeline(PCA(20), Peer(8, scale=False)).fit(X, Y)
    np.testing.assert_allclose(ours.predict(X), peer.predict(X), atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(SHAPES[:3]), st.integers(0, 100), st.floats(0.01, 100), st.floats(-100, 100))
def test_moving_rotating_and_scaling_change_no_prediction(shape, seed, scale, shift):
    X, Y = simulate(*shape, seed=seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((shape[1], shape[1])))[0]
    ours = PLSRegression(3).fit(X, Y)
    other = PLSRegression(3).fit(scale * X @ rotation + shift, scale * Y + shift)
    expected = scale * ours.predict(X) + shift
    np.testing.assert_allclose(
        other.predict(scale * X @ rotation + shift), expected, atol=1e-6 * np.abs(expected).max()
    )


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_what_comes_in_goes_out(shape, kind, device, dtype):
    X, Y = (torch.from_numpy(x).to(device, dtype) for x in simulate(*shape))
    if kind == "numpy":
        X, Y = X.cpu().numpy(), Y.cpu().numpy()
    ours = PLSRegression(3, device=device).fit(X, Y)
    expected = torch.Tensor if kind == "torch" else np.ndarray
    for result in (ours.predict(X), ours.coef_, ours.intercept_, ours.x_rotations_, ours.y_loadings_):
        assert isinstance(result, expected)
        assert torch.as_tensor(result).dtype == dtype
    peer = Peer(3, scale=False).fit(
        np.asarray(torch.as_tensor(X).cpu()), np.asarray(torch.as_tensor(Y).cpu())
    )
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    np.testing.assert_allclose(torch.as_tensor(ours.coef_).cpu(), peer.coef_, atol=tolerance)
    single = PLSRegression([1, 3], device=device).fit(X, Y[:, 0])
    assert single.coef_.shape == (shape[1],)
    assert single.cv_scores_.shape == (2,)
    assert single.predict(X).shape == (shape[0],)


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
    ours = PLSRegression([1, 2, 4], cv=4).fit(features, responses, groups="run")
    assert list(ours.cv_scores_.n_components.values) == [1, 2, 4]
    assert list(ours.best_score_.region.values) == ["V1", "V4", "IT"]
    assert ours.x_rotations_.dims == ("feature", "component")
    assert list(ours.x_rotations_.feature_layer.values) == list(features.layer.values)
    assert ours.y_loadings_.dims == ("neuroid", "component")
    plain = PLSRegression([1, 2, 4], cv=4).fit(X, Y, groups=features.run.values)
    np.testing.assert_array_equal(ours.predict(features).values, plain.predict(X))
    save(tmp_path / "pls.skops", ours)
    for again in (copy.deepcopy(ours), load(tmp_path / "pls.skops")):
        xr.testing.assert_identical(again.predict(features), ours.predict(features))


def test_constant_targets_are_predicted_and_said_where_they_are_scored():
    X, Y = simulate(30, 8)
    Y[:, 0] = 0.3  # the first target is where iterations begin
    ours = PLSRegression(4).fit(X, Y)
    assert (ours.predict(X)[:, 0] == 0.3).all()
    np.testing.assert_allclose(
        ours.predict(X)[:, 1:], PLSRegression(4).fit(X, Y[:, 1:]).predict(X), atol=1e-9
    )
    with pytest.warns(UserWarning, match="1 of 4 targets vary in no held-out set, first column 0"):
        PLSRegression([1, 2]).fit(X, Y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "n_components must be a whole number from 1, got 0"),
        ({"n_components": 2.5}, "n_components must be a whole number from 1, got 2.5"),
        ({"n_components": "best"}, "n_components must be a whole number from 1, got 'best'"),
        ({"n_components": []}, "n_components is an empty list"),
        ({"tol": -1}, "tol=-1 is no tolerance"),
        ({"max_iter": 0}, "max_iter must be a whole number from 1, got 0"),
        ({"n_components": "cv", "scoring": "accuracy"}, "scoring='accuracy' is unknown"),
        ({"n_components": [1, 2], "cv": 31}, "cv=31 folds need at least 31 samples"),
    ],
)
def test_parameters_that_are_wrong(parameters, message):
    with pytest.raises(ValueError, match=message):
        PLSRegression(**parameters).fit(*simulate(30, 4))


def test_missing_values_are_named():
    X, Y = simulate(30, 4)
    Y[3, 1] = np.nan
    with pytest.raises(ValueError, match="Input y contains NaN: in 1 of 4 targets, first column 1"):
        PLSRegression(2).fit(X, Y)
