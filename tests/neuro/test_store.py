from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cerebridge import neuro
from cerebridge.neuro import cells, lazy, store


def recording(n: int = 6, units: int = 4, dtype: str = "float32") -> xr.DataArray:
    values = np.arange(n * units).reshape(n, units).astype(dtype)
    return neuro.assemble(
        values,
        presentation={"stimulus_id": [f"s{i}" for i in range(n)], "repetition": np.arange(n) % 2},
        neuroid={"neuroid_id": np.arange(units), "region": "V4"},
        modality="spikes",
        units="spikes/s",
        provenance="made up",
    )


def of_form(form: str) -> xr.DataArray:
    rng = np.random.default_rng(0)
    unit = {"neuroid_id": ["a", "b", "c"]}
    time = {"time_bin_start": np.arange(5) / 10, "time_bin_end": np.arange(1, 6) / 10}
    tables = {
        "epoched": ({"presentation": {"stimulus_id": [1, 2]}, "neuroid": unit}, (2, 3)),
        "timed": ({"presentation": {"stimulus_id": [1, 2]}, "neuroid": unit, "time_bin": time}, (2, 3, 5)),
        "continuous": ({"time_bin": time, "neuroid": unit}, (5, 3)),
        "dissimilarities": (
            {"rdm": unit, "pair": {"stimulus_a": [1, 1, 2], "stimulus_b": [2, 3, 3]}},
            (3, 3),
        ),
    }
    table, shape = tables[form]
    sfreq = 10.0 if form == "continuous" else None
    return neuro.assemble(rng.standard_normal(shape), **table, modality="eeg", units="V", sfreq=sfreq)


def objects(*cells: object) -> np.ndarray:
    array = np.empty(len(cells), object)
    array[:] = cells
    return array


@pytest.mark.parametrize("form", ["epoched", "timed", "continuous", "dissimilarities"])
def test_every_form_comes_back(tmp_path: Path, form: str) -> None:
    array = of_form(form)
    neuro.save(tmp_path / "a.nc", array)
    assert neuro.load(tmp_path / "a.nc").identical(array)


def test_real_recordings_come_back(tmp_path: Path, data: Path) -> None:
    slices = data / "haxby2001-slice"
    run = slices / "haxby2001" / "sub001" / "BOLD" / "task001_run001"
    arrays = [
        neuro.meeg.read(data / "meg-evoked-audvis" / "test-ave.fif.gz"),
        neuro.fmri.read(
            run / "bold_1slice.nii.gz",
            events=run / "bold_events.tsv",
            mask=slices / "mask.nii.gz",
            t_r=2.5,
        ),
    ]
    for array in arrays:
        neuro.save(tmp_path / "a.nc", array)
        assert neuro.load(tmp_path / "a.nc").identical(array)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int16", "int64", "uint64", "bool", ">f4"]
)
def test_every_type_of_values_comes_back(tmp_path: Path, dtype: str) -> None:
    array = recording(dtype=dtype)
    neuro.save(tmp_path / "a.nc", array)
    loaded = neuro.load(tmp_path / "a.nc")
    assert loaded.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(loaded.values, array.values)
    assert loaded.values.dtype == loaded.dtype


def test_missing_values_stay_missing(tmp_path: Path) -> None:
    array = recording()
    array.values[2, 1] = np.nan
    array.values[3, 1] = -np.inf
    neuro.save(tmp_path / "a.nc", array)
    np.testing.assert_array_equal(neuro.load(tmp_path / "a.nc").values, array.values)


