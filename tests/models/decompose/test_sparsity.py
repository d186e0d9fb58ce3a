"""Activation sparsity: errors by hand, known shares, targets that are met, baselines, and what has no perplexity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.models.decompose import fit_activation_ratio, report_sparsity
from cerebridge.models.decompose.sparsity import LEVELS, _Mlp, perplexity


class Block(torch.nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.up, self.act, self.down = (
            torch.nn.Linear(width, hidden),
            torch.nn.ReLU(),
            torch.nn.Linear(hidden, width),
        )

    def forward(self, state):
        return state + 6 * self.down(self.act(self.up(state)))


class Language(torch.nn.Module):
    """Predicts the next token from the last one, or (``looks_ahead``) from all."""

    def __init__(self, vocabulary=30, width=16, hidden=64, looks_ahead=False):
        super().__init__()
        self.embed = torch.nn.Embedding(vocabulary, width)
        self.blocks = torch.nn.Sequential(Block(width, hidden), Block(width, hidden))
        self.head = torch.nn.Linear(width, vocabulary)
        self.looks_ahead = looks_ahead

    def forward(self, input_ids, attention_mask=None):
        state = self.embed(input_ids)
        if self.looks_ahead:
            state = state + state.mean(1, keepdim=True)
        return {"logits": 2 * self.head(self.blocks(state))}


DOWN = ["blocks.0.down", "blocks.1.down"]


@pytest.fixture(scope="module")
def language():
    """A language and a text in it."""
    torch.manual_seed(0)
    net = Language().eval()
    ids = torch.randint(0, 30, (20, 1))
    with torch.no_grad():
        for _ in range(39):
            chances = net(ids)["logits"][:, -1].softmax(-1)
            ids = torch.cat([ids, chances.multinomial(1)], 1)
    return net, ids


def mlp(seed=0, active=1.0):
    rng = torch.Generator().manual_seed(seed)
    units = torch.randn(50, 40, generator=rng).relu()
    units = units * (torch.rand(50, 40, generator=rng) < active)
    return _Mlp(units, torch.randn(40, 12, generator=rng))


def test_the_error_is_the_norm_of_what_is_missing_over_that_of_the_whole():
    ours = mlp()
    silenced = ours.contributions < 1.0
    missing = np.linalg.norm((ours.units * silenced).numpy() @ ours.weights.numpy(), axis=1)
    whole = np.linalg.norm(ours.units.numpy() @ ours.weights.numpy(), axis=1)
    assert ours.error(silenced) == pytest.approx((missing / whole).mean(), rel=1e-5)
    assert ours.error_at(0) == 0 and ours.error_at(LEVELS) == pytest.approx(1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 500), st.floats(0.01, 0.95))
def test_thresholds_meet_their_target_although_errors_need_not_rise(seed, target):
    ours = mlp(seed)
    threshold = ours.threshold(target)
    reached = ours.error(ours.contributions < threshold)
    above = ours.error(ours.contributions < threshold + 1.001 * ours.step)
    assert reached <= target < above


def test_a_network_of_which_a_tenth_is_active_says_so():
    torch.manual_seed(0)
    units = torch.rand(30, 100) + 0.1
    units[:, 10:] = 0
    units = units[:, torch.randperm(100)]
    net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(100, 20))
    report = report_sparsity(net, units, ["1"], cett=0.0)
    assert report["active_share"].item() == pytest.approx(0.10, abs=1e-9)
    assert report["cett"].item() == 0
    assert report_sparsity(net, units, ["1"], cett=1.0)["active_share"].item() == 0
    assert 0 < report_sparsity(net, units, ["1"], cett=0.3)["active_share"].item() < 0.10


def test_perplexity_rises_as_far_as_was_asked_for(language):
    net, ids = language
    report = report_sparsity(net, ids, DOWN, increase=0.05)
    assert report.attrs["perplexity"] == pytest.approx(perplexity(net, [ids]))
    np.testing.assert_allclose(report["perplexity_ratio"].sel(rule=["cett", "fixed"]), 1.05, atol=1e-3)
    assert (report["perplexity_ratio"].values <= 1.05).all()
    shares = report["active_share"].values
    assert (shares > 0).all() and (shares < 1).all()
    # thresholds of equal error need no more units than as many for every token
    mean = dict(zip(report["rule"].values, shares.mean(axis=1), strict=True))
    assert mean["cett"] < mean["top_k"]
    cett = report["cett"].sel(rule="cett").values
    np.testing.assert_allclose(cett, report["setting"].sel(rule="cett").item(), atol=1e-3)
    np.testing.assert_allclose(
        report["threshold"].sel(rule="fixed"), report["setting"].sel(rule="fixed").item()
    )


def test_more_perplexity_needs_fewer_units_and_the_network_stays_as_it_was(language):
    net, ids = language[0], language[1][:6]
    before = net(ids)["logits"]
    shares = [
        report_sparsity(net, {"input_ids": ids}, DOWN, increase=p)["active_share"]
        .sel(rule="cett")
        .mean()
        .item()
        for p in (0.01, 0.1)
    ]
    assert shares[0] > shares[1] + 0.05
    assert net(ids)["logits"].equal(before)


def test_units_that_say_nothing_are_not_needed(language):
    net, ids = language[0], language[1][:6]
    hushed = Language().eval()
    hushed.load_state_dict(net.state_dict())
    for block in hushed.blocks:
        torch.nn.init.zeros_(block.down.weight)
    report = report_sparsity(hushed, ids, DOWN, increase=0.01)
    assert report["active_share"].values.max() == 0


def test_perplexity_by_hand_and_without_padding(language):
    net, ids = language
    logs = torch.log_softmax(net(ids)["logits"].double(), -1)
    expected = torch.nn.functional.nll_loss(logs[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).exp().item()
    assert perplexity(net, [ids[:7], ids[7:]]) == pytest.approx(expected, rel=1e-9)
    padded = torch.cat([ids, torch.zeros_like(ids)], 1)
    mask = torch.cat([torch.ones_like(ids), torch.zeros_like(ids)], 1)
    assert perplexity(net, [{"input_ids": padded, "attention_mask": mask}]) == pytest.approx(
        expected, rel=1e-6
    )


def test_shares_over_training_follow_their_law():
    amount = np.geomspace(1e9, 1e11, 25)
    scaled = amount / amount.max()
    noise = 1e-3 * np.random.default_rng(0).standard_normal(25)
    silu = fit_activation_ratio(amount, 0.5 - 0.05 * scaled**-0.3 + noise)
    assert silu["limit"] == pytest.approx(0.5, abs=0.03) and silu["r2"] > 0.99 and silu["c"] > 0
    relu = fit_activation_ratio(amount, np.exp(-2 - 3 * scaled**0.4) + 0.06 + noise, "exponential")
    assert relu["limit"] == pytest.approx(0.06, abs=0.02) and relu["r2"] > 0.98
    assert fit_activation_ratio(amount, noise)["r2"] < 0.5


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (DOWN, {"cett": 2}, "cett is 2; give a cumulative error from 0 to 1"),
        (DOWN, {"increase": 0}, "increase is 0; give by what share"),
        (["blocks.0.act"], {}, "'blocks.0.act' is ReLU; name the linear layers"),
        (["mlp"], {}, "'mlp' is no layer of the network"),
    ],
)
def test_bad_input(language, layers, options, message):
    net, ids = language
    with pytest.raises(ValueError, match=message):
        report_sparsity(net, ids, layers, **options)


def test_what_has_no_perplexity(language):
    _, ids = language
    with pytest.raises(ValueError, match="logits change with tokens that come later"):
        report_sparsity(Language(looks_ahead=True), ids, DOWN)
    with pytest.raises(ValueError, match=r"gives the shape \(8, 40, 3\) for \(8, 40\) token ids, no logits"):
        report_sparsity(torch.nn.Sequential(torch.nn.Embedding(30, 9), torch.nn.Linear(9, 3)), ids, ["1"])
    with pytest.raises(ValueError, match="perplexity needs token ids"):
        report_sparsity(torch.nn.Sequential(torch.nn.Linear(9, 3)), torch.ones(2, 3, 9), ["0"])
    with pytest.raises(ValueError, match="no sequence has two tokens"):
        perplexity(Language(), [ids[:, :1]])
    with pytest.raises(ValueError, match="amounts of data must be positive"):
        fit_activation_ratio([0, 1, 2, 3, 4], [1] * 5)
    with pytest.raises(ValueError, match="form='log' is unknown"):
        fit_activation_ratio([1, 2, 3, 4, 5], [1] * 5, "log")


def test_a_text_network_needs_fewer_units_in_its_last_block(minilm):
    net, tokens, _ = minilm
    report = report_sparsity(net, tokens, cett=0.2)
    assert report["layer"].values.tolist() == [f"encoder.layer.{k}.output.dense" for k in range(6)]
    # of a hundred tokens a single one may cross the threshold with a jump
    np.testing.assert_allclose(report["cett"].values, 0.2, atol=0.01)
    shares = report["active_share"].values[0]
    assert (shares > 0.1).all() and (shares < 0.9).all()
    with pytest.raises(ValueError, match="no logits of a vocabulary; give a language model, or cett="):
        report_sparsity(net, tokens)
