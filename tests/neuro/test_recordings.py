"""M/EEG files are told apart by what they hold, and wrong ones are named."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest
from scipy.io import savemat

from cerebridge.neuro import meeg

#: MNE renames its template montages in version 1.14
TEMPLATE = "colin27_1005" if "colin27_1005" in mne.channels.get_builtin_montages() else "standard_1005"
MIXED = {"MEG 0113": "grad", "MEG 0112": "grad", "MEG 0111": "mag", "EEG 001": "eeg", "EOG 061": "eog"}


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


def test_files_are_told_apart_by_content(tmp_path):
    raw, epochs = make_raw(), make_epochs()
    raw.save(tmp_path / "some_raw.fif", verbose="error")
    epochs.save(tmp_path / "some-epo.fif", verbose="error")
    epochs.average().save(tmp_path / "some-ave.fif", verbose="error")
    for name, dims in [
        ("some_raw.fif", ("time_bin", "neuroid")),
        ("some-epo.fif", ("presentation", "neuroid", "time_bin")),
        ("some-ave.fif", ("presentation", "neuroid", "time_bin")),
    ]:
        misnamed = tmp_path / f"x_{name.replace('-', '_')}"
        (tmp_path / name).rename(misnamed)
        array = meeg.read(misnamed)
        assert array.dims == dims
        assert array.attrs["provenance"].startswith(misnamed.name)
    assert meeg.read(tmp_path / "x_some_epo.fif", stimulus_id="event").stimulus_id.values[1] == "dog"


def write_eeglab(path: Path, values: np.ndarray) -> None:
    """EEGLAB's structure; ``values`` in microvolts, channels × times × trials."""
    n_channels, n_times, n_trials = values.shape
    events = [("cat", 1.0 + k * n_times, k + 1.0) for k in range(n_trials)]
    epochs = [(k + 1.0, "cat", 0.0) for k in range(n_trials)]
    none = np.zeros((0, 0))
    structure = {
        "data": values.squeeze(),
        "nbchan": n_channels,
        "pnts": n_times,
        "trials": n_trials,
        "srate": 100.0,
        "xmin": 0.0,
        "xmax": (n_times - 1) / 100,
        "ref": "common",
        "chanlocs": np.array([("Fz",), ("Cz",)], dtype=[("labels", object)]),
        "event": np.array(events, dtype=[("type", object), ("latency", float), ("epoch", float)]),
        "epoch": np.array(epochs, dtype=[("event", float), ("eventtype", object), ("eventlatency", float)]),
        **dict.fromkeys(("icawinv", "icasphere", "icaweights"), none),
    }
    savemat(path, {"EEG": structure}, appendmat=False)


@pytest.mark.parametrize("n_trials", [1, 3])
def test_eeglab_files_hold_recordings_or_epochs(tmp_path, n_trials):
    values = np.random.default_rng(0).standard_normal((2, 50, n_trials))
    write_eeglab(tmp_path / "x.set", values)
    array = meeg.read(tmp_path / "x.set")
    if n_trials == 1:
        assert array.dims == ("time_bin", "neuroid")
        np.testing.assert_allclose(array.values, 1e-6 * values[:, :, 0].T)
        assert array.trial_type.values[0] == "cat"
    else:
        assert array.stimulus_id.values.tolist() == ["cat"] * 3
        np.testing.assert_allclose(array.values, 1e-6 * values.transpose(2, 0, 1))


def test_projectors_of_raw_files_are_applied_on_request(tmp_path):
    raw = mne.io.RawArray(
        np.random.default_rng(0).standard_normal((4, 300)), mne.create_info(4, 100.0, "eeg"), verbose="error"
    )
    raw.set_eeg_reference(projection=True, verbose="error")
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    stored, applied = meeg.read(tmp_path / "x_raw.fif"), meeg.read(tmp_path / "x_raw.fif", proj=True)
    assert stored.attrs["projectors"] == "Average EEG reference (not applied)"
    assert applied.attrs["projectors"] == "Average EEG reference (applied)"
    np.testing.assert_allclose(
        applied.values, stored.values - stored.values.mean(1, keepdims=True), atol=1e-6
    )


