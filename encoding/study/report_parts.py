"""What a report is made of: numbers with their place in the results, tables, pictures, sections."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Entry = Mapping[str, Any]

#: dots per inch of embedded pictures, so that they stay sharp on dense screens
DPI = 170


@dataclass(frozen=True)
class Number:
    """A number in the report: how it is written, and the value it stands for."""

    text: str
    value: float

    @classmethod
    def of(cls, value: Any, digits: int = 3) -> Number:
        """A number with so many decimals; missing ones are a dash."""
        value = float(value)
        return cls(f"{value:.{digits}f}" if np.isfinite(value) else "–", value)

    @classmethod
    def p(cls, value: Any) -> Number:
        """A p-value."""
        value = float(value)
        return cls("–" if not np.isfinite(value) else f"{value:.3f}" if value >= 0.001 else "< 0.001", value)

    @classmethod
    def percent(cls, value: Any) -> Number:
        """A share in per cent."""
        value = float(value)
        return cls(f"{100 * value:.0f} %" if np.isfinite(value) else "–", value)

    @property
    def relation(self) -> str:
        """With a sign: ``"= 0.020"``, ``"< 0.001"``."""
        return self.text if self.text.startswith("<") else f"= {self.text}"

    def __str__(self) -> str:
        """As it is written."""
        return self.text


@dataclass(frozen=True)
class Headline:
    """One figure at the top of the report: what it is, its value, and what to compare it with."""

    label: str
    number: Number
    note: str
    key: str


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Number]]

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers."""
        return bool(self.rows) and all(isinstance(row[column], Number) for row in self.rows)


@dataclass(frozen=True)
class Picture:
    """A figure as a PNG for embedding, with a caption and a description for those who cannot see it."""

    source: str
    caption: str
    alt: str
    width: int

    @classmethod
    def of(cls, figure: Figure, caption: str, alt: str) -> Picture:
        """Draw a figure."""
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=DPI)
        encoded = base64.b64encode(content.getvalue()).decode()
        return cls(f"data:image/png;base64,{encoded}", caption, alt, round(100 * figure.get_size_inches()[0]))


@dataclass(frozen=True)
class Section:
    """What the report says about one analysis of one recording."""

    anchor: str
    title: str
    about: str
    headlines: list[Headline] = field(default_factory=list)
    meaning: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    audit: list[tuple[str, str]] = field(default_factory=list)
    audit_table: list[Table] = field(default_factory=list)
    provenance: list[tuple[str, str]] = field(default_factory=list)


def flat_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """A dictionary as rows of a table: keys in words, nested values in one line."""
    return [(str(key).replace("_", " "), _in_words(value)) for key, value in facts.items()]


def audit_of_models(audit: Mapping[str, Any], names: Mapping[str, str]) -> tuple[dict[str, Any], list[Table]]:
    """What an audit says of each model as a table, and the rest of it.

    Parameters
    ----------
    audit
        Of a result.
    names
        Of each model its name in the report.
    """
    rest = {key: value for key, value in audit.items() if key not in ("selection", "shuffle_control")}
    selection, shuffled = audit.get("selection"), audit.get("shuffle_control")
    columns: list[str] = ["model"]
    values: list[Mapping[str, float]] = []
    if isinstance(selection, Mapping):
        columns += [f"{selection['scoring']} on held-out rows", "by which penalties were chosen"]
        values += [selection["nested_score"], selection["selection_score"]]
    elif selection is not None:
        rest["selection"] = selection
    if isinstance(shuffled, Mapping):
        columns.append("with exchanged responses")
        values.append(shuffled)
    if not values:
        return rest, []
    rows: list[list[str | Number]] = [
        [name, *(Number.of(column.get(model, np.nan)) for column in values)] for model, name in names.items()
    ]
    return rest, [Table(columns, rows)]


def _in_words(value: Any) -> str:
    if isinstance(value, dict) and len(value) > 1 and len(set(map(str, value.values()))) == 1:
        return f"all {len(value)} alike: {_in_words(next(iter(value.values())))}"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_in_words(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(each, int) for each in value):
            return str(value[0]) if value[0] == value[1] else f"{value[0]} to {value[1]}"
        return ", ".join(map(_in_words, value)) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def anchor(group: str) -> str:
    """Name of a section in links."""
    return "".join(c if c.isalnum() else "-" for c in group)


def sentence(text: str) -> str:
    """Text with a capital and a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


def placed(dataset: xr.Dataset, values: xr.DataArray) -> xr.DataArray:
    """Values along ``place`` with the coordinates of the units they belong to, ready for a map."""
    coords = {
        str(name).removeprefix("place_"): ("neuroid", coord.values)
        for name, coord in dataset.coords.items()
        if coord.dims == ("place",)
    }
    return xr.DataArray(values.values, dims=(*values.dims[:-1], "neuroid"), coords=coords, attrs=values.attrs)
