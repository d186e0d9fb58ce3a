"""Readouts find what they are made for in simulations of which everything is known, and nothing in noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from cerebridge import encoding
from cerebridge.encoding import readouts
from cerebridge.encoding.readouts.cores import ResidualCore
from cerebridge.encoding.readouts.heads import Reading, make_head, warp
from cerebridge.encoding.readouts.spatial_transformer import Steered

SIDE, CHANNELS, UNITS = 9, 4, 16


def smooth_maps(n, smoothness=0.8, seed=0):
    noise = np.random.default_rng(seed).standard_normal((n, CHANNELS, SIDE, SIDE))
    maps = gaussian_filter(noise, (0, 0, smoothness, smoothness)).astype(np.float32)
    return maps / maps.std()


def read(maps, where, weights):
    """Bilinear features at positions (samples × units × 2), weighted."""
    places = torch.from_numpy(np.ascontiguousarray(where, np.float32))[:, :, None]
    sampled = functional.grid_sample(
        torch.from_numpy(maps), places, padding_mode="border", align_corners=True
    )
    return torch.einsum("ncv,vc->nv", sampled[..., 0], torch.from_numpy(weights)).numpy()


@pytest.fixture(scope="module")
def still():
    """Units that read one point, with noise of a third of their variance."""
    rng = np.random.default_rng(1)
    maps = smooth_maps(1200)
    position = rng.uniform(-0.9, 0.9, (UNITS, 2))
    weights = rng.standard_normal((UNITS, CHANNELS)).astype(np.float32)
    clean = read(maps, np.broadcast_to(position, (1200, UNITS, 2)), weights)
    return maps, clean + 0.6 * clean.std(0) * rng.standard_normal(clean.shape), position


def median_r(predicted, truth):
    return np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, truth.T, strict=True)])


SETTINGS = {"learning_rate": 5e-3, "max_epochs": 20, "device": "cpu"}


@pytest.mark.slow
def test_gaussian_centres_are_recovered_between_places(still):
    maps, responses, position = still
    gaussian = readouts.GaussianReadout(**SETTINGS).fit(maps[:900], responses[:900])
    error = np.linalg.norm((gaussian.position_ - position) * (SIDE - 1) / 2, axis=1)
    assert np.median(error) < 0.2
    # the noise allows 1 / sqrt(1.36) = 0.857
    assert median_r(gaussian.predict(maps[900:]), responses[900:]) > 0.83
    on_grid = readouts.GaussianReadout(**SETTINGS | {"max_epochs": 1, "learning_rate": 1e-9})
    started = on_grid.fit(maps[:900], responses[:900]).position_
    start = np.linalg.norm((started - position) * (SIDE - 1) / 2, axis=1)
    assert np.median(error) < np.median(start) / 2


def test_the_grid_finds_place_and_size():
    maps = smooth_maps(400, 0.5)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    fields = [(-0.5, 0.25, 0.2), (0.0, -0.75, 0.2), (0.25, 0.0, 0.4)]
    responses = []
    for a, b, size in fields:
        pool = np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * size**2))
        responses.append(np.einsum("ncij,ij->n", maps[:, :2], pool / pool.sum()))
    noise = np.random.default_rng(0).standard_normal((400, 3))
    responses = np.stack(responses, 1)
    prf = readouts.PRFReadout(device="cpu").fit(maps, responses + 0.2 * responses.std(0) * noise)
    np.testing.assert_allclose(prf.position_, [field[:2] for field in fields], atol=1e-6)
    np.testing.assert_allclose(prf.size_, [field[2] for field in fields], atol=1e-6)


@pytest.mark.slow
def test_factorised_masks_and_weights_are_recovered():
    rng = np.random.default_rng(0)
    maps = smooth_maps(1200, 0.4)
    masks = np.zeros((2, SIDE, SIDE))
    masks[0, 2, 1:5], masks[1, 4:8, 6] = 0.5, 0.5
    weights = np.array([[1.0, 0.0, 0.0, -1.0], [0.0, 2.0, 0.0, 0.0]])
    clean = np.einsum("ncij,vij,vc->nv", maps, masks, weights)
    responses = clean + 0.5 * clean.std(0) * rng.standard_normal(clean.shape)
    readout = readouts.FactorisedReadout(**SETTINGS | {"max_epochs": 40}).fit(maps[:900], responses[:900])
    for unit in range(2):
        together = np.corrcoef(
            np.outer(masks[unit].ravel(), weights[unit]).ravel(),
            np.outer(readout.mask_[unit].ravel(), readout.coef_[unit]).ravel(),
        )[0, 1]
        assert together > 0.9
    flat = encoding.RidgeCV().fit(maps[:900].reshape(900, -1), responses[:900])
    ours = median_r(readout.predict(maps[900:]), clean[900:])
    assert ours > median_r(flat.predict(maps[900:].reshape(300, -1)), clean[900:])


@pytest.mark.slow
@pytest.mark.parametrize("base", ["gaussian", "factorised"])
def test_fields_that_the_semantics_move_are_followed(base):
    rng = np.random.default_rng(1)
    maps, meaning = smooth_maps(1200), rng.standard_normal((1200, 2)).astype(np.float32)
    position = rng.uniform(-0.5, 0.5, (UNITS, 2))
    weights = rng.standard_normal((UNITS, CHANNELS)).astype(np.float32)
    responses = read(maps, position + 0.4 * meaning[:, None], weights)
    train, test = slice(0, 900), slice(900, None)
    steered = readouts.SpatialTransformerReadout(base, **SETTINGS)
    steered.fit((maps[train], meaning[train]), responses[train])
    assert median_r(steered.predict((maps[test], meaning[test])), responses[test]) > 0.95
    shuffled = meaning[test][rng.permutation(300)]
    assert median_r(steered.predict((maps[test], shuffled)), responses[test]) < 0.5
    if base == "gaussian":
        static = readouts.GaussianReadout(**SETTINGS).fit(maps[train], responses[train])
        assert median_r(static.predict(maps[test]), responses[test]) < 0.5


@pytest.mark.parametrize("base", ["gaussian", "factorised"])
def test_before_training_the_spatial_transformer_is_its_base(base):
    torch.manual_seed(0)
    maps, meaning = torch.randn(7, 5, 6, 8), torch.randn(7, 3)
    head = make_head(base, (5, 6, 8), 4, {"spread": 0.1, "l1": 0.0, "smoothness": 0.0})
    static, steered = Reading(5, head).eval(), Steered(5, head, 3, 16).eval()
    assert torch.equal(steered(maps, semantics=meaning), static(maps))
    torch.nn.init.normal_(steered.steering.network[-1].weight, std=0.1)
    assert not torch.allclose(steered(maps, semantics=meaning), static(maps), atol=1e-2)


def test_a_mask_that_moves_sees_what_lies_where_it_moves_to():
    maps = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    # one place of five to the right is half a half length
    moves = torch.eye(2, 3).repeat(2, 1, 1)
    moves[1, 0, 2] = 0.5
    moved = warp(maps, moves)
    assert torch.equal(moved[0], maps[0])
    torch.testing.assert_close(moved[1, :, :, :4], maps[1, :, :, 1:])


@pytest.mark.parametrize("halvings", [0, 2])
def test_features_turn_with_the_image(halvings):
    torch.manual_seed(0)
    core = ResidualCore(2, 3, 2, 3, halvings, 4).eval()
    images = torch.randn(2, 2, 8, 8)
    features = core(images).unflatten(1, (3, 4))
    turned = core(images.rot90(1, (2, 3))).unflatten(1, (3, 4))
    torch.testing.assert_close(turned, features.rot90(1, (3, 4)).roll(1, 2))
    plain = ResidualCore(2, 12, 2, 3, halvings, 1).eval()
    assert not torch.allclose(plain(images.rot90(1, (2, 3))), plain(images).rot90(1, (2, 3)), atol=1e-2)


def energies(n):
    """Units that respond to the energy of an oriented pattern, whatever its phase: nothing that is linear in pixels."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((n, 1, 12, 12)).astype(np.float32)
    y, x = np.mgrid[-1:1:5j, -1:1:5j]
    responses = []
    for unit in range(8):
        angle = unit % 4 * np.pi / 2 + 0.3
        along, window = x * np.cos(angle) + y * np.sin(angle), np.exp(-(x**2 + y**2) / 0.5)
        row, column = rng.integers(0, 8, 2)
        seen = images[:, 0, row : row + 5, column : column + 5]
        parts = [
            np.einsum("nij,ij->n", seen, window * wave) for wave in (np.cos(5 * along), np.sin(5 * along))
        ]
        responses.append(np.hypot(*parts))
    clean = np.stack(responses, 1)
    return images, clean + 0.2 * clean.std(0) * rng.standard_normal(clean.shape)


