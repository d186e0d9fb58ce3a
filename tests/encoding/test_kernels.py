"""KernelRidgeCV: scikit-learn's contract, the peers' answers, mixtures, labels, and every bad input."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import neuro
from cerebridge.encoding.kernels import KernelRidgeCV
from cerebridge.encoding.persistence import load, save
from cerebridge.encoding.ridge import RidgeCV

pytestmark = pytest.mark.filterwarnings("ignore:.* at the edge of the grid")
ALPHAS = np.logspace(-3, 3, 7)
SETTINGS = {
    "linear": {},
    "rbf": {"gamma": 0.1},
    "polynomial": {"gamma": 0.2, "degree": 2, "coef0": 1.0},
}


@parametrize_with_checks([KernelRidgeCV("rbf"), KernelRidgeCV(["linear", "rbf"], n_candidates=4, cv=2)])
def test_the_contract_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def simulate(n: int = 50, p: int = 6, targets: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    signal = np.tanh(2 * X @ rng.standard_normal((p, targets)))
    return X, signal + rng.standard_normal((n, targets)) * np.logspace(-2, 0.5, targets) + 3


@pytest.mark.parametrize("kernel", SETTINGS)
def test_agrees_with_scikit_learn_fitting_every_fold_and_target_by_itself(kernel):
    X, Y = simulate()
    ours = KernelRidgeCV(
        kernel, ALPHAS, **SETTINGS[kernel], cv=KFold(4), fit_intercept=False, device="cpu"
    ).fit(X, Y)
    settings = {"kernel": kernel, **SETTINGS[kernel]}
    for t, y in enumerate(Y.T):
        scores = [
            np.mean(
                [
                    r2_score(y[te], KernelRidge(alpha=alpha, **settings).fit(X[tr], y[tr]).predict(X[te]))
                    for tr, te in KFold(4).split(X)
                ]
            )
            for alpha in ALPHAS
        ]
        assert ours.alpha_[t] == ALPHAS[np.argmax(scores)]
        assert ours.best_score_[t] == pytest.approx(max(scores), abs=1e-8)
        peer = KernelRidge(alpha=ours.alpha_[t], **settings).fit(X, y)
        np.testing.assert_allclose(ours.predict(X[:9] + 1)[:, t], peer.predict(X[:9] + 1), atol=1e-7)


@pytest.mark.parametrize("kernel", SETTINGS)
def test_agrees_with_himalaya(kernel):
    himalaya = pytest.importorskip("himalaya")
    himalaya.backend.set_backend("numpy")
    from himalaya.kernel_ridge import KernelRidgeCV as Peer

    X, Y = simulate(targets=12)
    peer = Peer(
        ALPHAS,
        kernel=kernel,
        kernel_params=SETTINGS[kernel],
        fit_intercept=True,
        cv=4,
        solver_params={"score_func": himalaya.scoring.r2_score},
        warn=False,
    ).fit(X, Y)
    ours = KernelRidgeCV(kernel, ALPHAS, **SETTINGS[kernel], cv=4, device="cpu").fit(X, Y)
    np.testing.assert_allclose(ours.alpha_, peer.best_alphas_)
    np.testing.assert_allclose(ours.best_score_, peer.cv_scores_, atol=1e-8)
    np.testing.assert_allclose(ours.predict(X * 1.1), peer.predict(X * 1.1), atol=1e-7)


def test_mixtures_agree_with_himalaya():
    himalaya = pytest.importorskip("himalaya")
    himalaya.backend.set_backend("numpy")
    from himalaya.kernel_ridge import MultipleKernelRidgeCV

    X, Y = simulate(targets=8)
    ours = KernelRidgeCV(
        ["linear", ("rbf", {"gamma": 0.1})], ALPHAS, n_candidates=12, cv=4, device="cpu"
    ).fit(X, Y)
    peer = MultipleKernelRidgeCV(
        ["linear", "rbf"],
        [{}, {"gamma": 0.1}],
        fit_intercept=True,
        cv=4,
        solver_params={
            "n_iter": ours._weights(2).numpy(),
            "alphas": ALPHAS,
            "score_func": himalaya.scoring.r2_score,
            "progress_bar": False,
        },
    ).fit(X, Y)
    np.testing.assert_allclose(ours.alpha_, peer.best_alphas_)
    np.testing.assert_allclose(ours.kernel_weights_ / ours.alpha_[:, None], np.exp(peer.deltas_).T, atol=1e-9)
    np.testing.assert_allclose(ours.cv_scores_, peer.cv_scores_, atol=1e-7)
    np.testing.assert_allclose(ours.predict(X * 1.1), peer.predict(X * 1.1), atol=1e-6)


@pytest.mark.parametrize("shape", [(60, 8), (30, 70)])
def test_a_linear_kernel_is_ridge(shape):
    X, Y = simulate(*shape)
    kernel, ridge = (cls(alphas=ALPHAS, cv=3, device="cpu").fit(X, Y) for cls in (KernelRidgeCV, RidgeCV))
    np.testing.assert_array_equal(kernel.alpha_, ridge.alpha_)
    np.testing.assert_allclose(kernel.best_score_, ridge.best_score_, atol=1e-9)
    np.testing.assert_allclose(kernel.predict(X + 1), ridge.predict(X + 1), atol=1e-8)


def test_parameters_are_chosen_for_every_target():
    X, _ = simulate(120, 2)
    rng = np.random.default_rng(1)
    Y = np.column_stack([np.sin(5 * X[:, 0]), X @ [1.0, 0.5]]) + 0.05 * rng.standard_normal((120, 2))
    ridge = KernelRidgeCV("rbf", gamma=[1e-3, 0.1, 5.0], random_state=0).fit(X, Y)
    assert ridge.kernels_ == ("rbf(gamma=0.001)", "rbf(gamma=0.1)", "rbf(gamma=5)")
    assert ridge.kernel_weights_.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert ridge.cv_scores_.shape == (3, 2)
    for gamma, row in zip([1e-3, 0.1, 5.0], ridge.cv_scores_, strict=True):
        np.testing.assert_allclose(KernelRidgeCV("rbf", gamma=gamma).fit(X, Y).best_score_, row)
    grid = KernelRidgeCV("polynomial", degree=[1, 2, 3], coef0=[0, 1]).fit(X, Y)
    assert grid.kernel_weights_.shape == (2, 6)
    assert grid.kernels_[1] == "polynomial(gamma=0.5, degree=1, coef0=1)"


def test_mixtures_find_the_bands_that_matter_and_no_others():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 60))
    signal = X[:, :20] @ rng.standard_normal(20), X[:, 20:40] @ rng.standard_normal(20)
    noise = rng.standard_normal(150)
    Y = np.column_stack([signal[0] + noise, signal[1] + noise, noise])
    bands = [slice(0, 20), range(20, 40), np.arange(40, 60)]
    ridge = KernelRidgeCV("linear", bands=bands, n_candidates=60, random_state=1).fit(X, Y)
    assert ridge.kernels_ == ("linear of band 0", "linear of band 1", "linear of band 2")
    np.testing.assert_allclose(ridge.kernel_weights_.sum(1), 1)
    assert ridge.kernel_weights_[0, 0] > 0.9
    assert ridge.kernel_weights_[1, 1] > 0.9
    assert ridge.best_score_[2] < 0.05
    assert (ridge.best_score_[:2] > KernelRidgeCV().fit(X, Y).best_score_[:2]).all()


def test_a_kernel_for_each_band_and_functions():
    X, Y = simulate()

    def cosine(a, b):
        return torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T

    ridge = KernelRidgeCV([cosine, "rbf"], bands=[[0, 1], [2, 3, 4, 5]], n_candidates=3).fit(X, Y)
    assert ridge.kernels_ == ("cosine of band 0", "rbf(gamma=0.25) of band 1")
    assert ridge.cv_scores_.shape == (3, 4)
    weights, changed = ridge.kernel_weights_, X * [1, 1, 0, 0, 0, 0]
    first = weights[:, 1] == 0
    np.testing.assert_allclose(ridge.predict(changed)[:, first], ridge.predict(X)[:, first])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100), st.permutations(range(4)))
def test_targets_do_not_know_of_each_other(seed, order):
    X, Y = simulate(30, seed=seed)
    arguments = {"kernel": ["linear", "rbf"], "n_candidates": 5, "alphas": ALPHAS}
    ridge, permuted = KernelRidgeCV(**arguments).fit(X, Y), KernelRidgeCV(**arguments).fit(X, Y[:, order])
    np.testing.assert_array_equal(permuted.alpha_, ridge.alpha_[order])
    np.testing.assert_allclose(permuted.predict(X), ridge.predict(X)[:, order], atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100), st.floats(0.1, 10), st.floats(-10, 10))
def test_moving_rotating_and_scaling_change_no_choice(seed, scale, shift):
    X, Y = simulate(30, seed=seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))[0]
    ridge = KernelRidgeCV("rbf", ALPHAS, gamma=0.3).fit(X, Y)
    other = KernelRidgeCV("rbf", ALPHAS, gamma=0.3 / scale**2).fit(
        scale * X @ rotation + shift, scale * Y + shift
    )
    np.testing.assert_array_equal(other.alpha_, ridge.alpha_)
    np.testing.assert_allclose(
        other.predict(scale * X @ rotation + shift), scale * ridge.predict(X) + shift, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_what_comes_in_goes_out(kind, device, dtype):
    X, Y = (torch.from_numpy(x).to(device, dtype) for x in simulate())
    if kind == "numpy":
        X, Y = X.cpu().numpy(), Y.cpu().numpy()
    ridge = KernelRidgeCV(["linear", "rbf"], n_candidates=3, device=device).fit(X, Y)
    predicted = ridge.predict(X)
    assert torch.as_tensor(predicted).dtype == torch.as_tensor(ridge.dual_coef_).dtype == dtype
    assert isinstance(predicted, torch.Tensor if kind == "torch" else np.ndarray)
    single = KernelRidgeCV(["linear", "rbf"], n_candidates=3, device=device).fit(X, Y[:, 0])
    assert single.predict(X).shape == (50,)
    assert single.dual_coef_.shape == (50,)
    np.testing.assert_allclose(
        torch.as_tensor(single.predict(X)).cpu(), torch.as_tensor(predicted).cpu()[:, 0], atol=1e-4
    )


def test_blocks_of_samples_change_no_prediction(monkeypatch):
    X, Y = simulate()
    ridge = KernelRidgeCV("rbf").fit(X, Y)
    whole = ridge.predict(X)
    monkeypatch.setattr("cerebridge.encoding.kernels.FEATURE_BLOCK", 7 * len(X))
    np.testing.assert_allclose(ridge.predict(X), whole, rtol=1e-12)


def recording() -> tuple[xr.DataArray, xr.DataArray]:
    X, Y = simulate(40, 6, 3)
    stimuli = {"stimulus_id": [f"s{i}" for i in range(40)], "run": np.arange(40) // 10, "subject": "one"}
    layers = {"neuroid_id": [f"f{i}" for i in range(6)], "layer": ["low", "high", "high"] * 2}
    features = neuro.assemble(X, presentation=stimuli, neuroid=layers, modality="activation", units="a.u.")
    responses = neuro.assemble(
        Y,
        presentation={"stimulus_id": stimuli["stimulus_id"]},
        neuroid={"neuroid_id": ["a", "b", "c"], "region": ["V1", "V4", "IT"], "subject": ["m", "m", "n"]},
        modality="spikes",
        units="spikes/s",
    )
    return features, responses


def test_labels_stay_on_everything_through_files(tmp_path):
    features, responses = recording()
    ridge = KernelRidgeCV("rbf", bands="layer", n_candidates=4, cv=4).fit(features, responses, groups="run")
    assert list(ridge.kernel_weights_.kernel.values) == ["rbf(gamma=0.5) of low", "rbf(gamma=0.25) of high"]
    assert ridge.dual_coef_.dims == ("neuroid", "sample")
    assert list(ridge.dual_coef_.sample_stimulus_id.values) == list(features.stimulus_id.values)
    assert list(ridge.alpha_.region.values) == ["V1", "V4", "IT"]
    predicted = ridge.predict(features[:7])
    assert predicted.dims == ("presentation", "neuroid")
    assert list(predicted.stimulus_id.values) == list(features.stimulus_id.values[:7])
    bands = [[0, 3], [1, 2, 4, 5]]
    plain = KernelRidgeCV("rbf", bands=bands, n_candidates=4, cv=4)
    plain.fit(features.values, responses.values, groups=features.run.values)
    np.testing.assert_array_equal(predicted.values, plain.predict(features.values[:7]))
    save(tmp_path / "kernel.skops", ridge)
    for again in (copy.deepcopy(ridge), load(tmp_path / "kernel.skops")):
        xr.testing.assert_identical(again.predict(features), ridge.predict(features))


def test_constant_targets_are_said_and_predicted():
    X, Y = simulate()
    Y[:, 1] = 0.3
    with pytest.warns(UserWarning, match="1 of 4 targets vary in no held-out set, first column 1"):
        ridge = KernelRidgeCV("rbf").fit(X, Y)
    assert (ridge.predict(X)[:, 1] == 0.3).all()
    assert np.isnan(ridge.best_score_).tolist() == [False, True, False, False]


def test_penalties_at_the_edge_of_the_grid_are_said():
    with pytest.warns(
        UserWarning, match=r"of 4 targets chose an alpha at the edge of the grid: \d the smallest \(10\)"
    ):
        KernelRidgeCV("rbf", [10, 100]).fit(*simulate())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "sigmoid"}, "kernel='sigmoid' is unknown; use 'linear', 'polynomial', 'rbf', a function"),
        ({"kernel": []}, "kernel is an empty list"),
        ({"kernel": ("rbf", {"degree": 2})}, "kernel 'rbf' has no parameter 'degree'; it has gamma"),
        ({"kernel": lambda a, b: a}, "must return a tensor with one row and one column for each"),
        ({"kernel": lambda a, b: a @ b.T * torch.inf}, "values that are not finite; scale the features"),
        ({"kernel": ["linear", "rbf"], "gamma": [1, 2]}, "of a mixture has a list of parameters"),
        ({"kernel": ["linear"] * 3, "bands": list("aaabbb")}, "kernel lists 3 kernels for 2 bands"),
        ({"bands": [[0], [1]]}, "bands do not cover 4 of 6 features"),
        ({"bands": "layer"}, "bands='layer' names a coordinate, but X has no labels here"),
        ({"kernel": "rbf", "gamma": [0.1, -1]}, "gamma must be positive, got -1.0 at position 1"),
        ({"kernel": "polynomial", "degree": 0}, "degree must be a whole number from 1, got 0"),
        ({"kernel": "polynomial", "coef0": -1}, "coef0=-1 is no kernel's"),
        ({"bands": list("aaabbb"), "n_candidates": 0}, "n_candidates must be a whole number from 1, got 0"),
        ({"alphas": [1.0, 0.0]}, "alphas must be positive, got 0.0 at position 1"),
        ({"scoring": "accuracy"}, "scoring='accuracy' is unknown; use 'r2' or 'pearsonr'"),
    ],
)
def test_parameters_that_are_wrong(parameters, message):
    with pytest.raises(ValueError, match=message):
        KernelRidgeCV(**parameters).fit(*simulate())
