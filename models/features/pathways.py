"""Trainable motion energy of V1, its pooling by MT, and the second-order path through rectified contrast."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..names import describe
from .motion import Bank

#: where each parameter may lie; inside, a sigmoid keeps it
RANGES = {
    "direction": (0.0, 2 * math.pi),  # radians
    "frequency": (0.0, 0.25),  # cycles a pixel of its scale
    "temporal_frequency": (0.0, 0.25),  # cycles a frame
    "decay": (0.5, 8.0),  # frames
    "width": (1.0, 5.0),  # pixels of its scale
}


class MotionPathway(Bank):
    """V1 of the two-path model of motion: damped quadrature pairs over scales, squared, pooled and normalised.

    Each unit multiplies a Gabor pair in space with the pair ``exp(-t / decay) (cos, sin)(2 π f t)`` in time. The sum
    of squares of the two combinations that move in its direction is its energy; energies are averaged over frames by
    learned weights and divided by their mean over all units of a place. Every parameter of a unit is trainable and
    kept in its range by a sigmoid, e.g. by ``models.training.train``.

    With a ``front`` the path is of second order: it sees what the front end makes of a film, such as
    :class:`LocalContrast`, whose drifting envelopes then move although their luminance does not.

    Source: a two-stage model of first- and second-order motion (Sun et al. 2025, *Nature Machine Intelligence*),
    after Adelson and Bergen (1985) and Heeger (1992).

    Parameters
    ----------
    size
        Side of the frames in pixels.
    scales
        How many.
    downscale
        How much smaller than the frames the last scale is.
    stride
        Pixels between places of the result.
    front
        What turns films (n × frames × size × size) into others before they are filtered: any function or module.
    pixels, taps, pool
        Side of the filters in space, their length in time, and frames over which energy is averaged.
    gain, semisaturation, floor
        Of the normalised energy ``gain (e + floor²) / (mean (e + floor²) + semisaturation²)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features import MotionPathway
    >>> path = MotionPathway(size=32, scales=2, downscale=2)
    >>> path.frames, path(torch.zeros(1, 12, 32, 32)).shape, len(path.units)
    (11, torch.Size([1, 2, 1024]), 1024)
    """

    def __init__(
        self,
        size: int = 128,
        *,
        scales: int = 8,
        downscale: float = 16.0,
        stride: int = 8,
        front: Callable[[Tensor], Tensor] | None = None,
        pixels: int = 15,
        taps: int = 6,
        pool: int = 6,
        gain: float = 4.0,
        semisaturation: float = 0.2,
        floor: float = 0.3,
    ) -> None:
        _require(size, scales, downscale, stride, pixels, taps, pool)
        super().__init__(size, taps + pool - 1, taps + pool - 2)
        self.stride, self.pixels, self.taps = stride, pixels, taps
        self.gain, self.semisaturation, self.floor, self.front = gain, semisaturation, floor, front
        self.factors = np.geomspace(1, downscale, scales).tolist() if scales > 1 else [float(downscale)]
        self.raw = nn.ParameterDict(
            {name: nn.Parameter(_unbounded(name, start)) for name, start in _design(scales).items()}
        )
        self.pooling = nn.Parameter(torch.zeros(pool))

    def extra_repr(self) -> str:
        """What sets it apart from other paths beside its parameters, for records."""
        factors = [round(factor, 3) for factor in self.factors]
        return (
            f"size={self.size}, factors={factors}, stride={self.stride}, front={describe(self.front)}, "
            f"pixels={self.pixels}, taps={self.taps}, pool={len(self.pooling)}, gain={self.gain:g}, "
            f"semisaturation={self.semisaturation:g}, floor={self.floor:g}"
        )

    @property
    def parameters_of_units(self) -> dict[str, Tensor]:
        """Each parameter in its range, scales × units of a scale."""
        return {name: low + (high - low) * self.raw[name].sigmoid() for name, (low, high) in RANGES.items()}

    def energies(self, film: Tensor) -> Tensor:
        """Energies of films before they are normalised: n × later frames × units of a place × rows × columns."""
        if self.front is not None:
            film = self.front(film)
        n, length = film.shape[:2]
        side = max(1, self.size // self.stride)
        tuned = self.parameters_of_units
        weights = self.pooling.softmax(0)
        found = []
        for scale, factor in enumerate(self.factors):
            own = {name: values[scale] for name, values in tuned.items()}
            pair = self._in_space(film.reshape(n * length, 1, *film.shape[2:]), factor, own)
            energy = self._in_time(pair.unflatten(0, (n, length)), own)
            energy = torch.einsum("ntuyxk,k->ntuyx", energy.unfold(1, len(weights), 1), weights)
            resized = functional.interpolate(
                energy.flatten(0, 1), (side, side), mode="bilinear", antialias=True, align_corners=False
            )
            found.append(resized.unflatten(0, energy.shape[:2]))
        return torch.cat(found, 2)

    def maps(self, film: Tensor) -> Tensor:
        """Normalised energies of films: n × later frames × units of a place × rows × columns."""
        energy = self.energies(film) + self.floor**2
        return self.gain * energy / (energy.mean(2, keepdim=True) + self.semisaturation**2)

    def forward(self, film: Tensor) -> Tensor:
        """Normalised energies of films (n × frames × size × size), n × later frames × units."""
        return self.maps(film).flatten(2)

    @property
    def tuning(self) -> pd.DataFrame:
        """What each unit of a place prefers, in pixels and frames of the film: direction, frequencies and speed."""
        tuned = {
            name: values.detach().cpu().double().numpy() for name, values in self.parameters_of_units.items()
        }
        factor = np.array(self.factors)[:, None]
        frequency, hertz = tuned["frequency"] / factor, tuned["temporal_frequency"]
        table = {
            "scale": np.broadcast_to(np.arange(len(self.factors))[:, None], frequency.shape),
            "direction": np.rad2deg(tuned["direction"]) % 360,
            "frequency": frequency,
            "temporal_frequency": hertz,
            "speed": hertz / np.maximum(frequency, 1e-9),
        }
        return pd.DataFrame({name: np.ascontiguousarray(values).ravel() for name, values in table.items()})

    @property
    def units(self) -> pd.DataFrame:
        """The neuroid table: the tuning of each unit, and its place."""
        return _placed(self.tuning, max(1, self.size // self.stride), "V1")

    def _in_space(self, frames: Tensor, factor: float, own: dict[str, Tensor]) -> Tensor:
        """Even and odd responses as complex numbers: frames × units × rows × columns."""
        side = max(1, round(frames.shape[-1] / factor))
        if side != frames.shape[-1]:
            frames = functional.interpolate(
                frames, (side, side), mode="bilinear", antialias=True, align_corners=False
            )
        half = self.pixels // 2
        at = torch.arange(-half, half + 1, device=frames.device, dtype=frames.dtype)
        x, up = at[None, None, :], -at[None, :, None]
        direction, frequency, width = (own[k][:, None, None] for k in ("direction", "frequency", "width"))
        envelope = torch.exp(-(x**2 + up**2) / (2 * width**2))
        envelope = envelope / envelope.sum((1, 2), keepdim=True)
        phase = 2 * math.pi * frequency * (x * direction.cos() + up * direction.sin())
        even, odd = phase.cos(), phase.sin()
        even = 2 * envelope * (even - (envelope * even).sum((1, 2), keepdim=True))
        odd = 2 * envelope * odd
        padded = functional.pad(frames, (half,) * 4, mode="replicate")
        both = functional.conv2d(padded, torch.cat([even, odd])[:, None])
        return torch.complex(*both.chunk(2, 1))

    def _in_time(self, pair: Tensor, own: dict[str, Tensor]) -> Tensor:
        """Squared magnitude of the damped pair in time: n × later frames × units × rows × columns."""
        lag = torch.arange(self.taps, device=pair.device, dtype=pair.real.dtype)
        damped = torch.exp(-lag / own["decay"][:, None])
        wave = torch.polar(damped, 2 * math.pi * own["temporal_frequency"][:, None] * lag)
        later = pair.shape[1] - self.taps + 1
        moved = torch.zeros_like(pair[:, :later])
        for k in range(self.taps):
            moved = moved + wave[:, k, None, None] * pair[:, self.taps - 1 - k :][:, :later]
        return moved.real**2 + moved.imag**2


class MTPooling(Bank):
    """MT over a path of V1: energies of near directions pooled over scales and places, opposite ones subtracted.

    Parameters
    ----------
    path
        V1.
    directions
        Preferred directions, evenly spaced.
    concentration
        Of the tuning to direction (von Mises); its mean is subtracted, so that what moves nowhere gives 0.
    stride
        Pixels between places, each of which pools over twice as many.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features import MotionPathway, MTPooling
    >>> area = MTPooling(MotionPathway(size=32, scales=1, downscale=1), stride=16)
    >>> area(torch.rand(1, 11, 32, 32)).shape, area.units["direction"].nunique()
    (torch.Size([1, 1, 32]), 8)
    """

    def __init__(
        self, path: MotionPathway, directions: int = 8, concentration: float = 2.0, stride: int = 32
    ) -> None:
        super().__init__(path.size, path.frames, path.before)
        if directions < 2 or not concentration > 0 or stride < 1:
            raise ValueError(
                f"directions is {directions}, concentration {concentration} and stride {stride}; give at least two "
                "directions and positive numbers."
            )
        self.path, self.stride, self.concentration = path, stride, concentration
        self.preferred: Tensor
        self.register_buffer("preferred", 2 * math.pi * torch.arange(directions) / directions)

    def extra_repr(self) -> str:
        """What sets it apart from others over the same path, for records."""
        return f"directions={len(self.preferred)}, concentration={self.concentration:g}, stride={self.stride}"

    def forward(self, film: Tensor) -> Tensor:
        """Responses to films (n × frames × size × size), n × later frames × units."""
        energy = self.path.maps(film)
        apart = self.preferred[:, None] - self.path.parameters_of_units["direction"].flatten()
        tuning = torch.exp(self.concentration * (apart.cos() - 1))
        tuning = tuning - tuning.mean(1, keepdim=True)
        tuning = tuning / tuning.abs().sum(1, keepdim=True)
        pooled = torch.einsum("du,ntuyx->ntdyx", tuning, energy)
        side = max(1, self.size // self.stride)
        pooled = functional.interpolate(
            pooled.flatten(0, 1), (side, side), mode="bilinear", antialias=True, align_corners=False
        )
        return pooled.unflatten(0, energy.shape[:2]).clamp(min=0).flatten(2)

    @property
    def units(self) -> pd.DataFrame:
        """The neuroid table: the direction that each unit prefers, and its place."""
        direction = np.arange(len(self.preferred)) * 360 / len(self.preferred)
        return _placed(pd.DataFrame({"direction": direction}), max(1, self.size // self.stride), "MT")


class LocalContrast(nn.Module):
    """Full-wave rectified local contrast: how far each pixel is from its surround, whatever its sign.

    Parameters
    ----------
    width
        Standard deviation of the surround in pixels.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features import LocalContrast
    >>> film = torch.tensor([0.0, 1.0]).repeat(8).expand(1, 2, 16, 16)
    >>> LocalContrast(width=4)(film)[0, 0, 8, 6:10].round(decimals=1)
    tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    def __init__(self, width: float = 3.0) -> None:
        super().__init__()
        if not width > 0:
            raise ValueError(f"width is {width}; give a positive number of pixels.")
        half = math.ceil(3 * width)
        window = torch.exp(-(torch.arange(-half, half + 1.0) ** 2) / (2 * width**2))
        self.window: Tensor
        self.register_buffer("window", window / window.sum())

    def forward(self, film: Tensor) -> Tensor:
        """Rectify films (n × frames × rows × columns)."""
        frames = film.reshape(-1, 1, *film.shape[2:])
        half = len(self.window) // 2
        padded = functional.pad(frames, (half,) * 4, mode="replicate")
        across = functional.conv2d(padded, self.window[None, None, None])
        surround = functional.conv2d(across, self.window[None, None, :, None])
        return (frames - surround).abs().reshape(film.shape)


