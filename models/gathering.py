"""What a stimulus set is built from: names, labels, and what reads each stimulus."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ..neuro.assembly import Table
from .clips import Clip, as_film, as_sound
from .decoding import FILMS, IMAGES, SOUNDS, Medium, content_hash, medium_of, shown_pixels
from .names import describe

#: what reads one stimulus: the bytes of a file, an array, or a clip
Reader = Callable[[], bytes | NDArray[Any] | Clip]

_AS_CLIP = {SOUNDS.name: as_sound, FILMS.name: as_film}


def existing(path: str | Path) -> Path:
    """A path behind which there is something.

    Raises
    ------
    FileNotFoundError
        If there is not.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; check the path of the stimuli.")
    return path


def shown(names: Iterable[str], pattern: str | None, where: Path) -> tuple[list[str], Medium]:
    """Sorted names of stimuli, and what they are.

    Hidden files are none. A pattern decides alone which files are meant; without, images are, or else the sounds,
    films or texts.

    Raises
    ------
    ValueError
        If nothing remains, or several kinds without a pattern or images.
    """
    paths = [PurePosixPath(name) for name in names if not name.endswith("/")]
    paths = [path for path in paths if not path.name.startswith(".")]
    try:
        medium = medium_of(path.name for path in paths)
    except ValueError as error:
        raise ValueError(f"in {where} {error}") from None
    if pattern is None:
        paths = [path for path in paths if medium and path.suffix.lower() in medium.suffixes]
    if not paths:
        what = "images, sounds, films or texts" if pattern is None else f"file that matches {pattern!r}"
        raise ValueError(f"{where} holds no {what}.")
    return sorted(str(path) for path in paths), medium or IMAGES


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no readable zip file ({error}); fetch it again.") from None


def zip_names(archive: zipfile.ZipFile, pattern: str | None) -> list[str]:
    """Names of what lies in a zip file, without what macOS adds."""
    names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    return [name for name in names if pattern is None or PurePosixPath(name).match(pattern)]


def columns(n: int, stimulus_id: Sequence[Any] | None, table: Table | None) -> dict[str, Any]:
    """The table of ``n`` stimuli: their ids, by default their numbers, and further labels.

    Raises
    ------
    ValueError
        If there are more or fewer ids or rows than stimuli.
    """
    if stimulus_id is None:
        stimulus_id = [f"{row:0{max(4, len(str(n - 1)))}d}" for row in range(n)]
    if len(stimulus_id) != n:
        raise ValueError(f"there are {n} stimuli, but {len(stimulus_id)} stimulus ids.")
    labels = pd.DataFrame({} if table is None else table).reset_index(drop=True)
    if table is not None and len(labels) != n:
        raise ValueError(f"there are {n} stimuli, but the table has {len(labels)} rows.")
    labels = labels.drop(columns=["stimulus_id", "content_hash"], errors="ignore")
    return {"stimulus_id": stimulus_id, **labels}


def hashed_table(labels: Mapping[str, Any], readers: Sequence[Reader]) -> pd.DataFrame:
    """Read every stimulus once and put the hash of its content beside its id and labels.

    Raises
    ------
    ValueError
        If there are no stimuli, ids are missing or occur twice, or a stimulus cannot be read.
    """
    table = pd.DataFrame({name: list(values) for name, values in labels.items()})
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
            hashes.append(content_hash(read()))
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"stimulus {stimulus_id!r} cannot be read ({error}); replace it or leave it out."
            ) from None
    table.insert(1, "content_hash", hashes)
    return table


def table_files(table: pd.DataFrame, folder: Path) -> list[Path]:
    """The files that a table names in its column ``path``.

    Raises
    ------
    FileNotFoundError
        Naming the first that is not there.
    ValueError
        If there is no such column.
    """
    if "path" not in table:
        raise ValueError(f"the stimulus table has the columns {list(table)}, but 'path' is missing.")
    files = [folder / str(path) for path in table["path"]]
    for row, file in enumerate(files):
        if not file.is_file():
            raise FileNotFoundError(
                f"row {row} of the stimulus table names {file}, but there is no such file."
            )
    return files


def file_names(items: Sequence[Any]) -> list[str] | None:
    """Names of files, where all of the items are paths."""
    if not items or not all(isinstance(item, str | Path) for item in items):
        return None
    return [Path(item).name for item in items]


