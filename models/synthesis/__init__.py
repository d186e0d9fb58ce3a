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
    from .images import score_images
    from .objectives import Features, LayerObjective, ReadoutObjective
    from .triplets import fit_choices, select_triplets

#: where each public name lives; imported on first use
_HOMES = {
    "Features": "objectives",
    "LayerObjective": "objectives",
    "ReadoutObjective": "objectives",
    "Synthesis": "ascent",
    "find_facets": "facets",
    "fit_choices": "triplets",
    "guide": "guidance",
    "make_controversial": "controversy",
    "make_exciting": "exciting",
    "maximise": "ascent",
    "score_images": "images",
    "select_triplets": "triplets",
}

__all__ = [
    "Features",
    "LayerObjective",
    "ReadoutObjective",
    "Synthesis",
    "find_facets",
    "fit_choices",
    "guide",
    "make_controversial",
    "make_exciting",
    "maximise",
    "score_images",
    "select_triplets",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
