"""Named networks, and proof that their weights were loaded."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .names import describe, nearest
from .networks import CifarResNet, MobileNetV2, TinyNet
from .preprocessing import IMAGENET, Preprocessing

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".th")


@dataclass(frozen=True)
class NetworkSpec:
    """An entry of the zoo: how the network is built, what it takes, and which layers are worth a look."""

    build: Callable[..., nn.Module]
    preprocess: Preprocessing
    layers: tuple[str, ...]
    about: str


_CIFAR = Preprocessing(size=32, mean=IMAGENET.mean, std=IMAGENET.std, resample="bicubic")
_CIFAR_LAYERS = ("conv1", "layer1", "layer2", "layer3", "linear")

#: the zoo, by name
NETWORKS: Mapping[str, NetworkSpec] = MappingProxyType(
    {
        "mobilenet_v2": NetworkSpec(
            partial(MobileNetV2, num_classes=1001, padding="tensorflow"),
            Preprocessing(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
            ("features.3", "features.6", "features.10", "features.13", "features.17"),
            "MobileNetV2 as Google trained it on ImageNet: 1001 classes, TensorFlow's padding",
        ),
        "mobilenet_v2_torchvision": NetworkSpec(
            MobileNetV2,
            IMAGENET,
            ("features.3", "features.6", "features.10", "features.13", "features.17"),
            "MobileNetV2 as torchvision pads and normalises it: 1000 classes of ImageNet",
        ),
        "cifar_resnet20": NetworkSpec(
            partial(CifarResNet, 20), _CIFAR, _CIFAR_LAYERS, "ResNet-20 for CIFAR-10"
        ),
        "cifar_resnet56": NetworkSpec(
            partial(CifarResNet, 56), _CIFAR, _CIFAR_LAYERS, "ResNet-56 for CIFAR-10"
        ),
        "tiny": NetworkSpec(
            TinyNet,
            Preprocessing(size=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
            ("conv1", "conv2", "conv3", "readout"),
            "three small convolutional layers for demonstrations; there are no trained weights",
        ),
    }
)


@dataclass(frozen=True)
class Loading:
    """What became of the weights: how many of the network's tensors they filled, and which they did not."""

    source: str
    matched: int
    total: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def complete(self) -> bool:
        """Say whether every tensor of the network and of the file found its partner."""
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        """One sentence, without a full stop."""
        parts = [f"{self.matched} of {self.total} tensors matched"]
        for names, what in (
            (self.missing, "missing in the weights"),
            (self.unexpected, "unknown to the network"),
            (self.reshaped, "of another shape"),
        ):
            if names:
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})")
        return "; ".join(parts)


def load(
    name: str, weights: str | Path, *, allow_partial: bool = False, seed: int = 0, **options: Any
) -> nn.Module:
    """Load a named network in evaluation mode.

    Parameters
    ----------
    name
        One of ``models.NETWORKS``.
    weights
        A ``.safetensors``, ``.pt``, ``.pth`` or ``.th`` file, a folder with exactly one of these, or ``"random"``
        for an untrained network. Nothing is unpickled but tensors.
    allow_partial
        Accept weights that do not fill the network exactly; the rest stays random, with a warning.
    seed
        Of the random weights; the global random state is left alone.
    options
        To the network's constructor, such as ``num_classes``.

    Returns
    -------
    torch.nn.Module
        With ``.preprocess`` (what turns a stimulus into its input), ``.loading`` (a :class:`Loading`) and
        ``.layers`` (layers worth extracting).

    Raises
    ------
    FileNotFoundError
        If there are no such weights.
    ValueError
        If the name is unknown, the file is damaged, or its tensors do not match the network's.

    Examples
    --------
    >>> from cerebridge import models
    >>> net = models.load("tiny", weights="random", seed=1)
    >>> print(net.loading)
    0 of 20 tensors matched
    """
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}; {nearest(name, NETWORKS)}.")
    spec = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = spec.build(**options)
    if weights == "random":
        loading = Loading("random", 0, len(_tensors(net)), fingerprint=fingerprint(net))
    else:
        path = _weight_file(Path(weights))
        loading = _fill(net, _read_weights(path), path, allow_partial)
    facts: dict[str, Any] = {"preprocess": spec.preprocess, "loading": loading, "layers": spec.layers}
    for key, fact in facts.items():
        setattr(net, key, fact)
    return net.eval()


def fingerprint(net: nn.Module) -> str:
    """Hash a network's structure and the values of all its tensors.

    Examples
    --------
    >>> from cerebridge import models
    >>> first, second = (models.load("tiny", weights="random", seed=1) for _ in range(2))
    >>> models.fingerprint(first) == models.fingerprint(second)
    True
    """
    digest = hashlib.sha256(describe(net).encode())
    for name, tensor in sorted(_tensors(net).items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers; the step counters of batch norms say nothing about the function."""
    return {name: t for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")}


def _weight_file(path: Path) -> Path:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in WEIGHT_SUFFIXES)
        if len(files) != 1:
            held = ", ".join(file.name for file in files) or "none"
            raise ValueError(
                f"the folder {path} must hold exactly one file of weights, but holds {held}; name the file."
            )
        return files[0]
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {path}; give a file, or weights='random'.")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise ValueError(f"{path} is no file of weights; give one of {', '.join(WEIGHT_SUFFIXES)}.")
    return path


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in whatever part of its reader meets the damage
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is damaged or no file of tensors ({reason}); fetch it again.") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError(f"{path} holds no dictionary of tensors; save the network's state_dict().")
    tensors = cast(dict[str, Tensor], content)
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _fill(net: nn.Module, weights: Mapping[str, Tensor], path: Path, allow_partial: bool) -> Loading:
    own = _tensors(net)
    given = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    fitting = {
        name: tensor for name, tensor in given.items() if name in own and tensor.shape == own[name].shape
    }
    with torch.no_grad():
        for name, tensor in fitting.items():
            own[name].copy_(tensor)
    loading = Loading(
        source=path.name,
        matched=len(fitting),
        total=len(own),
        missing=tuple(name for name in own if name not in given),
        unexpected=tuple(name for name in given if name not in own),
        reshaped=tuple(name for name in given if name in own and name not in fitting),
        fingerprint=fingerprint(net),
    )
    if not loading.complete:
        if not allow_partial or not fitting:
            raise ValueError(
                f"{path} does not fit the network: {loading}; give the network's own weights"
                f"{' or allow_partial=True' if fitting else ''}."
            )
        warnings.warn(f"{path.name} fills the network in part: {loading}; the rest is random.", stacklevel=3)
    return loading
