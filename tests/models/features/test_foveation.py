"""Pictures as they look away from where the eye looks: what is kept, what is lost, and how much."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from cerebridge import models
from cerebridge.models.features import (
    FoveatedBlur,
    FoveatedTexture,
    Gaze,
    UniformBlur,
    match_blur,
    pooling_regions,
)
from cerebridge.models.features.matching import match_values
from cerebridge.models.features.pictures import blur, split_bands, ssim

SIZE = 128


def scene(seed=0, size=SIZE, slope=1.0):
    """Coloured 1/f noise of moderate contrast, 3 × rows × columns."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.fft.rfft2(torch.randn(3, size, size, generator=generator))
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1
    noise = torch.fft.irfft2(spectrum / frequency**slope, (size, size))
    return 0.5 + 0.12 * noise / noise.std()


def pixels(picture):
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


TRANSFORMS = [FoveatedBlur(0.2), FoveatedTexture(), UniformBlur(1.5)]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_each_kind_of_picture_comes_back_as_it_came(transform):
    array = pixels(scene(size=64))
    seen = transform(array)
    assert (seen.dtype, seen.shape) == (np.uint8, array.shape)
    image = transform(Image.fromarray(array))
    assert isinstance(image, Image.Image)
    np.testing.assert_array_equal(np.asarray(image), seen)
    tensor = transform(torch.from_numpy(array).permute(2, 0, 1))
    assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), seen)
    floating = transform(torch.from_numpy(array).permute(2, 0, 1).double() / 255)
    assert floating.dtype == torch.float64
    assert (floating.permute(1, 2, 0) * 255 - torch.from_numpy(seen)).abs().max() < 0.51


