from __future__ import annotations

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from cerebridge import models, neuro
from cerebridge.encoding.study.files import load_values
from cerebridge.encoding.study.recordings import Source, read_recording

ARRAY = {
    "reader": "array",
    "dims": ["neuroid", "presentation"],
    "modality": "spikes",
    "units": "spikes",
    "labels": {},
}


def stimuli(n: int) -> models.StimulusSet:
    pictures = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    return models.StimulusSet.from_arrays(
        pictures, [f"s{k}" for k in range(n)], {"kind": ["odd", "even"] * (n // 2)}
    )


def source(path, values=None, shown=None, **entry) -> Source:
    if values is not None:
        np.save(path, values)
    return Source({**ARRAY, **entry}, {"path": [path]}, shown)


def test_an_array_takes_ids_and_labels_of_the_stimuli(tmp_path):
    values = np.random.default_rng(0).random((3, 4))
    array = read_recording(
        source(tmp_path / "x.npy", values, stimuli(4), labels={"region": "V4", "depth": [1, 2, 3]})
    )
    assert array.dims == ("presentation", "neuroid")
    assert np.array_equal(array.values, values.T)
    assert array.stimulus_id.values.tolist() == ["s0", "s1", "s2", "s3"]
    assert array.kind.values.tolist() == ["odd", "even"] * 2
    assert array.region.values.tolist() == ["V4"] * 3 and array.depth.values.tolist() == [1, 2, 3]


def test_missing_repetitions_are_left_out_and_nothing_else(tmp_path):
    values = np.random.default_rng(0).random((3, 4, 5))
    values[:, 1, 2:] = np.nan
    values[0, 0, 0] = np.nan
    array = read_recording(
        source(tmp_path / "x.npy", values, stimuli(4), dims=["neuroid", "presentation", "repetition"])
    )
    assert array.sizes["presentation"] == 4 * 5 - 3
    assert "3 of 20 presentations missing" in array.attrs["provenance"]
    one = array.isel(presentation=np.flatnonzero((array.stimulus_id == "s1") & (array.repetition == 1)))
    assert np.array_equal(one.values[0], values[:, 1, 1])
    means = neuro.average_repeats(array)
    assert np.allclose(means.values.T, np.nanmean(values, axis=2))


def test_time_bins(tmp_path):
    values = np.zeros((4, 2, 3))
    array = read_recording(
        source(tmp_path / "x.npy", values, dims=["presentation", "time_bin", "neuroid"], times=[-0.1, 0.1])
    )
    assert array.dims == ("presentation", "neuroid", "time_bin") and array.shape == (4, 3, 2)
    assert np.allclose(array.time_bin_start, [-0.1, 0]) and np.allclose(array.time_bin_end, [0, 0.1])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dims": ["neuroid", "presentation", "repetition"]}, "has 2 axes of lengths .* but dims names 3"),
        ({"dims": ["neuroid", "repetition"]}, "must name 'presentation' and 'neuroid'"),
        ({"labels": {"region": ["V4"]}}, "labels.region has 1 entries for 3 units"),
    ],
)
def test_wrong_descriptions_of_an_array(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message):
        read_recording(source(tmp_path / "x.npy", np.zeros((3, 4)), **entry))


def test_other_numbers_of_stimuli_and_no_times(tmp_path):
    with pytest.raises(ValueError, match="x.npy has 4 presentations, but there are 6 stimuli"):
        read_recording(source(tmp_path / "x.npy", np.zeros((3, 4)), stimuli(6)))
    with pytest.raises(ValueError, match="has a time_bin axis; give 'times'"):
        read_recording(
            source(tmp_path / "x.npy", np.zeros((3, 4, 2)), dims=["neuroid", "presentation", "time_bin"])
        )


def test_arrays_in_every_kind_of_file(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "x.npy", values)
    np.savez(tmp_path / "x.npz", one=values, two=values + 1)
    savemat(tmp_path / "x.mat", {"one": values, "two": values + 1})
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["group/one"], file["two"] = values, values + 1
    assert np.array_equal(load_values(tmp_path / "x.npy", None), values)
    assert np.array_equal(load_values(tmp_path / "x.npz", "two"), values + 1)
    assert np.array_equal(load_values(tmp_path / "x.mat", "one"), values)
    assert np.array_equal(load_values(tmp_path / "x.h5", "group/one"), values)
    for name in ("x.npz", "x.mat", "x.h5"):
        with pytest.raises(ValueError, match=f"{name} holds the arrays .*two; name one of them with 'key'"):
            load_values(tmp_path / name, None)
    (tmp_path / "x.txt").write_text("1")
    with pytest.raises(ValueError, match="x.txt is no .npy, .npz, .mat or .h5 file"):
        load_values(tmp_path / "x.txt", None)


def test_a_saved_array(tmp_path):
    brain = neuro.simulate(n_stimuli=5, n_units=3, random_state=0)
    neuro.save(tmp_path / "brain.nc", brain)
    assert read_recording(source(tmp_path / "brain.nc", reader="netcdf")).identical(brain)


def nifti_runs(folder):
    rng = np.random.default_rng(0)
    table = "onset\tduration\ttrial_type\n4\t6\tface\n16\t6\thouse\n"
    for run in (1, 2):
        image = nibabel.Nifti1Image(rng.normal(100, 1, (3, 2, 2, 14)).astype(np.float32), np.eye(4))
        nibabel.save(image, folder / f"run{run}_bold.nii.gz")
        (folder / f"run{run}_events.tsv").write_text(table)
    return {key: sorted(folder.glob(f"*_{key}.*")) for key in ("bold", "events")}


