"""RidgeCV: scikit-learn's contract, the peers' answers, labels, devices, invariances, and every bad input."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.linear_model import RidgeCV as PeerRidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, LeaveOneGroupOut, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from cerebridge import neuro
from cerebridge.encoding.persistence import load, save
from cerebridge.encoding.ridge import RidgeCV
from cerebridge.models.memory import LiveBytes

# most grids below are short
pytestmark = pytest.mark.filterwarnings("ignore:.* at the edge of the grid")

ALPHAS = np.logspace(-2, 5, 8)
SHAPES = [(60, 12), (30, 80)]


@parametrize_with_checks([RidgeCV(), RidgeCV(scoring="pearsonr", cv=2), RidgeCV(cv="loo")])
def test_the_contract_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def simulate(n: int, p: int, targets: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + 2
    noise = rng.standard_normal((n, targets)) * np.logspace(-1, 1, targets)
    return X, X @ rng.standard_normal((p, targets)) / np.sqrt(p) + noise + 4


def recording(n: int = 40, p: int = 6, targets: int = 3) -> tuple[xr.DataArray, xr.DataArray]:
    X, Y = simulate(n, p, targets)
    stimuli = {"stimulus_id": [f"s{i}" for i in range(n)], "run": np.arange(n) // 10, "subject": "one"}
    features = neuro.assemble(
        X,
        presentation=stimuli,
        neuroid={"neuroid_id": [f"f{i}" for i in range(p)], "layer": ["low", "high"] * (p // 2)},
        modality="activation",
        units="a.u.",
    )
    responses = neuro.assemble(
        Y,
        presentation={"stimulus_id": stimuli["stimulus_id"]},
        neuroid={"neuroid_id": ["a", "b", "c"], "region": ["V1", "V4", "IT"], "subject": ["m", "m", "n"]},
        modality="spikes",
        units="spikes/s",
    )
    return features, responses


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_agrees_with_a_grid_search_of_every_target(n, p):
    X, Y = simulate(n, p)
    ridge = RidgeCV(ALPHAS, cv=KFold(3), device="cpu").fit(X, Y)
    assert ridge.path_ == ("primal" if n > p else "dual")
    for t in range(Y.shape[1]):
        search = GridSearchCV(Ridge(solver="svd"), {"alpha": ALPHAS}, cv=KFold(3)).fit(X, Y[:, t])
        assert ridge.alpha_[t] == search.best_params_["alpha"]
        assert ridge.best_score_[t] == pytest.approx(search.best_score_, abs=1e-9)
        np.testing.assert_allclose(ridge.cv_scores_[:, t], search.cv_results_["mean_test_score"], atol=1e-9)
        np.testing.assert_allclose(ridge.coef_[t], search.best_estimator_.coef_, atol=1e-9)
        assert ridge.intercept_[t] == pytest.approx(search.best_estimator_.intercept_)
    np.testing.assert_allclose(ridge.predict(X)[:, -1], search.predict(X))


@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_agrees_with_himalaya(n, p, scoring):
    himalaya = pytest.importorskip("himalaya")
    himalaya.backend.set_backend("numpy")
    score = {"r2": himalaya.scoring.r2_score, "pearsonr": himalaya.scoring.correlation_score}[scoring]
    X, Y = simulate(n, p, targets=20)
    settings = {
        "alphas": ALPHAS,
        "cv": 4,
        "fit_intercept": True,
        "solver_params": {"score_func": score, "warn": False},
    }
    peer = himalaya.ridge.RidgeCV(**settings).fit(X, Y)
    ours = RidgeCV(ALPHAS, cv=4, scoring=scoring, device="cpu").fit(X, Y)
    np.testing.assert_allclose(ours.alpha_, peer.best_alphas_, rtol=1e-12)
    np.testing.assert_allclose(ours.coef_, peer.coef_.T, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, peer.intercept_, atol=1e-8)
    np.testing.assert_allclose(ours.best_score_, peer.cv_scores_, atol=1e-9)


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_a_single_series_has_scikit_learns_shapes(n, p):
    X, Y = simulate(n, p)
    single, table = RidgeCV(ALPHAS).fit(X, Y[:, 0]), RidgeCV(ALPHAS).fit(X, Y[:, :1])
    assert single.coef_.shape == (p,)
    assert np.ndim(single.intercept_) == np.ndim(single.alpha_) == np.ndim(single.best_score_) == 0
    assert single.cv_scores_.shape == (8,)
    assert single.predict(X).shape == (n,)
    assert table.coef_.shape == (1, p)
    assert table.predict(X).shape == (n, 1)
    np.testing.assert_array_equal(single.coef_, table.coef_[0])


def test_a_single_penalty_is_plain_ridge():
    X, Y = simulate(30, 4)
    np.testing.assert_allclose(RidgeCV(3.0).fit(X, Y).coef_, Ridge(3.0).fit(X, Y).coef_)


@pytest.mark.parametrize("scoring", ["r2", "pearsonr"])
def test_noise_is_shrunk_and_signal_is_not(scoring):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 10))
    Y = np.column_stack([X @ np.ones(10) + 0.1 * rng.standard_normal(200), rng.standard_normal(200)])
    ridge = RidgeCV(scoring=scoring).fit(X, Y)
    assert ridge.best_score_[0] > 0.95
    assert abs(ridge.best_score_[1]) < 0.15
    if scoring == "r2":
        assert ridge.alpha_[1] > 100 * ridge.alpha_[0]


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("kind", ["numpy", "torch", "pandas"])
def test_what_comes_in_goes_out(kind, n, p, device, dtype):
    pd = pytest.importorskip("pandas")
    X, Y = (torch.from_numpy(x).to(device, dtype) for x in simulate(n, p))
    if kind == "numpy":
        X, Y = X.cpu().numpy(), Y.cpu().numpy()
    if kind == "pandas":
        X, Y = pd.DataFrame(X.cpu().numpy()).add_prefix("f"), pd.DataFrame(Y.cpu().numpy())
    ridge = RidgeCV(ALPHAS, device=device).fit(X, Y)
    predicted = ridge.predict(X)
    expected = torch.Tensor if kind == "torch" else np.ndarray
    for result in (
        predicted,
        ridge.coef_,
        ridge.intercept_,
        ridge.alpha_,
        ridge.best_score_,
        ridge.cv_scores_,
    ):
        assert isinstance(result, expected)
        if kind == "torch":
            assert result.device.type == device
    assert torch.as_tensor(predicted).dtype == torch.as_tensor(ridge.coef_).dtype == dtype
    assert hasattr(ridge, "feature_names_in_") == (kind == "pandas")
    assert 0 < ridge.score(X, Y) <= 1
    reference = RidgeCV(ALPHAS, device="cpu").fit(
        *(np.asarray(torch.as_tensor(np.asarray(x)).cpu()) for x in (X, Y))
    )
    tolerance = 2e-3 if dtype == torch.float32 else 1e-9
    np.testing.assert_allclose(
        torch.as_tensor(predicted).cpu(), reference.predict(np.asarray(X)), atol=tolerance
    )


def test_single_precision_needs_both_sides():
    X, Y = simulate(30, 4)
    assert RidgeCV().fit(X.astype(np.float32), Y.astype(np.float32)).coef_.dtype == np.float32
    assert RidgeCV().fit(X.astype(np.float32), Y).coef_.dtype == np.float64
    assert RidgeCV().fit(X.astype(np.float32), np.round(Y).astype(int)).coef_.dtype == np.float64


def test_labels_stay_on_everything():
    features, responses = recording()
    ridge = RidgeCV(ALPHAS, cv=4).fit(features, responses, groups="run")
    assert ridge.coef_.dims == ("neuroid", "feature")
    assert list(ridge.coef_.feature_layer.values) == list(features.layer.values)
    for result in (ridge.coef_, ridge.intercept_, ridge.alpha_, ridge.best_score_, ridge.cv_scores_):
        assert list(result.region.values) == ["V1", "V4", "IT"]
    assert list(ridge.cv_scores_.alpha.values) == list(ALPHAS)
    predicted = ridge.predict(features[:7])
    assert predicted.dims == ("presentation", "neuroid")
    assert list(predicted.stimulus_id.values) == list(features.stimulus_id.values[:7])
    assert predicted.subject.dims == ("neuroid",)
    assert predicted.presentation_subject.dims == ("presentation",)
    assert predicted.attrs["units"] == "spikes/s"
    neuro.validate(predicted)
    plain = RidgeCV(ALPHAS, cv=4).fit(features.values, responses.values, groups=features.run.values)
    np.testing.assert_array_equal(predicted.values, plain.predict(features.values[:7]))
    assert ridge.score(features, responses) == pytest.approx(plain.score(features.values, responses.values))
    assert isinstance(ridge.predict(features.values), np.ndarray)
    assert plain.predict(features).dims == ("presentation", "neuroid")


def test_labels_of_a_single_series():
    features, responses = recording()
    ridge = RidgeCV(ALPHAS).fit(features, responses[:, 0])
    assert ridge.coef_.dims == ("feature",)
    assert ridge.alpha_.dims == ()
    assert ridge.predict(features).dims == ("presentation",)


@pytest.mark.parametrize("kind", ["numpy", "torch", "xarray"])
def test_fitted_estimators_survive_copying_and_files(kind, tmp_path):
    X, Y = recording()
    if kind != "xarray":
        X, Y = (x.values if kind == "numpy" else torch.from_numpy(x.values) for x in (X, Y))
    ridge = RidgeCV(ALPHAS).fit(X, Y)
    save(tmp_path / "ridge.skops", ridge)
    for again in (copy.deepcopy(ridge), load(tmp_path / "ridge.skops")):
        assert type(again.coef_) is type(ridge.coef_)
        np.testing.assert_array_equal(np.asarray(again.predict(X)), np.asarray(ridge.predict(X)))
        if kind == "xarray":
            xr.testing.assert_identical(again.predict(X), ridge.predict(X))
            xr.testing.assert_identical(again.cv_scores_, ridge.cv_scores_)


def test_inside_a_pipeline_and_cloned():
    X, Y = simulate(40, 6)
    pipeline = make_pipeline(StandardScaler(), RidgeCV(ALPHAS))
    assert clone(pipeline).fit(X, Y).score(X, Y) > 0


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 100), st.permutations(range(5)))
def test_targets_do_not_know_of_each_other(shape, seed, order):
    X, Y = simulate(*shape, seed=seed)
    ridge, permuted = RidgeCV(ALPHAS).fit(X, Y), RidgeCV(ALPHAS).fit(X, Y[:, order])
    np.testing.assert_array_equal(permuted.alpha_, ridge.alpha_[order])
    np.testing.assert_allclose(permuted.coef_, ridge.coef_[order], rtol=1e-9, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 100), st.floats(0.01, 100))
def test_rotating_and_scaling_features_changes_no_prediction(shape, seed, scale):
    X, Y = simulate(*shape, seed=seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((shape[1], shape[1])))[0]
    ridge, turned = RidgeCV(ALPHAS).fit(X, Y), RidgeCV(ALPHAS * scale**2).fit(scale * X @ rotation, Y)
    np.testing.assert_allclose(turned.alpha_, ridge.alpha_ * scale**2)
    np.testing.assert_allclose(turned.predict(scale * X @ rotation), ridge.predict(X), atol=1e-8)
    np.testing.assert_allclose(turned.best_score_, ridge.best_score_, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 100), st.floats(0.01, 100), st.floats(-100, 100))
def test_scaling_and_shifting_targets_changes_no_choice(shape, seed, scale, shift):
    X, Y = simulate(*shape, seed=seed)
    ridge, other = RidgeCV(ALPHAS).fit(X, Y), RidgeCV(ALPHAS).fit(X, scale * Y + shift)
    np.testing.assert_array_equal(other.alpha_, ridge.alpha_)
    np.testing.assert_allclose(other.predict(X), scale * ridge.predict(X) + shift, rtol=1e-8, atol=1e-8)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(SHAPES), st.permutations(range(3)), st.integers(0, 100))
def test_names_of_groups_and_order_of_rows_do_not_matter(shape, names, seed):
    X, Y = simulate(*shape, seed=seed)
    groups = np.arange(len(X)) % 3
    ridge = RidgeCV(ALPHAS, cv=LeaveOneGroupOut()).fit(X, Y, groups=groups)
    order = np.random.default_rng(seed).permutation(len(X))
    renamed = np.take(names, groups)[order]
    other = RidgeCV(ALPHAS, cv=LeaveOneGroupOut()).fit(X[order], Y[order], groups=renamed)
    np.testing.assert_array_equal(other.alpha_, ridge.alpha_)
    np.testing.assert_allclose(other.coef_, ridge.coef_, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(1, 12))
def test_memory_changes_blocks_and_not_the_answer(shape, blocks):
    X, Y = simulate(*shape, targets=12)
    problem = RidgeCV(ALPHAS).plan(X, Y).problem
    path = RidgeCV(ALPHAS).plan(X, Y).path
    memory = problem.fixed_bytes(path) + blocks * problem.bytes_per_target(path)
    whole, parts = RidgeCV(ALPHAS).fit(X, Y), RidgeCV(ALPHAS, memory=memory)
    assert parts.plan(X, Y).targets_at_once == blocks
    parts.fit(X, Y)
    np.testing.assert_array_equal(parts.alpha_, whole.alpha_)
    np.testing.assert_allclose(parts.coef_, whole.coef_, atol=1e-11)


@pytest.mark.parametrize(
    "cv", [4, [(np.arange(100), np.arange(100, 150))], ShuffleSplit(3), "loo", "gcv"], ids=str
)
@pytest.mark.parametrize(("n", "p"), [(400, 60), (150, 600)])
def test_the_memory_planned_is_not_exceeded(n, p, cv):
    X, Y = (torch.from_numpy(x) for x in simulate(n, p, targets=500))
    plan = RidgeCV(ALPHAS, cv=cv, device="cpu").plan(X, Y)
    memory = plan.problem.fixed_bytes(plan.path) + 50 * plan.problem.bytes_per_target(plan.path)
    with LiveBytes() as live:
        ridge = RidgeCV(ALPHAS, cv=cv, device="cpu", memory=memory).fit(X, Y)
    results = sum(
        x.nbytes for x in (ridge.coef_, ridge.intercept_, ridge.alpha_, ridge.best_score_, ridge.cv_scores_)
    )
    assert memory / 8 < live.peak <= memory + results + 8 * 500


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("cv", [ShuffleSplit(3, random_state=0), [(np.arange(15), np.arange(15, 30))]])
def test_splits_that_overlap_or_leave_rows_out(n, p, cv):
    X, Y = simulate(n, p)
    ridge = RidgeCV(ALPHAS, cv=cv).fit(X, Y[:, 0])
    search = GridSearchCV(Ridge(solver="svd"), {"alpha": ALPHAS}, cv=cv).fit(X, Y[:, 0])
    assert ridge.alpha_ == search.best_params_["alpha"]
    np.testing.assert_allclose(ridge.cv_scores_, search.cv_results_["mean_test_score"], atol=1e-9)


def test_groups_stay_together():
    X, Y = simulate(12, 3)
    X, Y, groups = np.repeat(X, 3, 0), np.repeat(Y, 3, 0), np.repeat(np.arange(12), 3)
    kept = RidgeCV(ALPHAS, cv=4).fit(X, Y, groups=groups)
    explicit = RidgeCV(ALPHAS, cv=GroupKFold(4)).fit(X, Y, groups=groups)
    np.testing.assert_array_equal(kept.cv_scores_, explicit.cv_scores_)
    leaking = RidgeCV(ALPHAS, cv=KFold(4, shuffle=True, random_state=0)).fit(X, Y)
    assert leaking.best_score_.mean() > kept.best_score_.mean()


def test_the_plan_says_what_will_happen():
    X, Y = simulate(60, 12)
    plan = RidgeCV(ALPHAS, cv=3).plan(X, Y)
    assert (
        str(RidgeCV(ALPHAS, cv=3).plan((60, 12), (60, 5))).split(" operations")[0]
        == str(plan).split(" operations")[0]
    )
    assert plan.path == RidgeCV(ALPHAS, cv=3).fit(X, Y).path_ == "primal"
    assert plan.seconds > 0
    assert RidgeCV().plan((60, 12), (60,)).problem.targets == 1
    assert RidgeCV().plan((50, 9000), (50, 5)).path == "dual"
    assert RidgeCV().plan(X.astype(np.float32), Y.astype(np.float32)).problem.itemsize == 4


def test_constant_targets_are_said_and_predicted():
    X, Y = simulate(30, 4)
    Y[:, 1] = 0.3
    with pytest.warns(UserWarning, match="1 of 5 targets vary in no held-out set, first column 1"):
        ridge = RidgeCV().fit(X, Y)
    assert not ridge.coef_[1].any()
    assert (ridge.predict(X)[:, 1] == 0.3).all()
    assert np.isnan(ridge.best_score_).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_targets_that_vary_between_folds_only(n, p):
    X, Y = simulate(n, p)
    Y[:, 2] = np.arange(n) // (n // 3)
    with pytest.warns(UserWarning, match="1 of 5 targets vary in no held-out set, first column 2"):
        ridge = RidgeCV(ALPHAS, cv=3).fit(X, Y)
    assert ridge.alpha_[2] == ALPHAS.max()
    np.testing.assert_allclose(ridge.coef_[2], Ridge(ALPHAS.max()).fit(X, Y[:, 2]).coef_)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alphas": [1.0, 0.0]}, "alphas must be positive, got 0.0 at position 1"),
        ({"alphas": -2}, "alphas must be positive, got -2.0 at position 0"),
        ({"alphas": [np.nan]}, "alphas must be positive"),
        ({"alphas": [np.inf]}, "alphas must be positive"),
        ({"alphas": []}, "alphas must be a list of positive numbers"),
        ({"alphas": [[1.0], [2.0]]}, "alphas must be a list of positive numbers"),
        ({"scoring": "accuracy"}, "scoring='accuracy' is unknown; use 'r2' or 'pearsonr'"),
        ({"memory": "much"}, "memory='much' is no amount of memory"),
        ({"memory": 100}, "memory=100 is too little"),
        ({"device": "tpu9"}, "device='tpu9' is unknown"),
        ({"cv": 31}, "cv=31 folds need at least 31 samples, but n_samples=30"),
        ({"cv": [(np.arange(30), [])]}, "split 1 of 1 holds out no samples"),
    ],
)
def test_parameters_that_are_wrong(parameters, message):
    X, Y = simulate(30, 4)
    with pytest.raises(ValueError, match=message):
        RidgeCV(**parameters).fit(X, Y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_where_there_is_none():
    with pytest.raises(ValueError, match="device='cuda' was asked for, but torch sees 0 CUDA devices"):
        RidgeCV(device="cuda").fit(*simulate(30, 4))


def test_missing_values_are_named():
    features, responses = recording()
    responses[3, 1] = np.nan
    with pytest.raises(
        ValueError, match="Input y contains NaN alone in 1 of 3 targets, first neuroid_id 'b'; drop"
    ):
        RidgeCV().fit(features, responses.where(responses.neuroid_id != "b"))
    with pytest.raises(
        ValueError, match="Input y contains infinity or .* in 1 of 3 targets, first neuroid_id 'c'"
    ):
        RidgeCV().fit(features, responses.where(responses.neuroid_id != "c", np.inf))
    with pytest.raises(ValueError, match="Input X contains NaN: in 1 of 40 samples, first stimulus_id 's3'"):
        RidgeCV().fit(responses, features)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_values_whose_squares_leave_the_number_format(size):
    X, Y = simulate(30, 4)
    predicted = RidgeCV(1e-9).fit(X * size, Y * size).predict(X * size) / size
    # next to tiny features any penalty is infinite
    expected = RidgeCV(1e-9).fit(X, Y).predict(X) if size > 1 else np.tile(Y.mean(0), (30, 1))
    np.testing.assert_allclose(predicted, expected, rtol=1e-6)


@pytest.mark.parametrize("cv", ["loo", "gcv"])
@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_closed_forms_leave_out_every_sample(n, p, cv):
    X, Y = simulate(n, p, targets=20)
    ridge = RidgeCV(ALPHAS, cv=cv).fit(X, Y)
    peer = PeerRidgeCV(ALPHAS, alpha_per_target=True).fit(X, Y)
    assert ridge.path_ == RidgeCV(ALPHAS, cv=cv).plan(X, Y).path == cv
    assert (ridge.alpha_ == peer.alpha_).mean() > (0.99 if cv == "loo" else 0.7)
    np.testing.assert_allclose(ridge.best_score_, ridge.cv_scores_.max(0), atol=1e-9)
    memory = ridge.plan(X, Y).bytes
    parts = RidgeCV(ALPHAS, cv=cv, memory=memory - 10 * ridge.plan(X, Y).problem.bytes_per_target(cv)).fit(
        X, Y
    )
    np.testing.assert_allclose(parts.coef_, ridge.coef_, atol=1e-11)


@pytest.mark.parametrize(
    ("parameters", "groups", "message"),
    [
        ({"cv": "loo"}, "run", "cv='loo' leaves out single samples, but there are groups"),
        ({"cv": "gcv", "scoring": "pearsonr"}, None, "cv='gcv' makes no predictions to correlate"),
        ({"cv": "lio"}, None, "cv='lio' is no cross-validation; give a number of folds"),
    ],
)
def test_closed_forms_that_are_not_there(parameters, groups, message):
    with pytest.raises(ValueError, match=message):
        RidgeCV(**parameters).fit(*recording(), groups=groups)


@pytest.mark.parametrize(
    "cv", [3, "loo", KFold(4, shuffle=True, random_state=0), LeaveOneGroupOut()], ids=str
)
@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_targets_that_miss_samples_are_fitted_to_those_they_have(n, p, cv):
    X, Y = simulate(n, p, targets=6)
    runs = np.arange(n) // 6 if isinstance(cv, LeaveOneGroupOut) else None
    Y[3:9, 1] = Y[3:9, 4] = Y[-7:, 2] = np.nan
    with pytest.warns(
        UserWarning, match=rf"^3 of 6 targets miss samples \(the fewest have {n - 7} of {n}; there are 3"
    ):
        ridge = RidgeCV(ALPHAS, cv=cv).fit(X, Y, groups=runs)
    assert ridge.n_samples_.tolist() == [n, n - 6, n - 7, n, n - 6, n]
    for t in range(6):
        known = ~np.isnan(Y[:, t])
        alone = RidgeCV(ALPHAS, cv=cv).fit(
            X[known], Y[known, t], groups=None if runs is None else runs[known]
        )
        assert ridge.alpha_[t] == alone.alpha_
        np.testing.assert_allclose(ridge.cv_scores_[:, t], alone.cv_scores_, atol=1e-10)
        np.testing.assert_allclose(ridge.coef_[t], alone.coef_, atol=1e-10)
    filled = RidgeCV(ALPHAS, cv=cv).fit(X, np.nan_to_num(Y), groups=runs)
    assert np.abs(filled.coef_ - ridge.coef_)[[1, 2, 4]].max() > 1e-3


def test_splits_given_as_indices_are_restricted_to_the_samples_there_are():
    X, Y = simulate(30, 4)
    pairs = [
        (np.arange(10, 30), np.arange(10)),
        (np.arange(20), np.arange(20, 30)),
        (np.arange(5, 30), np.arange(5)),
    ]
    Y[:9, 0] = np.nan
    with pytest.warns(UserWarning, match="1 of 5 targets miss samples"):
        ridge = RidgeCV(ALPHAS, cv=iter(pairs)).fit(X, Y)
    alone = RidgeCV(ALPHAS, cv=[(np.arange(11), np.arange(11, 21))]).fit(X[9:], Y[9:, 0])
    np.testing.assert_allclose(ridge.cv_scores_[:, 0], alone.cv_scores_)
    Y[20:, 0] = np.nan
    with pytest.raises(
        ValueError, match="1 targets, first column 0, have only 11 of 30 samples, too few for this cv"
    ):
        RidgeCV(ALPHAS, cv=pairs).fit(X, Y)
    Y[2:, 1] = np.nan
    with pytest.raises(ValueError, match="first column 1, have only 2 of 30 samples, too few for this cv"):
        RidgeCV(ALPHAS).fit(X, Y)


def test_a_single_series_that_misses_samples():
    X, Y = simulate(30, 4)
    y = Y[:, 0].copy()
    y[4] = np.nan
    with pytest.warns(UserWarning, match="1 of 1 targets miss samples"):
        ridge = RidgeCV(ALPHAS).fit(X, y)
    assert ridge.n_samples_ == 29
    np.testing.assert_allclose(ridge.coef_, RidgeCV(ALPHAS).fit(np.delete(X, 4, 0), np.delete(y, 4)).coef_)
    with pytest.raises(ValueError, match="NaN alone in 1 of 1 targets, first the only one; drop"):
        RidgeCV().fit(X, y * np.nan)


def test_penalties_at_the_edge_of_the_grid_are_said():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 5))
    signal = X @ rng.standard_normal((5, 4)) + 0.1 * rng.standard_normal((100, 4))
    noise = rng.standard_normal((100, 4))
    with pytest.warns(
        UserWarning, match=r"^4 of 8 targets chose an alpha at the edge of .*: 4 the smallest \(30"
    ):
        RidgeCV([30.0, 1e2, 1e4]).fit(X, np.hstack([signal, noise]))
    weak = 0.5 * signal + 2 * rng.standard_normal((100, 4))
    with pytest.warns(
        UserWarning, match=r"[34] of 4 targets chose .*: [34] the largest \(0.001\); extend alphas"
    ):
        RidgeCV([1e-6, 1e-5, 1e-3]).fit(X, weak)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RidgeCV(1.0).fit(X, signal)
        RidgeCV([1e-3, 1.0, 1e4, 1e6]).fit(X, noise)


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("cv", [3, "loo"])
def test_dependent_and_constant_features_share_and_get_nothing(n, p, cv):
    X, Y = simulate(n, p)
    plain = RidgeCV([1.0, 100.0], cv=cv).fit(X, Y)
    constant = RidgeCV([1.0, 100.0], cv=cv).fit(np.column_stack([X, np.full(n, 0.1), np.zeros(n)]), Y)
    np.testing.assert_allclose(constant.coef_[:, :p], plain.coef_, atol=1e-9)
    np.testing.assert_allclose(constant.coef_[:, p:], 0, atol=1e-10)
    doubled = RidgeCV([1.0, 100.0], cv=cv).fit(np.column_stack([X, X[:, 0]]) * [*[1] * p, 1], Y)
    np.testing.assert_allclose(doubled.coef_[:, 0], doubled.coef_[:, -1], atol=1e-9)
    halved = X * np.r_[np.sqrt(2), np.ones(p - 1)]
    np.testing.assert_allclose(
        doubled.predict(np.column_stack([X, X[:, 0]])),
        RidgeCV([1.0, 100.0], cv=cv).fit(halved, Y).predict(halved),
    )


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_half_precision_is_computed_in_single(n, p):
    X, Y = (x.astype(np.float16) for x in simulate(n, p))
    ridge = RidgeCV(ALPHAS).fit(X, Y)
    single = RidgeCV(ALPHAS).fit(X.astype(np.float32), Y.astype(np.float32))
    assert ridge.coef_.dtype == ridge.predict(X).dtype == np.float32
    np.testing.assert_array_equal(ridge.coef_, single.coef_)
    large = (X.astype(np.float32) * 1000).clip(-60000, 60000).astype(np.float16)
    assert np.isfinite(RidgeCV(ALPHAS).fit(large, Y).coef_).all()


@pytest.mark.parametrize(
    ("n", "cv", "message"),
    [
        (3, 5, "cv=5 folds need at least 5 samples, but n_samples=3; use fewer folds"),
        (8, 5, "holds out a single sample, on which no score is defined; use fewer folds"),
        (2, "loo", "cv='loo' needs at least 3 samples, but n_samples=2"),
    ],
)
def test_fewer_samples_than_folds_need(n, cv, message):
    with pytest.raises(ValueError, match=message):
        RidgeCV(cv=cv).fit(*simulate(n, 4))


def test_a_run_left_out_by_name():
    features, responses = recording()
    named = RidgeCV(ALPHAS, cv=LeaveOneGroupOut()).fit(features, responses, groups="run")
    pairs = [(np.flatnonzero(features.run != run), np.flatnonzero(features.run == run)) for run in range(4)]
    np.testing.assert_array_equal(
        named.cv_scores_, RidgeCV(ALPHAS, cv=pairs).fit(features, responses).cv_scores_
    )
