"""Saved arrays as the netCDF library itself reads them; that library comes with Brain-Score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cerebridge import neuro

netCDF4 = pytest.importorskip(
    "netCDF4", reason="the netCDF library is not installed here (it comes with Brain-Score)"
)
pytestmark = pytest.mark.brainscore


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
def test_the_netcdf_library_reads_our_files(tmp_path: Path, dtype: str) -> None:
    values = (np.arange(12).reshape(4, 3) % 5).astype(dtype)
    array = neuro.assemble(
        values,
        presentation={
            "stimulus_id": list("abüd"),
            "label": np.array(["x", None, "y", ""], dtype=object),
            "date": np.array(["2020-01-01", "2021-01-01", "2021-01-02", "2022-01-01"], "datetime64[ns]"),
        },
        neuroid={"neuroid_id": [5, 6, 7], "good": [True, False, True]},
        modality="spikes",
        units="spikes/s",
    ).assign_coords(session="first", depth=1.5)
    neuro.save(tmp_path / "a.nc", array)
    with netCDF4.Dataset(tmp_path / "a.nc") as file:
        stored = file["values"]
        np.testing.assert_array_equal(stored[...], values)
        assert stored.dimensions == ("presentation", "neuroid") and stored.units == "spikes/s"
        assert stored.filters()["fletcher32"]
        assert file["stimulus_id"][:].tolist() == list("abüd")
        assert (
            file["label"][:].tolist() == ["x", "missing", "y", ""] and file["label"]._FillValue == "missing"
        )
        assert file["date"].units == "nanoseconds since 1970-01-01"
        assert file["date"][:].tolist() == array.date.values.astype("datetime64[ns]").view(np.int64).tolist()
        assert (file["session"][...], file["depth"][...]) == ("first", 1.5)
