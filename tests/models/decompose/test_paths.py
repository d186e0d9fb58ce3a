"""Neuron paths: planted chains, attributions known by hand, decoys, convergence, vision transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.models.compat import mend_torchvision
from cerebridge.models.decompose import find_neuron_path

PLANTED = [3, 11, 6]


class Product(torch.nn.Module):
    """Its second class is the product of one unit of each of three layers; others are more active and say nothing."""

    def __init__(self, planted=PLANTED, width=40, power=1):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Identity() for _ in planted)
        self.planted, self.width, self.power = planted, width, power

    def forward(self, inputs):
        units = [layer(part) for layer, part in zip(self.layers, inputs.unbind(1), strict=True)]
        chain = torch.stack([each[:, k] for each, k in zip(units, self.planted, strict=True)]).prod(0)
        others = 1e-3 * torch.stack([each.tanh().sum(1) for each in units]).sum(0)
        return torch.stack([others, chain**self.power], 1)


NAMES = ["layers.0", "layers.1", "layers.2"]


def inputs(n=2, width=40, seed=0, decoy=9.0):
    values = torch.rand(n, 3, width, generator=torch.Generator().manual_seed(seed)) + 0.5
    for layer, unit in enumerate(PLANTED):
        values[:, layer, unit] += 1
    values[:, :, 20] = decoy
    return values


def test_the_planted_path_is_found_and_active_decoys_are_not():
    found = find_neuron_path(Product(), inputs(), 1, NAMES, score="logit", n_candidates=None)
    assert found["unit"].sel(rule="share").values.tolist() == [PLANTED] * 2
    assert found["unit"].sel(rule="activation").values.tolist() == [[20] * 3] * 2
    share, active = (found["attribution"].sel(rule=rule).values for rule in ("share", "activation"))
    assert (share > 1).all() and (np.abs(active) < 0.1).all()
    assert (found["zeroed"].sel(rule="share") == 0).all()
    np.testing.assert_allclose(found["doubled"].sel(rule="share"), 8 * found["clean"], rtol=1e-5)
    np.testing.assert_allclose(found["zeroed"].sel(rule="activation"), found["clean"])


def test_the_joint_attribution_rejects_decoys_that_are_less_active_than_the_path_and_no_others():
    options = {"rules": ["joint"], "score": "logit", "n_candidates": None}
    quiet = find_neuron_path(Product(), inputs(decoy=1.4), 1, NAMES, **options)
    assert quiet["unit"].values[0].tolist() == [PLANTED] * 2
    loud = find_neuron_path(Product(), inputs(decoy=9.0), 1, NAMES, **options)
    assert loud["unit"].values[0].tolist() == [[PLANTED[0], 20, 20]] * 2
    assert (loud["attribution"] > quiet["attribution"]).all()


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 1000))
def test_screened_candidates_and_another_order_of_units_lead_to_the_same_path(seed):
    rng = np.random.default_rng(seed)
    order = [rng.permutation(40) for _ in PLANTED]
    values = inputs(1, seed=seed)
    moved = torch.stack([values[:, k, order[k]] for k in range(3)], 1)
    planted = [int(np.flatnonzero(order[k] == unit)[0]) for k, unit in enumerate(PLANTED)]
    options = {"score": "logit", "rules": ["share"], "n_candidates": 4, "batch_size": 30}
    assert (
        find_neuron_path(Product(planted), moved, 1, NAMES, **options)["unit"].values[0, 0].tolist()
        == planted
    )


def test_attributions_are_those_of_the_integral():
    values = inputs(1, decoy=1.0)
    weights = np.array([values[0, k, unit].item() for k, unit in enumerate(PLANTED)])
    # of a product the sum of derivatives at α is α² times that at 1
    expected = weights.sum() * (weights.prod() / weights).sum() / 3
    for steps, tolerance in ((20, 1e-2), (200, 1e-4)):
        found = find_neuron_path(Product(), values, 1, NAMES, rules=["joint"], score="logit", n_steps=steps)
        assert found["attribution"].item() == pytest.approx(expected, rel=tolerance)


def test_influence_follows_a_chain_from_layer_to_layer():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        *(torch.nn.Linear(12, 12, bias=False) for _ in range(3)), torch.nn.Linear(12, 2)
    )
    for layer in net:
        layer.weight.data.mul_(0.01)
    chain = [4, 7, 2]
    net[1].weight.data[7, 4] = net[2].weight.data[2, 7] = net[3].weight.data[1, 2] = 1.0
    found = find_neuron_path(net, torch.ones(1, 12), 1, ["0", "1", "2"], rules=["influence"], score="logit")
    assert found["unit"].values[0, 0].tolist() == chain


def vision_transformer():
    mend_torchvision()
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.models.vision_transformer.VisionTransformer(
        32, 8, embed_dim=48, depth=3, num_heads=3, num_classes=7
    )
    # beginning weights are so small that nothing depends on anything
    for parameter in net.parameters():
        parameter.data.mul_(3)
    return net.eval()


@pytest.mark.parametrize("token", [0, None])
def test_vision_transformers_are_read_at_their_neurons(token):
    net = vision_transformer()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    labels = {"stimulus_id": ["a", "b"]}
    found = find_neuron_path(net, images, token=token, n_steps=10, n_candidates=6, presentation=labels)
    assert found["layer"].values.tolist() == [f"blocks.{k}.mlp.fc2:input" for k in range(3)]
    assert found["stimulus_id"].values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(found["target"], net(images).argmax(1))
    np.testing.assert_allclose(found["clean"], net(images).softmax(1).max(1).values.detach(), rtol=1e-4)
    joint = found["attribution"].sel(rule="joint").values
    assert (joint >= found["attribution"].sel(rule="activation").values).all()
    assert (joint >= found["attribution"].sel(rule="influence").values).all()
    change = np.abs(found["zeroed"] - found["clean"])
    assert (change.sel(rule="share") > change.sel(rule="activation")).all()


def test_the_network_is_left_as_it_was():
    net = vision_transformer().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    find_neuron_path(net, torch.zeros(1, 3, 32, 32), rules=["joint"], n_steps=2, n_candidates=1)
    assert net.training and all(parameter.grad is None for parameter in net.parameters())
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": None}, "Product has no layers that are known as 'mlp post'; name them as layers="),
        ({"target": 5}, "there is no class 5; the network has 2, counted from 0"),
        ({"rules": ["random"]}, "use 'joint', 'share', 'activation', 'influence'"),
        ({"score": "loss"}, "score='loss' is unknown"),
        ({"layers": ["layers.9"]}, "no layer 'layers.9'"),
        ({"target": [0, 1, 0]}, "3 targets for 1 inputs"),
        ({"n_steps": 0}, "n_steps is 0; give at least 1"),
        ({"n_candidates": 0}, "n_candidates is 0; give at least 1"),
        ({"inputs": inputs(1) * torch.nan}, "no tensor of finite values"),
        ({"inputs": np.zeros((1, 2))}, "no tensor of finite values"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        find_neuron_path(Product(), **{"inputs": inputs(1), "target": 1, "layers": NAMES, **options})


def test_layers_and_outputs_that_are_no_units():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    with pytest.raises(
        ValueError, match=r"layer '0' gives the shape \(1, 4, 6, 6\); give layers of batch × units"
    ):
        find_neuron_path(net, torch.ones(1, 3, 8, 8), 0, ["0"])
    with pytest.raises(
        ValueError, match=r"network gives the shape \(1, 4, 6, 6\); paths need batch × classes"
    ):
        find_neuron_path(net[:1], torch.ones(1, 3, 8, 8), 0, ["0"])
    with pytest.raises(ValueError, match="has 17 tokens, and none with number 99"):
        find_neuron_path(vision_transformer(), torch.ones(1, 3, 32, 32), token=99)
