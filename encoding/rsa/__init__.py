"""Representational similarity: dissimilarity matrices of brains and models, compared and tested."""

from __future__ import annotations

import importlib
from typing import Any

# registers the accessor ``rdms.rsa``
from .forms import average, square
from .rdms import rdm

#: where each public name lives; imported on first use
_HOMES = {
    "InterpolationModel": "models",
    "NoiseCeiling": "ceilings",
    "Persistence": "homology",
    "SelectionModel": "models",
    "WeightedModel": "models",
    "compare": "comparison",
    "compare_adaptively": "dependence",
    "compare_groups": "groups",
    "compare_representations": "representations",
    "crossvalidate": "crossvalidation",
    "distance_covariance": "distances",
    "find_neighbours": "neighbourhoods",
    "fuse": "fusion",
    "generalise_over_time": "timecourses",
    "identify": "identification",
    "infer": "inference",
    "infer_over_time": "timecourses",
    "model_rdm": "modelrdms",
    "noise_ceiling": "ceilings",
    "noise_covariance": "noise",
    "partition_variance": "commonality",
    "persistent_homology": "homology",
    "read_rdms": "files",
    "report_confounds": "confounds",
    "run_searchlight": "searchlight",
    "select_map": "images",
    "select_thresholds": "thresholds",
    "share_variance": "confounds",
    "to_image": "images",
    "transform_rdms": "topology",
}

__all__ = ["average", "rdm", "square", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
