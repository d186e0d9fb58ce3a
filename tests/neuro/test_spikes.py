"""Spikes and traces: every spike is counted once, in the right bin, or the input is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from cerebridge import neuro
from cerebridge.neuro import spikes

EVENTS = {"onset": [1.0, 2.0, 3.0], "stimulus_id": ["a", "b", "a"], "contrast": [0.1, 0.5, 0.9]}
TRAINS = {"u": np.array([0.5, 1.05, 1.1, 2.0, 3.19]), "v": np.array([2.05, 2.1, 2.15])}

microseconds = st.integers(0, 5_000_000)
trains = st.lists(st.lists(microseconds, max_size=30).map(sorted), min_size=1, max_size=4)


def in_seconds(trains: list[list[int]]) -> dict[str, np.ndarray]:
    return {f"u{k}": np.array(train) / 1e6 for k, train in enumerate(trains)}


# --- counting around events ---


def test_counts_around_events():
    array = spikes.count(TRAINS, events=EVENTS, window=(0, 0.2), bin_size=0.1)
    assert array.dims == ("presentation", "neuroid", "time_bin")
    np.testing.assert_array_equal(array[:, 0], [[1, 1], [1, 0], [0, 1]])
    np.testing.assert_array_equal(array[:, 1], [[0, 0], [1, 2], [0, 0]])
    assert array.time_bin_start.values.tolist() == [0.0, 0.1]
    assert array.time_bin_end.values.tolist() == [0.1, 0.2]
    assert array.repetition.values.tolist() == [0, 0, 1]
    assert array.contrast.values.tolist() == [0.1, 0.5, 0.9]
    assert (array.attrs["units"], array.attrs["modality"]) == ("spikes", "spikes")
    assert array.dtype.kind == "i"


def test_one_count_a_window():
    array = spikes.count(TRAINS, events=EVENTS, window=(-0.6, 0.2), rate=True)
    assert array.dims == ("presentation", "neuroid")
    np.testing.assert_allclose(array, np.array([[3, 0], [1, 3], [1, 0]]) / 0.8)
    assert array.attrs["units"] == "spikes/s"
    assert (array.attrs["window_start"], array.attrs["window_end"]) == (-0.6, 0.2)


@settings(max_examples=60, deadline=None)
@given(
    trains=trains,
    onsets=st.lists(st.integers(1_000_000, 3_000_000), min_size=1, max_size=6),
    bin_size=st.sampled_from([1_000, 50_000, 100_000, 300_000]),
    n_bins=st.integers(1, 5),
    before=st.integers(0, 5),
)
def test_counts_are_those_of_whole_microseconds(trains, onsets, bin_size, n_bins, before):
    """The oracle compares integers; binary fractions must not move a spike over an edge."""
    window = (-before * bin_size / 1e6 / 5, (n_bins - before / 5) * bin_size / 1e6)
    events = {"onset": np.array(onsets) / 1e6, "stimulus_id": np.arange(len(onsets))}
    array = spikes.count(in_seconds(trains), events=events, window=window, bin_size=bin_size / 1e6, stop=6)
    for trial, onset in enumerate(onsets):
        for unit, train in enumerate(trains):
            bins = [(5 * (time - onset) + before * bin_size) // (5 * bin_size) for time in train]
            expected = [bins.count(k) for k in range(n_bins)]
            assert array.values[trial, unit].tolist() == expected


@settings(max_examples=40, deadline=None)
@given(trains=trains, cut=st.integers(1, 9), offset=st.sampled_from([0.0, 0.1, 1 / 3, 12345.7]))
def test_windows_that_meet_neither_share_nor_lose_a_spike(trains, cut, offset):
    events = {"onset": np.arange(1, 5) + offset, "stimulus_id": list("abcd")}
    times = {unit: train + offset for unit, train in in_seconds(trains).items()}

    def total(low: float, high: float) -> np.ndarray:
        return spikes.count(times, events=events, window=(low, high), start=offset, stop=offset + 6).values

    middle = cut / 10
    np.testing.assert_array_equal(total(0.0, middle) + total(middle, 1.0), total(0.0, 1.0))
    tiled = sum(((train >= 1) & (train < 5)).sum() for train in in_seconds(trains).values())
    assert total(0.0, 1.0).sum() == tiled


@settings(max_examples=20, deadline=None)
@given(trains=trains, data=st.data())
def test_order_of_units_events_and_spikes_does_not_matter(trains, data):
    times = in_seconds(trains)
    kwargs = {"window": (-0.2, 0.6), "bin_size": 0.2, "stop": 6.0}
    events = pd.DataFrame({"onset": [1.0, 1.3, 4.0], "stimulus_id": ["a", "b", "c"]})
    array = spikes.count(times, events=events, **kwargs)
    units = data.draw(st.permutations(list(times)))
    rows = data.draw(st.permutations(range(3)))
    other = spikes.count({unit: times[unit] for unit in units}, events=events.iloc[list(rows)], **kwargs)
    expected = array.values[list(rows)][:, [list(times).index(unit) for unit in units]]
    np.testing.assert_array_equal(other.values, expected)
    flat = np.concatenate(list(times.values()))
    labels = np.repeat(list(times), [len(train) for train in times.values()])
    shuffle = np.random.default_rng(0).permutation(len(flat))
    table = {"neuroid_id": list(times)}
    again = spikes.count(
        flat[shuffle], labels=labels[shuffle], neuroid=table, events=events, sort=True, **kwargs
    )
    np.testing.assert_array_equal(again.values, array.values)


def test_a_spike_on_an_edge_belongs_to_the_bin_that_begins_there():
    grid = np.arange(100) / 10
    array = spikes.count(grid, bin_size=0.1, stop=10)
    np.testing.assert_array_equal(array.values[:, 0], np.ones(100))
    assert array.time_bin_start.values[3] == 0.3
    jumps = np.cumsum(np.full(1000, 0.1))
    np.testing.assert_array_equal(spikes.count(jumps, bin_size=0.1, start=0.1, stop=100.1).values[:, 0], 1)


# --- whole recordings ---


def test_whole_recordings():
    array = spikes.count(TRAINS, bin_size=0.5, rate=True)
    assert array.dims == ("time_bin", "neuroid")
    np.testing.assert_array_equal(array[:, 0], [0, 2, 4, 0, 2, 0, 2])
    assert array.attrs["sfreq"] == 2.0
    part = spikes.count(TRAINS, bin_size=0.5, start=1.0, stop=2.9)
    assert part.time_bin_start.values.tolist() == [1.0, 1.5, 2.0]
    np.testing.assert_array_equal(part.values.sum(0), [3, 3])


@settings(max_examples=40, deadline=None)
@given(
    trains=trains.filter(lambda trains: any(trains)), bin_size=st.sampled_from([0.001, 0.1, 0.3, 1 / 3, 0.7])
)
def test_no_spike_of_a_recording_is_lost(trains, bin_size):
    array = spikes.count(in_seconds(trains), bin_size=bin_size)
    assert array.values.sum(0).tolist() == [len(train) for train in trains]
    np.testing.assert_array_equal(array.time_bin_end.values[:-1], array.time_bin_start.values[1:])


# --- forms of input ---


def test_forms_of_spike_times():
    expected = spikes.count(TRAINS, bin_size=0.5).values
    table = {"neuroid_id": ["u", "v"], "region": ["V1", "V4"]}
    labels = ["u"] * 5 + ["v"] * 3
    flat = np.concatenate(list(TRAINS.values()))
    named = spikes.count(list(TRAINS.values()), bin_size=0.5, neuroid=table)
    assert named.neuroid_id.values.tolist() == ["u", "v"]
    assert named.region.values.tolist() == ["V1", "V4"]
    np.testing.assert_array_equal(named.values, expected)
    np.testing.assert_array_equal(spikes.count(flat, labels=labels, bin_size=0.5).values, expected)
    one = spikes.count(TRAINS["u"].tolist(), bin_size=0.5, neuroid={"region": "V1"})
    assert (one.neuroid_id.values.tolist(), one.region.values.tolist()) == ([0], ["V1"])
    np.testing.assert_array_equal(one.values[:, 0], expected[:, 0])


def test_silent_units_are_kept():
    table = pd.DataFrame({"neuroid_id": ["w", "v", "u"]})
    array = spikes.count(TRAINS, bin_size=0.5, neuroid=table)
    assert array.values.sum(0).tolist() == [0, 3, 5]
    assert spikes.count([TRAINS["u"], []], bin_size=0.5).values.sum(0).tolist() == [5, 0]
    assert spikes.count({"x": []}, bin_size=0.5, stop=1).values.tolist() == [[0], [0]]


def test_trains_of_neo_come_in_their_own_unit():
    neo = pytest.importorskip("neo")
    quantities = pytest.importorskip("quantities")
    train = neo.SpikeTrain([100, 1100] * quantities.ms, t_stop=2000 * quantities.ms)
    for form in (train, [train], {0: train}):
        assert spikes.count(form, bin_size=1.0, stop=2).values.tolist() == [[1], [1]]


def test_trains_of_pynapple():
    nap = pytest.importorskip("pynapple")
    group = nap.TsGroup({7: nap.Ts(np.array([0.1, 0.2])), 9: nap.Ts(np.array([1.2, 1.5]))})
    array = spikes.count(group, bin_size=1.0, stop=2)
    assert array.neuroid_id.values.tolist() == [7, 9]
    assert array.values.tolist() == [[2, 0], [0, 2]]
    assert spikes.count(group[7], bin_size=1.0, stop=2).values.tolist() == [[2], [0]]


# --- bad input ---


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        (
            {"a": [0.1], "b": [0.2, 0.5, 0.3]},
            ValueError,
            r"unit 'b' are unsorted: spike 2 is at 0\.3 s.*sort=True",
        ),
        ({"a": [-0.5, 0.3]}, ValueError, r"unit 'a' has a negative spike time, -0\.5 s; give start="),
        ({"a": [0.1, np.nan]}, ValueError, "spike 1 of unit 'a' has no time"),
        (
            {"a": [[0.1, 0.2]]},
            TypeError,
            "unit 'a' are 2-dimensional of type float64; give a flat array of seconds",
        ),
        ({"a": ["0.1"]}, TypeError, "unit 'a' are 1-dimensional of type <U3"),
        ({}, ValueError, "there are no units"),
        ({"a": []}, ValueError, "there are no spikes, so the end of the recording is unknown; give stop="),
        ("spikes.txt", TypeError, "spike times of unit 0 are 0-dimensional"),
        (5.0, TypeError, "spike_times is a float; give a mapping of unit to times"),
    ],
)
def test_wrong_spike_times_are_named(times, error, message):
    with pytest.raises(error, match=message):
        spikes.count(times, bin_size=0.1)


def test_wrong_order_and_clocks_that_are_meant():
    assert spikes.count([0.3, 0.1], bin_size=0.2, sort=True).values.tolist() == [[1], [1]]
    assert spikes.count([-0.5, 0.1], bin_size=0.5, start=-1).values.tolist() == [[0], [1], [1]]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"labels": ["a"]}, "there are 8 spike times and 1 labels"),
        ({"labels": [None, *"aaaabbb"]}, "the label of spike 0 is missing"),
        ({"labels": list("aaaaabbb"), "neuroid": {"neuroid_id": ["a", "c"]}}, "'b' has spikes but no row"),
        (
            {"labels": list("aaaaabbb"), "neuroid": {"region": ["V1"]}},
            "the neuroid table has 1 rows for 2 units",
        ),
        (
            {"labels": list("aaaaabbb"), "neuroid": {"neuroid_id": ["a", "a", "b"]}},
            "'a' occurs more than once",
        ),
    ],
)
def test_wrong_ids_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        spikes.count(np.concatenate(list(TRAINS.values())), bin_size=0.5, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"window": (0, 0.2), "stop": 3.1}, r"1 events leave .*to 3\.1 s: .*event 2 \(stimulus 'a'\) is 3 to 3\.2 s"),
        ({"window": (-1.5, 0.2)}, r"1 events leave .*event 0 \(stimulus 'a'\) is -0\.5 to 1\.2 s; leave them out"),
        ({"window": (0.5, 1)}, r"to the last spike at 3\.19 s \(stop= says if it went on\).*event 2 .* is 3\.5 to 4 s"),
        ({"window": (0, 0.25), "bin_size": 0.1}, r"the window of 0\.25 s holds 2\.5 bins of 0\.1 s; choose"),
        ({"window": (0.2, 0.2)}, r"the window from 0\.2 to 0\.2 s is empty"),
        ({"window": (0, 0.2), "bin_size": 0}, "bin_size is 0; it must be a positive number of seconds"),
        ({}, "counting around events needs window="),
        ({"window": (0, 0.2), "stimulus_id": "image"}, "no column 'image', only onset, stimulus_id, contrast"),
        ({"window": (0, 0.2), "events": {"stimulus_id": ["a"]}}, "no column 'onset', only stimulus_id"),
        ({"window": (0, 0.2), "events": {"onset": [], "stimulus_id": []}}, "the events have no rows"),
        ({"window": (0, 1), "events": {"onset": [1, None], "stimulus_id": ["a", "b"]}}, "the onset of event 1 is nan"),
        ({"events": None, "window": (0, 1)}, "without events the whole recording is binned"),
        ({"events": None}, "without events the whole recording is binned: give bin_size"),
        ({"events": None, "bin_size": 1, "stop": 0.5}, r"no bin of 1 s fits between 0 and 0\.5 s"),
    ],
)  # fmt: skip
def test_windows_that_do_not_fit_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        spikes.count(TRAINS, **({"events": EVENTS} | kwargs))


# --- files ---


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


def test_overlapping_observation_intervals_count_as_one():
    observed = {"u": np.array([[1.0, 3.0], [0.0, 1.0], [1.5, 2.0]]), "v": np.array([[0.0, 1.0], [2.0, 4.0]])}
    table = pd.DataFrame({"neuroid_id": ["u", "v"]})
    counts = spikes.count(spikes.SpikeTrains(TRAINS, table, stop=4.0, observed=observed), bin_size=1.0)
    np.testing.assert_array_equal(counts.values, [[1, 0], [2, np.nan], [1, 3], [np.nan, 0]])


# --- traces ---


def test_frames_as_they_are():
    times = np.arange(50) * 0.2 + 1000
    traces = np.random.default_rng(0).standard_normal((50, 3))
    array = spikes.from_traces(traces, times, neuroid={"neuroid_id": ["a", "b", "c"]}, units="dF/F")
    np.testing.assert_array_equal(array.values, traces)
    np.testing.assert_array_equal(array.time_bin_start.values, times)
    assert array.attrs["sfreq"] == pytest.approx(5.0)
    assert (array.attrs["modality"], array.attrs["units"]) == ("calcium", "dF/F")
    assert array.neuroid_id.values.tolist() == ["a", "b", "c"]
    uneven = spikes.from_traces(traces, times + 0.05 * (np.arange(50) % 2))
    assert "sfreq" not in uneven.attrs


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), bin_size=st.sampled_from([0.2, 0.3, 0.5]), missing=st.booleans())
def test_bin_means_are_those_of_pandas(seed, bin_size, missing):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.02, 0.09, 120))
    traces = rng.standard_normal((120, 2))
    if missing:
        traces[rng.random(traces.shape) < 0.1] = np.nan
    events = {"onset": times[0] + rng.uniform(0, 1.5, 4), "stimulus_id": list("abab")}
    array = spikes.from_traces(traces, times, events=events, window=(0, 2 * bin_size), bin_size=bin_size)
    assert array.dims == ("presentation", "neuroid", "time_bin")
    assert array.attrs["resampling"] == "mean of frames"
    for trial, onset in enumerate(events["onset"]):
        bins = pd.cut(pd.Series(times - onset), np.arange(3) * bin_size, right=False, labels=False)
        expected = pd.DataFrame(traces).groupby(bins.to_numpy()).mean()
        np.testing.assert_allclose(array.values[trial].T, expected)


def test_interpolation_of_a_line_is_the_line():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.05, 0.1, 100))
    traces = np.column_stack([2 * times, 3 - times])
    events = {"onset": [1.0, 2.5], "stimulus_id": ["a", "b"]}
    array = spikes.from_traces(traces, times, events=events, window=(-0.5, 1), bin_size=0.01, method="linear")
    middle = np.array([1.0, 2.5])[:, None] + (array.time_bin_start.values + array.time_bin_end.values) / 2
    np.testing.assert_allclose(array.values, np.stack([2 * middle, 3 - middle], axis=1), rtol=1e-9)
    one = spikes.from_traces(traces, times, events=events, window=(0, 1))
    assert one.dims == ("presentation", "neuroid")


@pytest.mark.parametrize(
    ("traces", "times", "kwargs", "message"),
    [
        (
            np.eye(3, 5),
            np.arange(5),
            {},
            r"traces are \(3, 5\) for 5 times; .*look turned around: give traces\.T",
        ),
        (np.eye(3), [0, 1], {}, r"traces are \(3, 3\) for 2 times; the first axis is time\."),
        (np.eye(1), [0], {}, "there are 1 frames"),
        (np.eye(3), [0, 2, 1], {}, "times must increase, but frame 2 is at 1 s after 2 s"),
        (np.eye(3), [0, np.nan, 1], {}, "times must increase, but frame 1"),
        (np.ones((3, 2)), [0, 1, 2], {}, "all 2 traces are constant or missing"),
        (np.eye(3), [0, 1, 2], {"method": "cubic"}, "method is 'cubic'; it must be 'mean' or 'linear'"),
        (np.eye(3), [0, 1, 2], {"window": (0, 1)}, "window needs events"),
        (np.eye(3), [0, 1, 2], {"events": EVENTS}, "cutting around events needs window="),
        (
            np.eye(4),
            [0, 1, 2, 3],
            {"events": EVENTS, "window": (0, 2)},
            r"1 events leave the recording.*event 2",
        ),
        (np.eye(3), [0, 1, 2], {"bin_size": 0.5}, r"no frame begins between 0\.5 and 1 s \(3 such bins\)"),
        (
            np.eye(20),
            [*range(10), *range(30, 40)],
            {"bin_size": 2, "method": "linear"},
            r"the recording pauses from 9 to 30 s, which interpolation would bridge \(10 such bins\)",
        ),
    ],
)
def test_traces_that_cannot_be_used(traces, times, kwargs, message):
    with pytest.raises(ValueError, match=message):
        spikes.from_traces(traces, times, **kwargs)


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_dead_traces_are_named(value):
    traces = np.random.default_rng(0).standard_normal((10, 3))
    traces[:, 1] = value
    with pytest.warns(UserWarning, match=r"1 traces are constant or missing \(1\)"):
        array = spikes.from_traces(traces, np.arange(10))
    np.testing.assert_array_equal(array.values, traces)


# --- real recordings ---


def lagged(values: np.ndarray, lags: tuple[int, ...]) -> np.ndarray:
    """Columns of ``values`` from ``lags`` rows before, zero before the beginning."""
    return np.hstack(
        [np.vstack([np.zeros((lag, values.shape[1])), values[: len(values) - lag]]) for lag in lags]
    )


@pytest.mark.parametrize(("number", "hertz", "r"), [(1, 93, 0.23), (2, 87, 0.18)])
def test_receptor_neuron_follows_its_sound(data, number, hertz, r):
    folder = data / "spikes-grasshopper"
    times = np.loadtxt(folder / f"grasshopper_spike_times{number}.txt") * 1e-6
    sound = np.loadtxt(folder / f"grasshopper_stimulus{number}.txt.gz")[:, 1]
    counts = spikes.count(times, bin_size=0.0005, stop=10)
    assert counts.shape == (20000, 1)
    assert counts.attrs["sfreq"] == pytest.approx(2000)
    assert spikes.count(times, bin_size=10, stop=10, rate=True).item() == pytest.approx(hertz, abs=0.5)
    decibel = 20 * np.log10(sound / 2e-5)
    history = lagged((decibel - decibel.mean()).reshape(-1, 10).mean(1, keepdims=True), tuple(range(40)))
    response, train, test = counts.values[:, 0], slice(40, 15000), slice(15000, None)

    def correlation(target: np.ndarray) -> float:
        predicted = Ridge(alpha=1000).fit(history[train], target[train]).predict(history[test])
        return float(np.corrcoef(predicted, target[test])[0, 1])

    assert correlation(response) == pytest.approx(r, abs=0.02)
    assert abs(correlation(np.random.default_rng(0).permutation(response))) < 0.06


@pytest.mark.parametrize(("worm", "n_neurons", "r"), [("45", 140, 0.74), ("38", 135, 0.70)])
def test_whole_brain_calcium_tells_the_velocity(data, worm, n_neurons, r):
    with h5py.File(data / "calcium-celegans" / f"2022-07-27-{worm}-data.h5") as file:
        traces, times = file["gcamp/trace_array"][:], file["timing/timestamp_confocal"][:]
        velocity = file["behavior/velocity"][:]
    array = spikes.from_traces(traces, times, units="z")
    assert array.shape == (800, n_neurons)
    assert "sfreq" not in array.attrs, "frames come every 0.54 to 0.67 s"
    features, train, test = lagged(array.values, (0, 2, 4)), slice(4, 540), slice(560, None)

    def correlation(rows: np.ndarray) -> float:
        predicted = Ridge(alpha=100).fit(features[rows][train], velocity[train]).predict(features[rows][test])
        return float(np.corrcoef(predicted, velocity[test])[0, 1])

    assert correlation(np.arange(800)) == pytest.approx(r, abs=0.03)
    assert abs(correlation(np.random.default_rng(0).permutation(800))) < 0.25
    even = spikes.from_traces(traces, times, bin_size=1.2, units="z")
    assert even.attrs["sfreq"] == pytest.approx(1 / 1.2)
    assert even.sizes["time_bin"] == pytest.approx((times[-1] - times[0]) / 1.2, abs=2)


def test_motor_cortex_tells_the_target(data):
    stored = np.load(data / "spikes-m1-reach" / "chewie_20131003_100ms.npz")
    bins = np.arange(len(stored["trial"]))
    counts = neuro.assemble(
        stored["spike_counts"],
        time_bin={
            "time_bin_start": bins * 0.1,
            "time_bin_end": (bins + 1) * 0.1,
            "trial": stored["trial"],
            "stimulus_id": stored["trial_target"][stored["trial"]],
        },
        neuroid={"neuroid_id": np.arange(174)},
        modality="spikes",
        units="spikes",
        sfreq=10,
    )
    frame = pd.DataFrame(np.sqrt(counts.values.astype(float))).groupby(counts.trial.values)
    features, target = frame.mean().to_numpy(), stored["trial_target"]

    def accuracy(labels: np.ndarray) -> float:
        return (
            LogisticRegression(max_iter=2000)
            .fit(features[:127], labels[:127])
            .score(features[127:], target[127:])
        )

    assert accuracy(target) == pytest.approx(0.84, abs=0.04)
    rng = np.random.default_rng(0)
    shuffled = np.mean([accuracy(np.r_[rng.permutation(target[:127]), target[127:]]) for _ in range(5)])
    assert shuffled == pytest.approx(0.125, abs=0.09)
