"""Choosing and making stimuli: what a unit, a voxel or a disagreement of models asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exports import export

if TYPE_CHECKING:
    from .ascent import Synthesis, maximise
    from .controversy import Controversy, make_controversial, select_controversial
    from .exciting import make_exciting, rank_stimuli
    from .facets import Facets, find_facets
    from .generators import Denoiser, DiffusersGenerator, Diffusion
    from .guidance import Samples, guide
    from .images import score_images
    from .objectives import Features, LayerObjective, ReadoutObjective
    from .triplets import ChoiceFit, Triplets, fit_choices, select_triplets

#: where each public name lives; imported on first use
_HOMES = {
    "ChoiceFit": "triplets",
    "Controversy": "controversy",
    "Denoiser": "generators",
    "DiffusersGenerator": "generators",
    "Diffusion": "generators",
    "Facets": "facets",
    "Features": "objectives",
    "LayerObjective": "objectives",
    "ReadoutObjective": "objectives",
    "Samples": "guidance",
    "Synthesis": "ascent",
    "Triplets": "triplets",
    "find_facets": "facets",
    "fit_choices": "triplets",
    "guide": "guidance",
    "make_controversial": "controversy",
    "make_exciting": "exciting",
    "maximise": "ascent",
    "rank_stimuli": "exciting",
    "score_images": "images",
    "select_controversial": "controversy",
    "select_triplets": "triplets",
}

__all__ = [
    "ChoiceFit",
    "Controversy",
    "Denoiser",
    "DiffusersGenerator",
    "Diffusion",
    "Facets",
    "Features",
    "LayerObjective",
    "ReadoutObjective",
    "Samples",
    "Synthesis",
    "Triplets",
    "find_facets",
    "fit_choices",
    "guide",
    "make_controversial",
    "make_exciting",
    "maximise",
    "rank_stimuli",
    "score_images",
    "select_controversial",
    "select_triplets",
]

__getattr__, __dir__ = export(__name__, _HOMES)
