"""Files that are complete or absent when written, and named with their fault when they cannot be read."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


class StoreError(OSError):
    """One sentence that names a file and what is wrong with it."""


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; when all went well it is synced and takes the place of ``path``.

    Raises
    ------
    OSError
        If writing fails, for instance on a full disk; what was at ``path`` is unchanged.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path} cannot be written, because the folder {path.parent} does not exist; create it."
        )
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        _sync(part)
        part.replace(path)
        if os.name == "posix":
            _sync(path.parent)
    except (OSError, RuntimeError) as error:
        kept = "the previous content is unchanged" if path.exists() else "nothing was written"
        raise StoreError(f"{path} could not be written, {kept}: {_cause(error)}.") from None
    finally:
        part.unlink(missing_ok=True)


class Sink(io.RawIOBase):
    """A new file for HDF5 to write to, which tells of a failing disk only when HDF5 has let go of it.

    HDF5 itself cannot give up a file that it fails to write: it stays open and brings the process down at its end.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b", buffering=0)
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of ``data``, or nothing more after the first failure."""
        view = memoryview(data).cast("B")
        try:
            while len(view) and self._error is None:
                view = view[self._file.write(view) :]
        except OSError as error:
            self._error = error
        return len(data)

    def readinto(self, buffer: Any) -> int:
        """Read back."""
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return self.tell() if size is None else size

    def __exit__(self, *error: object) -> None:
        """Close, and raise what went wrong."""
        self._file.close()
        self.check()

    def check(self) -> None:
        """Raise what went wrong so far."""
        if self._error is not None:
            raise self._error


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """The open HDF5 file; whatever HDF5 finds wrong with it becomes one sentence.

    Raises
    ------
    OSError
        Naming the file and what is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except StoreError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, OSError) and error.errno:
            raise StoreError(f"{path} cannot be read: {_cause(error)}.") from None
        with path.open("rb") as raw:
            begins_well = raw.read(8) == b"\x89HDF\r\n\x1a\n"
        if not begins_well:
            raise StoreError(f"{path} is no netCDF-4 file (it does not begin like one).") from None
        raise StoreError(damaged(path, _cause(error))) from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def damaged(path: Path, cause: str) -> str:
    """The sentence for a file that is not as it was written."""
    return f"{path} is damaged or truncated ({cause}); restore it from a copy or compute it again."


def _cause(error: BaseException) -> str:
    """The one telling line of a library's message."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    lines = str(error).strip("'\n ").splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