@pytest.mark.slow
def test_a_network_learns_what_no_linear_readout_of_pixels_sees():
    images, responses = energies(1500)
    settings = {"channels": 4, "blocks": 1, "halvings": 0, "learning_rate": 3e-3, "max_epochs": 25}
    network = readouts.ResponseOptimised(turns=4, device="cpu", **settings)
    network.fit(images[:1200], responses[:1200])
    assert median_r(network.predict(images[1200:]), responses[1200:]) > 0.7
    flat = encoding.RidgeCV().fit(images[:1200].reshape(1200, -1), responses[:1200])
    assert median_r(flat.predict(images[1200:].reshape(300, -1)), responses[1200:]) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize(
    "readout",
    [
        readouts.PRFReadout(device="cpu"),
        readouts.GaussianReadout(**SETTINGS),
        readouts.FactorisedReadout(**SETTINGS),
        readouts.ResponseOptimised(channels=4, blocks=1, **SETTINGS | {"max_epochs": 5}),
    ],
    ids=lambda readout: type(readout).__name__,
)
def test_shuffled_responses_are_not_predicted(still, readout):
    maps, responses, _ = still
    shuffled = responses[np.random.default_rng(0).permutation(len(responses))]
    predicted = readout.fit(maps[:900], shuffled[:900]).predict(maps[900:])
    assert abs(median_r(predicted, shuffled[900:])) < 0.1


@pytest.mark.slow
def test_semantics_of_other_images_do_not_help(still):
    maps, responses, _ = still
    meaning = np.random.default_rng(0).standard_normal((len(maps), 2))
    shuffled = responses[np.random.default_rng(0).permutation(len(responses))]
    steered = readouts.SpatialTransformerReadout(**SETTINGS | {"max_epochs": 5})
    steered.fit((maps[:900], meaning[:900]), shuffled[:900])
    assert abs(median_r(steered.predict((maps[900:], meaning[900:])), shuffled[900:])) < 0.1
