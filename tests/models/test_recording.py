"""Sounds and films over time: rows are what the network computes, labelled by what it saw."""

from __future__ import annotations

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import resample_poly
from torch import nn

from cerebridge import models
from cerebridge.models.compat import mend_torchvision
from cerebridge.models.segments import bring_to_rate

RATE = 1000


def noise(n, seed=0):
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def film(n, seed=0, size=12):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def one_channel(sound):
    return sound.values[None]


@pytest.fixture(scope="module")
def convolutions():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(1, 4, 10, stride=5), nn.ReLU(), nn.Conv1d(4, 6, 3, stride=2, padding=1), nn.ReLU()
    ).eval()


@pytest.fixture(scope="module")
def sounds():
    return models.StimulusSet.from_sounds(
        [noise(700), noise(1234, 1)], RATE, ["a", "b"], {"speaker": ["ada", "bob"]}
    )


def test_frames_of_a_sound_are_those_of_the_network_with_their_receptive_windows(convolutions, sounds):
    result = models.extract_over_time(convolutions, sounds, ["2", "3"], preprocess=one_channel)
    with torch.no_grad():
        hidden = [convolutions[:3](torch.from_numpy(sounds[k].values)[None, None])[0].T for k in range(2)]
    expected = torch.cat(hidden)
    np.testing.assert_allclose(result.values[:, :6], expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(result.values[:, 6:], expected.relu().numpy(), atol=1e-6)
    assert result["stimulus_id"].values.tolist() == ["a"] * len(hidden[0]) + ["b"] * len(hidden[1])
    assert result["run"].values[[0, -1]].tolist() == [0, 1]
    assert result["speaker"].values[[0, -1]].tolist() == ["ada", "bob"]
    # by hand: stride 5 · 2, window 10 + 2 · 5, one frame of the first layer (5 samples) before the beginning
    frames = np.arange(len(hidden[0]))
    start, end = -5 + 10 * frames, 15 + 10 * frames
    np.testing.assert_allclose(result["time_bin_start"].values[frames], np.clip(start, 0, 700) / RATE)
    np.testing.assert_allclose(result["time_bin_end"].values[frames], np.clip(end, 0, 700) / RATE)
    assert result.attrs["sfreq"] == 100
    assert json.loads(result.attrs["provenance"])["sees"]["2"] == "0.02 s from -0.005 s"


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(400, 320, 1), (7, 1, 3), (16, 16, 1), (3, 4, 2)])
def test_receptive_windows_are_measured_exactly(kernel, stride, dilation):
    torch.manual_seed(1)
    net = nn.Conv1d(1, 3, kernel, stride=stride, dilation=dilation)
    stimuli = models.StimulusSet.from_sounds([noise(3000)], RATE)
    result = models.extract_over_time(nn.Sequential(net), stimuli, ["0"], preprocess=one_channel)
    seen = dilation * (kernel - 1) + 1
    starts = np.arange(result.sizes["time_bin"]) * stride
    np.testing.assert_allclose(result["time_bin_start"].values * RATE, starts, atol=1e-6)
    np.testing.assert_allclose(result["time_bin_end"].values * RATE, starts + seen, atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_receptive_windows_are_exact_behind_few_rectified_units(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv1d(1, 4, 20, stride=10), nn.ReLU()).eval()
    net[0].bias.data.sub_(0.3)  # silent for soft noise
    stimuli = models.StimulusSet.from_sounds([noise(1000)], RATE)
    result = models.extract_over_time(net, stimuli, ["1"], preprocess=one_channel)
    starts = np.arange(99) * 0.01
    np.testing.assert_allclose(result["time_bin_start"].values, starts)
    np.testing.assert_allclose(result["time_bin_end"].values, starts + 0.02)


def test_layers_that_never_answer_are_refused():
    net = nn.Sequential(nn.Conv1d(1, 4, 20, stride=10), nn.ReLU()).eval()
    net[0].bias.data.fill_(-100)
    stimuli = models.StimulusSet.from_sounds([noise(1000)], RATE)
    with pytest.raises(ValueError, match="the layer '1' gives the same for any noise"):
        models.extract_over_time(net, stimuli, ["1"], preprocess=one_channel)


def test_a_network_behind_attention_sees_all_and_its_frames_are_placed_evenly():
    mend_torchvision()
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.Wav2Vec2Config(
        **small, conv_dim=(8, 8), conv_stride=(5, 4), conv_kernel=(10, 4), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, feat_extract_norm="layer", do_stable_layer_norm=True,
    )  # fmt: skip
    torch.manual_seed(0)
    net = transformers.Wav2Vec2Model(config).eval()
    stimuli = models.StimulusSet.from_sounds([noise(6000), noise(3210, 1)], 8000)
    layers = ["encoder.layers.0", "encoder.layers.1"]
    result = models.extract_over_time(net, stimuli, layers)
    with torch.no_grad():
        states = net(torch.from_numpy(stimuli[1].values)[None], output_hidden_states=True).hidden_states
    own = result.isel(time_bin=np.flatnonzero(result["run"] == 1))
    np.testing.assert_allclose(own.values[:, :16], states[1][0].numpy(), atol=1e-5)
    assert json.loads(result.attrs["provenance"])["sees"][layers[0]] == "all"
    assert result.attrs["sfreq"] == 400
    middles = (own["time_bin_start"] + own["time_bin_end"]).values / 2
    np.testing.assert_allclose(np.diff(middles), 20 / 8000)
    # the convolutions see 10 + 3 · 5 samples every 20: the first frame's middle is near 12.5 samples
    assert abs(middles[0] * 8000 - 12.5) < 5
    local = models.extract_over_time(net, stimuli, ["feature_extractor.conv_layers.1"])
    np.testing.assert_allclose(local["time_bin_end"].values[:3] * 8000, [25, 45, 65])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("aggregate", ["mean", "last"])
def test_windows_of_sounds_are_runs_of_the_network_on_padded_stretches(convolutions, causal, aggregate):
    sound = noise(950)
    stimuli = models.StimulusSet.from_sounds([sound], RATE)
    result = models.extract_over_time(
        convolutions, stimuli, ["3"], window=0.3, hop=0.1, causal=causal, aggregate=aggregate,
        preprocess=one_channel, batch_size=3,
    )  # fmt: skip
    assert result.sizes["time_bin"] == 10
    before = 200 if causal else 100
    padded = np.pad(sound, (before, 600))
    for row in range(10):
        stretch = torch.from_numpy(padded[100 * row : 100 * row + 300])[None, None]
        with torch.no_grad():
            frames = convolutions(stretch)[0]
        expected = frames.mean(1) if aggregate == "mean" else frames[:, -1]
        np.testing.assert_allclose(result.values[row], expected.numpy(), atol=1e-6)
        start, end = 100 * row - before, 100 * row - before + 300
        assert result["time_bin_start"].values[row] == pytest.approx(max(start, 0) / RATE)
        assert result["time_bin_end"].values[row] == pytest.approx(min(end, 950) / RATE)
    assert result.attrs["sfreq"] == pytest.approx(10)


def test_causal_windows_see_nothing_to_come(convolutions):
    sound, other = noise(1000), noise(1000)
    other[600:] = 5
    results = [
        models.extract_over_time(
            convolutions, models.StimulusSet.from_sounds([each], RATE), ["3"], window=0.3, hop=0.1, causal=causal,
            preprocess=one_channel,
        ).values
        for causal in (True, False)
        for each in (sound, other)
    ]  # fmt: skip
    np.testing.assert_allclose(results[0][:6], results[1][:6], atol=1e-6)
    assert np.abs(results[2][5] - results[3][5]).max() > 0.1


def test_spectrograms_are_a_matter_of_preprocessing():
    def spectrogram(sound):
        assert sound.rate == RATE
        samples = torch.from_numpy(sound.values)
        return torch.stft(
            samples, 32, 8, window=torch.hann_window(32), return_complex=True, center=False
        ).abs()

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(17, 5, 3, stride=2)).eval()
    stimuli = models.StimulusSet.from_sounds([noise(900)], RATE)
    result = models.extract_over_time(net, stimuli, ["0"], preprocess=spectrogram)
    with torch.no_grad():
        expected = net(spectrogram(stimuli[0])[None])[0].T
    np.testing.assert_allclose(result.values, expected.numpy(), atol=1e-5)
    assert result.attrs["sfreq"] == pytest.approx(RATE / 16)
    starts = result["time_bin_start"].values * RATE
    assert np.diff(starts)[1:-1] == pytest.approx(16)
    # a Hann window is zero at its first sample, and next to nothing beside it
    assert 40 <= (result["time_bin_end"].values[1] * RATE - starts[1]) <= 48


