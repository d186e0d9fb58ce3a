"""The modules of the readout family: standardised maps, an optional core, and a head for all units."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..containers import Labels
from ..engine import fields
from ..engine.moments import Split
from .base import Readout, Standardise
from .prf import SIZES, search_start

#: most values that sampled features may hold where no gradient is wanted
SAMPLED = 2**26


class Reading(nn.Module):
    """Maps, standardised channel by channel, through a core if there is one, to a head.

    Parameters
    ----------
    channels
        Of the maps.
    head
        ``head(maps, **described)``, responses ``(samples, units)``.
    core
        Features from maps; default: the maps.
    """

    def __init__(self, channels: int, head: Head, core: nn.Module | None = None) -> None:
        super().__init__()
        self.standardise = Standardise("maps", channels)
        self.core = nn.Identity() if core is None else core
        self.head: Head = head

    def forward(self, maps: Tensor, **described: Tensor) -> Tensor:
        """Responses ``(samples, units)``."""
        responses: Tensor = self.head(self.core(self.standardise(maps)), **described)
        return responses

    def penalty(self) -> Tensor:
        """What the head adds to the loss."""
        return self.head.penalty()


class Head(nn.Module):
    """What units read from maps ``(samples, channels, rows, columns)``: ``features`` at some places."""

    features: nn.Parameter
    #: sizes of the pools among which a start is searched
    sizes: tuple[float, ...] = SIZES

    @abstractmethod
    def penalty(self) -> Tensor:
        """Added to the loss."""

    @abstractmethod
    def start(self, found: fields.Fields, centres: Tensor, pools: Tensor) -> None:
        """Begin at the best cell of a grid."""


class GaussianHead(Head):
    """Every unit reads one point of the map, which in training is drawn from a Gaussian.

    It starts from ridge on points, which is what it predicts with.

    Parameters
    ----------
    channels, units
        Sizes.
    spread
        Standard deviation of the Gaussian at the start, in half lengths of the map.
    l1
        Penalty of the mean over units of the sum of absolute feature weights.
    """

    sizes = (0.01,)

    def __init__(self, channels: int, units: int, spread: float, l1: float) -> None:
        super().__init__()
        self.l1 = l1
        self.position = nn.Parameter(torch.empty(units, 2).uniform_(-0.1, 0.1))
        self.root = nn.Parameter(spread * torch.eye(2).repeat(units, 1, 1))
        self.features = nn.Parameter(torch.randn(units, channels) / channels)
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, maps: Tensor, moves: Tensor | None = None, gains: Tensor | None = None) -> Tensor:
        """Responses to maps, with fields moved by ``moves`` (samples × 2 × 3) and channels scaled by ``gains``."""
        maps = maps if gains is None else maps * gains[:, :, None, None]
        position = self.position.clamp(-1, 1).expand(len(maps), -1, -1)
        if self.training:
            noise = torch.randn(position.shape, device=maps.device, dtype=maps.dtype)
            position = position + torch.einsum("nud,ued->nue", noise, self.root.tril())
        if moves is not None:
            position = position @ moves[:, :, :2].mT + moves[:, None, :, 2]
        step = len(position[0])
        if not torch.is_grad_enabled():
            step = max(1, SAMPLED // (len(maps) * maps.shape[1]))
        units = zip(position.split(step, 1), self.features.split(step), strict=True)
        return torch.cat([_read(maps, where, what) for where, what in units], 1) + self.bias

    def penalty(self) -> Tensor:
        """L1 of the feature weights."""
        return self.l1 * self.features.abs().sum(1).mean()

    @torch.no_grad()
    def start(self, found: fields.Fields, centres: Tensor, pools: Tensor) -> None:
        """Begin at the best cell of a grid."""
        self.position.copy_(centres[found.cell])
        self.features.copy_(found.coef)
        self.bias.copy_(found.intercept)


class FactorisedHead(Head):
    """Every unit has a mask over places and weights of features; its response is the sum of their product.

    Parameters
    ----------
    channels, rows, columns, units
        Sizes.
    l1
        Penalty of the mean over units of the sum of absolute feature weights; masks have norm 1.
    smoothness
        Penalty of the mean over units of the sum of squared differences of neighbouring places of the mask.
    """

    def __init__(
        self, channels: int, rows: int, columns: int, units: int, l1: float, smoothness: float
    ) -> None:
        super().__init__()
        self.l1 = l1
        self.smoothness = smoothness
        self.raw = nn.Parameter(1 + 0.1 * torch.randn(units, rows, columns))
        self.features = nn.Parameter(torch.randn(units, channels) / channels)
        self.bias = nn.Parameter(torch.zeros(units))

    @property
    def mask(self) -> Tensor:
        """``(units, rows, columns)``, each of norm 1: what a mask grows by, weights could shrink by."""
        return self.raw / self.raw.flatten(1).norm(dim=1)[:, None, None].clamp_min(1e-12)

    def forward(self, maps: Tensor, moves: Tensor | None = None, gains: Tensor | None = None) -> Tensor:
        """Responses to maps, with masks moved by ``moves`` (samples × 2 × 3) and channels scaled by ``gains``."""
        maps = maps if moves is None else warp(maps, moves)
        maps = maps if gains is None else maps * gains[:, :, None, None]
        mask = self.mask.flatten(1)
        pooled = torch.matmul(maps.flatten(2), mask.T)
        return torch.einsum("ncu,uc->nu", pooled, self.features) + self.bias

    def penalty(self) -> Tensor:
        """L1 of the feature weights and roughness of the masks."""
        mask = self.mask
        rough = mask.diff(dim=1).square().sum((1, 2)) + mask.diff(dim=2).square().sum((1, 2))
        return self.l1 * self.features.abs().sum(1).mean() + self.smoothness * rough.mean()

    @torch.no_grad()
    def start(self, found: fields.Fields, centres: Tensor, pools: Tensor) -> None:
        """Begin at the best cell of a grid."""
        mask = pools[found.cell]
        norm = mask.norm(dim=1)
        self.raw.copy_((mask / norm[:, None]).reshape(self.raw.shape))
        self.features.copy_(found.coef * norm[:, None])
        self.bias.copy_(found.intercept)


def make_head(name: str, shape: Sequence[int], units: int, options: Mapping[str, float]) -> Head:
    """A head by name for maps of a shape ``(channels, rows, columns)``.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name == "gaussian":
        return GaussianHead(shape[0], units, options["spread"], options["l1"])
    if name == "factorised":
        channels, rows, columns = shape
        return FactorisedHead(channels, rows, columns, units, options["l1"], options["smoothness"])
    raise ValueError(f"base={name!r} is unknown; use 'gaussian' or 'factorised'.")


