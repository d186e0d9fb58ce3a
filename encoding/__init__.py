"""Relates recordings and activations: encoding models, similarity, decoding, one evaluation, studies."""

from __future__ import annotations

from . import rsa
from .evaluation import evaluate
from .persistence import load, save
from .results import Result
from .ridge import RidgeCV

__all__ = ["Result", "RidgeCV", "evaluate", "load", "rsa", "save"]
