"""Proof of loading: what the fingerprints see, and what they must not see."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cerebridge import models
from cerebridge.models.loading import Loading, describe_network, prove

IMAGES = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 3, 32, 32), dtype=np.float32))


def proof(net, inputs=IMAGES):
    return prove(net.eval(), Loading("by hand", 0, 0), inputs, ())


def test_the_forward_pass_is_the_same_for_threads_batches_and_precision():
    net = models.load("cifar_resnet20", weights="random")
    first = proof(net)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = proof(net)
    finally:
        torch.set_num_threads(threads)
    assert first.agrees_with(again)

    class InDouble(nn.Module):
        """Another order and precision of the same sums, in a batch of three."""

        def __init__(self):
            super().__init__()
            self.net = models.load("cifar_resnet20", weights="random").double()

        def forward(self, images):
            return self.net(images.double().expand(3, -1, -1, -1))[:1]

    assert first.agrees_with(proof(InDouble()))


def test_the_forward_pass_sees_other_weights_and_other_wiring(weights):
    first = proof(models.load("cifar_resnet20", weights="random", seed=0))
    assert not first.agrees_with(proof(models.load("cifar_resnet20", weights="random", seed=1)))
    path = weights / "mobilenetv2-imagenet"
    right, wrong = (models.load("mobilenet_v2", path, padding=p) for p in ("tensorflow", "symmetric"))
    assert not right.loading.agrees_with(wrong.loading)
    assert not first.agrees_with(replace(first, forward=()))


def test_networks_that_draw_random_numbers_are_found():
    class Noisy(nn.Module):
        def forward(self, inputs):
            return inputs + torch.rand_like(inputs)

    with pytest.warns(UserWarning, match="draws random numbers even in evaluation mode"):
        assert proof(Noisy()).deterministic is False
    assert proof(nn.Dropout()).deterministic is True


def test_networks_that_give_nan_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 2, 3))
    with torch.no_grad():
        net[0].bias[0] = torch.inf
    with pytest.raises(ValueError, match="gives NaN or infinite values with the weights of by hand"):
        proof(net)


def test_networks_that_take_something_else_are_loaded_without_a_forward_pass():
    unknown, other = proof(nn.Linear(5, 2), inputs=None), proof(nn.Linear(5, 2))
    assert unknown.deterministic is other.deterministic is None and not unknown.agrees_with(unknown)
    assert unknown.remark == "it is not known what the network takes"
    assert other.remark.startswith("the network does not take the fixed input (mat1 and mat2")


def test_what_is_known_of_a_network_can_be_written_down():
    net = models.load("tiny", weights="random", seed=1)
    facts = describe_network(net)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["loading"] == {
        "source": "random",
        "matched": 0,
        "total": 20,
        "fingerprint": models.fingerprint(net),
        "deterministic": True,
        "remark": "",
        "forward": list(net.loading.forward),
    }
    assert facts["versions"] == {"torch": torch.__version__}
    assert facts["preprocess"] == repr(net.preprocess)
    assert "loading" not in describe_network(nn.Linear(2, 2))


def test_activations_keep_what_is_known_of_their_network(tmp_path):
    net = models.load("tiny", weights="random")
    stimuli = models.StimulusSet.from_arrays(np.zeros((3, 32, 32, 3), np.uint8))
    for store in (None, tmp_path / "store"):
        facts = json.loads(models.extract(net, stimuli, ["readout"], store=store).attrs["provenance"])
        assert facts["loading"] == describe_network(net)["loading"]
        assert facts["versions"] == net.loading.versions and facts["weights"] == net.loading.fingerprint
