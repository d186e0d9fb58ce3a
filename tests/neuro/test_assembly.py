"""The labelled array: built, checked, joined."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge import neuro


def small(n_presentations: int = 4, n_neuroids: int = 3, **changes: object) -> xr.DataArray:
    arguments: dict = {
        "presentation": {"stimulus_id": [f"s{k}" for k in range(n_presentations)]},
        "neuroid": {"neuroid_id": np.arange(n_neuroids), "region": "V4"},
        "modality": "spikes",
        "units": "spikes/s",
    }
    values = np.arange(n_presentations * n_neuroids, dtype=float).reshape(n_presentations, n_neuroids)
    return neuro.assemble(values, **(arguments | changes))


def continuous(n_times: int = 5, start: float = 0.0, sfreq: float = 2.0, run: int = 1) -> xr.DataArray:
    times = start + np.arange(n_times) / sfreq
    return neuro.assemble(
        np.ones((n_times, 2)) * run,
        time_bin={"time_bin_start": times, "time_bin_end": times + 1 / sfreq, "run": run},
        neuroid={"neuroid_id": ["a", "b"]},
        modality="fmri",
        units="a.u.",
        sfreq=sfreq,
    )


BINS = {"time_bin_start": [0.0, 0.1], "time_bin_end": [0.1, 0.2]}


# assemble


def test_forms() -> None:
    assert small().dims == ("presentation", "neuroid")
    epochs = neuro.assemble(
        np.zeros((4, 3, 2)),
        presentation={"stimulus_id": list("abcd")},
        neuroid={"neuroid_id": [0, 1, 2]},
        time_bin=BINS,
        modality="eeg",
        units="V",
    )
    assert epochs.dims == ("presentation", "neuroid", "time_bin")
    assert continuous().dims == ("time_bin", "neuroid")
    rdms = neuro.assemble(
        np.zeros((2, 3)),
        rdm={"neuroid_id": ["human", "monkey"]},
        pair={"stimulus_a": [0, 0, 1], "stimulus_b": [1, 2, 2]},
        modality="spikes",
        units="a.u.",
    )
    assert rdms.dims == ("rdm", "pair")


def test_labels_and_attributes_arrive() -> None:
    table = pd.DataFrame({"stimulus_id": ["x", "y"], "when": pd.to_datetime(["2020-01-01", "2021-01-01"])})
    array = neuro.assemble(
        np.zeros((2, 1)),
        presentation=table,
        neuroid={"neuroid_id": ["n"], "region": "IT"},
        modality="spikes",
        units="spikes",
        provenance="by hand",
        name="counts",
    )
    assert array.coords["stimulus_id"].dtype.kind == "U"
    assert array.coords["when"].dtype.kind == "M"
    assert array.coords["region"].values.tolist() == ["IT"]
    assert array.attrs == {"modality": "spikes", "units": "spikes", "provenance": "by hand"}
    assert array.name == "counts"
    assert continuous().attrs["sfreq"] == 2.0


@pytest.mark.parametrize("grad", [False, True])
def test_torch_values_and_labels(grad: bool) -> None:
    values = torch.arange(6, dtype=torch.float32).reshape(3, 2).requires_grad_(grad)
    array = neuro.assemble(
        values,
        presentation={"stimulus_id": torch.tensor([4, 5, 6])},
        neuroid={"neuroid_id": [0, 1]},
        modality="activation",
        units="a.u.",
    )
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array.values, values.detach().numpy())
    assert array.coords["stimulus_id"].values.tolist() == [4, 5, 6]


def test_masked_values_are_missing() -> None:
    values = np.ma.masked_array(np.arange(6).reshape(3, 2), mask=[[0, 1], [0, 0], [0, 0]])
    array = neuro.assemble(
        values,
        presentation={"stimulus_id": list("abc")},
        neuroid={"neuroid_id": [0, 1]},
        modality="spikes",
        units="spikes",
    )
    np.testing.assert_array_equal(array.values, [[0, np.nan], [2, 3], [4, 5]])


def test_mixed_labels_stay_what_they_are() -> None:
    array = small(3, 1, presentation={"stimulus_id": list("abc"), "word": ["x", float("nan"), 3]})
    word = array.coords["word"].values
    assert word[0] == "x"
    assert np.isnan(word[1])
    assert word[2] == 3


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"presentation": None}, r"given tables for \['neuroid'\]; give one table for each dimension of"),
        ({"time_bin": BINS}, "values have 2 axes, but the tables describe presentation × neuroid × time_bin"),
        ({"presentation": {"stimulus_id": ["a", "b"]}}, "'stimulus_id' .* has 2 rows, but the values have 4"),
        (
            {"presentation": {"stimulus_id": np.zeros((4, 2))}},
            r"has the shape \(4, 2\); give one value a row",
        ),
        ({"presentation": {"image": list("abcd")}}, "'stimulus_id' along 'presentation' is missing; give it"),
        ({"presentation": {"stimulus_id": ["a", None, "c", "d"]}}, "missing at presentation 1"),
        ({"presentation": {"stimulus_id": [1.0, 2.0, np.nan, 4.0]}}, "missing at presentation 2"),
        ({"neuroid": {"neuroid_id": [7, 8, 7]}}, "neuroid_id 7 occurs 2 times along 'neuroid'"),
        (
            {"neuroid": {"neuroid_id": [0, 1, 2], "stimulus_id": "a"}},
            "in the tables of both 'presentation' and",
        ),
        ({"modality": ""}, r"attrs\['modality'\] is missing"),
        ({"units": ""}, r"attrs\['units'\] is missing"),
    ],
)
def test_wrong_tables(changes: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        small(**changes)


@pytest.mark.parametrize(
    ("bins", "match"),
    [
        (
            {"time_bin_start": [0.0, 0.1]},
            "'time_bin_end' along 'time_bin' is missing; give the start and end",
        ),
        (
            {"time_bin_start": [0.0, 0.2], "time_bin_end": [0.1, 0.1]},
            "time_bin 1 starts at 0.2 s and ends at 0.1",
        ),
        ({"time_bin_start": [0.0, np.nan], "time_bin_end": [0.1, 0.2]}, "missing at time_bin 1"),
        ({"time_bin_start": ["0", "1"], "time_bin_end": ["1", "2"]}, "give numbers, in seconds"),
    ],
)
def test_wrong_times(bins: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        neuro.assemble(
            np.zeros((2, 1)), time_bin=bins, neuroid={"neuroid_id": [0]}, modality="eeg", units="V", sfreq=10
        )


# validate


def test_validate_returns_the_same_object() -> None:
    array = small()
    assert neuro.validate(array) is array


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda a: a.T, "the dimensions are neuroid × presentation; transpose or rename"),
        (lambda a: a.isel(presentation=slice(0, 0)), "'presentation' is empty"),
        (lambda a: a.astype(complex), "type complex128; only real numbers"),
        (lambda a: a.astype(str), "only real numbers"),
        (lambda a: a.drop_vars(["neuroid_id"]), "'neuroid_id' along 'neuroid' is missing"),
        (
            lambda a: a.drop_vars(["stimulus_id"]).assign_coords(stimulus_id=("neuroid", list("abc"))),
            "must lie along 'presentation' alone",
        ),
    ],
)
def test_validate_names_what_is_wrong(spoil, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        neuro.validate(spoil(small()))


def test_validate_wants_an_array() -> None:
    with pytest.raises(TypeError, match="got ndarray; build one with neuro.assemble"):
        neuro.validate(np.zeros((2, 2)))


# concat


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, 5), dim=st.sampled_from(["presentation", "neuroid", "time_bin"]))
def test_cut_and_joined_is_the_same(cut: int, dim: str) -> None:
    rng = np.random.default_rng(0)
    times = np.arange(6) / 10
    array = neuro.assemble(
        rng.standard_normal((6, 6, 6)),
        presentation={"stimulus_id": list("aabbcd"), "when": pd.date_range("2020-01-01", periods=6)},
        neuroid={"neuroid_id": np.arange(6), "x": rng.random(6)},
        time_bin={"time_bin_start": times, "time_bin_end": times + 0.1},
        modality="eeg",
        units="V",
        provenance="simulated",
    )
    array = array.assign_coords(quality=(("presentation", "neuroid"), rng.random((6, 6))), subject="one")
    joined = neuro.concat([array.isel({dim: slice(0, cut)}), array.isel({dim: slice(cut, None)})], dim)
    xr.testing.assert_identical(joined, array)


def test_other_dimensions_are_brought_into_order() -> None:
    first = small(neuroid={"neuroid_id": [0, 1, 2]})
    shuffled = small(neuroid={"neuroid_id": [10, 11, 12]}).isel(presentation=[2, 0, 3, 1])
    joined = neuro.concat([first, shuffled], "neuroid")
    np.testing.assert_array_equal(joined.values[:, :3], first.values)
    np.testing.assert_array_equal(joined.values[:, 3:], first.values)


def test_repeats_are_paired_by_repetition() -> None:
    table = {"stimulus_id": list("aabb"), "repetition": [0, 1, 0, 1]}
    first = small(presentation=table, neuroid={"neuroid_id": [0, 1, 2]})
    other = small(presentation=table, neuroid={"neuroid_id": [3, 4, 5]}).isel(presentation=[3, 1, 0, 2])
    joined = neuro.concat([first, other], "neuroid")
    np.testing.assert_array_equal(joined.values[:, 3:], first.values)
    with pytest.raises(ValueError, match="array 1 has other stimulus_id along 'presentation'"):
        neuro.concat([first.drop_vars(["repetition"]), other.drop_vars(["repetition"])], "neuroid")


def test_labels_that_some_lack_are_missing() -> None:
    dates = pd.date_range("2020-01-01", periods=4)
    full = small(
        presentation={
            "stimulus_id": list("abcd"),
            "word": "x",
            "dose": 1,
            "when": dates,
            "wait": dates - dates[0],
        }
    )
    joined = neuro.concat([small(), full], "presentation")
    assert joined.coords["word"].values.tolist() == [""] * 4 + ["x"] * 4
    assert np.isnan(joined.coords["dose"].values[:4]).all()
    assert np.isnat(joined.coords["when"].values[:4]).all()
    assert np.isnat(joined.coords["wait"].values[:4]).all()
    assert (joined.coords["when"].values[4:] == dates.to_numpy()).all()


def test_scalar_labels_that_differ_lie_along_the_joined_dimension() -> None:
    parts = [
        small(neuroid={"neuroid_id": [f"{subject}{k}" for k in range(3)]}).assign_coords(subject=subject)
        for subject in "AB"
    ]
    joined = neuro.concat(parts, "neuroid")
    assert joined.coords["subject"].values.tolist() == list("AAABBB")
    assert joined.coords["subject"].dims == ("neuroid",)


def test_runs_of_a_continuous_recording() -> None:
    joined = neuro.concat([continuous(run=1), continuous(run=2, n_times=3)], "time_bin")
    assert joined.coords["run"].values.tolist() == [1] * 5 + [2] * 3
    assert joined.attrs["sfreq"] == 2.0


def test_attributes_that_differ_are_joined() -> None:
    first = small(provenance="monday")
    other = small(provenance="tuesday")
    assert neuro.concat([first, other, first], "presentation").attrs["provenance"] == "monday; tuesday"


@pytest.mark.parametrize(
    ("arrays", "dim", "match"),
    [
        ([], "neuroid", "no arrays"),
        ([small(), continuous()], "neuroid", "array 1 is time_bin × neuroid; all must be like the first"),
        ([small(), small()], "time_bin", "array 0 is presentation × neuroid"),
        (
            [small(), small(units="spikes")],
            "presentation",
            "array 1 has units 'spikes', the first 'spikes/s'",
        ),
        ([small(), small(modality="fmri")], "presentation", "has modality 'fmri'"),
        ([continuous(), continuous(sfreq=4.0)], "time_bin", "has sfreq 4.0, the first 2.0; convert"),
        ([small(), small()], "neuroid", "neuroid_id 0 occurs 2 times"),
        (
            [small(), small(presentation={"stimulus_id": list("wxyz")}, neuroid={"neuroid_id": [5, 6, 7]})],
            "neuroid",
            "array 1 has other stimulus_id along 'presentation' than the first",
        ),
        (
            [small(), small(neuroid={"neuroid_id": [0, 1, 2], "region": "IT"})],
            "presentation",
            "disagree on 'region' along neuroid; select what they share, or drop or rename",
        ),
        ([continuous(3), continuous(4).isel(neuroid=[0])], "time_bin", "array 1 has other neuroid_id"),
    ],
)
def test_what_cannot_be_joined(arrays: list, dim: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        neuro.concat(arrays, dim)


def test_times_that_differ_are_not_joined_along_neuroid() -> None:
    other = continuous(start=1.0).assign_coords(neuroid_id=("neuroid", ["c", "d"]))
    with pytest.raises(ValueError, match="disagree on 'time_bin_start'"):
        neuro.concat([continuous(), other], "neuroid")