COLUMNS = {
    "unicode": np.array(["a", "ü", "名前", "𝔘", "", "missing"]),
    "missing": objects("x", None, "missing", np.nan, "missing_", ""),
    "none": objects(None, None, "x", "y", "z", "missing"),
    "no text at all": objects(*[np.nan] * 6),
    "zeros inside": np.array(["a\0b", "b", "c", "d", "e", "f"]),
    "lone surrogate": objects("\udc80", "b", None, "d", "e", "f"),
    "mixed": objects(1, "one", None, 2.5, True, [1, 2]),
    "nanoseconds": np.array(["2020-01-01T00:00:00.123456789", "NaT", *["2021-05-06"] * 4], "datetime64[ns]"),
    "seconds": np.array(["2020-01-01", "NaT", *["1969-05-06"] * 4], "datetime64[s]").astype("datetime64[us]"),
    "duration": np.array([1, 2, "NaT", -4, 5, 2**60], "timedelta64[ns]"),
    "flag": np.array([True, False, True, True, False, False]),
    "number": np.array([1.5, np.nan, np.inf, -0.0, 1e-300, 2]),
    "large": np.array([2**63, 0, 1, 2, 3, 4], dtype=np.uint64),
    "half": np.arange(6, dtype=np.float16),
    "a/b c": np.arange(6),
    "a_b_c": np.arange(6) * 2,
    "values": np.arange(6) * 3,
}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_label_comes_back(tmp_path: Path, name: str) -> None:
    array = recording().assign_coords({name: ("presentation", COLUMNS[name])})
    neuro.save(tmp_path / "a.nc", array)
    loaded = neuro.load(tmp_path / "a.nc")
    before, after = array.coords[name].values, loaded.coords[name].values
    assert after.dtype == before.dtype
    assert pd.isna(after).tolist() == pd.isna(before).tolist()
    assert after[~pd.isna(after)].tolist() == before[~pd.isna(before)].tolist()
    assert loaded.identical(array)


def test_all_labels_together_and_scalars(tmp_path: Path) -> None:
    array = recording().assign_coords({name: ("presentation", column) for name, column in COLUMNS.items()})
    array = array.assign_coords(session="2021 ü", depth=1.5, when=np.datetime64("2020-01-01T01", "ns"))
    neuro.save(tmp_path / "a.nc", array)
    assert neuro.load(tmp_path / "a.nc").identical(array)
    assert set(neuro.load(tmp_path / "a.nc").coords) == set(array.coords)


def test_attributes_come_back(tmp_path: Path) -> None:
    array = recording()
    array.attrs |= {
        "nested": {"a": [1, {"b": None, "c": (1, 2)}], 3: "three", "$x": True},
        "empty": "",
        "flag": False,
        "scale_factor": 3.0,
        "_FillValue": 2,
        "dtype": "bool",
        "long": "x" * 300_000,
        "single": np.float32(0.1),
        "zero\0": "a\0b",
    }
    array.coords["region"].attrs["atlas"] = {"name": "drawn", "year": 2001}
    neuro.save(tmp_path / "a.nc", array)
    loaded = neuro.load(tmp_path / "a.nc")
    assert loaded.identical(array)
    assert loaded.attrs == array.attrs
    assert type(loaded.attrs["single"]) is np.float32
    assert loaded.attrs["nested"]["a"][1]["c"] == (1, 2)


def test_an_array_in_the_attributes_comes_back(tmp_path: Path) -> None:
    array = recording()
    array.attrs["positions"] = {"xyz": np.arange(6.0).reshape(2, 3)}
    neuro.save(tmp_path / "a.nc", array)
    np.testing.assert_array_equal(
        neuro.load(tmp_path / "a.nc").attrs["positions"]["xyz"], np.arange(6.0).reshape(2, 3)
    )


@pytest.mark.parametrize("name", [None, "rates", "presentation", "region"])
def test_the_name_comes_back(tmp_path: Path, name: str | None) -> None:
    array = recording().rename(name)
    neuro.save(tmp_path / "a.nc", array)
    assert neuro.load(tmp_path / "a.nc").name == name