def test_projectors_are_left_aside_on_request(data):
    path = data / "meg-evoked-audvis" / "test-ave.fif.gz"
    array = meeg.read(path, proj=False, picks="mag", baseline=(None, 0))
    expected = mne.read_evokeds(path, 2, proj=False, baseline=(None, 0), verbose="error").pick("mag")
    np.testing.assert_array_equal(array.values[2], expected.data)
    assert array.attrs["projectors"].split("; ")[0] == "PCA-v1 (not applied)"
    assert array.attrs["baseline"] == "-0.199795 to 0 s"
    assert meeg.from_evoked(meeg.to_mne(array)).attrs["baseline"] == "none"


def test_files_that_cannot_be_read(tmp_path, data):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere\.fif"):
        meeg.read(tmp_path / "nowhere.fif")
    with pytest.raises(TypeError, match="path is a ndarray; give the path of a file, or take from_raw"):
        meeg.read(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"-eve\.fif holds events, not signals"):
        meeg.read(data / "ssvep-exo" / "subject01_session1-eve.fif")
    (tmp_path / "note.xyz").write_text("hello")
    with pytest.raises(ValueError, match=r"MNE cannot read note\.xyz"):
        meeg.read(tmp_path / "note.xyz")
    whole = (data / "ssvep-exo" / "subject01_session1_raw.fif").read_bytes()
    (tmp_path / "half_raw.fif").write_bytes(whole[: len(whole) // 2])
    with (
        pytest.warns(RuntimeWarning, match="Invalid tag"),
        pytest.raises(ValueError, match=r"the samples of the recording cannot be read .*cut off or damaged"),
    ):
        meeg.read(tmp_path / "half_raw.fif")
    (tmp_path / "cut_raw.fif").write_bytes(whole[:200])
    with pytest.raises(ValueError, match=r"cut_raw\.fif"):
        meeg.read(tmp_path / "cut_raw.fif")
    for wrong in ({"stimulus_id": "event"}, {"baseline": (None, 0)}):
        with pytest.raises(
            ValueError, match=r"S001R06\.edf holds a continuous recording: stimulus_id is for epochs"
        ):
            meeg.read(data / "mi-eegmmidb-s001" / "S001R06.edf", **wrong)
    mne.EvokedArray(np.eye(2, 5), mne.create_info(2, 100.0, "eeg"), comment="a").save(tmp_path / "a-ave.fif")
    with pytest.raises(ValueError, match=r"a-ave\.fif holds averages: stimulus_id is for epochs"):
        meeg.read(tmp_path / "a-ave.fif", stimulus_id="event")


def test_positions_for_files_without(data):
    path = data / "mi-eegmmidb-s001" / "S001R06.edf"
    plain, placed = meeg.read(path), meeg.read(path, montage=TEMPLATE)
    assert plain.neuroid_id.values[0] == "Fc5."
    assert np.isnan(plain.x.values).all()
    assert placed.neuroid_id.values[:8].tolist() == ["FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6", "C5"]
    np.testing.assert_array_equal(placed.values, plain.values)
    assert placed.units.values.tolist() == ["V"] * 64
    raw = mne.io.read_raw_edf(path, verbose="error")
    mne.datasets.eegbci.standardize(raw)
    raw.set_montage(TEMPLATE)
    expected = np.array([channel["loc"][:3] for channel in raw.info["chs"]])
    np.testing.assert_allclose(np.column_stack([placed[axis].values for axis in "xyz"]), 1000 * expected)
    with pytest.raises(ValueError, match=r"the montage has no position for Fc5\., Fc3\.,"):
        meeg.read(path, montage="biosemi16")
