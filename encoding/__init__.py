"""Relates recordings and activations: encoding models, similarity, decoding, one evaluation, studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exports import export

if TYPE_CHECKING:
    from . import bases, brainscore, clusters, geometry, group, information, likeness, plots, readouts, rsa
    from .attention import decode_attention
    from .banded import BandedRidgeCV
    from .delays import Delays
    from .discriminant import ShrinkageLDA
    from .evaluation import evaluate
    from .glm import BernoulliGLM, NegativeBinomialGLM, PoissonGLM
    from .hrf import convolve_hrf
    from .kernels import KernelRidgeCV
    from .lasso import GroupLassoCV, LassoCV
    from .layers import LayerSelectionCV
    from .partition import partition_variance
    from .persistence import load, save
    from .pls import PLSRegression
    from .reducedrank import ReducedRankRegression
    from .results import Result
    from .ridge import RidgeCV
    from .stacking import StackedEncoder
    from .trf import TRF

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
_MODULES = (
    "bases",
    "brainscore",
    "clusters",
    "geometry",
    "group",
    "information",
    "likeness",
    "plots",
    "readouts",
    "rsa",
)

__all__ = [
    "TRF",
    "BandedRidgeCV",
    "BernoulliGLM",
    "Delays",
    "GroupLassoCV",
    "KernelRidgeCV",
    "LassoCV",
    "LayerSelectionCV",
    "NegativeBinomialGLM",
    "PLSRegression",
    "PoissonGLM",
    "ReducedRankRegression",
    "Result",
    "RidgeCV",
    "ShrinkageLDA",
    "StackedEncoder",
    "bases",
    "brainscore",
    "clusters",
    "convolve_hrf",
    "decode_attention",
    "evaluate",
    "geometry",
    "group",
    "information",
    "likeness",
    "load",
    "partition_variance",
    "plots",
    "readouts",
    "rsa",
    "save",
]

__getattr__, __dir__ = export(__name__, _HOMES, _MODULES)
