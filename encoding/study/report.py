"""report.html: one page with everything in it, readable by people without this package."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import xarray as xr

from ...models.memory import format_bytes
from ...neuro.files import aside
from ..audit import versions
from .format import Study
from .graph import Record, format_seconds
from .report_parts import Number, Table, flat_rows
from .sections import section
from .workflow import Analysis

#: title and key of a step, and what it took
StepRecord = tuple[str, str, Record | None]


def write_report(
    path: str | os.PathLike[str],
    study: Study,
    analyses: Sequence[Analysis],
    groups: Mapping[str, xr.Dataset],
    records: Sequence[StepRecord],
    attrs: Mapping[str, Any],
) -> None:
    """Write the report of a study as one self-contained HTML file, aside and renamed.

    Parameters
    ----------
    path
        The file.
    study, analyses
        What was asked for.
    groups
        The results, by group of ``results.nc``.
    records
        Title, key and cost of every step.
    attrs
        Attributes of ``results.nc`` and the ``seconds`` of this run.
    """
    import jinja2

    sections = [section(a.entry, a.recording, a.group, groups[a.group]) for a in analyses]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.from_string(_resource("report.html")).render(
        attrs=attrs,
        css=jinja2.utils.markupsafe.Markup(_resource("report.css")),
        paragraphs=_paragraphs(study),
        meta=_meta(study, attrs),
        sections=sections,
        plan=_plan(records),
        plan_text=_plan_text(records, attrs),
        notes=[(title, note) for title, _, record in records if record is not None for note in record.notes],
        provenance=flat_rows(_provenance(study, records, attrs)),
    )
    with aside(Path(path)) as part:
        part.write_text(text, encoding="utf-8")


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _paragraphs(study: Study) -> list[str]:
    """What was done: the study's own words, else a sentence made of its parts."""
    described = str(study.table["study"]["description"]).strip()
    if described:
        return [" ".join(paragraph.split()) for paragraph in described.split("\n\n")]
    kinds = ", ".join(dict.fromkeys(entry["kind"] for entry in study.table["analyses"]))
    return [f"Analyses ({kinds}) of the recordings {', '.join(study.table['recordings'])}."]


def _meta(study: Study, attrs: Mapping[str, Any]) -> str:
    created = attrs["created"].replace("T", " ").replace("+00:00", " UTC")
    return f"Study {study.name} · {created} · cerebridge {attrs['cerebridge_version']} · seed {study.seed}"


def _plan(records: Sequence[StepRecord]) -> Table:
    rows: list[list[str | Number]] = []
    for title, _, record in records:
        known = record or Record(float("nan"), float("nan"))
        rows.append(
            [
                title,
                _amount(known.planned_memory, format_bytes),
                _amount(known.planned_bytes, format_bytes),
                _amount(known.bytes, format_bytes),
                _amount(known.planned_seconds, format_seconds),
                _amount(known.seconds, format_seconds),
            ]
        )
    return Table(["step", "planned memory", "planned size", "size", "planned time", "time"], rows)


def _amount(value: float | None, form: Callable[[float], str]) -> Number:
    return Number("–", float("nan")) if value is None or value != value else Number(form(value), value)


def _plan_text(records: Sequence[StepRecord], attrs: Mapping[str, Any]) -> str:
    known = [record for _, _, record in records if record is not None]
    total, size = sum(record.seconds for record in known), sum(record.bytes for record in known)
    return (
        f"{len(records)} steps took {format_seconds(total)} and left {format_bytes(size)} in the cache; this run took "
        f"{format_seconds(attrs['seconds'])}. Plans are made before a step, from its sizes and short trials; a dash "
        "means that there was none."
    )


def _provenance(study: Study, records: Sequence[StepRecord], attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "study file": f"{study.file}, hash {attrs['study_hash']}",
        "created": attrs["created"],
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "steps": {title: key for title, key, _ in records},
    }