def test_sounds_are_resampled_as_by_scipy_and_channels_averaged(convolutions):
    stereo = noise(4410).reshape(-1, 2)
    stimuli = models.StimulusSet.from_sounds([stereo], 441)
    result = models.extract_over_time(convolutions, stimuli, ["3"], rate=160, preprocess=one_channel)
    resampled = resample_poly(stereo.mean(1).astype(float), 160, 441).astype(np.float32)
    with torch.no_grad():
        expected = convolutions(torch.from_numpy(resampled)[None, None])[0].T
    np.testing.assert_allclose(result.values, expected.numpy(), atol=1e-5)
    assert result.attrs["sfreq"] == 16
    assert json.loads(result.attrs["provenance"])["rate"] == 160


def test_films_pass_image_networks_frame_by_frame():
    net = models.load("tiny", weights="random")
    stimuli = models.StimulusSet.from_videos([film(9), film(5, 1)], rate=10)
    result = models.extract_over_time(net, stimuli, ["conv2"], pool="global", batch_size=4)
    images = models.StimulusSet.from_arrays(np.concatenate([film(9), film(5, 1)]))
    expected = models.extract(net, images, ["conv2"], pool="global")
    np.testing.assert_allclose(result.values, expected.values, atol=1e-6)
    np.testing.assert_allclose(result["time_bin_start"].values[:9], np.arange(9) / 10)
    np.testing.assert_allclose(result["time_bin_end"].values[9:], np.arange(1, 6) / 10)
    half = models.extract_over_time(net, stimuli, ["conv2"], pool="global", rate=5)
    np.testing.assert_allclose(half.values[:4], expected.values[1:9:2], atol=1e-6)


