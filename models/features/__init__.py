"""Hand-built feature spaces: what is in pictures, films, sounds and texts without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exports import export

if TYPE_CHECKING:
    from .colour import colour_statistics
    from .foveation import FoveatedBlur, FoveatedTexture, UniformBlur, match_blur
    from .gabor import gabor_pyramid
    from .hierarchy import hmax, learn_prototypes
    from .images import pixels
    from .motion import MotionBank, motion_energy
    from .ngrams import NGram
    from .pathways import LocalContrast, MotionPathway, MTPooling
    from .regions import Gaze, pooling_regions
    from .sound import envelope, onsets, spectrogram
    from .words import surprisal, word_rate, word_statistics

#: where each public name lives; imported on first use
_HOMES = {
    "Gaze": "regions",
    "pooling_regions": "regions",
    "learn_prototypes": "hierarchy",
    "LocalContrast": "pathways",
    "MTPooling": "pathways",
    "MotionBank": "motion",
    "MotionPathway": "pathways",
    "NGram": "ngrams",
    "word_statistics": "words",
    "FoveatedBlur": "foveation",
    "FoveatedTexture": "foveation",
    "UniformBlur": "foveation",
    "colour_statistics": "colour",
    "envelope": "sound",
    "gabor_pyramid": "gabor",
    "hmax": "hierarchy",
    "match_blur": "foveation",
    "motion_energy": "motion",
    "onsets": "sound",
    "pixels": "images",
    "spectrogram": "sound",
    "surprisal": "words",
    "word_rate": "words",
}

__all__ = [
    "FoveatedBlur",
    "FoveatedTexture",
    "Gaze",
    "LocalContrast",
    "MTPooling",
    "MotionBank",
    "MotionPathway",
    "NGram",
    "UniformBlur",
    "colour_statistics",
    "envelope",
    "gabor_pyramid",
    "hmax",
    "learn_prototypes",
    "match_blur",
    "motion_energy",
    "onsets",
    "pixels",
    "pooling_regions",
    "spectrogram",
    "surprisal",
    "word_rate",
    "word_statistics",
]

__getattr__, __dir__ = export(__name__, _HOMES)
