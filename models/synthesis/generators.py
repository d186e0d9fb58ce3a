"""Generators of images that denoise step by step: one of our own, and those of diffusers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..compat import mend_torchvision


@runtime_checkable
class Diffusion(Protocol):
    """What guidance needs of a generator: how noisy a step is, what the noise is, a step, and what it all shows.

    Attributes
    ----------
    shape
        Of one sample on its way, without the batch.

    Examples
    --------
    >>> from cerebridge.models.synthesis import Denoiser, Diffusion
    >>> isinstance(Denoiser(lambda noisy, time: noisy, (3, 8, 8)), Diffusion)
    True
    """

    shape: tuple[int, ...]

    def begin(self, steps: int, device: torch.device) -> Sequence[Any]:
        """Prepare for so many steps on a device; return their times, the noisiest first."""

    def signal(self, time: Any) -> float:
        """Share of the variance that is signal at a time (alpha-bar)."""

    def noise(self, noisy: Tensor, time: Any) -> Tensor:
        """Estimate the noise in a batch, differentiably."""

    def step(self, noise: Tensor, time: Any, noisy: Tensor, draws: list[torch.Generator]) -> Tensor:
        """Take a batch one step on; what is random of each sample comes from its own generator."""

    def decode(self, clean: Tensor) -> Tensor:
        """Turn samples into images from 0 to 1 (batch × 3 × height × width), differentiably."""


class Denoiser(nn.Module):
    """A generator from any estimate of noise, with the steps of denoising diffusion.

    Parameters
    ----------
    estimate
        ``estimate(noisy, time)``, the noise in a batch; ``time`` is one whole number for all of it. A
        ``torch.nn.Module``, or a function.
    shape
        Of one sample.
    betas
        Variance that is added at the first and the last of ``times``, and linearly in between (Ho et al., 2020).
    times
        How many steps the noise was added in.
    eta
        1 (default): the random steps of denoising diffusion; 0: steps without randomness (Song et al., 2021).
    bounds
        Of what it was trained on, to which 0 (black) and 1 (white) correspond; ``None`` gives samples as they are.

    References
    ----------
    Ho, Jain & Abbeel (2020). Denoising diffusion probabilistic models. NeurIPS.
    Song, Meng & Ermon (2021). Denoising diffusion implicit models. ICLR.

    Examples
    --------
    The noise of standard normal samples is known, which makes it a generator of such:

    >>> import torch
    >>> from cerebridge.models.synthesis import Denoiser, guide
    >>> normal = Denoiser(lambda noisy, time: (1 - normal.signal(time)) ** 0.5 * noisy, (5,), bounds=None)
    >>> guide(normal, lambda x: x[:, 0], n=3, strength=0.0, steps=10).images.shape
    (3, 5)
    """

    def __init__(
        self,
        estimate: Callable[[Tensor, int], Tensor],
        shape: Sequence[int],
        *,
        betas: tuple[float, float] = (1e-4, 0.02),
        times: int = 1000,
        eta: float = 1.0,
        bounds: tuple[float, float] | None = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        if not 0 < betas[0] <= betas[1] < 1:
            raise ValueError(f"betas={betas} must be two variances between 0 and 1, the smaller one first.")
        if eta < 0 or times < 1:
            raise ValueError(f"eta={eta} and times={times} must not be negative, and times not 0.")
        self.estimate = estimate
        self.shape: tuple[int, ...] = tuple(shape)
        self.eta, self.bounds = eta, bounds
        kept = 1 - torch.linspace(*betas, times, dtype=torch.float64)
        self.signals: list[float] = kept.cumprod(0).tolist()
        self._before: dict[int, int] = {}

    def begin(self, steps: int, device: torch.device) -> Sequence[int]:
        """Spread the steps evenly over all times."""
        if steps > len(self.signals):
            raise ValueError(
                f"steps={steps} are more than the {len(self.signals)} times that there are; take fewer."
            )
        times = torch.linspace(len(self.signals) - 1, 0, steps).round().int().tolist()
        self._before = dict(zip(times, [*times[1:], -1], strict=True))
        return times

    def signal(self, time: int) -> float:
        """Give alpha-bar; all is signal after the last step."""
        return self.signals[time] if time >= 0 else 1.0

    def noise(self, noisy: Tensor, time: int) -> Tensor:
        """Estimate the noise."""
        return self.estimate(noisy, time)

    def step(self, noise: Tensor, time: int, noisy: Tensor, draws: list[torch.Generator]) -> Tensor:
        """Go to the next time, with new noise by ``eta``."""
        now, then = self.signal(time), self.signal(self._before[time])
        spread = self.eta * math.sqrt((1 - then) / (1 - now) * max(1 - now / then, 0))
        clean = (noisy - math.sqrt(1 - now) * noise) / math.sqrt(now)
        onwards = math.sqrt(then) * clean + math.sqrt(max(1 - then - spread**2, 0)) * noise
        if not spread:
            return onwards
        fresh = torch.stack([torch.randn(self.shape, generator=draw) for draw in draws])
        return onwards + spread * fresh.to(onwards)

    def decode(self, clean: Tensor) -> Tensor:
        """Bring samples to the range of images."""
        if self.bounds is None:
            return clean
        return (clean - self.bounds[0]) / (self.bounds[1] - self.bounds[0])

    def loss(self, clean: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Give the mean squared error of the estimate, by which it is trained; ``estimate`` gets one time a sample.

        Parameters
        ----------
        clean
            Samples within ``bounds``.
        times
            One whole number a sample.
        noise
            As ``clean``, standard normal.
        """
        signals = torch.tensor(self.signals, dtype=clean.dtype, device=clean.device)[times]
        signals = signals.reshape(-1, *[1] * (clean.ndim - 1))
        noisy = signals.sqrt() * clean + (1 - signals).sqrt() * noise
        estimate: Any = self.estimate
        return (estimate(noisy, times) - noise).square().mean()


