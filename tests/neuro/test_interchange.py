"""What holds without Brain-Score; tests/brainscore holds the rest."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cerebridge import neuro


def brain(**more: object) -> xr.DataArray:
    return neuro.assemble(
        np.arange(12.0).reshape(4, 3),
        presentation={"stimulus_id": list("aabb"), "repetition": [0, 1, 0, 1]},
        neuroid={"neuroid_id": [5, 6, 7], "region": ["V4", "IT", "IT"]},
        modality="spikes",
        units="spikes/s",
        **more,  # type: ignore[arg-type]
    )


def assembly() -> xr.DataArray:
    """Brain-Score's convention in plain xarray: an index of several levels for every dimension, times in ms."""
    array = xr.DataArray(
        np.arange(12.0).reshape(2, 3, 2),
        dims=("time_bin", "presentation", "neuroid"),
        coords={
            "stimulus_id": ("presentation", ["a", "b", "c"]),
            "repetition": ("presentation", [0, 0, 1]),
            "neuroid_id": ("neuroid", [1, 2]),
            "region": ("neuroid", np.array(["IT", None], dtype=object)),
            "time_bin_start": ("time_bin", [70, 170]),
            "time_bin_end": ("time_bin", [170, 270]),
        },
    )
    return array.set_index(
        presentation=["stimulus_id", "repetition"],
        neuroid=["neuroid_id", "region"],
        time_bin=["time_bin_start", "time_bin_end"],
    )


def test_levels_become_plain_coordinates_and_milliseconds_seconds() -> None:
    array = neuro.from_brainscore(assembly(), modality="spikes", units="spikes/s", provenance="by hand")
    assert array.dims == ("presentation", "neuroid", "time_bin")
    np.testing.assert_array_equal(array.values, np.arange(12.0).reshape(2, 3, 2).transpose(1, 2, 0))
    assert not any(isinstance(index, pd.MultiIndex) for index in array.indexes.values())
    assert array.time_bin_start.values.tolist() == [0.07, 0.17]
    assert array.time_bin_end.values.tolist() == [0.17, 0.27]
    assert array.stimulus_id.dtype.kind == "U"
    assert pd.isna(array.region.values).tolist() == [False, True]
    assert array.attrs == {"modality": "spikes", "units": "spikes/s", "provenance": "by hand"}


def test_what_the_assembly_says_is_taken() -> None:
    given = assembly().assign_attrs(modality="fmri", units="a.u.", identifier="dicarlo")
    array = neuro.from_brainscore(given, units="z")
    assert array.attrs == {"modality": "fmri", "units": "z", "identifier": "dicarlo", "provenance": ""}
    assert given.attrs["units"] == "a.u."


def test_wrong_assemblies_are_named() -> None:
    with pytest.raises(ValueError, match="does not say its modality; give from_brainscore modality="):
        neuro.from_brainscore(assembly())
    with pytest.raises(ValueError, match="does not say its units"):
        neuro.from_brainscore(assembly(), modality="spikes")
    with pytest.raises(
        ValueError, match=r"the assembly is time_bin × neuroid; only presentation × neuroid \["
    ):
        neuro.from_brainscore(assembly()[:, 0], modality="spikes", units="spikes/s")
    with pytest.raises(TypeError, match="expected a Brain-Score assembly, got ndarray"):
        neuro.from_brainscore(np.ones((2, 2)))  # type: ignore[arg-type]
    nameless = xr.DataArray(np.ones((2, 2)), dims=("presentation", "neuroid"))
    with pytest.raises(ValueError, match="'stimulus_id' along 'presentation' is missing"):
        neuro.from_brainscore(nameless, modality="spikes", units="spikes/s")


def test_arrays_without_presentations_are_refused() -> None:
    tables = {"time_bin": {"time_bin_start": [0, 1], "time_bin_end": [1, 2]}, "neuroid": {"neuroid_id": [1]}}
    continuous = neuro.assemble(np.ones((2, 1)), **tables, modality="eeg", units="V")
    with pytest.raises(
        ValueError, match="Brain-Score knows responses to presentations, but the array is time_bin × neuroid"
    ):
        neuro.to_brainscore(continuous)
    with pytest.raises(TypeError, match=r"expected an xarray\.DataArray"):
        neuro.to_brainscore(np.ones((2, 2)))  # type: ignore[arg-type]


def test_labels_that_no_index_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="the coordinate 'presentation' has the name of its dimension"):
        neuro.to_brainscore(brain().assign_coords(presentation=[1, 2, 3, 4]))
    lists = np.empty(4, object)
    lists[:] = [[1], [2], [3], [4]]
    with pytest.raises(ValueError, match=r"'boxes' cannot be a level of an index \(unhashable"):
        neuro.to_brainscore(brain().assign_coords(boxes=("presentation", lists)))


def test_a_missing_brainscore_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("brainscore_core")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "brainscore_core", None)
    with pytest.raises(
        ImportError, match=r"Brain-Score is not installed; .* pip install 'cerebridge\[brainscore\]'"
    ):
        neuro.to_brainscore(brain())
