"""TRF: the contract, the delayed ridge that it is, MNE's coefficients, known truth, trials, labels, every bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, ShuffleSplit
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import encoding, neuro
from cerebridge.encoding.delays import Delays
from cerebridge.encoding.trf import TRF

#: penalties of the simulations are few, and their channels range from no noise to nothing but noise
pytestmark = pytest.mark.filterwarnings("ignore:.* targets chose an alpha at the edge")
SFREQ = 50.0
ALPHAS = np.logspace(-1, 5, 7)
#: what cannot hold for a model in which neighbouring rows matter
OF_ROWS_ALONE = ("check_methods_sample_order_invariance", "check_methods_subset_invariance")


@parametrize_with_checks(
    [TRF(0, 0, 1.0), TRF(0, 1, 1.0, "backward", "tikhonov", scoring="r2"), TRF(0, 1, 1.0, alphas=1.0)]
)
def test_the_contract_of_scikit_learn(estimator, check):
    if estimator.tmax and check.func.__name__ in OF_ROWS_ALONE:
        pytest.skip("a row's prediction depends on the rows before")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def simulated(trials: int = 5, times: int = 100, p: int = 2, targets: int = 3, seed: int = 0):
    """Trials of features with a mean, and responses two samples later, under more and more noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((trials, times, p)) + 2
    Y = np.roll(X, 2, axis=1) @ rng.standard_normal((p, targets))
    return X, Y + rng.standard_normal(Y.shape) * np.logspace(-1, 1, targets) + 4


def flat(*arrays: np.ndarray) -> list[np.ndarray]:
    return [array.reshape(-1, array.shape[2]) for array in arrays]


def groups_of(X: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(X)), X.shape[1])


