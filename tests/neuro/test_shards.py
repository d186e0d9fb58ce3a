from __future__ import annotations

import errno
import itertools
import json
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from cerebridge import neuro
from cerebridge.neuro import files, shards
from cerebridge.neuro.layers import Layer, label_features
from cerebridge.neuro.store import ShardWriter

META = {"network": "small", "layers": ["features.3", "tokens", "fc"], "stimuli": {"hash": "abc"}}
N = 10


def activations() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"features.3": (3, 5, 4), "tokens": (4, 6), "fc": (7,)}
    return {name: rng.standard_normal((N, *shape), dtype=np.float32) for name, shape in shapes.items()}


def flat() -> np.ndarray:
    return np.concatenate([values.reshape(N, -1) for values in activations().values()], axis=1)


def part(start: int, stop: int) -> dict[str, np.ndarray]:
    return {name: values[start:stop] for name, values in activations().items()}


PRESENTATION = {"stimulus_id": [f"s{i}" for i in range(N)], "label": np.arange(N) % 2}


def extracted(folder: Path, edges: tuple[int, ...] = (0, 4, 5, 9, 10)) -> xr.DataArray:
    with ShardWriter(folder, META, N) as writer:
        for start, stop in itertools.pairwise(edges):
            writer.write(start, part(start, stop))
        writer.close(PRESENTATION, provenance="small network")
    return neuro.load(folder)


@pytest.mark.parametrize("edges", [(0, 10), (0, 4, 5, 9, 10), tuple(range(11))])
def test_layers_lie_side_by_side(tmp_path: Path, edges: tuple[int, ...]) -> None:
    array = extracted(tmp_path, edges)
    assert array.dims == ("presentation", "neuroid") and array.dtype == np.float32
    np.testing.assert_array_equal(array.values, flat())
    assert array.coords["stimulus_id"].values.tolist() == PRESENTATION["stimulus_id"]
    assert array.attrs == {"modality": "activation", "units": "a.u.", "provenance": "small network"}
    assert array.name is None


def test_features_are_labelled_by_their_place(tmp_path: Path) -> None:
    array = extracted(tmp_path)
    source = activations()
    places = {"features.3": ("channel", "row", "column"), "tokens": ("token", "channel"), "fc": ("channel",)}
    for name, axes in places.items():
        layer = array[:, np.flatnonzero(array.layer.values == name)]
        for feature in range(layer.sizes["neuroid"]):
            unit = layer[:, feature]
            assert str(unit.neuroid_id.values) == f"{name}/{feature:06d}"
            place = tuple(int(unit.coords[axis]) for axis in axes)
            np.testing.assert_array_equal(unit.values, source[name][(slice(None), *place)])
        for axis in {"channel", "row", "column", "token"} - set(axes):
            assert np.isnan(layer.coords[axis].values).all()


def test_own_labels_take_the_place_of_the_usual_ones(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, META, 2) as writer:
        writer.write(0, {"fc": np.ones((2, 3))})
        with pytest.raises(ValueError, match="has 2 rows, but the values have 3 along 'neuroid'"):
            writer.close({"stimulus_id": [1, 2]}, {"neuroid_id": ["a", "b"]})
        writer.close({"stimulus_id": [1, 2]}, {"neuroid_id": ["a", "b", "c"]})
    assert neuro.load(tmp_path).coords["neuroid_id"].values.tolist() == ["a", "b", "c"]


def test_places_of_unusual_shapes_are_numbered() -> None:
    table = label_features([Layer("a", (), "<f4"), Layer("b", (1, 1, 1, 1, 2), "<f4")])
    assert table["neuroid_id"].tolist() == ["a/000000", "b/000000", "b/000001"]
    assert table["axis_4"].tolist()[1:] == [0, 1]


def test_half_precision_and_mixed_types(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, META, 2) as writer:
        writer.write(0, {"a": np.full((2, 3), 0.1, np.float16), "b": np.full((2, 3), 0.1, np.float32)})
        writer.close({"stimulus_id": [1, 2]})
    array = neuro.load(tmp_path)
    assert array.dtype == np.float32 == array.values.dtype
    np.testing.assert_array_equal(array.values[0], [np.float16(0.1)] * 3 + [np.float32(0.1)] * 3)


