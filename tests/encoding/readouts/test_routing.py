"""Networks of routed readouts, against torch's own attention and against each other."""

from __future__ import annotations

import pytest
import torch

from cerebridge.encoding.readouts.routing import AttentionRouting, Reader, StaticRouting, sine_positions

N, FEATURES, PLACES, UNITS = 5, 8, (3, 4), 7


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def maps():
    return torch.randn(N, FEATURES, 12)


def routing(masks, **options):
    sizes = {"features": FEATURES, "width": 8, "heads": 2, "feedforward": 16, "dropout": 0.0} | options
    return AttentionRouting(masks, PLACES, **sizes).eval()


@pytest.mark.parametrize(("places", "width"), [((12,), 8), ((3, 4), 8), ((5, 5), 7), ((31, 31), 64)])
def test_positions_tell_all_places_apart(places, width):
    encoded = sine_positions(places, width)
    assert encoded.shape == (torch.Size(places).numel(), width)
    assert encoded.abs().max() <= 1
    distances = torch.cdist(encoded, encoded) + 10 * torch.eye(len(encoded))
    assert distances.min() > 1e-3


def test_a_grid_has_rows_in_one_half_and_columns_in_the_other():
    encoded = sine_positions((3, 4), 8).reshape(3, 4, 8)
    assert (encoded[:, :1, :4] == encoded[:, :, :4]).all()
    assert (encoded[:1, :, 4:] == encoded[:, :, 4:]).all()


def test_one_layer_is_torchs_cross_attention(maps):
    ours = routing(torch.ones(2, UNITS, dtype=torch.bool))
    peer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    peer.in_proj_weight.data = torch.cat([ours.query.weight, ours.key.weight, ours.value.weight])
    peer.in_proj_bias.data = torch.cat([ours.query.bias, ours.key.bias, ours.value.bias])
    peer.out_proj = ours.project
    tokens = maps.transpose(1, 2)
    queries = ours.embedding.expand(N, -1, -1)
    brought, attention = peer(queries, tokens + ours.positions, tokens, average_attn_weights=False)
    held = ours.attended(brought)
    held = ours.refined(held + ours.feedforward(held))
    torch.testing.assert_close(ours(maps), (held.sum(1) @ ours.reader.weight.T) + ours.reader.bias)
    torch.testing.assert_close(ours.attention(maps, torch.arange(2)), attention.transpose(1, 2))


def test_a_unit_reads_the_sum_of_its_queries():
    masks = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    reader = Reader(masks, 6)
    reader.bias.data.normal_()
    brought = torch.randn(N, 3, 6)
    expected = torch.einsum("nqw,qu,uw->nu", brought, masks.float(), reader.weight) + reader.bias
    torch.testing.assert_close(reader(brought), expected)


@pytest.mark.parametrize("kind", ["attention", "static"])
def test_queries_of_units_are_regions_of_one_unit_each(maps, kind):
    def make(masks):
        if kind == "attention":
            return routing(masks)
        return StaticRouting(masks, PLACES, FEATURES).eval()

    shared, own = make(torch.eye(UNITS, dtype=torch.bool)), make(UNITS)
    own.load_state_dict(shared.state_dict())
    torch.testing.assert_close(own(maps), shared(maps))
    which = torch.tensor([4, 1])
    torch.testing.assert_close(own.attention(maps, which), shared.attention(maps, which))


@pytest.mark.parametrize("at_once", [1, 3, UNITS])
def test_blocks_of_queries_change_neither_responses_nor_gradients(maps, at_once):
    whole, blocks = routing(UNITS), routing(UNITS, queries_at_once=at_once)
    blocks.load_state_dict(whole.state_dict())
    torch.testing.assert_close(blocks(maps), whole(maps))
    for network in (whole, blocks):
        network(maps).square().sum().backward()
    for ours, theirs in zip(blocks.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_a_map_is_where_queries_look_if_they_ask_for_nothing(maps):
    pools = torch.rand(UNITS, 12).softmax(1)
    routed, static = routing(UNITS, mapped=True), StaticRouting(UNITS, PLACES, FEATURES)
    asking = routed.attention(maps, torch.arange(UNITS))
    for network in (routed, static):
        network.begin(pools)
    looked = routed.attention(maps, torch.arange(UNITS))
    # a map weighs what content asks for, the same in all heads
    weighed = asking * (0.9 * pools + 0.1 / 12)[None, :, None]
    torch.testing.assert_close(looked, weighed / weighed.sum(-1, keepdim=True))
    routed.query.weight.data.zero_(), routed.query.bias.data.zero_()
    seen = [network.attention(maps, torch.tensor([4, 1])) for network in (routed, static)]
    torch.testing.assert_close(*(part.expand(N, 2, 2, 12) for part in seen))


@pytest.mark.parametrize("own", [True, False])
def test_a_network_brings_what_its_attention_shows(maps, own):
    network = routing(UNITS if own else torch.eye(UNITS, dtype=torch.bool), heads=1, mapped=True)
    network.map.data.normal_()
    values = network.prepare(network.standardise(maps).transpose(1, 2))[1][:, 0]
    looked = network.attention(maps, torch.arange(UNITS))[:, :, 0]
    held = network.attended(network.project(looked @ values))
    held = network.refined(held + network.feedforward(held))
    torch.testing.assert_close(network(maps), (held * network.reader.weight).sum(2) + network.reader.bias)


def test_attention_sums_to_one_and_static_maps_do_not_see_the_image(maps):
    static = StaticRouting(UNITS, PLACES, FEATURES)
    static.map.data.normal_()
    seen, routed = (net.attention(maps, torch.arange(UNITS)) for net in (static, routing(UNITS)))
    assert seen.shape == (N, UNITS, 1, 12)
    assert routed.shape == (N, UNITS, 2, 12)
    for attention in (seen, routed):
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    assert (seen == seen[:1]).all()
    assert not torch.allclose(routed, routed[:1])