@pytest.mark.parametrize("frames_first", [False, True])
def test_films_pass_networks_of_stretches(frames_first):
    class Watcher(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv3d(3, 4, (3, 5, 5))

        def forward(self, films):
            return self.conv(films.transpose(1, 2) if frames_first else films)

    def prepare(image):
        assert isinstance(image, Image.Image)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255

    torch.manual_seed(0)
    net = Watcher().eval()
    stimuli = models.StimulusSet.from_videos([film(10)], rate=10)
    result = models.extract_over_time(
        net, stimuli, ["conv"], window=0.5, hop=0.2, preprocess=prepare, frames_first=frames_first, pool="global"
    )  # fmt: skip
    frames = torch.from_numpy(film(10)).permute(3, 0, 1, 2) / 255
    for row, end in enumerate([2, 4, 6, 8, 10]):
        stretch = frames[:, np.clip(np.arange(end - 5, end), 0, 9)]
        with torch.no_grad():
            expected = net.conv(stretch[None])[0].mean((1, 2, 3))
        np.testing.assert_allclose(result.values[row], expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(result["time_bin_end"].values, [0.2, 0.4, 0.6, 0.8, 1.0])


def test_clips_of_one_run_lie_on_its_clock(convolutions):
    table = {"run": [1, 1, 2], "onset": [2.0, 10.0, 0.5]}
    stimuli = models.StimulusSet.from_sounds([noise(500, k) for k in range(3)], RATE, table=table)
    options = {"window": 0.1, "preprocess": one_channel}
    result = models.extract_over_time(convolutions, stimuli, ["3"], **options)
    assert result["time_bin_start"].values[::5].tolist() == [2.0, 10.0, 0.5]
    assert result["run"].values.tolist() == [1] * 10 + [2] * 5
    at = result.isel(time_bin=slice(10))
    onto = models.resample_in_time(at, [[2.0, 2.2], [10.0, 10.5]], kernel="mean")
    np.testing.assert_allclose(onto.values[1], result.values[5:10].mean(0), rtol=1e-5)
    stimuli.table.pop("onset")
    with pytest.raises(ValueError, match="run 1 has several clips; give their 'onset'"):
        models.extract_over_time(convolutions, stimuli, ["3"], **options)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_batches_change_nothing(convolutions, sounds, batch_size):
    options = {"window": 0.2, "hop": 0.05, "preprocess": one_channel}
    whole = models.extract_over_time(convolutions, sounds, ["3"], **options)
    parts = models.extract_over_time(convolutions, sounds, ["3"], **options, batch_size=batch_size)
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (["3"], {"hop": 0.1}, "hop= was given without window="),
        (["3"], {"window": -1}, "window is -1; give a positive number of seconds"),
        (["3"], {"rate": 0}, "rate is 0; give a positive number"),
        (["3"], {"aggregate": "max", "window": 1.0}, "aggregate is 'max'"),
        (["0", "2"], {}, "the layers have different numbers of frames .* give window= and hop="),
        (["9"], {}, "no layer '9'"),
        (["3"], {"window": 0.005}, "the network fails on the sound 'a'"),
        (["3"], {"preprocess": lambda sound: 1 / 0}, "the preprocessing failed: division by zero"),
        (["3"], {"memory": 500}, "the activations take .* more than memory="),
    ],
)
def test_bad_input(convolutions, sounds, layers, options, message):
    with pytest.raises(ValueError, match=message):
        models.extract_over_time(convolutions, sounds, layers, **{"preprocess": one_channel, **options})


