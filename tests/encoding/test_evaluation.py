from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cerebridge import encoding, neuro
from cerebridge.encoding.results import bootstrap_interval
from cerebridge.encoding.significance import false_discovery_rate, p_values


def linear_study(n_stimuli=80, n_features=6, n_units=5, n_repeats=1, noise=0.5, seed=0):
    """Features and responses that depend on them linearly, with independent noise in each repeat."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_stimuli, n_features))
    signal = x @ rng.standard_normal((n_features, n_units)) / np.sqrt(n_features)
    ids = [f"s{i:03d}" for i in range(n_stimuli)]
    features = neuro.assemble(
        x,
        presentation={"stimulus_id": ids},
        neuroid={"neuroid_id": np.arange(n_features), "layer": "linear"},
        modality="activation",
        units="a.u.",
    )
    responses = neuro.assemble(
        np.repeat(signal, n_repeats, axis=0) + noise * rng.standard_normal((n_stimuli * n_repeats, n_units)),
        presentation={
            "stimulus_id": np.repeat(ids, n_repeats),
            "repetition": np.tile(np.arange(n_repeats), n_stimuli),
        },
        neuroid={"neuroid_id": np.arange(n_units), "region": ["V1", "V1", "IT", "IT", "IT"][:n_units]},
        modality="spikes",
        units="spikes/s",
    )
    return features, responses


def block_recording(n_runs=4, effect=1.0, seed=0):
    """Two conditions in blocks of five volumes, four blocks a run."""
    rng = np.random.default_rng(seed)
    label = np.tile(np.repeat(["face", "house", "house", "face"], 5), n_runs)
    values = rng.standard_normal((len(label), 6)) + effect * (label == "face")[:, None]
    start = np.tile(np.arange(20) * 2.0, n_runs)
    return neuro.assemble(
        values,
        time_bin={
            "time_bin_start": start,
            "time_bin_end": start + 2.0,
            "run": np.repeat(np.arange(n_runs), 20),
            "trial_type": label,
            "block": np.repeat(np.arange(4 * n_runs), 5),
        },
        neuroid={"neuroid_id": np.arange(6)},
        modality="fmri",
        units="a.u.",
        sfreq=0.5,
    )


def test_scores_equal_scikit_learn():
    features, responses = linear_study(n_units=1)
    folds = list(KFold(5).split(features.values))
    result = encoding.evaluate(Ridge(), features, responses, cv=folds, scoring="r2", ceiling=None)
    expected = cross_val_score(Ridge(), features.values, responses.values[:, 0], cv=folds, scoring="r2")
    np.testing.assert_allclose(result.score.values[0, :, 0], expected, atol=1e-12)


def test_classifier_scores_equal_scikit_learn():
    bold = block_recording()
    result = encoding.evaluate(LinearDiscriminantAnalysis(), bold, "trial_type", cv="run")
    folds = [(np.flatnonzero(bold.run != r), np.flatnonzero(bold.run == r)) for r in range(4)]
    expected = cross_val_score(LinearDiscriminantAnalysis(), bold.values, bold.trial_type.values, cv=folds)
    np.testing.assert_allclose(result.score.values.ravel(), expected, atol=1e-12)
    assert result.dataset["confusion"].values.sum() == bold.sizes["time_bin"]
    assert result.dataset.attrs["chance"] == 0.5


def test_result_has_the_promised_form():
    features, responses = linear_study(n_repeats=3)
    result = encoding.evaluate(
        encoding.RidgeCV(), {"a": features, "b": features}, responses, cv=4, permutations=19
    )
    dataset = result.dataset
    assert result.score.dims == ("model", "split", "unit")
    assert result.score.shape == (2, 4, 5)
    assert dataset["region"].values.tolist() == ["V1", "V1", "IT", "IT", "IT"]
    assert dataset["ceiling"].dims == ("unit",)
    for name in ("normalised", "alpha"):
        assert dataset[name].dims == ("model", "split", "unit")
    for name in ("p", "p_fdr", "p_max"):
        assert dataset[name].dims == ("model", "unit")
    assert (dataset["p"] == 1 / 20).all(), "a strong effect beats every permutation"
    assert result.provenance["features"]["a"] == result.provenance["features"]["b"]
    assert result.provenance["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    table = result.summary()
    assert table[["model", "region", "n_units"]].values.tolist() == [
        ["a", "V1", 2], ["a", "IT", 3], ["b", "V1", 2], ["b", "IT", 3]
    ]  # fmt: skip
    assert (table["low"] <= table["score"]).all() and (table["score"] <= table["high"]).all()


def test_saved_result_equals_the_first(tmp_path):
    features, responses = linear_study(n_repeats=2)
    result = encoding.evaluate(Ridge(), features, responses, permutations=5)
    result.save(tmp_path / "result.nc")
    again = encoding.Result.load(tmp_path / "result.nc")
    xr.testing.assert_equal(result.dataset, again.dataset)
    assert result.audit == again.audit
    assert result.provenance == again.provenance


class Spy(RegressorMixin, BaseEstimator):
    """Remembers which rows it was fitted on."""

    seen: list[np.ndarray] = []

    def fit(self, x, y):
        Spy.seen.append(x[:, 0].copy())
        self.shape_ = np.shape(y)[1:]
        return self

    def predict(self, x):
        return np.zeros((len(x), *self.shape_))


def test_only_training_rows_are_ever_fitted():
    features, responses = linear_study(n_stimuli=20)
    Spy.seen.clear()
    folds = list(KFold(4).split(features.values))
    encoding.evaluate(Spy(), features, responses, cv=folds, control=False, ceiling=None)
    assert len(Spy.seen) == 4
    for (train, test), seen in zip(folds, Spy.seen, strict=True):
        assert not np.isin(features.values[test, 0], seen).any()
        assert np.isin(features.values[train, 0], seen).all()


def test_test_rows_cannot_change_anything_fitted():
    features, responses = linear_study()
    folds = list(KFold(4).split(features.values))
    changed_x, changed_y = features.copy(deep=True), responses.copy(deep=True)
    changed_x.values[folds[0][1]] += 100
    changed_y.values[folds[0][1]] -= 50
    before = encoding.evaluate(encoding.RidgeCV(), features, responses, cv=folds[:1], control=False)
    after = encoding.evaluate(encoding.RidgeCV(), changed_x, changed_y, cv=folds[:1], control=False)
    np.testing.assert_array_equal(before.dataset["alpha"], after.dataset["alpha"])
    chosen = [result.audit["selection"]["selection_score"] for result in (before, after)]
    assert chosen[0] == chosen[1]


def test_shuffle_control_and_noise_are_at_chance():
    features, responses = linear_study(n_stimuli=200)
    result = encoding.evaluate(Ridge(), features, responses, permutations=99)
    assert result.unit_scores().median() > 0.7
    assert abs(result.audit["shuffle_control"]["model"]) < 0.2
    rng = np.random.default_rng(2)
    noise = responses.copy(data=rng.standard_normal(responses.shape))
    control = encoding.evaluate(Ridge(), features, noise, permutations=99)
    assert abs(float(control.unit_scores().median())) < 0.2
    assert (control.dataset["p_max"] > 0.05).all()


def test_selection_score_stands_beside_the_nested_one():
    """Of pure noise the best of many penalties looks better than it is."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 5)), rng.standard_normal((60, 300))
    result = encoding.evaluate(
        encoding.RidgeCV(np.logspace(-2, 6, 30), scoring="pearsonr"), x, y, control=False
    )
    selection = result.audit["selection"]
    assert selection["scoring"] == "pearsonr"
    assert selection["selection_score"]["model"] > selection["nested_score"]["model"]
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0, 10.0]}, cv=3)
    audit = encoding.evaluate(search, x, y[:, 0], cv=4, control=False).audit
    assert set(audit["selection"]["nested_score"]) == {"model"}
    assert "no hyperparameter" in encoding.evaluate(Ridge(), x, y, control=False).audit["selection"]


