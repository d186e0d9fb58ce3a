"""Networks in, labelled arrays out: stimulus sets, a zoo, activations within a memory promise."""

from __future__ import annotations

from .activations import extract
from .features import pixels
from .networks import CifarResNet, MobileNetV2, TinyNet
from .preprocessing import Preprocessing
from .stimuli import StimulusSet
from .zoo import NETWORKS, fingerprint, load

__all__ = [
    "NETWORKS",
    "CifarResNet",
    "MobileNetV2",
    "Preprocessing",
    "StimulusSet",
    "TinyNet",
    "extract",
    "fingerprint",
    "load",
    "pixels",
]
