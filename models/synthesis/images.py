"""Images as tensors on their way to an objective, and what it scores them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...neuro.progress import track
from ..batches import cut_rows
from ..devices import resolve_device
from ..preprocessing import resize
from ..stimuli import StimulusSet
from ..taps import evaluating
from .objectives import Objective

Array = NDArray[Any]


def as_images(
    images: Any,
    size: int | None = None,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    name: str = "images",
) -> Tensor:
    """Bring images of any kind to a float32 tensor, channels first.

    Parameters
    ----------
    images
        A stimulus set, images (n × height × width × 3, or one of them; uint8 or within the bounds; torch: channels
        first), or n × values, which stay as they are.
    size
        Height and width that stimuli are resized to; ``None`` leaves them.
    bounds
        What values may be.
    name
        Of the argument, for messages.

    Raises
    ------
    ValueError
        If they are no images, of several sizes, not finite or out of bounds.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.synthesis.images import as_images
    >>> as_images(np.zeros((2, 8, 8, 3), np.uint8)).shape
    torch.Size([2, 3, 8, 8])
    """
    if isinstance(images, StimulusSet):
        shown = [stimulus if size is None else resize(stimulus, size) for stimulus in images]
        if len({each.shape for each in shown}) > 1:
            raise ValueError(f"{name}= has images of several sizes; give size=, to which they are resized.")
        images = np.stack(shown)
    tensor = images.detach().cpu() if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    if not isinstance(images, Tensor) and tensor.ndim in (3, 4):
        tensor = (tensor if tensor.ndim == 4 else tensor[None]).movedim(-1, 1)
    if tensor.ndim not in (2, 4) or (tensor.ndim == 4 and tensor.shape[1] != 3):
        raise ValueError(
            f"{name}= has the shape {tuple(tensor.shape)}; give images with three channels, or n × values."
        )
    tensor = tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor.float()
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name}= has NaN or infinite values; repair or leave them out.")
    if bounds is not None and (tensor.min() < bounds[0] or tensor.max() > bounds[1]):
        raise ValueError(
            f"{name}= has values from {tensor.min():.3g} to {tensor.max():.3g}, outside bounds={bounds}; scale it, or "
            "give its own bounds."
        )
    return tensor


def as_pictures(images: Tensor) -> Array:
    """Give images as numpy, channels last; other tensors as they are.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.synthesis.images import as_pictures
    >>> as_pictures(torch.zeros(2, 3, 8, 8)).shape
    (2, 8, 8, 3)
    """
    shown: Array = images.detach().cpu().numpy()
    return np.ascontiguousarray(shown.transpose(0, 2, 3, 1)) if shown.ndim == 4 else shown


def as_stimuli(images: Array, name: str, table: Mapping[str, Any]) -> StimulusSet:
    """Name images and make a stimulus set of them.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.synthesis.images import as_stimuli
    >>> as_stimuli(np.zeros((2, 8, 8, 3)), "made", {"score": [1.0, 2.0]}).table["stimulus_id"].tolist()
    ['made-0000', 'made-0001']
    """
    shown = np.round(images * 255).clip(0, 255).astype(np.uint8) if images.ndim == 4 else images
    return StimulusSet.from_arrays(shown, [f"{name}-{k:04d}" for k in range(len(shown))], table)


@contextmanager
def ready(objective: Objective, device: torch.device) -> Iterator[None]:
    """Put an objective that is a module on a device, in evaluation mode and with gradients, and leave it as it was.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.synthesis.images import ready
    >>> layer = torch.nn.Dropout()
    >>> with ready(layer, torch.device("cpu")):
    ...     layer.training
    False
    """
    if not isinstance(objective, nn.Module):
        yield
        return
    with evaluating(objective, device), torch.enable_grad():
        yield


def one_score_each(scores: Any, n: int) -> Tensor:
    """See that an objective gave one score for each of ``n`` images.

    Raises
    ------
    ValueError
        If it gave anything else.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.synthesis.images import one_score_each
    >>> one_score_each(torch.zeros(3, 1), 3).shape
    torch.Size([3])
    """
    if not isinstance(scores, Tensor):
        raise ValueError(
            f"the objective gives {type(scores).__name__}; give a tensor with one score an image."
        )
    if scores.numel() != n or scores.ndim > 2:
        raise ValueError(
            f"the objective gives the shape {tuple(scores.shape)} for {n} images; give one score an image."
        )
    return scores.reshape(n)


def score_images(
    objective: Objective,
    images: Any,
    *,
    size: int | None = None,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> Array:
    """Score images, some at a time.

    Parameters
    ----------
    objective
        As of :func:`maximise`.
    images, size, bounds
        As of :func:`as_images`; a stimulus set is decoded as it is needed.
    batch_size
        Images at a time.
    device, progress
        As everywhere.

    Returns
    -------
    numpy.ndarray
        One score an image.

    Raises
    ------
    ValueError
        If the images are wrong, or the objective does not give one finite score for each.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.synthesis.images import score_images
    >>> score_images(lambda images: images.mean((1, 2, 3)), np.full((2, 8, 8, 3), 255, np.uint8))
    array([1., 1.], dtype=float32)
    """
    where = resolve_device(device)
    given = images if isinstance(images, StimulusSet) else as_images(images, size, bounds)
    batches = cut_rows(range(len(given)), batch_size)
    parts: list[Array] = []
    with ready(objective, where), torch.no_grad():
        for rows in track(batches, "scoring", show=progress):
            shown: Any = given[rows.start : rows.stop]
            if isinstance(shown, StimulusSet):
                shown = as_images(shown, size, bounds)
            parts.append(one_score_each(objective(shown.to(where)), len(rows)).float().cpu().numpy())
    scores = np.concatenate(parts)
    if not np.isfinite(scores).all():
        raise ValueError(
            f"the objective gives NaN or infinite scores, first for image {int(np.argmin(np.isfinite(scores)))}; check "
            "the objective."
        )
    return scores