def test_audit_counts_overlaps():
    features, responses = linear_study(n_repeats=2)
    audit = encoding.evaluate(Ridge(), features, responses, repeats="keep").audit
    assert (audit["row_overlap"], audit["stimulus_overlap"], audit["time_overlap"]) == (0, 0, 0)
    assert audit["ceiling"].startswith("split-half")
    decoding = encoding.evaluate(LinearDiscriminantAnalysis(), block_recording(), "trial_type").audit
    assert decoding["group_overlap"] == 0
    assert decoding["split"] == "leave one run out"


def test_missing_ceiling_is_missing_not_infinite():
    features, responses = linear_study(n_units=3)
    result = encoding.evaluate(Ridge(), features, responses, ceiling=np.array([0.5, 0.0, -0.1]))
    normalised = result.dataset["normalised"].values
    assert np.isfinite(normalised[..., 0]).all()
    assert np.isnan(normalised[..., 1:]).all()
    assert (
        encoding.evaluate(Ridge(), features, responses).audit["ceiling"]
        == "none: the recording has no repeats"
    )


@given(seed=st.integers(0, 20))
@settings(max_examples=8, deadline=None)
def test_order_of_stimuli_units_and_rotation_do_not_matter(seed):
    features, responses = linear_study(n_stimuli=40)
    rng = np.random.default_rng(seed)
    rows, units = rng.permutation(40), rng.permutation(5)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    first = encoding.evaluate(Ridge(), features, responses, cv=4, control=False)
    turned = features.copy(data=features.values @ rotation).isel(presentation=rows)
    second = encoding.evaluate(Ridge(), turned, responses.isel(neuroid=units), cv=4, control=False)
    np.testing.assert_allclose(first.score.values[..., units], second.score.values, atol=1e-10)


