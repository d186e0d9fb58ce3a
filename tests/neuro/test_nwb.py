"""Files of sorted spikes: NWB with units, trials and electrodes, and plain HDF5."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from cerebridge.neuro import spikes

TRAINS = {"u": np.array([0.5, 1.05, 1.1, 2.0, 3.19]), "v": np.array([2.05, 2.1, 2.15])}


def write_nwb(path: Path, ids: tuple[int, ...] = (4, 7), units: bool = True, observed: bool = True) -> None:
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile("a test", "test-1", datetime(2024, 1, 1, tzinfo=UTC))
    group = file.create_electrode_group("g", "probe", "somewhere", file.create_device("probe"))
    for k, location in enumerate(("V1", "V1", "V4")):
        file.add_electrode(x=1000.0 * k, y=0.0, z=-500.0, location=location, group=group)
    if units:
        file.add_unit_column("quality", "how good")
        seen = {"obs_intervals": [[0.0, 2.5], [2.9, 4.0]]} if observed else {}
        file.add_unit(id=ids[0], spike_times=TRAINS["u"], electrodes=[0, 1], quality="good", **seen)
        seen = {"obs_intervals": [[0.0, 4.0]]} if observed else {}
        file.add_unit(id=ids[1], spike_times=TRAINS["v"], electrodes=[1, 2], quality="fair", **seen)
    file.add_trial_column("image", "what was shown")
    for onset, image in ((1.0, "cat"), (2.4, "dog"), (3.0, "cat")):
        file.add_trial(start_time=onset, stop_time=onset + 0.25, image=image)
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(file)


def test_nwb_units_trials_and_electrodes(tmp_path):
    write_nwb(tmp_path / "a.nwb")
    trains = spikes.read(tmp_path / "a.nwb")
    assert repr(trains) == "<SpikeTrains: 2 units, 8 spikes, 3 events>"
    for unit, name in ((4, "u"), (7, "v")):
        np.testing.assert_array_equal(trains.times[unit], TRAINS[name])
    assert trains.events.to_dict("list") == {
        "onset": [1.0, 2.4, 3.0], "duration": pytest.approx([0.25] * 3), "image": ["cat", "dog", "cat"],
    }  # fmt: skip
    array = spikes.count(trains, events=trains.events, window=(0, 0.2), bin_size=0.1, stimulus_id="image")
    assert array.stimulus_id.values.tolist() == ["cat", "dog", "cat"]
    assert array.region.values.tolist() == ["V1", "V1; V4"]
    assert array.quality.values.tolist() == ["good", "fair"]
    np.testing.assert_allclose(
        np.column_stack([array[axis] for axis in "xyz"]), [[0.5, 0, -0.5], [1.5, 0, -0.5]]
    )
    plain = spikes.count(
        dict(trains.times), events=trains.events, window=(0, 0.2), bin_size=0.1, stimulus_id="image"
    )
    seen = ~np.isnan(array.values)
    np.testing.assert_array_equal(array.values[seen], plain.values[seen])
    assert np.argwhere(~seen).tolist() == [[1, 0, 1]], "the bin that unit 4 was observed in only in part"
    with pytest.raises(
        ValueError, match=r"1 events leave the recording, which lasts from 0 s to 4 s: .*event 2"
    ):
        spikes.count(trains, events=trains.events, window=(0, 1.1), stimulus_id="image")


def test_nwb_without_observation_intervals_has_no_missing_counts(tmp_path):
    write_nwb(tmp_path / "a.nwb", observed=False)
    trains = spikes.read(tmp_path / "a.nwb")
    assert (trains.start, trains.stop, trains.observed) == (0.0, None, None)
    assert spikes.count(trains, bin_size=0.5).dtype.kind == "i"


def test_nwb_with_one_electrode_a_unit(tmp_path):
    """Files of other writers may link each unit to one electrode, without the index of a ragged column."""
    write_nwb(tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb", "a") as file:
        units = file["units"]
        attrs = dict(units["electrodes"].attrs)
        del units["electrodes"], units["electrodes_index"]
        units.create_dataset("electrodes", data=[0, 2]).attrs.update(attrs)
    assert spikes.read(tmp_path / "a.nwb").neuroid["region"].tolist() == ["V1", "V4"]


def test_nwb_files_that_lack_something(tmp_path):
    write_nwb(tmp_path / "a.nwb", units=False)
    with pytest.raises(ValueError, match=r"a\.nwb holds no sorted units"):
        spikes.read(tmp_path / "a.nwb")
    write_nwb(tmp_path / "b.nwb", ids=(4, 4))
    with pytest.raises(ValueError, match=r"the unit id 4 occurs twice in b\.nwb"):
        spikes.read(tmp_path / "b.nwb")
    write_nwb(tmp_path / "c.nwb")
    with pytest.raises(ValueError, match=r"c\.nwb has no table of intervals 'flashes'; it has trials"):
        spikes.read(tmp_path / "c.nwb", intervals="flashes")


def test_hdf5_by_pattern_by_mapping_and_flat(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for unit, train in ((10, [30, 60]), (9, [15])):
            file[f"units/{unit}/samples"] = np.array(train)
        file["all/times"], file["all/ids"] = [0.1, 0.2, 0.3], ["b", "a", "b"]
    by_pattern = spikes.read(tmp_path / "s.h5", datasets="units/{unit}/samples", sfreq=30)
    assert {unit: train.tolist() for unit, train in by_pattern.times.items()} == {9: [0.5], 10: [1.0, 2.0]}
    by_mapping = spikes.read(tmp_path / "s.h5", datasets={"x": "units/9/samples"}, sfreq=30)
    assert by_mapping.times["x"].tolist() == [0.5]
    flat = spikes.read(tmp_path / "s.h5", datasets="all/times", labels="all/ids")
    assert {unit: train.tolist() for unit, train in flat.times.items()} == {"a": [0.2], "b": [0.1, 0.3]}
    array = spikes.count(by_pattern, bin_size=1.0)
    assert array.neuroid_id.values.tolist() == [9, 10]
    assert array.values.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert array.attrs["provenance"] == "s.h5"


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        spikes.read(tmp_path / "nowhere.nwb")
    (tmp_path / "cut.nwb").write_bytes(b"\x89HDF\r\n\x1a\n12")
    with pytest.raises(OSError, match=r"cut\.nwb is no HDF5 or NWB file, or is cut off"):
        spikes.read(tmp_path / "cut.nwb")
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["a/1"] = [0.1]
    with pytest.raises(ValueError, match=r"s\.h5 is no NWB file: say with datasets= .*it holds a/1"):
        spikes.read(tmp_path / "s.h5")
    with pytest.raises(ValueError, match=r"no dataset of s\.h5 fits 'b/\{unit\}'; it holds a/1"):
        spikes.read(tmp_path / "s.h5", datasets="b/{unit}")
    with pytest.raises(ValueError, match=r"the pattern 'a/1' must hold \{unit\} once"):
        spikes.read(tmp_path / "s.h5", datasets="a/1")
    with pytest.raises(ValueError, match=r"s\.h5 has no dataset 'a'; it holds a/1"):
        spikes.read(tmp_path / "s.h5", datasets={"x": "a"})


def test_overlapping_observation_intervals_count_as_one():
    observed = {"u": np.array([[1.0, 3.0], [0.0, 1.0], [1.5, 2.0]]), "v": np.array([[0.0, 1.0], [2.0, 4.0]])}
    table = pd.DataFrame({"neuroid_id": ["u", "v"]})
    counts = spikes.count(spikes.SpikeTrains(TRAINS, table, stop=4.0, observed=observed), bin_size=1.0)
    np.testing.assert_array_equal(counts.values, [[1, 0], [2, np.nan], [1, 3], [np.nan, 0]])
