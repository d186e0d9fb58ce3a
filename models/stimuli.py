"""Stimulus sets: what was shown, under which name, and a hash of its content."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ..neuro.assembly import Table
from . import gathering
from .clips import Clip
from .decoding import FILMS, IMAGES, SOUNDS, TEXTS, Medium, medium_of
from .gathering import Reader


@dataclass(frozen=True, eq=False)
class StimulusSet:
    """Stimuli in order: a table with ``stimulus_id`` and ``content_hash``, and what decodes them.

    Build one with :meth:`from_folder`, :meth:`from_zip`, :meth:`from_table`, :meth:`from_arrays`,
    :meth:`from_texts`, :meth:`from_sounds`, :meth:`from_videos`, or let :meth:`read` choose. ``len(stimuli)``
    counts them; ``stimuli[3]`` decodes one (an image: height × width × 3 uint8 RGB; a text: ``str``; a sound or
    film: :class:`Clip`); iteration decodes one after the other; ``stimuli[:10]``, a list of rows or a mask selects.

    Parameters
    ----------
    table
        One row a stimulus: ``stimulus_id`` (unique), ``content_hash``, and any label such as a category.
    readers
        For each row what returns the bytes of its file, its array or its clip.
    medium
        What the bytes are.

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
    medium: Medium = IMAGES

    @classmethod
    def read(cls, path: str | Path) -> StimulusSet:
        """Read what a path names, by its suffix.

        Parameters
        ----------
        path
            A folder or ``.zip`` of images, sounds, films or texts; a ``.csv`` or ``.tsv`` with ``path`` (of files
            beside it) or ``text``; a ``.npy`` array of images; one sound, film or ``.txt``.

        Raises
        ------
        FileNotFoundError
            If nothing is there.
        ValueError
            If it is none of these, or holds nothing that can be shown.
        """
        path = gathering.existing(path)
        suffix = path.suffix.lower()
        if path.is_dir():
            return cls.from_folder(path)
        if suffix == ".zip":
            return cls.from_zip(path)
        if suffix in (".csv", ".tsv"):
            table = pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",", dtype={"stimulus_id": str})
            if "text" in table and "path" not in table:
                return cls.from_texts(table["text"].tolist(), table.get("stimulus_id"), table)
            return cls.from_table(table, path.parent)
        if suffix == ".npy":
            return cls.from_arrays(np.load(path, allow_pickle=False))
        builders = {TEXTS: cls.from_texts, SOUNDS: cls.from_sounds, FILMS: cls.from_videos}
        medium = medium_of([path.name])
        if medium is None or medium not in builders:
            raise ValueError(
                f"{path} is no stimulus set; give a folder, .zip, .csv, .tsv or .npy, a sound, a film or a .txt."
            )
        return builders[medium]([path])  # type: ignore[operator]

    @classmethod
    def from_folder(cls, path: str | Path, pattern: str | None = None) -> StimulusSet:
        """Take the images of a folder in the order of their sorted names, or else its sounds, films or texts.

        Parameters
        ----------
        path
            The folder.
        pattern
            Such as ``"*.jpg"`` or ``"**/*.wav"``. Default: every image in it and below it; where there is none,
            every sound, film or text.

        Returns
        -------
        StimulusSet
            ``stimulus_id`` is the path below the folder, with suffix: ``"faces/ada.jpg"``.

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        ValueError
            If it holds none of these, or several kinds but no image.
        """
        folder = gathering.existing(path)
        found = folder.rglob("*") if pattern is None else folder.glob(pattern)
        files = {file.relative_to(folder).as_posix(): file for file in found if file.is_file()}
        names, medium = gathering.shown(files, pattern, folder)
        return cls._hashed({"stimulus_id": names}, [files[name].read_bytes for name in names], medium)

    @classmethod
    def from_zip(cls, path: str | Path, pattern: str | None = None) -> StimulusSet:
        """Take the images, or else sounds, films or texts, of a zip file, without unpacking it.

        Parameters
        ----------
        path
            The zip file.
        pattern
            Such as ``"*.jpg"``. Default: as in :meth:`from_folder`.

        Returns
        -------
        StimulusSet
            ``stimulus_id`` is the path within the zip, with suffix.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no zip file or holds none of these.
        """
        archive = gathering.open_zip(gathering.existing(path))
        names, medium = gathering.shown(gathering.zip_names(archive, pattern), pattern, Path(path))
        return cls._hashed({"stimulus_id": names}, [partial(archive.read, name) for name in names], medium)

    @classmethod
    def from_table(cls, table: Table, folder: str | Path = ".") -> StimulusSet:
        """Take the files that a table names, in its order: images, or all sounds, films or texts.

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
        files = gathering.table_files(table, Path(folder))
        ids = table["stimulus_id"] if "stimulus_id" in table else [Path(p).as_posix() for p in table["path"]]
        labels = table.drop(columns=["path", "stimulus_id", "content_hash"], errors="ignore")
        medium = medium_of(file.name for file in files) or IMAGES
        return cls._hashed({"stimulus_id": ids, **labels}, [file.read_bytes for file in files], medium)

    @classmethod
    def from_arrays(
        cls,
        arrays: Any,
        stimulus_id: Sequence[Any] | None = None,
        table: Table | None = None,
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
        readers = gathering.array_readers(arrays)
        return cls._hashed(gathering.columns(len(readers), stimulus_id, table), readers)

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str | Path],
        stimulus_id: Sequence[Any] | None = None,
        table: Table | None = None,
    ) -> StimulusSet:
        """Take texts.

        Parameters
        ----------
        texts
            A ``str`` is a text; a ``pathlib.Path`` is a file of text in UTF-8.
        stimulus_id, table
            As for :meth:`from_sounds`.

        Raises
        ------
        FileNotFoundError
            Naming the file that is not there.
        ValueError
            If a text is empty or no text, or ids are too few or occur twice.

        Examples
        --------
        >>> from cerebridge import models
        >>> models.StimulusSet.from_texts(["The dog barks.", "A cat sleeps."])[1]
        'A cat sleeps.'
        """
        texts = [texts] if isinstance(texts, str | Path) else list(texts)
        files = all(isinstance(text, Path) for text in texts)
        stimulus_id = gathering.file_names(texts) if files and stimulus_id is None else stimulus_id
        stimuli = cls._hashed(
            gathering.columns(len(texts), stimulus_id, table), gathering.text_readers(texts), TEXTS
        )
        for row in range(len(stimuli)):  # texts are small: one that cannot be read is named at once
            stimuli._decode(row)
        return stimuli

    @classmethod
    def from_sounds(
        cls,
        sounds: Sequence[Any],
        rate: float | None = None,
        stimulus_id: Sequence[Any] | None = None,
        table: Table | None = None,
    ) -> StimulusSet:
        """Take sounds.

        Parameters
        ----------
        sounds
            Paths (``.wav``, and with PyAV other formats, also the sound of a film), :class:`Clip`, or arrays
            (samples, or samples × channels; integers are scaled to -1 … 1) with ``rate``.
        rate
            Samples a second of arrays and ``.npy`` files.
        stimulus_id
            One a sound; default: ``"0000"``, ``"0001"``, …, or the names where all are files.
        table
            Further labels, one row a sound.

        Raises
        ------
        FileNotFoundError
            Naming the file that is not there.
        ValueError
            If an array is no sound or has no rate, or ids are too few or occur twice.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge import models
        >>> models.StimulusSet.from_sounds([np.zeros(800), np.ones(400)], rate=8000)[1].duration
        0.05
        """
        return cls._of_clips(sounds, rate, stimulus_id, table, SOUNDS)

    @classmethod
    def from_videos(
        cls,
        videos: Sequence[Any],
        rate: float | None = None,
        stimulus_id: Sequence[Any] | None = None,
        table: Table | None = None,
    ) -> StimulusSet:
        """Take films.

        Parameters
        ----------
        videos
            Paths (animated ``.gif`` and ``.webp``, and with PyAV ``.mp4``, ``.avi``, …), :class:`Clip`, or arrays
            (uint8, frames × height × width, × 3 in colour) with ``rate``. Frames of a file that last unequally are
            repeated until all last equally.
        rate
            Frames a second of arrays and ``.npy`` files.
        stimulus_id, table
            As for :meth:`from_sounds`, as are the errors.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge import models
        >>> models.StimulusSet.from_videos([np.zeros((50, 8, 8, 3), np.uint8)], rate=25)[0].duration
        2.0
        """
        return cls._of_clips(videos, rate, stimulus_id, table, FILMS)

    @classmethod
    def _of_clips(
        cls, items: Any, rate: float | None, stimulus_id: Any, table: Table | None, medium: Medium
    ) -> StimulusSet:
        items = [items] if isinstance(items, str | Path | Clip) else list(items)
        names = gathering.file_names(items) if stimulus_id is None else stimulus_id
        labels = gathering.columns(len(items), names, table)
        return cls._hashed(labels, gathering.clip_readers(items, rate, medium), medium)

    @classmethod
    def _hashed(
        cls, labels: Mapping[str, Any], readers: Sequence[Reader], medium: Medium = IMAGES
    ) -> StimulusSet:
        return cls(gathering.hashed_table(labels, readers), readers, medium)

    @property
    def hash(self) -> str:
        """Return one hash of all ids and contents, in order."""
        rows = zip(self.table["stimulus_id"], self.table["content_hash"], strict=True)
        text = "\n".join(f"{i}\t{h}" for i, h in rows)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def transform(self, function: Callable[[Any], Any]) -> StimulusSet:
        """Change every stimulus, each time that it is decoded; the ids stay.

        Parameters
        ----------
        function
            From one stimulus to another of its kind, always the same; such as :class:`models.features.FoveatedBlur`.

        Returns
        -------
        StimulusSet
            Each ``content_hash`` is made of the old one and of what the function is and holds. Decoding fails where
            the function gives another kind of thing.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge import models
        >>> stimuli = models.StimulusSet.from_arrays(np.zeros((2, 8, 8, 3), np.uint8))
        >>> negatives = stimuli.transform(lambda image: 255 - image)
        >>> int(negatives[0].min()), negatives.hash == stimuli.hash
        (255, False)
        """
        readers = [partial(gathering.changed, reader, self.medium, function) for reader in self.readers]
        hashes = gathering.changed_hashes(self.table["content_hash"], function)
        return StimulusSet(self.table.assign(content_hash=hashes), readers, self.medium)

    def __len__(self) -> int:
        """Count the stimuli."""
        return len(self.table)

    def __iter__(self) -> Iterator[Any]:
        """Decode one stimulus after the other."""
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice | Sequence[int] | NDArray[Any]) -> StimulusSet: ...

    def __getitem__(self, row: int | slice | Sequence[int] | NDArray[Any]) -> Any:
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
        readers = [self.readers[r] for r in rows]
        return StimulusSet(self.table.iloc[rows].reset_index(drop=True), readers, self.medium)

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"StimulusSet of {len(self)} ({self.table['stimulus_id'].iloc[0]!r}, …), hash {self.hash[:8]}"

    def _decode(self, row: int) -> Any:
        try:
            return gathering.decoded(self.readers[row](), self.medium)
        except (OSError, ValueError, SyntaxError, zipfile.BadZipFile, Image.DecompressionBombError) as error:
            raise ValueError(
                f"stimulus {self.table['stimulus_id'].iloc[row]!r} (row {row} of {len(self)}) cannot be read "
                f"({error}); replace it or leave it out."
            ) from None
