"""Loading by name: every tensor accounted for, damage named, random weights only when asked for."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from cerebridge import models


@pytest.fixture
def tiny_weights(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_file(models.load("tiny", weights="random", seed=7).state_dict(), path)
    return path


def test_loading_reports_every_tensor(weights):
    net = models.load("mobilenet_v2", weights=weights / "mobilenetv2-imagenet" / "model.safetensors")
    assert (net.loading.matched, net.loading.total, net.loading.complete) == (262, 262, True)
    assert str(net.loading) == "262 of 262 tensors matched"
    assert not net.training


def test_loaded_weights_are_the_ones_in_the_file(tiny_weights):
    net = models.load("tiny", weights=tiny_weights, seed=1)
    for name, tensor in load_file(tiny_weights).items():
        torch.testing.assert_close(net.state_dict()[name], tensor, rtol=0, atol=0)
    assert net.loading.fingerprint == models.fingerprint(models.load("tiny", weights="random", seed=7))


def test_random_weights_depend_on_the_seed_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (models.load("tiny", weights="random", seed=seed) for seed in (3, 3, 4))
    assert models.fingerprint(first) == models.fingerprint(again) != models.fingerprint(other)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.loading.matched == 0


def test_fingerprint_sees_one_changed_value_and_another_structure():
    net = models.load("tiny", weights="random")
    before = models.fingerprint(net)
    with torch.no_grad():
        net.conv3[0].bias[5] += 1e-3
    assert models.fingerprint(net) != before
    symmetric, shifted = (models.MobileNetV2(2, padding) for padding in ("symmetric", "tensorflow"))
    shifted.load_state_dict(symmetric.state_dict())
    assert models.fingerprint(symmetric) != models.fingerprint(shifted)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th"])
def test_torch_files_are_read_with_their_wrappings(tmp_path, suffix):
    state = models.load("tiny", weights="random", seed=7).state_dict()
    wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / f"tiny{suffix}")
    net = models.load("tiny", weights=tmp_path)
    assert net.loading.complete
    torch.testing.assert_close(net.conv1[0].weight, state["conv1.0.weight"])


def test_partial_weights_are_an_error_unless_allowed(tmp_path, tiny_weights):
    state = load_file(tiny_weights)
    del state["conv2.0.bias"]
    state["extra"] = torch.zeros(1)
    state["readout.2.weight"] = torch.zeros(3, 3)
    save_file(state, tmp_path / "partial.safetensors")
    with pytest.raises(
        ValueError, match="18 of 20 tensors matched; 1 missing .*conv2.0.bias.*extra.*readout.2.weight"
    ):
        models.load("tiny", weights=tmp_path / "partial.safetensors")
    with pytest.warns(UserWarning, match="18 of 20 .*the rest is random"):
        net = models.load("tiny", weights=tmp_path / "partial.safetensors", allow_partial=True)
    assert net.loading.missing == ("conv2.0.bias",)
    assert net.loading.unexpected == ("extra",)
    assert net.loading.reshaped == ("readout.2.weight",)


def test_weights_of_another_network_are_refused_even_if_partial_is_allowed(tiny_weights):
    with pytest.raises(ValueError, match="0 of 262 tensors matched"):
        models.load("mobilenet_v2", weights=tiny_weights, allow_partial=True)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="no network 'mobilenetv2'; the nearest are 'mobilenet_v2'"):
        models.load("mobilenetv2", weights="random")


def test_missing_foreign_and_ambiguous_files(tmp_path, tiny_weights):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        models.load("tiny", weights=tmp_path / "none.safetensors")
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="no file of weights"):
        models.load("tiny", weights=tmp_path / "weights.h5")
    (tmp_path / "second.pt").write_bytes(b"")
    with pytest.raises(
        ValueError, match="exactly one file of weights, but holds second.pt, tiny.safetensors"
    ):
        models.load("tiny", weights=tmp_path)


def test_damaged_files_are_named(tmp_path, tiny_weights):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut.safetensors is damaged"):
        models.load("tiny", weights=cut)
    torch.save(models.TinyNet().state_dict(), tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:500])
    with pytest.raises(ValueError, match="cut.pt is damaged"):
        models.load("tiny", weights=tmp_path / "cut.pt")


def test_files_with_code_are_refused(tmp_path):
    torch.save(models.TinyNet(), tmp_path / "whole.pt")
    with pytest.raises(
        ValueError, match="whole.pt is damaged or holds other things than tensors, which are never"
    ):
        models.load("tiny", weights=tmp_path / "whole.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds no dictionary of tensors"):
        models.load("tiny", weights=tmp_path / "list.pt")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "vgg16")) for name in models.NETWORKS]
)
def test_every_entry_of_the_zoo_can_be_built_and_run(name):
    net = models.load(name, weights="random")
    stimuli = models.StimulusSet.from_arrays(torch.zeros(2, 40, 40, 3, dtype=torch.uint8))
    activations = models.extract(net, stimuli, net.layers, pool="global")
    assert list(dict.fromkeys(activations["layer"].values)) == list(net.layers)
