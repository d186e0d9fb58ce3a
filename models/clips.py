"""Sounds and films: values, and how many of them pass in a second."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Clip:
    """A sound or a film.

    Parameters
    ----------
    values
        A sound: samples, or samples × channels, float32. A film: frames × height × width × 3, uint8 RGB.
    rate
        Samples or frames a second, in Hz.

    Raises
    ------
    ValueError
        If the values are neither, are missing in part, or the rate is no positive number.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> tone = models.Clip(np.zeros(8000, np.float32), rate=16000)
    >>> tone.kind, tone.duration, len(tone)
    ('sound', 0.5, 8000)
    """

    values: NDArray[Any]
    rate: float

    def __post_init__(self) -> None:
        """Refuse what is neither sound nor film."""
        values, rate = self.values, self.rate
        if isinstance(rate, bool) or not isinstance(rate, int | float | np.number):
            raise ValueError(f"the rate of a clip is of type {type(rate).__name__}; give a number of Hz.")
        if not (isfinite(rate) and rate > 0):
            raise ValueError(f"the rate of a clip is {rate} Hz; give a positive number.")
        sound = values.dtype == np.float32 and values.ndim in (1, 2)
        film = values.dtype == np.uint8 and values.ndim == 4 and values.shape[3] == 3
        if not (sound or film):
            raise ValueError(
                f"a clip of {values.dtype} with the shape {values.shape} is neither a sound (float32, samples or "
                "samples × channels) nor a film (uint8, frames × height × width × 3); convert it."
            )
        if not values.size:
            raise ValueError(f"a clip of the shape {values.shape} holds nothing; leave it out.")
        if sound and not np.isfinite(values).all():
            raise ValueError("a sound has NaN or infinite samples; repair or leave it out.")

    @property
    def kind(self) -> Literal["sound", "film"]:
        """Say which of the two it is."""
        return "film" if self.values.dtype == np.uint8 else "sound"

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.values) / float(self.rate)

    def __len__(self) -> int:
        """Count samples or frames."""
        return len(self.values)


def as_sound(values: Any, rate: float) -> Clip:
    """Take samples of any type; integers of up to 32 bits are scaled to -1 … 1 as sound files mean them.

    Parameters
    ----------
    values
        Samples, or samples × channels.
    rate
        Samples a second.

    Raises
    ------
    ValueError
        If it is no sound, has more channels than samples, or integers of 64 bits.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.clips import as_sound
    >>> as_sound(np.array([-32768, 16384], np.int16), 8000).values.tolist()
    [-1.0, 0.5]
    """
    array = _as_numpy(values)
    if array.ndim == 2 and len(array) < array.shape[1]:
        raise ValueError(
            f"the sound has {len(array)} samples of {array.shape[1]} channels; give samples × channels (transpose it)."
        )
    if array.dtype.kind == "i":
        if array.dtype.itemsize > 4:
            raise ValueError(
                f"samples of {array.dtype} have no known full scale; give int16, int32, or floats from -1 to 1."
            )
        array = array / -float(np.iinfo(array.dtype).min)
    elif array.dtype == np.uint8 and array.ndim < 3:
        array = (array - 128.0) / 128.0
    if array.dtype.kind == "f":
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        array = array.astype(np.float32, copy=False)
    return Clip(array, rate)


def as_film(values: Any, rate: float) -> Clip:
    """Take frames of grey or RGB pixels.

    Parameters
    ----------
    values
        uint8, frames × height × width, and × 3 where they have colour.
    rate
        Frames a second.

    Raises
    ------
    ValueError
        If it is no film.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.clips import as_film
    >>> as_film(np.zeros((10, 8, 6), np.uint8), 25).values.shape
    (10, 8, 6, 3)
    """
    array = _as_numpy(values)
    if array.dtype == np.uint8 and array.ndim == 3:
        array = np.repeat(array[..., None], 3, axis=3)
    return Clip(array, rate)


def _as_numpy(values: Any) -> NDArray[Any]:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
