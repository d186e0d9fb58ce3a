"""The study file: read, checked against the schema, its names and paths resolved."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .estimators import encoder_problems
from .features import OF_PICTURES, picture_problems
from .validation import StudyError, allowed, filled, first_problem

#: keys of entries that name files, and those of them that may be patterns
PATH_KEYS = ("path", "weights", "bold", "events", "confounds", "mask", "atlas")
PATTERN_KEYS = ("bold", "events", "confounds")
#: feature spaces with one row a stimulus; others follow the time of a recording
OF_STIMULI = (*OF_PICTURES, "array")
#: weights that are no file
NO_FILES = ("random", "pretrained")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Model:
    """What predicts or is compared: one layer of a network, a feature space, or a recording."""

    name: str
    section: str
    entry: str
    layer: str | None = None


@dataclass(frozen=True)
class Study:
    """A checked study: the table with all defaults set, where it was written, and where its paths start."""

    file: str
    table: dict[str, Any]
    root: Path
    text: str

    @property
    def name(self) -> str:
        """Short name."""
        return str(self.table["study"]["name"])

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return int(self.table["study"]["seed"])

    def entry(self, section: str, name: str) -> dict[str, Any]:
        """One recording, stimulus set, network or feature space."""
        return dict(self.table[section][name])

    def models(self, references: Sequence[str]) -> list[Model]:
        """Resolve references: a network stands for all its layers, ``network/layer`` for one."""
        found: list[Model] = []
        for reference in references:
            name, _, layer = reference.partition("/")
            if name in self.table["networks"]:
                layers = [layer] if layer else self.table["networks"][name]["layers"]
                found += [Model(f"{name}/{each}", "networks", name, each) for each in layers]
            else:
                section = "features" if name in self.table["features"] else "recordings"
                found.append(Model(name, section, name))
        return found

    def files(self, value: str, pattern: bool = False) -> list[Path]:
        """Resolve a path of the study; a pattern may match several, in the order of their names."""
        if not pattern:
            return [self.root / value]
        return sorted(self.root.glob(value))


def read_study(path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path
        A TOML file.
    root
        Where relative paths start, instead of what the study says.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    StudyError
        Naming the file, the key, and what is allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no study file {path}.")
    return parse_study(path.read_text(encoding="utf-8"), path.name, path.parent, root)


def parse_study(
    text: str, file: str, folder: str | os.PathLike[str] = ".", root: str | os.PathLike[str] | None = None
) -> Study:
    """Check the text of a study file.

    Parameters
    ----------
    text
        TOML.
    file
        Its name, for messages.
    folder
        Where the file lies; the study's ``root`` is relative to it.
    root
        Instead of the study's.

    Raises
    ------
    StudyError
        Naming the file, the key, and what is allowed.

    Examples
    --------
    >>> from cerebridge.encoding.study.format import parse_study
    >>> parse_study("[study]\\nname = 'v4'\\nsede = 1", "v4.toml")
    Traceback (most recent call last):
        ...
    cerebridge.encoding.study.validation.StudyError: v4.toml: study has the unknown key 'sede'; did you mean 'seed'? \
Allowed are name, title, description, root, seed, device.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{file}: this is no TOML ({error}).") from None
    problem = first_problem(raw)
    if problem is not None:
        raise StudyError(f"{file}: {problem}")
    table = filled(raw)
    where = Path(root) if root is not None else Path(folder) / _expanded(table["study"]["root"])
    study = Study(file, table, where.resolve(), text)
    for problem in _problems(study):
        raise StudyError(f"{file}: {problem}")
    return study


def _expanded(text: str) -> str:
    """``text`` with ``${NAME}`` and ``${NAME:-default}`` replaced from the environment."""
    return _VARIABLE.sub(lambda match: os.environ.get(match[1]) or match[2] or "", text)


