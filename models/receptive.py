"""What a frame of a layer sees of a sound, measured: how far frames lie apart, and which samples move one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Samples = NDArray[np.float32]
#: runs a network on samples and gives each layer's output for them, without the batch axis
Run = Callable[[Samples], Mapping[str, Tensor]]

#: relative to the largest value: what rounding may change where nothing else does
ROUNDING = 1e-6
#: in seconds: a frame that sees more of the probe than this counts as seeing all
LONGEST_FIELD = 2.0
#: a frame of fewer units is measured with several noises
ENOUGH_UNITS, MOST_PROBES = 64, 12
#: frames that are enough to see one that no edge is near to
FRAMES = 8


@dataclass(frozen=True)
class FrameGrid:
    """Frames of a layer: frame ``k`` sees ``window`` samples of the input from ``offset + k · stride`` on.

    A ``window`` of ``None`` says that every frame sees all of the input, as behind attention or a normalisation
    over time; frames are then placed evenly.
    """

    axis: int
    stride: int
    offset: int = 0
    window: int | None = None

    def edges(self, n_frames: int, n_samples: int) -> NDArray[np.float64]:
        """First and last sample (exclusive) of what each frame sees of ``n_samples``, or of its even share."""
        width = self.stride if self.window is None else self.window
        rest = (n_samples - n_frames * self.stride) / 2 if self.window is None else self.offset
        starts = rest + np.arange(n_frames) * self.stride
        return np.clip(np.stack([starts, starts + width], axis=1), 0, n_samples).astype(float)


def find_time_axis(short: Tensor, long: Tensor) -> int | None:
    """The axis that grows with the input; ``None`` if none does.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.receptive import find_time_axis
    >>> find_time_axis(torch.zeros(16, 10), torch.zeros(16, 20))
    1
    """
    if short.ndim != long.ndim:
        return None
    grown = [axis for axis in range(short.ndim) if short.shape[axis] != long.shape[axis]]
    return grown[0] if len(grown) == 1 else None


def measure_frames(run: Run, layers: list[str], longest: int, rate: float) -> dict[str, FrameGrid]:
    """Measure the frames of layers by running the network on noise.

    Parameters
    ----------
    run
        From samples to each layer's output.
    layers
        Their names.
    longest
        Samples of the longest clip; no probe is longer than twice that.
    rate
        Samples a second.

    Raises
    ------
    ValueError
        If a layer has no frames, or layers have different ones.
    """
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(2 * longest + 2)).astype(np.float32)
    n, axes = _probe_length(run, layers, noise, longest, rate)
    counted: dict[int, tuple[int, ...]] = {}

    def count(length: int) -> tuple[int, ...]:
        if length not in counted:
            outputs = run(noise[:length])
            counted[length] = tuple(outputs[layer].shape[axes[layer]] for layer in layers)
        return counted[length]

    first = _step_after(count, n, len(noise))
    second = _step_after(count, first, len(noise))
    if len(set(count(n))) > 1:
        frames = ", ".join(f"{layer!r} {frames}" for layer, frames in zip(layers, count(n), strict=True))
        raise ValueError(
            f"the layers have different numbers of frames ({frames} in {n / rate:.2g} s); extract them one by one, or "
            "give window= and hop=, which put all on one clock."
        )
    stride = second - first
    grids: dict[str, FrameGrid] = {}
    while True:
        base = run(noise[:n])
        for layer in layers:
            if layer not in grids or grids[layer].window is None:
                grids[layer] = _field(run, layer, axes[layer], stride, noise[:n], base[layer], rng)
        if n == longest or n > LONGEST_FIELD * rate or all(grid.window for grid in grids.values()):
            return grids
        n = min(longest, 4 * n)


def _probe_length(
    run: Run, layers: list[str], noise: Samples, longest: int, rate: float
) -> tuple[int, dict[str, int]]:
    """A length with enough frames, and the axes along which they lie."""
    n, failure = min(longest, max(64, round(rate / 16))), ""
    while True:
        try:
            short, long = run(noise[:n]), run(noise[: 2 * n])
        except (RuntimeError, TypeError, IndexError) as error:
            failure = str(error).partition("\n")[0]
        else:
            axes = {layer: find_time_axis(short[layer], long[layer]) for layer in layers}
            found = {layer: axis for layer, axis in axes.items() if axis is not None}
            enough = all(short[layer].shape[axis] >= FRAMES for layer, axis in found.items())
            if len(found) == len(layers) and (enough or n == longest):
                return n, found
            lost = next((layer for layer in layers if layer not in found), "")
            failure = f"the layer {lost!r} has no frames that grow with the sound"
        if n == longest:
            raise ValueError(f"the network gives no frames over time ({failure}); give window= and hop=.")
        n = min(longest, 2 * n)


def _step_after(count: Callable[[int], Any], n: int, most: int) -> int:
    """The smallest length with more frames than ``n`` samples have."""
    here, step = count(n), 1
    while n + step < most and count(n + step) == here:
        step *= 2
    low, high = n + step // 2, min(n + step, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) == here else (low, middle)
    return high


def _field(
    run: Run, layer: str, axis: int, stride: int, noise: Samples, base: Tensor, rng: np.random.Generator
) -> FrameGrid:
    """Which samples the middle frame sees: those that may be changed without changing it lie outside."""
    n, frame = len(noise), base.shape[axis] // 2
    here = base.select(axis, frame)
    probes = [_Probe(noise, 0.3 * rng.standard_normal(n), here)]
    # behind a rectification few units may all be silent for one noise: others are as loud as sounds get
    for _ in range(MOST_PROBES - 1 if here.numel() < ENOUGH_UNITS else 0):
        loud = rng.standard_normal(n).astype(np.float32)
        probes.append(_Probe(loud, rng.standard_normal(n), run(loud)[layer].select(axis, frame)))

    def moved(changed: slice) -> bool:
        return any(
            probe.moved(changed, lambda samples: run(samples)[layer].select(axis, frame)) for probe in probes
        )

    if not moved(slice(0, n)):
        raise ValueError(
            f"the layer {layer!r} gives the same for any noise, so that it cannot be measured what its frames see; "
            "give window= and hop=."
        )
    # one far frame among many hardly counts behind attention: a quarter of them does
    if moved(slice(0, n // 4)) or moved(slice(n - n // 4, n)):
        return FrameGrid(axis, stride)
    start = _bisect(lambda sample: moved(slice(0, sample)), n)
    end = n - _bisect(lambda sample: moved(slice(n - sample, n)), n)
    return FrameGrid(axis, stride, start - frame * stride, max(1, end - start))


@dataclass(frozen=True)
class _Probe:
    """A noise, another one that takes its place in part, and a frame for the first."""

    noise: Samples
    other: NDArray[np.float64]
    frame: Tensor

    def moved(self, changed: slice, run: Callable[[Samples], Tensor]) -> bool:
        samples = self.noise.copy()
        samples[changed] = self.other[changed]
        difference = (run(samples) - self.frame).abs().max()
        return bool(difference > ROUNDING * self.frame.abs().max())


def _bisect(moves: Callable[[int], bool], n: int) -> int:
    """The most samples that can be changed without an effect."""
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if moves(middle) else (middle, high)
    return low
