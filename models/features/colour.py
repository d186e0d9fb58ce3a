"""Colour and luminance: what a picture's pixels mean as light, and the statistics of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import assemble
from ...neuro.progress import track
from ..decoding import IMAGES
from ..stimuli import StimulusSet

#: linear sRGB to CIE XYZ with the white D65 (IEC 61966-2-1)
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
#: below this share of white, CIE lightness is linear
LINEAR_BELOW = (6 / 29) ** 3
#: the linear light of each of the 256 values of a pixel
LIGHT = np.where(
    np.arange(256) / 255 <= 0.04045,
    np.arange(256) / 255 / 12.92,
    ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4,
)


def linear_light(picture: NDArray[Any]) -> NDArray[np.float64]:
    """Undo the gamma of sRGB: from uint8 pixels to light, 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features.colour import linear_light
    >>> linear_light(np.array([0, 188, 255], np.uint8)).round(2).tolist()
    [0.0, 0.5, 1.0]
    """
    return LIGHT[picture]


def luminance(picture: NDArray[Any]) -> NDArray[np.float64]:
    """CIE Y of sRGB pixels (… × 3, uint8), 0 (black) to 1 (white).

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features.colour import luminance
    >>> luminance(np.array([0, 255, 0], np.uint8)).round(4).tolist()
    0.7152
    """
    return linear_light(picture) @ TO_XYZ[1]


def lightness(luminance: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE 1976 L* of a luminance from 0 to 1: about how light it looks, 0 to 100.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features.colour import lightness
    >>> lightness(np.array([0.0, 0.184, 1.0])).round().tolist()
    [0.0, 50.0, 100.0]
    """
    return 116 * _compressed(luminance) - 16


