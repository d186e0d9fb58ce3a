"""Preprocessing of other packages, written down as ours: equal to their own transforms on real pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cerebridge import models
from cerebridge.models.compat import mend_torchvision
from cerebridge.models.preprocessing import UnknownPreprocessing
from cerebridge.models.recipes import from_timm, from_torchvision, from_transformers

mend_torchvision()
SIZES = [(640, 427), (427, 640), (301, 300), (300, 303), (256, 256), (90, 1000)]


@pytest.fixture(scope="module")
def picture(weights):
    return Image.open(weights / "mobilenets-imagenet-tflite" / "sample_images" / "cat_720p.jpg").convert(
        "RGB"
    )


def sized(picture, size):
    return picture.crop((0, 0, *size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "efficientnet_b0"])
def test_torchvision(picture, name, size):
    torchvision = pytest.importorskip("torchvision")
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    image = sized(picture, size)
    torch.testing.assert_close(from_torchvision(transforms)(image), transforms(image), rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize(
    ("side", "crop_pct", "interpolation"), [(224, 0.9, "bicubic"), (160, 0.875, "bilinear")]
)
def test_timm(picture, size, crop_mode, side, crop_pct, interpolation):
    data = pytest.importorskip("timm.data")
    config = {
        "input_size": (3, side, side),
        "interpolation": interpolation,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
        "crop_pct": crop_pct,
        "crop_mode": crop_mode,
    }
    image = sized(picture, size)
    expected = data.create_transform(**config, is_training=False)(image)
    torch.testing.assert_close(from_timm(config)(image), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["ViT", "CLIP"])
def test_transformers(picture, size, kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    processor = getattr(transformers, f"{kind}ImageProcessorPil", None)
    processor = processor or getattr(transformers, f"{kind}ImageProcessor")
    processor = processor(size={"shortest_edge": 230} if kind == "CLIP" else {"height": 224, "width": 224})
    processor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "preprocessor_config.json").read_text())
    image = sized(picture, size)
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(from_transformers(config)(image), expected, rtol=0, atol=2e-5)


def test_another_way_of_cutting_is_another_picture(picture):
    config = {"input_size": (3, 224, 224), "crop_pct": 0.9, "interpolation": "bicubic"}
    config |= {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    center, squash = (from_timm({**config, "crop_mode": mode}) for mode in ("center", "squash"))
    assert (center(picture) - squash(picture)).abs().mean() > 0.05


@pytest.mark.parametrize(
    "recipe",
    [
        lambda: from_timm({"input_size": (1, 28, 28)}),
        lambda: from_timm({"input_size": (3, 28, 28), "crop_mode": "border"}),
        lambda: from_transformers({"do_resize": False}),
        lambda: from_transformers({"size": {"longest_edge": 9}}),
        lambda: from_transformers({"size": 9, "rescale_factor": 1 / 127}),
        lambda: from_transformers({"size": 9, "image_mean": (0,), "image_std": (1,), "resample": 2}),
        lambda: from_transformers({"size": 9, "image_mean": (0,) * 3, "image_std": (1,) * 3, "resample": 5}),
    ],
)
def test_what_cannot_be_written_down_is_said_when_it_is_needed(recipe):
    unknown = recipe()
    assert isinstance(unknown, UnknownPreprocessing)
    with pytest.raises(ValueError, match=r"preprocessing is not known \(.+\); give preprocess="):
        unknown(Image.new("RGB", (9, 9)))


def test_video_networks_of_torchvision_take_clips():
    torchvision = pytest.importorskip("torchvision")
    transforms = torchvision.models.get_model_weights("r3d_18").DEFAULT.transforms()
    assert isinstance(from_torchvision(transforms), UnknownPreprocessing)


def test_a_centre_that_is_larger_than_the_picture_is_refused():
    with pytest.raises(ValueError, match="resized to 20 pixels, too few to cut out 32"):
        models.Preprocessing(size=32, mean=(0, 0, 0), std=(1, 1, 1), resize=20)


def test_the_centre_is_cut_by_hand():
    pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    recipe = models.Preprocessing(4, (0, 0, 0), (1, 1, 1), resize=6, keep_aspect=True)
    torch.testing.assert_close(
        recipe(pixels) * 255, torch.from_numpy(pixels[2:6, 1:5]).permute(2, 0, 1).float()
    )