class FieldReadout(Readout):
    """A trained readout whose module is a :class:`Reading`: started on a grid, receptive fields kept."""

    def _start(self, module: nn.Module, rows: Mapping[str, Tensor], splits: Sequence[Split]) -> None:
        assert isinstance(module, Reading)
        maps, responses = module.standardise(rows["maps"]), rows["responses"]
        found, centres, pools = search_start(maps, responses, splits, module.head.sizes)
        module.head.start(found, centres, pools)

    def _keep_fit(self, module: nn.Module, X: Any, y: Any, attributes: Mapping[str, Tensor]) -> None:
        assert isinstance(module, Reading)
        kept = {name: (values, ("target",)) for name, values in attributes.items()}
        found = receptive_fields(module.head)
        axes: Labels = {axis: (axis, np.array(["x", "y"])) for axis in ("axis", "other_axis")}
        self._keep(X, y, {**kept, **found}, axes if "position_" in found else {})


def warp(maps: Tensor, moves: Tensor) -> Tensor:
    """Maps whose place ``p`` holds what was at ``A p + t``, ``moves`` being ``(A | t)`` for every sample.

    Exact where nothing moves: what bilinear sampling rounds at the identity is taken off.
    """
    still = torch.eye(2, 3, device=maps.device, dtype=maps.dtype).expand_as(moves)
    return maps + (_sampled(maps, moves) - _sampled(maps, still))


def receptive_fields(head: Head) -> Mapping[str, tuple[Tensor, tuple[str, ...]]]:
    """What is read where: attributes of a fitted readout, by name, with their axes."""
    with torch.no_grad():
        kept: dict[str, tuple[Any, tuple[str, ...]]] = {"coef_": (head.features, ("target", "channel"))}
        if isinstance(head, GaussianHead):
            root = head.root.tril()
            kept["position_"] = (head.position.clamp(-1, 1), ("target", "axis"))
            kept["covariance_"] = (root @ root.mT, ("target", "axis", "other_axis"))
        else:
            assert isinstance(head, FactorisedHead)
            kept["mask_"] = (head.mask, ("target", "row", "column"))
        return {name: (values.detach().cpu(), axes) for name, (values, axes) in kept.items()}


def _read(maps: Tensor, position: Tensor, features: Tensor) -> Tensor:
    """Bilinear features at positions ``(samples, units, 2)``, weighted."""
    sampled = functional.grid_sample(
        maps, position[:, :, None].to(maps.dtype), padding_mode="border", align_corners=True
    )
    return torch.einsum("ncu,uc->nu", sampled[..., 0], features)


def _sampled(maps: Tensor, moves: Tensor) -> Tensor:
    places = functional.affine_grid(moves, list(maps.shape), align_corners=True)
    return functional.grid_sample(maps, places, padding_mode="border", align_corners=True)
