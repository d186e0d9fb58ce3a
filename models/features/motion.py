"""Motion energy: spatio-temporal Gabor filters over films, and the time courses of any bank of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...neuro.progress import track
from ..clips import Clip, as_film
from ..devices import resolve_device
from ..memory import LiveBytes, format_bytes, parse_bytes
from ..taps import evaluating
from ..zoo import fingerprint
from .courses import Clips, assemble_course, bin_edges
from .gabor import Compression, compress, require_compression
from .gratings import Gabors
from .images import Lightness

#: more frames at once only wait for memory
MOST_FRAMES = 256


class Bank(nn.Module, ABC):
    """Filters over films: maps n × frames × size × size, lightness from 0 to 1, to n × later frames × units.

    Parameters
    ----------
    size
        Side of the frames in pixels.
    frames, before
        Frames that a response depends on, and how many of these lie before its own.
    rate
        Frames a second that the filters are made for; ``None``: any.
    """

    def __init__(self, size: int, frames: int, before: int, rate: float | None = None) -> None:
        super().__init__()
        self.size, self.frames, self.before, self.rate = size, frames, before, rate

    @property
    @abstractmethod
    def units(self) -> pd.DataFrame:
        """The neuroid table."""


def motion_energy(
    films: Any,
    rate: float | None = None,
    *,
    bank: Bank | None = None,
    sfreq: float | None = None,
    memory: str | int = "2GiB",
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.DataArray:
    """Filter films by spatio-temporal Gabors of several directions, speeds, scales and places.

    The motion-energy model (Adelson & Bergen 1985) as it predicts visual cortex under films (Nishimoto et al. 2011).
    Frames are resized to squares and taken as CIE lightness. Before and behind a film its first and last frame stand
    still, so that a still picture moves nothing.

    Parameters
    ----------
    films
        A stimulus set of films, a :class:`models.Clip`, or frames with ``rate``: uint8, frames × height × width (× 3),
        or grey as floating-point numbers from 0 to 1.
    rate
        Frames a second of plain frames.
    bank
        The filters. Default: ``MotionBank(rate)`` for each film's rate. ``MotionPathway()`` is the trainable model
        of V1 and MT with a first- and a second-order path.
    sfreq
        Bins a second of the result, such as one over the repetition time; responses are averaged. Default: a bin a
        frame.
    memory
        What the run may take beside the result.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ….
    progress
        A progress bar; ``None`` (default) where standard error is a terminal.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``, float32; neuroids carry the columns of ``bank.units``, bins ``stimulus_id`` where films
        have one; the time of each film starts at 0.

    Raises
    ------
    ValueError
        If an option is wrong, a stimulus is no film, or the bank is made for another rate.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> across = np.arange(32) / 32
    >>> film = [np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * (4 * across - 2 * t / 24)), (32, 32)) for t in range(48)]
    >>> bank = models.features.MotionBank(24, frequencies=[4], temporal_frequencies=[2], size=32)
    >>> energy = models.features.motion_energy(np.stack(film), 24, bank=bank, sfreq=1)
    >>> float(energy["direction"].values[energy.values[0].argmax()])
    0.0
    """
    clips = Clips(films, rate, _as_film, "film")
    place, budget = resolve_device(device), parse_bytes(memory)
    banks: dict[float, Bank] = {}
    parts: list[tuple[Any, NDArray[np.float32]]] = []
    bins = sfreq
    for name, clip in clips.read("motion energy", progress):
        used = bank or banks.setdefault(float(clip.rate), MotionBank(clip.rate))
        if used.rate is not None and abs(used.rate - clip.rate) > 1e-3:
            raise ValueError(
                f"the bank is made for {used.rate:g} frames a second, but the film has {clip.rate:g}."
            )
        if sfreq is None and bins not in (None, clip.rate):
            raise ValueError("the films have several rates; give sfreq= to bring them to one.")
        bins = clip.rate if sfreq is None else sfreq
        # a set has a bar of its own
        show = progress if name is None else False
        parts.append((name, _course(used, clip, bins, place, budget, show)))
    facts = {
        "features": "motion_energy",
        "bank": f"{type(used).__name__}({used.extra_repr()})",
        "weights": fingerprint(used),
    }
    return assemble_course(
        parts, cast(float, bins), used.units, units="a.u.", facts={**facts, "stimuli": clips.hash}
    )


class MotionBank(Bank):
    """The fixed bank of Nishimoto et al. (2011): quadrature energy of Gabors in space and time.

    Filters of 0 Hz see what stands still, those of 0 cycles flicker. An energy is the root of the sum of squares of a
    quadrature pair: the amplitude of the drifting grating that matches the filter (flicker is two of them, of half its
    amplitude each).

    Parameters
    ----------
    rate
        Frames a second.
    frequencies
        Cycles a picture; 0 is one wide window.
    temporal_frequencies
        In Hz.
    directions
        How many, evenly spaced over 360 degrees; an even number.
    size
        Side of the frames in pixels.
    window
        Length of the filters in seconds.
    compression
        ``"none"``, ``"sqrt"`` or ``"log"`` of the energy of a frame.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.features import MotionBank
    >>> bank = MotionBank(rate=15, size=64, frequencies=[0, 2, 4])
    >>> bank.frames, bank(torch.zeros(1, 20, 64, 64)).shape
    (11, torch.Size([1, 10, 103]))
    """

    def __init__(
        self,
        rate: float,
        *,
        frequencies: Sequence[float] = (0, 2, 4, 8, 16, 32),
        temporal_frequencies: Sequence[float] = (0, 2, 4),
        directions: int = 8,
        size: int = 128,
        window: float = 2 / 3,
        compression: Compression = "none",
    ) -> None:
        require_compression(compression)
        _require(rate, frequencies, temporal_frequencies, directions, size, window)
        frames = max(3, round(window * rate) | 1)
        super().__init__(size, frames, frames // 2, float(rate))
        self.compression = compression
        self.frequencies, self.temporal_frequencies = list(frequencies), list(temporal_frequencies)
        self.orientations = [360 * k / directions for k in range(directions // 2)]
        # an envelope of 0.6 cycles, no wider than a third of the picture; places 3.5 envelopes apart
        widths = [min(0.6 / f, 0.3) if f else 0.3 for f in frequencies]
        self.places = [max(1, round(1 / (3.5 * width))) for width in widths]
        self.scales = nn.ModuleList(
            Gabors(f, self.orientations if f else [0.0], n, size, width, balanced=f > 0)
            for f, n, width in zip(frequencies, self.places, widths, strict=True)
        )
        self.filters: Tensor
        self.register_buffer("filters", self._temporal(window, rate))
        self._units = pd.concat([self._table(k) for k in range(len(self.frequencies))], ignore_index=True)

    def extra_repr(self) -> str:
        """What sets it apart from other banks, for records."""
        return (
            f"rate={self.rate:g}, size={self.size}, frequencies={self.frequencies}, "
            f"temporal_frequencies={self.temporal_frequencies}, directions={2 * len(self.orientations)}, "
            f"frames={self.frames}, compression={self.compression!r}"
        )

    @property
    def units(self) -> pd.DataFrame:
        """The neuroid table: what each filter prefers, and its place."""
        return self._units

    def forward(self, film: Tensor) -> Tensor:
        """Filter films (n × frames × size × size); each response needs ``frames`` of them."""
        n, length = film.shape[:2]
        filters = torch.view_as_complex(self.filters)
        energies = []
        for frequency, gabors in zip(self.frequencies, self.scales, strict=True):
            still = gabors(film.reshape(-1, *film.shape[2:])).reshape(n, length, -1)
            moved = (still.unfold(1, self.frames, 1) @ filters).abs()
            energies += [moved[..., k] for k, back in enumerate(self._back) if frequency or not back]
        return compress(torch.cat(energies, 2), self.compression)

    def _temporal(self, window: float, rate: float) -> Tensor:
        """Complex filters in time, frames × filters: for each temporal frequency forward and, if it moves, back."""
        time = (torch.arange(self.frames, dtype=torch.float64) - self.before) / rate
        envelope = torch.exp(-(time**2) / (2 * (0.3 * window) ** 2))
        envelope /= envelope.sum()
        filters: list[Tensor] = []
        self._back: list[bool] = []
        for hertz in self.temporal_frequencies:
            for sign in (1, -1)[: 2 if hertz else 1]:
                wave = torch.polar(envelope, -2 * math.pi * sign * hertz * time)
                filters.append(wave - wave.sum() * envelope if hertz else wave)
                self._back.append(sign < 0)
        return torch.view_as_real(torch.stack(filters, 1)).to(torch.float32)

    def _table(self, scale: int) -> pd.DataFrame:
        frequency, places = self.frequencies[scale], self.places[scale]
        hertz = [h for h in self.temporal_frequencies for _ in range(2 if h else 1)]
        tables = []
        for at, (speed, back) in enumerate(zip(hertz, self._back, strict=True)):
            if back and not frequency:
                continue
            orientations = np.array(self.orientations if frequency else [np.nan])
            index = np.indices((len(orientations), places, places)).reshape(3, -1)
            orientation = orientations[index[0]]
            # bars of 90 degrees move to the right, whose direction is 0
            direction = (
                (orientation + (90 if back else -90)) % 360 if speed else np.full_like(orientation, np.nan)
            )
            name = [f"motion/{frequency:g}/{speed:g}/{at}/{o}/{r}/{c}" for o, r, c in index.T]
            table = {"neuroid_id": name, "layer": "motion", "frequency": float(frequency)}
            table |= {"temporal_frequency": float(speed), "orientation": orientation, "direction": direction}
            table |= {"row": index[1], "column": index[2]}
            table |= {"centre_x": (index[2] + 0.5) / places, "centre_y": (index[1] + 0.5) / places}
            tables.append(pd.DataFrame(table))
        return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class _GreyFilm:
    """Frames of lightness from 0 to 1."""

    values: Tensor
    rate: float
    kind: ClassVar[str] = "film"

    def __len__(self) -> int:
        return len(self.values)


def _as_film(values: Any, rate: float) -> Clip | _GreyFilm:
    frames = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if not frames.is_floating_point():
        return as_film(values, rate)
    if frames.ndim != 3 or not frames.numel():
        raise ValueError(
            f"a grey film of the shape {tuple(frames.shape)} is none; give frames × height × width."
        )
    if not ((frames >= 0) & (frames <= 1)).all():
        raise ValueError(
            "a film of floating-point numbers must lie between 0 (black) and 1 (white); scale it."
        )
    if not rate > 0:
        raise ValueError(f"the rate of a film is {rate}; give a positive number of frames a second.")
    return _GreyFilm(frames.float(), float(rate))


def _course(
    bank: Bank,
    clip: Clip | _GreyFilm,
    sfreq: float,
    device: torch.device,
    memory: int,
    progress: bool | None,
) -> NDArray[np.float32]:
    """Energies of one film, averaged over bins; frames are read and filtered in stretches."""
    edges = bin_edges(len(clip), clip.rate, sfreq)
    bins = torch.from_numpy(np.repeat(np.arange(len(edges) - 1), np.diff(edges))).to(device)
    with evaluating(bank, device), torch.no_grad():
        step = _stretch(bank, device, memory)
        sums = torch.zeros(len(edges) - 1, len(bank.units), dtype=torch.float64)
        sums = sums.to(device)
        count = math.ceil(len(clip) / step)
        for start, film in track(_stretches(clip, bank, step), "motion energy", count, progress):
            energy = bank(film[None].to(device))[0]
            if not torch.isfinite(energy).all():
                raise ValueError("the bank gives values that are not finite; check its parameters.")
            sums.index_add_(0, bins[start : start + len(energy)], energy.double())
    means = sums / torch.from_numpy(np.diff(edges)[:, None]).to(device)
    return means.float().cpu().numpy()


def _stretch(bank: Bank, device: torch.device, memory: int) -> int:
    """Frames at once that keep within the memory, measured on a few."""
    trial = 2 * bank.frames
    with LiveBytes() as live:
        bank(torch.zeros(1, trial, bank.size, bank.size, device=device))
    each = 2 * live.peak / trial
    step = int(memory / each) - bank.frames
    if step < 1:
        needed = format_bytes(each * (bank.frames + 1))
        raise ValueError(
            f"one response needs about {needed}, more than memory={format_bytes(memory)}; raise memory=."
        )
    return min(step, MOST_FRAMES)


def _stretches(clip: Clip | _GreyFilm, bank: Bank, step: int) -> Iterator[tuple[int, Tensor]]:
    """Yield stretches of frames with what each response needs before and behind it."""
    grey = Lightness(bank.size)
    for start in range(0, len(clip), step):
        stop = min(start + step, len(clip))
        wanted = np.arange(start - bank.before, stop + bank.frames - 1 - bank.before).clip(0, len(clip) - 1)
        first = wanted[0]
        if isinstance(clip, Clip):
            frames = torch.stack([grey(clip.values[k]) for k in range(first, wanted[-1] + 1)])
        else:
            frames = clip.values[first : wanted[-1] + 1]
            if frames.shape[1:] != (bank.size, bank.size):
                frames = functional.interpolate(
                    frames[None], (bank.size, bank.size), mode="bilinear", antialias=True, align_corners=False
                )[0]
        yield start, frames[torch.from_numpy(wanted - first)]


def _require(
    rate: float,
    frequencies: Sequence[float],
    temporal_frequencies: Sequence[float],
    directions: int,
    size: int,
    window: float,
) -> None:
    if not (rate > 0 and window > 0):
        raise ValueError(f"rate is {rate} and window {window} s; give positive numbers.")
    if not len(frequencies) or min(frequencies) < 0 or max(frequencies) > size / 4:
        raise ValueError(
            f"frequencies are {list(frequencies)}; give cycles a picture from 0 to a quarter of size={size}."
        )
    if not len(temporal_frequencies) or min(temporal_frequencies) < 0 or max(temporal_frequencies) > rate / 2:
        raise ValueError(
            f"temporal_frequencies are {list(temporal_frequencies)}; give 0 to half of the {rate:g} frames a second."
        )
    if directions < 2 or directions % 2:
        raise ValueError(f"directions is {directions}; give an even number, so that each has its opposite.")
