"""The network that reads examples as a set."""

from __future__ import annotations

import math

import pytest
import torch

from cerebridge.encoding.readouts.context import Block, ContextNetwork, respond


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_the_order_of_examples_does_not_matter_and_pairs_do():
    network = ContextNetwork(3, width=16, layers=2, heads=4, feedforward=32, dropout=0.5).eval()
    embeddings, responses = torch.randn(5, 9, 3), torch.randn(5, 9)
    order = torch.randperm(9)
    weights = network(embeddings, responses)
    assert weights.shape == (5, 4)
    torch.testing.assert_close(network(embeddings[:, order], responses[:, order]), weights, rtol=0, atol=1e-5)
    assert (network(embeddings, responses[:, order]) - weights).abs().max() > 1e-3


def test_voxels_of_a_batch_do_not_see_each_other():
    network = ContextNetwork(3, width=16, layers=2, heads=4, feedforward=32, dropout=0.0)
    embeddings, responses = torch.randn(5, 9, 3), torch.randn(5, 9)
    alone = network(embeddings[2:3], responses[2:3])
    torch.testing.assert_close(network(embeddings, responses)[2:3], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [4, 40])
def test_a_block_is_attention_with_queries_as_long_as_the_logarithm_of_the_context(n):
    block = Block(8, heads=2, feedforward=12, dropout=0.0)
    tokens = torch.randn(3, n, 8)
    query, key, value = block.inputs(block.before_attention(tokens)).chunk(3, dim=2)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = math.log(n) * query[..., part] @ key[..., part].transpose(1, 2) / 2
        heads.append(scores.softmax(2) @ value[..., part])
    held = tokens + block.outputs(torch.cat(heads, dim=2))
    normal = block.before_feedforward(held)
    gate, content = normal @ block.gated.weight.T[:, :12], normal @ block.gated.weight.T[:, 12:]
    gate, content = gate + block.gated.bias[:12], content + block.gated.bias[12:]
    expected = held + block.narrowed(gate * gate.sigmoid() * content)
    torch.testing.assert_close(block(tokens), expected)


def test_responses_are_linear_in_embeddings():
    weights, embeddings = torch.randn(5, 4), torch.randn(1, 7, 3)
    expected = torch.stack([embeddings[0] @ one[:3] + one[3] for one in weights])
    torch.testing.assert_close(respond(weights, embeddings), expected)
