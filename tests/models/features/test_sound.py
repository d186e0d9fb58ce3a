"""Sounds whose bands, envelopes and onsets are known; rates, clips and sets that change nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge import models, neuro
from cerebridge.models.features.courses import average_bins, bin_edges
from cerebridge.models.features.sound import _centres

RATE = 16000


def tone(frequency, seconds=1.0, amplitude=1.0):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(int(RATE * seconds)) / RATE)


@pytest.mark.parametrize("scale", ["erb", "mel"])
@pytest.mark.parametrize("frequency", [200, 500, 1000, 3000])
def test_a_pure_tone_lies_in_its_band(scale, frequency):
    found = models.features.spectrogram(
        tone(frequency), RATE, scale=scale, bands=24, lowest=100, highest=6000, window=0.05
    )
    neuro.validate(found)
    assert found.shape == (100, 24)
    assert found.dtype == np.float32
    centres = found["frequency"].values
    steady = found.values[20:80].mean(0)
    assert steady.argmax() == np.abs(np.log(centres / frequency)).argmin()
    octaves = np.abs(np.log2(centres / frequency))
    assert steady.max() - steady[octaves > 1.5].max() > 20


def test_levels_are_decibels():
    loud, quiet = (
        models.features.spectrogram(tone(1000, amplitude=a), RATE, bands=1, lowest=1000, highest=1000)
        for a in (1.0, 0.1)
    )
    assert loud.values[50, 0] == pytest.approx(80 - 10 * np.log10(2), abs=0.05)
    assert loud.values[50, 0] - quiet.values[50, 0] == pytest.approx(20, abs=0.01)
    silence = models.features.spectrogram(np.zeros(RATE), RATE, bands=4, highest=4000)
    assert (silence.values == 0).all()


def test_the_mel_scale_keeps_the_power_of_noise():
    noise = np.random.default_rng(0).standard_normal(4 * RATE)
    found = models.features.spectrogram(
        noise, RATE, scale="mel", bands=40, lowest=60, highest=7900, compression="none"
    )
    # triangles that sum to 1 between their first and last centre
    share = (7900 - 60) / (RATE / 2)
    assert (found.values**2 / 2).sum(1).mean() == pytest.approx(share, rel=0.03)


@pytest.mark.parametrize("bands", [0, 12])
def test_the_envelope_of_a_modulated_tone_is_its_modulation(bands):
    time = np.arange(2 * RATE) / RATE
    modulation = 1 + 0.8 * np.sin(2 * np.pi * 4 * time)
    carrier = (
        np.random.default_rng(0).standard_normal(len(time)) if bands else np.sin(2 * np.pi * 1000 * time)
    )
    found = models.features.envelope(
        modulation * carrier, RATE, sfreq=64, bands=bands, exponent=1, highest=6000
    )
    truth = 1 + 0.8 * np.sin(2 * np.pi * 4 * (np.arange(128) + 0.5) / 64)
    assert found.shape == (128, 1)
    assert np.corrcoef(found.values[:, 0], truth)[0, 1] > (0.95 if bands else 0.999)
    flat = models.features.envelope(carrier, RATE, sfreq=64, bands=bands, exponent=1, highest=6000)
    assert abs(np.corrcoef(flat.values[5:-5, 0], truth[5:-5])[0, 1]) < 0.3


def test_the_broadband_envelope_is_that_of_scipy():
    sound = np.random.default_rng(0).standard_normal(2**14)
    found = models.features.envelope(sound, RATE, sfreq=50, exponent=0.6)
    magnitude = np.abs(scipy.signal.hilbert(sound)) ** 0.6
    assert len(found) == 52
    np.testing.assert_allclose(
        found.values[2:48, 0], magnitude[640:15360].reshape(46, 320).mean(1), rtol=2e-3
    )


def test_onsets_of_clicks_are_at_their_times():
    clicks = np.zeros(3 * RATE)
    at = np.array([0.255, 0.805, 1.455, 2.755])
    clicks[(at * RATE).astype(int)] = 1
    for course in (
        models.features.envelope(clicks, RATE),
        models.features.spectrogram(clicks, RATE, bands=8, lowest=1000, highest=7000),
    ):
        rises = models.features.onsets(course)
        best = np.sort(rises.values.sum(1).argsort()[-4:])
        np.testing.assert_array_equal(best, (at * 100).astype(int))
        assert rises.attrs["units"].endswith("/s")


def test_what_falls_is_no_onset_and_a_rise_has_its_slope():
    course = models.features.envelope(np.zeros(100) + 1e-9, 100, sfreq=10)
    rise = np.array([0, 1, 3, 3, 2, 0, 0, 1, 0, 0], np.float32)[:, None]
    np.testing.assert_array_equal(
        models.features.onsets(course.copy(data=rise)).values[:, 0], [0, 10, 20, 0, 0, 0, 0, 10, 0, 0]
    )


def test_a_set_of_sounds_is_the_sounds_one_after_the_other():
    sounds = [tone(500, 0.5), tone(2000, 0.25)]
    stimuli = models.StimulusSet.from_sounds(
        [models.Clip(sound.astype(np.float32), RATE) for sound in sounds], stimulus_id=["low", "high"]
    )
    together = models.features.spectrogram(stimuli, bands=8, highest=4000)
    assert together["stimulus_id"].values.tolist() == ["low"] * 50 + ["high"] * 25
    assert together["time_bin_start"].values[50] == 0
    alone = [models.features.spectrogram(sound, RATE, bands=8, highest=4000).values for sound in sounds]
    np.testing.assert_allclose(together.values, np.concatenate(alone), atol=1e-3)
    rises = models.features.onsets(together)
    np.testing.assert_allclose(rises.values[50], 100 * alone[1][0], rtol=1e-4)


def test_channels_are_averaged():
    stereo = np.stack([tone(300), tone(700)], 1)
    both = models.features.envelope(stereo, RATE)
    np.testing.assert_allclose(both.values, models.features.envelope(stereo.mean(1), RATE).values, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(length=st.integers(400, 3000), sfreq=st.sampled_from([10.0, 33.3, 64.0, 100.0]))
def test_bins_cover_each_sample_once(length, sfreq):
    values = np.random.default_rng(0).random((length, 1))
    edges = bin_edges(length, 1000, sfreq)
    found = average_bins(values, 1000, sfreq)
    np.testing.assert_allclose((found[:, 0] * np.diff(edges)).sum(), values.sum(), rtol=1e-5)
    first = edges[:-1] / 1000 * sfreq
    assert ((first > np.arange(len(found)) - 1e-3) & (first < np.arange(len(found)) + sfreq / 1000)).all()
    assert len(found) == int(np.ceil((length - 1) / 1000 * sfreq + 1e-6))


def test_bands_are_evenly_spaced_on_their_scale():
    erb = 21.4 * np.log10(1 + 0.00437 * _centres(10, 100, 5000, "erb"))
    np.testing.assert_allclose(np.diff(erb, 2), 0, atol=1e-9)
    mel = _centres(10, 100, 5000, "mel")
    np.testing.assert_allclose([mel[0], mel[-1]], [100, 5000])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.spectrogram(tone(5)), "have no rate; give rate= in Hz"),
        (lambda f: f.envelope(models.Clip(np.ones(9, np.float32), 9), 9), "bring their own rate"),
        (
            lambda f: f.spectrogram(tone(5), 8000),
            "needs more than 16000 samples a second, but the sound has 8000",
        ),
        (lambda f: f.envelope(tone(5), 8000, bands=4), "lower highest="),
        (lambda f: f.spectrogram(tone(5), RATE, bands=0), "0 bands from 80 to 8000 Hz"),
        (lambda f: f.spectrogram(tone(5), RATE, scale="bark"), "scale is 'bark'"),
        (lambda f: f.spectrogram(tone(5), RATE, compression="cube"), "compression is 'cube'"),
        (lambda f: f.spectrogram(tone(5), RATE, scale="mel", window=0), "window is 0 s"),
        (lambda f: f.spectrogram(tone(5), RATE, scale="mel", bands=200), "do not resolve 200 bands"),
        (lambda f: f.envelope(tone(5), RATE, sfreq=0), "sfreq is 0 Hz"),
        (lambda f: f.envelope(tone(5), RATE, exponent=0), "exponent is 0"),
        (lambda f: f.onsets(neuro.simulate(n_stimuli=4, n_units=3, random_state=0)), "time_bin × neuroid"),
        (
            lambda f: f.envelope(models.StimulusSet.from_arrays(np.zeros((1, 8, 8, 3), np.uint8))),
            "'0000' is no sound but a ndarray; build it with StimulusSet.from_sounds",
        ),
    ],
)
def test_bad_input_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call(models.features)