@pytest.mark.parametrize("scoring", ["pearsonr", "r2"])
@pytest.mark.parametrize("edges", ["zero", "mean"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_is_ridge_on_delayed_features(direction, edges, scoring):
    X, Y = simulated()
    trf = TRF(-0.04, 0.06, SFREQ, direction, alphas=ALPHAS, edges=edges, scoring=scoring).fit(X, Y)
    sign = 1 if direction == "forward" else -1
    delays = Delays(sign * np.arange(-2, 4), edges=edges)
    (rows, responses), groups = flat(X, Y), groups_of(X)
    delayed = delays.fit_transform(rows, groups=groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ridge = encoding.RidgeCV(ALPHAS, cv=LeaveOneGroupOut(), scoring=scoring).fit(
            delayed, responses, groups
        )
    np.testing.assert_allclose(trf.alpha_, ridge.alpha_)
    np.testing.assert_allclose(trf.cv_scores_, ridge.cv_scores_, atol=1e-9)
    np.testing.assert_allclose(trf.best_score_, ridge.best_score_, atol=1e-9)
    np.testing.assert_allclose(trf.coef_.transpose(2, 1, 0).reshape(3, -1), ridge.coef_, atol=1e-9)
    np.testing.assert_allclose(trf.predict(X).reshape(-1, 3), ridge.predict(delayed), atol=1e-9)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_valid_fits_only_samples_whose_lags_lie_inside(fit_intercept):
    X, Y = simulated(trials=3)
    trf = TRF(-0.04, 0.06, SFREQ, alphas=ALPHAS, edges="valid", fit_intercept=fit_intercept).fit(X, Y)
    inside, designs = slice(3, 98), []
    for trial in X:
        designs.append(np.concatenate([np.roll(trial, lag, axis=0) for lag in range(-2, 4)], 1)[inside])
    scores = np.zeros((3, len(ALPHAS), 3))
    for k in range(3):
        rest = [j for j in range(3) if j != k]
        for a, alpha in enumerate(ALPHAS):
            ridge = Ridge(alpha, fit_intercept=fit_intercept)
            ridge.fit(
                np.concatenate([designs[j] for j in rest]), np.concatenate([Y[j, inside] for j in rest])
            )
            predicted = ridge.predict(designs[k])
            scores[k, a] = [
                np.corrcoef(*pair)[0, 1] for pair in zip(Y[k, inside].T, predicted.T, strict=True)
            ]
    np.testing.assert_allclose(trf.cv_scores_, scores.mean(0), atol=1e-9)
    for target, alpha in enumerate(trf.alpha_):
        ridge = Ridge(alpha, fit_intercept=fit_intercept)
        ridge.fit(np.concatenate(designs), Y[:, inside, target].reshape(-1))
        np.testing.assert_allclose(trf.coef_[:, :, target].T.reshape(-1), ridge.coef_, atol=1e-9)


@pytest.mark.parametrize(("penalty", "reg_type"), [("ridge", "ridge"), ("tikhonov", ["laplacian", "ridge"])])
@pytest.mark.parametrize("several", [False, True])
def test_coefficients_are_those_of_mne(several, penalty, reg_type):
    import mne
    from mne.decoding import ReceptiveField, TimeDelayingRidge

    X, Y = simulated(trials=4 if several else 1, times=200)
    X, Y = X - X.mean((0, 1)), Y - Y.mean((0, 1))
    window = (-0.04, 0.06, SFREQ)
    ridge = TimeDelayingRidge(*window, alpha=3.0, reg_type=reg_type, fit_intercept=False)
    with mne.utils.use_log_level("ERROR"):
        peer = ReceptiveField(*window, estimator=ridge).fit(X.swapaxes(0, 1), Y.swapaxes(0, 1))
    ours = TRF(*window, penalty=penalty, alphas=3.0, edges="zero", fit_intercept=False).fit(X, Y)
    np.testing.assert_allclose(ours.coef_.transpose(2, 0, 1), peer.coef_, atol=1e-9)
    np.testing.assert_allclose(ours.lags_, peer.delays_ / SFREQ)
    np.testing.assert_allclose(ours.predict(X), peer.predict(X.swapaxes(0, 1)).swapaxes(0, 1), atol=1e-9)


def test_banded_is_banded_ridge_on_delayed_features():
    X, Y = simulated(p=3)
    Y[..., 0] = np.roll(X[..., 2], 1, axis=1) + np.random.default_rng(1).standard_normal(Y.shape[:2])
    trf = TRF(
        0.0, 0.06, SFREQ, penalty="banded", bands=["a", "a", "b"], n_candidates=6, alphas=ALPHAS, edges="zero"
    )
    trf.fit(X, Y)
    (rows, responses), groups = flat(X, Y), groups_of(X)
    delayed = Delays(range(4)).fit_transform(rows, groups=groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ridge = encoding.BandedRidgeCV(
            ["a", "a", "b"] * 4, ALPHAS, n_candidates=6, cv=LeaveOneGroupOut(), scoring="pearsonr", polish=0,
            random_state=0,
        ).fit(delayed, responses, groups)  # fmt: skip
    np.testing.assert_allclose(trf.band_alphas_, ridge.band_alphas_)
    np.testing.assert_allclose(trf.best_score_, ridge.best_score_, atol=1e-9)
    np.testing.assert_allclose(trf.coef_.transpose(2, 1, 0).reshape(3, -1), ridge.coef_, atol=1e-8)
    assert trf.band_alphas_[0, 0] > trf.band_alphas_[1, 0]


def test_tikhonov_recovers_a_smooth_response_better_than_ridge():
    rng = np.random.default_rng(0)
    truth = np.hanning(20)
    X = rng.standard_normal((4, 300, 1))
    Y = np.stack([np.convolve(trial[:, 0], truth)[:300] for trial in X])[..., None]
    Y = Y + 6 * rng.standard_normal(Y.shape)
    errors = {}
    for penalty, order in (("ridge", 1), ("tikhonov", 1), ("tikhonov", 2)):
        trf = TRF(0.0, 0.38, SFREQ, penalty=penalty, order=order).fit(X, Y)
        errors[penalty, order] = np.abs(trf.coef_[0, :, 0] - truth).mean()
    assert errors["tikhonov", 2] < errors["ridge", 1] / 2
    assert errors["tikhonov", 1] < errors["ridge", 1]


def test_a_grid_that_is_too_short_is_warned_of():
    X, Y = simulated()
    with pytest.warns(UserWarning, match="2 of 3 targets chose an alpha at the edge of the grid"):
        TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(X, Y)


def test_noise_predicts_nothing():
    X, _ = simulated()
    Y = np.random.default_rng(5).standard_normal((5, 100, 20))
    assert abs(np.median(TRF(0, 0.1, SFREQ).fit(X, Y).best_score_)) < 0.1


def test_one_penalty_for_all_channels():
    X, Y = simulated()
    shared = TRF(0, 0.06, SFREQ, alphas=ALPHAS, per_channel=False).fit(X, Y)
    own = TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(X, Y)
    assert len(set(shared.alpha_)) == 1
    assert len(set(own.alpha_)) > 1
    assert shared.alpha_[0] == ALPHAS[own.cv_scores_.mean(1).argmax()]
    assert own.independent_targets
    assert not shared.independent_targets


def test_weights_per_second_do_not_depend_on_the_rate():
    X, Y = simulated()
    plain, scaled = (TRF(0, 0.06, SFREQ, per_second=scale).fit(X, Y) for scale in (False, True))
    np.testing.assert_allclose(scaled.coef_, plain.coef_ * SFREQ)
    np.testing.assert_allclose(scaled.predict(X), plain.predict(X))


def test_patterns_show_where_a_feature_is_in_the_recording():
    rng = np.random.default_rng(0)
    feature, distractor = rng.standard_normal((2, 4, 400))
    brain = np.stack([np.roll(feature, 3, 1) + distractor, distractor], -1)
    brain += 0.1 * rng.standard_normal(brain.shape)
    trf = TRF(0, 0.1, SFREQ, "backward").fit(brain, feature[..., None])
    weights, found = np.abs(trf.coef_[:, 3, 0]), np.abs(trf.patterns_[:, 3, 0])
    assert weights[1] > 0.9 * weights[0]
    assert found[1] < 0.1 * found[0]
    assert np.abs(trf.patterns_[0, :, 0]).argmax() == 3


@pytest.mark.parametrize("kind", ["numpy", "torch", "xarray"])
def test_every_form_of_trials_gives_the_same(kind):
    X, Y = simulated()
    (rows, responses), groups = flat(X, Y), groups_of(X)
    reference = TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(rows, responses, groups=groups)
    expected = reference.predict(rows, groups=groups).reshape(Y.shape)
    if kind == "torch":
        X, Y = torch.from_numpy(X), torch.from_numpy(Y)
    if kind == "xarray":
        time = {"time_bin_start": np.arange(100) / SFREQ, "time_bin_end": np.arange(1, 101) / SFREQ}
        X, Y = (
            neuro.assemble(
                values.transpose(0, 2, 1), presentation={"stimulus_id": [f"s{k}" for k in range(5)]}, time_bin=time,
                neuroid={"neuroid_id": [f"{name}{k}" for k in range(values.shape[2])]}, modality="eeg", units="V",
                sfreq=SFREQ,
            )
            for name, values in (("f", X), ("e", Y))
        )  # fmt: skip
    stack = TRF(0, 0.06, None if kind == "xarray" else SFREQ, alphas=ALPHAS).fit(X, Y)
    found = stack.predict(X)
    np.testing.assert_allclose(stack.alpha_, reference.alpha_)
    if kind == "xarray":
        assert found.dims == ("presentation", "neuroid", "time_bin")
        assert found.neuroid_id.values.tolist() == ["e0", "e1", "e2"]
        assert found.stimulus_id.values.tolist() == X.stimulus_id.values.tolist()
        found = found.transpose("presentation", "time_bin", "neuroid")
    np.testing.assert_allclose(found, expected, atol=1e-9)
    if kind != "xarray":
        listed = TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(list(X), list(Y)).predict(list(X))
        assert type(listed[0]) is type(X)
        np.testing.assert_allclose(np.stack(listed), expected, atol=1e-9)


def continuous(X: np.ndarray, Y: np.ndarray) -> tuple[xr.DataArray, xr.DataArray]:
    n = X.shape[1]
    start = np.tile(np.arange(n) / SFREQ, len(X))
    time = {"time_bin_start": start, "time_bin_end": start + 1 / SFREQ, "run": groups_of(X)}
    return tuple(
        neuro.assemble(
            rows, time_bin=time, neuroid={"neuroid_id": [f"{name}{k}" for k in range(rows.shape[1])]}, modality="eeg",
            units="V", sfreq=SFREQ,
        )
        for name, rows in zip("fe", flat(X, Y), strict=True)
    )  # fmt: skip


def test_labels_are_kept_and_borders_are_seen():
    X, Y = simulated()
    features, eeg = continuous(X, Y)
    trf = TRF(-0.02, 0.06, alphas=ALPHAS).fit(features, eeg)
    assert trf.coef_.dims == ("feature", "lag", "neuroid")
    np.testing.assert_allclose(trf.coef_.lag, np.arange(-1, 4) / SFREQ)
    assert trf.coef_.feature_neuroid_id.values.tolist() == ["f0", "f1"]
    assert trf.cv_scores_.dims == ("alpha", "neuroid")
    plain = TRF(-0.02, 0.06, SFREQ, alphas=ALPHAS).fit(X, Y)
    np.testing.assert_allclose(trf.coef_, plain.coef_)
    predicted = trf.predict(features)
    np.testing.assert_allclose(predicted.values.reshape(Y.shape), plain.predict(X))
    assert predicted.run.values.tolist() == features.run.values.tolist()
    # without runs, a jump in time is a border all the same
    unlabelled = trf.predict(features.drop_vars("run"))
    np.testing.assert_allclose(unlabelled.values, predicted.values)


def test_evaluation_knows_the_borders():
    X, Y = simulated()
    features, eeg = continuous(X, Y)
    result = encoding.evaluate(
        TRF(0, 0.06, SFREQ, alphas=ALPHAS), features, eeg, ceiling=None, permutations=20
    )
    assert result.dataset.attrs["audit"]["shuffle_control"]["model"] < 0.1
    scores = result.dataset["score"].values[0]
    assert scores.shape == (5, 3)
    for k in range(5):
        rest = [j for j in range(5) if j != k]
        predicted = TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(X[rest], Y[rest]).predict(X[k])
        np.testing.assert_allclose(
            scores[k], [np.corrcoef(*pair)[0, 1] for pair in zip(predicted.T, Y[k].T, strict=True)], atol=1e-9
        )


def test_a_single_run_is_cut_into_pieces_each_delayed_by_itself():
    X, Y = simulated(trials=1, times=200)
    X, Y = X[0], Y[0]
    trf = TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(X, Y)
    pieces = TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(X.reshape(5, 40, -1), Y.reshape(5, 40, -1))
    np.testing.assert_allclose(trf.cv_scores_, pieces.cv_scores_)
    whole = TRF(0, 0.06, SFREQ, alphas=3.0).fit(X, Y)
    np.testing.assert_allclose(TRF(0, 0.06, SFREQ, alphas=[3.0, 3.0]).fit(X, Y).coef_, whole.coef_)


def test_many_trials_are_left_out_in_parts():
    X, Y = simulated(trials=30, times=20)
    own = TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(X, Y)
    parts = TRF(0, 0.06, SFREQ, alphas=ALPHAS, cv=GroupKFold(10)).fit(X, Y)
    np.testing.assert_array_equal(own.cv_scores_, parts.cv_scores_)


def test_splits_that_overlap_or_leave_samples_out():
    X, Y = simulated()
    held = np.arange(100)
    one = TRF(0, 0.06, SFREQ, alphas=ALPHAS, cv=[(np.arange(100, 300), held)]).fit(X, Y)
    changed = Y.copy()
    changed[3:] += 1e3
    other = TRF(0, 0.06, SFREQ, alphas=ALPHAS, cv=[(np.arange(100, 300), held)]).fit(X, changed)
    np.testing.assert_array_equal(one.cv_scores_, other.cv_scores_)


def test_a_single_series_has_no_axis_of_targets():
    X, Y = simulated()
    rows, responses = flat(X, Y)
    single = TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(rows, responses[:, 0])
    table = TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(rows, responses[:, :1])
    assert single.coef_.shape == (2, 4)
    assert single.predict(rows).shape == (500,)
    np.testing.assert_array_equal(single.coef_, table.coef_[..., 0])
    assert TRF(0, 0.06, SFREQ, alphas=1.0).fit(list(X), list(Y[..., 0])).coef_.shape == (2, 4)


def test_precision_and_device(dtype, device):
    X, Y = (torch.from_numpy(values).to(device, dtype) for values in simulated())
    trf = TRF(0, 0.06, SFREQ, "backward", alphas=ALPHAS, device=device).fit(X, Y)
    reference = TRF(0, 0.06, SFREQ, "backward", alphas=ALPHAS).fit(X.cpu().double(), Y.cpu().double())
    for name in ("coef_", "alpha_", "best_score_", "patterns_"):
        assert getattr(trf, name).dtype == dtype
        torch.testing.assert_close(
            getattr(trf, name).cpu().double(), getattr(reference, name), rtol=1e-4, atol=1e-4
        )
    assert trf.predict(X).dtype == dtype


def test_saved_and_loaded(tmp_path):
    X, Y = simulated()
    features, eeg = continuous(X, Y)
    trf = TRF(0, 0.06, alphas=ALPHAS).fit(features, eeg)
    encoding.save(tmp_path / "trf", trf)
    loaded = encoding.load(tmp_path / "trf")
    xr.testing.assert_identical(loaded.predict(features), trf.predict(features))
    assert clone(loaded).alphas is not None


def test_constant_features_are_left_alone():
    X, Y = simulated()
    widened = np.concatenate([X, np.full((*X.shape[:2], 1), 0.3)], axis=2)
    without, with_constant = (TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(x, Y) for x in (X, widened))
    np.testing.assert_allclose(with_constant.coef_[:2], without.coef_, atol=1e-9)
    assert np.abs(with_constant.coef_[2]).max() < 1e-9


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sfreq": None}, "sfreq is not known"),
        ({"sfreq": -1.0}, "sfreq must be a positive"),
        ({"tmin": 0.2}, "tmin .* must be at most tmax"),
        ({"direction": "sideways"}, "direction='sideways' is unknown"),
        ({"penalty": "lasso"}, "penalty='lasso' is unknown"),
        ({"edges": "wrap"}, "edges='wrap' is unknown"),
        ({"penalty": "tikhonov", "order": 3}, "order=3 is unknown"),
        ({"penalty": "tikhonov", "tmin": 0.06}, "1 lags have no differences"),
        ({"alphas": [1.0, 0.0]}, "alphas must be positive"),
        ({"scoring": "mse"}, "scoring='mse' is unknown"),
        ({"penalty": "banded", "bands": ["a"]}, "1 labels, but X has 2 features"),
        ({"penalty": "banded", "bands": "layer"}, "no labels here"),
        ({"edges": "valid", "tmax": 10.0}, "no run is longer than the 501 lags"),
        ({"cv": ShuffleSplit(2, random_state=0)}, "test moments lie between training moments"),
        ({"cv": KFold(5, shuffle=True, random_state=0)}, "test moments lie between training moments"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    X, Y = simulated()
    with pytest.raises(ValueError, match=message):
        TRF(**{"tmin": 0.0, "tmax": 0.06, "sfreq": SFREQ, **parameters}).fit(X, Y)


def test_wrong_data_are_named():
    X, Y = simulated()
    trf = TRF(0, 0.06, SFREQ, alphas=1.0)
    with pytest.raises(ValueError, match="X has 5 trials and y has 4"):
        trf.fit(X, Y[:4])
    with pytest.raises(ValueError, match="trial 1 has 100 samples in X and 90 in y"):
        trf.fit(list(X), [Y[0], Y[1, :90], *Y[2:]])
    with pytest.raises(ValueError, match="NaN"):
        trf.fit(np.where(X > 4, np.nan, X), Y)
    with pytest.raises(ValueError, match="groups have shape"):
        trf.fit(*flat(X, Y), groups=[1, 2])
    with pytest.raises(ValueError, match="X has 1 features, but TRF is expecting 2"):
        trf.fit(X, Y).predict(X[..., :1])
    Y[..., 1] = 3.0
    with pytest.warns(UserWarning, match="1 of 3 targets vary in no held-out set, first column 1"):
        TRF(0, 0.06, SFREQ, alphas=ALPHAS).fit(X, Y)