def _design(scales: int) -> dict[str, Tensor]:
    """Where the 32 units of each scale start: eight directions, two frequencies, two temporal frequencies."""
    directions = 2 * math.pi * (torch.arange(8) + 0.5) / 8
    grid = torch.cartesian_prod(directions, torch.tensor([0.1, 0.2]), torch.tensor([0.1, 0.2]))
    start = {"direction": grid[:, 0], "frequency": grid[:, 1], "temporal_frequency": grid[:, 2]}
    start |= {"decay": torch.full((len(grid),), 4.0), "width": (0.4 / grid[:, 1]).clamp(max=3.5)}
    return {name: values.expand(scales, -1) for name, values in start.items()}


def _unbounded(name: str, values: Tensor) -> Tensor:
    low, high = RANGES[name]
    return ((values - low) / (high - low)).logit().clone()


def _placed(units: pd.DataFrame, side: int, area: str) -> pd.DataFrame:
    """Each unit at each place of a grid, in the order units × rows × columns."""
    unit, row, column = np.indices((len(units), side, side)).reshape(3, -1)
    places: dict[str, Any] = {"row": row, "column": column}
    places |= {"centre_x": (column + 0.5) / side, "centre_y": (row + 0.5) / side}
    names = [f"{area}/{u:03d}/{r}/{c}" for u, r, c in zip(unit, row, column, strict=True)]
    table = units.iloc[unit].reset_index(drop=True).assign(**places)
    table.insert(0, "neuroid_id", names)
    table.insert(1, "layer", area)
    return table


def _require(
    size: int, scales: int, downscale: float, stride: int, pixels: int, taps: int, pool: int
) -> None:
    counts = {"size": size, "scales": scales, "stride": stride, "taps": taps, "pool": pool}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; give a positive number.")
    if pixels < 3 or pixels % 2 == 0:
        raise ValueError(f"pixels is {pixels}; give an odd number of at least 3.")
    if not 1 <= downscale <= size:
        raise ValueError(f"downscale is {downscale}; give a number from 1 to size={size}.")
