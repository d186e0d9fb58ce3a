"""Figures of results: profiles, comparisons, courses, matrices, models tested, maps on brain, head and cortex."""

from __future__ import annotations

from .attention import plot_attention
from .cortex import plot_cortex
from .courses import plot_course_map, plot_courses, plot_time_matrix
from .depth import plot_depth
from .dictionaries import plot_dark_matter, plot_dictionaries
from .homology import plot_persistence
from .inference import plot_inference
from .information import plot_information_plane
from .likeness import plot_group, plot_layer_matrix, plot_order
from .maps import plot_map
from .matrices import plot_confusion, plot_rdms
from .mds import plot_mds
from .partition import plot_partition
from .pictures import plot_pictures
from .profiles import plot_comparison, plot_profile, plot_timecourse
from .readouts import plot_attention_maps

__all__ = [
    "plot_attention",
    "plot_attention_maps",
    "plot_comparison",
    "plot_confusion",
    "plot_cortex",
    "plot_course_map",
    "plot_courses",
    "plot_dark_matter",
    "plot_depth",
    "plot_dictionaries",
    "plot_group",
    "plot_inference",
    "plot_information_plane",
    "plot_layer_matrix",
    "plot_map",
    "plot_mds",
    "plot_order",
    "plot_partition",
    "plot_persistence",
    "plot_pictures",
    "plot_profile",
    "plot_rdms",
    "plot_time_matrix",
    "plot_timecourse",
]