@pytest.mark.parametrize("transform", TRANSFORMS[:2], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("fixation", [None, (30, 100)])
def test_the_fovea_is_pixel_identical_wherever_the_eye_looks(transform, fixation):
    gaze = Gaze(fixation=fixation, field_of_view=20, fovea=2)
    array = pixels(scene())
    seen = type(transform)(gaze=gaze)(array)
    row, column = fixation or (63.5, 63.5)
    at = np.arange(SIZE)
    inside = np.hypot(at[:, None] - row, at[None] - column) <= 2 * SIZE / 20
    np.testing.assert_array_equal(seen[inside], array[inside])
    assert (seen[~inside] != array[~inside]).any(-1).mean() > 0.5


def test_regions_tile_the_periphery_and_widen_with_eccentricity():
    gaze = Gaze(field_of_view=20, fovea=1.5)
    regions = pooling_regions(SIZE, SIZE, gaze, rate=0.5)
    outside = gaze.eccentricity(SIZE, SIZE) > 1.5
    total = regions.weights.sum(0)
    assert (total[outside] - 1).abs().max() < 1e-5 and total[~outside].abs().max() == 0
    assert torch.equal(regions.map > 0, outside)
    assert regions.weights.min() >= 0
    # the root of a window's area, for those that lie within the picture
    whole = regions.eccentricity < 6
    width = regions.weights.sum((1, 2)).sqrt()[whole] * 20 / SIZE
    slope, offset = np.polyfit(regions.eccentricity[whole], width, 1)
    assert slope == pytest.approx(0.5, abs=0.1) and abs(offset) < 0.2


def test_the_blur_at_each_place_has_its_width():
    transform = FoveatedBlur(rate=0.15, gaze=Gaze(field_of_view=10, fovea=1))
    widths = transform.widths(SIZE, SIZE)
    for column in (85, 95, 105):
        point = torch.zeros(3, SIZE, SIZE)
        # a line, so that the width varies across it alone and little
        point[:, :, column] = 1
        seen = transform(point)[0, 64]
        expected = float(widths[64, column])
        at = torch.arange(SIZE) - float(column)
        assert seen[column] == pytest.approx(1 / (expected * np.sqrt(2 * np.pi)), rel=0.1)
        assert (seen * at**2).sum() > 0
    np.testing.assert_allclose(widths[64, 64:].diff().max(), 0.15, rtol=1e-2)


def test_blur_is_gaussian_and_keeps_grey():
    point = torch.zeros(1, 65, 65)
    point[:, 32, 32] = 1
    at = torch.arange(65) - 32.0
    expected = torch.exp(-(at[:, None] ** 2 + at**2) / 18) / (2 * np.pi * 9)
    torch.testing.assert_close(blur(point, 3.0)[0], expected, rtol=1e-3, atol=1e-6)
    assert UniformBlur(5.0)(np.full((20, 30, 3), 77, np.uint8)).tolist() == [[[77] * 3] * 30] * 20


def high_power(picture, inside):
    """Power of what is finer than a blur of a pixel and a half."""
    return ((picture - blur(picture, 1.5)) ** 2)[:, inside].mean().item()


def test_high_frequencies_fall_with_eccentricity_for_blur_and_not_for_texture():
    gaze = Gaze(field_of_view=20, fovea=1.5)
    picture = scene(slope=0.7)
    distance = gaze.eccentricity(SIZE, SIZE)
    rings = [(distance > low) & (distance <= high) for low, high in ((1.5, 3), (3, 5), (5, 8), (8, 12))]
    kept = {
        name: [high_power(transform(picture), ring) / high_power(picture, ring) for ring in rings]
        for name, transform in {
            "blur": FoveatedBlur(0.1, gaze),
            "texture": FoveatedTexture(gaze=gaze),
        }.items()
    }
    assert (np.diff(kept["blur"]) < 0).all() and kept["blur"][-1] < 0.05
    assert min(kept["texture"]) > 0.75


def test_texture_keeps_the_statistics_of_every_region_and_loses_the_pixels():
    picture = scene(1)
    transform = FoveatedTexture()
    seen, regions = transform(picture), transform.regions(SIZE, SIZE)
    for region in range(1, len(regions) + 1):
        inside = regions.map == region
        if inside.sum() < 4:
            continue
        before, after = picture[:, inside], seen[:, inside]
        assert ((after.mean(1) - before.mean(1)).abs() < 0.05 * before.mean(1)).all()
        ratio = after.var(1, unbiased=False) / before.var(1, unbiased=False)
        assert ((ratio - 1).abs() < 0.05).all()
    distance = transform.gaze.eccentricity(SIZE, SIZE)
    rings = [(distance > low) & (distance <= high) for low, high in ((1.5, 3), (3, 5), (5, 8), (8, 11))]
    # of what is left after each ring's large-scale pattern, which regions keep
    fine = [x - blur(x, 6.0) for x in (picture, seen)]
    alike = [np.corrcoef(fine[0][:, ring].ravel(), fine[1][:, ring].ravel())[0, 1] for ring in rings]
    assert (np.diff(alike) < 0).all()
    assert alike[0] > 0.8 and alike[-1] < 0.3


@pytest.mark.parametrize("source", ["bright", "dark"])
def test_texture_keeps_the_statistics_of_photographs(data, weights, source):
    if source == "dark":
        file = weights / "mobilenets-imagenet-tflite" / "sample_images" / "hot_dog.jpg"
        array = np.array(Image.open(file).convert("RGB").resize((128, 128)))
    else:
        array = models.StimulusSet.from_zip(data / "v4-macaque" / "images" / "images_210224.zip")[0]
    transform = FoveatedTexture()
    seen, regions = transform(array), transform.regions(*array.shape[:2]).map.numpy()
    for region in range(1, regions.max() + 1):
        before, after = (np.sort(x[regions == region], 0) for x in (array, seen))
        np.testing.assert_array_equal(before, after)
    distance = transform.gaze.eccentricity(*array.shape[:2]).numpy()
    rings = [(distance > low) & (distance <= high) for low, high in ((1.5, 3), (3, 6), (6, 10))]
    fine = [(x := torch.from_numpy(y.copy()).permute(2, 0, 1).float()) - blur(x, 4.0) for y in (array, seen)]
    alike = [np.corrcoef(fine[0][:, ring].ravel(), fine[1][:, ring].ravel())[0, 1] for ring in rings]
    assert (np.diff(alike) < 0).all() and alike[-1] < 0.35


def test_values_are_matched_in_the_order_of_ranks():
    generator = torch.Generator().manual_seed(0)
    features, wanted = torch.rand(2, 3, 8, 9, generator=generator)
    labels = torch.randint(0, 3, (8, 9), generator=generator)
    found = match_values(features, wanted, labels)
    for channel in range(3):
        for region in range(3):
            own, other = features[channel][labels == region], wanted[channel][labels == region]
            expected = other.sort().values[own.argsort().argsort()]
            assert torch.equal(found[channel][labels == region], expected)


def test_texture_depends_on_its_seed_and_on_nothing_else():
    array = pixels(scene(size=64))
    first, again, other = (FoveatedTexture(random_state=seed)(array) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.3
    state = torch.get_rng_state()
    FoveatedTexture()(array)
    assert torch.equal(torch.get_rng_state(), state)


def test_texture_in_the_features_of_a_network():
    def encoder(pictures):
        return functional.pixel_unshuffle(pictures, 2)

    def decoder(features):
        return functional.pixel_shuffle(features, 2)

    transform = FoveatedTexture(encoder=encoder, decoder=decoder, crowding=5.0)
    picture = scene(2)
    seen = transform(picture)
    before, after = encoder(picture[None])[0], encoder(seen[None])[0]
    regions = pooling_regions(SIZE // 2, SIZE // 2)
    far = [r for r in range(1, len(regions) + 1) if regions.eccentricity[r - 1] > 5]
    for region in far[:20]:
        inside = regions.map == region
        np.testing.assert_allclose(after[:, inside].mean(1), before[:, inside].mean(1), atol=0.05)
    outside = transform.gaze.eccentricity(SIZE, SIZE) > 6
    fine = [x - blur(x, 6.0) for x in (picture, seen)]
    assert abs(np.corrcoef(fine[0][:, outside].ravel(), fine[1][:, outside].ravel())[0, 1]) < 0.1


def test_bands_are_oriented_and_sum_to_the_picture():
    across = torch.arange(64) + 0.5
    grating = (2 * np.pi * across / 6).cos().expand(1, 64, 64)
    bands = split_bands(grating)
    torch.testing.assert_close(bands.sum(0), grating, rtol=0, atol=1e-5)
    power = (bands**2).mean((1, 2, 3))
    # six pixels a cycle: the second octave from the top, of bars that stand
    assert power[1:].reshape(4, 4).sum(0).argmax() == 0
    assert power[1:].reshape(4, 4).argmax() // 4 == 2


def test_similarity_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    colour = pytest.importorskip("skimage.color")
    first, second = scene(0).clamp(0, 1), (scene(0) + 0.05 * scene(3)).clamp(0, 1)
    grey = [colour.rgb2gray(p.permute(1, 2, 0).double().numpy()) for p in (first, second)]
    theirs = metrics.structural_similarity(
        *grey, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )
    assert ssim(first, second) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("start", [FoveatedBlur(), UniformBlur()], ids=lambda b: type(b).__name__)
def test_blur_is_matched_to_texture(start):
    stimuli = models.StimulusSet.from_arrays([pixels(scene(k, 64)) for k in range(3)])
    texture = FoveatedTexture()
    found = match_blur(texture, stimuli, start)
    assert type(found) is type(start)
    originals = [torch.from_numpy(p.copy()).permute(2, 0, 1) / 255 for p in stimuli]
    target, reached = (np.mean([ssim(p, t(p)) for p in originals]) for t in (texture, found))
    assert reached == pytest.approx(target, abs=0.005)
    assert np.mean([ssim(p, start.with_strength(found.strength * 2)(p)) for p in originals]) < target - 0.01


def test_a_network_sees_what_the_eye_does():
    net = models.load("tiny", weights="random")
    stimuli = models.StimulusSet.from_arrays(np.stack([pixels(scene(k, 64)) for k in range(3)]))
    seen = FoveatedBlur(0.3)
    through = models.extract(net, stimuli, ["conv3"], preprocess=lambda image: net.preprocess(seen(image)))
    changed = models.extract(net, stimuli.transform(seen), ["conv3"])
    np.testing.assert_array_equal(through.values, changed.values)
    assert changed["stimulus_id"].values.tolist() == stimuli.table["stimulus_id"].tolist()
    before = models.extract(
        net, models.StimulusSet.from_arrays([seen(image) for image in stimuli]), ["conv3"]
    )
    np.testing.assert_allclose(through.values, before.values, rtol=1e-5)
    plain = models.extract(net, stimuli, ["conv3"])
    assert np.abs(plain.values - through.values).max() > 1e-3


def test_a_store_of_one_blur_is_not_continued_under_another(tmp_path):
    net = models.load("tiny", weights="random")
    stimuli = models.StimulusSet.from_arrays(pixels(scene(size=64))[None])

    def blurred(rate):
        blur = FoveatedBlur(rate)
        return lambda image: net.preprocess(blur(image))

    for rate in (0.1, 0.1):
        seen = stimuli.transform(FoveatedBlur(rate))
        models.extract(net, seen, ["readout"], store=tmp_path / "seen")
        models.extract(net, stimuli, ["readout"], preprocess=blurred(rate), store=tmp_path / "blurred")
    with pytest.raises(ValueError, match="stimuli"):
        models.extract(net, stimuli.transform(FoveatedBlur(0.2)), ["readout"], store=tmp_path / "seen")
    with pytest.raises(ValueError, match="preprocess"):
        models.extract(net, stimuli, ["readout"], preprocess=blurred(0.2), store=tmp_path / "blurred")


def test_textures_of_several_sizes_and_threads():
    transform = FoveatedTexture()
    pictures = [pixels(scene(k, size)) for k, size in enumerate((48, 64, 48, 64))]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(transform, pictures))
    for picture, seen in zip(pictures, together, strict=True):
        np.testing.assert_array_equal(FoveatedTexture()(picture), seen)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: UniformBlur(-1), "width is -1 pixels"),
        (lambda: FoveatedBlur(-1), "rate is -1 degrees"),
        (lambda: FoveatedTexture(rate=0)(np.zeros((32, 32, 3), np.uint8)), "rate is 0"),
        (lambda: FoveatedTexture(crowding=0), "crowding is 0"),
        (lambda: FoveatedTexture(encoder=lambda x: x), "belong together"),
        (
            lambda: FoveatedTexture(encoder=lambda x: x[0], decoder=lambda x: x)(torch.zeros(3, 32, 32)),
            "encoder= must turn",
        ),
        (
            lambda: FoveatedTexture(encoder=lambda x: x, decoder=lambda x: x[0])(torch.zeros(3, 32, 32)),
            "decoder= must turn",
        ),
        (lambda: Gaze(fovea=0), "fovea 0 degrees"),
        (
            lambda: FoveatedBlur(gaze=Gaze(fixation=(40, 5)))(np.zeros((32, 32, 3), np.uint8)),
            r"\(40, 5\) lies outside a picture of 32 × 32",
        ),
        (lambda: pooling_regions(16, 16, Gaze(fovea=40)), "no pixel lies outside the fovea"),
        (lambda: FoveatedBlur()(np.zeros((32, 32), np.uint8)), r"ndarray of uint8 with the shape \(32, 32\)"),
        (lambda: UniformBlur()(torch.zeros(1, 8, 8)), "Tensor of torch.float32"),
        (lambda: UniformBlur()(torch.full((3, 8, 8), torch.nan)), "NaN or infinite values"),
        (lambda: UniformBlur()("a path"), "a str of no numbers"),
        (lambda: match_blur(UniformBlur(), [], UniformBlur()), "no pictures"),
        (
            lambda: match_blur(lambda p: 1 - p, [pixels(scene(size=32))], UniformBlur()),
            "no blur leaves pictures",
        ),
        (lambda: ssim(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)), "too small to compare"),
    ],
)
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
