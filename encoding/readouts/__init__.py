"""Readouts of feature maps and tokens: where in the image, which features, routed how; trained by the one trainer."""

from __future__ import annotations

from ...exports import export

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

__getattr__, __dir__ = export(__name__, _HOMES)
