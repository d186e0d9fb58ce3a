"""Brain-Score both ways: their benchmarks and metrics on our models, ours on theirs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benchmarks import read_benchmark, score
    from .metrics import load_metric
    from .models import from_model, to_model

#: where each public name lives; imported on first use
_HOMES = {
    "from_model": "models",
    "load_metric": "metrics",
    "read_benchmark": "benchmarks",
    "score": "benchmarks",
    "to_model": "models",
}

__all__ = [
    "from_model",
    "load_metric",
    "read_benchmark",
    "score",
    "to_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
