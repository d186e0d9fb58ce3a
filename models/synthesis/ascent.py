"""Images that an objective asks for, by ascent of its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...neuro.progress import track
from ..devices import resolve_device
from ..stimuli import StimulusSet
from .images import as_images, as_pictures, as_stimuli, one_score_each, ready
from .objectives import Objective

Array = NDArray[Any]

#: how much red, green and blue vary together in pictures: brightness, blue against yellow, red against green, as
#: unit vectors (rows) and amounts (Ruderman, Cronin & Chiao, 1998)
OPPONENTS = ((1, 1, 1, 1.0), (1, 1, -2, 0.25), (1, -1, 0, 0.1))
#: greys that are left above black and below white where images begin, so that they can still change
MARGIN = 1 / 512
#: share of the last step that goes on in the next one
MOMENTUM = 0.8
#: standard deviation of what begins as noise, of the range of an image
NOISE = 0.03


@dataclass(frozen=True)
class Synthesis:
    """Images that were made for an objective.

    Attributes
    ----------
    images
        ``n × height × width × 3`` float32 from 0 to 1, or ``n × values`` where no images were made.
    scores
        The objective of each at the end, and ``before``, of where it started.
    course
        The objective at every step (steps × n), of images as they were jittered.

    Examples
    --------
    >>> from cerebridge.models.synthesis import maximise
    >>> made = maximise(lambda images: images.mean((1, 2, 3)), size=8, steps=3, n=2)
    >>> made.course.shape, len(made.stimuli)
    ((3, 2), 2)
    """

    images: Array
    scores: Array
    before: Array
    course: Array

    @property
    def stimuli(self) -> StimulusSet:
        """The images as a stimulus set, whose table has the column ``score``."""
        return as_stimuli(self.images, "made", {"score": self.scores})


def maximise(
    objective: Objective,
    start: Any = None,
    *,
    n: int = 1,
    size: int = 224,
    steps: int = 256,
    learning_rate: float = 0.1,
    space: Literal["fourier", "pixels"] = "fourier",
    jitter: int = 0,
    total_variation: float = 0.0,
    centre_bias: bool = False,
    contrast: float | None = None,
    grey: bool = False,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    device: str | torch.device = "auto",
    random_state: int = 0,
    progress: bool | None = None,
) -> Synthesis:
    """Make images that an objective scores high, each by itself, several at once.

    Each step goes a set way along the gradient, with momentum; the way shrinks to nothing towards the end.

    Parameters
    ----------
    objective
        Images (n × 3 × height × width, from 0 to 1) to one score an image, differentiable in torch:
        :class:`LayerObjective`, :class:`ReadoutObjective` or any function. A ``torch.nn.Module`` runs in evaluation
        mode on ``device`` and is left as it was.
    start
        Where to begin: a stimulus set, images (n × height × width × 3, uint8 or from 0 to 1; torch: channels first),
        or n × values for an objective that takes vectors. Default: faint noise around grey.
    n, size
        How many images, and their height and width in pixels, without ``start``; the size also of a stimulus set.
    steps
        How many.
    learning_rate
        Root mean square of the first steps; 1 takes a grey pixel over about a quarter of the range.
    space
        ``"fourier"`` (default): steps are coloured as natural pictures are, 1/f over spatial frequencies and with red,
        green and blue together, which is ascent on decorrelated Fourier coefficients; ``"pixels"``: as the gradient.
    jitter
        Before every step images are shifted by up to so many pixels, around the border, and back after it.
    total_variation
        Weight of the penalty on differences between neighbouring pixels (mean absolute difference).
    centre_bias
        Start with smooth steps in the middle and go outwards and finer, so that one object appears rather than many.
    contrast
        Largest standard deviation of an image's values, such as 0.15; the budget under which images are compared.
    grey
        Images without colour.
    bounds
        Least and largest value; ``None`` without limits.
    device, progress
        As everywhere.
    random_state
        Seeds noise and jitter. Image k is the same however many are made with it.

    Returns
    -------
    Synthesis
        ``images``, ``scores``, ``before``, the ``course`` and, as a stimulus set, ``stimuli``.

    Raises
    ------
    ValueError
        If options or start are wrong, or the objective is not differentiable, not finite, flat, or not one score an
        image.

    References
    ----------
    Erhan et al. (2009). Visualizing higher-layer features of a deep network. Université de Montréal, TR 1341.
    Olah, Mordvintsev & Schubert (2017). Feature visualization. Distill.
    Nguyen, Yosinski & Clune (2016). Multifaceted feature visualization. ICML workshop on visualization
    (centre bias).

    Examples
    --------
    >>> from cerebridge.models.synthesis import maximise
    >>> made = maximise(lambda images: images[:, 0].mean((1, 2)), size=16, steps=20, learning_rate=0.5)
    >>> made.images.shape, bool(made.scores[0] > made.before[0])
    ((1, 16, 16, 3), True)
    """
    _require(steps=steps, n=n, size=size, learning_rate=learning_rate)
    if space not in ("fourier", "pixels"):
        raise ValueError(f"space={space!r} is unknown; use 'fourier' or 'pixels'.")
    if contrast is not None and not contrast > 0:
        raise ValueError(f"contrast={contrast} must be positive, or None for no limit.")
    where = resolve_device(device)
    begun = _begin(start, n, size, bounds, random_state)
    flat = begun.ndim == 2
    if flat and (jitter or total_variation or centre_bias or grey):
        raise ValueError(
            "jitter, total_variation, centre_bias and grey are for images, but start= has n × values."
        )
    if grey:
        begun = _grey(begun)
    squash, unsquash = _limits(bounds)
    state = unsquash(begun).to(where)
    follow = _Ascent(
        objective=objective,
        show=lambda z: _limit_contrast(squash(z), contrast),
        step=_as_it_is if flat or space == "pixels" else _coloured,
        total_variation=total_variation,
        centre_bias=centre_bias,
        grey=grey,
    )
    rng = np.random.default_rng(random_state)
    shifts = [tuple(rng.integers(-jitter, jitter + 1, 2).tolist()) for _ in range(steps)]
    # steps over images, not over weights: nothing is trained, so that the trainer has no part in it
    with ready(objective, where):
        before = follow.score(state)
        course, speed = [], torch.zeros_like(state)
        for k in track(range(steps), "ascending", show=progress):
            scores, step = follow.gradient(state, shifts[k], k / steps, first=k == 0)
            speed = MOMENTUM * speed + (1 - MOMENTUM) * step
            state = state + learning_rate * (1 + math.cos(math.pi * k / steps)) / 2 * speed
            course.append(scores)
        after = follow.score(state)
        images = as_pictures(follow.show(state))
    return Synthesis(images, after, before, np.stack(course))


@dataclass(frozen=True)
class _Ascent:
    """One objective and how steps towards it are shaped."""

    objective: Objective
    show: Callable[[Tensor], Tensor]
    step: Callable[[Tensor], Tensor]
    total_variation: float
    centre_bias: bool
    grey: bool

    def score(self, state: Tensor) -> Array:
        with torch.no_grad():
            return one_score_each(self.objective(self.show(state)), len(state)).cpu().numpy()

    def gradient(
        self, state: Tensor, shift: tuple[int, ...], progress: float, first: bool
    ) -> tuple[Array, Tensor]:
        """Scores, and the next step's direction with a root mean square of 1."""
        state = state.detach().requires_grad_()
        shown = self.show(state)
        moved = torch.roll(shown, shift, (-2, -1)) if any(shift) else shown
        scores = one_score_each(self.objective(moved), len(state))
        if not scores.requires_grad:
            raise ValueError(
                "the objective is not differentiable: its scores do not depend on the images by operations of torch; "
                "leave out .detach(), .item(), numpy and torch.no_grad()."
            )
        total = scores.sum()
        if self.total_variation:
            total = total - self.total_variation * _variation(shown).sum()
        (gradient,) = torch.autograd.grad(total, state)
        if not (torch.isfinite(gradient).all() and torch.isfinite(scores).all()):
            raise ValueError(
                "the objective or its gradient is NaN or infinite for the images; check the objective."
            )
        if first and not gradient.any():
            raise ValueError(
                "the objective is flat where the images begin, so that no step makes it larger; begin elsewhere by "
                "start= or random_state=."
            )
        step = self.step(gradient)
        if self.grey:
            step = _grey(step)
        if self.centre_bias:
            step = _centred(step, progress)
        size = step.flatten(1).square().mean(1).sqrt().clamp_min(1e-30)
        return scores.detach().cpu().numpy(), step / size.reshape(-1, *[1] * (step.ndim - 1))


