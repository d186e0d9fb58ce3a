"""Losses as functions of a layer: gradients by hand, and dictionaries that learn what the loss needs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cerebridge import models
from cerebridge.models.decompose import LayerLoss, SparseAutoencoder, attribute_heads
from cerebridge.models.training import seeded


@pytest.fixture
def net():
    with seeded(0):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 5))


@pytest.fixture
def images():
    return torch.randn(7, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def cross_entropy(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")


TARGETS = torch.arange(7) % 5


@pytest.mark.parametrize("batch_size", [2, 64])
def test_gradients_are_those_of_every_rows_own_loss(net, images, batch_size):
    loss = LayerLoss(
        net.train(), "1", images, cross_entropy, targets=TARGETS, batch_size=batch_size, device="cpu"
    )
    x, gradients = loss.collect()
    net.eval()
    activations = net[:2](images).detach().requires_grad_()
    losses = cross_entropy(net[2:](activations), TARGETS)
    by_hand = torch.autograd.grad(losses.sum(), activations)[0].flatten(1)
    np.testing.assert_allclose(x, activations.detach().flatten(1), atol=1e-6)
    np.testing.assert_allclose(gradients, by_hand, atol=1e-6)
    assert x["neuroid_id"].values.tolist() == gradients["neuroid_id"].values.tolist()
    assert set(x["channel"].values) == {0, 1, 2, 3} and gradients.attrs["modality"] == "gradient"
    assert loss(torch.from_numpy(x.values)) == pytest.approx(float(losses.detach().mean()), abs=1e-6)
    zeros = cross_entropy(net[2:](torch.zeros_like(activations)), TARGETS).mean()
    assert loss(torch.zeros(7, 64)) == pytest.approx(float(zeros.detach()), abs=1e-6)
    # the same, every place of the maps a sample
    placed = torch.from_numpy(x.values).reshape(7, 4, 16).transpose(1, 2).reshape(112, 4)
    assert loss(placed) == pytest.approx(float(losses.detach().mean()), abs=1e-6)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_the_network_is_left_as_it_was(net, images):
    net.train()[0].weight.requires_grad_(False)
    LayerLoss(net, "0", images, cross_entropy, targets=TARGETS).collect()
    assert net.training and not net[0].weight.requires_grad and net[4].weight.requires_grad
    assert not net[0]._forward_hooks


def test_stimuli_and_tensors_by_name_are_inputs_too(images):
    tiny = models.load("tiny", weights="random")
    stimuli = models.StimulusSet.from_arrays(
        np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), np.uint8)
    )
    x, gradients = LayerLoss(tiny, "conv3", stimuli, lambda outputs: outputs[:, 2], batch_size=2).collect()
    np.testing.assert_allclose(x, models.extract(tiny, stimuli, ["conv3"]), atol=1e-5)
    assert x["stimulus_id"].values.tolist() == stimuli.table["stimulus_id"].tolist()
    assert np.abs(gradients.values).max() > 0

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, pixels):
            return self.inner(pixels).flatten(1)

    loss = LayerLoss(Named(), "inner", {"pixels": images}, lambda outputs: outputs.square().sum(1))
    x, gradients = loss.collect()
    np.testing.assert_allclose(gradients, 2 * x, rtol=1e-6)


class Attention(nn.Module):
    """One layer of attention over tokens, with an output projection that heads enter side by side."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(12, 36), nn.Linear(12, 5)

    def forward(self, tokens):
        query, key, value = (
            part.unflatten(2, (3, 4)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, dim=2)
        )
        self.pattern, self.value = (query @ key.transpose(2, 3) / 2).softmax(3), value
        return self.proj((self.pattern @ value).transpose(1, 2).flatten(2)).mean(1)