@pytest.mark.parametrize("scoring", ["accuracy", "balanced_accuracy", "roc_auc"])
def test_classifier_scorings(scoring):
    pipeline = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis())
    good = encoding.evaluate(
        pipeline, block_recording(effect=2.0), "trial_type", scoring=scoring, permutations=50
    )
    assert good.score.mean() > 0.9
    assert good.dataset["p"].item() < 0.05
    none = encoding.evaluate(
        pipeline, block_recording(effect=0.0), "trial_type", scoring=scoring, permutations=50
    )
    assert none.score.mean() < 0.75
    assert none.dataset["p"].item() > 0.05


def test_p_values_of_noise_are_uniform():
    """Exchanging held-out truth against fixed predictions alone would give 13 % below 0.05 here."""
    p = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((100, 6)), rng.standard_normal((100, 20))
        result = encoding.evaluate(encoding.RidgeCV([10.0]), x, y, permutations=39, random_state=seed)
        p.append(result.dataset["p"].values.ravel())
    p = np.concatenate(p)
    assert (p <= 0.05).mean() < 0.085
    assert abs(p.mean() - 0.5) < 0.06


def test_permutations_side_by_side_equal_one_at_a_time(monkeypatch):
    features, responses = linear_study(n_stimuli=30, noise=3.0)
    together = encoding.evaluate(encoding.RidgeCV(), features, responses, permutations=7)
    monkeypatch.setattr("cerebridge.encoding.pipelines.STACK", 1)
    alone = encoding.evaluate(encoding.RidgeCV(), features, responses, permutations=7)
    np.testing.assert_array_equal(together.dataset["p"], alone.dataset["p"])
    assert together.audit["shuffle_control"] == pytest.approx(alone.audit["shuffle_control"])


def test_p_values_by_hand():
    null = np.array([[0.0, 0.5], [0.2, 0.1], [0.4, 0.3]])
    values = p_values(np.array([0.45, 0.2]), null)
    np.testing.assert_allclose(values["p"], [1 / 4, 3 / 4])
    np.testing.assert_allclose(values["p_max"], [2 / 4, 4 / 4])
    np.testing.assert_allclose(
        false_discovery_rate(np.array([0.01, 0.02, 0.9, np.nan])), [0.03, 0.03, 0.9, np.nan]
    )


def test_bootstrap_interval_holds_the_median():
    low, high = bootstrap_interval(np.random.default_rng(0).standard_normal(400))
    assert low < 0 < high and high - low < 0.4
    assert np.isnan(bootstrap_interval(np.array([1.0]))).all()


