"""HMAX: simple cells, maxima over places and scales, prototypes, and maxima over the whole picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional

from ...neuro.progress import track
from ..names import describe
from ..stimuli import StimulusSet
from .colour import require_images
from .images import Lightness, extract_features

Stage = Literal["S1", "C1", "C2"]
ORIENTATIONS = (0, 45, 90, 135)
#: of each band: two sides of filters in pixels, and the side of the square over which C1 takes the maximum
BANDS = (
    ((7, 9), 8),
    ((11, 13), 10),
    ((15, 17), 12),
    ((19, 21), 14),
    ((23, 25), 16),
    ((27, 29), 18),
    ((31, 33), 20),
    ((35, 37), 22),
)
#: how much longer than wide the filters' envelopes are, as its reciprocal
ASPECT = 0.3
#: below this norm a patch of lightness is grey, and no filter is said to match it
GREY = 1e-3


@dataclass(frozen=True)
class Prototypes:
    """Patches of C1, for S2 to look for; made by :func:`learn_prototypes`.

    Parameters
    ----------
    patches
        By their side: patches × orientations × side × side.
    size
        Side in pixels of the pictures from which they come.
    source
        Hash of these pictures.
    """

    patches: dict[int, Tensor]
    size: int
    source: str

    def __len__(self) -> int:
        """Count them."""
        return sum(len(patches) for patches in self.patches.values())


def hmax(
    stimuli: StimulusSet,
    *,
    stage: Stage | None = None,
    prototypes: Prototypes | None = None,
    size: int = 128,
    sharpness: float = 1.0,
    memory: str | int = "2GiB",
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.DataArray:
    """Compute HMAX features of pictures: from edges to combinations of edges wherever they are.

    S1: Gabor filters of four orientations and sixteen sizes, divided by the norm of the patch they see. C1: their
    maximum over near places and two near sizes, which tolerates small shifts and changes of size. C2: how well the
    picture matches each prototype, a patch of C1 from training pictures, where it matches best over all places and
    sizes. Source: Riesenhuber and Poggio (1999), with the parameters of Serre et al. (2007).

    Parameters
    ----------
    stimuli
        Pictures; they are resized to squares and taken as CIE lightness.
    stage
        ``"S1"``, ``"C1"`` or ``"C2"``. Default: C2 if prototypes are given, else C1.
    prototypes
        Of C2, from :func:`learn_prototypes` on training pictures.
    size
        Side of the resized pictures in pixels.
    sharpness
        Of the tuning of S2: ``exp(-sharpness × mean squared distance × 4)`` for patches of the smallest side, wider
        for larger ones.
    memory
        What the run may take beside the result.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ….
    progress
        A progress bar; ``None`` (default) where standard error is a terminal.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``, float32; neuroids carry ``layer`` (``"hmax.C1"``), of S1 and C1 ``orientation``
        (degrees of the bars, counter-clockwise from horizontal), ``filter_size`` (pixels; of C1 the larger of two),
        ``row`` and ``column``, of C2 ``patch_size`` and ``prototype``.

    Raises
    ------
    ValueError
        If an option is wrong, C2 has no prototypes or those of another size, or a stimulus is no picture.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    >>> stimuli = models.StimulusSet.from_arrays(pictures)
    >>> prototypes = models.features.learn_prototypes(stimuli[:2], count=5, sides=[4], size=64)
    >>> models.features.hmax(stimuli, prototypes=prototypes, size=64).shape
    (3, 5)
    """
    stage = stage or ("C1" if prototypes is None else "C2")
    network = HMAX(size, stage, prototypes, sharpness)
    facts: dict[str, Any] = {"stage": stage, "size": size}
    if prototypes is not None:
        facts |= {"sharpness": sharpness, "prototypes": describe(prototypes)}
    units = network.units
    options = {"memory": memory, "device": device, "progress": progress}
    return extract_features(network, "hmax", stimuli, units, size, facts, **options)


def learn_prototypes(
    stimuli: StimulusSet,
    count: int = 1000,
    *,
    sides: Sequence[int] = (4, 8, 12, 16),
    size: int = 128,
    random_state: int = 0,
    progress: bool | None = None,
) -> Prototypes:
    """Cut patches of C1 from training pictures, at random places and sizes.

    Only training pictures belong here: a prototype from a test picture would know the test. Pictures of noise give
    prototypes that know of no picture, as a control.

    Parameters
    ----------
    stimuli
        Training pictures.
    count
        How many in all, shared out over the sides.
    sides
        Of the patches, in places of C1.
    size
        Side of the resized pictures in pixels.
    random_state
        Seed of what is drawn.
    progress
        A progress bar; ``None`` (default) where standard error is a terminal.

    Returns
    -------
    Prototypes

    Raises
    ------
    ValueError
        If an option is wrong, or no map of C1 is as large as a side.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    >>> learnt = models.features.learn_prototypes(models.StimulusSet.from_arrays(pictures), 6, sides=[4, 6], size=64)
    >>> {side: tuple(patches.shape) for side, patches in learnt.patches.items()}
    {4: (3, 4, 4, 4), 6: (3, 4, 6, 6)}
    """
    require_images(stimuli, "hmax")
    network, sides = HMAX(size, "C1"), list(sides)
    if not sides or min(sides) < 1 or count < len(sides):
        raise ValueError(f"{count} prototypes of the sides {sides} are none; give at least one of each side.")
    places = [places_of(size, pool) for _, pool in BANDS]
    rng = np.random.default_rng(random_state)
    # pictures in order, so that each is filtered once
    drawn = pd.DataFrame({"side": [sides[k % len(sides)] for k in range(count)]})
    drawn["picture"] = rng.integers(0, len(stimuli), count)
    bands = {side: [band for band, n in enumerate(places) if n >= side] for side in sides}
    for side, possible in bands.items():
        if not possible:
            raise ValueError(
                f"no map of C1 has {side} × {side} places in pictures of {size} pixels; raise size= or lower sides=."
            )
    found: dict[int, Tensor] = {}
    grey = Lightness(size)
    rounds = track(list(drawn.groupby("picture")), "prototypes", show=progress)
    for picture, rows in rounds:
        with torch.no_grad():
            maps = network.complex_1(grey(stimuli[int(picture)])[None])
        for number, side in zip(rows.index, rows["side"], strict=True):
            band = int(rng.choice(bands[side]))
            row, column = rng.integers(0, places[band] - side + 1, 2)
            found[number] = maps[band][0, :, row : row + side, column : column + side].clone()
    patches = {s: torch.stack([found[n] for n in drawn.index[drawn["side"] == s]]) for s in sides}
    return Prototypes(patches, size, stimuli.hash)


class HMAX(nn.Module):
    """The network behind :func:`hmax`: frames (n × size × size) to n × units of one stage.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features.hierarchy import HMAX
    >>> network = HMAX(64, "C1")
    >>> [tuple(maps.shape) for maps in network.complex_1(torch.rand(2, 64, 64))][:2]
    [(2, 4, 15, 15), (2, 4, 11, 11)]
    """

    def __init__(
        self, size: int, stage: Stage, prototypes: Prototypes | None = None, sharpness: float = 1.0
    ) -> None:
        super().__init__()
        if stage not in ("S1", "C1", "C2"):
            raise ValueError(f"stage is {stage!r}; give 'S1', 'C1' or 'C2'.")
        if size < BANDS[-1][0][1]:
            raise ValueError(
                f"size is {size}, but the largest filters have {BANDS[-1][0][1]} pixels; give at least so many."
            )
        if stage == "C2" and prototypes is None:
            raise ValueError("C2 needs prototypes=; make them by learn_prototypes from training pictures.")
        if prototypes is not None and prototypes.size != size:
            raise ValueError(
                f"the prototypes are of pictures of {prototypes.size} pixels, but size is {size}."
            )
        if not sharpness > 0:
            raise ValueError(f"sharpness is {sharpness}; give a positive number.")
        self.size, self.stage, self.sharpness = size, stage, sharpness
        for side in (side for sides, _ in BANDS for side in sides):
            self.register_buffer(f"filters_{side}", gabors(side))
        self.sides = sorted(prototypes.patches) if prototypes is not None and stage == "C2" else []
        self.counts = [len(prototypes.patches[side]) for side in self.sides] if prototypes is not None else []
        for side in self.sides:
            assert prototypes is not None
            self.register_buffer(f"patches_{side}", prototypes.patches[side])

    def forward(self, frames: Tensor) -> Tensor:
        """Responses of the stage to frames of lightness."""
        if self.stage == "S1":
            maps = [self.simple_1(frames, side) for sides, _ in BANDS for side in sides]
            return torch.cat([one.flatten(1) for one in maps], 1)
        bands = self.complex_1(frames)
        if self.stage == "C1":
            return torch.cat([band.flatten(1) for band in bands], 1)
        return torch.cat([self.complex_2(bands, side) for side in self.sides], 1)

    def simple_1(self, frames: Tensor, side: int) -> Tensor:
        """Match of the filters of one size at each pixel, 0 to 1: n × orientations × rows × columns."""
        padded = functional.pad(frames[:, None], (side // 2,) * 4, mode="replicate")
        match = functional.conv2d(padded, getattr(self, f"filters_{side}")).abs()
        # lightness around the patch's mean, so that a light and a dark patch are alike
        ones = torch.full((1, 1, side, 1), 1 / side, device=frames.device, dtype=frames.dtype)
        first, second = (
            functional.conv2d(functional.conv2d(x, ones), ones.transpose(2, 3)) for x in (padded, padded**2)
        )
        norm = ((second - first**2).clamp(min=0) * side**2).sqrt()
        return torch.where(norm > GREY * side, match / norm.clamp(min=GREY * side), torch.zeros_like(match))

    def complex_1(self, frames: Tensor) -> list[Tensor]:
        """Maxima over near places and two sizes, for each band: n × orientations × rows × columns."""
        bands = []
        for sides, pool in BANDS:
            match = torch.maximum(*(self.simple_1(frames, side) for side in sides))
            bands.append(functional.max_pool2d(match, pool, stride=pool // 2))
        return bands

    def complex_2(self, bands: list[Tensor], side: int) -> Tensor:
        """Best match of each prototype of one side over all places and bands: n × prototypes."""
        patches = getattr(self, f"patches_{side}")
        norms = patches.square().sum((1, 2, 3))[None, :, None, None]
        window = torch.ones(1, patches.shape[1], side, side, device=patches.device, dtype=patches.dtype)
        nearest = torch.full((len(bands[0]), len(patches)), math.inf, device=patches.device)
        for band in bands:
            if min(band.shape[2:]) < side:
                continue
            away = functional.conv2d(band.square(), window) - 2 * functional.conv2d(band, patches) + norms
            nearest = torch.minimum(nearest, away.amin((2, 3)))
        # distances grow with the area of the patch, and so does the width of the tuning
        return torch.exp(-4 * self.sharpness * nearest.clamp(min=0) / side**2)

    @property
    def units(self) -> pd.DataFrame:
        """The neuroid table."""
        if self.stage == "C2":
            tables = [
                {
                    "neuroid_id": [f"C2/{side}/{k:04d}" for k in range(n)],
                    "patch_size": side,
                    "prototype": range(n),
                }
                for side, n in zip(self.sides, self.counts, strict=True)
            ]
            return pd.concat(map(pd.DataFrame, tables), ignore_index=True).assign(layer="hmax.C2")
        if self.stage == "S1":
            maps = [(side, self.size) for sides, _ in BANDS for side in sides]
        else:
            maps = [(sides[1], places_of(self.size, pool)) for sides, pool in BANDS]
        return pd.concat([self._table(side, places) for side, places in maps], ignore_index=True)

    def _table(self, side: int, places: int) -> pd.DataFrame:
        orientation, row, column = np.indices((len(ORIENTATIONS), places, places)).reshape(3, -1)
        names = [
            f"{self.stage}/{side}/{ORIENTATIONS[o]}/{r}/{c}"
            for o, r, c in zip(orientation, row, column, strict=True)
        ]
        degrees = np.array(ORIENTATIONS, float)[orientation]
        table = {"neuroid_id": names, "layer": f"hmax.{self.stage}", "orientation": degrees}
        return pd.DataFrame({**table, "filter_size": side, "row": row, "column": column})


def gabors(side: int) -> Tensor:
    """Gabor filters of one size, without DC and of norm 1: orientations × 1 × side × side.

    Wavelength and width grow with the size as in cortex (Serre & Riesenhuber 2004).

    Examples
    --------
    >>> from cerebridge.models.features.hierarchy import gabors
    >>> gabors(7).square().sum((1, 2, 3)).round(decimals=4).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    width = 0.0036 * side**2 + 0.35 * side + 0.18
    wavelength = width / 0.8
    at = torch.arange(side, dtype=torch.float64) - side // 2
    down, right = torch.meshgrid(at, at, indexing="ij")
    found = []
    for degrees in ORIENTATIONS:
        angle = math.radians(degrees)
        across = right * math.sin(angle) + down * math.cos(angle)
        along = right * math.cos(angle) - down * math.sin(angle)
        envelope = torch.exp(-(across**2 + (ASPECT * along) ** 2) / (2 * width**2))
        envelope = envelope * (across**2 + along**2 <= (side / 2) ** 2)
        one = envelope * torch.cos(2 * math.pi * across / wavelength)
        one = one - one.mean()
        found.append(one / one.norm())
    return torch.stack(found)[:, None].float()


def places_of(size: int, pool: int) -> int:
    """Places of C1 along a side of the picture.

    Examples
    --------
    >>> from cerebridge.models.features.hierarchy import places_of
    >>> places_of(64, 8)
    15
    """
    return (size - pool) // (pool // 2) + 1
