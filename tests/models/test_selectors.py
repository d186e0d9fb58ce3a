"""Parts of layers after a colon: tokens, heads, time steps, inputs, against torch by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cerebridge import models
from cerebridge.models.compat import mend_torchvision
from cerebridge.models.taps import LayerTaps

DEPTH, HEADS, WIDTH = 2, 4, 8


class Attention(nn.Module):
    """Attention whose output projection is a module that is called."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.qkv, self.proj = HEADS, nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens):
        parts = self.qkv(tokens).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*parts)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Vision(nn.Module):
    """Two tokens before six patches."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.register_tokens = nn.Parameter(torch.randn(1, 2, WIDTH))
        self.block = Attention()

    def forward(self, patches):
        prefix = torch.cat([self.cls_token, self.register_tokens], 1).expand(len(patches), -1, -1)
        return self.block(torch.cat([prefix, patches], 1))


class Text(nn.Module):
    """Takes its inputs by name."""

    def __init__(self):
        super().__init__()
        self.embed, self.block = nn.Embedding(10, WIDTH), Attention()

    def forward(self, input_ids, attention_mask):
        return {"hidden": self.block(tokens=self.embed(input_ids)), "mask": attention_mask}


class Recurrent(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.lstm, self.cell = nn.LSTM(3, 5, batch_first=batch_first), nn.GRUCell(5, 4)

    def forward(self, series):
        hidden = self.lstm(series if self.lstm.batch_first else series.transpose(0, 1))[0]
        hidden = hidden if self.lstm.batch_first else hidden.transpose(0, 1)
        state = None
        for step in hidden.unbind(1):
            state = self.cell(step, state)
        return state


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def heard(net, layers, inputs):
    outputs = {}
    with torch.no_grad():
        LayerTaps(net.eval(), layers).run(inputs, lambda name, out: outputs.__setitem__(name, out.clone()))
    return outputs


def test_tokens_of_a_vision_transformer():
    net, patches = Vision(), torch.randn(5, 6, WIDTH)
    parts = [":cls", ":patches", ":mean", ":last", ":patches(1)", ":patches:mean"]
    got = heard(net, ["block", *(f"block{part}" for part in parts)], patches)
    whole = got["block"]
    expected = [whole[:, 0], whole[:, 3:], whole.mean(1), whole[:, -1], whole[:, 1:], whole[:, 3:].mean(1)]
    for part, wanted in zip(parts, expected, strict=True):
        torch.testing.assert_close(got[f"block{part}"], wanted)


def test_heads_sum_through_the_projection_to_the_output():
    net, patches = Vision(), torch.randn(5, 6, WIDTH)
    got = heard(
        net, ["block.proj:heads", "block.proj:input", "block", "block.proj:heads:cls", "block:input"], patches
    )
    heads = got["block.proj:heads"]
    assert heads.shape == (5, 9, HEADS, WIDTH // HEADS)
    torch.testing.assert_close(heads.flatten(2), got["block.proj:input"])
    torch.testing.assert_close(heads[:, 0], got["block.proj:heads:cls"])
    torch.testing.assert_close(got["block:input"][:, 3:], patches)
    weight = net.block.proj.weight.unflatten(1, (HEADS, -1))
    summed = torch.einsum("bthd,ohd->bto", heads, weight) + net.block.proj.bias
    torch.testing.assert_close(summed, got["block"])


@pytest.mark.parametrize("batch_first", [True, False])
def test_torchs_own_attention_tells_its_heads_although_it_does_not_call_its_projection(batch_first):
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=batch_first)
    net = nn.Sequential()
    net.add_module("encoder", nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False))
    tokens = torch.randn(5, 7, WIDTH) if batch_first else torch.randn(7, 5, WIDTH)

    class Turned(nn.Module):
        """Stimuli first outside, whatever the network wants inside."""

        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, inputs):
            return self.net(inputs if batch_first else inputs.transpose(0, 1))

    outer = Turned()
    stimuli = tokens if batch_first else tokens.transpose(0, 1)
    attention = "net.encoder.layers.1.self_attn"
    got = heard(outer, [f"{attention}.out_proj:heads", attention, "net.encoder.layers.1"], stimuli)
    heads = got[f"{attention}.out_proj:heads"]
    assert heads.shape == (5, 7, HEADS, WIDTH // HEADS)
    projection = net.encoder.layers[1].self_attn.out_proj
    torch.testing.assert_close(projection(heads.flatten(2)), got[attention])
    final = outer(stimuli)
    torch.testing.assert_close(got["net.encoder.layers.1"], final if batch_first else final.transpose(0, 1))


def test_padding_counts_neither_in_means_nor_as_last_token():
    net = Text()
    ids, mask = torch.randint(10, (2, 5)), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    got = heard(
        net, ["embed:mean", "embed:last", "embed", "block"], {"input_ids": ids, "attention_mask": mask}
    )
    whole = got["embed"]
    torch.testing.assert_close(got["embed:mean"], torch.stack([whole[0].mean(0), whole[1, :2].mean(0)]))
    torch.testing.assert_close(got["embed:last"], torch.stack([whole[0, 4], whole[1, 1]]))
    assert got["block"].shape == (2, 5, WIDTH)


def test_inputs_given_by_name_are_heard():
    ids = torch.randint(10, (2, 5))
    inputs = {"input_ids": ids, "attention_mask": torch.ones(2, 5)}
    got = heard(Text(), ["block:input", "embed"], inputs)
    torch.testing.assert_close(got["block:input"], got["embed"])


@pytest.mark.parametrize("batch_first", [True, False])
def test_time_steps(batch_first):
    net, series = Recurrent(batch_first), torch.randn(4, 6, 3)
    got = heard(
        net, ["lstm:steps", "lstm", "lstm:last", "cell:steps", "cell:steps:last", "cell:steps:mean"], series
    )
    expected = net.lstm(series if batch_first else series.transpose(0, 1))[0]
    expected = expected if batch_first else expected.transpose(0, 1)
    torch.testing.assert_close(got["lstm:steps"], expected)
    torch.testing.assert_close(got["lstm"], expected)
    torch.testing.assert_close(got["lstm:last"], expected[:, -1])
    assert got["cell:steps"].shape == (4, 6, 4)
    torch.testing.assert_close(got["cell:steps"][:, 0], net.cell(expected[:, 0]))
    torch.testing.assert_close(got["cell:steps:last"], net(series))
    torch.testing.assert_close(got["cell:steps:mean"], got["cell:steps"].mean(1))


def test_packed_sequences_are_unpacked():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 5)

        def forward(self, series):
            lengths = torch.full((len(series),), series.shape[1])
            return self.gru(nn.utils.rnn.pack_padded_sequence(series, lengths, batch_first=True))[1]

    net, series = Packed(), torch.randn(4, 6, 3)
    expected = net.gru(series.transpose(0, 1))[0].transpose(0, 1)
    torch.testing.assert_close(heard(net, ["gru:steps"], series)["gru:steps"], expected)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["block:clss"], r"part ':clss' .* is unknown; there are :input, :heads"),
        (["block:mean(3)"], "':mean' .* takes no number"),
        (["block:mean:input"], "':input' and ':heads' come first"),
        (["block.proj:heads(3)"], "8 channels .* cannot be cut into 3 heads"),
        (["block[0]:steps"], "asks for one run and for all"),
        (["block:steps"], "runs only once .* no time steps"),
        (["blok:cls"], "no layer 'blok:cls'; the nearest are 'block'"),
        (["block:cls:mean"], r"gives the shape \(5, 8\), no sequence"),
        (["block:cls", "block:cls"], "more than once"),
        (["block:cls", "block[0]:cls"], "the same output of the same layer"),
    ],
)
def test_wrong_parts(layers, message):
    with pytest.raises(ValueError, match=message):
        LayerTaps(Vision(), layers).check(torch.zeros(5, 6, WIDTH))


def test_what_the_network_does_not_tell_must_be_said():
    net = nn.Sequential(nn.Linear(WIDTH, WIDTH))
    with pytest.raises(ValueError, match=r"how many heads '0:heads' has; say so, as in '0:heads\(12\)'"):
        LayerTaps(net, ["0:heads"])
    with pytest.raises(
        ValueError, match=r"before the patches of '0:patches'; say so, as in '0:patches\(1\)'"
    ):
        LayerTaps(net, ["0:patches"])
    assert heard(net, ["0:heads(2)"], torch.zeros(3, 4, WIDTH))["0:heads(2)"].shape == (3, 4, 2, 4)


def test_torchs_projection_itself_is_said_to_lie_inside():
    net = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True)
    with pytest.raises(ValueError, match=r"ask for 'self_attn', or for 'self_attn.out_proj:heads'"):
        LayerTaps(net, ["self_attn.out_proj"]).check(torch.zeros(5, 6, WIDTH))


def test_padding_of_another_length_is_refused():
    net = Text()
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    with pytest.raises(ValueError, match="gives 5 tokens, but the padding is known for 3"):
        heard(net, ["embed:mean"], {"input_ids": torch.zeros(2, 5, dtype=torch.long), "attention_mask": mask})


def test_a_module_with_a_colon_in_its_name_is_meant_itself():
    net = nn.Sequential()
    net.add_module("relu:mean", nn.ReLU())
    assert heard(net, ["relu:mean"], torch.ones(2, 3))["relu:mean"].shape == (2, 3)


def test_nested_outputs_are_refused():
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True)

    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoder(layer, DEPTH)

        def forward(self, tokens):
            padding = torch.zeros(tokens.shape[:2], dtype=torch.bool)
            padding[0, -1] = True
            return self.encoder(tokens, src_key_padding_mask=padding)

    with pytest.raises(
        ValueError, match="gives a nested tensor; build the network with enable_nested_tensor"
    ):
        heard(Padded(), ["encoder.layers.0"], torch.zeros(3, 4, WIDTH))


def hear(net, layers, inputs):
    heard = {}
    taps = LayerTaps(net, layers)
    with torch.no_grad():
        taps.check(inputs)
        taps.run(inputs, lambda layer, output: heard.__setitem__(layer, output.clone()))
    return heard, taps


@pytest.mark.parametrize("package", ["timm", "torchvision"])
@pytest.mark.parametrize("side", [32, 64])  # at 64 the map is as wide as it has channels
def test_feature_maps_of_swin_come_with_channels_first(package, side):
    mend_torchvision()
    torch.manual_seed(0)
    if package == "timm":
        swin = pytest.importorskip("timm.models.swin_transformer").SwinTransformer
        net = swin(img_size=side, patch_size=4, embed_dim=16, depths=(2,), num_heads=(2,), window_size=4)
        layers = ["patch_embed", "layers.0", "layers.0.blocks.1", "layers.0.blocks.0.norm1"]
    else:
        swin = pytest.importorskip("torchvision.models.swin_transformer").SwinTransformer
        net = swin([4, 4], 16, [2], [2], [4, 4], num_classes=3)
        layers = ["features.0", "features.1", "features.1.1", "features.1.0.mlp.3"]
    net, images = net.eval(), torch.randn(3, 3, side, side)
    raw = {}
    for layer in layers:
        net.get_submodule(layer).register_forward_hook(
            lambda module, _, output, layer=layer: raw.__setitem__(layer, output.clone())
        )
    heard, _ = hear(net, layers, images)
    for layer in layers:
        assert heard[layer].shape == (3, 16, side // 4, side // 4)
        torch.testing.assert_close(heard[layer], raw[layer].permute(0, 3, 1, 2), rtol=0, atol=0)
    stimuli = models.StimulusSet.from_arrays(images.numpy())
    pooled = models.extract(net, stimuli, layers[-2:-1], pool="global", preprocess=torch.from_numpy)
    expected = raw[layers[-2]].mean((1, 2))
    np.testing.assert_allclose(pooled.values, expected.numpy(), atol=1e-5)


def test_feature_maps_of_convolutional_networks_stay_as_they_are():
    mend_torchvision()
    block = pytest.importorskip("torchvision.models.convnext").CNBlock(8, 1.0, 0.0).eval()
    norm = pytest.importorskip("timm.layers").LayerNorm2d(8)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), block, nn.GELU(), norm, nn.MaxPool2d(2))
    for size in ((8, 8), (6, 8), (8, 4)):
        heard, _ = hear(net, ["0", "1", "2", "3", "4"], torch.randn(3, 3, *size))
        assert {output.shape[1] for output in heard.values()} == {8}
        with torch.no_grad():
            inner = heard["1"] - heard["0"]
            torch.testing.assert_close(inner, block(heard["0"]) - heard["0"])


class Patches(nn.Module):
    """Patches of 4 × 4 pixels, behind as many tokens as are asked for."""

    def __init__(self, n_prefix):
        super().__init__()
        self.embed, self.block = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 8)
        self.late = nn.Linear(8, 8)
        if n_prefix:
            self.cls_token = nn.Parameter(torch.randn(1, n_prefix, 8))

    def forward(self, images):
        tokens = self.block(self.embed(images).flatten(2).transpose(1, 2))
        if hasattr(self, "cls_token"):
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        return self.late(tokens)


def test_rows_and_columns_of_patches_are_those_of_the_network():
    net = Patches(1).eval()
    stimuli = models.StimulusSet.from_arrays(np.random.default_rng(0).random((4, 3, 8, 32), np.float32))
    result = models.extract(net, stimuli, ["late:patches", "late:cls"], preprocess=torch.from_numpy)
    patches = result.isel(neuroid=slice(16 * 8))
    assert (patches["row"].values.max(), patches["column"].values.max()) == (1, 7)  # 16 is a square, too
    with torch.no_grad():
        maps = net.late(net.block(net.embed(torch.from_numpy(np.stack(list(stimuli)))).movedim(1, 3)))
    expected = maps[:, patches["row"].values.astype(int), patches["column"].values.astype(int)]
    expected = expected[:, np.arange(128), patches["channel"].values.astype(int)]
    np.testing.assert_allclose(patches.values, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("n_prefix", "layer", "message"),
    [
        (0, "late:cls", r"16 tokens of the layer 'late:cls' are all patches.* ask for 'late:mean'"),
        (1, "block:patches", r"are all patches; ask for 'block:patches\(0\)'"),
        (2, "block:cls", r"are all patches; ask for"),
    ],
)
def test_patches_are_not_taken_for_other_tokens(n_prefix, layer, message):
    stimuli = models.StimulusSet.from_arrays(np.zeros((2, 3, 16, 16), np.float32))
    with pytest.raises(ValueError, match=message):
        models.extract(Patches(n_prefix).eval(), stimuli, [layer], preprocess=torch.from_numpy)


class Packing(nn.Module):
    """Reads sequences as long as they are."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 5, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, values, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
        return self.rnn(packed)[0].data


