"""Relates recordings and activations: encoding models, similarity, decoding, one evaluation, studies."""

from __future__ import annotations

from .evaluation import evaluate
from .persistence import load, save
from .results import Result

__all__ = ["Result", "evaluate", "load", "save"]