def test_plain_arrays_and_functions_as_scoring():
    features, responses = linear_study()

    def largest_error(truth, prediction):
        return np.abs(truth - prediction).max(axis=0)

    result = encoding.evaluate(
        LinearRegression(), features.values, responses.values, scoring=largest_error, cv=4
    )
    assert result.dataset.attrs["scoring"] == "largest_error"
    assert (result.score > 0).all()


def test_responses_over_time_become_units():
    features, responses = linear_study(n_units=3)
    timed = neuro.assemble(
        np.stack([responses.values, -responses.values], axis=2),
        presentation={"stimulus_id": responses.stimulus_id.values},
        neuroid={"neuroid_id": responses.neuroid_id.values},
        time_bin={"time_bin_start": [0.0, 0.1], "time_bin_end": [0.1, 0.2]},
        modality="spikes",
        units="spikes/s",
    )
    result = encoding.evaluate(Ridge(), features, timed, control=False)
    assert result.score.sizes["unit"] == 6
    assert result.dataset["time_bin_start"].values.tolist() == [0.0, 0.1] * 3


def test_continuous_recordings_are_predicted_row_by_row():
    bold = block_recording()
    result = encoding.evaluate(Ridge(), bold.isel(neuroid=[0, 1]), bold.isel(neuroid=[2]), permutations=20)
    assert result.audit["split"] == "leave one run out"
    with pytest.raises(ValueError, match="has 79 rows along 'time_bin', the recording 80"):
        encoding.evaluate(Ridge(), bold.isel(time_bin=slice(1, None)), bold)


def test_a_label_makes_the_models():
    features, responses = linear_study()
    two = features.assign_coords(layer=("neuroid", ["a"] * 3 + ["b"] * 3))
    result = encoding.evaluate(Ridge(), two, responses, by="layer", control=False)
    assert result.score.coords["model"].values.tolist() == ["a", "b"]
    alone = encoding.evaluate(Ridge(), {"a": two[:, :3]}, responses, control=False)
    np.testing.assert_array_equal(result.score.values[0], alone.score.values[0])
    with pytest.raises(ValueError, match="no label 'depth'"):
        encoding.evaluate(Ridge(), two, responses, by="depth")


def unlabelled(array):
    return array.assign_coords(stimulus_id=("presentation", np.arange(array.sizes["presentation"])))


def with_nan(array):
    array = array.copy(deep=True)
    array.values[3, 2] = np.nan
    return array


FEATURES, RESPONSES = linear_study(n_stimuli=20)


@pytest.mark.parametrize(
    ("x", "y", "kwargs", "message"),
    [
        (FEATURES, unlabelled(RESPONSES), {}, "share no stimulus_id"),
        (with_nan(FEATURES), RESPONSES, {}, "1 missing or infinite features"),
        (FEATURES, with_nan(RESPONSES), {}, r"1 of 5 units have missing .* \(first: unit 2 in row 3\)"),
        (FEATURES.values, RESPONSES, {}, "both be labelled arrays or both plain"),
        (FEATURES.values[:5], RESPONSES.values, {}, "has 5 rows, Y has 20"),
        ({}, RESPONSES, {}, "holds no model"),
        (FEATURES, RESPONSES, {"scoring": "accuracy"}, "does not score responses"),
        (FEATURES, RESPONSES, {"ceiling": np.ones(3)}, "3 values for 5 units"),
        (FEATURES, RESPONSES, {"cv": 50}, "a fold would be empty"),
        (FEATURES, "category", {}, "names class labels, and Ridge is no classifier"),
    ],
)
def test_bad_input_gets_one_sentence(x, y, kwargs, message):
    with pytest.raises(ValueError, match=message):
        encoding.evaluate(Ridge(), x, y, **kwargs)


def test_one_class_is_refused():
    bold = block_recording()
    with pytest.raises(ValueError, match="all rows have the same class label"):
        encoding.evaluate(
            LinearDiscriminantAnalysis(), bold.isel(time_bin=bold.trial_type.values == "face"), "trial_type"
        )