@pytest.mark.parametrize("part", ["last", "mean", "cls"])
def test_padding_of_packed_sequences_is_left_out(part):
    torch.manual_seed(0)
    net, values, lengths = Packing().eval(), torch.randn(3, 6, 3), torch.tensor([4, 6, 1])
    heard, _ = hear(net, [f"rnn:{part}"], {"values": values, "lengths": lengths})
    with torch.no_grad():
        alone = [net.rnn(each[None, :length])[0][0] for each, length in zip(values, lengths, strict=True)]
    take = {"last": lambda x: x[-1], "mean": lambda x: x.mean(0), "cls": lambda x: x[0]}[part]
    torch.testing.assert_close(heard[f"rnn:{part}"], torch.stack([take(each) for each in alone]))


def test_the_first_token_is_the_first_real_one():
    net = nn.Embedding(9, 4)
    net.forward = lambda input_ids, attention_mask: nn.functional.embedding(input_ids, net.weight)
    outer = nn.ModuleDict({"embed": net})
    outer.forward = lambda **inputs: outer["embed"](**inputs)
    ids = torch.tensor([[0, 0, 5, 6], [1, 2, 3, 4]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    heard, _ = hear(outer, ["embed:cls"], inputs)
    torch.testing.assert_close(heard["embed:cls"], net.weight[[5, 1]].detach())


@pytest.mark.parametrize("pool", [2, (1, 2), "global"])
def test_heads_and_steps_are_not_pooled_as_feature_maps(pool):
    stimuli = models.StimulusSet.from_arrays(np.random.default_rng(0).random((3, 6, WIDTH), np.float32))
    options = {"preprocess": torch.from_numpy, "pool": pool}
    with pytest.raises(ValueError, match=r"'block.proj:heads' has heads or time steps"):
        models.extract(Vision().eval(), stimuli, ["block", "block.proj:heads"], **options)
    by_hand = {**options, "pool": lambda output: output.mean(1)}
    pooled = models.extract(Vision().eval(), stimuli, ["block.proj:heads"], **by_hand)
    assert pooled.sizes["neuroid"] == WIDTH
