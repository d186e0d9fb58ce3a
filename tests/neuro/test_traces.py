"""Traces: frames, bin means and interpolation are what pandas and geometry say."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from cerebridge.neuro import spikes

EVENTS = {"onset": [1.0, 2.0, 3.0], "stimulus_id": ["a", "b", "a"], "contrast": [0.1, 0.5, 0.9]}


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


def lagged(values: np.ndarray, lags: tuple[int, ...]) -> np.ndarray:
    """Columns of ``values`` from ``lags`` rows before, zero before the beginning."""
    return np.hstack(
        [np.vstack([np.zeros((lag, values.shape[1])), values[: len(values) - lag]]) for lag in lags]
    )


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
