"""Information in representations: what is known of clusters and channels comes out, and of noise nothing."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge import neuro
from cerebridge.encoding import information, plots
from cerebridge.encoding.information import (
    binned_information,
    bottleneck_curve,
    diffusion_spectral_entropy,
    diffusion_spectral_information,
    information_plane,
    kde_information,
)
from cerebridge.models.training import seeded, train


def clusters(k, n=30, spread=0.1, distance=1000.0):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(k), n)
    return distance * np.eye(k)[labels] + spread * rng.standard_normal((k * n, k)), labels


@pytest.mark.parametrize("k", [2, 5, 8])
def test_tight_clusters_have_the_entropy_of_their_number(k):
    assert diffusion_spectral_entropy(clusters(k)[0]) == pytest.approx(np.log2(k), abs=0.03)


def test_points_that_coincide_have_no_entropy_and_points_apart_the_most():
    assert diffusion_spectral_entropy(np.ones((200, 5))) == pytest.approx(0, abs=1e-9)
    assert diffusion_spectral_entropy(1e6 + np.ones((200, 5), dtype=np.float32)) == pytest.approx(0, abs=1e-9)
    assert diffusion_spectral_entropy(1000 * np.eye(64)) == pytest.approx(6)


def test_time_and_width():
    x = np.random.default_rng(0).standard_normal((60, 4))
    assert diffusion_spectral_entropy(x, sigma=1, t=2) < diffusion_spectral_entropy(x, sigma=1, t=1)
    assert diffusion_spectral_entropy(x, sigma=5) < diffusion_spectral_entropy(x, sigma=0.5)
    median = diffusion_spectral_entropy(x, sigma="median")
    assert median == pytest.approx(diffusion_spectral_entropy(100 * x, sigma="median"))
    assert median != pytest.approx(diffusion_spectral_entropy(x))


def test_containers_agree():
    x = np.random.default_rng(0).standard_normal((20, 4))
    array = neuro.assemble(
        x,
        presentation={"stimulus_id": np.arange(20)},
        neuroid={"neuroid_id": np.arange(4)},
        modality="activation",
        units="1",
    )
    found = {diffusion_spectral_entropy(given, sigma=1) for given in (x, torch.from_numpy(x), array)}
    assert len(found) == 1


def test_devices_agree(device):
    x, labels = clusters(3, n=10, spread=0.05, distance=0.5)
    for function, options in (
        (diffusion_spectral_information, {"sigma": 0.3}),
        (binned_information, {"bins": 4}),
        (binned_information, {"bins": 4, "adaptive": True}),
        (kde_information, {"noise": 0.1}),
    ):
        wanted = function(x, labels, device="cpu", **options)
        assert function(x, labels, device=device, **options) == pytest.approx(wanted, abs=1e-9)


def test_spectral_information_on_labels_that_are_the_clusters_and_on_shuffled_ones():
    x, labels = clusters(4)
    assert diffusion_spectral_information(x, labels) == pytest.approx(2, abs=0.05)
    assert diffusion_spectral_information(x, [f"class {k}" for k in labels]) == pytest.approx(2, abs=0.05)
    shuffled = np.random.default_rng(1).permutation(labels)
    assert diffusion_spectral_information(x, shuffled) == pytest.approx(0, abs=0.05)


def test_spectral_information_on_continuous_labels_and_on_vectors():
    x, labels = clusters(4)
    position = labels + np.random.default_rng(0).uniform(0, 0.5, len(labels))
    assert diffusion_spectral_information(x, position, n_clusters=4) == pytest.approx(2, abs=0.05)
    inputs = clusters(4, spread=0.3, distance=5.0)[0]
    assert diffusion_spectral_information(x, inputs, n_clusters=4) == pytest.approx(2, abs=0.05)
    noise = np.random.default_rng(1).standard_normal(len(labels))
    assert abs(diffusion_spectral_information(x, noise, n_clusters=4)) < 0.1


def injective(n=4000, seed=0):
    """64 inputs, drawn at random, a layer that tells all of them apart, and a class of half of them."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 64, n)
    layer = rng.uniform(-1, 1, (64, 4))
    return inputs, layer, (inputs >= 32).astype(int)


def test_a_layer_that_tells_all_inputs_apart_knows_all_of_them():
    inputs, layer, labels = injective()
    found = binned_information(layer[inputs], labels, inputs)
    assert found == pytest.approx((5.97, 1), abs=0.035)