FMRI = {"reader": "fmri", "delay": 0, "detrend": True, "standardize": "zscore", "t_r": 2.0, "labels": {}}


@pytest.mark.parametrize(("response", "rows"), [("volumes", 28), ("blocks", 4), ("betas", 4)])
def test_runs_of_nifti_and_events(tmp_path, response, rows):
    files = nifti_runs(tmp_path)
    array = read_recording(Source({**FMRI, "response": response}, files))
    assert array.shape == (rows, 12)
    assert set(array.run.values.tolist()) == {0, 1}
    assert set(array.trial_type.values.tolist()) >= {"face", "house"}
    if response == "volumes":
        direct = neuro.fmri.read(files["bold"], events=files["events"], t_r=2.0, detrend="linear")
        assert np.array_equal(array.values, direct.values)


def test_averages_of_meeg_lose_baseline_and_bad_channels(tmp_path):
    mne = pytest.importorskip("mne")
    info = mne.create_info(["C3", "Cz", "C4"], 100.0, "eeg")
    data = np.random.default_rng(0).normal(5, 1, (3, 30)) * 1e-6
    mne.EvokedArray(data, info, tmin=-0.1, comment="tone").save(tmp_path / "x-ave.fif", verbose=False)
    entry = {"reader": "meeg", "picks": "data", "labels": {}, "baseline": [-0.1, 0.0], "bads": ["Cz"]}
    array = read_recording(source(tmp_path / "x-ave.fif", **entry))
    assert array.neuroid_id.values.tolist() == ["C3", "C4"]
    expected = data[[0, 2]] - data[[0, 2], :11].mean(axis=1, keepdims=True)
    assert np.allclose(array.values[0], expected, atol=1e-12)
    with pytest.raises(ValueError, match="no sample of x-ave.fif lies in the baseline from 3.0 to 4.0 s"):
        read_recording(source(tmp_path / "x-ave.fif", **{**entry, "baseline": [3.0, 4.0]}))
    with pytest.raises(ValueError, match="bads names 'Pz', but x-ave.fif has no such channel"):
        read_recording(source(tmp_path / "x-ave.fif", **{**entry, "bads": ["Pz"]}))


def test_given_dissimilarities_are_selected_averaged_and_named(tmp_path):
    squares = np.random.default_rng(0).random((3, 4, 4))
    squares = squares + squares.swapaxes(1, 2)
    squares[:, np.arange(4), np.arange(4)] = 0
    np.savez(tmp_path / "x.npz", rdms=squares)
    entry = {"reader": "rdms", "labels": {}}
    array = read_recording(source(tmp_path / "x.npz", shown=stimuli(4), **entry))
    assert array.shape == (3, 6) and array.stimulus_a.values[0] == "s0"
    mean = read_recording(source(tmp_path / "x.npz", **entry, average="all"))
    assert np.allclose(mean.values, array.values.mean(axis=0))
    one = array.neuroid_id.values[1]
    assert read_recording(source(tmp_path / "x.npz", **entry, select=[one])).values.tolist() == [
        array.values[1].tolist()
    ]
    with pytest.raises(ValueError, match=r"x.npz has no matrix 'other'; it has x"):
        read_recording(source(tmp_path / "x.npz", **entry, select=["other"]))


def test_a_simulation_reads_its_drivers():
    features = neuro.simulate(n_stimuli=12, n_units=30, random_state=1)
    entry = {
        "reader": "simulation",
        "modality": "spikes",
        "n_units": 8,
        "n_repeats": 2,
        "snr": 0.5,
        "labels": {},
    }
    array = read_recording(Source(entry, {}, None, 4, {"early": features, "late": features}))
    assert array.shape == (24, 8) and set(array.region.values.tolist()) == {"early", "late"}
    again = read_recording(Source(entry, {}, None, 4, {"early": features, "late": features}))
    assert array.identical(again)


def test_spikes_are_counted_around_events_of_a_table(tmp_path):
    pynwb = pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    file = pynwb.NWBFile("session", "id", datetime(2020, 1, 1, tzinfo=UTC))
    for times in ([0.1, 0.15, 1.05], [1.1, 1.2]):
        file.add_unit(spike_times=times, obs_intervals=[[0.0, 3.0]])
    with pynwb.NWBHDF5IO(tmp_path / "x.nwb", "w") as io:
        io.write(file)
    pd.DataFrame({"onset": [0.0, 1.0], "stimulus_id": ["a", "b"]}).to_csv(
        tmp_path / "events.csv", index=False
    )
    entry = {"reader": "spikes", "window": [0.0, 0.5], "rate": False, "labels": {}}
    files = {"path": [tmp_path / "x.nwb"], "events": [tmp_path / "events.csv"]}
    array = read_recording(Source(entry, files))
    assert array.stimulus_id.values.tolist() == ["a", "b"] and array.values.tolist() == [[2, 0], [1, 2]]
    with pytest.raises(ValueError, match="x.nwb tells of no events; give a table with 'events'"):
        read_recording(Source(entry, {"path": [tmp_path / "x.nwb"]}))
