"""Voids: the rule on known norms, phases, bypassed layers, and a text network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.models.decompose import bypass_layers, keep_last_active, report_voids
from cerebridge.models.decompose.voids import mark_active

NORMS = [1, 3, 5, 5.01, 5.02, 9, 9, 20]
ACTIVE = [1, 1, 1, 0, 1, 0, 1]


class Reach(torch.nn.Module):
    """Brings every token's norm to a number, within a tuple as many blocks of transformers do."""

    def __init__(self, norm, boxed=False):
        super().__init__()
        self.norm, self.boxed = norm, boxed

    def forward(self, state):
        state = state[0] if isinstance(state, tuple) else state
        state = self.norm * torch.nn.functional.normalize(state.roll(1, -1), dim=-1)
        return (state, "cache") if self.boxed else state


def stream(norms=NORMS):
    return torch.nn.Sequential(*(Reach(norm, boxed=k % 2 == 1) for k, norm in enumerate(norms)))


def layers(net):
    """All but the first, which makes the stream that the second one reads."""
    return [str(k) for k in range(1, len(net))]


def test_the_rule_on_known_norms():
    net = stream()
    report = report_voids(net, torch.randn(2, 3, 6), layers(net))
    assert report["layer"].values.tolist() == layers(net)
    np.testing.assert_array_equal(report["active"].values, np.repeat(np.array(ACTIVE)[:, None], 6, 1))
    np.testing.assert_allclose(report["change"].values[:, 0], np.diff(NORMS), atol=1e-5)
    np.testing.assert_allclose(report["use_share"].values, [ACTIVE])
    assert report["sequence"].values.tolist() == [0, 0, 0, 1, 1, 1]


def test_without_a_threshold_only_falling_norms_are_void():
    norms = torch.tensor([1.0, 3, 2, 2, 5, 4.9])[:, None]
    assert mark_active(norms, 0.0)[0][:, 0].tolist() == [True, False, True, True, False]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_scale_and_order_of_tokens_are_of_no_account(seed, scale):
    rng = torch.Generator().manual_seed(seed)
    norms = torch.rand(6, 9, generator=rng, dtype=torch.float64)
    order = torch.randperm(9, generator=rng)
    active = mark_active(norms)[0]
    assert mark_active(norms[:, order])[0].equal(active[:, order])
    assert mark_active(2.0 ** round(scale) * norms)[0].equal(active)


def test_prompt_and_generation_are_told_apart_and_padding_is_left_out():
    class Halve(torch.nn.Module):
        def forward(self, state):
            return state * torch.tensor([2.0, 2, 2, 0.5, 0.5])[:, None]

    class Stream(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.second = Halve()

        def forward(self, input_ids, attention_mask):
            return self.second(input_ids[..., None].float().expand(-1, -1, 3))

    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    inputs = {"input_ids": torch.ones(2, 5, dtype=torch.long), "attention_mask": mask}
    report = report_voids(Stream(), inputs, ["second"], prompt_length=3, batch_size=1)
    assert report["position"].values.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert report["phase"].values.tolist() == ["prompt", "generation"]
    assert report["use_share"].values.tolist() == [[1.0], [0.0]]
    assert (report["token_phase"].values == "generation").sum() == 3


def test_bypassed_layers_are_not_there():
    torch.manual_seed(0)
    blocks = [torch.nn.Linear(4, 4) for _ in range(4)]
    net, x = torch.nn.Sequential(*blocks), torch.randn(3, 4)
    with bypass_layers(net, ["1", "2"]):
        assert net(x).equal(blocks[3](blocks[0](x)))
    assert net(x).equal(blocks[3](blocks[2](blocks[1](blocks[0](x)))))
    boxed = stream([1, 3, 5])
    with bypass_layers(boxed, ["1"]):
        assert boxed(x).norm(dim=-1).allclose(torch.full((3,), 5.0))


def test_the_last_active_state_is_what_comes_out():
    net = stream([*NORMS, 20])
    x = torch.randn(2, 3, 6)
    states = {}
    for k in range(len(net)):
        states[k] = torch.nn.functional.normalize(x.roll(k + 1, -1), dim=-1)
    with keep_last_active(net, layers(net)):
        kept = net(x)
    # the last layer changes nothing of the norm, so that the state is that of the one before
    assert kept.allclose(20 * states[7], atol=1e-5)
    assert net(x).allclose(20 * states[8], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "alpha is -1; give a share"),
        ({"alpha": np.nan}, "alpha is nan; give a share"),
        ({"layers": None}, "Sequential has no layers that are known as 'residual stream'; name them"),
        ({"layers": ["0", "9"]}, "no layer '9'"),
    ],
)
def test_bad_input(options, message):
    net = stream()
    with pytest.raises(ValueError, match=message):
        report_voids(net, torch.ones(1, 2, 6), options.pop("layers", layers(net)), **options)


def test_layers_of_different_tokens_and_other_bad_input():
    pooled = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d((3, 4)))
    with pytest.raises(
        ValueError, match="the layer '1' gives 3 tokens and '1:input' gives 5; choose layers of one stream"
    ):
        report_voids(pooled, torch.ones(1, 5, 4), ["1"])
    with pytest.raises(TypeError, match="inputs are str; give a tensor"):
        report_voids(pooled, {"text": "a"}, ["0", "1"])
    with pytest.raises(ValueError, match=r"inputs have \[0\] rows"):
        report_voids(pooled, torch.ones(0, 5, 4), ["0", "1"])
    with (
        pytest.raises(ValueError, match=r"turns \(1, 5, 4\) into \(1, 3, 4\), so that it cannot be bypassed"),
        bypass_layers(pooled, ["1"]),
    ):
        pooled(torch.ones(1, 5, 4))
    with pytest.raises(ValueError, match="the layer '0:input' gives NaN"):
        report_voids(pooled, torch.full((1, 3, 4), torch.nan), ["0", "1"])


def test_a_text_network_whose_voids_are_none(minilm):
    """Blocks of MiniLM end in a layer norm: norms say nothing of what is added, and bypassing tells it."""
    net, tokens, blocks = minilm
    report = report_voids(net, tokens)
    assert report["layer"].values.tolist() == blocks[1:]
    assert report.sizes["token"] == int(tokens["attention_mask"].sum())
    assert report["use_share"].sel(layer="encoder.layer.0").item() == 1
    assert report["use_share"].sel(layer="encoder.layer.5").item() < 0.1
    mask = tokens["attention_mask"].bool()
    with torch.no_grad():
        clean = net(**tokens).last_hidden_state[mask]
        with bypass_layers(net, ["encoder.layer.5"]):
            without = net(**tokens).last_hidden_state[mask]
        with bypass_layers(net, ["encoder.layer.2"]):
            hardly = net(**tokens).last_hidden_state[mask]
    assert torch.cosine_similarity(clean, without).mean() < 0.7
    assert torch.cosine_similarity(clean, hardly).mean() > 0.9
