"""Representational similarity: dissimilarity matrices of brains and models, compared and tested."""

from __future__ import annotations

from .comparison import compare
from .files import read_rdms
from .inference import NoiseCeiling, infer, noise_ceiling
from .rdms import average, rdm, square

__all__ = ["NoiseCeiling", "average", "compare", "infer", "noise_ceiling", "rdm", "read_rdms", "square"]
