"""Stimulus sets: what was shown, under which name, and a hash of its content."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
)

#: what reads one stimulus: the bytes of an image file, or an array
Reader = Callable[[], bytes | NDArray[Any]]


@dataclass(frozen=True, eq=False)
class StimulusSet:
    """Stimuli in order: a table with ``stimulus_id`` and ``content_hash``, and their images or arrays.

    Build one with :meth:`from_folder`, :meth:`from_zip`, :meth:`from_table`, :meth:`from_arrays`, or let
    :meth:`read` choose. ``len(stimuli)`` counts them; ``stimuli[3]`` decodes one (images: height × width × 3
    uint8 RGB); iteration decodes one after the other; ``stimuli[:10]``, a list of rows or a mask selects.

    Parameters
    ----------
    table
        One row a stimulus: ``stimulus_id`` (unique), ``content_hash``, and any label such as a category.
    readers
        For each row what returns its image file's bytes, or its array.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((3, 8, 8, 3), np.uint8), stimulus_id=["a", "b", "c"])
    >>> len(stimuli), stimuli[0].shape
    (3, (8, 8, 3))
    """

    table: pd.DataFrame
    readers: Sequence[Reader]

    @classmethod
    def read(cls, path: str | Path) -> StimulusSet:
        """Read a folder or zip of images, a table (``.csv``, ``.tsv``) with paths beside it, or a ``.npy`` array.

        Raises
        ------
        FileNotFoundError
            If nothing is there.
        ValueError
            If it is none of these, or holds no images.
        """
        path = _existing(path)
        suffix = path.suffix.lower()
        if path.is_dir():
            return cls.from_folder(path)
        if suffix == ".zip":
            return cls.from_zip(path)
        if suffix in (".csv", ".tsv"):
            table = pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",", dtype={"stimulus_id": str})
            return cls.from_table(table, path.parent)
        if suffix == ".npy":
            return cls.from_arrays(np.load(path, allow_pickle=False))
        raise ValueError(f"{path} is no stimulus set; give a folder, .zip, .csv, .tsv or .npy.")

    @classmethod
    def from_folder(cls, path: str | Path, pattern: str | None = None) -> StimulusSet:
        """Take the images of a folder in the order of their sorted names.

        Parameters
        ----------
        path
            The folder.
        pattern
            Such as ``"*.jpg"`` or ``"**/*.png"``. Default: every image in it and below it.

        Returns
        -------
        StimulusSet
            ``stimulus_id`` is the path below the folder, with suffix: ``"faces/ada.jpg"``.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        ValueError
            If it holds no image.
        """
        folder = _existing(path)
        found = folder.rglob("*") if pattern is None else folder.glob(pattern)
        files = {file.relative_to(folder).as_posix(): file for file in found if file.is_file()}
        names = _image_names(files, pattern, folder)
        return cls._hashed({"stimulus_id": names}, [files[name].read_bytes for name in names])

    @classmethod
    def from_zip(cls, path: str | Path, pattern: str | None = None) -> StimulusSet:
        """Take the images of a zip file in the order of their sorted names, without unpacking it.

        Parameters
        ----------
        path
            The zip file.
        pattern
            Such as ``"*.jpg"``. Default: every image in it.

        Returns
        -------
        StimulusSet
            ``stimulus_id`` is the path within the zip, with suffix.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no zip file or holds no image.
        """
        path = _existing(path)
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is no readable zip file ({error}); fetch it again.") from None
        names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
        if pattern is not None:
            names = [name for name in names if PurePosixPath(name).match(pattern)]
        names = _image_names(names, pattern, path)
        return cls._hashed({"stimulus_id": names}, [partial(archive.read, name) for name in names])

    @classmethod
    def from_table(cls, table: pd.DataFrame | Mapping[str, Any], folder: str | Path = ".") -> StimulusSet:
        """Take the files that a table names, in its order.

        Parameters
        ----------
        table
            With a column ``path`` (relative to ``folder``, or absolute), optionally ``stimulus_id`` (default: the
            path), and any labels, which are kept.
        folder
            Where relative paths start.

        Raises
        ------
        FileNotFoundError
            Naming the first file that is not there.
        ValueError
            If the table has no ``path``, no rows, or ids occur twice.
        """
        table = pd.DataFrame(table).reset_index(drop=True)
        if "path" not in table:
            raise ValueError(f"the stimulus table has the columns {list(table)}, but 'path' is missing.")
        files = [Path(folder) / str(path) for path in table["path"]]
        for row, file in enumerate(files):
            if not file.is_file():
                raise FileNotFoundError(
                    f"row {row} of the stimulus table names {file}, but there is no such file."
                )
        ids = table["stimulus_id"] if "stimulus_id" in table else [Path(p).as_posix() for p in table["path"]]
        labels = table.drop(columns=["path", "stimulus_id", "content_hash"], errors="ignore")
        return cls._hashed({"stimulus_id": ids, **labels}, [file.read_bytes for file in files])

    @classmethod
    def from_arrays(
        cls,
        arrays: Any,
        stimulus_id: Sequence[Any] | None = None,
        table: pd.DataFrame | Mapping[str, Any] | None = None,
    ) -> StimulusSet:
        """Take stimuli that are arrays already.

        Parameters
        ----------
        arrays
            numpy array or torch tensor whose first axis counts stimuli, or a list of arrays. uint8 of the shape
            height × width (× 3 or 4) are images; anything else reaches the network's preprocessing as it is.
        stimulus_id
            One a stimulus; default ``"0000"``, ``"0001"``, …
        table
            Further labels, one row a stimulus.

        Raises
        ------
        ValueError
            If there are no arrays, values are missing, or ids are too few or occur twice.
        """
        items = [np.asarray(item.detach().cpu() if hasattr(item, "detach") else item) for item in arrays]
        for row, item in enumerate(items):
            if item.dtype.kind not in "fiub":
                raise ValueError(f"stimulus {row} is an array of {item.dtype}; give numbers.")
            if item.dtype.kind == "f" and not np.isfinite(item).all():
                raise ValueError(f"stimulus {row} has NaN or infinite values; repair or leave it out.")
        if stimulus_id is None:
            stimulus_id = [f"{row:0{max(4, len(str(len(items) - 1)))}d}" for row in range(len(items))]
        if len(stimulus_id) != len(items):
            raise ValueError(f"there are {len(items)} stimuli, but {len(stimulus_id)} stimulus ids.")
        labels = pd.DataFrame({} if table is None else table).reset_index(drop=True)
        if table is not None and len(labels) != len(items):
            raise ValueError(f"there are {len(items)} stimuli, but the table has {len(labels)} rows.")
        labels = labels.drop(columns=["stimulus_id", "content_hash"], errors="ignore")
        return cls._hashed(
            {"stimulus_id": stimulus_id, **labels}, [partial(np.asarray, item) for item in items]
        )

    @classmethod
    def _hashed(cls, columns: Mapping[str, Any], readers: Sequence[Reader]) -> StimulusSet:
        table = pd.DataFrame({name: list(values) for name, values in columns.items()})
        if table.empty:
            raise ValueError("the stimulus set is empty; give at least one stimulus.")
        if table["stimulus_id"].isna().any():
            raise ValueError(f"stimulus_id is missing in row {int(table['stimulus_id'].isna().argmax())}.")
        twice = table["stimulus_id"][table["stimulus_id"].duplicated()]
        if len(twice):
            raise ValueError(f"stimulus_id {twice.iloc[0]!r} occurs more than once; ids must be unique.")
        hashes = []
        for stimulus_id, read in zip(table["stimulus_id"], readers, strict=True):
            try:
                hashes.append(_content_hash(read()))
            except (OSError, zipfile.BadZipFile) as error:
                raise ValueError(
                    f"stimulus {stimulus_id!r} cannot be read ({error}); replace it or leave it out."
                ) from None
        table.insert(1, "content_hash", hashes)
        return cls(table, readers)

    @property
    def hash(self) -> str:
        """Return one hash of all ids and contents, in order."""
        text = "\n".join(
            f"{i}\t{h}" for i, h in zip(self.table["stimulus_id"], self.table["content_hash"], strict=True)
        )
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def __len__(self) -> int:
        """Count the stimuli."""
        return len(self.table)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Decode one stimulus after the other."""
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, row: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, row: slice | Sequence[int] | NDArray[Any]) -> StimulusSet: ...

    def __getitem__(self, row: int | slice | Sequence[int] | NDArray[Any]) -> NDArray[Any] | StimulusSet:
        """Decode the stimulus of one row, or select several rows.

        Raises
        ------
        ValueError
            If the stimulus cannot be decoded, naming it.
        """
        if isinstance(row, int | np.integer):
            return self._decode(int(row))
        rows = np.arange(len(self))[row]
        if not rows.size:
            raise ValueError("the selection leaves no stimulus.")
        return StimulusSet(self.table.iloc[rows].reset_index(drop=True), [self.readers[r] for r in rows])

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"StimulusSet of {len(self)} ({self.table['stimulus_id'].iloc[0]!r}, …), hash {self.hash[:8]}"

    def _decode(self, row: int) -> NDArray[Any]:
        try:
            content = self.readers[row]()
            if isinstance(content, bytes):
                with Image.open(io.BytesIO(content)) as image:
                    return np.asarray(_as_rgb(image))
        except (OSError, ValueError, SyntaxError, zipfile.BadZipFile, Image.DecompressionBombError) as error:
            reason = "it is no image" if isinstance(error, UnidentifiedImageError) else str(error)
            raise ValueError(
                f"stimulus {self.table['stimulus_id'].iloc[row]!r} (row {row} of {len(self)}) cannot be read "
                f"({reason}); replace it or leave it out."
            ) from None
        if content.dtype == np.uint8 and (
            content.ndim == 2 or (content.ndim == 3 and content.shape[2] in (3, 4))
        ):
            return np.asarray(_as_rgb(Image.fromarray(content)))
        return content


def _as_rgb(image: Image.Image) -> Image.Image:
    """RGB as shown: transparent pixels lie on white, and 16-bit greys are scaled, not clipped."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _content_hash(content: bytes | NDArray[Any]) -> str:
    digest = hashlib.sha256()
    if isinstance(content, bytes):
        digest.update(content)
    else:
        digest.update(f"{content.dtype.str}{content.shape}".encode())
        digest.update(np.ascontiguousarray(content).tobytes())
    return digest.hexdigest()[:32]


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; check the path of the stimuli.")
    return path


def _image_names(names: Any, pattern: str | None, where: Path) -> list[str]:
    """Sorted names of images; hidden files are none, and a pattern decides alone what is an image."""
    paths = [PurePosixPath(name) for name in names if not name.endswith("/")]
    kept = [
        p for p in paths if not p.name.startswith(".") and (pattern or p.suffix.lower() in IMAGE_SUFFIXES)
    ]
    if not kept:
        raise ValueError(
            f"{where} holds no {'images' if pattern is None else f'file that matches {pattern!r}'}."
        )
    return sorted(str(p) for p in kept)
