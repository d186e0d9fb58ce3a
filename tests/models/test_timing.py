"""From one clock to another: brute force, conservation, recovery, and a voxel whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge import encoding, models, neuro

RNG = np.random.default_rng(0)


def words(values, onset, offset=None, **labels):
    values = np.asarray(values)
    table = {"stimulus_id": "story", "onset": onset, **labels}
    if offset is not None:
        table["offset"] = offset
    units = {"neuroid_id": [f"u{k}" for k in range(values.shape[1])], "layer": "fc"}
    return neuro.assemble(values, presentation=table, neuroid=units, modality="activation", units="a.u.")


def samples(values, rate, start=0.0, **labels):
    values = np.asarray(values)
    at = start + np.arange(len(values)) / rate
    table = {"time_bin_start": at, "time_bin_end": at + 1 / rate, **labels}
    units = {"neuroid_id": list(range(values.shape[1]))}
    return neuro.assemble(
        values, time_bin=table, neuroid=units, modality="features", units="a.u.", sfreq=rate
    )


def story(n=200, units=3, seed=0, length=120.0):
    rng = np.random.default_rng(seed)
    onset = np.sort(rng.uniform(0, length - 1, n))
    return words(rng.standard_normal((n, units)), onset, onset + rng.uniform(0.05, 0.5, n))


def resampled(array, times, **options):
    return models.resample_in_time(array, times, **options)


def test_lanczos_is_the_sum_that_it_is_defined_by():
    array, starts, step, lobes = story(), np.arange(0, 120, 1.5), 1.5, 3
    result = resampled(array, starts, lobes=lobes)
    middles = (array["onset"].values + array["offset"].values) / 2
    expected = np.zeros((len(starts), 3))
    for bin, time in enumerate(starts + step / 2):
        for row, middle in enumerate(middles):
            x = (time - middle) / step  # the cutoff is half the rate of the bins
            if x == 0:
                weight = 1.0
            elif abs(x) > lobes:
                weight = 0.0
            else:
                weight = lobes * np.sin(np.pi * x) * np.sin(np.pi * x / lobes) / (np.pi * x) ** 2
            expected[bin] += weight * array.values[row]
    np.testing.assert_allclose(result.values, expected, atol=1e-12)
    assert result.dims == ("time_bin", "neuroid")
    assert result.attrs["sfreq"] == pytest.approx(1 / 1.5)
    assert result["layer"].values.tolist() == ["fc"] * 3
    made = json.loads(result.attrs["provenance"])["resampled"]
    assert (made["kernel"], made["lobes"], made["causal"]) == ("lanczos", 3, False)
    assert made["cutoff"] == pytest.approx(1 / 3)


def test_sums_conserve_mass_and_means_are_means():
    array, starts = story(), np.arange(0, 120, 2.0)
    total = resampled(array, starts, kernel="sum", moment="onset")
    np.testing.assert_allclose(total.values.sum(0), array.values.sum(0), rtol=1e-12)
    counts = resampled(words(np.ones((200, 1)), array["onset"].values), starts, kernel="sum")
    expected, _ = np.histogram(array["onset"].values, np.append(starts, 120))
    np.testing.assert_array_equal(counts.values[:, 0], expected)
    mean = resampled(array, starts, kernel="mean", moment="onset", fill="zero")
    np.testing.assert_allclose(mean.values, total.values / np.maximum(counts.values, 1), rtol=1e-12)


def test_held_words_have_the_area_of_their_durations():
    array = words(np.ones((3, 1)) * [[1.0], [2.0], [4.0]], [0.0, 1.5, 4.0], [1.0, 2.5, 6.0])
    result = resampled(array, [[0, 2], [2, 4], [4, 6]], kernel="hold")
    np.testing.assert_allclose(result.values[:, 0], [(1 + 2 * 0.5) / 2, 2 * 0.5 / 2, 4])
    whole = story()
    held = resampled(whole, np.arange(0, 121, 0.25), kernel="hold")
    duration = (whole["offset"] - whole["onset"]).values
    apart = np.append(whole["onset"].values[1:] >= whole["offset"].values[:-1], True)
    apart &= np.append(True, apart[:-1])
    alone = whole.isel(presentation=np.flatnonzero(apart))
    held = resampled(alone, np.arange(0, 121, 0.25), kernel="hold")
    np.testing.assert_allclose(held.values.sum(0) * 0.25, duration[apart] @ alone.values, rtol=1e-10)


def test_overlapping_frames_are_averaged_not_added():
    frames = neuro.assemble(
        np.ones((5, 1)),
        time_bin={"time_bin_start": np.arange(5.0), "time_bin_end": np.arange(5.0) + 3},
        neuroid={"neuroid_id": ["a"]},
        modality="activation",
        units="a.u.",
    )
    np.testing.assert_allclose(resampled(frames, np.arange(0, 6, 2.0), kernel="hold").values, 1)


@pytest.mark.parametrize(("old", "new"), [(50.0, 10.0), (10.0, 37.0), (20.0, 20.0)])
def test_a_band_limited_signal_is_recovered(old, new):
    def signal(t):
        return np.stack([np.sin(2 * np.pi * 0.9 * t), np.cos(2 * np.pi * 1.7 * t + 1)], axis=1)

    array = samples(signal((np.arange(int(60 * old)) + 0.5) / old), old)
    starts = np.arange(0, 60, 1 / new)
    result = resampled(array, starts, lobes=8)
    inside = slice(int(3 * new), -int(3 * new))
    np.testing.assert_allclose(result.values[inside], signal(starts + 0.5 / new)[inside], atol=0.03)


def test_what_is_faster_than_the_cutoff_is_taken_out():
    t = (np.arange(6000) + 0.5) / 100
    array = samples(np.stack([np.sin(2 * np.pi * 17 * t), np.sin(2 * np.pi * 0.5 * t)], axis=1), 100.0)
    slow = resampled(array, np.arange(0, 60, 0.2), lobes=5).values[20:-20].std(0)
    kept = resampled(array, np.arange(0, 60, 0.2), kernel="nearest").values[20:-20].std(0)
    assert slow[0] < 0.02 < 0.5 < kept[0]
    assert slow[1] == pytest.approx(np.sqrt(0.5), rel=0.02)


def test_the_last_value_is_never_one_to_come():
    array = story()
    starts = np.arange(0, 120, 0.5)
    base = resampled(array, starts, kernel="last", moment="offset", at="start", fill="zero")
    later = array.copy(deep=True)
    later.values[array["offset"].values > 60] = 99
    changed = resampled(later, starts, kernel="last", moment="offset", at="start", fill="zero")
    np.testing.assert_array_equal(base.values[starts <= 60], changed.values[starts <= 60])
    assert (changed.values[starts > 62] == 99).all()
    assert json.loads(base.attrs["provenance"])["resampled"]["causal"] is True


def test_linear_and_nearest_are_those_of_numpy_and_by_hand():
    array = story(50)
    middles = (array["onset"].values + array["offset"].values) / 2
    points = np.linspace(middles.min(), middles.max() - 1e-3, 40)
    bins = np.stack([points, points + 1e-4], axis=1)
    result = resampled(array, bins, kernel="linear", at="start")
    order = np.argsort(middles)
    for unit in range(3):
        expected = np.interp(points, middles[order], array.values[order, unit])
        np.testing.assert_allclose(result.values[:, unit], expected, atol=1e-12)
    nearest = resampled(array, bins, kernel="nearest", at="start").values
    np.testing.assert_array_equal(nearest, array.values[np.abs(points[:, None] - middles).argmin(1)])


@pytest.mark.parametrize("kernel", ["lanczos", "mean", "sum", "hold", "last", "linear", "nearest"])
@settings(max_examples=8, deadline=None)
@given(shift=st.integers(-4000, 4000).map(lambda k: k / 4), order=st.randoms(use_true_random=False))
def test_shifting_the_clock_or_the_order_of_words_changes_nothing(kernel, shift, order):
    array, starts = story(80), np.arange(0, 120, 3.0)
    base = resampled(array, starts, kernel=kernel, fill="hold")
    rows = list(range(80))
    order.shuffle(rows)
    times = {name: ("presentation", array[name].values + shift) for name in ("onset", "offset")}
    moved = resampled(
        array.assign_coords(times).isel(presentation=rows), starts + shift, kernel=kernel, fill="hold"
    )
    np.testing.assert_allclose(moved.values, base.values, atol=1e-8)
    np.testing.assert_allclose(moved["time_bin_start"].values, base["time_bin_start"].values + shift)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_is_kept_and_pieces_change_nothing(dtype, monkeypatch):
    array = story(300, 5).astype(dtype)
    whole = resampled(array, np.arange(0, 120, 2.0))
    monkeypatch.setattr("cerebridge.models.timing.CHUNK_BYTES", 8 * 5 * 7)
    pieces = resampled(array, np.arange(0, 120, 2.0))
    assert whole.dtype == pieces.dtype == dtype
    np.testing.assert_allclose(pieces.values, whole.values, atol=1e-6 if dtype == "float32" else 1e-12)


def test_runs_keep_their_own_clocks():
    rows = np.repeat([1, 2], 5)
    onset = np.tile(np.arange(5.0), 2)
    array = words(np.arange(10.0)[:, None], onset, run=rows)
    bold = samples(np.zeros((6, 1)), 0.5).assign_coords(
        run=("time_bin", [2, 2, 2, 1, 1, 1]),
        time_bin_start=("time_bin", [0.0, 2, 4, 0, 2, 4]),
        time_bin_end=("time_bin", [2.0, 4, 6, 2, 4, 6]),
    )
    result = resampled(array, bold, kernel="sum")
    assert result.values[:, 0].tolist() == [11, 15, 9, 1, 5, 4]
    assert result["run"].values.tolist() == [2, 2, 2, 1, 1, 1]
    with pytest.raises(ValueError, match="2 runs, each with its own clock"):
        resampled(array, np.arange(3.0))
    with pytest.raises(ValueError, match="the recording has run 2, which what is to be resampled lacks"):
        resampled(array.isel(presentation=slice(5)), bold)


def test_gaps_are_refused_or_filled():
    array = words([[1.0], [2.0], [3.0]], [1.0, 1.5, 8.5])
    starts = np.arange(0, 12, 2.0)
    assert resampled(array, starts, kernel="sum").values[:, 0].tolist() == [3, 0, 0, 0, 3, 0]
    with pytest.raises(ValueError, match=r"4 new bins are empty for kernel='mean', the first from 2 to 4 s"):
        resampled(array, starts, kernel="mean")
    zero = resampled(array, starts, kernel="mean", fill="zero")
    held = resampled(array, starts, kernel="mean", fill="hold")
    assert zero.values[:, 0].tolist() == [1.5, 0, 0, 0, 3, 0]
    assert held.values[:, 0].tolist() == [1.5, 2, 2, 2, 3, 3]
    broken = samples(np.ones((100, 1)), 10.0).isel(time_bin=np.r_[0:30, 60:100])
    with pytest.raises(ValueError, match="new bins are empty for kernel='lanczos'"):
        resampled(broken, np.arange(0, 10, 0.2))
    np.testing.assert_allclose(resampled(broken, np.arange(0, 10, 0.2), fill="hold").values, 1)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"kernel": "sinc"}, "kernel is 'sinc'; use one of"),
        ({}, {"moment": "end"}, "moment is 'end'"),
        ({}, {"lobes": 0}, "lobes is 0"),
        ({}, {"cutoff": -1.0}, r"cutoff is -1.0"),
        ({}, {"times": [0.0, 1.0, 3.0]}, "not equally spaced"),
        ({}, {"times": [[0.0, 1.0], [2.0, 2.0]]}, "the new bin 1 starts at 2.0 s and ends at 2.0 s"),
        ({}, {"times": [[2.0, 3.0], [0.0, 1.0]]}, "not in the order of time"),
        ({}, {"times": [1.0]}, r"times has the shape \(1,\)"),
        ({}, {"times": np.arange(0, 2e6, 1e3) + 1e6}, "bring both to one clock, in seconds"),
        ({"onset": None}, {}, "has no 'onset'"),
        ({"onset": np.nan}, {}, "row 0 has no time"),
        ({"offset": 0.0}, {"kernel": "hold"}, "row 0 has no duration"),
    ],
)
def test_bad_input(change, options, message):
    array = words(np.ones((4, 2)), [1.0, 2, 3, 4], [1.0, 2.5, 3.5, 4.5])
    for name, value in change.items():
        array = array.drop_vars(name) if value is None else array
        if value is not None:
            array[name].values[0] = array["onset"].values[0] if name == "offset" else value
    with pytest.raises(ValueError, match=message):
        resampled(array, **{"times": np.arange(0, 6, 2.0), **options})


def test_clips_whose_time_begins_again_are_refused():
    both = neuro.concat([samples(np.ones((4, 1)), 2.0), samples(np.ones((4, 1)), 2.0)], "time_bin")
    with pytest.raises(ValueError, match="time begins again at row 4"):
        resampled(both, np.arange(0, 2.0))


def test_missing_values_are_named():
    array = words(np.ones((4, 2)), [1.0, 2, 3, 4])
    array.values[2, 1] = np.nan
    with pytest.raises(ValueError, match="row 2 of the array has missing or infinite values"):
        resampled(array, np.arange(0, 6, 2.0), kernel="sum")


def test_a_voxel_that_follows_words_is_predicted_and_one_of_shuffled_onsets_is_not():
    rng = np.random.default_rng(1)
    onset = np.sort(rng.uniform(0, 598, 1500))
    array = words(rng.standard_normal((1500, 4)), onset, onset + 0.2)
    volumes = samples(np.zeros((300, 1)), 0.5)

    def chain(words):
        fine = resampled(words, np.arange(0, 600, 0.5), kernel="sum", moment="onset")
        return encoding.convolve_hrf(fine, volumes).values

    truth = chain(array)
    bold = truth @ rng.standard_normal((4, 5))
    bold += bold.std(0) * rng.standard_normal(bold.shape)
    shuffled = array.isel(presentation=rng.permutation(1500))
    shuffled = shuffled.assign_coords(onset=("presentation", onset), offset=("presentation", onset + 0.2))
    half = 150

    def scores(features):
        fitted = encoding.RidgeCV().fit(features[:half], bold[:half])
        predicted = fitted.predict(features[half:])
        return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, bold[half:].T, strict=True)])

    by_lanczos = encoding.convolve_hrf(resampled(array, volumes), volumes).values
    assert scores(truth).min() > 0.55
    assert scores(by_lanczos).mean() > 0.5
    assert abs(scores(chain(shuffled)).mean()) < 0.15


def test_held_values_that_overlap_are_averaged_at_each_moment():
    by_hand = words([[1.0], [3.0], [5.0]], [0.0, 0.0, 1.5], [0.5, 0.5, 3.0])
    held = resampled(by_hand, [[0, 1], [1, 2]], kernel="hold").values[:, 0]
    np.testing.assert_allclose(held, [0.5 * 2.0, 0.5 * 5.0])
    array, bins = story(40, units=2, length=30.0), np.arange(0, 32, 0.7)
    held = resampled(array, bins, kernel="hold").values
    moments = (np.arange(2000 * len(bins)) + 0.5) * 0.7 / 2000
    lasting = (array["onset"].values <= moments[:, None]) & (moments[:, None] < array["offset"].values)
    now = lasting @ array.values / np.maximum(lasting.sum(1), 1)[:, None]
    np.testing.assert_allclose(held, now.reshape(len(bins), 2000, 2).mean(1), atol=5e-3)


def test_clocks_of_hours_lose_no_precision():
    start = 4 * 3600 + 0.1
    array = samples(np.arange(2000.0)[:, None].astype(np.float32), 1000.0, start)
    for kernel, expected in (("mean", np.arange(4.5, 2000, 10)), ("hold", np.arange(4.5, 2000, 10))):
        result = resampled(array, start + np.arange(200) * 0.01, kernel=kernel)
        np.testing.assert_allclose(result.values[:, 0], expected, rtol=1e-5, atol=1e-4)
        assert result.attrs["sfreq"] == pytest.approx(100, rel=1e-5)
