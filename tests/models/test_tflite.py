"""8-bit TFLite weights become the float networks that they came from."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cerebridge import models

pytest.importorskip("tflite")

V1, V2 = "mobilenet_v1_0.75_192_quant.tflite", "tf2_mobilenet_v2_1.0_224_ptq.tflite"
SAMPLES = {
    "bird.bmp": "chickadee",
    "cat_720p.jpg": "cat",
    "dragonfly.bmp": "dragonfly",
    "hot_dog.jpg": "hotdog",
    "parrot.jpg": "macaw",
}


@pytest.fixture(scope="module")
def folder(weights):
    return weights / "mobilenets-imagenet-tflite"


@pytest.mark.parametrize(
    ("name", "file", "cat"), [("mobilenet_v1", V1, "tabby"), ("mobilenet_v2", V2, "Egyptian cat")]
)
def test_mobilenets_see_what_is_shown(folder, name, file, cat):
    net = models.load(name, weights=folder / file)
    assert net.loading.complete and net.loading.matched == net.loading.total > 130
    classes = (folder / "imagenet_labels.txt").read_text().splitlines()
    images = [net.preprocess(Image.open(folder / "sample_images" / sample)) for sample in SAMPLES]
    with torch.no_grad():
        probabilities = net(torch.stack(images)).softmax(1)
    seen = [classes[int(row.argmax())] for row in probabilities]
    expected = [cat if label == "cat" else label for label in SAMPLES.values()]
    assert all(label.startswith(wanted) for label, wanted in zip(seen, expected, strict=True)), seen
    assert (probabilities.amax(1) > 0.35).all()


def test_mobilenet_v2_equals_the_copy_in_safetensors(folder, weights):
    path = weights / "mobilenetv2-imagenet" / "model.safetensors"
    from_integers = models.load("mobilenet_v2", weights=folder / V2)
    from_floats = models.load("mobilenet_v2", weights=path)
    state = from_integers.state_dict()
    for name, tensor in load_file(path).items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-6, atol=1e-6)
    assert from_integers.loading.agrees_with(from_floats.loading)


def test_shuffled_weights_see_nothing_of_it(folder):
    net = models.load("mobilenet_v1", weights=folder / V1)
    weight = net.features[5][1][0].weight
    order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(0))
    image = net.preprocess(Image.open(folder / "sample_images" / "parrot.jpg"))[None]
    with torch.no_grad():
        before = net(image).softmax(1).max()
        weight.copy_(weight[:, order])
        after = net(image).softmax(1).max()
    assert before > 2 * after


def test_files_of_another_network_and_damaged_ones(folder, tmp_path):
    with pytest.raises(ValueError, match="holds 53 layers with weights, but the network has 28"):
        models.load("mobilenet_v1", weights=folder / V2)
    with pytest.raises(ValueError, match="does not fit the network: .* of another shape"):
        models.load("mobilenet_v1", weights=folder / V1, width=0.5)
    content = (folder / V1).read_bytes()
    for name, damaged in {"cut": content[:2000], "other": b"no such file" * 9, "empty": b""}.items():
        (tmp_path / f"{name}.tflite").write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name}.tflite is damaged or no TFLite file"):
            models.load("mobilenet_v1", weights=tmp_path / f"{name}.tflite")


def test_without_the_reader_one_sentence_says_what_to_install(folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(ImportError, match=r"needs tflite; .*pip install 'cerebridge\[zoo\]'"):
        models.load("mobilenet_v1", weights=folder / V1)
