"""Sparse dictionaries as torch modules: codes of few features, unit-norm directions, the losses of the field."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..training import Batch
from .codes import Jump, Step, decode_largest, encode_largest, largest

Activation = Literal["topk", "gradient", "relu", "jumprelu"]
Mixture = Literal["product", "sum"]

#: norm of a resampled encoder direction, as a share of the mean over the features that are alive
REVIVED_NORM = 0.2


class Dictionary(nn.Module, ABC):
    """Features with an encoder direction, a decoder direction of unit norm, and a bias that both ends share.

    A subclass says which features are on (:meth:`activate`) and what training minimises (:meth:`objective`).
    Parameters
    ----------
    decoder
        Features × inputs; its rows are brought to unit norm, and the encoder begins as a copy of them.
    bias
        Subtracted from inputs, added to reconstructions.
    scale
        What inputs are divided by in training. With the root of the mean squared norm of centred inputs, squared errors
        are shares of variance, and penalties carry over from one layer to another.
    """

    scale: Tensor
    silent: Tensor
    step: Tensor

    def __init__(self, decoder: Tensor, bias: Tensor, scale: float = 1.0) -> None:
        super().__init__()
        directions = functional.normalize(decoder, dim=1)
        self.encoder = nn.Parameter(directions.clone())
        self.encoder_bias = nn.Parameter(directions.new_zeros(len(directions)))
        self.decoder = nn.Parameter(directions.clone())
        self.bias = nn.Parameter(bias / scale)
        self.register_buffer("scale", torch.as_tensor(scale, dtype=bias.dtype))
        # samples since a feature was last on
        self.register_buffer("silent", torch.zeros(len(directions), dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.decoder.register_hook(self._along_the_sphere)

    def _along_the_sphere(self, gradient: Tensor) -> Tensor:
        """The part of the decoder's gradient that does not merely change the norm of its rows."""
        directions = self.decoder.detach()
        return torch.addcmul(gradient, (gradient * directions).sum(1, keepdim=True), directions, value=-1)

    def preactivations(self, x: Tensor) -> Tensor:
        """Samples × features, before anything is switched off."""
        return functional.linear(x - self.bias, self.encoder, self.encoder_bias)

    @abstractmethod
    def activate(self, z: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Codes of pre-activations."""

    def encode(self, x: Tensor, gradients: Tensor | None = None) -> Tensor:
        """Samples × features, mostly zeros."""
        return self.activate(self.preactivations(x), gradients)

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstructions of codes."""
        return torch.addmm(self.bias, codes, self.decoder)

    @abstractmethod
    def objective(self, x: Tensor, gradients: Tensor | None) -> tuple[Tensor, Tensor]:
        """What training minimises, and which features were on."""

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """The objective on a batch, for the trainer."""
        x = batch["x"].to(self.bias.dtype) / self.scale
        total, fired = self.objective(x, batch.get("gradients"))
        if self.training:
            self.step += 1
            self.silent += len(batch["x"])
            self.silent[fired] = 0
        return total

    def make_optimizer(
        self, learning_rate: float, betas: tuple[float, float]
    ) -> Callable[[nn.Module], torch.optim.Optimizer]:
        """Adam that leaves the decoder's directions at unit norm."""

        def make(module: nn.Module) -> torch.optim.Optimizer:
            first, second = map(float, betas)
            optimizer = torch.optim.Adam(module.parameters(), learning_rate, (first, second), fused=True)
            optimizer.register_step_post_hook(lambda *_: self.after_step(optimizer))
            return optimizer

        return make

    @torch.no_grad()
    def rescale(self) -> None:
        """Take inputs as they are from now on: the scale goes into the parameters that have it as their unit."""
        for parameter in (self.bias, self.encoder_bias):
            parameter.mul_(self.scale)
        self.scale.fill_(1)

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """What every step of the optimizer ends with."""
        self.decoder.div_(self.decoder.norm(dim=1, keepdim=True))


class TopK(Dictionary):
    """The ``k`` largest features of a sample are on; dead ones learn from what the others leave over.

    Parameters
    ----------
    decoder, bias, scale
        As of every :class:`Dictionary`.
    k
        Features that are on.
    auxiliary, n_auxiliary, dead_after
        Weight of the auxiliary loss, how many dead features reconstruct the error in it, and after how many samples
        without being on a feature counts as dead.
    by_gradient
        ``None``: features are chosen by size; ``"product"`` or ``"sum"``: by what they do to the loss.
    beta
        Weight of the gradient.

    References
    ----------
    Gao et al. (2024). Scaling and evaluating sparse autoencoders. arXiv:2406.04093.
    """

    def __init__(
        self,
        decoder: Tensor,
        bias: Tensor,
        scale: float = 1.0,
        *,
        k: int,
        auxiliary: float = 0.0,
        n_auxiliary: int = 0,
        dead_after: int = 1,
        by_gradient: Mixture | None = None,
        beta: float = 1.0,
    ) -> None:
        super().__init__(decoder, bias, scale)
        self.k, self.by_gradient, self.beta = k, by_gradient, beta
        self.auxiliary, self.n_auxiliary, self.dead_after = auxiliary, n_auxiliary, dead_after

    def activate(self, z: Tensor, gradients: Tensor | None = None) -> Tensor:
        """The chosen pre-activations where they are positive, zero elsewhere."""
        kept = largest(z, self.k, self._weights(gradients))
        return torch.zeros_like(z).scatter_(1, kept, z.gather(1, kept).relu())

    def _weights(self, gradients: Tensor | None) -> Tensor | None:
        """What the pre-activations are multiplied with before they are compared."""
        if self.by_gradient is None or gradients is None:
            return None
        effect = self.beta * (gradients.to(self.decoder.dtype) @ self.decoder.detach().T).abs()
        return effect + 1 if self.by_gradient == "sum" else effect

    def objective(self, x: Tensor, gradients: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared error, and that of dead features on the error."""
        centred = x - self.bias
        weights = self._weights(gradients)
        values, kept = encode_largest(centred, self.encoder, self.encoder_bias, self.k, weights)
        error = centred - decode_largest(values, kept, self.decoder)
        total = error.square().sum(1).mean()
        dead = (self.silent > self.dead_after).nonzero()[:, 0] if self.auxiliary else self.silent[:0]
        if len(dead):
            total = total + self.auxiliary * self._revive(centred, error.detach(), dead)
        return total, kept[values > 0]

    def _revive(self, centred: Tensor, error: Tensor, dead: Tensor) -> Tensor:
        """How badly the dead features alone reconstruct the error, as a share of it."""
        k = min(self.n_auxiliary, len(dead))
        values, kept = encode_largest(centred.detach(), self.encoder[dead], self.encoder_bias[dead], k)
        left = error - decode_largest(values, kept, self.decoder[dead])
        return left.square().sum() / error.square().sum().clamp_min(torch.finfo(error.dtype).tiny)


class ReLU(Dictionary):
    """Positive features are on, and cost their size; dead ones are given new directions now and then.

    Parameters
    ----------
    decoder, bias, scale
        As of every :class:`Dictionary`.
    sparsity
        Weight of the summed codes.
    warmup
        Steps over which that weight grows from zero.
    resample_every
        Steps between resamplings of the features that were silent since the last one; ``None`` never does.

    References
    ----------
    Bricken et al. (2023). Towards monosemanticity. Transformer Circuits Thread.
    """

    def __init__(
        self,
        decoder: Tensor,
        bias: Tensor,
        scale: float = 1.0,
        *,
        sparsity: float,
        warmup: int = 0,
        resample_every: int | None = None,
    ) -> None:
        super().__init__(decoder, bias, scale)
        self.sparsity, self.warmup, self.resample_every = sparsity, warmup, resample_every
        self._seen: tuple[Tensor, Tensor] | None = None

    def activate(self, z: Tensor, gradients: Tensor | None = None) -> Tensor:
        """The positive part."""
        return z.relu()

    def objective(self, x: Tensor, gradients: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared error and penalty."""
        codes = self.encode(x)
        errors = (self.decode(codes) - x).square().sum(1)
        self._seen = (x, errors.detach())
        weight = self.sparsity * warmed(self.step, self.warmup)
        return errors.mean() + weight * codes.sum(1).mean(), (codes > 0).any(0)

    @torch.no_grad()
    def after_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Unit norm again, and new directions for dead features when it is time."""
        super().after_step(optimizer)
        if self.resample_every is None or self._seen is None:
            return
        x, errors = self._seen
        self._seen = None
        if int(self.step) % self.resample_every == 0:
            # silent since about the last time
            dead = (self.silent >= (self.resample_every - 1) * len(x)).nonzero()[:, 0]
            resample(self, optimizer, dead, x, errors)


class JumpReLU(Dictionary):
    """Features above a threshold of their own are on, and each costs the same.

    Parameters
    ----------
    decoder, bias, scale
        As of every :class:`Dictionary`.
    threshold
        Which every feature begins with, in units of ``scale``.
    sparsity
        Weight of the number of features that are on.
    bandwidth
        Of the kernel by which thresholds learn (straight-through estimator).
    warmup
        Steps over which the penalty grows from zero.

    References
    ----------
    Rajamanoharan et al. (2024). Jumping ahead: improving reconstruction fidelity with JumpReLU sparse autoencoders.
    arXiv:2407.14435.
    """

    def __init__(
        self,
        decoder: Tensor,
        bias: Tensor,
        scale: float = 1.0,
        *,
        threshold: float,
        sparsity: float,
        bandwidth: float,
        warmup: int = 0,
    ) -> None:
        super().__init__(decoder, bias, scale)
        self.log_threshold = nn.Parameter(torch.full_like(self.encoder_bias, math.log(threshold)))
        self.sparsity, self.bandwidth, self.warmup = sparsity, bandwidth, warmup

    @torch.no_grad()
    def rescale(self) -> None:
        """Thresholds too."""
        self.log_threshold.add_(self.scale.log())
        super().rescale()

    def activate(self, z: Tensor, gradients: Tensor | None = None) -> Tensor:
        """The part above the thresholds."""
        return Jump.apply(z.relu(), self.log_threshold.exp(), self.bandwidth)  # type: ignore[no-any-return, no-untyped-call]

    def objective(self, x: Tensor, gradients: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared error and penalty."""
        z = self.preactivations(x).relu()
        threshold = self.log_threshold.exp()
        codes: Tensor = Jump.apply(z, threshold, self.bandwidth)  # type: ignore[no-untyped-call]
        on: Tensor = Step.apply(z, threshold, self.bandwidth)  # type: ignore[no-untyped-call]
        error = (self.decode(codes) - x).square().sum(1).mean()
        weight = self.sparsity * warmed(self.step, self.warmup)
        return error + weight * on.sum(1).mean(), on.detach().any(0)


def warmed(step: Tensor, warmup: int) -> Tensor | float:
    """Share of a penalty that counts at a step."""
    return 1.0 if warmup == 0 else (step / warmup).clamp(max=1.0)


@torch.no_grad()
def resample(
    module: Dictionary, optimizer: torch.optim.Optimizer, dead: Tensor, x: Tensor, errors: Tensor
) -> None:
    """Point dead features at samples that are badly reconstructed, drawn by their squared loss.

    Parameters
    ----------
    module
        Whose features they are.
    optimizer
        Whose memory of them is cleared.
    dead
        Numbers of features.
    x, errors
        Samples and their squared errors.
    """
    weights = errors.double().square()
    if not len(dead) or not float(weights.sum()) > 0:
        return
    drawn = torch.multinomial(weights, len(dead), replacement=True)
    directions = functional.normalize(x[drawn] - module.bias, dim=1)
    alive = torch.ones(len(module.encoder), dtype=torch.bool, device=x.device)
    alive[dead] = False
    norm = module.encoder[alive].norm(dim=1).mean() if bool(alive.any()) else directions.new_ones(())
    module.decoder[dead] = directions
    module.encoder[dead] = directions * norm * REVIVED_NORM
    module.encoder_bias[dead] = 0
    module.silent[dead] = 0
    for parameter in (module.decoder, module.encoder, module.encoder_bias):
        for moment in optimizer.state[parameter].values():
            if moment.shape == parameter.shape:
                moment[dead] = 0
