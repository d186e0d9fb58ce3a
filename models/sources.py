"""Networks of torchvision and timm by name, with weights from a file or the local cache of what was fetched before."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from torch import Tensor, nn

from .compat import mend_torchvision
from .loading import Loading, fill, find_weights, named_tensors, read_weights
from .names import nearest
from .preprocessing import Preprocessing, UnknownPreprocessing
from .recipes import Recipe, from_timm, from_torchvision
from .taps import Inputs
from .tflite import read_tflite

Weights = str | Path | None
#: frames of the fixed input of a video network
_FRAMES = 16


@dataclass(frozen=True)
class Sourced:
    """A network as a source gives it: filled, with its preprocessing and a fixed input that it takes."""

    net: nn.Module
    loading: Loading
    preprocess: Recipe | None
    inputs: Inputs | None
    packages: tuple[str, ...] = ()


def import_package(package: str) -> ModuleType:
    """Import a package of the extra ``zoo``.

    Raises
    ------
    ImportError
        If it is not installed, saying how to install it.

    Examples
    --------
    >>> from cerebridge.models.sources import import_package
    >>> import_package("safetensors").__name__
    'safetensors'
    """
    try:
        mend_torchvision()
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"networks of {package} need it ({error}); install it with: pip install 'cerebridge[zoo]'."
        ) from None


def build(make: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
    """Build a network and say in one sentence which option it does not take.

    Raises
    ------
    ValueError
        If the options are not the network's.

    Examples
    --------
    >>> from cerebridge.models.networks import TinyNet
    >>> from cerebridge.models.sources import build
    >>> build(TinyNet, "tiny", {"num_classes": 3}).readout[2].out_features
    3
    """
    try:
        return make(**options)
    except TypeError as error:
        given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise ValueError(
            f"the network {name!r} does not take {given or 'these options'} ({error}); leave out what it lacks."
        ) from None


def fixed_image(size: int, channels: int = 3) -> Tensor:
    """One seeded image of normal noise, the same everywhere.

    Examples
    --------
    >>> from cerebridge.models.sources import fixed_image
    >>> fixed_image(8).shape
    torch.Size([1, 3, 8, 8])
    """
    noise = np.random.default_rng(0).standard_normal((1, channels, size, size), dtype=np.float32)
    return torch.from_numpy(noise)


def fill_from(net: nn.Module, weights: str | Path, allow_partial: bool, convert: Any = None) -> Loading:
    """Fill a network from a file, or leave it random.

    Parameters
    ----------
    net
        The network.
    weights
        ``"random"``, a file, or a folder with exactly one file.
    allow_partial
        Accept what does not fit exactly.
    convert
        Brings checkpoints of other layouts into the network's own, where their tensors do not fit as they are.

    Examples
    --------
    >>> from cerebridge.models.networks import TinyNet
    >>> from cerebridge.models.sources import fill_from
    >>> fill_from(TinyNet(), "random", allow_partial=False).matched
    0
    """
    if weights == "random":
        return Loading("random", 0, len(named_tensors(net)))
    path = find_weights(Path(weights))
    state = read_tflite(path, net) if path.suffix == ".tflite" else read_weights(path)
    own = {name: tensor.shape for name, tensor in named_tensors(net).items()}
    if convert is not None and any(name not in state or state[name].shape != own[name] for name in own):
        state = convert(state, net)
    return fill(net, state, path.name, allow_partial)


def from_torchvision_zoo(name: str, weights: Weights, allow_partial: bool, options: Any) -> Sourced:
    """Build a network of ``torchvision.models``.

    Raises
    ------
    ValueError
        If the name, an option or the weights are wrong.
    FileNotFoundError
        If weights are neither here nor to be fetched.
    """
    models = import_package("torchvision").models
    if name not in models.list_models():
        raise ValueError(f"torchvision has no network {name!r}; {nearest(name, models.list_models())}.")
    published = models.get_model_weights(name)
    chosen = str(weights) in published.__members__
    known = published[str(weights)] if chosen else published.DEFAULT
    taken = inspect.signature(models.get_model_builder(name)).parameters
    spared = {"weights_backbone": None} if "weights_backbone" in taken else _lean(name, weights)
    net = build(lambda **named: models.get_model(name, weights=None, **named), name, {**spared, **options})
    if chosen or weights in (None, "pretrained"):
        weights = _fetched_by_torch(known.url, f"torchvision/{name}")
    loading = fill_from(net, weights, allow_partial)
    recipe = _at_size(from_torchvision(known.transforms()), options.get("image_size"))
    inputs = fixed_image(recipe.size) if isinstance(recipe, Preprocessing) else None
    if type(known.transforms()).__name__ == "VideoClassification":
        side = known.transforms().crop_size[-1]
        inputs = fixed_image(side)[:, :, None].expand(-1, -1, _FRAMES, -1, -1)
    return Sourced(net.eval(), loading, recipe, inputs, ("torchvision",))


def from_timm_zoo(name: str, weights: Weights, allow_partial: bool, options: Any) -> Sourced:
    """Build a network of timm.

    Raises
    ------
    ValueError
        If the name, an option or the weights are wrong.
    FileNotFoundError
        If weights are neither here nor to be fetched.
    """
    timm = import_package("timm")
    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}; {nearest(name, timm.list_models())}.")
    net = build(lambda **named: timm.create_model(name, pretrained=False, **named), name, options)
    if weights in (None, "pretrained"):
        repository = net.pretrained_cfg.get("hf_hub_id")
        if not repository:
            raise FileNotFoundError(
                f"timm/{name} has no published weights; give a file, or weights='random'."
            )
        weights = fetch_file(repository, ("model.safetensors", "pytorch_model.bin"), f"timm/{name}")
    # timm keeps beside each network what turns older checkpoints into its own layout
    convert = getattr(importlib.import_module(type(net).__module__), "checkpoint_filter_fn", None)
    loading = fill_from(net, weights, allow_partial, convert)
    recipe = _at_size(from_timm(timm.data.resolve_model_data_config(net)), options.get("img_size"))
    inputs = fixed_image(recipe.size) if isinstance(recipe, Preprocessing) else None
    return Sourced(net.eval(), loading, recipe, inputs, ("timm",))


def fetch_file(repository: str, names: tuple[str, ...], wanted: str) -> Path:
    """Return the first of these files of a repository of the hub: from its local cache, else fetched.

    Raises
    ------
    FileNotFoundError
        If none is cached and the hub cannot be reached, or has none.
    """
    hub = import_package("huggingface_hub")
    reason = ""
    for local in (True, False):
        for name in names:
            try:
                return Path(hub.hf_hub_download(repository, name, local_files_only=local))
            except Exception as error:  # the hub's many ways of not having or not reaching a file
                reason = type(error).__name__
                if not local and isinstance(error, hub.errors.LocalEntryNotFoundError):
                    break  # the hub was not reached, and will not be for the next name
    raise FileNotFoundError(_not_here(wanted, f"{names[0]} of {repository}", reason))


def _fetched_by_torch(url: str, wanted: str) -> Path:
    """The file in torch's cache, fetched if need be; its name ends with the beginning of its hash."""
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        beginning = Path(name).stem.rpartition("-")[2]
        try:
            torch.hub.download_url_to_file(url, str(path), beginning, progress=False)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(_not_here(wanted, f"{name} in {path.parent}", str(error))) from None
    return path


def _not_here(wanted: str, file: str, reason: str) -> str:
    return (
        f"the weights of {wanted} are not here ({file}) and cannot be fetched ({reason}); give a file as weights=, or "
        "weights='random'."
    )


def _at_size(recipe: Recipe, size: Any) -> Recipe:
    """The recipe of a network that was built for another size of images: as much is cut off in proportion."""
    if size is None or isinstance(recipe, UnknownPreprocessing):
        return recipe
    if not isinstance(size, int):
        return UnknownPreprocessing(f"images of {size} pixels are not square")
    return replace(recipe, size=size, resize=recipe.resize and int(size * recipe.resize / recipe.size))


def _lean(name: str, weights: Weights) -> dict[str, Any]:
    """Two networks whose published weights hold auxiliary heads and want inputs shifted, and that start slowly."""
    if name not in ("googlenet", "inception_v3"):
        return {}
    return {"aux_logits": True, "transform_input": weights != "random", "init_weights": weights == "random"}
