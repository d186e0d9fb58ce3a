"""Networks by name, from the package itself, torchvision, timm and transformers, and proof that they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from .hub import from_transformers_zoo
from .loading import Loading, fingerprint, prove
from .names import nearest
from .networks import VGG16, CifarResNet, MobileNetV1, MobileNetV2, TinyNet
from .preprocessing import IMAGENET, Preprocessing
from .sources import (
    Sourced,
    Weights,
    build,
    fill_from,
    fixed_image,
    from_timm_zoo,
    from_torchvision_zoo,
    import_package,
)

__all__ = ["NETWORKS", "SOURCES", "Loading", "NetworkSpec", "fingerprint", "list_networks", "load"]


@dataclass(frozen=True)
class NetworkSpec:
    """An entry of the zoo: how the network is built, what it takes, and which layers are worth a look."""

    build: Callable[..., nn.Module]
    preprocess: Preprocessing
    layers: tuple[str, ...]
    about: str


_CIFAR = Preprocessing(size=32, mean=IMAGENET.mean, std=IMAGENET.std, resample="bicubic")
_CROPPED = replace(IMAGENET, resize=256, keep_aspect=True)
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
            _CROPPED,
            ("features.3", "features.6", "features.10", "features.13", "features.17"),
            "MobileNetV2 as torchvision pads and normalises it: 1000 classes of ImageNet",
        ),
        "mobilenet_v1": NetworkSpec(
            partial(MobileNetV1, width=0.75),
            Preprocessing(size=192, mean=(128 / 255,) * 3, std=(128 / 255,) * 3),
            ("features.1", "features.3", "features.5", "features.11", "features.13"),
            "MobileNetV1 as Google trained it on ImageNet, 0.75 wide, for 192 pixels: 1001 classes",
        ),
        "vgg16": NetworkSpec(
            VGG16,
            _CROPPED,
            ("features.4", "features.9", "features.16", "features.23", "features.30"),
            "VGG16 with torchvision's names: 1000 classes of ImageNet",
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


#: where networks come from beside the package itself
SOURCES: Mapping[str, Callable[..., Sourced]] = MappingProxyType(
    {
        "torchvision": from_torchvision_zoo,
        "timm": from_timm_zoo,
        "transformers": from_transformers_zoo,
    }
)


def load(
    name: str,
    weights: str | Path | None = None,
    *,
    allow_partial: bool = False,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Load a named network in evaluation mode, with proof that its weights are in place.

    Parameters
    ----------
    name
        One of ``models.NETWORKS``, or a source and a name there: ``"torchvision/resnet18"``,
        ``"timm/vit_tiny_patch16_224"``, ``"transformers/<folder or id of the hub>"``. See :func:`list_networks`.
    weights
        A ``.safetensors``, ``.pt``, ``.pth``, ``.th``, ``.bin`` or ``.tflite`` file, a folder with exactly one of
        these, or ``"random"`` for an untrained network. ``None`` or ``"pretrained"``: the published ones, from the
        local cache of torch or the hub, else fetched (of a folder of transformers: its own). Nothing is unpickled
        but tensors.
    allow_partial
        Accept weights that do not fill the network exactly; the rest stays random, with a warning.
    seed
        Of the random weights; the global random state is left alone.
    options
        To the network's constructor, such as ``num_classes``; for transformers also ``head="CausalLM"`` and the like.

    Returns
    -------
    torch.nn.Module
        With ``.preprocess`` (what turns an image into its input, where it takes images), ``.loading`` (a
        :class:`~cerebridge.models.loading.Loading`) and, where the network has nothing else of that name, ``.layers``
        (layers worth extracting). Networks of transformers also know their ``.folder``, where the tokenizer lies.

    Raises
    ------
    FileNotFoundError
        If there are no such weights.
    ValueError
        If the name is unknown, the file is damaged, or its tensors do not match the network's.
    ImportError
        If the source is not installed.

    Examples
    --------
    >>> from cerebridge import models
    >>> net = models.load("tiny", weights="random", seed=1)
    >>> print(net.loading)
    0 of 20 tensors matched
    >>> net.loading.deterministic
    True
    """
    source, _, rest = name.partition("/")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in NETWORKS:
            sourced = _load_own(name, weights, allow_partial, options)
        elif rest and source in SOURCES:
            sourced = SOURCES[source](rest, weights, allow_partial, options)
        else:
            raise ValueError(
                f"there is no network {name!r}; {nearest(name, NETWORKS)}, and those of "
                f"{', '.join(f'{each}/' for each in SOURCES)}."
            )
        net = sourced.net
        loading = prove(net, sourced.loading, sourced.inputs, sourced.packages)
    if name not in NETWORKS:
        # of a local folder its name alone, so that the record is the same wherever it lies
        known_as = f"{source}/{Path(rest).name}" if Path(rest).expanduser().is_dir() else name
        loading = replace(loading, source=f"{known_as}: {loading.source}")
    layers = NETWORKS[name].layers if name in NETWORKS else _repeated_blocks(net)
    for key, fact in (("preprocess", sourced.preprocess), ("loading", loading), ("layers", layers)):
        if fact is not None and not hasattr(net, key):
            setattr(net, key, fact)
    return net


def list_networks(pattern: str = "*") -> list[str]:
    """List the names that :func:`load` knows: the package's own, and those of the sources that are installed.

    Parameters
    ----------
    pattern
        Such as ``"timm/vit_*"`` or ``"*resnet18*"``. Of transformers, what lies in the hub's cache is listed.

    Examples
    --------
    >>> from cerebridge import models
    >>> models.list_networks("cifar*")
    ['cifar_resnet20', 'cifar_resnet56']
    """
    names = list(NETWORKS)
    if find_spec("torchvision") is not None:
        names += [f"torchvision/{name}" for name in import_package("torchvision").models.list_models()]
    if find_spec("timm") is not None:
        names += [f"timm/{name}" for name in import_package("timm").list_models()]
    if find_spec("huggingface_hub") is not None:
        names += [f"transformers/{name}" for name in _cached_repositories()]
    return [name for name in names if fnmatch(name, pattern)]


def _load_own(name: str, weights: Weights, allow_partial: bool, options: Mapping[str, Any]) -> Sourced:
    if weights in (None, "pretrained"):
        raise ValueError(f"the network {name!r} comes without weights; give weights=, a file or 'random'.")
    spec = NETWORKS[name]
    net = build(spec.build, name, options)
    loading = fill_from(net, weights, allow_partial)
    return Sourced(net.eval(), loading, spec.preprocess, fixed_image(spec.preprocess.size))


def _repeated_blocks(net: nn.Module) -> tuple[str, ...]:
    """Numbered modules with parts of their own: the row that lies nearest to the surface, then the longest."""
    rows: dict[str, list[str]] = {}
    for name, module in net.named_modules():
        parent, _, last = name.rpartition(".")
        if last[-1:].isdigit() and any(module.children()):
            rows.setdefault(parent, []).append(name)
    repeated = {parent: names for parent, names in rows.items() if len(names) > 1}
    parent = min(
        repeated, key=lambda each: (len(each.split(".")) * bool(each), -len(repeated[each])), default=""
    )
    return tuple(repeated.get(parent, ()))


def _cached_repositories() -> list[str]:
    hub = import_package("huggingface_hub")
    try:
        found = hub.scan_cache_dir().repos
    except hub.CacheNotFound:
        return []
    return sorted(repository.repo_id for repository in found if repository.repo_type == "model")
