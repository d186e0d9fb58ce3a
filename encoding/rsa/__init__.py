"""Representational similarity: dissimilarity matrices of brains and models, compared and tested.

Where things live:

- dissimilarities: ``rdms``, ``metrics``, ``patterns``, ``moments``, ``noise``, ``distances``, ``modelrdms``, ``files``;
  their shape: ``forms``, ``pairs``
- comparison: ``comparison``, ``preparation``, ``partial``, ``commonality``, ``confounds``
- inference: ``inference``, ``ceilings``, ``permutation``, ``resampling``; fitted models and people: ``models``,
  ``folds``, ``crossvalidation``, ``groups``
- where: ``searchlight``, ``neighbourhoods``, ``places``, ``geodesics``, ``images``
- when: ``timecourses``, ``generalisation``, ``fusion``, with ``epochs``, ``courses``, ``latencies``
- topology: ``topology``, ``thresholds``, ``dependence``, ``identification``, ``homology``
- patterns compared: ``representations``, ``sides``, ``predictivity``
"""

from __future__ import annotations

from .ceilings import NoiseCeiling, noise_ceiling
from .commonality import partition_variance
from .comparison import compare
from .confounds import report_confounds, share_variance
from .crossvalidation import crossvalidate
from .dependence import compare_adaptively
from .distances import distance_covariance
from .files import read_rdms
from .forms import average, square
from .fusion import fuse
from .groups import compare_groups
from .homology import Persistence, persistent_homology
from .identification import identify
from .images import select_map, to_image
from .inference import infer
from .modelrdms import model_rdm
from .models import InterpolationModel, SelectionModel, WeightedModel
from .neighbourhoods import find_adjacency, find_neighbours
from .noise import noise_covariance
from .rdms import rdm
from .representations import compare_representations
from .searchlight import run_searchlight
from .thresholds import select_thresholds
from .timecourses import generalise_over_time, infer_over_time
from .topology import transform_rdms

__all__ = [
    "InterpolationModel",
    "NoiseCeiling",
    "Persistence",
    "SelectionModel",
    "WeightedModel",
    "average",
    "compare",
    "compare_adaptively",
    "compare_groups",
    "compare_representations",
    "crossvalidate",
    "distance_covariance",
    "find_adjacency",
    "find_neighbours",
    "fuse",
    "generalise_over_time",
    "identify",
    "infer",
    "infer_over_time",
    "model_rdm",
    "noise_ceiling",
    "noise_covariance",
    "partition_variance",
    "persistent_homology",
    "rdm",
    "read_rdms",
    "report_confounds",
    "run_searchlight",
    "select_map",
    "select_thresholds",
    "share_variance",
    "square",
    "to_image",
    "transform_rdms",
]
