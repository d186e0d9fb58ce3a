"""Other packages' descriptions of what their networks take, as our :class:`Preprocessing`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, cast

from .preprocessing import Preprocessing, Resample, UnknownPreprocessing

Recipe = Preprocessing | UnknownPreprocessing
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}


def from_torchvision(transforms: Any) -> Recipe:
    """Read a preset of torchvision, the ``transforms()`` of its weights.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from cerebridge.models.recipes import from_torchvision
    >>> class ImageClassification:
    ...     crop_size, resize_size, mean, std = [224], [256], [0.5] * 3, [0.2] * 3
    ...     interpolation = SimpleNamespace(value="bilinear")
    >>> recipe = from_torchvision(ImageClassification())
    >>> recipe.resize, recipe.size, recipe.keep_aspect, recipe.resample
    (256, 224, True, 'bilinear')
    """
    kind = type(transforms).__name__
    if kind != "ImageClassification":
        return UnknownPreprocessing(f"torchvision's {kind} is more than resizing and cutting")
    sizes = (transforms.crop_size, transforms.resize_size)
    if any(len(size) != 1 for size in sizes):
        return UnknownPreprocessing(f"sizes {sizes} are not square")
    return _recipe(
        size=transforms.crop_size[0],
        resize=transforms.resize_size[0],
        keep_aspect=True,
        mean=transforms.mean,
        std=transforms.std,
        resample=transforms.interpolation.value,
    )


def from_timm(config: Mapping[str, Any]) -> Recipe:
    """Read what ``timm.data.resolve_model_data_config(net)`` gives.

    Examples
    --------
    >>> from cerebridge.models.recipes import from_timm
    >>> recipe = from_timm(
    ...     dict(input_size=(3, 224, 224), crop_pct=0.9, crop_mode="center", interpolation="bicubic",
    ...          mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    ... )
    >>> recipe.resize, recipe.size, recipe.keep_aspect
    (248, 224, True)
    """
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        return UnknownPreprocessing(f"the input is {channels} × {height} × {width}, no square colour image")
    if config["crop_mode"] == "border":
        return UnknownPreprocessing("it adds borders to images")
    return _recipe(
        size=height,
        resize=math.floor(height / (config["crop_pct"] or 1)),
        keep_aspect=config["crop_mode"] != "squash",
        mean=config["mean"],
        std=config["std"],
        resample=config["interpolation"],
    )


def from_transformers(config: Mapping[str, Any]) -> Recipe:
    """Read a ``preprocessor_config.json``, as transformers keeps it beside weights.

    Examples
    --------
    >>> from cerebridge.models.recipes import from_transformers
    >>> recipe = from_transformers(
    ...     {"do_resize": True, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True,
    ...      "crop_size": 224, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    ... )
    >>> recipe.size, recipe.keep_aspect, recipe.crop
    (224, True, 'floor')
    """
    size, crop = config.get("size"), config.get("crop_size")
    if not config.get("do_resize", True) or size is None:
        return UnknownPreprocessing("images are not resized")
    if config.get("do_pad") or "crop_pct" in config or config.get("rescale_offset"):
        return UnknownPreprocessing(
            f"{config.get('image_processor_type', 'it')} is more than resizing and cutting"
        )
    if abs(config.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6 or not config.get("do_rescale", True):
        return UnknownPreprocessing("values are not scaled to 0 … 1")
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else None
    resized = edge or _side(size)
    cut = _side(crop) if config.get("do_center_crop") else None
    if resized is None or (edge and cut is None) or (config.get("do_center_crop") and cut is None):
        return UnknownPreprocessing(f"sizes {size} and {crop} are not square")
    normalised = config.get("do_normalize", True)
    return _recipe(
        size=cut or resized,
        resize=resized,
        keep_aspect=edge is not None,
        mean=config["image_mean"] if normalised else (0, 0, 0),
        std=config["image_std"] if normalised else (1, 1, 1),
        resample=_RESAMPLE.get(config.get("resample", 2), "another"),
        crop="floor",
    )


def _side(size: Any) -> int | None:
    if isinstance(size, Mapping):
        return size.get("height") if size.get("height") == size.get("width") else None
    return int(size)


def _recipe(
    size: int,
    resize: int,
    keep_aspect: bool,
    mean: Any,
    std: Any,
    resample: str,
    crop: Literal["round", "floor"] = "round",
) -> Recipe:
    if resample not in _RESAMPLE.values():
        return UnknownPreprocessing(f"it interpolates in a way of its own, {resample!r}")
    if len(mean) != 3 or len(std) != 3:
        return UnknownPreprocessing(f"it normalises {len(mean)} channels")
    if resize < size:
        return UnknownPreprocessing(f"it cuts {size} pixels out of {resize}")
    return Preprocessing(
        size=size,
        mean=cast(tuple[float, float, float], tuple(float(value) for value in mean)),
        std=cast(tuple[float, float, float], tuple(float(value) for value in std)),
        resample=cast(Resample, resample),
        resize=None if resize == size else resize,
        keep_aspect=keep_aspect,
        crop=crop,
    )