class DiffusersGenerator(nn.Module):
    """A pipeline of diffusers as a generator: its network, scheduler and, for latent diffusion, decoder.

    Latent diffusion models that take a text are given the empty one. Nothing is downloaded: load the pipeline
    yourself, by ``diffusers.DiffusionPipeline.from_pretrained(folder)``. :func:`guide` makes one of these of a
    pipeline by itself.

    Schedulers that scale noise otherwise than by alpha-bar (Euler, LMS, Heun) are refused; ``DDIMScheduler``,
    ``DDPMScheduler``, ``PNDMScheduler`` and ``DPMSolverMultistepScheduler`` go. Where ``DDIMScheduler`` clips samples,
    its noise is taken of the clipped ones (``use_clipped_model_output``), as otherwise guidance works in reverse.

    Parameters
    ----------
    pipeline
        Of diffusers, with ``unet`` and ``scheduler``, and possibly ``vae``, ``tokenizer`` and ``text_encoder``.

    Raises
    ------
    ImportError
        If diffusers is not installed.
    ValueError
        If the pipeline lacks a part, or its scheduler is of another kind.

    References
    ----------
    Rombach et al. (2022). High-resolution image synthesis with latent diffusion models. CVPR.

    Examples
    --------
    >>> from cerebridge.models.compat import mend_torchvision
    >>> library = mend_torchvision()
    >>> from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
    >>> from cerebridge.models.synthesis import DiffusersGenerator
    >>> sizes = {"sample_size": 8, "block_out_channels": (8, 8), "norm_num_groups": 2}
    >>> blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    >>> unet = UNet2DModel(layers_per_block=1, **sizes, **blocks)
    >>> DiffusersGenerator(DDIMPipeline(unet, DDIMScheduler())).shape
    (3, 8, 8)
    """

    def __init__(self, pipeline: Any) -> None:
        super().__init__()
        try:
            mend_torchvision()
            import diffusers  # noqa: F401
        except ImportError:
            raise ImportError("diffusers is not installed; pip install 'cerebridge[generate]'.") from None
        lacking = [part for part in ("unet", "scheduler") if getattr(pipeline, part, None) is None]
        if lacking:
            raise ValueError(
                f"the generator {type(pipeline).__name__} has no {lacking[0]}; give a pipeline of diffusers with unet "
                "and scheduler, or an object with the methods of synthesis.Diffusion."
            )
        self.unet = pipeline.unet
        self.vae = getattr(pipeline, "vae", None)
        self.scheduler = pipeline.scheduler
        if not hasattr(self.scheduler, "alphas_cumprod") or float(self.scheduler.init_noise_sigma) != 1:
            raise ValueError(
                f"the scheduler {type(self.scheduler).__name__} does not scale noise by alpha-bar; use DDIMScheduler, "
                "DDPMScheduler, PNDMScheduler or DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)."
            )
        config = self.unet.config
        size = config.sample_size
        rows, columns = (size, size) if isinstance(size, int) else size
        self.shape: tuple[int, ...] = (int(config.in_channels), int(rows), int(columns))
        self.prediction = self.scheduler.config.get("prediction_type", "epsilon")
        if self.prediction not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"the scheduler's prediction_type={self.prediction!r} is unknown.")
        self.register_buffer("condition", _empty_text(pipeline), persistent=False)
        self._takes = set(inspect.signature(self.scheduler.step).parameters)

    def begin(self, steps: int, device: torch.device) -> Sequence[Any]:
        """Set the scheduler's times."""
        self.scheduler.set_timesteps(steps, device=device)
        return list(self.scheduler.timesteps)

    def signal(self, time: Any) -> float:
        """Give alpha-bar."""
        return float(self.scheduler.alphas_cumprod[int(time)])

    def noise(self, noisy: Tensor, time: Any) -> Tensor:
        """Run the network and, where it estimates something else, turn that into noise."""
        condition: Any = self.condition
        context = {} if condition is None else {"encoder_hidden_states": condition.expand(len(noisy), -1, -1)}
        scaled = self.scheduler.scale_model_input(noisy, time)
        estimate: Tensor = self.unet(scaled, time, **context).sample
        # a network that also learned variances gives them after the means
        estimate = estimate[:, : noisy.shape[1]]
        signal = self.signal(time)
        if self.prediction == "v_prediction":
            return math.sqrt(signal) * estimate + math.sqrt(1 - signal) * noisy
        if self.prediction == "sample":
            return (noisy - math.sqrt(signal) * estimate) / math.sqrt(1 - signal)
        return estimate

    def step(self, noise: Tensor, time: Any, noisy: Tensor, draws: list[torch.Generator]) -> Tensor:
        """Let the scheduler step, from what its network would have estimated."""
        signal = self.signal(time)
        estimate = noise
        if self.prediction == "v_prediction":
            estimate = (noise - math.sqrt(1 - signal) * noisy) / math.sqrt(signal)
        elif self.prediction == "sample":
            estimate = (noisy - math.sqrt(1 - signal) * noise) / math.sqrt(signal)
        options: dict[str, Any] = {"generator": draws} if "generator" in self._takes else {}
        clips = self.scheduler.config.get("clip_sample") or self.scheduler.config.get("thresholding")
        if clips and "use_clipped_model_output" in self._takes:
            # else what the clipped picture lost of the guidance stays in the noise, where it counts against it
            options["use_clipped_model_output"] = True
        stepped: Tensor = self.scheduler.step(estimate, time, noisy, **options).prev_sample
        return stepped

    def decode(self, clean: Tensor) -> Tensor:
        """Decode latents, and bring images from -1 … 1 to 0 … 1."""
        if self.vae is not None:
            shift = getattr(self.vae.config, "shift_factor", None) or 0.0
            clean = self.vae.decode(clean / self.vae.config.scaling_factor + shift).sample
        return clean / 2 + 0.5


def as_generator(generator: Any) -> Diffusion:
    """Take a generator as it is, or a pipeline of diffusers as :class:`DiffusersGenerator`.

    Examples
    --------
    >>> from cerebridge.models.synthesis import Denoiser
    >>> from cerebridge.models.synthesis.generators import as_generator
    >>> normal = Denoiser(lambda noisy, time: noisy, (5,))
    >>> as_generator(normal) is normal
    True
    """
    return generator if isinstance(generator, Diffusion) else DiffusersGenerator(generator)


def _empty_text(pipeline: Any) -> Tensor | None:
    """What the text encoder makes of an empty prompt."""
    tokenizer, encoder = getattr(pipeline, "tokenizer", None), getattr(pipeline, "text_encoder", None)
    if tokenizer is None or encoder is None:
        return None
    tokens = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    device = next(encoder.parameters()).device
    with torch.no_grad():
        hidden: Tensor = encoder(tokens.input_ids.to(device))[0]
    return hidden.cpu()
