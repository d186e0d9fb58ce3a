"""Inner products without features: equal to those of the features, whatever the memory, and kept when complete."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from cerebridge import models, neuro

LAYERS = ["conv1", "conv3", "readout"]


def pictures(n):
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def net():
    return models.load("tiny", weights="random", seed=0)


@pytest.fixture(scope="module")
def stimuli():
    return models.StimulusSet.from_arrays(pictures(23))


@pytest.fixture(scope="module")
def whole(net, stimuli):
    return models.extract(net, stimuli, LAYERS)


def of(array, layer):
    return array.isel(neuroid=np.flatnonzero(array["layer"].values == layer))


def check(grams, whole, layers=LAYERS):
    for layer in layers:
        features = of(whole, layer).values.astype(np.float64)
        block = of(grams, layer)
        wanted = features @ features.T
        np.testing.assert_allclose(block.values, wanted, atol=1e-6 * wanted.max())
        np.testing.assert_allclose(block["feature_mean"].values, features.mean(1), atol=1e-6)
        assert (block["n_features"].values == features.shape[1]).all()


def test_inner_products_are_those_of_the_features(net, stimuli, whole, device):
    grams = models.extract_gram(net, stimuli, LAYERS, device=device)
    check(grams, whole)
    neuro.validate(grams)
    assert grams.attrs["modality"] == "gram"
    assert grams["stimulus_b"].values[:23].tolist() == grams["stimulus_id"].values.tolist()
    assert json.loads(grams.attrs["provenance"])["weights"] == net.loading.fingerprint


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 2), memory=st.sampled_from([1_500_000, 1_600_000, 2_500_000]))
def test_batches_passes_and_tiles_change_nothing(net, stimuli, whole, batch_size, memory):
    plan = models.plan_extraction(net, stimuli, LAYERS, gram=True, batch_size=batch_size, memory=memory)
    assert plan.peak_bytes <= memory
    if memory < 2_000_000:
        assert len(plan.passes) > 1
    check(models.extract_gram(net, stimuli, LAYERS, batch_size=batch_size, memory=memory), whole)


def test_one_layer_may_take_several_passes(net, stimuli, whole):
    options = {"memory": 1_500_000, "batch_size": 1}
    plan = models.plan_extraction(net, stimuli, ["conv1"], gram=True, **options)
    assert len(plan.passes) > 1
    check(models.extract_gram(net, stimuli, ["conv1"], **options), whole, ["conv1"])


def test_what_all_stimuli_share_does_not_drown_what_they_do_not():
    rows = np.random.default_rng(0).standard_normal((12, 500)).astype(np.float32)
    shared = np.float32(1000)
    grams = models.extract_gram(
        nn.Sequential(nn.Identity()), models.StimulusSet.from_arrays(rows + shared), ["0"]
    ).values
    rows = (rows + shared).astype(np.float64)
    rows -= rows.mean(0)
    centring = np.eye(12) - 1 / 12
    found = centring @ grams @ centring
    np.testing.assert_allclose(found, rows @ rows.T, atol=1e-5 * 500)
    # in single precision without the centring it would
    naive = (rows + 1000).astype(np.float32)
    naive = centring @ (naive @ naive.T).astype(np.float64) @ centring
    assert np.abs(naive - rows @ rows.T).max() > 1


def test_pooling_comes_first(net, stimuli):
    grams = models.extract_gram(net, stimuli, ["conv1", "conv3"], pool=2)
    check(grams, models.extract(net, stimuli, ["conv1", "conv3"], pool=2), ["conv1", "conv3"])


def test_complete_layers_are_kept_and_not_computed_again(stimuli, tmp_path):
    net, layers, calls = models.load("tiny", weights="random", seed=0), ["conv1", "conv2", "conv3"], []
    options = {"memory": 1_500_000, "batch_size": 2, "store": tmp_path / "store"}

    def interrupt(module, arguments, output):
        calls.append(1)
        if len(calls) == 3 + 5:  # within the last pass, after three trial runs
            raise KeyboardInterrupt

    handle = net.conv3.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        models.extract_gram(net, stimuli, layers, **options)
    handle.remove()
    assert [path.name for path in (tmp_path / "store").glob("*.nc")] == ["conv1.nc"]
    shown = []
    net.conv1.register_forward_pre_hook(lambda module, arguments: shown.append(len(arguments[0])))
    grams = models.extract_gram(net, stimuli, layers, **options)
    all_passes = models.plan_extraction(
        net, stimuli, layers, gram=True, memory=1_500_000, batch_size=2
    ).passes
    assert 23 <= sum(shown[3:-3]) < 23 * len(all_passes)
    check(grams, models.extract(net, stimuli, layers), layers)
    shown.clear()
    xr.testing.assert_identical(models.extract_gram(net, stimuli, layers, **options), grams)
    assert not shown


@pytest.mark.parametrize(
    ("changed", "what"),
    [({"pool": 2}, "pool"), ({"preprocess": models.Preprocessing(32, (0, 0, 0), (1, 1, 1))}, "preprocess")],
)
def test_matrices_of_something_else_are_refused(net, stimuli, tmp_path, changed, what):
    models.extract_gram(net, stimuli, ["readout"], store=tmp_path)
    with pytest.raises(ValueError, match=f"readout.nc was made with {what} = "):
        models.extract_gram(net, stimuli, ["readout"], store=tmp_path, **changed)
    with pytest.raises(ValueError, match=r"readout.nc was made with stimuli = "):
        models.extract_gram(net, stimuli[::-1], ["readout"], store=tmp_path)
    other = models.load("tiny", weights="random", seed=1)
    with pytest.raises(ValueError, match=r"readout.nc was made with weights = "):
        models.extract_gram(other, stimuli, ["readout"], store=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["conv9"]}, "no layer 'conv9'"),
        ({"memory": "100KiB"}, "more than memory=100.0 KiB"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"preprocess": lambda image: 1 / 0}, "preprocessing failed on stimulus '0000'"),
    ],
)
def test_bad_arguments_are_one_sentence(net, stimuli, arguments, message):
    with pytest.raises(ValueError, match=message):
        models.extract_gram(**{"net": net, "stimuli": stimuli, "layers": LAYERS, **arguments})


def test_values_that_are_not_finite_are_named():
    class Spoil(nn.Module):
        def forward(self, rows):
            return torch.where(rows == 5, torch.nan, rows)

    stimuli = models.StimulusSet.from_arrays(np.arange(8.0)[:, None], list("abcdefgh"))
    with pytest.raises(ValueError, match="'0' gives NaN or infinite values for stimulus 'f'"):
        models.extract_gram(nn.Sequential(Spoil()), stimuli, ["0"], batch_size=3)
