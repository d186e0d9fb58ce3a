"""M/EEG: values, labels and head maps are MNE's own, and go back exactly."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mne.decoding import CSP
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline

from cerebridge import neuro
from cerebridge.neuro import meeg

#: MNE renames its template montages in version 1.14
TEMPLATE = "colin27_1005" if "colin27_1005" in mne.channels.get_builtin_montages() else "standard_1005"
MIXED = {"MEG 0113": "grad", "MEG 0112": "grad", "MEG 0111": "mag", "EEG 001": "eeg", "EOG 061": "eog"}


@pytest.fixture(scope="module")
def evokeds(data: Path) -> list[mne.Evoked]:
    return mne.read_evokeds(data / "meg-evoked-audvis" / "test-ave.fif.gz", verbose="error")


@pytest.fixture(scope="module")
def audvis(data: Path) -> xr.DataArray:
    return meeg.read(data / "meg-evoked-audvis" / "test-ave.fif.gz")


def make_raw(n_times: int = 400, sfreq: float = 100.0, first_samp: int = 0) -> mne.io.RawArray:
    rng = np.random.default_rng(0)
    info = mne.create_info(list(MIXED), sfreq, list(MIXED.values()))
    return mne.io.RawArray(
        rng.standard_normal((len(MIXED), n_times)), info, first_samp=first_samp, verbose="error"
    )


def make_epochs(n: int = 6, tmin: float = -0.1, sfreq: float = 100.0, **kwargs) -> mne.EpochsArray:
    rng = np.random.default_rng(1)
    info = mne.create_info(["Fz", "Cz", "Pz"], sfreq, "eeg")
    events = np.column_stack([100 + 50 * np.arange(n), np.zeros(n, int), 1 + np.arange(n) % 2])
    return mne.EpochsArray(
        rng.standard_normal((n, 3, 20)), info, events, tmin, {"cat": 1, "dog": 2}, verbose="error", **kwargs
    )


# --- averages ---


def test_averages_are_those_of_mne(audvis, evokeds):
    picked = [evoked.copy().pick("data") for evoked in evokeds]
    assert audvis.dims == ("presentation", "neuroid", "time_bin")
    np.testing.assert_array_equal(audvis.values, np.stack([evoked.data for evoked in picked]))
    np.testing.assert_array_equal(audvis.time_bin_start.values, picked[0].times)
    assert audvis.neuroid_id.values.tolist() == picked[0].ch_names
    assert audvis.stimulus_id.values.tolist() == [
        "Left Auditory",
        "Right Auditory",
        "Left visual",
        "Right visual",
    ]
    assert audvis.n_repeats.values.tolist() == [3, 6, 6, 6]
    assert audvis.attrs["sfreq"] == picked[0].info["sfreq"]
    assert "10 channels that were not picked" in audvis.attrs["provenance"]
    assert audvis.attrs["projectors"].split("; ")[0] == "PCA-v1 (applied)"
    assert audvis.attrs["baseline"] == "none"


def test_bins_follow_each_other(audvis):
    np.testing.assert_array_equal(audvis.time_bin_end.values[:-1], audvis.time_bin_start.values[1:])
    assert audvis.time_bin_end.values[-1] > audvis.time_bin_start.values[-1]


def test_sensor_types_and_units(audvis):
    table = pd.DataFrame({"type": audvis.channel_type.values, "units": audvis.units.values})
    assert table.value_counts().to_dict() == {("grad", "T/m"): 204, ("mag", "T"): 102, ("eeg", "V"): 60}
    assert audvis.attrs["units"] == "V, T, T/m"
    assert audvis.attrs["modality"] == "meg+eeg"
    only = meeg.from_evoked(meeg.to_mne(audvis), picks="eeg")
    assert (only.attrs["units"], only.attrs["modality"]) == ("V", "eeg")


def pattern(array: xr.DataArray, kind: str) -> np.ndarray:
    """One row a condition: all channels of a type from 80 to 180 ms, the mean before 0 taken off."""
    array = array.isel(neuroid=np.flatnonzero(array.channel_type.values == kind))
    start = array.time_bin_start.values
    values = array.values - array.values[:, :, start <= 0].mean(2, keepdims=True)
    return values[:, :, (start >= 0.08) & (start <= 0.18)]


def test_left_and_right_evoke_alike_patterns(audvis):
    values = pattern(audvis, "mag")
    r = np.corrcoef(values.reshape(4, -1))
    assert r[0, 1] == pytest.approx(0.54, abs=0.005)
    assert r[2, 3] == pytest.approx(0.50, abs=0.005)
    assert -0.16 < r[:2, 2:].min() < r[:2, 2:].max() < 0.15
    shuffled = values[1][np.random.default_rng(0).permutation(values.shape[1])]
    assert abs(np.corrcoef(values[0].ravel(), shuffled.ravel())[0, 1]) < 0.25


def test_joint_patterns_show_the_largest_unit_alone(audvis):
    joint = np.concatenate([pattern(audvis, kind) for kind in ("mag", "grad", "eeg")], axis=1).reshape(4, -1)
    alone = pattern(audvis, "eeg").reshape(4, -1)
    scale = np.abs(pattern(audvis, "mag")).max() / np.abs(alone).max()
    assert scale < 1e-5
    np.testing.assert_allclose(joint @ joint.T, alone @ alone.T, rtol=1e-6)


def test_averages_that_do_not_fit_are_named(evokeds):
    first, second = evokeds[0].copy(), evokeds[1].copy()
    with pytest.raises(ValueError, match="average 1 has other channels than the first"):
        meeg.from_evoked([first, second.copy().pick("mag")])
    with pytest.raises(ValueError, match="average 1 has other times than the first"):
        meeg.from_evoked([first, second.copy().crop(0, 0.2)])
    second.comment = None
    with pytest.raises(ValueError, match=r"average 1 has no comment; set evoked\.comment"):
        meeg.from_evoked([first, second])
    info = mne.create_info(2, 100.0, "eeg")
    error = mne.EvokedArray(np.eye(2, 4), info, kind="standard_error", comment="b")
    with pytest.raises(ValueError, match="average 1 is of kind 'standard_error', the first 'average'"):
        meeg.from_evoked([mne.EvokedArray(np.eye(2, 4), info, comment="a"), error])
    with pytest.raises(ValueError, match="no averages"):
        meeg.from_evoked([])


def test_what_is_bad_in_one_average_is_bad_in_all(evokeds):
    second = evokeds[1].copy()
    second.info["bads"] = ["MEG 0111"]
    array = meeg.from_evoked([evokeds[0], second], picks="mag")
    assert array.attrs["bads"] == "MEG 0111"
    assert "MEG 0111" not in array.neuroid_id.values
    assert array.sizes["neuroid"] == 101


# --- epochs ---


def test_epochs_are_those_of_mne():
    metadata = pd.DataFrame({"image": [f"{k}.png" for k in range(6)], "size": np.arange(6.0)})
    epochs = make_epochs(metadata=metadata)
    array = meeg.from_epochs(epochs)
    np.testing.assert_array_equal(array.values, epochs.get_data())
    np.testing.assert_array_equal(array.time_bin_start.values, epochs.times)
    assert array.stimulus_id.values.tolist() == ["cat", "dog"] * 3
    assert array.repetition.values.tolist() == [0, 0, 1, 1, 2, 2]
    assert array.event_sample.values.tolist() == [100, 150, 200, 250, 300, 350]
    np.testing.assert_allclose(array.onset.values, array.event_sample.values / 100)
    assert array["size"].values.tolist() == list(range(6))
    assert array.attrs["projectors"] == "none"


@pytest.mark.parametrize(
    ("stimulus_id", "expected"),
    [
        ("event", ["cat", "dog", "cat"]),
        ("image", ["0.png", "1.png", "2.png"]),
        ([7, 8, 9], [7, 8, 9]),
        (None, ["s0", "s1", "s2"]),
    ],
)
def test_what_identifies_the_stimulus(stimulus_id, expected):
    metadata = pd.DataFrame(
        {"image": [f"{k}.png" for k in range(3)], "stimulus_id": [f"s{k}" for k in range(3)]}
    )
    array = meeg.from_epochs(make_epochs(3, metadata=metadata), stimulus_id=stimulus_id)
    assert array.stimulus_id.values.tolist() == expected


def test_stimuli_that_cannot_be_identified():
    with pytest.raises(ValueError, match="stimulus_id='image' is no column of the metadata; there are event"):
        meeg.from_epochs(make_epochs(), stimulus_id="image")
    with pytest.raises(ValueError, match="stimulus_id has 2 entries for 6 epochs"):
        meeg.from_epochs(make_epochs(), stimulus_id=["a", "b"])
    with pytest.raises(ValueError, match="the metadata column 'event' is also a coordinate of the events"):
        meeg.from_epochs(make_epochs(metadata=pd.DataFrame({"event": range(6)})))


def test_the_onset_of_the_metadata_wins():
    array = meeg.from_epochs(make_epochs(metadata=pd.DataFrame({"onset": np.arange(6) / 2})))
    assert array.onset.values.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]


def test_decimated_epochs_keep_the_onset():
    raw = make_raw(4000)
    events = np.array([[500, 0, 1], [1500, 0, 1], [2500, 0, 1]])
    epochs = mne.Epochs(raw, events, tmin=-0.2, tmax=1, decim=4, baseline=None, picks="eeg", verbose="error")
    array = meeg.from_epochs(epochs)
    assert array.onset.values.tolist() == [5.0, 15.0, 25.0]
    assert array.attrs["sfreq"] == 25.0
    assert not epochs.preload, "the caller's epochs are left as they were"


def test_rejected_epochs_are_counted():
    raw = make_raw(2000)
    raw._data[3, 1010] = 1e3
    events = np.array([[500, 0, 1], [1000, 0, 1], [1500, 0, 2]])
    kwargs = {"tmin": 0, "tmax": 0.5, "baseline": None, "picks": "eeg", "verbose": "error"}
    array = meeg.from_epochs(mne.Epochs(raw, events, event_id=[1], reject={"eeg": 100}, **kwargs))
    assert array.event_sample.values.tolist() == [500]
    assert array.attrs["provenance"].endswith("without 1 rejected epochs")
    none_left = pytest.raises(ValueError, match="no epochs are left of 3 events")
    with none_left, pytest.warns(RuntimeWarning, match="All epochs were dropped"):
        meeg.from_epochs(mne.Epochs(raw, events, reject={"eeg": 1e-9}, **kwargs))


# --- continuous recordings ---


@pytest.mark.parametrize("meas_date", [None, 1e9])
def test_raw_goes_there_and_back(meas_date):
    raw = make_raw(first_samp=250)
    raw.set_meas_date(meas_date)
    onset = [0.5, 1.0, 1.5, 3.0] if meas_date is None else [3.0, 3.5, 4.0, 5.5]
    notes = mne.Annotations(
        onset, [0.5, 0.5, 0.25, 0.0], ["a", "a", "b", "c"], orig_time=raw.info["meas_date"]
    )
    raw.set_annotations(notes)
    array = meeg.from_raw(raw)
    assert array.dims == ("time_bin", "neuroid")
    np.testing.assert_array_equal(array.values, raw.get_data(picks="data").T)
    np.testing.assert_array_equal(array.time_bin_start.values, raw.times)
    labels = array.trial_type.values
    assert (labels[50:150] == "a").all()
    assert (labels[150:175] == "b").all()
    assert np.flatnonzero(labels == "c").tolist() == [300]
    assert (labels == "").sum() == 400 - 126
    assert array.block.values[[0, 50, 100, 150, 300]].tolist() == [-1, 0, 1, 2, 3]
    back = meeg.to_mne(array)
    np.testing.assert_array_equal(back.get_data(), raw.get_data(picks="data"))
    np.testing.assert_array_equal(back.times, raw.times)
    assert back.first_samp == 250
    np.testing.assert_allclose(back.annotations.onset - back.first_time, [0.5, 1.0, 1.5, 3.0])
    assert back.annotations.description.tolist() == ["a", "a", "b", "c"]
    part = meeg.to_mne(array.isel(time_bin=slice(100, 300)))
    assert part.first_samp == 350
    np.testing.assert_array_equal(part.get_data(), raw.get_data(picks="data")[:, 100:300])


def test_overlapping_annotations_are_all_kept():
    raw = make_raw()
    raw.set_annotations(mne.Annotations([1.0, 1.5], [1.0, 1.0], ["word", "BAD_blink"]))
    labels = meeg.from_raw(raw).trial_type.values
    assert [labels[k] for k in (99, 100, 149, 150, 199, 200, 249, 250)] == [
        "", "word", "word", "word; BAD_blink", "word; BAD_blink", "BAD_blink", "BAD_blink", "",
    ]  # fmt: skip


def test_which_channels():
    raw = make_raw()
    raw.info["bads"] = ["EEG 001", "MEG 0112"]
    array = meeg.from_raw(raw)
    assert array.neuroid_id.values.tolist() == ["MEG 0113", "MEG 0111"]
    assert array.attrs["bads"] == "MEG 0112, EEG 001"
    kept = meeg.from_raw(raw, bads="keep")
    assert kept.bad.values.tolist() == [False, True, False, True]
    assert meeg.to_info(kept)["bads"] == ["MEG 0112", "EEG 001"]
    assert meeg.from_raw(raw, picks=["eog"]).channel_type.values.tolist() == ["eog"]
    assert meeg.from_raw(raw, picks="all").sizes["neuroid"] == 3
    with pytest.raises(ValueError, match="all 1 channels of picks='eeg' are marked bad"):
        meeg.from_raw(raw, picks="eeg")
    with pytest.raises(
        ValueError, match="no channel fits picks='Cz'; the recording has the types eeg, eog, grad, mag"
    ):
        meeg.from_raw(raw, picks="Cz")
    with pytest.raises(ValueError, match="bads is 'ignore'; it must be 'drop' or 'keep'"):
        meeg.from_raw(raw, bads="ignore")


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan])
def test_dead_channels_are_named(value):
    raw = make_raw()
    raw._data[2] = value
    with pytest.warns(UserWarning, match="constant or missing channels: MEG 0111; mark them"):
        array = meeg.from_raw(raw)
    np.testing.assert_array_equal(array.values, raw.get_data(picks="data").T)
    raw._data[:] = value
    with pytest.raises(ValueError, match="all 4 channels are constant or missing"):
        meeg.from_raw(raw)


# --- real recordings ---


def imagery(data: Path, run: int) -> xr.DataArray:
    """Imagined fists (T1) and feet (T2) of one run, 7 to 30 Hz, 0.5 to 3.5 s after the cue."""
    raw = mne.io.read_raw_edf(data / "mi-eegmmidb-s001" / f"S001R{run:02}.edf", preload=True, verbose="error")
    raw.filter(7, 30, verbose="error")
    events, event_id = mne.events_from_annotations(raw, {"T1": 1, "T2": 2}, verbose="error")
    return meeg.from_epochs(
        mne.Epochs(raw, events, event_id, tmin=0.5, tmax=3.5, baseline=None, verbose="error")
    )


def test_imagined_movement_is_decoded_from_another_run(data):
    train, test = imagery(data, 6), imagery(data, 10)
    assert train.sizes == {"presentation": 15, "neuroid": 64, "time_bin": 481}
    assert (train.attrs["modality"], train.attrs["units"]) == ("eeg", "V")

    def accuracy(labels: np.ndarray) -> float:
        decoder = make_pipeline(CSP(4, reg="oas"), LinearDiscriminantAnalysis())
        with mne.use_log_level("error"):
            return decoder.fit(train.values, labels).score(test.values, test.stimulus_id.values)

    assert accuracy(train.stimulus_id.values) == pytest.approx(14 / 15)
    rng = np.random.default_rng(0)
    assert np.mean([accuracy(rng.permutation(train.stimulus_id.values)) for _ in range(8)]) < 0.7


def test_annotations_of_a_real_run_label_its_samples(data):
    array = meeg.read(data / "mi-eegmmidb-s001" / "S001R06.edf")
    labels = pd.Series(array.trial_type.values)
    assert array.sizes["time_bin"] == 20000
    seconds = labels.value_counts() / array.attrs["sfreq"]
    assert seconds["T0"] > 60 > seconds["T1"] > 25
    assert pd.Series(array.block.values[labels != "T0"]).nunique() - (labels == "").any() == 15


def test_steady_state_recording_follows_its_light(data):
    folder = data / "ssvep-exo"
    raw = mne.io.read_raw_fif(folder / "subject12_session1_raw.fif", verbose="error")
    np.testing.assert_array_equal(meeg.read(folder / "subject12_session1_raw.fif").values, raw.get_data().T)
    events = mne.read_events(folder / "subject12_session1-eve.fif")
    names = {"rest": 1, "13": 2, "21": 3, "17": 4}
    array = meeg.from_epochs(
        mne.Epochs(raw, events, names, tmin=1, tmax=4.99, baseline=None, verbose="error")
    )
    assert pd.Series(array.stimulus_id.values).value_counts().to_dict() == dict.fromkeys(names, 8)
    frequency = np.fft.rfftfreq(array.sizes["time_bin"], 1 / array.attrs["sfreq"])
    power = np.abs(np.fft.rfft(array.values - array.values.mean(2, keepdims=True)))[:, 0]
    for name in ("13", "17", "21"):
        near = np.abs(frequency - float(name)) < 0.3
        light = array.stimulus_id.values == name
        rest = array.stimulus_id.values == "rest"
        assert power[light][:, near].max(1).mean() > 2 * power[rest][:, near].max(1).mean()


def test_arrays_without_a_file_format_go_through_mne(data):
    stored = np.load(data / "p300-bi2012" / "subject_01_session_01.npz")
    names = [
        "F7",
        "F3",
        "Fz",
        "F4",
        "F8",
        "T7",
        "C3",
        "Cz",
        "C4",
        "T8",
        "P7",
        "P3",
        "Pz",
        "P4",
        "P8",
        "O1",
        "O2",
    ]
    info = mne.create_info([*names, "stim"], 128.0, ["eeg"] * 17 + ["stim"])
    values = np.column_stack([stored["data"] * 1e-6, stored["stim"]]).T[:, 3000:]
    raw = mne.io.RawArray(values, info, verbose="error").set_montage(TEMPLATE)
    raw.filter(1, 16, verbose="error")
    events = mne.find_events(raw, "stim", shortest_event=1, verbose="error")
    epochs = mne.Epochs(
        raw, events, {"other": 1, "target": 2}, tmin=0, tmax=0.8, baseline=None, verbose="error"
    )
    array = meeg.from_epochs(epochs)
    assert pd.Series(array.stimulus_id.values).value_counts().to_dict() == {"other": 640, "target": 128}
    assert np.isfinite(array.x.values).all()
    mean = neuro.average_repeats(array)
    late = (mean.time_bin_start.values > 0.25) & (mean.time_bin_start.values < 0.5)
    size = mean.values[:, :, late].std(axis=(1, 2))
    assert size[mean.stimulus_id.values == "target"] > 2 * size[mean.stimulus_id.values == "other"]
