"""Pictures that drive a brain region, drawn from a generator of natural images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...neuro.progress import track
from ..batches import cut_rows
from ..devices import resolve_device
from ..stimuli import StimulusSet
from .generators import Diffusion, as_generator
from .images import as_pictures, as_stimuli, one_score_each, ready
from .objectives import Objective

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Images drawn from a generator, the one with the highest score first.

    Attributes
    ----------
    images
        ``n × height × width × 3`` float32 from 0 to 1, or ``n × values`` of a generator of vectors.
    scores
        The objective of each, such as the predicted response of a region.
    seeds
        Which of the ``n`` draws each was; the same draw begins with the same noise, whatever the strength.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.synthesis import Samples
    >>> samples = Samples(np.zeros((2, 8, 8, 3)), np.array([0.5, 0.1]), np.array([1, 0]))
    >>> samples.stimuli.table["stimulus_id"].tolist()
    ['drawn-0000', 'drawn-0001']
    """

    images: Array
    scores: Array
    seeds: NDArray[np.int64]

    @property
    def stimuli(self) -> StimulusSet:
        """The images as a stimulus set, whose table has the columns ``score`` and ``seed``."""
        return as_stimuli(self.images, "drawn", {"score": self.scores, "seed": self.seeds})


def guide(
    generator: Diffusion | Any,
    objective: Objective,
    *,
    n: int = 8,
    strength: float = 100.0,
    steps: int = 50,
    batch_size: int = 4,
    device: str | torch.device = "auto",
    random_state: int = 0,
    progress: bool | None = None,
) -> Samples:
    r"""Draw images from a diffusion model that an objective scores high, by guiding each step with its gradient.

    At each step the noise estimate :math:`\epsilon` becomes :math:`\epsilon - \sqrt{1-\bar\alpha}\,\gamma\,\nabla S`,
    with the score :math:`S` of what the sample will be, mixed with what it is:
    :math:`\sqrt{1-\bar\alpha}\,\hat x_0 + (1-\sqrt{1-\bar\alpha})\,x_t`, decoded to an image.

    Parameters
    ----------
    generator
        A pipeline of diffusers (see :class:`DiffusersGenerator`), a :class:`Denoiser`, or any object with the methods
        of :class:`Diffusion`.
    objective
        As of :func:`maximise`: for a region :class:`ReadoutObjective`, whose prediction it then raises.
    n
        How many samples.
    strength
        γ. 0 draws as the generator does by itself; the paper's latent diffusion took 130, its authors later 100.
    steps
        Of denoising.
    batch_size
        Samples at a time; it changes no sample.
    device, progress
        As everywhere.
    random_state
        Seeds the noise.

    Returns
    -------
    Samples
        Ranked by the objective.

    Raises
    ------
    ValueError
        If the generator gives wrong sizes, or the objective is not differentiable or not finite.

    Notes
    -----
    The self-attention guidance that the paper adds to the noise estimate is not part of this; a generator whose
    ``noise`` includes it can be given.

    References
    ----------
    Luo, Henderson, Wehbe & Tarr (2023). Brain diffusion for visual exploration: cortical discovery using large scale
    generative models. NeurIPS.
    Dhariwal & Nichol (2021). Diffusion models beat GANs on image synthesis. NeurIPS.

    Examples
    --------
    >>> from cerebridge.models.synthesis import Denoiser, guide
    >>> normal = Denoiser(lambda noisy, time: (1 - normal.signal(time)) ** 0.5 * noisy, (5,), bounds=None)
    >>> samples = guide(normal, lambda x: x[:, 0], n=20, strength=3.0, steps=20)
    >>> bool(samples.scores.mean() > 1.5), bool(samples.scores[0] >= samples.scores[1])
    (True, True)
    """
    for name, value in (("n", n), ("steps", steps), ("batch_size", batch_size)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name}={value!r} must be a positive whole number.")
    if not math.isfinite(strength):
        raise ValueError(f"strength={strength} must be a number; 0 draws without guidance.")
    where, source = resolve_device(device), as_generator(generator)
    parts, scores = [], []
    with _both_ready(source, objective, where):
        batches = cut_rows(range(n), batch_size)
        for rows in batches:
            draws = [_draw(random_state, k) for k in rows]
            shown = track(
                source.begin(steps, where), f"drawing {rows.stop} of {n}", total=steps, show=progress
            )
            noisy = torch.stack([torch.randn(source.shape, generator=draw) for draw in draws]).to(where)
            for time in shown:
                noise = _guided(source, objective, noisy, time, strength)
                with torch.no_grad():
                    noisy = source.step(noise, time, noisy, draws)
            with torch.no_grad():
                images = _decoded(source, noisy)
                images = images.clamp(0, 1) if images.ndim == 4 else images
                parts.append(images.float().cpu())
                scores.append(one_score_each(objective(images), len(rows)).float().cpu())
    every = torch.cat(scores).numpy()
    order = np.argsort(-every, kind="stable")
    return Samples(as_pictures(torch.cat(parts))[order], every[order], order)


def _draw(random_state: int, k: int) -> torch.Generator:
    """Each sample's own randomness, so that batches do not matter."""
    seed = int(np.random.SeedSequence([random_state, k]).generate_state(1)[0])
    return torch.Generator().manual_seed(seed)


@contextmanager
def _both_ready(source: Any, objective: Objective, device: torch.device) -> Iterator[None]:
    with ExitStack() as stack:
        for part in (source, objective):
            if isinstance(part, nn.Module):
                stack.enter_context(ready(part, device))
        yield


def _guided(source: Diffusion, objective: Objective, noisy: Tensor, time: Any, strength: float) -> Tensor:
    """The noise estimate, moved along the objective's gradient."""
    if strength == 0:
        with torch.no_grad():
            return _estimated(source, noisy, time)
    noisy = noisy.detach().requires_grad_()
    noise = _estimated(source, noisy, time)
    signal = source.signal(time)
    share = math.sqrt(1 - signal)
    clean = (noisy - share * noise) / math.sqrt(signal)
    images = _decoded(source, share * clean + (1 - share) * noisy)
    scores = one_score_each(objective(images), len(noisy))
    if not scores.requires_grad:
        raise ValueError(
            "the objective is not differentiable: its scores do not depend on the generator's images by operations of "
            "torch; leave out .detach(), .item(), numpy and torch.no_grad()."
        )
    (gradient,) = torch.autograd.grad(scores.sum(), noisy)
    if not torch.isfinite(gradient).all():
        raise ValueError(
            f"the gradient of the objective is NaN or infinite at time {int(time)}; check the objective, or lower "
            "strength=."
        )
    return (noise - share * strength * gradient).detach()


def _estimated(source: Diffusion, noisy: Tensor, time: Any) -> Tensor:
    noise = source.noise(noisy, time)
    if noise.shape != noisy.shape:
        raise ValueError(
            f"the generator estimates noise of the shape {tuple(noise.shape)} in samples of the shape "
            f"{tuple(noisy.shape)}; give one whose network keeps the size that its shape says."
        )
    return noise


def _decoded(source: Diffusion, clean: Tensor) -> Tensor:
    images = source.decode(clean)
    fits = images.ndim == 2 or (images.ndim == 4 and images.shape[1] == 3)
    if len(images) != len(clean) or not fits:
        raise ValueError(
            f"the generator decodes {len(clean)} samples to the shape {tuple(images.shape)}; it must give as many "
            "images × 3 × height × width."
        )
    return images
