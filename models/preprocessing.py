"""From a decoded stimulus to what a network takes, written down as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Resample = Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]


@dataclass(frozen=True)
class Preprocessing:
    """Resize an image, cut out its centre and normalise its channels: ``(x / 255 - mean) / std``.

    Parameters
    ----------
    size
        Height and width of the result in pixels.
    mean, std
        Of red, green and blue, on the scale from 0 to 1.
    resample
        How PIL interpolates.
    resize
        Pixels to which the image is resized before its centre is cut out; default ``size``, so that nothing is cut
        off from a square.
    keep_aspect
        Resize the shorter side and keep the aspect ratio; otherwise (default) the image becomes a square.
    crop
        Where the centre starts if the margin is odd: ``"round"`` (half to even) as in torchvision and timm, or
        ``"floor"`` as in transformers.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models import Preprocessing
    >>> image = np.full((50, 40, 3), 255, np.uint8)
    >>> Preprocessing(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))(image)[0, 0, 0]
    tensor(1.)
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: Resample = "bicubic"
    resize: int | None = None
    keep_aspect: bool = False
    crop: Literal["round", "floor"] = "round"

    def __post_init__(self) -> None:
        if self.resize is not None and self.resize < self.size:
            raise ValueError(
                f"the image is resized to {self.resize} pixels, too few to cut out {self.size}; raise resize."
            )

    def __call__(self, stimulus: NDArray[Any] | Image.Image) -> Tensor:
        """Turn one image into a float32 tensor (3 × size × size).

        Parameters
        ----------
        stimulus
            A PIL image, or its pixels (height × width × 3, uint8).

        Raises
        ------
        ValueError
            If it is an array but no such image.
        """
        pixels = self._cut(resize(stimulus, self.resize or self.size, self.resample, self.keep_aspect))
        channels = (
            torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        )
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return channels.mul_((1 / (255 * std))[:, None, None]).sub_((mean / std)[:, None, None])

    def _cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The centre, of pixels that are at least as large."""
        margins = [length - self.size for length in pixels.shape[:2]]
        top, left = (margin // 2 if self.crop == "floor" else round(margin / 2) for margin in margins)
        return pixels[top : top + self.size, left : left + self.size]


@dataclass(frozen=True)
class UnknownPreprocessing:
    """Stands where a network's own preprocessing could not be written down, and says so when it is needed.

    Examples
    --------
    >>> from cerebridge.models.preprocessing import UnknownPreprocessing
    >>> UnknownPreprocessing("it pads images")(None)
    Traceback (most recent call last):
    ...
    ValueError: the network's preprocessing is not known (it pads images); give preprocess=.
    """

    reason: str

    def __call__(self, stimulus: Any) -> Tensor:
        """Refuse.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(f"the network's preprocessing is not known ({self.reason}); give preprocess=.")


#: what most networks trained on ImageNet take; used where a network brings no preprocessing of its own
IMAGENET = Preprocessing(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resample="bilinear")


def resize(
    stimulus: NDArray[Any] | Image.Image,
    size: int,
    resample: Resample = "bicubic",
    keep_aspect: bool = False,
) -> NDArray[np.uint8]:
    """Resize one image to ``size × size × 3`` uint8, or its shorter side to ``size``, by PIL.

    Raises
    ------
    ValueError
        If the stimulus is an array that is no RGB image.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.preprocessing import resize
    >>> image = np.zeros((50, 40, 3), np.uint8)
    >>> resize(image, 32).shape, resize(image, 32, keep_aspect=True).shape
    ((32, 32, 3), (40, 32, 3))
    """
    if not isinstance(stimulus, Image.Image):
        if stimulus.dtype != np.uint8 or stimulus.ndim != 3 or stimulus.shape[2] != 3:
            raise ValueError(
                f"the stimulus is an array of {stimulus.dtype} with the shape {stimulus.shape}, no image; "
                "give uint8 height × width × 3, or a preprocess= that takes it."
            )
        stimulus = Image.fromarray(stimulus)
    width, height = size, size
    if keep_aspect:
        shorter = min(stimulus.size)
        width, height = (int(size * length / shorter) for length in stimulus.size)
    image = stimulus.convert("RGB").resize((width, height), Image.Resampling[resample.upper()])
    return np.array(image)
