"""Brain-Score's metrics without Brain-Score: against scikit-learn and scipy fold by fold, and on known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.cross_decomposition import PLSRegression
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import StratifiedShuffleSplit

from cerebridge import neuro
from cerebridge.encoding.brainscore import load_metric
from cerebridge.encoding.brainscore.metrics import ALPHAS, metric_names
from cerebridge.encoding.brainscore.splits import CrossValidation

N = 80
#: held out by Brain-Score in its first two splits of 80 stimuli of four objects in turn
FIRST_TESTS = [[2, 6, 20, 44, 45, 47, 71, 73], [7, 11, 40, 53, 57, 64, 70, 78]]


def arrays(features: int = 10, units: int = 6, seed: int = 0, noise: float = 1.0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, features)) + 1
    y = x @ rng.standard_normal((features, units)) + noise * np.sqrt(features) * rng.standard_normal(
        (N, units)
    )
    table = {"stimulus_id": [f"s{i:02d}" for i in range(N)], "object_name": [f"o{i % 4}" for i in range(N)]}

    def labelled(values: np.ndarray, prefix: str) -> xr.DataArray:
        neuroid = {"neuroid_id": [f"{prefix}{i}" for i in range(values.shape[1])], "region": "IT"}
        return neuro.assemble(values, presentation=table, neuroid=neuroid, modality="spikes", units="a.u.")

    return labelled(x, "f"), labelled(y, "n")


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("pls", PLSRegression(5, scale=False)),
        ("ridge", Ridge(1.0)),
        ("linear_predictivity", LinearRegression()),
    ],
)
def test_scores_are_those_of_scikit_learn_split_by_split(name: str, peer: Any) -> None:
    model, brain = arrays()
    options = {"n_components": 5} if name == "pls" else {}
    score = load_metric(name, **options)(model, brain)
    splits = StratifiedShuffleSplit(10, train_size=0.9, random_state=1)
    expected = []
    for train, test in splits.split(np.zeros(N), brain["object_name"].values):
        train, test = np.sort(train), np.sort(test)
        predicted = peer.fit(model.values[train], brain.values[train]).predict(model.values[test])
        expected.append([pearsonr(*pair)[0] for pair in zip(brain.values[test].T, predicted.T, strict=True)])
    np.testing.assert_allclose(score.raw.values, expected, atol=1e-8)
    medians = np.median(expected, axis=1)
    assert float(score) == pytest.approx(medians.mean(), abs=1e-9)
    assert float(score.error) == pytest.approx(medians.std() / np.sqrt(10), abs=1e-9)


def test_splits_of_this_seed_stay_what_they_are() -> None:
    """Brain-Score's splits come from scikit-learn's generator, whose draws are not to change with its version."""
    _, brain = arrays()
    splits = CrossValidation.of({"splits": 2}, train_size=0.9).draw(brain)
    assert [split.test.tolist() for split in splits] == FIRST_TESTS


def test_rdm_and_alignment_by_hand() -> None:
    model, brain = arrays()
    upper = np.triu_indices(N, 1)
    expected = spearmanr(*((1 - np.corrcoef(side.values))[upper] for side in (model, brain)))[0]
    assert float(load_metric("rdm")(model, brain)) == pytest.approx(expected, abs=1e-9)
    x, y = (side.values - side.values.mean(0) for side in (model, brain))
    cross, own_x, own_y = (np.square(a.T @ b).sum() for a, b in ((x, y), (x, x), (y, y)))
    assert float(load_metric("cka_biased")(model, brain)) == pytest.approx(
        cross / np.sqrt(own_x * own_y), abs=1e-9
    )


def test_alignment_without_bias_is_nothing_where_nothing_is_shared() -> None:
    plain, corrected = [], []
    for seed in range(30):
        model, _ = arrays(features=200, seed=seed)
        other, _ = arrays(features=200, seed=seed + 100)
        plain.append(float(load_metric("cka_biased")(model, other)))
        corrected.append(float(load_metric("cka")(model, other)))
    assert np.mean(plain) > 0.6
    assert abs(np.mean(corrected)) < 0.02


@pytest.mark.parametrize("name", ["pls", "ridge", "ridgecv", "linear_predictivity", "neuron_to_neuron"])
def test_related_scores_high_and_exchanged_stimuli_chance(name: str) -> None:
    model, brain = arrays(noise=0.3)
    options: dict[str, Any] = {"n_components": 8} if name == "pls" else {}
    exchanged = brain.copy(data=brain.values[np.random.default_rng(3).permutation(N)])
    metric = load_metric(name, **options)
    assert float(metric(model, brain)) > (0.3 if name == "neuron_to_neuron" else 0.85)
    assert abs(float(metric(model, exchanged))) < 0.25


def test_the_unit_that_a_neuron_copies_is_found() -> None:
    model, brain = arrays()
    copied = brain.copy(data=model.values[:, [7, 2, 2, 0, 9, 5]])
    assert float(load_metric("neuron_to_neuron")(model, copied)) == pytest.approx(1)


@given(st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_the_order_of_stimuli_and_units_of_the_model_does_not_matter(seed: int) -> None:
    model, brain = arrays()
    rng = np.random.default_rng(seed)
    turned = model[rng.permutation(N), rng.permutation(model.sizes["neuroid"])]
    for name in ("ridge", "rdm", "cka"):
        metric = load_metric(name)
        assert float(metric(turned, brain)) == pytest.approx(float(metric(model, brain)), abs=1e-9)


def test_given_training_and_test_stimuli() -> None:
    model, brain = arrays()
    score = load_metric("ridge_split")(model[:60], model[60:], brain[:60], brain[60:])
    predicted = Ridge(1.0).fit(model.values[:60], brain.values[:60]).predict(model.values[60:])
    expected = [pearsonr(*pair)[0] for pair in zip(brain.values[60:].T, predicted.T, strict=True)]
    np.testing.assert_allclose(score.raw.values, expected, atol=1e-9)
    assert score.raw.dims == ("neuroid",) and float(score) == pytest.approx(np.median(expected))


def test_reversed_is_the_other_way_round() -> None:
    model, brain = arrays()
    forward, backward = load_metric("pls", n_components=5), load_metric("reverse_pls", n_components=5)
    assert float(backward(model, brain)) == float(forward(brain, model))


def test_penalties_are_brainscores() -> None:
    assert len(ALPHAS) == 99 and list(ALPHAS) == sorted(set(ALPHAS))
    assert ALPHAS[:5] == (0.01, 0.1, 0.5, 1.0, 10.0) and ALPHAS[-1] == 1e7


def test_the_ceiling_is_the_reliability_of_averages() -> None:
    """With as much noise as signal in single repeats, eight of them have the reliability 8 / 9."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((400, 1, 5))
    values = (signal + rng.standard_normal((400, 8, 5))).reshape(-1, 5)
    table = {"stimulus_id": np.repeat(np.arange(400), 8), "repetition": np.tile(np.arange(8), 400)}
    brain = neuro.assemble(
        values, presentation=table, neuroid={"neuroid_id": list("abcde")}, modality="spikes", units="a.u."
    )
    ceiling = load_metric("internal_consistency")(brain)
    assert float(ceiling) == pytest.approx(8 / 9, abs=0.02)
    np.testing.assert_allclose(neuro.noise_ceiling(brain) ** 2, ceiling.raw.mean("split"), atol=0.01)
    shuffled = brain.copy(data=values[rng.permutation(len(values))])
    assert abs(float(load_metric("internal_consistency")(shuffled))) < 0.1