def test_a_dictionary_of_attention_outputs():
    tokens = torch.randn(40, 6, 12, generator=torch.Generator().manual_seed(0))
    with seeded(0):
        net = Attention()
    loss = LayerLoss(net, "proj:input", tokens, cross_entropy, targets=torch.arange(40) % 5)
    x, gradients = loss.collect()
    assert x.shape == (40, 72) and set(x["token"].values) == set(range(6))
    sae = SparseAutoencoder(24, k=4, positions=True, max_epochs=60, batch_size=32, learning_rate=5e-3)
    sae.fit(x)
    report = sae.report(x, loss=loss)
    assert report["explained_variance"] > 0.8 and 0.5 < report["loss_recovered"] < 1.2
    everything = SparseAutoencoder(24, k=24, positions=True, max_epochs=60, batch_size=32, learning_rate=5e-3)
    assert everything.fit(x).report(x, loss=loss)["loss_recovered"] == pytest.approx(1, abs=0.05)
    net(tokens)
    split = attribute_heads(sae, x, n_heads=3, attention=net.pattern.detach(), values=net.value.detach())
    np.testing.assert_allclose(
        split["source_contribution"].sum("source"), split["head_contribution"], atol=1e-5
    )
    assert np.abs(gradients.values).max() > 0


def small_but_decisive(seed):
    """One large direction of 16 and one small one of 4 in every sample; the classes depend on the small ones."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.zeros(8000, 20)
    for first, n, size in ((0, 16, 1.0), (16, 4, 0.6)):
        chosen = first + torch.randint(n, (8000, 1), generator=generator)
        codes.scatter_(1, chosen, size * (0.75 + 0.5 * torch.rand(8000, 1, generator=generator)))
    directions = torch.linalg.qr(torch.randn(24, 24, generator=generator))[0][:20]
    weights = torch.cat(
        [0.3 * torch.randn(16, 8, generator=generator), 8 * torch.randn(4, 8, generator=generator)]
    )
    downstream = nn.Sequential(nn.Identity(), nn.Linear(24, 8, bias=False))
    downstream[1].weight = nn.Parameter(weights.T @ directions)
    x = codes @ directions
    classes = torch.multinomial(downstream(x).detach().softmax(1), 1, generator=generator)[:, 0]
    return LayerLoss(downstream, "0", x, cross_entropy, targets=classes, batch_size=2000)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_g_sae_restores_the_loss_where_topk_does_not(seed):
    loss = small_but_decisive(seed)
    x, gradients = loss.collect()
    options = {"n_features": 32, "k": 1, "max_epochs": 15, "batch_size": 128, "learning_rate": 2e-3}
    topk = SparseAutoencoder(**options).fit(x).report(x, loss=loss)
    noise = gradients.copy(data=np.random.default_rng(0).standard_normal(gradients.shape).astype(np.float32))
    recovered = {}
    for name, given in (("own", gradients), ("noise", noise)):
        sae = SparseAutoencoder(**options, activation="gradient").fit(x, gradients=given)
        report = sae.report(x, gradients=given, loss=loss)
        recovered[name] = float(report["loss_recovered"].sel(selection="gradient"))
        assert report["selection"].values.tolist() == ["size", "gradient"]
        assert report["explained_variance"].sel(selection="gradient") < topk["explained_variance"][0] - 0.1
    assert recovered["own"] > 0.6 and recovered["own"] > float(topk["loss_recovered"][0]) + 0.3
    assert recovered["noise"] < recovered["own"] - 0.3


@pytest.mark.parametrize(
    ("layer", "loss", "message"),
    [
        ("9", cross_entropy, "has no layer '9'|layer '9'"),
        ("1", lambda outputs, targets: outputs.mean(), "has the shape .*; give one value a row"),
        ("1", lambda outputs, targets: targets.float(), "the loss does not depend on the layer '1'"),
    ],
)
def test_wrong_losses_are_said_in_a_sentence(net, images, layer, loss, message):
    with pytest.raises(ValueError, match=message):
        LayerLoss(net, layer, images, loss, targets=TARGETS).collect()


def test_wrong_activations_are_said_in_a_sentence(net, images):
    loss = LayerLoss(net, "1", images, cross_entropy, targets=TARGETS)
    with pytest.raises(ValueError, match="of the 7 rows of the inputs"):
        loss(torch.zeros(6, 64))
    with pytest.raises(ValueError, match="441 activations were given for 448"):
        loss(torch.zeros(7, 63))
    twice = nn.ReLU()
    with pytest.raises(ValueError, match="runs 2 times in a forward pass; ask for one of '0"):
        LayerLoss(
            nn.Sequential(twice, nn.Linear(6, 6), twice), "0", images, lambda o: o.sum((1, 2, 3))
        ).collect()
    with pytest.raises(ValueError, match="with the activations and without"):
        x = torch.randn(20, 4)
        SparseAutoencoder(6, k=2, max_epochs=1).fit(x).report(x, loss=lambda given: 1.0)
