"""The sections of a report, by kind of analysis."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr

from ..plots.style import short_names
from ..results import Result
from .report_parts import Entry, Section, audit_of_models, flat_rows
from .section_agreement import agreement_section
from .section_attention import attention_section
from .section_decoding import decoding_section
from .section_encoding import encoding_section
from .section_exciting import exciting_section
from .section_similarity import similarity_section

#: what writes the section of each kind of analysis
SECTIONS: dict[str, Callable[[Entry, str, str, Result], Section]] = {
    "encoding": encoding_section,
    "similarity": similarity_section,
    "decoding": decoding_section,
    "agreement": agreement_section,
    "attention": attention_section,
    "exciting": exciting_section,
}


def section(entry: Entry, recording: str, group: str, dataset: xr.Dataset) -> Section:
    """What the report says about one group of the results.

    Parameters
    ----------
    entry
        The analysis in the study.
    recording
        Its recording.
    group
        Where the dataset lies in ``results.nc``.
    dataset
        The results.
    """
    result = Result(dataset)
    part = SECTIONS[entry["kind"]](entry, recording, group, result)
    models = [str(name) for name in dataset["model"].values]
    facts, tables = audit_of_models(result.audit, dict(zip(models, short_names(models), strict=True)))
    part.audit.extend(flat_rows(facts))
    part.audit_table.extend(tables)
    part.provenance.extend(flat_rows(result.provenance))
    return part
