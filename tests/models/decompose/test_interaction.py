"""Local interaction bases: diagonal for a linear layer, what is left out, Jacobians by hand, ablation, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from cerebridge import models, neuro
from cerebridge.models.decompose import LocalInteractionBasis
from cerebridge.models.decompose.bases import Moments
from cerebridge.models.training import train


def data(n=200, width=12, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=rng, dtype=torch.float64)
    return torch.randn(n, width, generator=rng, dtype=torch.float64) @ mixing + 3


def linear(width=12, out=8, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(width, out)).double()


def off_diagonal(edges):
    matrix = edges.values
    diagonal = np.diagonal(matrix)
    return np.abs(matrix[:, : len(matrix)] - np.diag(diagonal)).max() / diagonal.max()


def test_a_linear_layer_interacts_along_the_diagonal_alone_and_principal_components_do_not():
    basis = LocalInteractionBasis(linear(), ["0", "1"]).fit(data())
    assert basis.edges_["0"].shape == (8, 8)
    assert off_diagonal(basis.edges_["0"]) < 1e-10
    pca = basis.edges(data(), "pca")["0"]
    assert pca.shape == (8, 12) and off_diagonal(pca) > 0.2


def test_moments_of_parts_are_those_of_all_rows():
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e6
    moments = Moments(4)
    for part in rows.split([1, 20, 29]):
        moments.add(part)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.numpy().T, bias=True), atol=1e-8)


def test_directions_that_do_not_vary_or_are_not_read_are_left_out():
    x, net = data(), linear()
    x[:, 3] = 5
    net[1].weight.data[:, 7] = 0
    basis = LocalInteractionBasis(net, ["0", "1"]).fit(x).bases_["0"]
    # twelve units, one constant, and of the rest only as many directions as eight outputs can read
    assert basis.vectors.shape == (12, 8)
    assert basis.vectors[3].abs().max() < 1e-6 * basis.vectors.abs().max()
    narrow = linear(out=12)
    narrow[1].weight.data[4:] = 0
    assert LocalInteractionBasis(narrow, ["0", "1"]).fit(x).bases_["0"].vectors.shape == (12, 4)


def test_the_inverse_is_one_and_what_is_left_out_does_not_matter():
    x, net = data(), linear()
    basis = LocalInteractionBasis(net, ["0", "1"]).fit(x)
    here = basis.bases_["0"]
    torch.testing.assert_close(here.inverse @ here.vectors, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(net(here.project(x)), net(x))
    features = basis.transform(x, "0")
    torch.testing.assert_close(features, (x - x.mean(0)) @ here.vectors)
    # whitened, turned, and scaled by what each does
    torch.testing.assert_close(
        features.T @ features / len(x), torch.diag(here.importance), atol=1e-8, rtol=1e-6
    )


def test_edges_are_mean_squared_jacobians_through_a_nonlinearity():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
    x = data(20, 5)
    basis = LocalInteractionBasis(net, ["0", "2"], batch_size=7).fit(x)
    first, last = basis.bases_["0"], basis.bases_["2"]
    hidden = net[0](x)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda h: net[2](net[1](h))))(hidden)
    turned = last.vectors.T @ jacobians @ first.inverse.T
    np.testing.assert_allclose(basis.edges_["0"].values, turned.square().mean(0).detach().numpy(), rtol=1e-8)
    # of importance: the mean squared effect of a whitened direction
    white = first.inverse.T * first.importance.sqrt()
    effects = (last.vectors.T @ jacobians @ white).square().sum(1).mean(0)
    np.testing.assert_allclose(effects.detach().numpy(), first.importance.numpy(), rtol=1e-8)


def test_integrated_edges_are_means_on_the_way_from_the_mean():
    net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Tanh()).double()
    x = data(30, 2)
    basis = LocalInteractionBasis(net, ["0", "1"]).fit(x)
    edges = basis.edges(x, n_steps=400)["0"]
    middle, here, last = x.mean(0), basis.bases_["0"], basis.bases_["1"]
    # along a straight line the mean slope of tanh is its difference over the distance
    slopes = (x.tanh() - middle.tanh()) / (x - middle)
    expected = (last.vectors.T @ torch.diag_embed(slopes) @ here.inverse.T).square().mean(0)
    np.testing.assert_allclose(edges.values, expected.numpy(), rtol=1e-3)
    assert not np.allclose(basis.edges_["0"].values, edges.values, rtol=0.05)
    # a linear layer has one slope on all the way
    flat = LocalInteractionBasis(linear(), ["0", "1"]).fit(data())
    np.testing.assert_allclose(flat.edges(data(), n_steps=3)["0"], flat.edges_["0"], atol=1e-9)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 300))
def test_order_of_inputs_and_of_units_and_the_batch_size_are_of_no_account(seed, batch_size):
    rng = torch.Generator().manual_seed(seed)
    rows, units = torch.randperm(200, generator=rng), torch.randperm(12, generator=rng)
    x, net = data(), linear()
    one = LocalInteractionBasis(net, ["0", "1"]).fit(x).bases_["0"]
    moved = linear()
    moved[1].weight.data = net[1].weight.data[:, units]
    other = LocalInteractionBasis(moved, ["0", "1"], batch_size=batch_size).fit(x[rows][:, units]).bases_["0"]
    torch.testing.assert_close(other.importance, one.importance)
    torch.testing.assert_close(other.vectors.abs(), one.vectors[units].abs(), rtol=1e-5, atol=1e-6)


def modular_addition(copies, seed, p=5, spare=6):
    """All pairs of numbers and their sum; beside them large inputs that mean nothing."""
    a, b = (part.flatten() for part in torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij"))
    a, b = a.repeat(copies), b.repeat(copies)
    pairs = torch.cat([torch.nn.functional.one_hot(a, p), torch.nn.functional.one_hot(b, p)], 1).float()
    noise = 2 * torch.randn(len(pairs), spare, generator=torch.Generator().manual_seed(seed))
    return torch.cat([pairs, noise], 1), (a + b) % p


def test_modular_addition_needs_fewer_of_these_directions_than_principal_ones():
    x, y = modular_addition(40, 0)
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Identity(), torch.nn.Linear(16, 48), torch.nn.ReLU(), torch.nn.Linear(48, 5)
    )

    def loss(net, batch):
        return torch.nn.functional.cross_entropy(net(batch["x"]), batch["y"])

    train(net, loss, {"x": x, "y": y}, learning_rate=1e-2, max_epochs=25, patience=None, device="cpu")
    fresh, sums = modular_addition(8, 1)
    accuracy = lambda output: (output.argmax(1) == sums).float().mean().item()  # noqa: E731
    assert accuracy(net(fresh)) > 0.97
    basis = LocalInteractionBasis(net, ["0", "2", "3"], device="cpu").fit(x)
    curve = basis.measure_ablation(fresh, accuracy, "0")
    # eight directions tell two of five numbers each; the six largest principal components say nothing
    interaction, pca = curve.values
    assert interaction[8] > 0.97 and interaction[14] > 0.97
    assert pca[8] < 0.5 and pca[14] > 0.97
    assert interaction[0] < 0.3
    assert curve["basis"].values.tolist() == ["interaction", "pca"]


def test_extracted_activations_become_features():
    net = models.load("tiny", weights="random")
    stimuli = models.StimulusSet.from_arrays(
        np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), dtype=np.uint8)
    )
    layers = ["conv3", "readout"]
    activations = models.extract(net, stimuli, layers)
    inputs = torch.randn(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    basis = LocalInteractionBasis(net, layers).fit(inputs)
    features = basis.transform(activations)
    neuro.validate(features)
    sizes = {layer: int((features["layer"] == layer).sum()) for layer in layers}
    assert sizes == {layer: len(basis.bases_[layer].importance) for layer in layers}
    assert set(features["decomposition"].values) == {"LocalInteractionBasis"}
    assert json.loads(features.attrs["provenance"])["layers"] == layers
    here = activations["layer"].values == "conv3"
    np.testing.assert_allclose(
        features.values[:, : sizes["conv3"]], basis.transform(activations.values[:, here], "conv3"), rtol=1e-5
    )
    with pytest.raises(
        ValueError, match=r"'conv3' has 1024 units, but the activations have the shape \(20, 64\)"
    ):
        basis.transform(models.extract(net, stimuli, ["conv3"], pool="global"))
    with pytest.raises(ValueError, match="activations of 'conv3' have NaN"):
        basis.transform(np.full((2, 1024), np.nan), "conv3")
    with pytest.raises(ValueError, match="the layer 'conv1' was not fitted"):
        basis.transform(models.extract(net, stimuli, ["conv1"]))


def test_it_can_be_cloned():
    basis = LocalInteractionBasis(linear(), ["0", "1"], tolerance=1e-3)
    assert clone(basis).get_params()["tolerance"] == 1e-3


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["0"], "interactions need at least two layers"),
        (["1", "0"], "'0' does not depend on '1'; give layers in their order"),
        (["0", "5"], "no layer '5'"),
    ],
)
def test_bad_input(layers, message):
    with pytest.raises(ValueError, match=message):
        LocalInteractionBasis(linear(), layers).fit(data())


def test_unknown_kinds_of_edges():
    basis = LocalInteractionBasis(linear(), ["0", "1"]).fit(data())
    with pytest.raises(ValueError, match="kind='ica', n_steps=1: use 'interaction' or 'pca'"):
        basis.edges(data(), "ica")


def test_inputs_that_do_not_vary_and_layers_that_are_too_wide():
    with pytest.raises(ValueError, match="the layer '0' does not vary over the inputs"):
        LocalInteractionBasis(linear(), ["0", "1"]).fit(torch.ones(9, 12, dtype=torch.float64))
    with pytest.raises(ValueError, match="the layer '0' has 9000 units, more than 8192"):
        LocalInteractionBasis(linear(9000), ["0", "1"]).fit(torch.ones(2, 9000, dtype=torch.float64))
