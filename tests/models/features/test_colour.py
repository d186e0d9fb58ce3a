"""Colours against those computed by hand and by scikit-image, statistics of pictures whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from cerebridge import models, neuro
from cerebridge.models.features import colour


def statistics_of(*pictures):
    found = models.features.colour_statistics(models.StimulusSet.from_arrays(list(pictures)))
    neuro.validate(found)
    return [dict(zip(found["neuroid_id"].values, row, strict=True)) for row in found.values]


def flat(*rgb, size=16):
    return np.broadcast_to(np.array(rgb, np.uint8), (size, size, 3)).copy()


@pytest.mark.parametrize(
    ("rgb", "y", "lab"),
    [
        ((255, 255, 255), 1.0, (100, 0, 0)),
        ((0, 0, 0), 0.0, (0, 0, 0)),
        ((255, 0, 0), 0.2127, (53.24, 80.09, 67.20)),
        ((0, 255, 0), 0.7152, (87.73, -86.18, 83.18)),
        ((0, 0, 255), 0.0722, (32.30, 79.19, -107.86)),
        ((119, 119, 119), 0.1845, (50.03, 0, 0)),
    ],
)
def test_known_colours(rgb, y, lab):
    (found,) = statistics_of(flat(*rgb))
    assert found["luminance mean"] == pytest.approx(y, abs=1e-4)
    assert [found[f"{name} mean"] for name in ("L*", "a*", "b*")] == pytest.approx(lab, abs=0.02)
    constant = [
        k for k in found if k.split()[-1] in ("sd", "skewness", "kurtosis", "slope", "contrast", "energy")
    ]
    assert len(constant) == 21
    assert all(found[name] == 0 for name in constant)


def test_lab_is_that_of_scikit_image():
    skimage = pytest.importorskip("skimage.color")
    picture = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    # its matrix has two digits less
    np.testing.assert_allclose(colour.lab(picture), skimage.rgb2lab(picture), atol=0.02)


def test_moments_are_those_of_scipy():
    picture = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    (found,) = statistics_of(picture)
    light = colour.luminance(picture).ravel()
    assert found["luminance skewness"] == pytest.approx(scipy.stats.skew(light), abs=1e-5)
    assert found["luminance kurtosis"] == pytest.approx(scipy.stats.kurtosis(light), abs=1e-5)
    assert found["rms contrast"] == pytest.approx(light.std() / light.mean(), rel=1e-5)


def test_contrast_and_edges_of_a_step():
    picture = flat(0, 0, 0)
    picture[:, 8:] = 255
    (found,) = statistics_of(picture)
    assert found["rms contrast"] == pytest.approx(1)
    # two of fourteen inner columns see the step of 1
    assert found["luminance edge energy"] == pytest.approx(2 / 14)
    assert found["red-green sd"] == found["yellow-blue sd"] == 0


def test_colourfulness_by_hand():
    picture = flat(255, 0, 0)
    picture[:, 8:] = (0, 0, 255)
    (found,) = statistics_of(picture)
    # red-green is 255 or 0, yellow-blue 127.5 or -255
    spread = np.hypot(127.5, 191.25)
    assert found["colourfulness"] == pytest.approx(spread + 0.3 * np.hypot(127.5, -63.75), rel=1e-5)
    grey, red = statistics_of(flat(90, 90, 90), flat(200, 30, 30))
    assert grey["colourfulness"] == 0 < red["colourfulness"]


@pytest.mark.parametrize("slope", [0.0, -1.0, -2.0, -3.0])
def test_the_slope_of_noise_is_found(slope):
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((256, 256))) * frequency ** (slope / 2))
    light = 0.5 + 0.1 * noise / noise.std()
    assert colour._spectral_slope(light) == pytest.approx(slope, abs=0.15)


def test_photographs_have_the_slope_of_natural_scenes(data):
    stimuli = models.StimulusSet.from_zip(data / "v4-macaque" / "images" / "images_210224.zip")[:12]
    found = models.features.colour_statistics(stimuli)
    slopes = found.values[:, found["statistic"].values == "spectral slope"]
    assert -3.5 < np.median(slopes) < -1.8
    assert np.isfinite(found.values).all()


def test_what_is_no_picture_is_named():
    stimuli = models.StimulusSet.from_arrays([np.zeros(4, np.float32)], ["row"])
    with pytest.raises(ValueError, match="'row' is an array of float32 with the shape .*no picture"):
        models.features.colour_statistics(stimuli)
