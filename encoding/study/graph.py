"""Steps of a study, each known by a hash of what determines its result, and the folder that keeps results."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from ... import __version__
from ...neuro import store
from ...neuro.files import aside

Form = Literal["array", "dataset", "folder"]
Inputs = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of work whose result is kept.

    Parameters
    ----------
    title
        What is said on the screen.
    kind
        Which work it is; begins the name of its result.
    work
        ``work(settings, inputs, folder)`` gives a labelled array or a dataset; a step of the form ``"folder"`` fills
        the folder itself, so that it can go on where it was interrupted.
    settings
        Everything else that determines the result, as JSON.
    inputs
        Steps whose results the work gets, by name.
    files
        Files that the work reads.
    estimate
        ``estimate(settings, inputs)`` says what the work will take, before it is done: ``seconds``, ``bytes`` of
        the result, ``memory`` beside data and results.
    """

    title: str
    kind: str
    work: Callable[[Mapping[str, Any], Inputs, Path], Any]
    settings: Mapping[str, Any]
    inputs: Mapping[str, Step] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    form: Form = "dataset"
    estimate: Callable[[Mapping[str, Any], Inputs], dict[str, float]] | None = None

    @cached_property
    def key(self) -> str:
        """Hash of version, kind, settings, inputs and the content of files; paths and devices do not count."""
        facts = {
            "version": __version__,
            "kind": self.kind,
            "settings": self.settings,
            "inputs": {name: step.key for name, step in self.inputs.items()},
            "files": [file_hash(path) for path in self.files],
        }
        text = json.dumps(facts, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    @property
    def name(self) -> str:
        """Name of the result's file or folder, without suffix."""
        return f"{self.kind}-{self.key}"


def in_order(steps: list[Step]) -> list[Step]:
    """All steps that ``steps`` rest on and they themselves, inputs first, equal ones once."""
    found: dict[str, Step] = {}

    def visit(step: Step) -> None:
        for needed in step.inputs.values():
            visit(needed)
        found.setdefault(step.key, step)

    for step in steps:
        visit(step)
    return list(found.values())


@dataclass(frozen=True)
class Record:
    """What a step took, what was planned, where something was, and what it warned of."""

    seconds: float
    bytes: float
    planned_seconds: float | None = None
    planned_bytes: float | None = None
    planned_memory: float | None = None
    notes: tuple[str, ...] = ()


class Cache:
    """The folder with the results of steps and, beside them, what each took.

    Parameters
    ----------
    folder
        Made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def place(self, step: Step) -> Path:
        """Where the result of a step lies."""
        return self.folder / (step.name if step.form == "folder" else f"{step.name}.nc")

    def has(self, step: Step) -> bool:
        """Whether a step is done; its record is written last."""
        return self._record(step).is_file() and self.place(step).exists()

    def load(self, step: Step) -> xr.DataArray | xr.Dataset:
        """The result of a step; arrays are read on demand.

        Raises
        ------
        OSError
            If it is damaged.
        """
        return (
            store.load_dataset(self.place(step)) if step.form == "dataset" else store.load(self.place(step))
        )

    def make(self, step: Step, inputs: Inputs, planned: Mapping[str, float]) -> Record:
        """Do the work of a step and keep its result; says what it took beside what was planned."""
        started = time.perf_counter()
        with noting() as notes:
            result = step.work(step.settings, inputs, self.place(step))
        if step.form == "array":
            store.save(self.place(step), result)
        elif step.form == "dataset":
            store.save_dataset(self.place(step), result)
        record = Record(
            seconds=time.perf_counter() - started,
            bytes=size_on_disk(self.place(step)),
            planned_seconds=planned.get("seconds"),
            planned_bytes=planned.get("bytes"),
            planned_memory=planned.get("memory"),
            notes=tuple(notes),
        )
        with aside(self._record(step)) as part:
            part.write_text(json.dumps({"title": step.title, **asdict(record)}), encoding="utf-8")
        return record

    def record(self, step: Step) -> Record | None:
        """What a finished step took; ``None`` if its result was removed because nothing needs it any more."""
        if not self._record(step).is_file():
            return None
        known = json.loads(self._record(step).read_text(encoding="utf-8"))
        return Record(
            **{**{each.name: known[each.name] for each in fields(Record)}, "notes": tuple(known["notes"])}
        )

    def forget(self, step: Step) -> None:
        """Make a step undone."""
        self._record(step).unlink(missing_ok=True)

    def _record(self, step: Step) -> Path:
        return self.folder / f"{step.name}.json"


@contextmanager
def noting() -> Iterator[list[str]]:
    """Collect what the work warns its user of, each once; all warnings are shown at the end."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield notes
        finally:
            shown = {(str(each.message), each.category): each for each in caught}
    for each in shown.values():
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        if each.category is UserWarning:
            notes.append(str(each.message))


def file_hash(path: Path) -> str:
    """Hash of a file's content, or of all files of a folder with their names."""
    digest = hashlib.blake2b(digest_size=12)
    for file in _files(path):
        digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def size_on_disk(path: Path) -> int:
    """Bytes of a file or folder."""
    return sum(file.stat().st_size for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    yield from sorted(file for file in path.rglob("*") if file.is_file())


def format_seconds(seconds: float) -> str:
    """Write a duration for people.

    Examples
    --------
    >>> from cerebridge.encoding.study.graph import format_seconds
    >>> format_seconds(0.123), format_seconds(75)
    ('0.12 s', '1 min 15 s')
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "min"), (whole % 60, "s")]
    first = next(k for k, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)
