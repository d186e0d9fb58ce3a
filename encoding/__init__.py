"""Relates recordings and activations: encoding models, similarity, decoding, one evaluation, studies."""

from __future__ import annotations

import importlib
from typing import Any

#: where each public name lives; imported on first use, so that the command line answers at once
_HOMES = {
    "BandedRidgeCV": "banded",
    "BernoulliGLM": "glm",
    "Delays": "delays",
    "GroupLassoCV": "lasso",
    "KernelRidgeCV": "kernels",
    "LassoCV": "lasso",
    "LayerSelectionCV": "layers",
    "NegativeBinomialGLM": "glm",
    "PLSRegression": "pls",
    "PoissonGLM": "glm",
    "ReducedRankRegression": "reducedrank",
    "Result": "results",
    "RidgeCV": "ridge",
    "ShrinkageLDA": "discriminant",
    "StackedEncoder": "stacking",
    "TRF": "trf",
    "convolve_hrf": "hrf",
    "decode_attention": "attention",
    "evaluate": "evaluation",
    "load": "persistence",
    "partition_variance": "partition",
    "save": "persistence",
}
#: public modules, whose names are reached through them
_MODULES = ("bases", "group", "likeness", "readouts", "rsa")

__all__ = sorted([*_HOMES, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
