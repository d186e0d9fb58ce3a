from __future__ import annotations

import numpy as np
import pytest

from cerebridge import models
from cerebridge.encoding.study.features import array_step, network_step, of_layer, picture_step
from cerebridge.encoding.study.graph import Cache
from cerebridge.encoding.study.stimuli import read_stimuli

ENTRY = {"name": "tiny", "layers": ["conv1", "conv3"], "pool": 2, "dtype": "float32"}


@pytest.fixture(scope="module")
def pictures():
    return read_stimuli({"reader": "patterns", "categories": 2, "per_category": 4, "size": 32}, None, 0)


def network(pictures, seed=0, device="cpu", **change):
    return network_step("net", {**ENTRY, **change}, "random", "pictures", pictures, seed, device)


def test_activations_are_those_of_the_network(pictures, tmp_path):
    step, cache = network(pictures), Cache(tmp_path)
    cache.make(step, {}, {})
    direct = models.extract(
        models.load("tiny", weights="random", seed=0), pictures, ["conv1", "conv3"], pool=2
    )
    stored = cache.load(step)
    np.testing.assert_allclose(stored.values, direct.values, rtol=1e-5, atol=1e-6)
    layer = of_layer(stored, "conv3")
    assert layer.sizes["neuroid"] == 64 * 4 and set(layer.layer.values) == {"conv3"}
    assert of_layer(stored, None) is stored


def test_an_interrupted_extraction_goes_on(pictures, tmp_path):
    step, cache = network(pictures), Cache(tmp_path)
    cache.make(step, {}, {})
    whole = cache.load(step).values
    cache.forget(step)
    (cache.place(step) / "index.nc").unlink()
    cache.make(step, {}, {})
    assert np.array_equal(cache.load(step).values, whole)


def test_the_estimate_knows_the_size(pictures):
    step = network(pictures)
    expected = step.estimate(step.settings, {})
    assert expected["bytes"] == 8 * (16 + 64) * 4 * 4
    assert expected["seconds"] > 0


def test_seed_layers_and_stimuli_make_the_key_and_the_device_does_not(pictures):
    key = network(pictures).key
    assert network(pictures, device="auto").key == key
    assert network(pictures, seed=1).key != key
    assert network(pictures, layers=["conv1"]).key != key
    assert network(pictures[:4]).key != key


def test_pixels(pictures, tmp_path):
    entry = {"kind": "pixels", "size": 4}
    step, cache = picture_step("pixels", entry, "pictures", pictures), Cache(tmp_path)
    cache.make(step, {}, {})
    assert np.array_equal(cache.load(step).values, models.features.pixels(pictures, 4).values)
    assert step.estimate(step.settings, {})["bytes"] == 8 * 3 * 16 * 4


def test_features_in_a_file_follow_the_stimuli(pictures, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(24.0).reshape(8, 3))
    step, cache = array_step("x", {}, tmp_path / "x.npy", "pictures", pictures), Cache(tmp_path / "cache")
    cache.make(step, {}, {})
    array = cache.load(step)
    assert (
        array.shape == (8, 3) and array.stimulus_id.values.tolist() == pictures.table["stimulus_id"].tolist()
    )
    np.save(tmp_path / "x.npy", np.zeros((7, 3)))
    with pytest.raises(ValueError, match="x.npy has 7 presentations, but there are 8 stimuli"):
        array_step("x", {}, tmp_path / "x.npy", "pictures", pictures).work({"key": None}, {}, tmp_path)
