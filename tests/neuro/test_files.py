from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from cerebridge.neuro import files


def test_a_file_takes_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.aside(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "any"), RuntimeError("HDF5 says so.\nAnd more.")])
def test_a_failure_keeps_the_old_file(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    reason = "No space left on device" if isinstance(error, OSError) else "HDF5 says so"
    with (
        pytest.raises(
            OSError, match=f"a.txt could not be written, the previous content is unchanged: {reason}.$"
        ),
        files.aside(path) as part,
    ):
        part.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_first_file_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing was written"), files.aside(tmp_path / "a") as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "any")
    assert list(tmp_path.iterdir()) == []


class FullAfter(io.FileIO):
    """A disk with room for ``room`` bytes, which takes what fits before it fails, as systems do."""

    room = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        left = max(0, self.room - self.tell())
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(bytes(data)[:left])


@pytest.mark.parametrize("room", [0, 96, 3000, 100_000, 799_999, 801_000])
def test_hdf5_lets_go_of_a_full_disk(tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(path: Path, mode: str, buffering: int) -> io.FileIO:
        assert buffering == 0
        file = FullAfter(path, mode.replace("b", ""))
        file.room = room
        return file

    monkeypatch.setattr(Path, "open", opened)
    with (
        pytest.raises(OSError, match="No space left on device"),
        files.Sink(tmp_path / "a.h5") as sink,
        h5py.File(sink, "w", libver=("v110", "v110")) as file,
    ):
        file.create_dataset("x", data=np.ones((1000, 100)), chunks=(100, 100), fletcher32=True)
        file.attrs["a"] = "b" * 1000


def test_hdf5_writes_the_same_through_a_sink(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((300, 40))
    with files.Sink(tmp_path / "a.h5") as sink, h5py.File(sink, "w") as file:
        file.create_dataset("x", data=values, chunks=(50, 40), fletcher32=True)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["x"][()], values)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"")

    def refuse(*args: object) -> None:
        raise PermissionError(errno.EACCES, "Unable to open file: a long story")

    monkeypatch.setattr(h5py, "File", refuse)
    with (
        pytest.raises(OSError, match=r"a\.h5 cannot be read: Permission denied\.$"),
        files.reading(tmp_path / "a.h5"),
    ):
        pass