def test_xarray_reads_it_without_us(tmp_path: Path) -> None:
    array = recording().assign_coords({name: ("presentation", column) for name, column in COLUMNS.items()})
    array = array.drop_vars(["mixed", "zeros inside", "lone surrogate"])
    array.attrs["sfreq"] = 3.0
    neuro.save(tmp_path / "a.nc", array)
    with xr.open_dataarray(tmp_path / "a.nc", engine="h5netcdf", decode_timedelta=True) as foreign:
        foreign = foreign.load()
    np.testing.assert_array_equal(foreign.values, array.values)
    assert foreign.dims == array.dims
    assert foreign.attrs["units"] == "spikes/s" and foreign.attrs["sfreq"] == 3.0
    stored_as = {"a/b c": "a_b_c", "a_b_c": "a_b_c_", "values": "values", "no text at all": "no_text_at_all"}
    for name in array.coords:
        coord = foreign.coords[stored_as.get(name, name)]
        assert coord.dims == array.coords[name].dims
        np.testing.assert_array_equal(pd.isna(coord.values), pd.isna(array.coords[name].values))
        present = ~pd.isna(coord.values)
        np.testing.assert_array_equal(coord.values[present], array.coords[name].values[present])


def test_every_chunk_has_a_checksum(tmp_path: Path) -> None:
    neuro.save(tmp_path / "a.nc", recording(3000, 300))
    with h5py.File(tmp_path / "a.nc") as file:
        assert all(file[name].fletcher32 for name in ("values", "repetition", "neuroid_id"))
        assert file["values"].chunks[0] < 3000 and file["values"].chunks[1] <= 300
        assert file["values"].compression is None


def test_values_are_read_by_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = recording(4000, 300)
    neuro.save(tmp_path / "a.nc", array)
    loaded = neuro.load(tmp_path / "a.nc")
    read = count_bytes(monkeypatch)
    region = loaded.isel(presentation=slice(100, 110), neuroid=[5, 6])
    assert not read
    np.testing.assert_array_equal(region.values, array.values[100:110, 5:7])
    assert sum(read) == region.values.nbytes
    rows = np.arange(0, 4000, 1000)
    np.testing.assert_array_equal(loaded[rows].values, array.values[rows])
    assert sum(read) <= region.values.nbytes + 4 * 300 * 4


def count_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that come from disk, call by call."""
    read: list[int] = []
    decode = cells.decode

    def counted(values: np.ndarray, spec: dict[str, object]) -> np.ndarray:
        read.append(values.nbytes)
        return decode(values, spec)

    monkeypatch.setattr(lazy.cells, "decode", counted)
    return read


def test_a_region_of_a_huge_file_needs_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 40 GB, of which one chunk was written, opened where 600 MB may be added."""
    n, units, path = 200_000, 50_000, tmp_path / "huge.nc"
    array = neuro.assemble(
        np.broadcast_to(np.float32(7), (n, units)),
        presentation={"stimulus_id": np.arange(n)},
        neuroid={"neuroid_id": np.arange(units)},
        modality="fmri",
        units="a.u.",
    )
    write = h5netcdf.Variable.__setitem__

    def write_labels_and_one_value(variable: h5netcdf.Variable, key: object, values: np.ndarray) -> None:
        write(variable, *(((70_003, 104), values[0, 0]) if variable.ndim == 2 else (key, values)))

    monkeypatch.setattr(h5netcdf.Variable, "__setitem__", write_labels_and_one_value)
    neuro.save(path, array)
    done = run(f"""
        import resource
        from cerebridge import neuro
        now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 600_000_000, now + 600_000_000))
        array = neuro.load({str(path)!r})
        assert array.nbytes == 40_000_000_000
        region = array.isel(presentation=slice(70_000, 70_010), neuroid=slice(100, 120)).values
        assert region[3, 4] == 7 and region.sum() == 7, region
        rows = array.isel(presentation=[3, 70_003, 199_999], neuroid=slice(100, 120)).values
        assert rows.sum(axis=1).tolist() == [0, 7, 0], rows
        try:
            array.values
        except MemoryError:
            print("the whole does not fit")
        """)
    assert done.stdout == "the whole does not fit\n", done.stderr


