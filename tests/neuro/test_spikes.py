"""Spikes and traces: every spike is counted once, in the right bin, or the input is refused by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
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


def test_counts_survive_files(tmp_path):
    array = spikes.count(
        TRAINS, events=EVENTS, window=(-0.6, 0.2), rate=True, neuroid={"region": "V1"}, stop=4
    )
    neuro.save(tmp_path / "s.nc", array)
    xr.testing.assert_identical(neuro.load(tmp_path / "s.nc").load(), array)


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
