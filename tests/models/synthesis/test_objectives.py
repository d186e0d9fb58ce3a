"""Objectives: what units and readouts give, against torch by hand and against extraction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cerebridge import models
from cerebridge.models.preprocessing import Preprocessing
from cerebridge.models.synthesis import Features, LayerObjective, ReadoutObjective
from cerebridge.models.synthesis.objectives import prepare_like


@pytest.fixture
def net() -> nn.Module:
    return models.load("tiny", weights="random", seed=1)


@pytest.fixture
def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)


def as_images(pictures: np.ndarray) -> torch.Tensor:
    return torch.tensor(pictures).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("pool", [None, 2, "global"])
def test_features_are_those_of_extraction(net, pictures, pool):
    layers = ["conv1", "conv3", "readout"]
    stimuli = models.StimulusSet.from_arrays(pictures)
    extracted = models.extract(net, stimuli, layers, pool=pool).values
    given = Features(net, layers, pool=pool)(as_images(pictures))
    np.testing.assert_allclose(given.detach().numpy(), extracted, atol=1e-5)


def test_a_unit_is_a_channel_over_its_places_or_one_place(net, pictures):
    images = as_images(pictures)
    with torch.no_grad():
        output = net.conv2(net.conv1((images - 0.5) / 0.25))
        torch.testing.assert_close(LayerObjective(net, "conv2", 3)(images), output[:, 3].mean((1, 2)))
        torch.testing.assert_close(LayerObjective(net, "conv2", (3, 1, 2))(images), output[:, 3, 1, 2])


def test_a_region_is_the_mean_of_its_voxels(net, pictures):
    images, rng = as_images(pictures), np.random.default_rng(0)
    weights, bias = rng.standard_normal((5, 32)), rng.standard_normal(5)
    region = ReadoutObjective(net, "conv2", weights, bias, pool="global")(images)
    voxels = [ReadoutObjective(net, "conv2", weights[v], bias[v], pool="global")(images) for v in range(5)]
    torch.testing.assert_close(region, torch.stack(voxels).mean(0))
    features = Features(net, "conv2", pool="global")(images).detach().numpy()
    np.testing.assert_allclose(region.detach(), (features @ weights.T + bias).mean(1), rtol=1e-4)


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "options",
    [
        {"size": 24},
        {"size": 96},
        {"size": 24, "resize": 31},
        {"size": 24, "resize": 31, "keep_aspect": True, "crop": "floor"},
        {"size": 40, "resize": 40, "keep_aspect": True},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_the_differentiable_preprocessing_is_that_of_pictures(resample, options):
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint8))
    picture = np.asarray(smooth.resize((61, 48), Image.Resampling.BICUBIC))
    preprocess = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), resample=resample, **options)
    given = prepare_like(preprocess)(as_images(picture[None]))[0]
    expected = preprocess(picture)
    assert given.shape == expected.shape
    # PIL rounds to 1/255 after each axis
    assert (given - expected).abs().max() < 2 / 255 / 0.2


def test_gradients_reach_the_images_past_layers_that_work_in_place(pictures):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))
    images = as_images(pictures).requires_grad_()
    Features(net, ["0", "2"])(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_bad_input_is_refused_in_one_sentence(net):
    images = torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match="no layer 'conv9'"):
        LayerObjective(net, "conv9", 0)
    with pytest.raises(ValueError, match=r"units=\[40\], but the layer has 32"):
        LayerObjective(net, "conv2", 40)(images)
    with pytest.raises(ValueError, match="10 weights for 32 features"):
        ReadoutObjective(net, "conv2", np.ones(10), pool="global")(images)
    with pytest.raises(ValueError, match="weights= must be finite"):
        ReadoutObjective(net, "conv2", [np.nan] * 32)
    net.preprocess = np.asarray
    with pytest.raises(ValueError, match="give prepare="):
        Features(net, "conv2")
