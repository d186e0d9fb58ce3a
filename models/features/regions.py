"""Where peripheral vision pools: eccentricity, and windows that widen with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: windows that hold less than so many pixels are left to their neighbours
FEWEST_PIXELS = 12.0


@dataclass(frozen=True)
class Gaze:
    """Where in a picture the eye looks, and how large the picture is to it.

    Parameters
    ----------
    fixation
        Row and column in pixels; ``None`` is the middle.
    field_of_view
        Width of the picture in degrees of visual angle.
    fovea
        Radius in degrees of the disk that is seen in full.

    Examples
    --------
    >>> from cerebridge.models.features.regions import Gaze
    >>> Gaze(fixation=(0, 0), field_of_view=10, fovea=1).eccentricity(4, 20)[0, :3]
    tensor([0.0000, 0.5000, 1.0000])
    """

    fixation: tuple[float, float] | None = None
    field_of_view: float = 20.0
    fovea: float = 1.5

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive."""
        if not (self.field_of_view > 0 and self.fovea > 0):
            raise ValueError(
                f"field_of_view is {self.field_of_view} and fovea {self.fovea} degrees; give positive numbers."
            )

    def pixels_per_degree(self, columns: int) -> float:
        """Of a picture with so many columns."""
        return columns / self.field_of_view

    def polar(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Eccentricity in degrees and polar angle in radians of each pixel (rows × columns).

        Raises
        ------
        ValueError
            If the fixation lies outside the picture.
        """
        row, column = self.fixation or ((rows - 1) / 2, (columns - 1) / 2)
        if not (0 <= row <= rows - 1 and 0 <= column <= columns - 1):
            raise ValueError(
                f"the fixation ({row:g}, {column:g}) lies outside a picture of {rows} × {columns} pixels; give row and "
                "column in pixels."
            )
        down = torch.arange(rows, dtype=torch.float32)[:, None] - row
        right = torch.arange(columns, dtype=torch.float32)[None] - column
        return torch.hypot(down, right) / self.pixels_per_degree(columns), torch.atan2(-down, right)

    def eccentricity(self, rows: int, columns: int) -> Tensor:
        """Degrees from the fixation of each pixel (rows × columns)."""
        return self.polar(rows, columns)[0]


@dataclass(frozen=True)
class Regions:
    """Pooling regions of a picture.

    Parameters
    ----------
    weights
        Windows (regions × rows × columns) that sum to 1 at each pixel outside the fovea, and to 0 within.
    eccentricity
        Of each region's middle, in degrees.
    map
        The region that has most of a pixel, counted from 1; 0 is the fovea.
    """

    weights: Tensor
    eccentricity: Tensor
    map: Tensor

    def __len__(self) -> int:
        """Count the regions."""
        return len(self.weights)


def pooling_regions(rows: int, columns: int, gaze: Gaze | None = None, rate: float = 0.4) -> Regions:
    """Tile the periphery with Gaussian-edged windows, as wide as ``rate`` times their eccentricity.

    Windows are Gaussian in the logarithm of eccentricity and in angle, with their neighbours' middles three standard
    deviations away (after Freeman & Simoncelli 2011).

    Parameters
    ----------
    rows, columns
        Of the picture.
    gaze
        Where the eye looks.
    rate
        Width over eccentricity.

    Raises
    ------
    ValueError
        If ``rate`` is not positive, or no pixel lies outside the fovea.

    Examples
    --------
    >>> from cerebridge.models.features.regions import pooling_regions
    >>> regions = pooling_regions(64, 64)
    >>> weights = regions.weights.sum(0)
    >>> bool(((weights - 1).abs() < 1e-5)[regions.map > 0].all()), float(weights[32, 32])
    (True, 0.0)
    """
    if not 0 < rate <= 2:
        raise ValueError(f"rate is {rate}; give the width of regions over their eccentricity, such as 0.4.")
    gaze = gaze or Gaze()
    distance, angle = gaze.polar(rows, columns)
    outside = distance > gaze.fovea
    if not outside.any():
        raise ValueError("no pixel lies outside the fovea; lower fovea= or field_of_view=.")
    step = math.log1p(rate)
    rings = max(1, math.ceil(math.log(float(distance.max()) / gaze.fovea) / step))
    spokes = max(3, round(2 * math.pi / rate))
    middles = torch.arange(rings) + 0.5
    place = (distance.clamp(min=gaze.fovea) / gaze.fovea).log() / step
    radial = torch.exp(-((place - middles[:, None, None]) ** 2) * 4.5)
    directions = torch.arange(spokes) * 2 * math.pi / spokes
    apart = (angle - directions[:, None, None] + math.pi).remainder(2 * math.pi) - math.pi
    angular = torch.exp(-((apart * spokes / (2 * math.pi)) ** 2) * 4.5)
    weights = (radial[:, None] * angular[None]).flatten(0, 1) * outside
    weights = weights / weights.sum(0).clamp(min=1e-12)
    kept = weights.sum((1, 2)) >= FEWEST_PIXELS
    if not kept.any():
        kept = weights.sum((1, 2)) == weights.sum((1, 2)).max()
    weights = weights[kept]
    weights = weights / weights.sum(0).clamp(min=1e-12)
    eccentricity = (gaze.fovea * torch.exp(middles * step)).repeat_interleave(spokes)[kept]
    return Regions(weights, eccentricity, torch.where(outside, weights.argmax(0) + 1, 0))
