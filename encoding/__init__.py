"""Relates recordings and activations: encoding models, similarity, decoding, one evaluation, studies."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import rsa
    from .discriminant import ShrinkageLDA
    from .evaluation import evaluate
    from .persistence import load, save
    from .results import Result
    from .ridge import RidgeCV

#: where each public name lives; imported on first use, so that the command line answers at once
_HOMES = {
    "Result": "results",
    "RidgeCV": "ridge",
    "ShrinkageLDA": "discriminant",
    "evaluate": "evaluation",
    "load": "persistence",
    "rsa": "rsa",
    "save": "persistence",
}

__all__ = ["Result", "RidgeCV", "ShrinkageLDA", "evaluate", "load", "rsa", "save"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_HOMES[name]}", __name__)
    return module if name == "rsa" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
