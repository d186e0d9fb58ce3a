"""Effects of interventions: known truths, their intervals, and controls on other units."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from cerebridge import models
from cerebridge.models import Ablate, Add, Clamp, Scale, StimulusSet, measure_effect


class Classes(nn.Module):
    """Three classes, each read out from four planted units of twelve."""

    def __init__(self):
        super().__init__()
        self.units, self.readout = nn.Linear(12, 12, bias=False), nn.Linear(12, 3, bias=False)
        self.units.weight = nn.Parameter(torch.eye(12))
        self.readout.weight = nn.Parameter(torch.kron(torch.eye(3), torch.ones(1, 4)))

    def forward(self, inputs):
        return self.readout(self.units(inputs))


@pytest.fixture
def net() -> Classes:
    return Classes()


@pytest.fixture
def stimuli() -> StimulusSet:
    rng = np.random.default_rng(0)
    values = (2 + rng.standard_normal((40, 12))).astype(np.float32)
    return StimulusSet.from_arrays(values, table={"category": ["a", "b"] * 20})


def test_ablated_planted_units_remove_only_their_class(net, stimuli):
    effect = measure_effect(net, stimuli, {"units": Ablate(units=[4, 5, 6, 7])}, controls=40)
    values = np.stack(list(stimuli))
    expected = -values[:, 4:8].sum(1)
    np.testing.assert_allclose(effect.difference[0, :, 1], expected, rtol=1e-5)
    np.testing.assert_allclose(effect.effect[0, 1], expected.mean(), rtol=1e-5)
    assert (effect.effect[0, [0, 2]] == 0).all() and (effect.p[0, [0, 2]] == 1).all()
    assert effect.low[0, 1] < expected.mean() < effect.high[0, 1] < 0
    # no four other units hold all of the class: none of them hits it at all
    assert (effect.control_effect[0, :, 1] == 0).all() and effect.p[0, 1] == 1 / 41
    np.testing.assert_allclose(effect.baseline, net(torch.from_numpy(values)).mean(0).detach(), rtol=1e-5)


def test_random_units_are_no_special_units(net, stimuli):
    effect = measure_effect(net, stimuli, {"units": Ablate(units=[0, 5, 10])}, controls=60)
    assert (effect.p > 0.05).all()


def test_a_change_that_changes_nothing_has_no_effect(net, stimuli):
    effect = measure_effect(net, stimuli, {"units": Scale(1.0, units=[2])}, controls=3)
    assert not effect.difference.any() and not effect.control_effect.any() and (effect.p == 1).all()


def test_the_interval_holds_the_true_effect_as_often_as_it_says():
    line = nn.Sequential(nn.Identity(), nn.Linear(1, 1, bias=False))
    nn.init.ones_(line[1].weight)
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        stimuli = StimulusSet.from_arrays(rng.standard_normal((40, 1)).astype(np.float32))
        effect = measure_effect(line, stimuli, {"0": Clamp(0.5)}, controls=0, bootstrap=200)
        held += bool(effect.low <= 0.5 <= effect.high)
    assert 174 <= held <= 198


def test_batches_and_seeds(net, stimuli):
    sets = {
        "mean": {"units": Ablate(units=[1], how="mean")},
        "other stimuli": {"units": Ablate(units=[1, 2], how="resample")},
    }
    whole = measure_effect(net, stimuli, sets, controls=5)
    cut = measure_effect(net, stimuli, sets, controls=5, batch_size=7)
    other = measure_effect(net, stimuli, sets, controls=5, random_state=1)
    np.testing.assert_allclose(whole.difference, cut.difference, atol=1e-5)
    np.testing.assert_allclose(whole.control_effect, cut.control_effect, atol=1e-5)
    assert not np.allclose(whole.control_effect, other.control_effect)
    # the mean of all stimuli leaves the mean output where it was
    assert abs(whole.effect.values[0]).max() < 1e-5 < abs(whole.difference.values[0]).max()


def test_labels_and_provenance(net, stimuli):
    sets = {"one": {"units": Ablate(units=[0])}, "two": {"units": Clamp(1.0, units=[0])}}
    effect = measure_effect(net, stimuli, sets, ["units", "readout"], controls=2)
    assert effect.effect.sizes == {"intervention": 2, "neuroid": 15}
    assert effect.category.values.tolist() == ["a", "b"] * 20
    assert effect.layer.values.tolist() == ["units"] * 12 + ["readout"] * 3
    facts = json.loads(effect.attrs["provenance"])
    assert facts["interventions"]["one"]["units"].startswith("Ablate(units=[0]")
    table = effect[["effect", "low", "high", "p"]].to_dataframe()
    assert len(table) == 30 and table["effect"].notna().all()


def test_controls_of_directions_places_and_feature_maps():
    tiny = models.load("tiny", weights="random").train()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    stimuli = StimulusSet.from_arrays(images)
    sets = {
        "direction": {"conv2": Add(np.arange(32.0))},
        "place": {"conv1": Clamp(9.0, units=[(0, 1, 1), (2, 5, 5)])},
    }
    effect = measure_effect(tiny, stimuli, sets, ["readout"], controls=4)
    assert (np.ptp(effect.control_effect.values, axis=1) > 0).any(axis=1).all()
    assert tiny.training, "the network is left as it was"


class Words(nn.Module):
    """Takes tokens and a mask by name, as language networks do."""

    def __init__(self):
        super().__init__()
        self.embed, self.readout = nn.Embedding(10, 4), nn.Linear(4, 2)

    def forward(self, input_ids, attention_mask):
        return {"scores": self.readout((self.embed(input_ids) * attention_mask[..., None]).sum(1))}


def test_networks_that_take_their_input_by_name():
    texts = StimulusSet.from_texts(["ab", "ba", "cc"])

    def tokens(text):
        return {
            "input_ids": torch.tensor([ord(c) - 97 for c in text]),
            "attention_mask": torch.ones(2).long(),
        }

    words = Words()
    effect = measure_effect(words, texts, {"embed:cls": Ablate()}, preprocess=tokens, controls=0)
    firsts = words.embed.weight[[0, 1, 2]] @ words.readout.weight.T
    np.testing.assert_allclose(effect.difference[0], -firsts.detach(), atol=1e-5)
    with pytest.raises(ValueError, match="is computed from the layer"), torch.no_grad():
        padded = {"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.tensor([[1, 0]])}
        with models.intervene(words, {"embed:last": Ablate()}):
            words(**padded)


@pytest.mark.parametrize(
    ("interventions", "options", "message"),
    [
        ({}, {}, "empty"),
        ({"units": Ablate()}, {}, "no controls at 'units': the change is of the whole layer.*use controls=0"),
        ({"units": lambda x: x}, {}, "is a function.*use controls=0"),
        ({"units": Ablate(units=range(8))}, {}, "it has 4 units besides the 8"),
        ({"units": Ablate(units=[0])}, {"controls": -1}, "controls= is too small"),
        ({"units": Ablate(units=[0])}, {"memory": "10B"}, "differences take 480 B"),
        ({"units": Ablate(units=[0])}, {"outputs": ["nothing"]}, "no layer 'nothing'"),
        ({"units": Ablate(units=[12])}, {"controls": 0}, "the layer has 12 of them"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(net, stimuli, interventions, options, message):
    with pytest.raises(ValueError, match=message):
        measure_effect(net, stimuli, interventions, **options)
