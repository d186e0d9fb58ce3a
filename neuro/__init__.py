"""Recordings in, labelled arrays out: readers, the array, its store, ceilings and simulations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exports import export
from .alignment import AlignReport, align, average_repeats
from .assembly import assemble, concat, validate
from .ceiling import noise_ceiling
from .interchange import from_brainscore, to_brainscore
from .simulation import simulate
from .store import load, save

if TYPE_CHECKING:
    from . import datasets, fmri, meeg, spikes

#: readers are imported on first use, because the libraries under them take seconds
_READERS = ("datasets", "fmri", "meeg", "spikes")

__all__ = [
    "AlignReport",
    "align",
    "assemble",
    "average_repeats",
    "concat",
    "datasets",
    "fmri",
    "from_brainscore",
    "load",
    "meeg",
    "noise_ceiling",
    "save",
    "simulate",
    "spikes",
    "to_brainscore",
    "validate",
]

# what is eager is listed without it
__getattr__, _ = export(__name__, {}, _READERS)
