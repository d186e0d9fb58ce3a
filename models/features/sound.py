"""Sounds as the ear's regressors: auditory spectrograms, envelopes, onsets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from ...neuro.assembly import validate
from ..clips import Clip, as_sound
from ..devices import resolve_device
from .courses import Clips, assemble_course, average_bins, bin_edges

Scale = Literal["erb", "mel"]
Loudness = Literal["log", "power", "none"]
#: dB below a mean square of 1 that counts as silence
SILENCE = -80.0
#: of a band's power law: loudness grows so with amplitude (Biesmans et al. 2017)
EXPONENT = 0.6


def spectrogram(
    sounds: Any,
    rate: float | None = None,
    *,
    sfreq: float = 100.0,
    bands: int = 32,
    lowest: float = 80.0,
    highest: float = 8000.0,
    scale: Scale = "erb",
    compression: Loudness = "log",
    window: float = 0.025,
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.DataArray:
    """Compute an auditory spectrogram: the power of a sound in bands as wide as the ear's, over time.

    Parameters
    ----------
    sounds
        A stimulus set of sounds, a :class:`models.Clip`, or samples (× channels, which are averaged) with ``rate``.
    rate
        Samples a second of plain samples.
    sfreq
        Bins a second of the result.
    bands
        How many.
    lowest, highest
        Centre of the lowest and highest band in Hz.
    scale
        ``"erb"``: gammatone filters of order 4 without delay, evenly spaced on the scale of equivalent rectangular
        bandwidths (Glasberg & Moore 1990; Patterson et al. 1992). ``"mel"``: triangles on the mel scale over the power
        of short windows (Davis & Mermelstein 1980).
    compression
        ``"log"``: dB above a silence of -80 dB (a mean square of 1 gives 80). ``"power"``: amplitude to the power
        of 0.6. ``"none"``: amplitude.
    window
        Of the mel scale, in seconds.
    device
        Where it is computed.
    progress
        A progress bar; ``None`` (default) where standard error is a terminal.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``, float32; neuroids carry ``frequency`` (Hz), bins ``stimulus_id`` where sounds have
        one; the time of each sound starts at 0.

    Raises
    ------
    ValueError
        If an option is wrong, or a sound's rate is too low for the highest band.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000)
    >>> loud = models.features.spectrogram(tone, 16000, bands=20, highest=4000)
    >>> bool(abs(loud["frequency"].values[loud.values[25].argmax()] - 1000) < 100)
    True
    """
    centres = _centres(bands, lowest, highest, scale)
    clips = Clips(sounds, rate, as_sound, "sound")
    place = resolve_device(device)
    if compression not in ("log", "power", "none"):
        raise ValueError(f"compression is {compression!r}; give 'log', 'power' or 'none'.")
    if not window > 0:
        raise ValueError(f"window is {window} s; give a positive time.")
    parts = []
    for name, clip in clips.read("spectrograms", progress):
        if highest * 2 > clip.rate:
            raise ValueError(
                f"a band at {highest:g} Hz needs more than {2 * highest:g} samples a second, but the sound has "
                f"{clip.rate:g}; lower highest=."
            )
        if scale == "erb":
            power = _gammatone_power(clip, centres, sfreq, place)
        else:
            power = _mel_power(clip, centres, sfreq, window, place)
        parts.append((name, _compressed(power, compression)))
    facts = {"features": "spectrogram", "scale": scale, "bands": bands, "lowest": lowest, "highest": highest}
    return assemble_course(
        parts,
        sfreq,
        {"neuroid_id": [f"{f:.1f} Hz" for f in centres], "layer": "spectrogram", "frequency": centres},
        units="dB" if compression == "log" else "a.u.",
        facts={**facts, "compression": compression, "window": window, "stimuli": clips.hash},
    )


def envelope(
    sounds: Any,
    rate: float | None = None,
    *,
    sfreq: float = 100.0,
    bands: int = 0,
    lowest: float = 80.0,
    highest: float = 8000.0,
    exponent: float = EXPONENT,
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.DataArray:
    """Compute the envelope of a sound: how its amplitude goes up and down.

    Parameters
    ----------
    sounds, rate, sfreq, device, progress
        As of :func:`spectrogram`.
    bands
        0: the magnitude of the analytic signal (Hilbert) of the whole sound. Else the mean over so many gammatone
        bands, each compressed before, which tracks speech better (Biesmans et al. 2017).
    lowest, highest
        Centre of the lowest and highest band in Hz.
    exponent
        Of the power law that compresses amplitude; 1 leaves it.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid`` with one neuroid, float32.

    Raises
    ------
    ValueError
        If an option is wrong, or a sound's rate is too low for the highest band.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> time = np.arange(16000) / 16000
    >>> tone = (1 + np.sin(2 * np.pi * 4 * time)) * np.sin(2 * np.pi * 1000 * time)
    >>> course = models.features.envelope(tone, 16000, sfreq=64, exponent=1)
    >>> bool(np.corrcoef(course.values[:, 0], np.sin(2 * np.pi * 4 * np.arange(0.5, 64) / 64))[0, 1] > 0.999)
    True
    """
    if not exponent > 0:
        raise ValueError(f"exponent is {exponent}; give a positive number.")
    clips = Clips(sounds, rate, as_sound, "sound")
    place = resolve_device(device)
    centres = _centres(bands, lowest, highest, "erb") if bands else np.empty(0)
    parts = []
    for name, clip in clips.read("envelopes", progress):
        if bands and highest * 2 > clip.rate:
            raise ValueError(
                f"a band at {highest:g} Hz needs more than {2 * highest:g} samples a second, but the sound has "
                f"{clip.rate:g}; lower highest=."
            )
        gains: list[Callable[[Tensor], Tensor]] = [partial(_gammatone_gain, centre=float(f)) for f in centres]
        gains = gains or [torch.ones_like]
        kept = [
            average_bins(magnitude[:, None] ** exponent, clip.rate, sfreq)
            for magnitude in _analytic(clip, gains, place)
        ]
        parts.append((name, np.mean(kept, axis=0)))
    facts = {"features": "envelope", "bands": bands, "exponent": exponent, "stimuli": clips.hash}
    facts |= {"lowest": lowest, "highest": highest} if bands else {}
    return assemble_course(
        parts, sfreq, {"neuroid_id": ["envelope"], "layer": "envelope"}, units="a.u.", facts=facts
    )


def onsets(course: xr.DataArray) -> xr.DataArray:
    """Keep where features rise: the half-wave rectified derivative of an envelope or spectrogram.

    Parameters
    ----------
    course
        ``time_bin × neuroid``, as :func:`envelope` and :func:`spectrogram` give it. Before each sound there is silence.

    Returns
    -------
    xarray.DataArray
        The same with the rise a second (Daube et al. 2019; Brodbeck et al. 2020).

    Raises
    ------
    ValueError
        If it is no time course with ``sfreq``.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> clicks = np.zeros(8000)
    >>> clicks[[2040, 6040]] = 1
    >>> rises = models.features.onsets(models.features.envelope(clicks, 8000, sfreq=100))
    >>> np.sort(rises.values[:, 0].argsort()[-2:]).tolist()
    [25, 75]
    """
    if validate(course).dims != ("time_bin", "neuroid") or "sfreq" not in course.attrs:
        raise ValueError(
            "onsets are of a course time_bin × neuroid with attrs['sfreq'], as envelope gives it."
        )
    values = course.values
    before = np.zeros_like(values)
    before[1:] = values[:-1]
    if "stimulus_id" in course.coords:
        names = course["stimulus_id"].values
        before[1:][names[1:] != names[:-1]] = 0
    risen = course.copy(data=np.maximum(values - before, 0) * np.asarray(course.attrs["sfreq"], values.dtype))
    made_of = course.attrs.get("provenance", "")
    risen.attrs["provenance"] = json.dumps({"features": "onsets", "of": made_of})
    risen.attrs["units"] = f"{course.attrs['units']}/s"
    return risen


def _centres(bands: int, lowest: float, highest: float, scale: str) -> NDArray[np.float64]:
    if bands < 1 or not 0 < lowest <= highest:
        raise ValueError(
            f"{bands} bands from {lowest:g} to {highest:g} Hz are none; give a positive number and rising frequencies."
        )
    if scale == "erb":
        first, last = (21.4 * np.log10(1 + 0.00437 * f) for f in (lowest, highest))
        return (10 ** (np.linspace(first, last, bands) / 21.4) - 1) / 0.00437
    if scale == "mel":
        return _from_mel(np.linspace(_to_mel(lowest), _to_mel(highest), bands))
    raise ValueError(f"scale is {scale!r}; give 'erb' or 'mel'.")


def _to_mel(frequency: Any) -> Any:
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)


def _from_mel(mel: Any) -> Any:
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


def _gammatone_gain(frequency: Tensor, centre: float) -> Tensor:
    """Magnitude of a gammatone filter of order 4; without its phase a band is not delayed."""
    width = 1.019 * 24.7 * (1 + 0.00437 * centre)
    return (1 + ((frequency - centre) / width) ** 2) ** -2


def _analytic(
    clip: Clip, gains: Sequence[Callable[[Tensor], Tensor]], device: torch.device
) -> Iterator[NDArray[np.float32]]:
    """Yield the magnitude of the analytic signal of each band."""
    samples = clip.values if clip.values.ndim == 1 else clip.values.mean(1)
    length = len(samples)
    # silence behind the sound, so that its end does not reach its beginning
    padded = 1 << int(np.ceil(np.log2(length + 0.05 * clip.rate)))
    spectrum = torch.fft.rfft(torch.from_numpy(np.ascontiguousarray(samples)).to(device), padded)
    frequency = torch.arange(len(spectrum), device=device, dtype=torch.float32) * (clip.rate / padded)
    spectrum[1:] *= 2
    for gain in gains:
        band = torch.zeros(padded, dtype=spectrum.dtype, device=device)
        band[: len(spectrum)] = spectrum * gain(frequency)
        yield torch.fft.ifft(band)[:length].abs().cpu().numpy()


def _gammatone_power(
    clip: Clip, centres: NDArray[np.float64], sfreq: float, device: torch.device
) -> NDArray[np.float32]:
    """Mean square in each band and bin: half the squared magnitude of the analytic signal."""
    gains = [partial(_gammatone_gain, centre=float(centre)) for centre in centres]
    bands = [average_bins(m[:, None] ** 2 / 2, clip.rate, sfreq) for m in _analytic(clip, gains, device)]
    return np.concatenate(bands, axis=1)


def _mel_power(
    clip: Clip, centres: NDArray[np.float64], sfreq: float, window: float, device: torch.device
) -> NDArray[np.float32]:
    """Mean square in each band of windows around the middle of each bin."""
    samples = clip.values if clip.values.ndim == 1 else clip.values.mean(1)
    length = max(2, round(window * clip.rate))
    edges = bin_edges(len(samples), clip.rate, sfreq)
    middle = np.round((np.arange(len(edges) - 1) + 0.5) * clip.rate / sfreq).astype(np.int64)
    sound = torch.from_numpy(np.pad(samples, length + round(clip.rate / sfreq))).to(device)
    starts = torch.from_numpy(middle + length + round(clip.rate / sfreq) - length // 2).to(device)
    frames = sound.unfold(0, length, 1)
    taper = torch.hann_window(length, device=device)
    frequency = np.fft.rfftfreq(length, 1 / clip.rate)
    step = _to_mel(centres[-1]) - _to_mel(centres[0]) if len(centres) == 1 else np.diff(_to_mel(centres))[0]
    triangles = np.clip(1 - np.abs(_to_mel(frequency) - _to_mel(centres)[:, None]) / max(step, 1.0), 0, None)
    if (triangles.sum(1) == 0).any():
        raise ValueError(
            f"windows of {window:g} s do not resolve {len(centres)} bands from {centres[0]:g} Hz; raise window= or "
            "lowest=, or lower bands=."
        )
    weights = torch.from_numpy(triangles.astype(np.float32)).to(device)
    found = []
    for some in starts.split(4096):
        power = torch.fft.rfft(frames[some] * taper).abs().square() * (2 / (length * taper.square().sum()))
        found.append((power @ weights.T).cpu().numpy())
    return np.concatenate(found)


def _compressed(power: NDArray[np.float32], compression: Loudness) -> NDArray[np.float32]:
    if compression == "log":
        decibels = 10 * np.log10(np.maximum(power, np.float32(1e-20)))
        return np.maximum(decibels - np.float32(SILENCE), 0)
    amplitude = np.sqrt(2 * power)
    return (amplitude**EXPONENT if compression == "power" else amplitude).astype(np.float32)