def lab(picture: NDArray[Any]) -> NDArray[np.float64]:
    """CIE 1976 L*a*b* of sRGB pixels (… × 3, uint8), white D65.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.features.colour import lab
    >>> lab(np.array([255, 255, 255], np.uint8)).round(6).tolist()
    [100.0, 0.0, 0.0]
    """
    xyz = linear_light(picture) @ TO_XYZ.T
    x, y, z = np.moveaxis(_compressed(xyz / TO_XYZ.sum(1)), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_statistics(stimuli: StimulusSet, progress: bool | None = None) -> xr.DataArray:
    """Describe pictures by the statistics of their light and colour, at their own size.

    Low-level controls that any claim about meaning has to beat. Luminance (CIE Y) and the three channels of CIE
    L*a*b* and of two colour opponents: mean, standard deviation, skewness and excess kurtosis. RMS contrast is the
    standard deviation of luminance over its mean; colourfulness that of Hasler and Süsstrunk (2003); the spectral
    slope that of log power over log frequency, between 2 cycles and half the Nyquist frequency (natural scenes: about
    -2); edge energy the mean magnitude of the Sobel gradient of luminance.

    Parameters
    ----------
    stimuli
        Pictures.
    progress
        A progress bar; ``None`` (default) where standard error is a terminal.

    Returns
    -------
    xarray.DataArray
        ``presentation × neuroid``, float32; neuroids carry ``layer`` (``"colour"``), ``statistic`` and ``channel``.
        A picture of one colour has no skewness, kurtosis or slope: these are 0 there.

    Raises
    ------
    ValueError
        If a stimulus is no picture, or is smaller than 8 × 8 pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> white = models.StimulusSet.from_arrays(np.full((1, 16, 16, 3), 255, np.uint8))
    >>> statistics = models.features.colour_statistics(white)
    >>> round(float(statistics.values[0, statistics["neuroid_id"].values == "luminance mean"][0]), 3)
    1.0
    """
    require_images(stimuli, "colour")
    rows: list[dict[tuple[str, str], float]] = []
    for number, picture in enumerate(track(stimuli, "colours", total=len(stimuli), show=progress)):
        if (
            picture.dtype != np.uint8
            or picture.ndim != 3
            or picture.shape[2] != 3
            or min(picture.shape[:2]) < 8
        ):
            raise ValueError(
                f"stimulus {stimuli.table['stimulus_id'].iloc[number]!r} is an array of {picture.dtype} with the shape "
                f"{picture.shape}, no picture of at least 8 × 8 pixels; give uint8 height × width × 3."
            )
        rows.append(_statistics(picture))
    names = list(rows[0])
    return assemble(
        np.array([list(row.values()) for row in rows], np.float32),
        presentation=stimuli.table,
        neuroid={
            "neuroid_id": [" ".join(filter(None, name)) for name in names],
            "layer": "colour",
            "statistic": [statistic for _, statistic in names],
            "channel": [channel for channel, _ in names],
        },
        modality="activation",
        units="a.u.",
        provenance=json.dumps({"features": "colour_statistics", "stimuli": stimuli.hash}),
    )


def require_images(stimuli: StimulusSet, name: str) -> None:
    """Refuse stimuli that are no pictures.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> from cerebridge.models.features.colour import require_images
    >>> require_images(models.StimulusSet.from_arrays(np.zeros((1, 8, 8), np.uint8)), "colour")
    """
    if stimuli.medium.name != IMAGES.name:
        raise ValueError(
            f"the stimuli are {stimuli.medium.name}s, which have no {name} features; give images, or the frames of a "
            "film one by one."
        )


def _compressed(share: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(share > LINEAR_BELOW, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)


def _statistics(picture: NDArray[np.uint8]) -> dict[tuple[str, str], float]:
    """By channel and statistic."""
    light = luminance(picture)
    red, green, blue = np.moveaxis(picture.astype(np.float64), -1, 0)
    opponents = red - green, (red + green) / 2 - blue
    channels = dict(zip(("L*", "a*", "b*"), np.moveaxis(lab(picture), -1, 0), strict=True))
    channels = {"luminance": light, **channels, "red-green": opponents[0], "yellow-blue": opponents[1]}
    found = {
        (name, key): value for name, values in channels.items() for key, value in _moments(values).items()
    }
    mean = found["luminance", "mean"]
    found["", "rms contrast"] = found["luminance", "sd"] / mean if mean > 0 else 0.0
    spread = np.hypot(*(values.std() for values in opponents))
    found["", "colourfulness"] = float(spread + 0.3 * np.hypot(*(values.mean() for values in opponents)))
    found["luminance", "spectral slope"] = _spectral_slope(light)
    found["luminance", "edge energy"] = _edge_energy(light)
    return found


def _moments(values: NDArray[np.float64]) -> dict[str, float]:
    mean, sd = float(values.mean()), float(values.std())
    # rounding leaves a little spread in what has none
    flat = sd <= 1e-9 * max(1.0, abs(mean))
    z = np.zeros(1) if flat else (values - mean) / sd
    kurtosis = 0.0 if flat else float((z**4).mean()) - 3
    return {"mean": mean, "sd": 0.0 if flat else sd, "skewness": float((z**3).mean()), "kurtosis": kurtosis}


def _spectral_slope(light: NDArray[np.float64]) -> float:
    """Slope of log power over log frequency, of power averaged over orientations."""
    centred = light - light.mean()
    if np.abs(centred).max() < 1e-9:
        return 0.0
    # without a window the picture's edges would add a cross of slope -2
    window = np.outer(np.hanning(light.shape[0] + 2)[1:-1], np.hanning(light.shape[1] + 2)[1:-1])
    power = np.abs(np.fft.rfft2(centred * window)) ** 2
    down, across = np.fft.fftfreq(light.shape[0]), np.fft.rfftfreq(light.shape[1])
    frequency = np.hypot(down[:, None], across[None])
    edges = np.geomspace(2 / min(light.shape), 0.25, 12)
    ring = np.digitize(frequency, edges)
    rings = [k for k in range(1, len(edges)) if (ring == k).any() and power[ring == k].mean() > 0]
    if len(rings) < 2:
        return 0.0
    x = [np.log(frequency[ring == k]).mean() for k in rings]
    y = [np.log(power[ring == k].mean()) for k in rings]
    # a ring's mean is as sure as it holds many frequencies
    weights = [np.sqrt((ring == k).sum()) for k in rings]
    return float(np.polyfit(x, y, 1, w=weights)[0])


def _edge_energy(light: NDArray[np.float64]) -> float:
    smooth = light[:-2] + 2 * light[1:-1] + light[2:]
    across = smooth[:, 2:] - smooth[:, :-2]
    smooth = light[:, :-2] + 2 * light[:, 1:-1] + light[:, 2:]
    down = smooth[2:] - smooth[:-2]
    return float(np.hypot(across, down).mean() / 4)