def array_readers(arrays: Any) -> list[Reader]:
    """For each array or tensor what gives it.

    Raises
    ------
    ValueError
        If one holds no numbers, or values are missing.
    """
    items = [np.asarray(item.detach().cpu() if hasattr(item, "detach") else item) for item in arrays]
    for row, item in enumerate(items):
        if item.dtype.kind not in "fiub":
            raise ValueError(f"stimulus {row} is an array of {item.dtype}; give numbers.")
        if item.dtype.kind == "f" and not np.isfinite(item).all():
            raise ValueError(f"stimulus {row} has NaN or infinite values; repair or leave it out.")
    return [partial(np.asarray, item) for item in items]


def text_readers(texts: Sequence[Any]) -> list[Reader]:
    """For each text what gives its bytes: a ``str`` is a text, a ``Path`` a file.

    Raises
    ------
    ValueError
        If it is neither, or a ``str`` that looks like the file it names.
    FileNotFoundError
        If a file is not there.
    """
    readers: list[Reader] = []
    for row, text in enumerate(texts):
        if isinstance(text, Path):
            readers.append(existing(text).read_bytes)
        elif not isinstance(text, str):
            raise ValueError(f"text {row} is of type {type(text).__name__}; give str, or Path for a file.")
        elif text.endswith(".txt") and Path(text).is_file():
            raise ValueError(f"text {row} is the name of a file; give Path({text!r}) to read it.")
        else:
            readers.append(partial(bytes, text, "utf-8"))
    return readers


def clip_readers(items: Sequence[Any], rate: float | None, medium: Medium) -> list[Reader]:
    """For each path what gives its bytes, and for each array and clip what gives its clip.

    Raises
    ------
    ValueError
        If an array has no rate or is no clip of this medium.
    FileNotFoundError
        If a file is not there.
    """
    readers: list[Reader] = []
    for row, item in enumerate(items):
        path = existing(item) if isinstance(item, str | Path) else None
        if path is not None and path.suffix.lower() != ".npy":
            readers.append(path.read_bytes)
        elif isinstance(item, Clip):
            if item.kind != medium.name:
                raise ValueError(f"{medium.name} {row} is a clip, but a {item.kind}; take it by itself.")
            readers.append(partial(_given, item))
        elif rate is None:
            raise ValueError(f"{medium.name} {row} is an array; give its rate= in Hz.")
        elif path is not None:
            readers.append(partial(_read_array, path, rate, medium))
        else:
            readers.append(partial(_given, _clip_of(item, rate, medium, str(row))))
    return readers


def decoded(content: bytes | NDArray[Any] | Clip, medium: Medium) -> Any:
    """What a stimulus set gives for what a reader read.

    Raises
    ------
    ValueError, OSError, SyntaxError
        If it cannot be decoded.
    """
    if isinstance(content, bytes):
        return medium.decode(content)
    return content if isinstance(content, Clip) else shown_pixels(content)


def changed(read: Reader, medium: Medium, function: Callable[[Any], Any]) -> bytes | NDArray[Any] | Clip:
    """Content of a stimulus that a function makes of what a reader reads.

    Raises
    ------
    ValueError
        If it is of another kind than the stimulus was, or values are missing.
    """
    before = decoded(read(), medium)
    after = function(before)
    if isinstance(before, str):
        if isinstance(after, str):
            return after.encode()
    elif isinstance(before, Clip):
        if isinstance(after, Clip) and after.kind == before.kind:
            return after
    elif isinstance(after, np.ndarray | Image.Image):
        return array_readers([after])[0]()  # type: ignore[return-value]
    raise ValueError(
        f"{describe(function)} makes a {type(after).__name__} of a {type(before).__name__}, another kind of thing"
    )


def changed_hashes(hashes: Iterable[str], function: Callable[[Any], Any]) -> list[str]:
    """Hashes of stimuli that a function changes, without a look at them."""
    name = describe(function)
    return [content_hash(f"{one} {name}".encode()) for one in hashes]


def _given(clip: Clip) -> Clip:
    return clip


def _read_array(path: Path, rate: float, medium: Medium) -> Clip:
    return _clip_of(np.load(path, allow_pickle=False), rate, medium, path.name)


def _clip_of(values: Any, rate: float, medium: Medium, which: str) -> Clip:
    try:
        clip = cast(Clip, _AS_CLIP[medium.name](values, rate))
    except ValueError as error:
        raise ValueError(f"{medium.name} {which} cannot be taken: {error}") from None
    if clip.kind != medium.name:
        raise ValueError(f"{medium.name} {which} is an array of the shape {np.shape(values)}, a {clip.kind}.")
    return clip
