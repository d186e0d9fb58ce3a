"""Attention decoding: known talkers, chance, every method, real listening, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, lfilter, sosfiltfilt

from cerebridge import encoding
from cerebridge.encoding.attention import _bits, _correlations, decode_attention
from cerebridge.encoding.trf import TRF

SFREQ = 64.0


def listening(trials: int = 4, seconds: int = 60, noise: float = 2.0, seed: int = 0):
    """16 channels follow two talkers through their own responses, the attended twice as much, in correlated noise."""
    rng = np.random.default_rng(seed)
    n = round(seconds * SFREQ)
    talkers = lfilter([1], [1, -0.8], rng.standard_normal((2, trials, n)))
    talkers /= talkers.std()
    lags = np.arange(26) / SFREQ
    shape = np.exp(-0.5 * ((lags[:, None] - rng.uniform(0.05, 0.25, 16)) / 0.03) ** 2)
    kernels = shape * rng.choice([-1, 1], 16)
    brain = lfilter([1], [1, -0.9], rng.standard_normal((trials, n, 16)), axis=1)
    brain *= noise / brain.std()
    for gain, talker in zip((1.0, 0.5), talkers, strict=True):
        for k in range(trials):
            for c in range(16):
                brain[k, :, c] += gain * np.convolve(talker[k], kernels[:, c])[:n]
    return brain, talkers[0], talkers[1], kernels


def test_the_responses_are_recovered():
    brain, attended, _, kernels = listening(noise=4.0)
    trf = TRF(0.0, 0.4, SFREQ, penalty="tikhonov", order=2).fit(attended[..., None], brain)
    found = [np.corrcoef(trf.coef_[0, :26, c], kernels[:, c])[0, 1] for c in range(16)]
    assert np.mean(found) > 0.98


@pytest.mark.parametrize("method", ["backward", "forward", "cca"])
def test_the_attended_talker_is_found_and_swapping_talkers_inverts(method):
    brain, attended, unattended, _ = listening(noise=6.0)
    settings = {"sfreq": SFREQ, "method": method, "windows": [1.0, 5.0, 15.0], "n_shifts": 40, "tmax": 0.35}
    found = decode_attention(brain, attended, unattended, **settings)
    accuracy = found.accuracy.values
    assert accuracy[0] > 0.65
    assert accuracy[1] > 0.85
    assert accuracy[2] > 0.95
    assert (found.p.values < 0.05).all()
    assert np.abs(found.chance.values - 0.5).max() < 0.06
    assert (np.diff(found.d_prime.values) > 0).all()
    assert found.n_windows.values.tolist() == [240, 48, 16]
    assert (found.attended > found.unattended).all()
    if method == "backward":
        # a listener of the other talker, whom the models were not trained on
        model = TRF(0.0, 0.35, SFREQ, "backward").fit(brain[1:], attended[1:, :, None])
        heard = model.predict(brain[0])[:, 0]
        r = [np.corrcoef(heard, talker[0])[0, 1] for talker in (attended, unattended)]
        np.testing.assert_allclose([found.attended[0], found.unattended[0]], r, atol=1e-9)


def test_swapping_talkers_inverts_the_decision():
    brain, attended, unattended, _ = listening(noise=6.0)
    settings = {"sfreq": SFREQ, "windows": [2.0], "n_shifts": 1, "alphas": 1e3}
    first = decode_attention(brain, attended, unattended, **settings)
    model_of_attended = first.confidence.values
    brain, attended, unattended, _ = listening(noise=6.0)
    swapped = decode_attention(brain, unattended, attended, **settings)
    assert np.corrcoef(model_of_attended, swapped.confidence.values)[0, 1] < -0.5


def test_without_a_relation_there_is_chance():
    found = []
    for seed in range(5):
        brain, attended, unattended, _ = listening(seed=seed)
        noise = np.random.default_rng(100 + seed).standard_normal(brain.shape)
        settings = {"alphas": 1e2, "windows": [2.0], "n_shifts": 50}
        found.append(decode_attention(noise, attended, unattended, SFREQ, **settings))
    # five times 120 windows
    assert abs(np.mean([each.accuracy for each in found]) - 0.5) < 0.06
    assert abs(np.mean([each.d_prime for each in found])) < 0.15
    assert min(each.p.item() for each in found) > 0.05


def test_every_form_of_trials_gives_the_same():
    brain, attended, unattended, _ = listening(seconds=20)
    settings = {"sfreq": SFREQ, "windows": [5.0], "n_shifts": 5, "alphas": 10.0}
    stack = decode_attention(brain, attended, unattended, **settings)
    listed = decode_attention(list(brain), list(attended), list(unattended), **settings)
    table = decode_attention(
        brain.reshape(-1, 16), attended.ravel(), unattended.ravel(), groups=np.repeat(np.arange(4), brain.shape[1]),
        **settings,
    )  # fmt: skip
    for other in (listed, table):
        np.testing.assert_allclose(other.confidence, stack.confidence, atol=1e-9)
    uneven = decode_attention(
        [*brain[:3], brain[3, :600]], [*attended[:3], attended[3, :600]], [*unattended[:3], unattended[3, :600]],
        **{**settings, "windows": [5.0, 15.0]},
    )  # fmt: skip
    assert uneven.n_windows.values.tolist() == [13, 3]
    assert uneven.decision_trial.values.tolist()[-3:] == [0, 1, 2]
    assert uneven.decision_start.values[:4].tolist() == [0.0, 5.0, 10.0, 15.0]


def test_correlations_and_bits():
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 50, 3)) + 5
    found = _correlations(one, other, [10, 25])
    expected = [np.mean([np.corrcoef(one[:10, c], other[:10, c])[0, 1] for c in range(3)])]
    assert found[0][0] == pytest.approx(expected[0])
    assert len(found[0]) == 5
    assert len(found[1]) == 2
    assert _correlations(np.ones((10, 1)), one[:10, :1], [5])[0].tolist() == [0, 0]
    np.testing.assert_allclose(_bits(np.array([0.3, 0.5, 0.9, 1.0])), [0, 0, 0.531004, 1], atol=1e-6)


def test_wrong_input_is_named():
    brain, attended, unattended, _ = listening(seconds=5)
    with pytest.raises(ValueError, match="method='lstm' is unknown"):
        decode_attention(brain, attended, unattended, SFREQ, method="lstm")
    with pytest.raises(ValueError, match="sfreq is not known"):
        decode_attention(brain, attended, unattended)
    with pytest.raises(ValueError, match="longest trial, 5 s; got \\[1.0, 5.0, 10.0, 30.0\\]"):
        decode_attention(brain, attended, unattended, SFREQ)
    with pytest.raises(ValueError, match="one trial only"):
        decode_attention(brain[:1], attended[:1], unattended[:1], SFREQ, windows=[1.0])
    with pytest.raises(ValueError, match="X has 4 trials and y has 3"):
        decode_attention(brain, attended[:3], unattended, SFREQ, windows=[1.0])
    with pytest.raises(ValueError, match="neural holds"):
        decode_attention(np.where(brain > 3, np.nan, brain), attended, unattended, SFREQ, windows=[1.0])


@pytest.fixture(scope="module")
def cocktail(data):
    """Five trials between two talkers, 1 to 8 Hz, z-scored: EEG and both envelopes."""
    with np.load(data / "aad-cocktail" / "subject1_block1_64hz.npz") as file:
        arrays = [file["eeg"].transpose(0, 2, 1), file["attended"], file["unattended"]]
    band = butter(3, [1, 8], "bandpass", fs=SFREQ, output="sos")
    filtered = [sosfiltfilt(band, array.astype(float), axis=1) for array in arrays]
    return [(x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) for x in filtered]


@pytest.mark.slow
def test_the_talker_that_a_person_listened_to(cocktail):
    found = decode_attention(*cocktail, SFREQ, alphas=1e5, n_shifts=100)
    assert 0.06 < found.attended.mean() < 0.12
    assert -0.02 < found.unattended.mean() < 0.05
    assert (found.attended > found.unattended).all()
    assert found.accuracy.sel(window=5.0) > 0.6
    assert found.p.sel(window=5.0) < 0.05
    assert np.abs(found.chance - 0.5).max() < 0.05


def test_the_envelope_shows_in_the_eeg(cocktail):
    eeg, attended, _ = cocktail
    scores = {}
    for name, envelope in (("attended", attended), ("rotated", np.roll(attended, 1500, axis=1))):
        r = []
        for k in range(5):
            rest = [j for j in range(5) if j != k]
            trf = TRF(-0.1, 0.4, SFREQ, alphas=1e3).fit(envelope[rest][..., None], eeg[rest])
            predicted = trf.predict(envelope[k][:, None])
            r.append([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, eeg[k].T, strict=True)])
        scores[name] = np.mean(r, axis=0)
    best = np.sort(scores["attended"])[-10:].mean()
    assert 0.02 < scores["attended"].mean() < 0.05
    assert 0.05 < best < 0.1
    assert scores["rotated"].mean() < 0.01
    assert encoding.TRF is TRF
