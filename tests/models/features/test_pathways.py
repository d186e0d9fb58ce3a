"""The two paths of motion: which way gratings and contrast envelopes drift, and what is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cerebridge import models, neuro
from cerebridge.models.features import LocalContrast, MotionPathway, MTPooling

SIZE = 64


def drifting(direction, frequency, hertz, frames=24, phase=0.0, size=SIZE):
    """Cycles a pixel and a frame, 0 to 1."""
    angle = np.deg2rad(direction)
    along = np.arange(size)[None] * np.cos(angle) - np.arange(size)[:, None] * np.sin(angle)
    time = np.arange(frames)[:, None, None]
    return 0.5 + 0.5 * np.cos(2 * np.pi * (frequency * along - hertz * time) + phase)


def envelope_on_noise(direction, frequency, hertz, seed, frames=30, size=SIZE):
    """Noise that stands still under a contrast that drifts.

    All frequencies of the noise have one amplitude: in a sample of white noise some are stronger than their opposites
    by chance, and its luminance then moves.
    """
    spectrum = np.fft.fft2(np.random.default_rng(seed).standard_normal((size, size)))
    noise = np.fft.ifft2(spectrum / np.abs(spectrum)).real
    return 0.5 + 0.3 * noise / noise.std() * drifting(direction, frequency, hertz, frames)


def energies(path, film):
    with torch.no_grad():
        return path.energies(torch.from_numpy(film).float()[None])[0].mean((0, 2, 3)).numpy()


def unit_for(path, direction, frequency, hertz):
    tuning = path.tuning
    apart = (tuning["direction"] - direction + 180) % 360 - 180
    near = apart.abs() + (tuning["frequency"] - frequency).abs() * 1e3
    return int((near + (tuning["temporal_frequency"] - hertz).abs() * 1e3).argmin())


def index_of(path, found, direction, frequency, hertz):
    own, opposite = (found[unit_for(path, d, frequency, hertz)] for d in (direction, direction + 180))
    return (own - opposite) / (own + opposite)


@pytest.fixture(scope="module")
def path():
    return MotionPathway(SIZE, scales=1, downscale=1)


@pytest.mark.parametrize("direction", [22.5, 112.5, 247.5])
@pytest.mark.parametrize("frequency", [0.1, 0.2])
@pytest.mark.parametrize("hertz", [0.1, 0.2])
def test_the_direction_of_a_grating(path, direction, frequency, hertz):
    film = drifting(direction, frequency, hertz)
    found = energies(path, film)
    assert index_of(path, found, direction, frequency, hertz) > 0.85
    assert found.argmax() == unit_for(path, direction, frequency, hertz)
    with torch.no_grad():
        normalised = path.maps(torch.from_numpy(film).float()[None])[0].mean((0, 2, 3)).numpy()
    assert index_of(path, normalised, direction, frequency, hertz) > 0.8


def test_energy_forgets_the_phase(path):
    unit = unit_for(path, 67.5, 0.1, 0.1)
    films = [drifting(67.5, 0.1, 0.1, 11, phase) for phase in np.linspace(0, 2 * np.pi, 8, endpoint=False)]
    with torch.no_grad():
        middle = path.energies(torch.from_numpy(np.stack(films)).float())[:, 0, unit, 4, 4].numpy()
    assert middle.std() / middle.mean() < 0.01


def test_counterphase_has_no_direction(path):
    film = (drifting(22.5, 0.1, 0.1) + drifting(202.5, 0.1, 0.1)) / 2
    found = energies(path, film)
    assert abs(index_of(path, found, 22.5, 0.1, 0.1)) < 1e-3
    assert found[unit_for(path, 22.5, 0.1, 0.1)] > 0.5


@pytest.mark.parametrize("direction", [22.5, 157.5, 247.5])
def test_a_drifting_contrast_is_seen_by_the_second_order_path_alone(direction):
    first = MotionPathway(SIZE, scales=1, downscale=2)
    second = MotionPathway(SIZE, scales=1, downscale=2, front=LocalContrast())
    for seed in range(4):
        film = envelope_on_noise(direction, 0.05, 0.1, seed)
        assert abs(index_of(first, energies(first, film), direction, 0.05, 0.1)) < 0.05
        assert index_of(second, energies(second, film), direction, 0.05, 0.1) > 0.85


def test_grey_films_drive_nothing(path):
    found = energies(path, np.full((12, SIZE, SIZE), 0.6))
    assert np.abs(found).max() < 1e-9


def test_all_units_are_those_of_the_paper():
    path = MotionPathway()
    assert len(path.tuning) == 256 and path.frames == 11
    assert path.factors[-1] == pytest.approx(16)
    assert len(path.units) == 256 * 16 * 16
    np.testing.assert_allclose(
        path.tuning["speed"], path.tuning["temporal_frequency"] / path.tuning["frequency"], rtol=1e-6
    )


def test_normalisation_by_hand():
    path = MotionPathway(32, scales=1, downscale=1, gain=3.0, semisaturation=0.5, floor=0.1)
    film = torch.rand(2, 12, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        energy = path.energies(film) + 0.01
        np.testing.assert_allclose(
            path.maps(film), 3 * energy / (energy.mean(2, keepdim=True) + 0.25), rtol=1e-5
        )


def test_parameters_are_trainable_and_stay_in_their_ranges():
    path = MotionPathway(32, scales=1, downscale=1)
    film = torch.from_numpy(drifting(0, 0.15, 0.15, 11, size=32)).float()[None]
    unit = unit_for(path, 22.5, 0.2, 0.2)
    before, first = path.tuning.loc[unit], path.energies(film)[0, 0, unit].mean().item()
    optimizer = torch.optim.Adam(path.parameters(), lr=0.05)
    for _ in range(12):
        optimizer.zero_grad()
        (-path.energies(film)[0, 0, unit].mean()).backward()
        optimizer.step()
    after = path.tuning.loc[unit]
    assert path.energies(film)[0, 0, unit].mean().item() > 1.3 * first
    assert after["frequency"] < before["frequency"] and after["direction"] < before["direction"]
    for values in path.raw.values():
        nn.init.constant_(values, 50.0)
    tuning = path.tuning
    assert tuning["frequency"].max() <= 0.25 and tuning["temporal_frequency"].max() <= 0.25


def test_mt_prefers_its_direction_and_is_silent_in_flicker(path):
    area = MTPooling(path)
    at_once = {}
    for direction in (0, 90, 225):
        found = models.features.motion_energy(drifting(direction, 0.15, 0.15), 24, bank=area)
        # before the film its first frame stands still
        found = neuro.validate(found).isel(time_bin=slice(area.before, None))
        curve = {d: found.values[:, found["direction"].values == d].mean() for d in range(0, 360, 45)}
        assert max(curve, key=curve.get) == direction
        assert curve[(direction + 180) % 360] == 0
        at_once[direction] = curve[direction]
    flicker = (drifting(0, 0.15, 0.15) + drifting(180, 0.15, 0.15)) / 2
    found = models.features.motion_energy(flicker, 24, bank=area).isel(time_bin=slice(area.before, None))
    sides = [found.values[:, found["direction"].values == d].mean() for d in (0, 180)]
    assert sides[0] == pytest.approx(sides[1], rel=1e-3)
    assert sides[0] < at_once[0] / 2
    still = models.features.motion_energy(np.full((12, SIZE, SIZE), 0.5), 24, bank=area)
    assert np.abs(still.values).max() < 1e-5 < at_once[0]


def test_labels_of_a_path():
    path = MotionPathway(32, scales=2, downscale=2)
    found = models.features.motion_energy(np.random.default_rng(0).random((5, 32, 32)), 24, bank=path)
    assert found.shape == (5, 64 * 16)
    maps = path.maps(torch.zeros(1, 11, 32, 32))
    assert maps.shape == (1, 1, 64, 4, 4)
    last = found.isel(neuroid=-1)
    assert [int(last[k]) for k in ("scale", "row", "column")] == [1, 3, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MotionPathway(0), "size is 0"),
        (lambda: MotionPathway(32, pixels=4), "pixels is 4; give an odd number"),
        (lambda: MotionPathway(32, downscale=64), "downscale is 64"),
        (lambda: MTPooling(MotionPathway(32), directions=1), "directions is 1"),
        (lambda: LocalContrast(0), "width is 0"),
    ],
)
def test_bad_options_are_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
