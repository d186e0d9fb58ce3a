"""Listening to layers: what is heard, when the pass ends, and that the network is left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cerebridge import models
from cerebridge.models.taps import LayerTaps, evaluating


class SharedRelu(nn.Module):
    """One ReLU module that runs three times, in place."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 6)
        self.relu, self.unused = nn.ReLU(inplace=True), nn.Linear(1, 1)

    def forward(self, inputs):
        return self.relu(self.second(self.relu(self.first(self.relu(inputs.clone())))))


class Stubborn(nn.Module):
    """Catches whatever goes wrong inside and goes on."""

    def __init__(self):
        super().__init__()
        self.inside, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, inputs):
        try:
            hidden = self.inside(inputs)
        except Exception:
            hidden = inputs
        return self.after(hidden)


class Outputs(nn.Module):
    """Layers whose outputs are no plain tensors."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.LSTM(4, 5, batch_first=True)
        self.mapping, self.nothing, self.scalar = Mapping(), Nothing(), Scalar()
        self.complex, self.turned = Complex(), Turned()

    def forward(self, inputs):
        self.nothing(inputs)
        self.scalar(inputs)
        self.complex(inputs)
        self.turned(inputs)
        return self.mapping(self.recurrent(inputs)[0])


class Mapping(nn.Module):
    def forward(self, inputs):
        return {"last_hidden_state": inputs + 1, "pooled": inputs.sum(1)}


class Nothing(nn.Module):
    def forward(self, inputs):
        return None


class Scalar(nn.Module):
    def forward(self, inputs):
        return inputs.sum()


class Complex(nn.Module):
    def forward(self, inputs):
        return torch.fft.fft(inputs)


class Turned(nn.Module):
    def forward(self, inputs):
        return inputs.transpose(0, 1)


def heard(net, layers, inputs):
    outputs = {}
    LayerTaps(net, layers).run(inputs, lambda layer, output: outputs.__setitem__(layer, output.clone()))
    return outputs


def hooks(net):
    return sum(len(module._forward_hooks) for module in net.modules())


def test_outputs_are_those_of_the_layers():
    net = models.load("mobilenet_v2", weights="random", num_classes=5)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    outputs = heard(net, ["features.4", "features.0.0", "classifier"], images)
    with torch.no_grad():
        torch.testing.assert_close(outputs["features.4"], net.features[:5](images))
        # the convolution itself, before the ReLU that works in place on it
        torch.testing.assert_close(outputs["features.0.0"], net.features[0][0](images))
        torch.testing.assert_close(outputs["classifier"], net(images))
    assert not hooks(net)


def test_the_pass_ends_after_the_last_layer():
    net = models.load("tiny", weights="random")
    ran = []
    for name, module in net.named_children():
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    heard(net, ["conv2", "conv1"], torch.zeros(1, 3, 32, 32))
    assert ran == ["conv1", "conv2"]


def test_networks_that_swallow_exceptions_end_too():
    net, after = Stubborn(), []
    net.after.register_forward_pre_hook(lambda *_: after.append(1))
    assert heard(net, ["inside"], torch.zeros(2, 4)).keys() == {"inside"}
    assert not after


def test_each_run_of_a_shared_module_is_told_apart():
    net, inputs = SharedRelu(), torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    outputs = heard(net, ["relu[2]", "relu[0]", "first"], inputs)
    torch.testing.assert_close(outputs["relu[0]"], inputs.relu())
    torch.testing.assert_close(outputs["first"], net.first(inputs.relu()))
    torch.testing.assert_close(outputs["relu[2]"], net(inputs))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["relu"], r"'relu' runs 3 times .*'relu\[0\]', 'relu\[1\]', 'relu\[2\]'"),
        (["relu[3]"], r"'relu\[3\]' runs only 3 times"),
        (["unused"], "'unused' does not run"),
        (["first", "first"], "'first' is asked for more than once"),
        (["first", "first[0]"], "the same output of the same layer"),
        (["frist"], "no layer 'frist'; the nearest are 'first'"),
        ([], "no layers were asked for"),
    ],
)
def test_wrong_layers(layers, message):
    net = SharedRelu()
    with pytest.raises(ValueError, match=message):
        LayerTaps(net, layers).check(torch.zeros(2, 4))
    assert not hooks(net)


def test_first_entries_of_tuples_and_mappings_are_heard():
    net, inputs = Outputs(), torch.randn(2, 3, 4)
    outputs = heard(net, ["recurrent", "mapping"], inputs)
    torch.testing.assert_close(outputs["recurrent"], net.recurrent(inputs)[0])
    torch.testing.assert_close(outputs["mapping"], net.recurrent(inputs)[0] + 1)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("nothing", "gives NoneType, not real numbers"),
        ("complex", "gives torch.complex64, not real numbers"),
        ("scalar", r"gives the shape \(\) for a batch of 2"),
        ("turned", r"gives the shape \(3, 2, 4\) for a batch of 2: its first axis does not count stimuli"),
    ],
)
def test_outputs_that_are_no_batch_of_arrays(layer, message):
    net = Outputs()
    with pytest.raises(ValueError, match=message):
        heard(net, [layer], torch.zeros(2, 3, 4))
    assert not hooks(net)


def test_a_network_is_left_as_it_was():
    net = models.load("tiny", weights="random").train()
    net.conv2.eval()
    net.conv1[0].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    with pytest.raises(KeyError), evaluating(net, torch.device("cpu")):
        assert not any(module.training for module in net.modules())
        assert not net(torch.ones(2, 3, 32, 32)).requires_grad
        raise KeyError
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()].count(False) == 1
    assert torch.is_grad_enabled()


def test_what_is_no_module_is_named():
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, got str"):
        LayerTaps("mobilenet_v2", ["features"])


@pytest.mark.parametrize("device", ["meta", None, 0, "CPU"])
def test_networks_are_not_moved_where_nothing_is(device):
    net = models.load("tiny", weights="random")
    with pytest.raises(ValueError, match=r"device=.* is unknown; use 'auto'"):
        models.extract(net, models.StimulusSet.from_arrays([[0.0]]), ["conv1"], device=device)
    assert {weights.device.type for weights in net.parameters()} == {"cpu"}
