"""Motion energy against filters written out, and gratings whose direction, speed and place are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge import models, neuro
from cerebridge.models.features import MotionBank

SIZE, RATE = 32, 20


def drifting(direction, frequency=4, hertz=2.0, frames=40, rate=RATE, size=SIZE, phase=0.0, amplitude=0.4):
    """A grating that moves; directions are counter-clockwise from rightwards, frequencies cycles a picture."""
    angle = np.deg2rad(direction)
    at = (np.arange(size) + 0.5) / size - 0.5
    along = at[None] * np.cos(angle) - at[:, None] * np.sin(angle)
    time = np.arange(frames)[:, None, None] / rate
    return 0.5 + amplitude * np.cos(2 * np.pi * (frequency * along - hertz * time) + phase)


@pytest.fixture(scope="module")
def bank():
    return MotionBank(RATE, frequencies=[0, 2, 4], temporal_frequencies=[0, 2, 4], size=SIZE)


def energy_of(bank, film):
    return models.features.motion_energy(film, RATE, bank=bank)


def cells(units, **labels):
    return np.flatnonzero(np.all([units[name] == value for name, value in labels.items()], axis=0))


def test_responses_are_those_of_filters_written_out():
    bank = MotionBank(RATE, frequencies=[4], temporal_frequencies=[3], directions=2, size=16, window=0.3)
    film = np.random.default_rng(0).random((12, 16, 16))
    ours = bank(torch.from_numpy(film).float()[None])[0].numpy()
    assert bank.frames == 7 and ours.shape == (6, 2 * 4)
    at, width = (np.arange(16) + 0.5) / 16, 0.15
    time = (np.arange(7) - 3) / RATE
    for row in range(2):
        for column in range(2):
            y, x = at[:, None] - (row + 0.5) / 2, at[None] - (column + 0.5) / 2
            space = np.exp(-(x**2 + y**2) / (2 * width**2))
            space /= space.sum()
            # horizontal bars that move down (270 degrees), which is what increasing rows are
            wave = np.exp(2j * np.pi * 4 * y) * np.ones_like(x)
            wave = 2 * space * (wave - (space * wave).sum())
            window = np.exp(-(time**2) / (2 * 0.09**2))
            window /= window.sum()
            for direction, sign in ((270, 1), (90, -1)):
                beat = np.exp(-2j * np.pi * sign * 3 * time)
                beat = window * (beat - (window * beat).sum())
                expected = np.abs([np.einsum("tyx,yx,t->", film[k : k + 7], wave, beat) for k in range(6)])
                (unit,) = cells(bank.units, direction=direction, row=row, column=column)
                np.testing.assert_allclose(ours[:, unit], expected, atol=1e-6)


@pytest.mark.parametrize("direction", range(0, 360, 45))
@pytest.mark.parametrize("hertz", [2, 4])
def test_a_drifting_grating_drives_its_own_channel_most(bank, direction, hertz):
    found = energy_of(bank, drifting(direction, hertz=hertz))
    neuro.validate(found)
    gratings = np.flatnonzero(bank.units["frequency"] > 0)
    best = found.isel(neuroid=int(gratings[found.values[20, gratings].argmax()]))
    assert [float(best[k]) for k in ("direction", "temporal_frequency", "frequency")] == [direction, hertz, 4]
    assert found.values[20, gratings].max() == pytest.approx(0.4, rel=0.1)
    opposite = cells(bank.units, direction=(direction + 180) % 360, temporal_frequency=hertz, frequency=4)
    same = cells(bank.units, direction=direction, temporal_frequency=hertz, frequency=4)
    index = found.values[10:30][:, same].mean(), found.values[10:30][:, opposite].mean()
    assert (index[0] - index[1]) / (index[0] + index[1]) > 0.8


def test_energy_forgets_the_phase(bank):
    (unit,) = cells(bank.units, direction=0, temporal_frequency=2, frequency=4, row=1, column=1)[:1]
    phases = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    middle = [energy_of(bank, drifting(0, phase=phase)).values[20, unit] for phase in phases]
    assert np.std(middle) / np.mean(middle) < 0.01


def test_counterphase_flicker_has_no_direction(bank):
    film = (drifting(45) + drifting(225)) / 2
    found = energy_of(bank, film).values
    same, opposite = (cells(bank.units, direction=d, temporal_frequency=2) for d in (45, 225))
    np.testing.assert_allclose(found[:, same], found[:, opposite], atol=1e-5)
    assert found[20, same].max() > 0.1


def test_what_stands_still_moves_nothing(bank):
    still = np.repeat(drifting(90, hertz=0)[:1], 30, axis=0)
    found = energy_of(bank, still).values
    moving = np.flatnonzero(bank.units["temporal_frequency"] > 0)
    assert np.abs(found[:, moving]).max() < 1e-6
    assert found[:, cells(bank.units, temporal_frequency=0, frequency=4)].max() > 0.3


def test_a_film_that_runs_backwards_moves_the_other_way(bank):
    film = drifting(135)
    forward, backward = (energy_of(bank, f).values for f in (film, film[::-1].copy()))
    for direction in (0, 45, 135, 315):
        one, other = (cells(bank.units, direction=d) for d in (direction, (direction + 180) % 360))
        np.testing.assert_allclose(forward[:, one], backward[::-1][:, other], atol=1e-5)


def test_flicker_and_mean_lightness_are_those_of_no_frequency(bank):
    time = np.arange(40)[:, None, None] / RATE
    film = np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * 2 * time), (40, SIZE, SIZE))
    found = energy_of(bank, film).values
    (flicker,) = cells(bank.units, frequency=0, temporal_frequency=2)
    assert found[20, flicker] == pytest.approx(0.2, rel=0.05)
    (mean,) = cells(bank.units, frequency=0, temporal_frequency=0)
    assert found[:, mean].mean() == pytest.approx(0.5, rel=0.05)
    assert np.abs(found[:, bank.units["frequency"] > 0]).max() < 1e-5


@settings(max_examples=5, deadline=None)
@given(memory=st.integers(2_000_000, 20_000_000), frames=st.integers(1, 60))
def test_stretches_of_frames_change_nothing(bank, memory, frames):
    film = np.random.default_rng(0).random((frames, 40, 24))
    whole, cut = (
        models.features.motion_energy(film, RATE, bank=bank, memory=m).values for m in ("2GiB", memory)
    )
    assert len(whole) == frames
    np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_bins_are_means_of_frames(bank):
    film = drifting(0, frames=50)
    frames, bins = energy_of(bank, film), models.features.motion_energy(film, RATE, bank=bank, sfreq=0.5)
    assert bins["time_bin_end"].values.tolist() == [2.0, 4.0]
    np.testing.assert_allclose(bins.values[0], frames.values[:40].mean(0), atol=1e-6)
    np.testing.assert_allclose(bins.values[1], frames.values[40:].mean(0), atol=1e-6)


def test_films_of_a_set_have_labels_and_equal_those_alone(bank):
    colours = (255 * np.repeat(drifting(0, frames=12)[..., None], 3, -1)).astype(np.uint8)
    stimuli = models.StimulusSet.from_videos(
        [models.Clip(colours, RATE), models.Clip(colours[:5], RATE)], stimulus_id=["long", "short"]
    )
    found = models.features.motion_energy(stimuli, bank=bank)
    assert found["stimulus_id"].values.tolist() == ["long"] * 12 + ["short"] * 5
    assert found["time_bin_start"].values[12] == 0
    alone = models.features.motion_energy(colours[:5], RATE, bank=bank)
    np.testing.assert_allclose(found.values[12:], alone.values, atol=1e-6)
    facts = json.loads(found.attrs["provenance"])
    assert facts["weights"] == models.fingerprint(bank) and facts["stimuli"] == stimuli.hash


def test_the_default_bank_is_that_of_the_literature():
    bank = MotionBank(15)
    counts = bank.units.groupby("frequency").size().to_dict()
    # four still and eight moving filters for each of two temporal frequencies, at each place
    assert counts == {0.0: 3, 2.0: 20, 4.0: 80, 8.0: 320, 16.0: 1280, 32.0: 4500}
    assert bank.frames == 11
    assert bank.units["neuroid_id"].is_unique


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.motion_energy(np.zeros((5, 8, 8))), "have no rate"),
        (lambda f: f.motion_energy(np.zeros((5, 8)), 10), "give frames × height × width"),
        (lambda f: f.motion_energy(np.full((5, 8, 8), 2.0), 10), "between 0 .black. and 1"),
        (lambda f: f.motion_energy(np.full((5, 8, 8), np.nan), 10), "between 0 .black. and 1"),
        (lambda f: f.motion_energy(np.zeros((5, 8, 8)), 10, bank=f.MotionBank(20)), "for 20 frames a second"),
        (lambda f: f.motion_energy(np.zeros((5, 8, 8)), 10, sfreq=20), "sfreq is 20 Hz"),
        (lambda f: f.motion_energy(np.zeros((5, 8, 8)), 10, memory=1000), "one response needs about"),
        (
            lambda f: f.motion_energy(models.StimulusSet.from_arrays(np.zeros((1, 8, 8, 3), np.uint8))),
            "'0000' is no film",
        ),
        (lambda f: f.MotionBank(0), "rate is 0"),
        (lambda f: f.MotionBank(10, frequencies=[64]), "a quarter of size=128"),
        (lambda f: f.MotionBank(10, temporal_frequencies=[6]), "0 to half of the 10 frames"),
        (lambda f: f.MotionBank(10, directions=3), "give an even number"),
        (lambda f: f.MotionBank(10, compression="cube"), "compression is 'cube'"),
    ],
)
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call(models.features)


def test_films_of_several_rates_need_one():
    film = np.zeros((8, 16, 16, 3), np.uint8)
    stimuli = models.StimulusSet.from_videos([models.Clip(film, 10), models.Clip(film, 20)])
    with pytest.raises(ValueError, match="several rates; give sfreq="):
        models.features.motion_energy(stimuli)
