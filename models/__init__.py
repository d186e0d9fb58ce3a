"""Networks in, labelled arrays out: stimulus sets, a zoo, activations, features, decompositions, synthesis.

Where things live:

- stimuli: ``stimuli``, ``clips``; how they are found, read and cut: ``gathering``, ``decoding``, ``batches``,
  ``passages``, ``tokens``, ``segments``
- networks: ``zoo``, ``networks``; how they are loaded: ``loading``, ``sources``, ``hub``, ``recipes``, ``tflite``,
  ``preprocessing``, ``compat``, ``devices``
- layers and their parts: ``anatomy``, ``selectors``, ``taps``, ``maps``, ``pooling``
- activations: ``activations`` of images, ``language`` of texts, ``recording`` of sounds and films, ``grams``; planned,
  reduced and written by ``limits``, ``trials``, ``plans``, ``passes``, ``memory``, ``reduction``, ``incremental``,
  ``collecting``, ``sidestreams``
- time: ``timing``, ``kernels``, ``receptive``
- changes of activations: ``changes``, ``interventions``, ``effects``
- training: ``training``, ``trainer``
- packages: ``features`` made by hand, ``decompose``, ``synthesis``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exports import export

if TYPE_CHECKING:
    from . import decompose, features, synthesis
    from .activations import extract, plan_extraction
    from .anatomy import find_layers
    from .changes import Ablate, Add, Clamp, Scale
    from .clips import Clip
    from .effects import measure_effect
    from .grams import extract_gram
    from .interventions import intervene
    from .language import extract_text
    from .networks import VGG16, CifarResNet, MobileNetV1, MobileNetV2, TinyNet
    from .preprocessing import Preprocessing
    from .recording import extract_over_time
    from .reduction import PCA, RandomProjection
    from .stimuli import StimulusSet
    from .timing import resample_in_time
    from .zoo import NETWORKS, fingerprint, list_networks, load

#: where each public name lives; imported on first use
_HOMES = {
    "Ablate": "changes",
    "Add": "changes",
    "CifarResNet": "networks",
    "Clamp": "changes",
    "Clip": "clips",
    "MobileNetV1": "networks",
    "MobileNetV2": "networks",
    "NETWORKS": "zoo",
    "PCA": "reduction",
    "Preprocessing": "preprocessing",
    "RandomProjection": "reduction",
    "Scale": "changes",
    "StimulusSet": "stimuli",
    "TinyNet": "networks",
    "VGG16": "networks",
    "extract": "activations",
    "extract_gram": "grams",
    "extract_over_time": "recording",
    "extract_text": "language",
    "find_layers": "anatomy",
    "fingerprint": "zoo",
    "intervene": "interventions",
    "list_networks": "zoo",
    "load": "zoo",
    "measure_effect": "effects",
    "plan_extraction": "activations",
    "resample_in_time": "timing",
}
#: public modules, whose names are reached through them
_MODULES = ("decompose", "features", "synthesis")

__all__ = [
    "NETWORKS",
    "PCA",
    "VGG16",
    "Ablate",
    "Add",
    "CifarResNet",
    "Clamp",
    "Clip",
    "MobileNetV1",
    "MobileNetV2",
    "Preprocessing",
    "RandomProjection",
    "Scale",
    "StimulusSet",
    "TinyNet",
    "decompose",
    "extract",
    "extract_gram",
    "extract_over_time",
    "extract_text",
    "features",
    "find_layers",
    "fingerprint",
    "intervene",
    "list_networks",
    "load",
    "measure_effect",
    "plan_extraction",
    "resample_in_time",
    "synthesis",
]

__getattr__, __dir__ = export(__name__, _HOMES, _MODULES)
