"""Pictures in any of their kinds as tensors, blurred, compared, and taken apart into oriented bands."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

#: of red, green and blue in the grey that pictures are compared by
GREY = (0.2125, 0.7154, 0.0721)


def transform_picture(image: Any, transform: Callable[[Tensor], Tensor]) -> Any:
    """Change a picture as a tensor (3 × rows × columns, 0 to 1), and give it back in its own kind.

    Parameters
    ----------
    image
        A PIL image, uint8 pixels (rows × columns × 3), or a tensor (3 × rows × columns), uint8 or floating-point from
        0 to 1.
    transform
        Keeps the shape.

    Raises
    ------
    ValueError
        If it is no picture.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features.pictures import transform_picture
    >>> transform_picture(np.full((1, 1, 3), 55, np.uint8), lambda picture: 1 - picture).tolist()
    [[[200, 200, 200]]]
    """
    if isinstance(image, Image.Image):
        return Image.fromarray(transform_picture(np.array(image.convert("RGB")), transform))
    if isinstance(image, Tensor):
        if (
            image.ndim != 3
            or image.shape[0] != 3
            or not (image.dtype == torch.uint8 or image.is_floating_point())
        ):
            raise _no_picture(image)
        if not torch.isfinite(image).all():
            raise ValueError("a picture has NaN or infinite values; repair or leave it out.")
        changed = transform(image.float() / 255 if image.dtype == torch.uint8 else image.float())
        if image.dtype == torch.uint8:
            return (changed * 255).round().clamp(0, 255).to(torch.uint8)
        return changed.to(image.dtype)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise _no_picture(image)
    picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return transform_picture(picture, transform).permute(1, 2, 0).contiguous().numpy()


def blur(picture: Tensor, width: float) -> Tensor:
    """Blur a picture by a Gaussian of this standard deviation in pixels; what lies outside has no weight.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features.pictures import blur
    >>> bool((blur(torch.ones(3, 8, 8), 3.0) - 1).abs().max() < 1e-6)
    True
    """
    if width <= 0:
        return picture
    down, across = (_gaussian(n, width, picture) for n in picture.shape[-2:])
    return down @ picture @ across.T


def ssim(first: Tensor, second: Tensor) -> float:
    """Structural similarity of two pictures (3 × rows × columns, 0 to 1) in grey (Wang et al. 2004).

    Gaussian windows of standard deviation 1.5 within the picture, covariances without correction.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features.pictures import ssim
    >>> ssim(torch.rand(3, 16, 16), torch.zeros(3, 16, 16)) < ssim(torch.ones(3, 16, 16), torch.ones(3, 16, 16))
    True
    """
    if min(first.shape[-2:]) < 11:
        raise ValueError(
            f"pictures of {tuple(first.shape[-2:])} pixels are too small to compare; give at least 11."
        )
    x, y = (
        torch.einsum("c,chw->hw", torch.tensor(GREY, device=p.device), p.float()).double()
        for p in (first, second)
    )
    at = torch.arange(-5, 6, device=x.device, dtype=x.dtype)
    window = torch.exp(-(at**2) / (2 * 1.5**2))
    window /= window.sum()
    stack = torch.stack([x, y, x * x, y * y, x * y])[:, None]
    local = functional.conv2d(
        functional.conv2d(stack, window[None, None, None]), window[None, None, :, None]
    )[:, 0]
    x, y, xx, yy, xy = local
    light = (2 * x * y + 0.01**2) / (x * x + y * y + 0.01**2)
    structure = (2 * (xy - x * y) + 0.03**2) / (xx - x * x + yy - y * y + 0.03**2)
    return float((light * structure).mean())


def split_bands(picture: Tensor, scales: int = 4, orientations: int = 4) -> Tensor:
    """Take a picture apart into bands of frequency and orientation that sum to it.

    A steerable decomposition without downsampling (after Simoncelli & Freeman 1995): smooth masks of the spectrum
    that sum to 1, over the mirrored picture, so that its edges do not meet.

    Parameters
    ----------
    picture
        Channels × rows × columns.
    scales
        Octaves from the highest frequencies down; what is lower is one band.
    orientations
        Of each octave.

    Returns
    -------
    torch.Tensor
        Bands × channels × rows × columns; the first is the lowest.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features.pictures import split_bands
    >>> picture = torch.rand(3, 20, 24)
    >>> bands = split_bands(picture)
    >>> bands.shape, bool((bands.sum(0) - picture).abs().max() < 1e-5)
    (torch.Size([17, 3, 20, 24]), True)
    """
    rows, columns = picture.shape[-2:]
    mirrored = torch.cat([picture, picture.flip(-1)], -1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2)
    spectrum = torch.fft.rfft2(mirrored)
    masks = _masks(2 * rows, 2 * columns, scales, orientations, picture.device)
    return torch.stack(
        [torch.fft.irfft2(spectrum * mask, mirrored.shape[-2:])[..., :rows, :columns] for mask in masks]
    )


def _masks(rows: int, columns: int, scales: int, orientations: int, device: torch.device) -> Tensor:
    down = torch.fft.fftfreq(rows, device=device)[:, None]
    right = torch.fft.rfftfreq(columns, device=device)[None]
    octave = torch.log2(torch.hypot(down, right).clamp(min=1e-6) / 0.5)
    # a cosine step of an octave between neighbours; the highest band keeps the corners of the spectrum
    steps = [(((octave + k).clamp(-1, 0) + 1) * math.pi / 2).sin() ** 2 for k in range(1, scales + 1)]
    passes = [
        1 - steps[-1],
        *(low - high for low, high in zip(steps[:0:-1], steps[-2::-1], strict=True)),
        steps[0],
    ]
    angle = torch.atan2(down, right)
    middles = torch.arange(orientations, device=device)[:, None, None] * math.pi / orientations
    sectors = (angle - middles).cos() ** (2 * max(orientations - 1, 1))
    sectors = sectors / sectors.sum(0)
    return torch.stack([passes[0], *(ring * sector for ring in passes[1:] for sector in sectors)])


def _gaussian(n: int, width: float, like: Tensor) -> Tensor:
    at = torch.arange(n, device=like.device, dtype=like.dtype)
    weights = torch.exp(-((at - at[:, None]) ** 2) / (2 * width**2))
    return weights / weights.sum(1, keepdim=True)


def _no_picture(image: Any) -> ValueError:
    shape = tuple(getattr(image, "shape", ()))
    found = f"{type(image).__name__} of {getattr(image, 'dtype', 'no numbers')} with the shape {shape}"
    return ValueError(
        f"a {found} is no picture; give a PIL image, uint8 rows × columns × 3, or a tensor 3 × rows × columns."
    )
