"""Interventions: what they change where the truth is known, and that the network is as it was afterwards."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from cerebridge import models
from cerebridge.models import Ablate, Add, Clamp, Scale, intervene
from cerebridge.models.taps import LayerTaps

Pair = namedtuple("Pair", "first second")


class Line(nn.Module):
    """Three units, read out by known weights."""

    def __init__(self):
        super().__init__()
        self.units, self.readout = nn.Identity(), nn.Linear(3, 1, bias=False)
        self.readout.weight = nn.Parameter(torch.tensor([[2.0, -3.0, 5.0]]))

    def forward(self, inputs):
        return self.readout(self.units(inputs))


class Twice(nn.Module):
    """One ReLU that runs twice, in place."""

    def __init__(self):
        super().__init__()
        self.relu, self.unused = nn.ReLU(inplace=True), nn.Identity()

    def forward(self, inputs):
        return self.relu(self.relu(inputs.clone()) - 1)


class Giving(nn.Module):
    """A layer whose output is of the kind that is asked for."""

    def __init__(self, make):
        super().__init__()
        self.inner = Inner(make)

    def forward(self, inputs):
        return self.inner(hidden=inputs)


class Inner(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, hidden):
        return self.make(hidden)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.mark.parametrize("unit", [0, 1, 2])
def test_clamping_a_unit_of_a_linear_network_moves_the_output_by_its_weight(line, unit):
    inputs = torch.randn(4, 3)
    with intervene(line, {"units": Clamp(inputs[:, unit].mean() + 1, units=[unit])}):
        clamped = line(inputs)
    weight = line.readout.weight[0, unit]
    expected = line(inputs)[:, 0] + weight * (inputs[:, unit].mean() + 1 - inputs[:, unit])
    torch.testing.assert_close(clamped[:, 0], expected)


def test_each_change_does_what_it_says(line):
    inputs = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    changes = {
        "clamp": (Clamp([7.0, 8.0], units=[0, 2]), [[7, 2, 8], [7, 5, 8]]),
        "scale": (Scale([1.0, 2.0, 3.0]), [[1, 4, 9], [4, 10, 18]]),
        "add": (Add(1.0, units=[1]), [[1, 3, 3], [4, 6, 6]]),
        "zero": (Ablate(units=[True, False, True]), [[0, 2, 0], [0, 5, 0]]),
        "mean": (Ablate(units=[0], how="mean"), [[2.5, 2, 3], [2.5, 5, 6]]),
        "any function": (lambda activations: activations.flip(1), [[3, 2, 1], [6, 5, 4]]),
    }
    for change, expected in changes.values():
        with intervene(line, {"units": change}):
            given = line(inputs)
        torch.testing.assert_close(given, line.readout(torch.tensor(expected, dtype=torch.float32)))


def test_feature_maps_sequences_and_single_places():
    maps, tokens = torch.randn(2, 4, 3, 3), torch.randn(2, 5, 4)
    silenced = Ablate(units=[1])(maps)
    assert (silenced[:, 1] == 0).all() and silenced[:, [0, 2, 3]].equal(maps[:, [0, 2, 3]])
    silenced = Ablate(units=[1])(tokens)
    assert (silenced[..., 1] == 0).all() and silenced[..., [0, 2, 3]].equal(tokens[..., [0, 2, 3]])
    placed = Clamp([9.0, 8.0], units=[(1, 0, 2), (3, 2, 2)])(maps)
    assert (placed != maps).sum() == 4 and (placed[:, 1, 0, 2] == 9).all() and (placed[:, 3, 2, 2] == 8).all()
    per_channel = Clamp([5.0, 6.0], units=[0, 3])(maps)
    assert (per_channel[:, 0] == 5).all() and (per_channel[:, 3] == 6).all()
    rows_first = Ablate(units=[2], axis=3)(maps)
    assert (rows_first[..., 2] == 0).all() and rows_first[..., :2].equal(maps[..., :2])


def test_resampled_units_are_those_of_other_stimuli_whatever_the_batches():
    reference = torch.randn(20, 3)
    change = Ablate(units=[1], how="resample", reference=reference, random_state=3)
    inputs = torch.randn(7, 3)
    whole = change(inputs)
    assert whole[:, [0, 2]].equal(inputs[:, [0, 2]])
    assert all(value in reference[:, 1] for value in whole[:, 1])
    begun = change.begin()
    assert torch.cat([begun(inputs[:3]), begun(inputs[3:])]).equal(whole)


def test_a_run_of_a_layer_is_told_from_the_others():
    net, inputs = Twice(), torch.tensor([[3.0, -2.0]])
    with intervene(net, {"relu[0]": Clamp(10.0)}):
        assert net(inputs).tolist() == net(inputs).tolist() == [[9.0, 9.0]]
    with intervene(net, {"relu[1]": Clamp(10.0)}):
        assert net(inputs).tolist() == [[10.0, 10.0]]
    with intervene(net, {"relu": Add(1.0)}):
        assert net(inputs).tolist() == [[4.0, 1.0]]


def test_the_input_of_a_layer_can_be_changed(line):
    with intervene(line, {"readout:input": Clamp(1.0)}):
        assert line(torch.zeros(1, 3)).item() == 4.0
    keyed = Giving(lambda hidden: hidden)
    with intervene(keyed, {"inner:input": Add(1.0)}):
        assert keyed(torch.zeros(1, 2)).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (lambda x: (x, "kept"), lambda output: output[0]),
        (lambda x: [x, "kept"], lambda output: output[0]),
        (lambda x: ((x, "kept"), "kept"), lambda output: output[0][0]),
        (lambda x: Pair(x, "kept"), lambda output: output.first),
        (lambda x: OrderedDict(hidden=x, rest="kept"), lambda output: output["hidden"]),
    ],
    ids=["tuple", "list", "nested", "named tuple", "mapping"],
)
def test_of_a_compound_output_the_first_entry_is_changed(make, first):
    net = Giving(make)
    with intervene(net, {"inner": Add(1.0)}):
        output = net(torch.zeros(1, 2))
    assert type(output) is type(make(torch.zeros(1))) and "kept" in str(output)
    assert first(output).tolist() == [[1.0, 1.0]]


class Attending(nn.Module):
    """Tokens through a projection, as attention ends."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.num_prefix_tokens = 2, 1
        self.tokens, self.proj = nn.Identity(), nn.Identity()

    def forward(self, inputs):
        return self.proj(self.tokens(inputs))


