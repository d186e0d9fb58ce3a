"""Choosing and making stimuli: what a unit, a voxel or a disagreement of models asks for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ascent import Synthesis, maximise
    from .controversy import make_controversial
    from .exciting import make_exciting
    from .facets import find_facets
    from .guidance import guide
    from .objectives import Features, LayerObjective, ReadoutObjective
    from .triplets import select_triplets

#: where each public name lives; imported on first use
_HOMES = {
    "Features": "objectives",
    "LayerObjective": "objectives",
    "ReadoutObjective": "objectives",
    "Synthesis": "ascent",
    "find_facets": "facets",
    "guide": "guidance",
    "make_controversial": "controversy",
    "make_exciting": "exciting",
    "maximise": "ascent",
    "select_triplets": "triplets",
}

__all__ = [
    "Features",
    "LayerObjective",
    "ReadoutObjective",
    "Synthesis",
    "find_facets",
    "guide",
    "make_controversial",
    "make_exciting",
    "maximise",
    "select_triplets",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