def test_other_bad_stimuli(convolutions):
    images = models.StimulusSet.from_arrays(film(2))
    with pytest.raises(ValueError, match="the stimuli are images, which have no course in time"):
        models.extract_over_time(convolutions, images, ["3"])
    clips = [models.Clip(noise(500), 1000), models.Clip(noise(500), 800)]
    mixed = models.StimulusSet.from_sounds(clips, stimulus_id=["x", "y"])
    with pytest.raises(ValueError, match=r"the sound 'y' has 800 Hz, the first one 1000 Hz; give the rate="):
        models.extract_over_time(convolutions, mixed, ["3"], preprocess=one_channel)
    pooled = nn.Sequential(nn.Conv1d(1, 2, 5), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    with pytest.raises(ValueError, match="the network gives no frames over time .*'2' has no frames"):
        models.extract_over_time(pooled, mixed[[0]], ["2"], preprocess=one_channel)
    broken = nn.Sequential(nn.Conv1d(1, 2, 5))
    nn.init.constant_(broken[0].bias, float("nan"))
    with pytest.raises(ValueError, match="the layer '0' gives NaN or infinite values for stimulus 'x'"):
        models.extract_over_time(broken, mixed[[0]], ["0"], window=0.1, preprocess=one_channel)


def test_training_mode_is_said(sounds):
    net = nn.Sequential(nn.Conv1d(1, 4, 10, stride=5), nn.BatchNorm1d(4))
    with pytest.warns(UserWarning, match=r"in training mode .*, in which '1' behaves otherwise"):
        warned = models.extract_over_time(net, sounds, ["1"], preprocess=one_channel)
    quiet = models.extract_over_time(net.eval(), sounds, ["1"], preprocess=one_channel)
    np.testing.assert_array_equal(warned.values, quiet.values)


def test_results_that_are_too_large_are_refused_without_naming_a_store(convolutions, sounds):
    with pytest.raises(ValueError, match=r"more than memory=1000 B; take fewer clips"):
        models.extract_over_time(convolutions, sounds, ["2"], preprocess=one_channel, memory=1000)


@pytest.mark.parametrize(
    ("given", "wanted", "step"), [(30, 15, 2), (60, 10, 6), (25, 12.5, 2), (1000 / 40, 5, 5)]
)
def test_every_so_many_frames_are_taken_without_jitter(given, wanted, step):
    frames = np.arange(240, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    kept = bring_to_rate(models.Clip(frames, given), wanted).values[:, 0, 0, 0]
    assert set(np.diff(kept.astype(int)).tolist()) == {step}


def test_what_was_heard_last_does_not_know_the_future(convolutions):
    sound, change = noise(2000), 1.2
    other = sound.copy()
    other[round(change * RATE) :] = noise(800, 7)
    points = np.arange(0.25, 1.9, 0.05)
    made = []
    for moment in ("offset", "middle"):
        frames = [
            models.extract_over_time(
                convolutions,
                models.StimulusSet.from_sounds([each], RATE),
                ["2"],
                window=0.4,
                hop=0.05,
                preprocess=one_channel,
            )
            for each in (sound, other)
        ]
        one, two = (
            models.resample_in_time(each, points, kernel="last", moment=moment, at="start") for each in frames
        )
        known = json.loads(one.attrs["provenance"])["resampled"]["causal"]
        made.append((known, bool(np.array_equal(one.values[points <= change], two.values[points <= change]))))
        assert not np.allclose(one.values[points > change + 0.1], two.values[points > change + 0.1])
    assert made == [(True, True), (False, False)]


def test_steps_of_windows_are_not_pooled_as_places(sounds):
    net = nn.GRU(1, 3, batch_first=True).eval()
    with pytest.raises(ValueError, match=r"'rnn:steps' has heads or time steps"):
        models.extract_over_time(
            nn.Sequential(OrderedDict(rnn=net)), sounds, ["rnn:steps"], pool="global", window=0.1
        )