@pytest.mark.parametrize(
    ("part", "change", "where"),
    [
        ("tokens:cls", Ablate(), (slice(None), 0)),
        ("tokens:last", Ablate(units=[1]), (slice(None), -1, 1)),
        ("tokens:patches", Ablate(units=[0, 5]), (slice(None), slice(1, None), [0, 5])),
        ("proj:heads", Ablate(units=[1]), (slice(None), slice(None), slice(3, 6))),
        ("proj:heads", Ablate(units=[(0, 2, 1)]), (slice(None), 2, 1)),
    ],
)
def test_parts_of_sequences_are_changed_alone(part, change, where):
    inputs = torch.randn(2, 4, 6)
    expected = inputs.clone()
    expected[where] = 0
    net = Attending()
    with intervene(net, {part: change}):
        assert net(inputs).equal(expected)
    with (
        pytest.raises(ValueError, match="is computed from the layer"),
        intervene(net, {"tokens:mean": change}),
    ):
        net(inputs)


def test_blocks_nest_and_the_outer_change_comes_first(line):
    inputs = torch.ones(1, 3)
    with intervene(line, {"units": Clamp(1.0)}):
        with intervene(line, {"units": Scale(3.0)}):
            assert line(inputs).item() == 12.0
        assert line(inputs).item() == 4.0


def test_afterwards_the_network_is_as_it_was_also_after_an_error(line):
    inputs = torch.randn(2, 3)
    before = line(inputs)
    with pytest.raises(RuntimeError, match="of the caller"), intervene(line, {"units": Clamp(1.0)}):
        raise RuntimeError("of the caller")
    with pytest.raises(ValueError, match="units"), intervene(line, {"units": Ablate(units=[7])}):
        line(inputs)
    assert line(inputs).equal(before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in line.modules())


def test_gradients_flow_past_and_around_what_is_held(line):
    inputs = torch.zeros(1, 3, requires_grad=True)
    with intervene(line, {"units": Clamp(1.0, units=[1])}):
        line(inputs).sum().backward()
    assert inputs.grad.tolist() == [[2.0, 0.0, 5.0]]


def test_taps_hear_what_was_changed_and_may_end_the_pass_early(line):
    heard = {}
    with intervene(line, {"units": Clamp(7.0), "readout": Clamp(0.0)}):
        LayerTaps(line, ["units"]).run(torch.zeros(1, 3), heard.__setitem__)
    assert heard["units"].tolist() == [[7.0, 7.0, 7.0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unitz": Clamp(1.0)}, "no layer 'unitz'; the nearest are 'units'"),
        ({}, "no changes"),
        (
            {"units": Ablate(units=[3])},
            r"at the layer 'units': Ablate was given units=\[3\], but the layer has 3",
        ),
        ({"units": Ablate(units=[-1])}, "count from 0"),
        ({"units": Ablate(units=[])}, "units="),
        ({"units": Ablate(units=[(0, 1)])}, "places as tuples"),
        ({"units": Clamp([1.0, 2.0])}, r"shape \(2,\) for units of the shape \(3,\)"),
        ({"units": Clamp(float("nan"))}, "NaN"),
        ({"units": Ablate(how="mean", reference=torch.zeros(5, 4))}, "extract that layer without pooling"),
        ({"units": lambda activations: activations[:, :2]}, "give as many as there were"),
        ({"units[3]": Clamp(1.0)}, r"'units\[3\]' did not run"),
    ],
)
def test_bad_changes_are_refused_in_one_sentence(line, changes, message):
    with pytest.raises(ValueError, match=message), intervene(line, changes):
        line(torch.zeros(2, 3))


def test_a_layer_that_does_not_run_and_a_change_that_is_none():
    net = Twice()
    with pytest.raises(ValueError, match="'unused' did not run"), intervene(net, {"unused": Clamp(1.0)}):
        net(torch.zeros(1, 2))
    with pytest.raises(TypeError, match="give Clamp"), intervene(net, {"relu": 3.0}):
        pass
    with pytest.raises(ValueError, match="how='remove' is unknown"):
        Ablate(how="remove")
    giving = Giving(lambda hidden: "text")
    with pytest.raises(ValueError, match="gives str, no array"), intervene(giving, {"inner": Clamp(1.0)}):
        giving(torch.zeros(1, 2))


def test_a_head_of_a_real_kind_of_network_is_silenced():
    net = models.load("tiny", weights="random")
    inputs = torch.randn(3, 3, 32, 32)
    units = np.arange(5)
    with torch.no_grad(), intervene(net, {"conv3": Ablate(units=units)}):
        silenced = net(inputs)
    linear = net.readout[2]
    with torch.no_grad():
        features = net.conv3(net.conv2(net.conv1(inputs))).mean((2, 3))
        features[:, :5] = 0
        torch.testing.assert_close(silenced, linear(features))