def test_only_the_selected_layer_and_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = extracted(tmp_path)
    read: list[tuple[str, int]] = []
    getitem = h5py.Dataset.__getitem__

    def watched(dataset: h5py.Dataset, key: object) -> np.ndarray:
        values = getitem(dataset, key)
        read.append((f"{Path(dataset.file.filename).stem}{dataset.name}", values.size))
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", watched)
    tokens = array[:, np.flatnonzero(array.layer.values == "tokens")]
    np.testing.assert_array_equal(tokens[[4, 6]].values, activations()["tokens"][[4, 6]].reshape(2, -1))
    assert read == [("shard-000004/001", 24), ("shard-000005/001", 24)]


def test_rows_share_chunks_but_layers_do_not(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, META, 64) as writer:
        writer.write(0, {"small": np.ones((64, 10), np.float32), "large": np.ones((64, 100_000), np.float32)})
    with h5py.File(tmp_path / "shard-000000.h5") as file:
        assert file["000"].chunks == (64, 10) and file["001"].chunks == (1, 100_000)
        assert all(file[name].fletcher32 and file[name].compression is None for name in file)


def test_work_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, META, N) as writer:
        assert writer.done == set()
        writer.write(0, part(0, 4))
        writer.write(7, part(7, 10))
    with pytest.raises(
        OSError, match="holds an unfinished extraction of 10 rows; run the same extraction again"
    ):
        neuro.load(tmp_path)
    with ShardWriter(tmp_path, META, N) as writer:
        assert writer.done == {0, 1, 2, 3, 7, 8, 9}
        with pytest.raises(ValueError, match=r"3 of 10 rows were not written \(the first is row 4\)"):
            writer.close(PRESENTATION)
        writer.write(4, part(4, 7))
        writer.close(PRESENTATION)
    np.testing.assert_array_equal(neuro.load(tmp_path).values, flat())
    assert ShardWriter(tmp_path, META, N).done == set(range(N))


@pytest.mark.parametrize(
    "where",
    [
        "files.Sink.write = lambda self, data: os.kill(os.getpid(), signal.SIGKILL)",
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)",
        "pathlib.Path.replace = lambda *args: os.kill(os.getpid(), signal.SIGKILL)",
        "files.aside.__wrapped__.__globals__['_sync'] = lambda path: os.kill(os.getpid(), signal.SIGKILL)",
    ],
)
def test_kill_in_the_middle_of_a_shard(tmp_path: Path, where: str) -> None:
    folder = tmp_path / "store"
    code = f"""
        import os, pathlib, signal
        import numpy as np
        from cerebridge.neuro import files
        from cerebridge.neuro.store import ShardWriter
        values = np.load({str(tmp_path / "values.npz")!r})
        with ShardWriter({str(folder)!r}, {META!r}, {N}) as writer:
            writer.write(0, {{name: values[name][0:4] for name in values}})
            {where}
            writer.write(4, {{name: values[name][4:10] for name in values}})
        """
    np.savez(tmp_path / "values.npz", **activations())
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    assert len(list(folder.glob("*.part"))) == 1
    with ShardWriter(folder, META, N) as writer:
        assert writer.done == {0, 1, 2, 3}
        assert not list(folder.glob("*.part"))
        writer.write(4, part(4, 10))
        writer.close(PRESENTATION, provenance="small network")
    assert neuro.load(folder).identical(extracted(tmp_path / "undisturbed"))


def test_a_damaged_shard_is_computed_again(tmp_path: Path) -> None:
    array = extracted(tmp_path)
    path = tmp_path / "shard-000004.h5"
    spoil(path)
    np.testing.assert_array_equal(array[:4].values, flat()[:4])
    with pytest.raises(
        OSError, match=r"shard-000004\.h5 is damaged .* Run the extraction again: only the rows"
    ):
        array[4].load()
    with pytest.warns(UserWarning, match=r"shard-000004\.h5 is damaged .* Its rows are computed again"):
        writer = ShardWriter(tmp_path, META, N)
    assert writer.done == set(range(N)) - {4}
    writer.write(4, part(4, 5))
    writer.close(PRESENTATION, provenance="small network")
    np.testing.assert_array_equal(array.values, flat())


