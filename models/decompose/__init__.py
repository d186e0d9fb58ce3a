"""What is inside an activation: dictionaries, factors, selective units, paths, sparsity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exports import export

if TYPE_CHECKING:
    from .autoencoders import SparseAutoencoder
    from .darkmatter import report_dark_matter
    from .experts import ablate_experts, find_expert_units
    from .heads import attribute_heads
    from .interaction import LocalInteractionBasis
    from .losses import LayerLoss
    from .massive import fit_massive_course, report_massive_activations
    from .paths import find_neuron_path
    from .selectivity import find_selective_units
    from .seminmf import SemiNMF
    from .sparsity import fit_activation_ratio, report_sparsity
    from .voids import bypass_layers, keep_last_active, report_voids

#: where each public name lives; imported on first use
_HOMES = {
    "LayerLoss": "losses",
    "LocalInteractionBasis": "interaction",
    "SemiNMF": "seminmf",
    "SparseAutoencoder": "autoencoders",
    "ablate_experts": "experts",
    "attribute_heads": "heads",
    "bypass_layers": "voids",
    "find_expert_units": "experts",
    "find_neuron_path": "paths",
    "find_selective_units": "selectivity",
    "fit_activation_ratio": "sparsity",
    "fit_massive_course": "massive",
    "keep_last_active": "voids",
    "report_dark_matter": "darkmatter",
    "report_massive_activations": "massive",
    "report_sparsity": "sparsity",
    "report_voids": "voids",
}

__all__ = [
    "LayerLoss",
    "LocalInteractionBasis",
    "SemiNMF",
    "SparseAutoencoder",
    "ablate_experts",
    "attribute_heads",
    "bypass_layers",
    "find_expert_units",
    "find_neuron_path",
    "find_selective_units",
    "fit_activation_ratio",
    "fit_massive_course",
    "keep_last_active",
    "report_dark_matter",
    "report_massive_activations",
    "report_sparsity",
    "report_voids",
]

__getattr__, __dir__ = export(__name__, _HOMES)