def test_neuroids_may_be_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    brain = neuro.simulate(n_stimuli=30, n_units=7, n_repeats=6, random_state=0)
    whole = load_metric("internal_consistency")(brain)
    monkeypatch.setattr("cerebridge.encoding.brainscore.ceilings.CHUNK", 2 * 180)
    parts = load_metric("internal_consistency")(brain)
    np.testing.assert_allclose(parts.raw.values, whole.raw.values, rtol=1e-12)


def test_missing_repeats_are_left_out_of_averages() -> None:
    rng = np.random.default_rng(1)
    values = np.repeat(rng.standard_normal((30, 4)), 6, axis=0)
    values[rng.random(values.shape) < 0.2] = np.nan
    table = {"stimulus_id": np.repeat(np.arange(30), 6), "repetition": np.tile(np.arange(6), 30)}
    brain = neuro.assemble(
        values, presentation=table, neuroid={"neuroid_id": range(4)}, modality="spikes", units="a.u."
    )
    assert float(load_metric("internal_consistency")(brain)) == pytest.approx(1)


def test_people_with_one_geometry_reach_the_ceiling() -> None:
    model, _ = arrays(features=20)
    alike = neuro.assemble(
        np.concatenate([model.values] * 3, axis=1),
        presentation={"stimulus_id": model["stimulus_id"].values},
        neuroid={"neuroid_id": range(60), "subject": np.repeat(list("abc"), 20)},
        modality="fmri",
        units="a.u.",
    )
    ceiling = load_metric("rsa_ceiling")(alike)
    assert float(ceiling) == pytest.approx(1) and ceiling.attrs["lower_bound_loo"] == pytest.approx(1)
    rng = np.random.default_rng(0)
    unlike = load_metric("rsa_ceiling")(alike.copy(data=rng.standard_normal(alike.shape)))
    assert abs(unlike.attrs["lower_bound_loo"]) < 0.1