def spoil(path: Path) -> None:
    with h5py.File(path) as file:
        offset = file["001"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff\xff\xff")


@pytest.mark.parametrize("length", [0, 100, 1000, 3000])
def test_a_truncated_shard_is_computed_again(tmp_path: Path, length: int) -> None:
    array = extracted(tmp_path)
    path = tmp_path / "shard-000004.h5"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(OSError, match=r"shard-000004\.h5 is "):
        array.load()
    with pytest.warns(UserWarning, match="computed again"):
        assert ShardWriter(tmp_path, META, N).done == set(range(N)) - {4}


def test_a_missing_or_exchanged_shard_is_named(tmp_path: Path) -> None:
    array = extracted(tmp_path)
    (tmp_path / "shard-000005.h5").write_bytes((tmp_path / "shard-000009.h5").read_bytes())
    with pytest.raises(
        OSError, match=r"shard-000005\.h5 is not the shard that the index of its folder names"
    ):
        array[5:9].load()
    (tmp_path / "shard-000004.h5").unlink()
    with pytest.raises(OSError, match=r"there is no file .*shard-000004\.h5\. Run the extraction again"):
        array[4].load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "large"}, "was begun with network = 'small', now it is 'large'; use another folder"),
        ({"stimuli": {"hash": "xyz"}}, "was begun with stimuli = {'hash': 'abc'}, now it is {'hash': 'xyz'}"),
        ({"dtype": "float16"}, "was begun with dtype = None, now it is 'float16'"),
    ],
)
def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    extracted(tmp_path)
    with pytest.raises(ValueError, match=message):
        ShardWriter(tmp_path, META | change, N)
    with pytest.raises(ValueError, match="was begun with n_rows = 10, now it is 11"):
        ShardWriter(tmp_path, META, N + 1)


def test_a_folder_without_description_is_refused(tmp_path: Path) -> None:
    extracted(tmp_path)
    meta = tmp_path / shards.META
    meta.write_text(meta.read_text()[:-5])
    with pytest.raises(OSError, match=r"meta\.json is damaged; use another folder or delete this one"):
        ShardWriter(tmp_path, META, N)
    meta.unlink()
    with pytest.raises(ValueError, match=r"holds shards but no meta\.json"):
        ShardWriter(tmp_path, META, N)
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match="it holds no extraction"):
        neuro.load(tmp_path / "other")


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, META, N)
    writer.write(0, part(0, 4))
    wrong = [
        (3, part(4, 6), "row 3 is already stored"),
        (8, part(0, 4), "rows 8 to 11 are outside of the 10"),
        (-1, part(0, 1), "rows -1 to -1 are outside"),
        (4, {}, "the layers have no rows"),
        (4, part(4, 4), "give every layer the same number, at least one"),
        (4, {**part(4, 6), "fc": np.ones((3, 7), np.float32)}, "give every layer the same number"),
        (4, {**part(4, 6), "fc": np.ones((2, 8), np.float32)}, "all rows must be alike"),
        (4, {**part(4, 6), "fc": np.ones((2, 7), np.float16)}, "all rows must be alike"),
        (4, {"fc": np.ones((2, 7), np.float32)}, "all rows must be alike"),
        (4, {"fc": np.ones((2, 0), np.float32)}, "the layer 'fc' has no features"),
    ]
    for start, values, message in wrong:
        with pytest.raises(ValueError, match=message):
            writer.write(start, values)
    assert writer.done == {0, 1, 2, 3}
    assert len(list(tmp_path.glob("shard-*.h5"))) == 1


def test_a_full_disk_leaves_the_other_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ShardWriter(tmp_path, META, N)
    writer.write(0, part(0, 4))

    def full(self: files.Sink) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.Sink, "check", full)
        with pytest.raises(
            OSError, match=r"shard-000004\.h5 could not be written, .*: No space left on device"
        ):
            writer.write(4, part(4, 10))
    assert writer.done == {0, 1, 2, 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ShardWriter(tmp_path, META, N).done == {0, 1, 2, 3}
    writer.write(4, part(4, 10))
    writer.close(PRESENTATION)
    np.testing.assert_array_equal(neuro.load(tmp_path).values, flat())


def test_the_description_comes_first_and_the_index_last(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, META, N)
    assert json.loads((tmp_path / shards.META).read_text()) == {"n_rows": N, **META}
    writer.write(0, part(0, 10))
    assert not (tmp_path / shards.INDEX).exists()
    writer.close(PRESENTATION)
    assert (tmp_path / shards.INDEX).exists()


def test_a_finished_folder_can_be_saved_as_one_file(tmp_path: Path) -> None:
    array = extracted(tmp_path / "store")
    neuro.save(tmp_path / "one.nc", array)
    assert neuro.load(tmp_path / "one.nc").identical(array)