def _require(**values: float) -> None:
    for name, value in values.items():
        whole = name == "learning_rate" or isinstance(value, int | np.integer)
        if not whole or not value > 0 or not math.isfinite(value):
            kind = "number" if name == "learning_rate" else "whole number"
            raise ValueError(f"{name}={value!r} must be a positive {kind}.")


def _begin(start: Any, n: int, size: int, bounds: tuple[float, float] | None, random_state: int) -> Tensor:
    """First images, channels first, or vectors."""
    low, high = bounds or (0.0, 1.0)
    if not low < high:
        raise ValueError(f"bounds={bounds} are empty; give the least and the largest value.")
    if start is None:
        noise = [np.random.default_rng([random_state, k]).standard_normal((3, size, size)) for k in range(n)]
        return (low + high) / 2 + (high - low) * NOISE * torch.from_numpy(np.stack(noise)).float()
    return as_images(start, size, bounds, "start")


def _limits(
    bounds: tuple[float, float] | None,
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """What keeps values within bounds, and its inverse."""
    if bounds is None:
        return _as_it_is, _as_it_is
    low, width = bounds[0], bounds[1] - bounds[0]
    return (
        lambda z: low + width * torch.sigmoid(z),
        lambda images: torch.logit((images - low) / width, eps=MARGIN),
    )


def _as_it_is(values: Tensor) -> Tensor:
    return values


def _grey(images: Tensor) -> Tensor:
    return images.mean(1, keepdim=True).expand_as(images)


def _limit_contrast(images: Tensor, contrast: float | None) -> Tensor:
    if contrast is None:
        return images
    over = tuple(range(1, images.ndim))
    mean = images.mean(over, keepdim=True)
    spread = (images - mean).square().mean(over, keepdim=True).add(1e-12).sqrt()
    return mean + (images - mean) * (contrast / spread).clamp_max(1)


def _coloured(gradient: Tensor) -> Tensor:
    """A gradient with the spectrum and the colours that natural pictures have."""
    rows, columns = gradient.shape[-2:]
    down = torch.fft.fftfreq(rows, device=gradient.device)[:, None]
    across = torch.fft.rfftfreq(columns, device=gradient.device)
    frequency = (down.square() + across.square()).sqrt().clamp_min(1 / max(rows, columns))
    smooth = torch.fft.irfft2(torch.fft.rfft2(gradient) / frequency, (rows, columns))
    opponents = gradient.new_tensor(OPPONENTS)
    axes = torch.nn.functional.normalize(opponents[:, :3], dim=1)
    return torch.einsum("oc,o,od,ndhw->nchw", axes, opponents[:, 3], axes, smooth)


def _variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, one value an image."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().flatten(1).mean(1)
    return down + (images[..., 1:] - images[..., :-1]).abs().flatten(1).mean(1)


def _centred(step: Tensor, progress: float) -> Tensor:
    """A step that is smooth and in the middle at first, fine and everywhere from two thirds on."""
    outwards = min(1.0, 1.5 * progress)
    rows, columns = step.shape[-2:]
    if (coarse := round(8 * (1 - outwards))) > 1:
        small = torch.nn.functional.adaptive_avg_pool2d(
            step, (max(1, rows // coarse), max(1, columns // coarse))
        )
        step = torch.nn.functional.interpolate(small, (rows, columns), mode="bilinear")
    y = torch.linspace(-1, 1, rows, device=step.device)[:, None]
    x = torch.linspace(-1, 1, columns, device=step.device)
    # the width grows from a fifth of the way to the border to many times that way
    width = 0.2 / max(1 - outwards, 1e-3)
    return step * torch.exp(-(x.square() + y.square()) / (2 * width**2))
