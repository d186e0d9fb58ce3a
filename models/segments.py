"""Clips on their way into a network: brought to its rate, cut into windows, padded at their ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .batches import map_inputs
from .clips import Clip
from .taps import Inputs

#: rates are brought to a ratio of whole numbers, the lower of which is no larger
LARGEST_FACTOR = 10_000
#: of a window or frame: what rounding may add
ROUNDING = 1e-6


def bring_to_rate(clip: Clip, rate: float | None) -> Clip:
    """Resample a sound without aliases (polyphase filter), or pick the frames of a film that are on the screen.

    Parameters
    ----------
    clip
        A sound, whose channels are averaged, or a film.
    rate
        Samples or frames a second; ``None`` leaves it.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.clips import Clip
    >>> from cerebridge.models.segments import bring_to_rate
    >>> len(bring_to_rate(Clip(np.zeros((441, 2), np.float32), 44100), 16000))
    160
    """
    values = clip.values
    if clip.kind == "sound" and values.ndim == 2:
        values = values.mean(1, dtype=np.float64).astype(np.float32)
    if rate is None or rate == clip.rate:
        return Clip(values, clip.rate)
    if clip.kind == "film":
        middles = (np.arange(max(1, round(clip.duration * rate))) + 0.5) / rate
        # where a middle falls between two frames, rounding must not choose now the one and now the other
        shown = np.floor(middles * clip.rate + ROUNDING).astype(int)
        return Clip(values[np.minimum(shown, len(values) - 1)], rate)
    from scipy.signal import resample_poly

    ratio = (Fraction(rate) / Fraction(clip.rate)).limit_denominator(LARGEST_FACTOR)
    resampled = resample_poly(values.astype(np.float64), ratio.numerator, ratio.denominator)
    return Clip(resampled.astype(np.float32), rate)


@dataclass(frozen=True)
class Windows:
    """Where windows lie: every ``hop`` seconds one of ``window`` seconds.

    Parameters
    ----------
    window, hop
        In seconds.
    causal
        Whether a window ends where its hop ends, or lies around it.

    Examples
    --------
    >>> from cerebridge.models.segments import Windows
    >>> Windows(window=2.0, hop=1.0, causal=True).starts(n=30, rate=10).tolist()
    [-10, 0, 10]
    """

    window: float
    hop: float
    causal: bool

    def length(self, rate: float) -> int:
        """Samples or frames of one window."""
        return max(1, round(self.window * rate))

    def starts(self, n: int, rate: float) -> Any:
        """First sample of every window over ``n`` samples; windows may begin before and end after them."""
        count = max(1, math.ceil(n / rate / self.hop - ROUNDING))
        hops = np.arange(count) * self.hop
        before = self.hop - self.window if self.causal else (self.hop - self.window) / 2
        return np.round((hops + before) * rate).astype(int)


class Loader:
    """Turns stretches of one clip into inputs of a network.

    Parameters
    ----------
    clip
        At the network's rate.
    preprocess
        Of a sound it gets the :class:`Clip`; of a film each frame as a PIL image.
    dtype
        Of the network; inputs of integers stay integers.
    frames_first
        Whether a film enters as frames × channels × height × width, or channels × frames × height × width.
    kept
        Frames that are kept, since windows overlap.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from cerebridge.models.clips import Clip
    >>> from cerebridge.models.segments import Loader
    >>> loader = Loader(Clip(np.ones(5, np.float32), 10), lambda clip: clip.values, torch.float32)
    >>> loader.load(-2, 4)
    tensor([0., 0., 1., 1.])
    """

    def __init__(
        self,
        clip: Clip,
        preprocess: Callable[[Any], Any],
        dtype: torch.dtype,
        frames_first: bool = False,
        kept: int = 0,
    ) -> None:
        self.clip, self._preprocess, self._dtype = clip, preprocess, dtype
        self._axis = 0 if frames_first else 1
        self._frame = lru_cache(maxsize=kept)(self._prepared_frame)

    def load(self, start: int, length: int) -> Inputs:
        """The input for a stretch; a sound is silent outside, of a film the outermost frame stays.

        Raises
        ------
        ValueError
            If the preprocessing fails.
        """
        inside = slice(max(0, start), max(0, start + length))
        if self.clip.kind == "sound":
            values = self.clip.values[inside]
            before = min(length, max(0, -start))
            values = np.pad(values, (before, length - before - len(values)))
            return self._prepared(Clip(values, self.clip.rate))
        rows = np.clip(np.arange(start, start + length), 0, len(self.clip) - 1)
        return torch.stack([self._frame(int(row)) for row in rows], self._axis)

    def load_frame(self, row: int) -> Inputs:
        """The input for one frame of a film, as an image."""
        return self._frame(row)

    def _prepared_frame(self, row: int) -> Tensor:
        frame = self._prepared(Image.fromarray(self.clip.values[row]))
        if not isinstance(frame, Tensor):
            raise ValueError("preprocess= gives several inputs for a frame of a film; give one tensor.")
        return frame

    def _prepared(self, stimulus: Any) -> Any:
        def converted(values: Any) -> Tensor:
            tensor = torch.as_tensor(values)
            return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

        try:
            return map_inputs(self._preprocess(stimulus), converted)
        except Exception as error:  # whatever the user's own function stumbles over
            raise ValueError(f"the preprocessing failed: {error}") from error