def test_a_layer_that_joins_eight_inputs_knows_three_bits_less():
    inputs, layer, labels = injective()
    found = binned_information(layer[inputs // 8], labels, inputs)
    assert found == pytest.approx((3, 1), abs=0.02)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert binned_information(layer[inputs // 8], shuffled, inputs).I_TY < 0.01


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["binned", "adaptive"]))
def test_layers_of_layers_know_less(seed, estimator):
    """The states of a deterministic chain keep the order of data processing."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 64, 600)
    labels = rng.integers(0, 2, 64)[inputs]
    deeper = [inputs / 32 - 1, (inputs // 3) / 11 - 1, (inputs // 12) / 3 - 1]
    plane = information_plane(
        {0: {k: layer[:, None] for k, layer in enumerate(deeper)}}, labels, inputs, estimator=estimator
    )
    for name in ("I_XT", "I_TY"):
        assert (np.diff(plane[name].values[:, 0]) <= 1e-9).all()
    assert (plane["I_TY"] <= plane["I_XT"] + 1e-9).all()


def test_noise_in_a_layer_counts_against_what_it_knows():
    inputs = np.repeat(np.arange(2), 2000)
    flipped = np.where(np.random.default_rng(0).random(4000) < 0.1, 1 - inputs, inputs)
    found = binned_information(flipped[:, None] - 0.5, inputs, inputs)
    assert found == pytest.approx((0.531, 0.531), abs=0.03)


def test_adaptive_bins_do_not_mind_increasing_functions_and_fixed_ones_do():
    x = np.random.default_rng(0).uniform(0.1, 1, (500, 2))
    labels = np.arange(500) % 2
    epochs = {k: {"layer": y} for k, y in enumerate((x, 100 * x, np.log(x)))}
    with pytest.warns(UserWarning, match="nearly every row has"):
        plane = information_plane(epochs, labels, limits=(-10.0, 100.0), bins=300)
    values = {
        "adaptive": information_plane(epochs, labels, estimator="adaptive")["I_XT"].values[0],
        "binned": plane["I_XT"].values[0],
    }
    assert np.ptp(values["adaptive"]) == 0
    assert values["adaptive"][0] > 8
    assert values["binned"][0] < 4 < 8 < values["binned"][1]


def test_rectified_units_share_a_bin_for_silence():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    layer = np.where(labels[:, None] == 1, rng.uniform(0.001, 0.002, (400, 1)), 0)
    found = binned_information(layer, labels, bins=2, adaptive=True)
    assert found == pytest.approx((1.5, 1))


def test_clouds_of_four_points_have_two_bits():
    x, labels = clusters(4, spread=0, distance=1)
    for bound in ("upper", "lower"):
        found = kde_information(x, labels // 2, bound=bound)
        assert found == pytest.approx((2, 1))
    assert kde_information(x, np.random.default_rng(0).permutation(labels), noise=0.01).I_TY < 0.15
    assert kde_information(0 * x, labels) == (0, 0)


def test_saturated_estimates_are_said():
    rng = np.random.default_rng(0)
    layer, labels = rng.uniform(-1, 1, (200, 8)), np.arange(200) % 2
    with pytest.warns(UserWarning, match="nearly every row has a state of its own"):
        found = binned_information(layer, labels)
    assert found[1] == pytest.approx(1), "noise seems to know the label"
    with pytest.warns(UserWarning, match="in 1 of 2 layers and epochs"):
        plane = information_plane({0: {"fine": layer[:, :1], "saturated": layer}}, labels)
    assert plane["saturated"].values.ravel().tolist() == [False, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        binned_information(layer[:, :1], labels)


def test_the_plane_reads_labelled_arrays_by_layer():
    rng = np.random.default_rng(0)
    x, labels = rng.uniform(-1, 1, (100, 3)), np.arange(100) % 2
    array = neuro.assemble(
        x,
        presentation={"stimulus_id": np.arange(100)},
        neuroid={"neuroid_id": np.arange(3), "layer": ["one", "two", "one"]},
        modality="activation",
        units="1",
    )
    plane = information_plane({"first": array}, labels, bins=3)
    by_name = information_plane({"first": {"one": x[:, [0, 2]], "two": x[:, [1]]}}, labels, bins=3)
    xr.testing.assert_identical(plane, by_name)
    assert plane["I_XT"].dims == ("layer", "epoch")


def test_the_bottleneck_bounds_every_layer():
    rng = np.random.default_rng(0)
    joint = rng.dirichlet(np.full(32, 0.3)).reshape(16, 2)
    curve = bottleneck_curve(joint, betas=np.geomspace(1, 300, 15))
    drawn = rng.choice(32, 20_000, p=joint.ravel())
    inputs, labels = drawn // 2, drawn % 2
    for layer in (inputs, inputs // 4, inputs % 3):
        found = binned_information(layer[:, None] / 16, labels, inputs)
        best = np.interp(found.I_XT, curve["I_XT"], curve["I_TY"])
        assert best + 0.01 > found.I_TY


def test_inputs_that_say_the_same_are_one_in_the_bottleneck():
    joint = np.array([[0.3, 0.1], [0.1, 0.3]]) / 0.8
    copied = np.repeat(joint, 500, axis=0) / 500
    xr.testing.assert_allclose(bottleneck_curve(copied), bottleneck_curve(joint))


GOOD = np.random.default_rng(0).uniform(-1, 1, (20, 2))
LABELS = np.arange(20) % 2


@pytest.mark.parametrize(
    ("function", "arguments", "options", "match"),
    [
        (diffusion_spectral_entropy, [GOOD[:, 0]], {}, "give points × units"),
        (diffusion_spectral_entropy, [np.where(GOOD > 0.9, np.nan, GOOD)], {}, "missing or infinite values"),
        (diffusion_spectral_entropy, [GOOD], {"sigma": 0}, "sigma=0 must be a positive width"),
        (diffusion_spectral_entropy, [GOOD], {"t": -1}, "t=-1 must be positive"),
        (diffusion_spectral_information, [GOOD, LABELS[:5]], {}, "for 20 points; give one a point"),
        (diffusion_spectral_information, [GOOD, 0 * LABELS], {}, "at least two classes"),
        (diffusion_spectral_information, [GOOD, GOOD], {"n_clusters": 20}, "below the number of points"),
        (diffusion_spectral_information, [GOOD, LABELS], {"n_draws": 0}, "n_draws"),
        (binned_information, [2 * GOOD, LABELS], {}, "do not lie within limits"),
        (binned_information, [GOOD, LABELS], {"bins": 1}, "bins"),
        (binned_information, [GOOD, [None, *LABELS[1:]]], {}, "missing value at point 0"),
        (binned_information, [GOOD, LABELS, LABELS[:3]], {}, "inputs has the shape"),
        (kde_information, [GOOD, LABELS], {"bound": "middle"}, "use 'upper' or 'lower'"),
        (kde_information, [GOOD, LABELS], {"noise": 0}, "must be positive"),
        (information_plane, [{}, LABELS], {}, "for at least one epoch"),
        (information_plane, [{0: GOOD}, LABELS], {}, "each epoch must be"),
        (information_plane, [{0: {"a": GOOD}, 1: {"b": GOOD}}, LABELS], {}, "epoch 1 has the layers"),
        (information_plane, [{0: {"a": GOOD}}, LABELS], {"estimator": "kraskov"}, "unknown; use 'binned'"),
        (information_plane, [{0: {"a": GOOD}}, LABELS], {"noise": 1}, "no option of estimator='binned'"),
        (bottleneck_curve, [[[-1.0, 2.0]]], {}, "must be a table"),
        (bottleneck_curve, [[[1.0, 2.0]]], {"betas": [0.0]}, "betas must be positive"),
    ],
)
def test_bad_input(function, arguments, options, match):
    with pytest.raises(ValueError, match=match):
        function(*arguments, **options)


def test_every_public_name_has_a_runnable_example():
    for name in information.__all__:
        assert ">>>" in getattr(information, name).__doc__


@pytest.mark.slow
def test_a_network_that_learns_knows_more_and_more_of_the_label():
    """Twelve bits in, 10-7-5-4-3 tanh units: labels come to be known, and no layer knows more than the one before."""
    bits = (np.arange(4096)[:, None] >> np.arange(12)) & 1
    labels = (bits[:, :6].sum(1) > bits[:, 6:].sum(1)).astype(np.float32)
    x, y = torch.from_numpy(2.0 * bits - 1).float(), torch.from_numpy(labels)[:, None]
    sizes = [12, 10, 7, 5, 4, 3]
    with seeded(0):
        blocks = [torch.nn.Sequential(torch.nn.Linear(p, q), torch.nn.Tanh()) for p, q in pairwise(sizes)]
        network = torch.nn.Sequential(*blocks, torch.nn.Linear(3, 1))
    activations = {}

    def record(module, _):
        layers, rows = {}, x
        for k, block in enumerate(module[:-1]):
            rows = block(rows)
            layers[f"layer {k + 1}"] = rows.numpy().copy()
        activations[len(activations)] = layers
        return float(len(activations))

    with torch.no_grad():
        record(network, None)
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    train(
        network,
        lambda module, batch: cross_entropy(module(batch["x"]), batch["y"]),
        {"x": x, "y": y},
        validation=x,
        score=record,
        learning_rate=3e-3,
        batch_size=256,
        max_epochs=30,
        patience=None,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*a state of its own")
        plane = information_plane(activations, labels)
        control = information_plane({0: activations[30]}, np.random.default_rng(0).permutation(labels))
    known = plane["I_TY"].sel(layer="layer 5")
    assert known.sel(epoch=30) > 0.75
    assert known.sel(epoch=0) < 0.5
    assert float(known[-5:].mean()) > float(known[3:8].mean()) > float(known[:2].mean())
    assert (plane["I_XT"].diff("layer").isel(epoch=-1) < 1e-9).all()
    assert control["I_TY"].sel(layer="layer 5").item() < 0.01
    figure = plots.plot_information_plane(plane)
    assert len(figure.axes) == 2
