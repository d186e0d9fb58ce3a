"""Roles of layers: known for networks of every source, and what they are called reaches what they say."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from cerebridge import models
from cerebridge.models.compat import mend_torchvision
from cerebridge.models.taps import LayerTaps

mend_torchvision()
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
IMAGES = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)
IDS = torch.tensor([[1, 5, 7, 2], [4, 4, 9, 3]])


def timm_vit():
    timm = pytest.importorskip("timm")
    net = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, num_classes=5
    )
    return net, IMAGES, functional.gelu


def torchvision_vit():
    vision = pytest.importorskip("torchvision").models
    return vision.VisionTransformer(32, 8, 2, 2, 16, 32), IMAGES, functional.gelu


def bert():
    transformers = pytest.importorskip("transformers")
    net = transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=50))
    return net, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}, functional.gelu


def gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_embd=16, n_head=2, n_inner=32, vocab_size=50, n_positions=8)
    config.bos_token_id = config.eos_token_id = 0
    return transformers.GPT2LMHeadModel(config), {"input_ids": IDS}, nn.GELU(approximate="tanh")


def torch_encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 2), torch.randn(2, 5, 16), functional.relu


def pieces(net, layers, inputs):
    heard = {}
    with torch.no_grad():
        LayerTaps(net.eval(), layers).run(inputs, lambda name, out: heard.__setitem__(name, out.clone()))
    return heard


@pytest.mark.parametrize("make", [timm_vit, torchvision_vit, bert, gpt2, torch_encoder])
def test_transformers_of_every_source(make):
    torch.manual_seed(0)
    net, inputs, nonlinearity = make()
    table = models.find_layers(net, inputs)
    assert len(table) == len(set(table["layer"])) and table["depth"].between(0, 1).all()
    pairs = {role: rows["layer"].tolist() for role, rows in table.groupby("role")}
    for role in ("residual stream", "attention", "head outputs", "mlp pre", "mlp post"):
        assert len(pairs[role]) == 2, role
        assert table.loc[table["role"] == role, "block"].tolist() == [0, 1]
    heard = pieces(net, [layer for role in pairs for layer in pairs[role]], inputs)
    tokens = heard[pairs["residual stream"][0]].shape[1]
    for block in (0, 1):
        assert heard[pairs["residual stream"][block]].shape == (2, tokens, 16)
        assert heard[pairs["head outputs"][block]].shape == (2, tokens, 2, 8)
        before, after = (heard[pairs[role][block]] for role in ("mlp pre", "mlp post"))
        assert before.shape == (2, tokens, 32)
        torch.testing.assert_close(nonlinearity(before), after)
        weight = dict(net.named_modules())[pairs["mlp post"][block].removesuffix(":input")].weight
        assert 32 in weight.shape and 16 in weight.shape


def test_heads_are_the_ones_that_attention_by_hand_gives():
    torch.manual_seed(0)
    net, inputs, _ = torchvision_vit()
    block = "encoder.layers.encoder_layer_1"
    heard = pieces(net, [f"{block}.ln_1", f"{block}.self_attention.out_proj:heads"], inputs)
    attention = net.get_submodule(f"{block}.self_attention")
    projected = functional.linear(heard[f"{block}.ln_1"], attention.in_proj_weight, attention.in_proj_bias)
    queries, keys, values = projected.unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    weights = (queries @ keys.transpose(-1, -2) / 8**0.5).softmax(-1)
    torch.testing.assert_close(
        heard[f"{block}.self_attention.out_proj:heads"], (weights @ values).transpose(1, 2)
    )


def test_the_residual_stream_adds_what_attention_and_mlp_write():
    torch.manual_seed(0)
    net, inputs, _ = timm_vit()
    layers = ["blocks.1:input", "blocks.1.attn", "blocks.1.mlp", "blocks.1"]
    heard = pieces(net, layers, inputs)
    torch.testing.assert_close(sum(heard[layer] for layer in layers[:3]), heard["blocks.1"])


def test_convolutional_networks():
    net = models.load("cifar_resnet20", weights="random")
    table = models.find_layers(net)
    roles = dict(zip(table["layer"], table["role"], strict=True))
    assert roles["conv1"] == "convolution" and roles["bn1"] == "normalisation" and roles["linear"] == "linear"
    assert [layer for layer, role in roles.items() if role == "block"][:2] == ["layer1", "layer1.0"]
    depths = dict(zip(table["layer"], table["depth"], strict=True))
    assert depths["conv1"] == 0 < depths["layer1"] < depths["layer2"] < depths["linear"] == 1


def test_what_runs_several_times_is_listed_so_and_what_does_not_run_is_left_out():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.relu, self.unused = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)
            self.cell = nn.GRUCell(4, 4)

        def forward(self, inputs):
            return self.cell(inputs, self.cell(self.relu(self.first(self.relu(inputs)))))

    net, inputs = Net(), torch.randn(3, 4)
    assert models.find_layers(net)["layer"].tolist() == ["first", "relu", "unused", "cell:steps"]
    table = models.find_layers(net, inputs)
    assert table["layer"].tolist() == ["first", "relu[0]", "relu[1]", "cell:steps"]
    assert table["role"].tolist() == ["linear", "nonlinearity", "nonlinearity", "recurrent"]
    heard = pieces(net, table["layer"].tolist(), inputs)
    torch.testing.assert_close(heard["relu[0]"], inputs.relu())
    assert not any(module._forward_hooks for module in net.modules())


def test_every_layer_that_is_listed_can_be_extracted():
    net = models.load("mobilenet_v1", weights="random", num_classes=3)
    inputs = torch.zeros(2, 3, 32, 32)
    layers = models.find_layers(net, inputs)["layer"].tolist()
    assert pieces(net, layers, inputs).keys() == set(layers)


def test_a_network_without_known_parts_gives_an_empty_table():
    table = models.find_layers(nn.Sequential(nn.Flatten(), nn.Identity()))
    assert table.empty and list(table) == ["layer", "module", "role", "block", "depth"]


def test_positions_behind_the_output_projection_are_not_taken_for_it():
    mend_torchvision()
    swin = pytest.importorskip("torchvision.models.swin_transformer")
    block = swin.SwinTransformerBlockV2
    net = swin.SwinTransformer([4, 4], 16, [2], [2], [4, 4], block=block, num_classes=3)
    table = models.find_layers(net)
    heads = table["layer"][table["role"] == "head outputs"].tolist()
    assert heads == [f"features.1.{k}.attn.proj:heads" for k in range(2)]
