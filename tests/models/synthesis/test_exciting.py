"""Most exciting inputs: a readout whose optimum is known, and neurons of area V4."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from cerebridge import encoding, models
from cerebridge.models.synthesis import (
    ReadoutObjective,
    make_exciting,
    maximise,
    rank_stimuli,
    score_images,
)

SIZE = 12


class Pixels(nn.Module):
    """A network whose features are its input."""

    def __init__(self):
        super().__init__()
        self.same = nn.Identity()

    def forward(self, images):
        return self.same(images)


def fields(n: int = 3) -> np.ndarray:
    """Receptive fields of neurons that sum over pixels."""
    return np.random.default_rng(0).standard_normal((n, 3 * SIZE * SIZE))


OPTIONS = {"size": SIZE, "space": "pixels", "steps": 40, "contrast": 0.1, "n_starts": 2, "device": "cpu"}


def test_the_most_exciting_input_of_a_linear_neuron_is_its_receptive_field():
    made = make_exciting(Pixels(), "same", fields(), [1.0, 2.0, 3.0], **OPTIONS)
    for image, score, field, bias in zip(made.images, made.scores, fields(), (1, 2, 3), strict=True):
        pixels = image.transpose(2, 0, 1).ravel()
        assert np.corrcoef(pixels, field)[0, 1] > 0.95
        np.testing.assert_allclose(score, pixels @ field + bias, rtol=1e-3)
    np.testing.assert_allclose(
        make_exciting(Pixels(), "same", fields()[1], 2.0, **OPTIONS).images[0], made.images[1]
    )
    assert made.course.shape == (40, 3)


def test_the_best_of_several_starts_is_kept():
    options = {**OPTIONS, "steps": 2}
    made = make_exciting(Pixels(), "same", fields(1), **{**options, "n_starts": 6})
    options.pop("n_starts")
    ends = maximise(ReadoutObjective(Pixels(), "same", fields(1)), n=6, **options).scores
    assert made.scores[0] == ends.max() > ends.min()


def test_real_stimuli_are_ranked_by_objectives_and_by_scores():
    pictures = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3)).astype(np.uint8)
    stimuli = models.StimulusSet.from_arrays(pictures, table={"label": list("abcdefghi")})
    neuron = ReadoutObjective(Pixels(), "same", fields()[0], 0.5)
    expected = (pictures.transpose(0, 3, 1, 2).reshape(9, -1) / 255) @ fields()[0] + 0.5
    ranking = rank_stimuli(neuron, stimuli, batch_size=4, device="cpu")
    assert ranking["row"].tolist() == np.argsort(-expected).tolist()
    np.testing.assert_allclose(ranking["score"], np.sort(expected)[::-1], rtol=1e-3)
    assert ranking.index.tolist() == list(range(1, 10))
    assert ranking["label"].iloc[0] == "abcdefghi"[int(expected.argmax())]
    by_scores = rank_stimuli(expected, stimuli, n=2)
    assert by_scores["row"].tolist() == ranking["row"].tolist()[:2]


def test_bad_input_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"bias= has the shape \(2,\) for 3 neurons"):
        make_exciting(Pixels(), "same", fields(), [1.0, 2.0], **OPTIONS)
    with pytest.raises(ValueError, match="n_starts=0"):
        make_exciting(Pixels(), "same", fields(), **{**OPTIONS, "n_starts": 0})
    with pytest.raises(ValueError, match="7 weights for 432 features"):
        make_exciting(Pixels(), "same", np.ones(7), **OPTIONS)
    stimuli = models.StimulusSet.from_arrays(np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"shape \(2,\) for 3 stimuli"):
        rank_stimuli(np.zeros(2), stimuli)
    with pytest.raises(ValueError, match="not finite"):
        rank_stimuli(np.array([1.0, np.nan, 2.0]), stimuli)
    mixed = models.StimulusSet.from_arrays([np.zeros((s, s, 3), np.uint8) for s in (6, 8)])
    with pytest.raises(ValueError, match="several sizes; give size="):
        score_images(lambda images: images.mean((1, 2, 3)), mixed)
    with pytest.raises(ValueError, match="NaN or infinite scores, first for image 0"):
        score_images(lambda images: images.mean((1, 2, 3)).log(), stimuli)


@pytest.mark.slow
def test_images_made_for_v4_neurons_excite_encoders_that_had_no_part_in_them(data, weights):
    folder = data / "v4-macaque"
    stimuli = models.StimulusSet.from_zip(folder / "images" / "images_210325.zip")[::2]
    responses = np.load(folder / "responses_repeat_averaged" / "responses_210325.npy").T[::2]
    net = models.load("mobilenet_v2", weights / "mobilenetv2-imagenet")
    layers = ["features.13", "features.10"]
    activations = models.extract(net, stimuli, layers, pool=7, device="cpu")
    half = np.random.default_rng(0).permutation(len(stimuli)).reshape(2, -1)
    features = [activations.values[:, activations.layer.values == layer] for layer in layers]
    # the second encoder reads another layer and was fitted on other images
    encoders = [
        encoding.RidgeCV().fit(x[rows], responses[rows]) for x, rows in zip(features, half, strict=True)
    ]
    predicted = [encoder.predict(x) for encoder, x in zip(encoders, features, strict=True)]
    held_out = half[1]
    scores = [
        np.corrcoef(predicted[0][held_out, k], responses[held_out, k])[0, 1]
        for k in range(responses.shape[1])
    ]
    best = np.argsort(scores)[::-1][:4]
    contrast = float(np.mean([(picture / 255).std() for picture in stimuli]))
    made = make_exciting(
        net,
        layers[0],
        np.asarray(encoders[0].coef_)[best],
        np.asarray(encoders[0].intercept_)[best],
        pool=7,
        size=112,
        n_starts=1,
        contrast=contrast,
        grey=True,
        jitter=4,
        steps=60,
        learning_rate=0.2,
        centre_bias=True,
        device="cpu",
    )
    noise = maximise(lambda images: images[:, 0, 0, 0], n=4, size=112, steps=1, learning_rate=1e-9).images
    noise = (noise - noise.mean()) / noise.std() * contrast + 0.5
    # one neuron's rank hangs on the course of the ascent, which rounding sends elsewhere; the mean of several less so
    ranks, blanks = [], []
    for k, neuron in enumerate(best):
        # readouts through differentiable preprocessing predict what the encoders do
        judges = [
            ReadoutObjective(net, layer, encoder.coef_[neuron], encoder.intercept_[neuron], pool=7)
            for layer, encoder in zip(layers, encoders, strict=True)
        ]
        real = score_images(judges[1], stimuli[:20], device="cpu")
        assert np.corrcoef(real, predicted[1][:20, neuron])[0, 1] > 0.99
        assert abs(real - predicted[1][:20, neuron]).max() < 0.2 * predicted[1][:, neuron].std()
        assert made.scores[k] > 1.5 * predicted[0][:, neuron].max()
        transferred = score_images(judges[1], made.images[[k]], device="cpu")[0]
        ranks.append((predicted[1][:, neuron] < transferred).mean())
        blanks.append(
            (predicted[1][:, neuron] < score_images(judges[1], noise.clip(0, 1), device="cpu").mean()).mean()
        )
    assert np.mean(ranks) > 0.95
    assert np.mean(blanks) < 0.5 and max(blanks) < 0.9
