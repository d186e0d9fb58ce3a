"""Expert units: scikit-learn's average precision, planted experts, chance, ablation of a relation, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from cerebridge import neuro
from cerebridge.models.decompose import ablate_experts, find_expert_units
from cerebridge.models.decompose.experts import average_precision


def assemble(values, relation, **labels):
    return neuro.assemble(
        values,
        presentation={"stimulus_id": np.arange(len(values)), "relation": relation, **labels},
        neuroid={
            "neuroid_id": np.arange(values.shape[1]),
            "layer": "mlp",
            "channel": np.arange(values.shape[1]),
        },
        modality="activation",
        units="a.u.",
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 40), st.integers(1, 6))
def test_average_precision_is_that_of_scikit_learn_with_ties(seed, n, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (n, 3)).astype(float)
    labels = np.r_[True, rng.uniform(size=n - 1) < 0.5]
    expected = [average_precision_score(labels, column) for column in scores.T]
    (ours,) = average_precision(torch.from_numpy(scores), [torch.from_numpy(labels)[None]])
    np.testing.assert_allclose(ours[0].numpy(), expected, atol=1e-12)


def planted(n=400, units=2000, experts=20, share=0.5, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, units)).astype(np.float32)
    relation = np.where(np.arange(n) < share * n, "capital", "language")
    values[: int(share * n), :experts] += 5
    return assemble(values, relation)


def test_planted_experts_are_the_first_and_all_others_are_at_chance():
    found = find_expert_units(planted(), n_permutations=50).sel(relation="capital")
    assert found["expertise"].values[:20].min() > 0.99
    assert sorted(found["rank"].values[:20].tolist()) == list(range(20))
    assert float(found["null_mean"]) == pytest.approx(0.51, abs=0.01)
    assert float(found["null_max"]) == pytest.approx(0.60, abs=0.02)
    assert (found["p_max"].values[:20] == 1 / 51).all() and (found["p_max"].values[20:] > 0.05).mean() > 0.99
    assert abs((found["p"].values[20:] < 0.1).mean() - 0.1) < 0.03


def test_blocks_of_units_are_of_no_account(monkeypatch):
    array = planted(n=60, units=50, experts=3)
    whole = find_expert_units(array, n_permutations=20)
    monkeypatch.setattr("cerebridge.models.decompose.experts.BLOCK", 7)
    xr.testing.assert_allclose(find_expert_units(array, n_permutations=20), whole, rtol=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_chance_follows_the_prevalence(share):
    noise = planted(units=100, experts=0, share=share)
    found = find_expert_units(noise, n_permutations=20).sel(relation="capital")
    assert float(found["prevalence"]) == pytest.approx(share, abs=0.005)
    assert float(found["null_mean"]) == pytest.approx(share, abs=0.03)
    assert not (found["p_fdr"].values < 0.05).any()


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_the_order_of_prompts_and_units_is_of_no_account(seed):
    array = planted(40, 15, 3)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(40), rng.permutation(15)
    one = find_expert_units(array, n_permutations=0)
    other = find_expert_units(array.isel(presentation=rows, neuroid=columns), n_permutations=0)
    other = other.sel(relation=one["relation"].values)
    np.testing.assert_allclose(other["expertise"].values, one["expertise"].values[:, columns])


def test_tokens_of_a_prompt_are_one_positive():
    tokens = np.array([[0.0, 1], [9, 1], [3, 1], [0, 1], [2, 1]])
    prompt = np.array(["a", "a", "b", "c", "c"])
    relation = np.array(["x", "x", "y", "y", "y"])
    array = assemble(tokens, relation, prompt=prompt)
    largest = find_expert_units(array, prompt="prompt", n_permutations=0).sel(relation="x")
    assert largest["expertise"].values.tolist() == [1.0, pytest.approx(1 / 3)]
    assert float(largest["prevalence"]) == pytest.approx(1 / 3)
    array.values[4, 0] = 20
    mean = find_expert_units(array, prompt="prompt", over="mean", n_permutations=0).sel(relation="x")
    # means are 4.5, 3 and 10
    assert mean["expertise"].values[0] == 0.5
    with pytest.raises(ValueError, match="tokens of the prompt 'c' have several relations"):
        find_expert_units(assemble(tokens, ["x", "x", "y", "y", "x"], prompt=prompt), prompt="prompt")


class Answers(torch.nn.Module):
    """Knows three relations of ten entities: 20 units speak for each relation, one for each entity."""

    def __init__(self):
        super().__init__()
        self.read = torch.nn.Linear(13, 100, bias=False)
        self.act = torch.nn.ReLU()
        weights = torch.zeros(100, 13)
        for relation in range(3):
            weights[20 * relation : 20 * relation + 20, relation] = 1
        weights[60:70, 3:] = torch.eye(10)
        weights[70:] = 0.1 * torch.rand(30, 13, generator=torch.Generator().manual_seed(0))
        self.read.weight.data = weights

    def forward(self, inputs):
        hidden = self.act(self.read(inputs))
        relations = torch.stack([hidden[:, 20 * k : 20 * k + 20].mean(1) for k in range(3)], 1)
        # without any relation nothing is known, and a fourth answer is given
        unknown = torch.full_like(relations[:, :1], 0.05)
        return torch.cat([relations, unknown], 1)[:, :, None] + hidden[:, None, 60:70]


def prompts(relation):
    inputs = torch.zeros(10, 13)
    inputs[:, relation] = 1
    inputs[:, 3:] = torch.eye(10)
    return inputs


def accuracies(net):
    out = {}
    for k, name in enumerate("abc"):
        best = net(prompts(k)).flatten(1).argmax(1)
        out[name] = (best == 10 * k + torch.arange(10)).float().mean().item()
    return out


def test_without_its_experts_only_that_relation_is_lost():
    net = Answers()
    hidden = net.act(net.read(torch.cat([prompts(k) for k in range(3)]))).detach().numpy()
    array = assemble(hidden, np.repeat(list("abc"), 10))
    array["layer"] = ("neuroid", ["act:last"] * 100)
    experts = find_expert_units(array, n_permutations=0)
    effect = ablate_experts(net, experts, accuracies, n_units=20, n_controls=3)
    np.testing.assert_array_equal(effect["score"].values, 1 - np.eye(3))
    assert effect["clean"].values.tolist() == [1, 1, 1]
    assert sorted(effect["unit"].sel(ablated="b").values.tolist()) == list(range(20, 40))
    # a random twenty of the others take some entities away, and leave the rest of the relation
    assert effect["control"].values.min() >= 0.5
    assert accuracies(net) == {"a": 1.0, "b": 1.0, "c": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"relation": ["capital"] * 10}, "all prompts express the relation 'capital'; give prompts of other"),
        (
            {"relations": ["river"]},
            "no prompt expresses the relation 'river'; there are 'capital', 'language'",
        ),
        (
            {"relation": "topic"},
            "no coordinate 'topic' along presentation; there are 'stimulus_id', 'relation'",
        ),
        ({"relation": ["a", "b"]}, "10 presentations, but labels of the shape"),
        ({"over": "sum"}, "over='sum' is unknown; use 'max' or 'mean'"),
        ({"n_permutations": -1}, "n_permutations is -1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        find_expert_units(planted(10, 4, 1), **options)


def test_activations_that_are_missing_or_units_that_are_not_known():
    broken = planted(10, 4, 1).copy()
    broken.values[3, 1] = np.nan
    with pytest.raises(ValueError, match="presentation 3 has NaN or infinite activations"):
        find_expert_units(broken)
    experts = find_expert_units(planted(10, 4, 1), n_permutations=0)
    with pytest.raises(ValueError, match="experts' units have no 'channel'"):
        ablate_experts(Answers(), experts.drop_vars("channel"), accuracies, n_units=2)
    with pytest.raises(ValueError, match="has 1 units besides its 3 experts"):
        experts["layer"] = ("neuroid", ["act"] * 4)
        ablate_experts(Answers(), experts, accuracies, n_units=3)
    with pytest.raises(ValueError, match="n_units is 9; give a number of units from 1 to 4"):
        ablate_experts(Answers(), experts, accuracies, n_units=9)
