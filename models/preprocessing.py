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
    """Resize an image and normalise its channels: ``(x / 255 - mean) / std``.

    Parameters
    ----------
    size
        Height and width in pixels; the aspect ratio is not kept.
    mean, std
        Of red, green and blue, on the scale from 0 to 1.
    resample
        How PIL interpolates.

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
        pixels = resize(stimulus, self.size, self.resample)
        channels = (
            torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        )
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return channels.mul_((1 / (255 * std))[:, None, None]).sub_((mean / std)[:, None, None])


#: what most networks trained on ImageNet take; used where a network brings no preprocessing of its own
IMAGENET = Preprocessing(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resample="bilinear")


def resize(
    stimulus: NDArray[Any] | Image.Image, size: int, resample: Resample = "bicubic"
) -> NDArray[np.uint8]:
    """Resize one image to ``size × size × 3`` uint8, by PIL.

    Raises
    ------
    ValueError
        If the stimulus is an array that is no RGB image.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.preprocessing import resize
    >>> resize(np.zeros((50, 40, 3), np.uint8), 32).shape
    (32, 32, 3)
    """
    if not isinstance(stimulus, Image.Image):
        if stimulus.dtype != np.uint8 or stimulus.ndim != 3 or stimulus.shape[2] != 3:
            raise ValueError(
                f"the stimulus is an array of {stimulus.dtype} with the shape {stimulus.shape}, no image; "
                "give uint8 height × width × 3, or a preprocess= that takes it."
            )
        stimulus = Image.fromarray(stimulus)
    image = stimulus.convert("RGB").resize((size, size), Image.Resampling[resample.upper()])
    return np.array(image)
