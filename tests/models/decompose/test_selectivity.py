"""Selective units: statistics against scipy, planted units, shuffled labels, and faces in a network of photographs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge import models, neuro
from cerebridge.models.decompose import find_selective_units


def planted(n=80, units=100, selective=10, size=1.5, seed=0, repeats=1):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, units))
    values[: n // 2, :selective] += size
    values = np.repeat(values, repeats, axis=0) + (repeats > 1) * rng.standard_normal((n * repeats, units))
    category = np.where(np.arange(n) < n // 2, "face", np.where(np.arange(n) % 2, "house", "tool"))
    return neuro.assemble(
        values,
        presentation={
            "stimulus_id": np.repeat(np.arange(n), repeats),
            "category": np.repeat(category, repeats),
        },
        neuroid={"neuroid_id": np.arange(units), "layer": np.where(np.arange(units) < 50, "a", "b")},
        modality="activation",
        units="a.u.",
    )


def test_statistics_are_those_of_scipy():
    array = planted()
    found = find_selective_units(array, "face", n_folds=2, alternative="two-sided")
    chosen = np.sort(np.concatenate([halves(array, 0), halves(array, 1)]))
    np.testing.assert_array_equal(chosen, np.arange(80))
    values, face = array.values[halves(array, 0)], (array["category"].values == "face")[halves(array, 0)]
    one, other = values[face], values[~face]
    held = found.isel(fold=0)
    np.testing.assert_allclose(
        held["t_held_out"], scipy.stats.ttest_ind(one, other, equal_var=False).statistic
    )
    expected = scipy.stats.mannwhitneyu(one, other, method="asymptotic").pvalue
    np.testing.assert_allclose(held["p_held_out"], expected)
    spread = np.sqrt((one.var(0, ddof=1) + other.var(0, ddof=1)) / 2)
    np.testing.assert_allclose(held["dprime_held_out"], (one.mean(0) - other.mean(0)) / spread)
    # the folds change places: what one is chosen by the other is described by
    np.testing.assert_allclose(found["t"].values[1], found["t_held_out"].values[0])
    np.testing.assert_allclose(
        found["p_fdr"].values[0], scipy.stats.false_discovery_control(found["p"].values[0])
    )


def halves(array, fold):
    """The stimuli of a fold, found by a unit that knows their numbers."""
    n = array.sizes["presentation"]
    rng = np.random.default_rng(0)
    face = array["category"].values == "face"
    folds = np.full(n, -1)
    for group in (face, ~face):
        rows = rng.permutation(np.flatnonzero(group))
        folds[rows] = np.arange(len(rows)) % 2
    return np.flatnonzero(folds == fold)


def test_planted_units_are_found_and_described_without_flattery():
    found = find_selective_units(planted(n=160), "face")
    assert found["selected"].values[:, :10].all()
    assert found["selected"].values[:, 10:].mean() < 0.02
    assert found["dprime_held_out"].values[:, :10].mean() == pytest.approx(1.5, abs=0.2)
    # units of noise that stand out by chance do not on other stimuli
    noise = find_selective_units(planted(n=40, units=2000, selective=0), "face")
    best = np.argsort(-noise["dprime"].values[0])[:50]
    assert noise["dprime"].values[0, best].mean() > 0.7
    assert abs(noise["dprime_held_out"].values[0, best].mean()) < 0.1


def test_units_without_spread_have_numbers():
    array = planted(n=40, units=4, selective=0).copy()
    face = array["category"].values == "face"
    for group in (face, ~face):
        array.values[group, 0] = np.where(np.arange(group.sum()) % 2, 1.0, -1.0)
    array.values[:, 1] = 3
    array.values[:, 2] = face
    found = find_selective_units(array, "face", n_folds=2)
    assert not any(np.isnan(values).any() for name, values in found.items() if values.dtype.kind == "f")
    assert (found["selectivity_index"].values[:, 1] == 0).all() and (found["p"].values[:, 1] == 1).all()
    assert (found["dprime"].values[:, 2] == np.inf).all() and found["selected"].values[:, 2].all()


def test_shuffled_labels_give_chance():
    array = planted(n=160)
    shuffled = np.random.default_rng(1).permutation(array["category"].values)
    found = find_selective_units(array, "face", shuffled)
    assert found["selected"].values.mean() < 0.02
    assert abs(found["dprime_held_out"].values[:, :10].mean()) < 0.2


def test_units_that_prefer_the_others_are_found_only_when_asked_for():
    array = planted(n=160)
    assert not find_selective_units(array, ["house", "tool"])["selected"].values[:, :10].any()
    both = find_selective_units(array, ["house", "tool"], alternative="two-sided")
    assert both["selected"].values[:, :10].all() and (both["dprime_held_out"].values[:, :10] < 0).all()
    strong = find_selective_units(array, "face", min_dprime=9.0)
    assert not strong["selected"].values.any()


def test_repeats_are_averaged_and_only_some_stimuli_are_compared_with():
    array = planted(repeats=3)
    found = find_selective_units(array, "face", against="house")
    mean = array.groupby("stimulus_id").mean().values
    means = neuro.assemble(
        mean,
        presentation={"stimulus_id": np.arange(80), "category": array["category"].values[::3]},
        neuroid={"neuroid_id": np.arange(100)},
        modality="activation",
        units="a.u.",
    )
    np.testing.assert_allclose(find_selective_units(means, "face", against="house")["t"], found["t"])
    assert not np.allclose(find_selective_units(means, "face")["t"], found["t"])
    assert (found["layer"].values[:50] == "a").all()


def test_dead_units_prefer_nothing():
    array = planted()
    array.values[:, 3] = 0
    found = find_selective_units(array, "face").isel(neuroid=3)
    assert (found["p"] == 1).all() and (found["dprime"] == 0).all() and not found["selected"].any()
    assert np.isfinite(found["selectivity_index"]).all()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_units_is_of_no_account(seed):
    array = planted(units=20)
    order = np.random.default_rng(seed).permutation(20)
    one = find_selective_units(array, "face")
    other = find_selective_units(array.isel(neuroid=order), "face")
    for name in ("dprime_held_out", "p_fdr", "selected"):
        np.testing.assert_allclose(other[name].values, one[name].values[:, order])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"preferred": "dog"},
            r"0 stimuli are preferred \('dog'; there are 'face', .*\); 2 folds need at least 4",
        ),
        ({"preferred": "face", "against": "dog"}, "0 stimuli are against"),
        ({"preferred": ["face", "house", "tool"]}, "0 stimuli are against .'all others'"),
        ({"preferred": "face", "alpha": 2}, "alpha is 2"),
        ({"preferred": "face", "n_folds": 1}, "n_folds is 1; give at least 2"),
        ({"preferred": "face", "alternative": "less"}, "alternative='less' is unknown"),
        ({"preferred": "face", "labels": [None] * 80}, "label of presentation 0 is missing"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        find_selective_units(planted(), **options)


def test_repeats_of_one_stimulus_with_several_labels():
    labels = ["face", "house", *["face"] * 80, *["house"] * 78]
    with pytest.raises(ValueError, match="repeats of the stimulus 0 have several labels"):
        find_selective_units(planted(repeats=2), "face", labels)


@pytest.fixture(scope="module")
def objects92(data, weights):
    path = data / "objects92" / "Kriegeskorte_Neuron2008_supplementalData.mat"
    content = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)
    things = content["stimuli_92objs"]
    face, animal = (np.array([bool(getattr(t, name)) for t in things]) for name in ("face", "animal"))
    table = {"face": face, "animal": animal, "body": animal & ~face}
    stimuli = models.StimulusSet.from_arrays([t.image for t in things], table=table)
    net = models.load("mobilenet_v2", weights=weights / "mobilenetv2-imagenet")
    return models.extract(net, stimuli, ["features.3", "features.13", "features.17"], pool="global")


def real_units(activations, labels):
    """Share of units of each layer chosen by a half, and their d′ on the halves that chose and that did not."""
    found = [find_selective_units(activations, True, labels, random_state=seed) for seed in range(4)]
    share, flattered, honest = {}, {}, {}
    for layer in dict.fromkeys(activations["layer"].values):
        here = activations["layer"].values == layer
        chosen = np.concatenate([each["selected"].values[:, here] for each in found])
        share[layer] = chosen.mean()
        for name, out in (("dprime", flattered), ("dprime_held_out", honest)):
            out[layer] = np.concatenate([each[name].values[:, here] for each in found])[chosen].mean()
    return share, flattered, honest


def test_faces_and_animals_have_units_in_a_network_of_photographs(objects92):
    share, flattered, honest = real_units(objects92, "face")
    assert 0.08 < share["features.13"] < 0.2 and share["features.13"] > share["features.17"]
    assert honest["features.13"] > 0.9
    # in the last block far more of the selectivity is the choice of units
    assert flattered["features.17"] > 1.2 and honest["features.17"] < 0.8
    share, _, honest = real_units(objects92, "animal")
    assert share["features.13"] > 0.03 and honest["features.13"] > 0.8


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_bodies_have_none_there_and_shuffled_faces_neither(objects92):
    share, _, _ = real_units(objects92, "body")
    assert max(share.values()) < 0.01
    shuffled = np.random.default_rng(0).permutation(objects92["face"].values)
    share, _, _ = real_units(objects92, shuffled)
    assert max(share.values()) < 0.01
