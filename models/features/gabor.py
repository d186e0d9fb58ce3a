"""A Gabor pyramid: what simple and complex cells of V1 see in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor, nn

from ..stimuli import StimulusSet
from .gratings import Gabors, envelope_width
from .images import extract_features

Compression = Literal["none", "sqrt", "log"]
CELLS = ("complex", "simple")
#: of half-rectified simple cells, degrees of the grating at the centre of their envelope
PHASES = (0, 90, 180, 270)
#: added before a logarithm: what is far below any contrast that is seen
FAINT = 1e-5


def gabor_pyramid(
    stimuli: StimulusSet,
    *,
    frequencies: Sequence[float] = (1, 2, 4, 8, 16, 32),
    orientations: int = 8,
    size: int = 128,
    bandwidth: float = 1.0,
    cells: Sequence[str] = ("complex",),
    compression: Compression = "none",
    memory: str | int = "2GiB",
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.DataArray:
    """Filter pictures by Gabors of several orientations, frequencies, places and phases: a model of V1.

    The pyramid of Kay et al. (2008): a filter of *f* cycles a picture stands at each place of an *f* × *f* grid.
    Pictures are taken as CIE lightness from 0 to 1; no filter has DC, not even at the picture's edge.

    Parameters
    ----------
    stimuli
        Pictures; they are resized to squares.
    frequencies
        In cycles a picture.
    orientations
        How many, evenly spaced over 180 degrees from horizontal bars.
    size
        Side of the resized pictures in pixels; at least four a cycle of the highest frequency.
    bandwidth
        Of each filter, in octaves of frequency.
    cells
        ``"complex"``: the energy of a quadrature pair (the root of the sum of its squares), the same for each phase.
        ``"simple"``: half-rectified filters of four phases.
    compression
        ``"none"``, ``"sqrt"`` or ``"log"`` of the responses.
    memory
        What the run may take beside the result.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ….
    progress
        A progress bar; ``None`` (default) where standard error is a terminal.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``, float32: the amplitude in lightness of the grating that a filter sees. Neuroids
        carry ``layer`` (``"gabor"``), ``kind``, ``phase`` (degrees; NaN for complex cells), ``frequency``
        (cycles a picture), ``orientation`` (degrees of the bars, counter-clockwise from horizontal), ``row`` and
        ``column`` of its grid, and ``centre_x`` and ``centre_y`` (share of the picture, from its upper left).

    Raises
    ------
    ValueError
        Naming the option that is wrong or the stimulus that is no picture.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> bars = np.tile(np.repeat([0, 255], 8), 4).astype(np.uint8)
    >>> stimuli = models.StimulusSet.from_arrays(np.broadcast_to(bars, (1, 64, 64)))
    >>> features = models.features.gabor_pyramid(stimuli, frequencies=[2, 4, 8], orientations=4, size=64)
    >>> best = features.isel(presentation=0, neuroid=int(features.values[0].argmax()))
    >>> float(best["frequency"]), float(best["orientation"])
    (4.0, 90.0)
    """
    pyramid = GaborPyramid(
        frequencies, orientations, size, bandwidth=bandwidth, cells=cells, compression=compression
    )
    facts = {
        "frequencies": list(map(float, frequencies)),
        "orientations": orientations,
        "size": size,
        "bandwidth": bandwidth,
        "cells": list(pyramid.cells),
        "compression": compression,
    }
    return extract_features(
        pyramid, "gabor", stimuli, pyramid.units, size, facts, memory=memory, device=device, progress=progress
    )


class GaborPyramid(nn.Module):
    """The filters of :func:`gabor_pyramid` as a network: frames (n × size × size) to n × units.

    Parameters are those of the function; ``units`` labels what comes out.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features.gabor import GaborPyramid
    >>> pyramid = GaborPyramid([2, 4], orientations=2, size=32)
    >>> pyramid(torch.zeros(3, 32, 32)).shape, len(pyramid.units)
    (torch.Size([3, 40]), 40)
    """

    def __init__(
        self,
        frequencies: Sequence[float],
        orientations: int,
        size: int,
        *,
        bandwidth: float = 1.0,
        cells: Sequence[str] = ("complex",),
        compression: Compression = "none",
    ) -> None:
        super().__init__()
        self.cells = (cells,) if isinstance(cells, str) else tuple(cells)
        self.compression = compression
        _require(frequencies, orientations, size, bandwidth, self.cells, compression)
        degrees = [180 * k / orientations for k in range(orientations)]
        width = envelope_width(bandwidth)
        self.scales = nn.ModuleList(
            Gabors(f, degrees, max(1, round(f)), size, width / f) for f in frequencies
        )
        tables = [_units(f, degrees, max(1, round(f)), cell) for f in frequencies for cell in self.cells]
        self.units = pd.concat(tables, ignore_index=True)

    def forward(self, frames: Tensor) -> Tensor:
        """Filter frames of lightness from 0 to 1."""
        responses = []
        for gabors in self.scales:
            filtered = gabors(frames)
            for cell in self.cells:
                responses.append((filtered.abs() if cell == "complex" else rectify(filtered)).flatten(1))
        return compress(torch.cat(responses, 1), self.compression)


def rectify(filtered: Tensor) -> Tensor:
    """Half-rectified responses at the four phases, along a new axis 1.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features.gabor import rectify
    >>> rectify(torch.complex(torch.ones(1), -2 * torch.ones(1)))
    tensor([[1., 2., 0., 0.]])
    """
    # a grating that leads the even filter by 90 degrees is the negative of the odd one
    phases = [filtered.real, -filtered.imag, -filtered.real, filtered.imag]
    return torch.stack(phases, 1).clamp(min=0)


def compress(responses: Tensor, compression: Compression) -> Tensor:
    """Compress non-negative responses, as contrast is compressed in V1.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features.gabor import compress
    >>> compress(torch.tensor([0.0, 0.25]), "sqrt")
    tensor([0.0000, 0.5000])
    """
    if compression == "sqrt":
        return responses.sqrt()
    return (responses + FAINT).log() if compression == "log" else responses


def require_compression(compression: str) -> None:
    """Refuse a way of compressing that does not exist.

    Examples
    --------
    >>> from cerebridge.models.features.gabor import require_compression
    >>> require_compression("log")
    """
    if compression not in get_args(Compression):
        raise ValueError(f"compression is {compression!r}; give 'none', 'sqrt' or 'log'.")


def _require(
    frequencies: Sequence[float],
    orientations: int,
    size: int,
    bandwidth: float,
    cells: Sequence[str],
    compression: str,
) -> None:
    if not len(frequencies) or min(frequencies) <= 0:
        raise ValueError(f"frequencies are {list(frequencies)}; give positive cycles a picture.")
    if orientations < 1:
        raise ValueError(f"orientations is {orientations}; give a positive number of orientations.")
    if max(frequencies) > size / 4:
        raise ValueError(
            f"a filter of {max(frequencies):g} cycles a picture needs {4 * max(frequencies):g} pixels, but size is "
            f"{size}; raise size= or leave this frequency out."
        )
    if bandwidth <= 0:
        raise ValueError(f"bandwidth is {bandwidth}; give a positive number of octaves.")
    if not cells or set(cells) - set(CELLS):
        raise ValueError(f"cells are {list(cells)}; give 'complex', 'simple' or both.")
    require_compression(compression)


def _units(frequency: float, orientations: Sequence[float], places: int, cell: str) -> pd.DataFrame:
    phases = PHASES if cell == "simple" else (np.nan,)
    shape = (len(phases), len(orientations), places, places)
    phase, orientation, row, column = (index.ravel() for index in np.indices(shape))
    names = [
        f"gabor/{cell}/{frequency:g}/{orientations[o]:g}/{r}/{c}"
        + ("" if cell == "complex" else f"/{phases[p]}")
        for p, o, r, c in zip(phase, orientation, row, column, strict=True)
    ]
    return pd.DataFrame(
        {
            "neuroid_id": names,
            "layer": "gabor",
            "kind": cell,
            "phase": np.array(phases, float)[phase],
            "frequency": float(frequency),
            "orientation": np.array(orientations, float)[orientation],
            "row": row,
            "column": column,
            "centre_x": (column + 0.5) / places,
            "centre_y": (row + 0.5) / places,
        }
    )