def run(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_a_loaded_array_takes_its_own_place(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    array = recording()
    neuro.save(path, array)
    neuro.save(path, neuro.load(path))
    assert neuro.load(path).identical(array)


def test_labels_are_never_mixed_with_the_values_of_a_newer_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    array = recording()
    neuro.save(path, array)
    loaded = neuro.load(path)
    neuro.save(path, array.isel(presentation=slice(None, None, -1)))
    with pytest.raises(OSError, match="was changed or removed after it had been loaded; load it again"):
        loaded.load()


def test_a_loaded_array_can_be_changed_and_its_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    array = recording()
    neuro.save(path, array)
    loaded = neuro.load(path)
    loaded[0, 0] = 99
    assert loaded.values[0, 0] == 99
    assert neuro.load(path).identical(array)


def test_copies_and_pickles_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = recording(4000, 300)
    neuro.save(tmp_path / "a.nc", array)
    loaded = neuro.load(tmp_path / "a.nc")
    read = count_bytes(monkeypatch)
    pickled = pickle.dumps(loaded)
    assert len(pickled) < array.nbytes / 2
    for again in (loaded.copy(), pickle.loads(pickled)):
        assert not read
        np.testing.assert_array_equal(again[7, 3:5].values, array.values[7, 3:5])
        read.clear()


def test_datasets_come_back(tmp_path: Path) -> None:
    dataset = xr.Dataset(
        {
            "score": (("model", "split", "unit"), np.random.default_rng(0).standard_normal((2, 3, 4))),
            "note": ("model", np.array(["first", "second"])),
            "seconds": 1.5,
        },
        coords={
            "model": ["a", "b"],
            "split": [0, 1, 2],
            "unit": np.arange(4),
            "region": ("unit", list("xxyy")),
        },
        attrs={"scoring": "pearsonr", "audit": {"leak": False}},
    )
    store.save_dataset(tmp_path / "r.nc", dataset)
    assert store.load_dataset(tmp_path / "r.nc").identical(dataset)
    with xr.open_dataset(tmp_path / "r.nc", engine="h5netcdf") as foreign:
        np.testing.assert_array_equal(foreign["score"].values, dataset["score"].values)
        assert foreign["model"].values.tolist() == ["a", "b"]


def test_a_file_of_the_other_kind_is_named(tmp_path: Path) -> None:
    store.save_dataset(tmp_path / "r.nc", xr.Dataset({"score": ("unit", [1.0])}))
    with pytest.raises(OSError, match="r.nc holds a dataset, no labelled array"):
        neuro.load(tmp_path / "r.nc")
    neuro.save(tmp_path / "a.nc", recording())
    with pytest.raises(OSError, match="a.nc holds an array, no results; open it with neuro.load"):
        store.load_dataset(tmp_path / "a.nc")


def test_truncation_is_reported_at_any_length(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    neuro.save(path, recording())
    raw = path.read_bytes()
    for length in [0, 1, 7, 8, 9, *range(50, len(raw), 997), len(raw) - 1]:
        path.write_bytes(raw[:length])
        with pytest.raises(OSError, match=r"a\.nc is (no netCDF-4 file|damaged or truncated)"):
            neuro.load(path)


def test_an_altered_byte_is_reported_or_harmless(tmp_path: Path) -> None:
    """Every stretch of the file: a flipped bit leads to the sentence, or to the content that was saved."""
    path = tmp_path / "a.nc"
    array = recording().assign_coords(
        {name: ("presentation", COLUMNS[name]) for name in ("unicode", "missing", "flag")}
    )
    neuro.save(path, array)
    raw = path.read_bytes()
    outcomes = []
    for place in range(0, len(raw), 61):
        altered = bytearray(raw)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        try:
            assert neuro.load(path).identical(array), place
            outcomes.append("harmless")
        except OSError as error:
            assert str(path) in str(error), place
            outcomes.append("reported")
    assert outcomes.count("reported") > 50


def test_damage_among_the_values_is_reported_when_their_region_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    array = recording(4000, 300)
    neuro.save(path, array)
    with h5py.File(path) as file:
        chunk = file["values"].id.get_chunk_info(0)
        rows = file["values"].chunks[0]
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset + 1000)
        raw.write(b"\xff\xff\xff")
    loaded = neuro.load(path)
    np.testing.assert_array_equal(loaded[rows:].values, array.values[rows:])
    with pytest.raises(OSError, match=r"a\.nc is damaged or truncated .*; restore it from a copy"):
        loaded[:1].load()


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    xr.DataArray(np.ones((2, 2))).to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    with pytest.raises(OSError, match=r"foreign\.nc was not written by neuro\.save; open it with xarray"):
        neuro.load(tmp_path / "foreign.nc")
    (tmp_path / "text.nc").write_text("stimulus,response\n")
    with pytest.raises(OSError, match=r"text\.nc is no netCDF-4 file"):
        neuro.load(tmp_path / "text.nc")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent\.nc"):
        neuro.load(tmp_path / "absent.nc")


def test_a_file_of_a_later_format_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.netcdf, "FORMAT", 99)
    neuro.save(tmp_path / "a.nc", recording())
    monkeypatch.undo()
    with pytest.raises(OSError, match="written by a newer version of cerebridge"):
        neuro.load(tmp_path / "a.nc")


def test_what_cannot_be_stored_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    array = recording()
    neuro.save(path, array)
    wrong = {
        "'when' cannot be stored: .* of type date": array.assign_coords(
            when=("presentation", objects(*[pd.Timestamp(0).date()] * 6))
        ),
        "'phase' is of type complex128": array.assign_coords(phase=("presentation", np.ones(6, complex))),
        "an attribute of 'values' cannot be stored: .* of type object": array.assign_attrs(info=object()),
        "'presentation' is a MultiIndex": array.set_index(presentation=["stimulus_id", "repetition"]),
    }
    for message, bad in wrong.items():
        with pytest.raises((TypeError, ValueError), match=message):
            store.save(path, bad)
    with pytest.raises(ValueError, match="'presentation' is empty"):
        neuro.save(path, array[:0])
    with pytest.raises(TypeError, match=r"expected an xarray\.DataArray"):
        neuro.save(path, array.values)
    with pytest.raises(ValueError, match="the dimension 'unit' is empty"):
        store.save_dataset(path, xr.Dataset({"score": ("unit", np.ones(0))}))
    with pytest.raises(FileNotFoundError, match="the folder .* does not exist; create it"):
        neuro.save(tmp_path / "none" / "a.nc", array)
    assert neuro.load(path).identical(array)
    assert list(tmp_path.iterdir()) == [path]


KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    "where",
    [
        "files.Sink.check = lambda self: next(countdown) or " + KILL,
        "os.fsync = lambda handle: " + KILL,
        "pathlib.Path.replace = lambda *args: " + KILL,
    ],
)
def test_kill_while_saving_leaves_the_old_file(tmp_path: Path, where: str) -> None:
    path = tmp_path / "a.nc"
    array = recording()
    neuro.save(path, array)
    done = run(f"""
        import os, pathlib, signal
        from cerebridge import neuro
        from cerebridge.neuro import files
        array = neuro.load({str(path)!r}).load() * 2
        array.attrs |= {{"modality": "spikes", "units": "spikes/s"}}
        countdown = iter([True, True, False])
        {where}
        neuro.save({str(path)!r}, array)
        """)
    assert done.returncode == -9, done.stderr
    assert neuro.load(path).identical(array)
    assert len(list(tmp_path.glob("a.nc.*.part"))) == 1


@pytest.mark.parametrize("limit", [100, 5000, 700_000, 1_190_000])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, limit: int) -> None:
    """The size of files is limited, so that writing fails at the beginning, in the middle, at the end."""
    path = tmp_path / "a.nc"
    array = recording()
    neuro.save(path, array)
    done = run(f"""
        import resource
        import numpy as np
        from cerebridge import neuro
        tables = {{"presentation": {{"stimulus_id": np.arange(1000)}}, "neuroid": {{"neuroid_id": np.arange(300)}}}}
        array = neuro.assemble(np.ones((1000, 300), np.float32), **tables, modality="spikes", units="spikes/s")
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            neuro.save({str(path)!r}, array)
        except OSError as error:
            print(error)
        """)
    assert done.stdout == f"{path} could not be written, the previous content is unchanged: File too large.\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert neuro.load(path).identical(array)
    assert list(tmp_path.iterdir()) == [path]
