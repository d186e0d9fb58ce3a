"""Readouts of feature maps and tokens: where in the image, which features, routed how; trained by the one trainer."""

from __future__ import annotations

import importlib
from typing import Any

#: where each public name lives; imported on first use
_HOMES = {
    "FactorisedReadout": "factorised",
    "GaussianReadout": "gaussian",
    "InContextEncoder": "incontext",
    "LayerEnsemble": "ensemble",
    "PRFReadout": "prf",
    "ResponseOptimised": "response_optimised",
    "SpatialTransformerReadout": "spatial_transformer",
    "StaticMapReadout": "transformer",
    "TransformerReadout": "transformer",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