def test_a_neuron_that_does_not_vary_is_left_out_with_a_warning() -> None:
    model, brain = arrays()
    flat = brain.copy()
    flat[:, 2] = 1.0
    with pytest.warns(UserWarning, match=r"1 of 6 neuroids \(first 'n2'\) or their predictions do not vary"):
        score = load_metric("ridge")(model, flat)
    assert np.isnan(score.raw.sel(neuroid=score.raw.neuroid_id == "n2")).all()
    rest = load_metric("ridge")(model, brain[:, [0, 1, 3, 4, 5]])
    assert float(score) == pytest.approx(float(rest))
    with pytest.raises(ValueError, match="no neuroid has a score in some split"):
        load_metric("ridge")(model, brain.copy(data=np.ones(brain.shape)))


def test_more_components_than_features_are_as_many_as_there_are() -> None:
    model, brain = arrays()
    with pytest.warns(UserWarning, match="pls has 25 components, which Brain-Score refuses with 10 features"):
        found = load_metric("pls")(model, brain)
    expected = load_metric("linear_predictivity")(model, brain)
    np.testing.assert_allclose(found.raw.values, expected.raw.values, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("pls", {"n_components": 2.5}, ValueError, "n_components must be a whole number from 1, got 2.5"),
        ("ridge", {"alpha": -1.0}, ValueError, "alpha must be a number from 0, got -1.0"),
        ("ridgecv", {"alphas": []}, ValueError, "alphas must be a list of positive numbers"),
        ("ridge", {"crossvalidation_kwargs": 3}, TypeError, "crossvalidation_kwargs is 3; give a dictionary"),
        (
            "ridge",
            {"crossvalidation_kwargs": {"splits": 0}},
            ValueError,
            "splits must be a whole number from 1",
        ),
        (
            "ridge",
            {"crossvalidation_kwargs": {"kfold": True, "test_size": 0.2}},
            ValueError,
            "holds every fold out in turn; leave test_size out",
        ),
    ],
)
def test_options_that_mean_nothing(
    name: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_metric(name, **options)


def without(array: xr.DataArray, name: str) -> xr.DataArray:
    return array.drop_vars(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, b: (m[:40], b[40:]), r"must have the same stimuli, but 0 of 40 and 40 are common"),
        (lambda m, b: (m[:70], b), r"70 of 70 and 80 are common .*; select them with neuro.align"),
        (lambda m, b: (m, without(b, "object_name")), r"the stratification coordinate 'object_name' is missing"),
        (lambda m, b: (m[:8], b[:8]), r"8 values of 'stimulus_id' cannot be split, balanced by 'object_name'"),
        (lambda m, b: (m, b[[*range(N), 0]]), r"the target has the stimulus 's00' more than once; average repeats"),
        (lambda m, b: (m, b.where(b["stimulus_id"] != "s03")), r"target has .* at 1 of 80 stimuli, first 's03'"),
        (lambda m, b: (m.where(m["neuroid_id"] != "f1"), b), r"source has missing .* at 80 of 80 stimuli"),
        (lambda m, b: (without(m, "stimulus_id"), b), r"source has no coordinate 'stimulus_id' along"),
        (lambda m, b: (m, without(b, "neuroid_id")), r"recording has no coordinate 'neuroid_id' along"),
        (lambda m, b: (m[:, :0], b), r"the source has no neuroids"),
        (lambda m, b: (m, b.expand_dims(time_bin=2)), r"the target is time_bin × .*; select a time bin"),
    ],
)  # fmt: skip
def test_bad_arrays_are_one_sentence(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_metric("ridge")(*change(*arrays()))


def test_bad_options_are_one_sentence() -> None:
    model, brain = arrays()
    with pytest.raises(ValueError, match=r"there is no metric 'plss' here; the nearest are 'pls'"):
        load_metric("plss")
    with pytest.raises(TypeError, match="the metric 'rdm' has no option 'alpha'"):
        load_metric("rdm", alpha=1)
    with pytest.raises(TypeError, match="has 'seed', which is no option; there are splits, train_size"):
        load_metric("pls", crossvalidation_kwargs={"seed": 1})
    with pytest.raises(TypeError, match="takes no crossvalidation_kwargs"):
        load_metric("pls_split", crossvalidation_kwargs={"splits": 2})
    with pytest.raises(TypeError, match="the source is a ndarray; give a labelled array"):
        load_metric("pls")(model.values, brain)
    with pytest.raises(
        ValueError, match="training and test; average repeats first, or give unique_split_values"
    ):
        load_metric(
            "ridge", crossvalidation_kwargs={"split_coord": "object_name", "stratification_coord": None}
        )(model, brain)
    with pytest.raises(ValueError, match="10 neuroids in training and 9 in test"):
        load_metric("ridge_split")(model[:60], model[60:, :9], brain[:60], brain[60:])


def test_bad_repeats_are_one_sentence() -> None:
    _, brain = arrays()
    with pytest.raises(ValueError, match="the split coordinate 'repetition' is missing"):
        load_metric("internal_consistency")(brain)
    with pytest.raises(ValueError, match="halves of the repeats share 0 stimuli"):
        load_metric("internal_consistency")(
            brain.assign_coords(repetition=("presentation", np.arange(N) % 4))
        )
    with pytest.raises(ValueError, match="'subject' is missing along 'neuroid'"):
        load_metric("rsa_ceiling")(brain)
    with pytest.raises(ValueError, match="there is one subject"):
        load_metric("rsa_ceiling")(brain.assign_coords(subject=("neuroid", ["a"] * 6)))
    constant = brain.copy(data=np.ones(brain.shape))
    with pytest.raises(ValueError, match="the pattern of some stimulus is the same in all neuroids"):
        load_metric("rdm")(constant, brain)
    with pytest.raises(ValueError, match="one side does not vary"):
        load_metric("cka_biased")(constant, brain)
    with pytest.raises(ValueError, match="needs 4 stimuli, got 3"):
        load_metric("cka")(brain[:3], brain[:3])


def test_objects_may_be_left_out_as_a_whole() -> None:
    model, brain = arrays()
    options = {"split_coord": "object_name", "unique_split_values": True, "stratification_coord": None}
    splits = CrossValidation.of(options, train_size=0.75).draw(brain)
    for split in splits:
        objects = [set(brain["object_name"].values[rows]) for rows in split]
        assert objects[0].isdisjoint(objects[1]) and len(objects[1]) == 1
    assert np.isfinite(
        float(load_metric("ridge", crossvalidation_kwargs={**options, "train_size": 0.75})(model, brain))
    )


def test_every_name_builds_a_metric() -> None:
    for name in metric_names():
        assert callable(load_metric(name))
