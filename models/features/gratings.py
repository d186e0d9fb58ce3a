"""Complex Gabor filters on a grid of places, without a convolution: rows and columns are filtered apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def envelope_width(bandwidth: float) -> float:
    """Standard deviation of a Gabor's envelope in cycles of its carrier, for a bandwidth in octaves.

    Examples
    --------
    >>> from cerebridge.models.features.gratings import envelope_width
    >>> round(envelope_width(1.0), 3)
    0.562
    """
    return math.sqrt(math.log(2) / 2) / math.pi * (2**bandwidth + 1) / (2**bandwidth - 1)


class Gabors(nn.Module):
    """Responses of Gabor filters of one spatial frequency to frames, as complex numbers.

    A Gabor with a round envelope is a product of one function of the row and one of the column, so that its
    responses on a grid of places are two matrix products. Filters end with the picture and still have no DC.
    The real part is the even filter, the imaginary part the odd one; a grating of amplitude 1 that matches a filter
    gives the magnitude 1.

    Parameters
    ----------
    frequency
        Cycles a picture.
    orientations
        Of the bars, in degrees counter-clockwise from horizontal.
    places
        Rows and columns of the grid.
    size
        Rows and columns of the picture.
    width
        Standard deviation of the envelope as a share of the picture.
    balanced
        Without it filters keep their DC, as those of 0 cycles must: they then give the mean under their envelope.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features.gratings import Gabors
    >>> wave = torch.cos(2 * torch.pi * 8 * (torch.arange(64) + 0.5) / 64).expand(1, 64, 64)
    >>> Gabors(8, [90, 0], places=1, size=64, width=0.1)(wave).abs().flatten().round(decimals=2)
    tensor([1., 0.])
    """

    def __init__(
        self,
        frequency: float,
        orientations: Sequence[float],
        places: int,
        size: int,
        width: float,
        balanced: bool = True,
    ) -> None:
        super().__init__()
        at = (torch.arange(size, dtype=torch.float64) + 0.5) / size
        centres = (torch.arange(places, dtype=torch.float64) + 0.5) / places
        away = at - centres[:, None]
        window = torch.exp(-(away**2) / (2 * width**2))
        window /= window.sum(1, keepdim=True)
        angle = torch.deg2rad(torch.tensor(list(orientations), dtype=torch.float64))[:, None, None]
        rows, columns = (
            torch.polar(window.expand(len(angle), -1, -1).contiguous(), 2 * math.pi * frequency * part * away)
            for part in (angle.cos(), angle.sin())
        )
        dc = rows.sum(2)[:, :, None] * columns.sum(2)[:, None, :]
        self.gain = 2.0 if balanced else 1.0
        dc = dc if balanced else torch.zeros_like(dc)
        self.window: Tensor
        self.register_buffer("window", window.float())
        self.register_buffer("rows", torch.view_as_real(rows).float())
        self.register_buffer("columns", torch.view_as_real(columns).float())
        self.register_buffer("dc", torch.view_as_real(dc).float())

    def forward(self, frames: Tensor) -> Tensor:
        """Filter frames (n × size × size) to n × orientations × rows × columns, complex."""
        n, size = frames.shape[0], frames.shape[-1]
        rows, columns, dc = (torch.view_as_complex(getattr(self, name)) for name in ("rows", "columns", "dc"))
        orientations, places = rows.shape[:2]
        stacked = torch.cat([rows.real, rows.imag], 1).reshape(-1, size)
        even, odd = (stacked @ frames).reshape(n, orientations, 2, places, size).unbind(2)
        filtered = torch.complex(even, odd) @ columns.transpose(1, 2)
        blurred = self.window @ frames @ self.window.T
        return self.gain * (filtered - dc * blurred[:, None])
