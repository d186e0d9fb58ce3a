"""The networks: torchvision's names, TensorFlow's padding, and the classes they were trained to see."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from cerebridge import models

SAMPLES = {
    "bird.bmp": ("chickadee", 0.75),
    "cat_720p.jpg": ("Egyptian cat", 0.60),
    "dragonfly.bmp": ("dragonfly", 0.92),
    "hot_dog.jpg": ("hotdog", 0.42),
    "parrot.jpg": ("macaw", 0.93),
}


@pytest.fixture(scope="module")
def mobilenet(weights):
    return models.load("mobilenet_v2", weights=weights / "mobilenetv2-imagenet")


@pytest.mark.parametrize("name", SAMPLES)
def test_mobilenet_sees_what_is_shown(mobilenet, weights, name):
    folder = weights / "mobilenets-imagenet-tflite"
    classes = (folder / "imagenet_labels.txt").read_text().splitlines()
    inputs = mobilenet.preprocess(Image.open(folder / "sample_images" / name))
    with torch.no_grad():
        probabilities = mobilenet(inputs[None]).softmax(1)[0]
    label, expected = SAMPLES[name]
    assert classes[int(probabilities.argmax())].startswith(label)
    assert float(probabilities.max()) == pytest.approx(expected, abs=0.006)


def test_symmetric_padding_gives_other_classes(weights):
    folder = weights / "mobilenets-imagenet-tflite" / "sample_images"
    path = weights / "mobilenetv2-imagenet" / "model.safetensors"
    right, wrong = (models.load("mobilenet_v2", weights=path, padding=p) for p in ("tensorflow", "symmetric"))
    inputs = right.preprocess(Image.open(folder / "hot_dog.jpg"))[None]
    with torch.no_grad():
        difference = (right(inputs).softmax(1) - wrong(inputs).softmax(1)).abs().max()
    assert difference > 0.05


def test_mobilenet_has_torchvisions_tensors(weights):
    from safetensors.torch import load_file

    given = load_file(weights / "mobilenetv2-imagenet" / "model.safetensors")
    own = models.MobileNetV2(1001).state_dict()
    assert {k: v.shape for k, v in given.items()} == {
        k: v.shape for k, v in own.items() if not k.endswith("num_batches_tracked")
    }
    assert len(models.MobileNetV2().features) == 19


def test_tensorflow_padding_is_the_same_convolution_on_a_padded_image():
    torch.manual_seed(0)
    plain, shifted = models.MobileNetV2(10), models.MobileNetV2(10, padding="tensorflow")
    shifted.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    convolution = shifted.features[0][0]
    expected = functional.conv2d(functional.pad(images, (0, 1, 0, 1)), convolution.weight, stride=2)
    torch.testing.assert_close(convolution(images), expected)
    assert plain.features[0][0](images).shape == expected.shape
    assert not torch.allclose(plain.features[0][0](images), expected)


def test_padding_is_refused_if_unknown():
    with pytest.raises(ValueError, match="padding is 'same'"):
        models.MobileNetV2(padding="same")


@pytest.mark.parametrize("depth", [20, 56])
def test_cifar_resnets_see_a_cat(weights, depth):
    path = next((weights / "resnet-cifar10-torch").glob(f"resnet{depth}-*.th"))
    net = models.load(f"cifar_resnet{depth}", weights=path)
    image = Image.open(weights / "mobilenets-imagenet-tflite" / "sample_images" / "cat_720p.jpg")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    with torch.no_grad():
        probabilities = net(net.preprocess(image.crop((left, top, left + side, top + side)))[None]).softmax(
            1
        )[0]
    assert int(probabilities.argmax()) == 3  # "cat"
    assert net.loading.complete


def test_cifar_resnet_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in models.CifarResNet(20).parameters()) == 269_722
    assert sum(p.numel() for p in models.CifarResNet(56).parameters()) == 853_018
    with pytest.raises(ValueError, match="6 n \\+ 2"):
        models.CifarResNet(21)


def test_tiny_net_is_a_chain_of_named_layers():
    net = models.TinyNet()
    assert [name for name, _ in net.named_children()] == ["conv1", "conv2", "conv3", "readout"]
    assert isinstance(net, nn.Sequential)
