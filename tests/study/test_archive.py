from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cerebridge.encoding.study.archive import read_results, write_results


def dataset(value=0.5):
    return xr.Dataset(
        {
            "score": (("model", "split", "unit"), np.full((2, 1, 3), value)),
            "p": (("model", "unit"), np.array([[0.1, np.nan, 0.3]] * 2)),
            "chosen": ("unit", np.array([True, False, True])),
            "map": ("place", [1.0, 2.0], {"affine": [1.0, 0.0], "modality": "fmri"}),
        },
        {
            "model": ["net/α", "pixels"],
            "region": ("unit", np.array(["V1", "", "IT"])),
            "place_mne_channel": ("place", ["{}", "[1]"]),
        },
        {
            "audit": {"split": "5 folds", "nested": {"a": [1, 2]}},
            "scoring": "pearsonr",
            "chance": 0.0,
            "place": {},
        },
    )


def test_what_is_written_comes_back(tmp_path):
    groups = {"encoding/one": dataset(), "encoding/two": dataset(0.25)}
    index = {name: {"kind": "encoding"} for name in groups}
    write_results(tmp_path / "results.nc", groups, {"title": "Ein Titel, größer"}, index)
    read, attrs, kinds = read_results(tmp_path / "results.nc")
    assert attrs == {"title": "Ein Titel, größer"} and kinds == index and list(read) == list(groups)
    for name, expected in groups.items():
        assert set(read[name].variables) == set(expected.variables)
        for variable in expected.variables:
            np.testing.assert_array_equal(read[name][variable].values, expected[variable].values)
        assert read[name]["region"].dtype.kind == "U"
        assert read[name].attrs["audit"] == expected.attrs["audit"] and read[name].attrs["place"] == {}
        assert np.asarray(read[name]["map"].attrs["affine"]).tolist() == [1.0, 0.0]
        assert set(read[name].coords) == set(expected.coords)


def test_xarray_alone_reads_a_group(tmp_path):
    write_results(tmp_path / "results.nc", {"encoding/one": dataset()}, {}, {"encoding/one": {}})
    with xr.open_dataset(tmp_path / "results.nc", group="encoding/one", engine="h5netcdf") as opened:
        assert float(opened["score"].mean()) == 0.5
        assert opened["region"].values.tolist() == ["V1", "", "IT"]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.nc"
    write_results(path, {"a/b": dataset()}, {}, {"a/b": {}})
    before = path.read_bytes()
    broken = dataset()
    broken["bad"] = ("unit", np.array([{1}, {2}, {3}], dtype=object))
    with pytest.raises((TypeError, ValueError)):
        write_results(path, {"a/b": broken}, {}, {"a/b": {}})
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["results.nc"]


def test_foreign_missing_and_cut_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_results(tmp_path / "none.nc")
    xr.Dataset({"score": ("unit", [1.0])}).to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    write_results(tmp_path / "whole.nc", {"a/b": dataset()}, {}, {"a/b": {}})
    (tmp_path / "cut.nc").write_bytes((tmp_path / "whole.nc").read_bytes()[:2000])
    for name in ("foreign.nc", "cut.nc"):
        with pytest.raises(OSError, match=f"{name} holds no results of a study, or is damaged"):
            read_results(tmp_path / name)