def _problems(study: Study) -> Iterator[str]:
    """What the schema cannot see: names that refer to nothing, names twice, files that are not there."""
    table = study.table
    owners: dict[str, str] = {}
    for section in ("networks", "features", "recordings"):
        for name in table[section]:
            if name in owners:
                yield f"{section}.{name} has the name of {owners[name]}.{name}; models need names of their own."
            owners[name] = section
    for name, entry in table["recordings"].items():
        yield from _recording_problems(table, name, entry)
    for name, entry in table["features"].items():
        if entry["kind"] in OF_PICTURES:
            yield from picture_problems(f"features.{name}", entry)
    for name, entry in table["encoders"].items():
        yield from encoder_problems(f"encoders.{name}", entry)
    seen: set[str] = set()
    for entry in table["analyses"]:
        if entry["name"] in seen:
            yield f"analyses {entry['name']!r} is there twice; give every analysis a name of its own."
        seen.add(entry["name"])
        yield from _analysis_problems(table, entry)
    yield from _missing_files(study)


def _recording_problems(table: Mapping[str, Any], name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    where = f"recordings.{name}"
    if "stimuli" in entry and entry["stimuli"] not in table["stimuli"]:
        yield f"{where}.stimuli is {entry['stimuli']!r}{allowed(entry['stimuli'], table['stimuli'])}"
    for region, reference in entry.get("regions", {}).items():
        yield from _layer_problems(table, f"{where}.regions.{region}", reference, ("networks", "features"))


def _analysis_problems(table: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[str]:
    where = f"analyses {entry['name']!r}"
    for number, name in enumerate(entry["recordings"]):
        if name not in table["recordings"]:
            yield f"{where}.recordings[{number}] is {name!r}{allowed(name, table['recordings'])}"
    for key in ("attended", "unattended"):
        if entry.get(key, next(iter(table["recordings"]))) not in table["recordings"]:
            yield f"{where}.{key} is {entry[key]!r}{allowed(entry[key], table['recordings'])}"
    for number, name in enumerate(entry.get("encoders", ())):
        if name not in (*table["encoders"], "ridge"):
            yield f"{where}.encoders[{number}] is {name!r}{allowed(name, ['ridge', *table['encoders']])}"
    if "model" in entry:
        yield from _layer_problems(table, f"{where}.model", entry["model"], ("networks",))
    for number, reference in enumerate(entry.get("models", [])):
        sections = ("networks", "features", "recordings")
        yield from _model_problems(table, f"{where}.models[{number}]", reference, sections)
    for reference in (*entry.get("models", ()), *filter(None, [entry.get("model")])):
        kind = table["features"].get(reference, {}).get("kind")
        if reference.partition("/")[0] in table["networks"] or kind in OF_STIMULI:
            for name in entry["recordings"]:
                if "stimuli" not in table["recordings"].get(name, {"stimuli": ""}):
                    yield (
                        f"recordings.{name} lacks the key 'stimuli', which {where} needs to know what {reference!r} "
                        "is shown."
                    )


def _layer_problems(
    table: Mapping[str, Any], where: str, reference: str, sections: Sequence[str]
) -> Iterator[str]:
    yield from _model_problems(table, where, reference, sections)
    if reference in table["networks"]:
        yield (
            f"{where} is {reference!r}, a network; name one layer, such as "
            f"'{reference}/{table['networks'][reference]['layers'][0]}'."
        )


def _model_problems(
    table: Mapping[str, Any], where: str, reference: str, sections: Sequence[str]
) -> Iterator[str]:
    name, _, layer = reference.partition("/")
    known = [key for section in sections for key in table[section]]
    if name not in known:
        yield f"{where} is {reference!r}{allowed(name, known)}"
    elif layer and layer not in table["networks"].get(name, {"layers": ()})["layers"]:
        layers = table["networks"].get(name, {"layers": ()})["layers"]
        yield f"{where} is {reference!r}{allowed(reference, [f'{name}/{each}' for each in layers])}"


def _missing_files(study: Study) -> Iterator[str]:
    for section in ("stimuli", "networks", "features", "recordings"):
        for name, entry in study.table[section].items():
            for key in PATH_KEYS:
                if key not in entry or (key == "weights" and entry[key] in NO_FILES):
                    continue
                found = study.files(entry[key], key in PATTERN_KEYS)
                if not found or not found[0].exists():
                    yield (
                        f"{section}.{name}.{key} is {entry[key]!r}, but there is no such file below {study.root}; "
                        "correct it, or set study.root or --root."
                    )
