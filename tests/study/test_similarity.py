from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

from cerebridge import neuro
from cerebridge.encoding import rsa
from cerebridge.encoding.study.similarity import compare_models

SETTINGS = {
    "by": "region",
    "dissimilarity": "euclidean",
    "comparison": "spearman",
    "ceiling": "rank",
    "cv": "run",
    "n_resamples": 100,
    "permutations": 0,
    "seed": 0,
}


def model(name, layer=None):
    return {"name": name, "input": f"model {name.split('/')[0]}", "layer": layer}


@pytest.fixture(scope="module")
def drivers():
    return {
        name: neuro.simulate(modality="fmri", n_stimuli=14, n_units=40, random_state=k)
        for k, name in enumerate(("a", "b"))
    }


@pytest.fixture(scope="module")
def brain(drivers):
    return neuro.simulate({"V1": drivers["a"], "IT": drivers["b"]}, n_units=80, n_repeats=6, random_state=5)


def run(recording, inputs, **settings):
    models = settings.pop("models")
    return compare_models(
        {**SETTINGS, **settings, "models": models}, {"recording": recording, **inputs}, Path()
    )


def test_each_region_is_like_what_drives_it(brain, drivers):
    inputs = {f"model {name}": array for name, array in drivers.items()}
    dataset = run(brain, inputs, models=[model("a"), model("b")], permutations=99)
    assert dataset["region"].values.tolist() == ["V1", "IT"]
    score = dataset["score"].values[:, 0]
    assert score[0, 0] > 0.4 > score[1, 0] and score[1, 1] > 0.4 > score[0, 1]
    assert dataset["p"].values[0, 0] == 0.01 and "ceiling" not in dataset


def test_values_are_those_of_scipy(brain, drivers):
    dataset = run(brain, {"model a": drivers["a"]}, models=[model("a")], dissimilarity="correlation")
    means = neuro.average_repeats(brain)
    upper = np.triu_indices(14, 1)
    brain_rdm = 1 - np.corrcoef(means.values[:, means.region.values == "V1"])[upper]
    model_rdm = 1 - np.corrcoef(drivers["a"].values)[upper]
    assert dataset["score"].values[0, 0, 0] == pytest.approx(spearmanr(brain_rdm, model_rdm).statistic)
    np.testing.assert_allclose(dataset["rdm"].values[0], brain_rdm)
    np.testing.assert_allclose(dataset["model_rdm"].values[0], model_rdm)


def test_layers_of_a_network_are_models(drivers):
    array = drivers["a"].assign_coords(layer=("neuroid", ["one"] * 20 + ["two"] * 20))
    dataset = run(
        drivers["b"], {"model net": array}, models=[model("net/one", "one"), model("net/two", "two")]
    )
    assert dataset["model"].values.tolist() == ["net/one", "net/two"]
    alone = rsa.rdm(array.isel(neuroid=slice(20, 40)), "euclidean").values[0]
    np.testing.assert_allclose(dataset["model_rdm"].values[1], alone)


def people(n):
    rng = np.random.default_rng(0)
    shared = rng.random(91)
    a, b = np.triu_indices(14, 1)
    ids = np.array([f"s{k:04d}" for k in range(14)])
    return neuro.assemble(
        shared + 0.2 * rng.normal(size=(n, 91)),
        rdm={"neuroid_id": [f"person {k}" for k in range(n)]},
        pair={"stimulus_a": ids[a], "stimulus_b": ids[b]},
        modality="dissimilarity",
        units="a.u.",
    )


def test_people_have_a_ceiling_and_their_mean_one_p():
    dataset = run(people(6), {"model one": people(1)}, models=[model("one")], permutations=49)
    bounds = rsa.noise_ceiling(people(6), "spearman", "rank")
    assert float(dataset["ceiling"].mean()) == pytest.approx(bounds.lower)
    assert float(dataset["ceiling_upper"].mean()) == pytest.approx(bounds.upper)
    assert dataset["p_group"].dims == ("group", "model") and dataset["p_group"].shape == (1, 1)


def test_a_recording_with_several_matrices_gives_several_models():
    dataset = run(people(3), {"model others": people(2)}, models=[model("others")])
    assert dataset["model"].values.tolist() == ["others/person 0", "others/person 1"]


def test_pairs_in_another_order_are_matched():
    turned = people(1).isel(pair=slice(None, None, -1))
    turned = turned.assign_coords(
        stimulus_a=("pair", turned.stimulus_b.values), stimulus_b=("pair", turned.stimulus_a.values)
    )
    dataset = run(people(1), {"model one": turned}, models=[model("one")])
    assert dataset["score"].item() == pytest.approx(1)
    np.testing.assert_allclose(dataset["model_rdm"].values, people(1).values)


def test_groups_of_stimuli_are_kept():
    groups = {f"s{k:04d}": "face" if k < 7 else "house" for k in range(14)}
    dataset = run(people(1), {"model one": people(1)}, models=[model("one")], groups=groups)
    assert dataset["stimulus_group"].values.tolist() == list(groups.values())
    assert isinstance(dataset, xr.Dataset) and dataset["stimulus"].values[0] == "s0000"


def test_resampling_gives_intervals_and_tests_of_pairs(brain, drivers):
    inputs = {f"model {name}": array for name, array in drivers.items()}
    dataset = run(brain, inputs, models=[model("a"), model("b")], resample="conditions")
    assert dataset["p_pair"].dims == ("group", "model", "model_b")
    assert (dataset["mean_low"] < dataset["mean"]).all() and (dataset["mean"] < dataset["mean_high"]).all()
    better = dataset["difference"].values[:, 0, 1]
    assert better[0] > 0 > better[1]
