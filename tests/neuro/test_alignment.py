"""Arrays aligned by stimulus, repeats averaged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge import neuro


def array_of(ids: object, values: np.ndarray | None = None, **labels: object) -> xr.DataArray:
    """One value a presentation by default: its row number."""
    size = len(ids)
    return neuro.assemble(
        np.arange(size, dtype=float)[:, None] if values is None else values,
        presentation={"stimulus_id": ids, **labels},
        neuroid={"neuroid_id": np.arange(1 if values is None else values.shape[1])},
        modality="spikes",
        units="spikes",
    )


id_lists = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12)


# average_repeats


@settings(max_examples=50, deadline=None)
@given(ids=id_lists, seed=st.integers(0, 1000), missing=st.floats(0, 0.9))
def test_average_is_the_mean_of_what_is_there(ids: list[str], seed: int, missing: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((len(ids), 3))
    values[rng.random(values.shape) < missing] = np.nan
    averaged = neuro.average_repeats(array_of(ids, values))
    expected = pd.DataFrame(values).groupby(np.array(ids), sort=False).mean()
    assert (
        averaged.coords["stimulus_id"].values.tolist() == list(dict.fromkeys(ids)) == expected.index.tolist()
    )
    np.testing.assert_allclose(averaged.values, expected.to_numpy(), rtol=0, atol=1e-12)
    assert averaged.coords["n_repeats"].values.tolist() == [ids.count(i) for i in dict.fromkeys(ids)]
    neuro.validate(averaged)


@settings(max_examples=25, deadline=None)
@given(ids=id_lists, seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(ids: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = array_of(ids, rng.standard_normal((len(ids), 2)))
    shuffled = array.isel(presentation=rng.permutation(len(ids)))
    one, other = neuro.average_repeats(array), neuro.average_repeats(shuffled)
    order = [other.coords["stimulus_id"].values.tolist().index(i) for i in one.coords["stimulus_id"].values]
    np.testing.assert_allclose(one.values, other.values[order], atol=1e-12)


def test_averaging_twice_changes_nothing() -> None:
    once = neuro.average_repeats(array_of(list("aabbb")))
    xr.testing.assert_identical(neuro.average_repeats(once), once)


def test_epochs_are_averaged_too() -> None:
    values = np.random.default_rng(0).standard_normal((4, 2, 3))
    epochs = neuro.assemble(
        values,
        presentation={"stimulus_id": list("abab")},
        neuroid={"neuroid_id": [0, 1]},
        time_bin={"time_bin_start": [0.0, 1.0, 2.0], "time_bin_end": [1.0, 2.0, 3.0]},
        modality="eeg",
        units="V",
    )
    np.testing.assert_allclose(neuro.average_repeats(epochs).values, (values[:2] + values[2:]) / 2)


def test_labels_that_differ_within_a_stimulus_go_and_others_stay() -> None:
    array = array_of(list("aab"), repetition=[0, 1, 0], category=["x", "x", "y"], side=[np.nan, np.nan, 1.0])
    array = array.assign_coords(quality=(("presentation", "neuroid"), [[1.0], [2.0], [3.0]]))
    averaged = neuro.average_repeats(array)
    assert averaged.coords["category"].values.tolist() == ["x", "y"]
    np.testing.assert_array_equal(averaged.coords["side"].values, [np.nan, 1.0])
    assert "repetition" not in averaged.coords
    assert "quality" not in averaged.coords


def test_averages_over_another_label_stay_an_array() -> None:
    array = array_of(list("abcd"), category=["x", "y", "x", "y"])
    averaged = neuro.average_repeats(array, on="category")
    assert neuro.validate(averaged).coords["stimulus_id"].values.tolist() == ["x", "y"]
    np.testing.assert_array_equal(averaged.values[:, 0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("dtype", "expected"), [("int64", "float64"), ("int16", "float32"), ("float32", "float32")]
)
def test_counts_become_numbers_that_can_be_halved(dtype: str, expected: str) -> None:
    averaged = neuro.average_repeats(array_of(list("aab"), np.array([[1], [2], [5]], dtype=dtype)))
    assert averaged.dtype == expected
    np.testing.assert_array_equal(averaged.values[:, 0], [1.5, 5.0])


# align


@settings(max_examples=50, deadline=None)
@given(a=id_lists, b=id_lists, how=st.sampled_from(["average", "keep"]))
def test_rows_are_of_the_same_stimulus(a: list[str], b: list[str], how: str) -> None:
    if how == "keep":
        b = list(dict.fromkeys(b))
    if not set(a) & set(b):
        with pytest.raises(ValueError, match="share no stimulus_id"):
            neuro.align(array_of(a), array_of(b), repeats=how)
        return
    first, second, report = neuro.align(array_of(a), array_of(b), repeats=how)
    ids = first.coords["stimulus_id"].values.tolist()
    assert ids == second.coords["stimulus_id"].values.tolist()
    assert report.common == [i for i in dict.fromkeys(a) if i in b]
    assert set(report.common) | set(report.dropped_a) == set(a)
    assert set(report.common) | set(report.dropped_b) == set(b)
    assert report.duplicated_a == list(dict.fromkeys(i for k, i in enumerate(a) if i in a[:k]))
    assert ids == (report.common if how == "average" else [i for i in a if i in b])


@settings(max_examples=25, deadline=None)
@given(a=id_lists, b=id_lists)
def test_the_other_way_round_is_the_same_in_another_order(a: list[str], b: list[str]) -> None:
    if not set(a) & set(b):
        return
    first, second, report = neuro.align(array_of(a), array_of(b))
    second_, first_, report_ = neuro.align(array_of(b), array_of(a))
    order = [second_.coords["stimulus_id"].values.tolist().index(i) for i in report.common]
    np.testing.assert_array_equal(first.values, first_.values[order])
    np.testing.assert_array_equal(second.values, second_.values[order])
    assert report.dropped_a == report_.dropped_b


@pytest.mark.parametrize("swapped", [False, True])
def test_keep_keeps_every_repeat_of_either_side(swapped: bool) -> None:
    brain = array_of(list("abcab"), np.arange(5.0)[:, None] * 10)
    model = array_of(list("cbax"))
    if swapped:
        kept_model, kept_brain, _ = neuro.align(model, brain, repeats="keep")
        expected = [("c", 20), ("b", 10), ("b", 40), ("a", 0), ("a", 30)]
    else:
        kept_brain, kept_model, _ = neuro.align(brain, model, repeats="keep")
        expected = [("a", 0), ("b", 10), ("c", 20), ("a", 30), ("b", 40)]
    ids = kept_brain.coords["stimulus_id"].values.tolist()
    assert list(zip(ids, kept_brain.values[:, 0], strict=True)) == expected
    assert kept_model.coords["stimulus_id"].values.tolist() == ids
    np.testing.assert_array_equal(kept_model.values[:, 0], ["cba".index(i) for i in ids])


def test_keep_pairs_repeats_of_both_sides_by_repetition() -> None:
    one = array_of(list("aabb"), repetition=[0, 1, 0, 1])
    other = array_of(list("baab"), repetition=[1, 1, 0, 0])
    first, second, report = neuro.align(one, other, repeats="keep")
    np.testing.assert_array_equal(first.values, one.values)
    np.testing.assert_array_equal(second.values[:, 0], [2, 1, 3, 0])
    assert report.duplicated_a == report.duplicated_b == ["a", "b"]


def test_stimuli_without_any_value_are_reported() -> None:
    values = np.array([[1.0], [np.nan], [np.nan], [2.0]])
    _, _, report = neuro.align(array_of(list("abbc"), values), array_of(list("abc")))
    assert report.missing == ["b"]
    assert str(report) == (
        "3 common stimulus_id; dropped 0 of the first and 0 of the second; repeated 1 and 0; 1 without any value."
    )


@pytest.mark.parametrize(
    "ids", [[3, 1, 2], [0.5, 1.5, 2.5], ["é", "日本", "z"], pd.date_range("2020-01-01", periods=3)]
)
def test_any_type_of_id(ids) -> None:
    order = [2, 0, 1]
    first, second, report = neuro.align(array_of(ids), array_of(ids).isel(presentation=order))
    np.testing.assert_array_equal(first.values, second.values)
    assert report.common == list(ids)


def test_other_label() -> None:
    one = array_of(list("abc"), name=["x", "y", "z"])
    other = array_of(list("cde"), name=["z", "x", "y"])
    first, second, _ = neuro.align(one, other, on="name")
    assert first.coords["name"].values.tolist() == second.coords["name"].values.tolist() == ["x", "y", "z"]
    np.testing.assert_array_equal(second.values[:, 0], [1, 2, 0])


REPEATED = array_of(list("aabb"))
CONTINUOUS = neuro.assemble(
    np.zeros((2, 1)),
    time_bin={"time_bin_start": [0.0, 1.0], "time_bin_end": [1.0, 2.0]},
    neuroid={"neuroid_id": [0]},
    modality="fmri",
    units="a.u.",
)


@pytest.mark.parametrize(
    ("a", "b", "options", "match"),
    [
        (REPEATED, REPEATED, {"repeats": "drop"}, "repeats is 'drop'; it must be 'average' or 'keep'"),
        (REPEATED, array_of([1, 2]), {}, r"share no stimulus_id \(first: 'a', 'b'; second: 1, 2\)"),
        (REPEATED, CONTINUOUS, {}, r"the second array has no presentations \(it is time_bin × neuroid\)"),
        (REPEATED, REPEATED, {"on": "word"}, "the first array has no coordinate 'word' along 'presentation'"),
        (
            REPEATED,
            REPEATED,
            {"repeats": "keep"},
            "both arrays repeat stimulus_id, and without a 'repetition'",
        ),
        (
            array_of(list("aab"), repetition=[0, 1, 0]),
            array_of(list("aab"), repetition=[0, 0, 0]),
            {"repeats": "keep"},
            "do not match one to one",
        ),
        (
            array_of(list("ab"), word=["x", None]),
            REPEATED,
            {"on": "word"},
            "'word' is missing at presentation 1 of",
        ),
    ],
)
def test_what_cannot_be_aligned(a: xr.DataArray, b: xr.DataArray, options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        neuro.align(a, b, **options)


@pytest.mark.parametrize("call", [lambda x: neuro.align(REPEATED, x), neuro.average_repeats])
def test_plain_values_are_refused(call) -> None:
    with pytest.raises(TypeError, match=r"no xarray.DataArray but a ndarray; build one with neuro.assemble"):
        call(np.ones((2, 2)))
