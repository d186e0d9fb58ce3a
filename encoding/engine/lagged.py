"""Designs of delayed series, of which only products are ever formed.

A design of lags has one row a sample: the window of ``length`` neighbouring samples that a model sees. Its Gram matrix
is nearly block Toeplitz: one step along a block diagonal drops one product of samples at the head of the series and
takes up one at its tail. So the products of one window position with all others, and those edges, are all of it. These
products are sums over short frames in the Fourier domain, which takes far fewer operations than the window is long.

Everything here works on ``padded`` series, ``(samples + length - 1, features)``: row ``t`` of the design is
``padded[t : t + length]``, position by position. :func:`window` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from .moments import Moments, centre

Edges = Literal["mean", "zero", "valid"]
#: samples of the shortest frame, and how many times as long as the window a frame is at least
FRAME, FRAMES_PER_WINDOW = 64, 4
#: complex numbers that are worked on at a time
AT_ONCE = 1 << 22
#: complex numbers that stay in a processor's cache, and frames below which products of their spectra are slow
IN_CACHE, FEWEST_FRAMES = 1 << 16, 8
#: rows of a sum that stay there
BLOCK = 1024


@dataclass(frozen=True)
class Lagged:
    """What least squares needs of one run: it adds over runs, and lags never cross from one to another.

    Parameters
    ----------
    gram
        Moments of the design with itself, ``(length · features)²``, position-major.
    cross
        Moments of responses and design, ``(targets, length · features)``.
    square
        Sums of squares of the responses about their means, ``(targets,)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.lagged import Lagged
    >>> series = torch.tensor([[1.0], [2.0], [4.0], [8.0]], dtype=torch.float64)
    >>> Lagged.of(series, series[1:], 2).cross.products.round(decimals=6).tolist()
    [[9.333333, 18.666667]]
    """

    gram: Moments
    cross: Moments
    square: torch.Tensor

    @classmethod
    def of(cls, padded: torch.Tensor, responses: torch.Tensor, length: int) -> Lagged:
        """Moments of one run: ``padded``, ``(n + length - 1, features)``, and responses ``(n, targets)``."""
        n, p = len(responses), padded.shape[1]
        padded, responses = padded.double(), responses.double()
        shift, mean = _means(padded), _means(responses)
        # shifting a series shifts its columns; about the mean, rounding is as small as it can be
        series = padded - shift
        means = (window_sums(series, length) / n).reshape(-1)
        column = window_products(series, series[:n], length, torch.zeros_like(shift))
        gram = block_toeplitz(column, series, n).addr_(means, means, alpha=-n)
        # the centred truth sums to rounding, so the means of the design do not show in these products
        cross = window_products(series, responses, length, mean).reshape(length * p, -1).T
        means = means + shift.repeat(length)
        squares = [(part - mean).square().sum(0) for part in torch.split(responses, BLOCK)]
        return cls(
            Moments(n, means, means, gram), Moments(n, mean, means, cross), torch.stack(squares).sum(0)
        )

    def __add__(self, other: Lagged) -> Lagged:
        """Moments of both runs together."""
        apart = other.cross.mean_a - self.cross.mean_a
        weight = self.cross.n * other.cross.n / (self.cross.n + other.cross.n)
        square = self.square + other.square + weight * apart.square()
        return Lagged(self.gram + other.gram, self.cross + other.cross, square)

    def about_origin(self) -> Lagged:
        """What a fit without intercept sees."""
        return Lagged(self.gram.about_origin(), self.cross.about_origin(), self.square)


def window(series: torch.Tensor, first: int, length: int, edges: Edges) -> tuple[torch.Tensor, slice]:
    """The padded series whose windows begin ``first`` samples after each row, and the rows that they belong to.

    Parameters
    ----------
    series
        One run, ``(samples, features)``.
    first, length
        Row ``t`` sees the samples ``t + first … t + first + length - 1``.
    edges
        What is outside the run: ``"mean"`` of the run, ``"zero"``, or (``"valid"``) nothing, so that only rows whose
        window lies inside are kept.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.lagged import window
    >>> padded, rows = window(torch.tensor([[1.0], [2.0], [3.0]]), -1, 2, "zero")
    >>> padded[:, 0].tolist(), rows
    ([0.0, 1.0, 2.0, 3.0], slice(0, 3, None))
    """
    n = len(series)
    if edges == "valid":
        rows = slice(max(0, -first), max(max(0, -first), n - max(0, first + length - 1)))
        return series[rows.start + first : rows.stop + first + length - 1], rows
    fill = centre(series)[1] if edges == "mean" else torch.zeros_like(series[0])
    padded = fill.repeat(n + length - 1, 1)
    start, stop = max(0, first), min(n, n + first + length - 1)
    padded[start - first : max(start, stop) - first] = series[start : max(start, stop)]
    return padded, slice(0, n)


def materialise(padded: torch.Tensor, length: int) -> torch.Tensor:
    """The design itself, ``(samples, length, features)``, as a view of ``padded``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.lagged import materialise
    >>> materialise(torch.tensor([[0.0], [1.0], [2.0]]), 2)[..., 0].tolist()
    [[0.0, 1.0], [1.0, 2.0]]
    """
    return padded.unfold(0, length, 1).mT


def window_sums(padded: torch.Tensor, length: int) -> torch.Tensor:
    """Sums of the columns of the design, ``(length, features)``."""
    n = len(padded) - length + 1
    first = padded[:n].sum(0, keepdim=True)
    return torch.cat([first, first + (padded[n:] - padded[: length - 1]).cumsum(0)])


def window_products(
    padded: torch.Tensor, series: torch.Tensor, length: int, shift: torch.Tensor
) -> torch.Tensor:
    """Products of every window position with other series, summed over samples.

    Parameters
    ----------
    padded
        ``(samples + length - 1, features)``.
    series
        ``(samples, columns)``.
    shift
        What is taken off each column, ``(columns,)``; done here, where frames are in the cache.

    Returns
    -------
    torch.Tensor
        ``(length, features, columns)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.lagged import window_products
    >>> padded, series = torch.tensor([[0.0], [1.0], [2.0]]), torch.ones(2, 1)
    >>> window_products(padded, series, 2, torch.zeros(1)).flatten().round().tolist()
    [1.0, 3.0]
    """
    (n, columns), p = series.shape, padded.shape[1]
    size, step = _frame(n, length)
    bins = size // 2 + 1
    some = max(1, AT_ONCE // (bins * p))
    products = padded.new_empty(length, p, columns)
    for first in range(0, columns, some):
        part, less = series[:, first : first + some], shift[first : first + some]
        rows = step * max(FEWEST_FRAMES, IN_CACHE // (bins * (p + part.shape[1])))
        spectra = torch.zeros(bins, p, part.shape[1], dtype=series.dtype.to_complex(), device=part.device)
        for start in range(0, n, rows):
            ours = _spectra(padded[start : start + rows + length - 1], size, step, length)
            theirs = torch.fft.rfft(_cut(part[start : start + rows] - less, size, step))
            # conjugating the narrow factor turns time round, and costs nothing within the product
            spectra.baddbmm_(
                ours.permute(2, 0, 1).conj().resolve_conj().contiguous(), theirs.permute(2, 1, 0).contiguous()
            )
        turned = torch.fft.irfft(spectra.permute(1, 2, 0), size)
        products[0, :, first : first + some] = turned[..., 0]
        products[1:, :, first : first + some] = turned[..., size - length + 1 :].flip(-1).permute(2, 0, 1)
    return products


def block_toeplitz(column: torch.Tensor, padded: torch.Tensor, n: int) -> torch.Tensor:
    """The Gram matrix of a design of ``n`` rows from its first block column.

    Parameters
    ----------
    column
        Products of every position with the first, ``(length, features, features)``.
    padded
        The series, whose ends are what block diagonals differ by.

    Returns
    -------
    torch.Tensor
        ``(length · features)²``.
    """
    length, p, _ = column.shape
    gram = column.new_empty(length, p, length, p)
    head, tail = padded[: length - 1], padded[n:]
    for k in range(length):
        if k:
            gone, new = head[k - 1 :], tail[k - 1 :]
            column = column[:-1] + new[:, :, None] * tail[k - 1] - gone[:, :, None] * head[k - 1]
        gram[k:, :, k] = column
        gram[k, :, k:] = column.permute(2, 0, 1)
    return gram.reshape(length * p, length * p)


def convolve(padded: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The design times weights ``(length, features, targets)``, as short convolutions: ``(samples, targets)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.lagged import convolve
    >>> convolve(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[[1.0]], [[10.0]]])).round().tolist()
    [[10.0], [21.0]]
    """
    length = len(weights)
    n = len(padded) - length + 1
    size, step = _frame(n, length)
    ours = _spectra(padded, size, step, length).permute(2, 1, 0).contiguous()
    parts = []
    for columns in torch.split(weights, _columns(ours), dim=2):
        spectra = ours @ torch.fft.rfft(columns, size, dim=0).conj()
        frames = torch.fft.irfft(spectra.permute(2, 1, 0), size)[..., :step]
        parts.append(frames.reshape(columns.shape[2], -1)[:, :n].T)
    return torch.cat(parts, 1)


def _frame(n: int, length: int) -> tuple[int, int]:
    """Samples of a Fourier transform, and new samples in each: short runs are one frame."""
    whole = 1 << (n + length - 2).bit_length()
    size = min(whole, max(FRAME, 1 << (FRAMES_PER_WINDOW * length - 1).bit_length()))
    return size, size - length + 1


def _spectra(padded: torch.Tensor, size: int, step: int, length: int) -> torch.Tensor:
    """Spectra of frames of ``size`` samples that begin ``step`` samples apart, ``(features, frames, bins)``."""
    n = len(padded) - length + 1
    # transforms are several times faster along neighbours in memory
    frames = torch.nn.functional.pad(padded.T, (0, -n % step)).contiguous().unfold(1, size, step)
    spectra: torch.Tensor = torch.fft.rfft(frames)
    return spectra


def _cut(series: torch.Tensor, size: int, step: int) -> torch.Tensor:
    """Frames of ``step`` samples without overlap, and zeros up to ``size``: ``(columns, frames, size)``."""
    whole, rest = divmod(len(series), step)
    columns = series.shape[1]
    frames = series.new_zeros(columns, whole + (rest > 0), size)
    frames[:, :whole, :step] = series[: whole * step].T.reshape(columns, whole, step)
    if rest:
        frames[:, whole, :rest] = series[whole * step :].T
    return frames


def _means(x: torch.Tensor) -> torch.Tensor:
    """Means of columns; that of a constant column is exactly its value."""
    first = x[0]
    apart = torch.stack([(part - first).sum(0) for part in torch.split(x, BLOCK)])
    return first + apart.sum(0) / len(x)


def _columns(spectra: torch.Tensor) -> int:
    """Columns that fit into memory at a time beside spectra ``(bins, ..., ...)`` that are multiplied with theirs."""
    bins, rows, columns = spectra.shape
    return max(1, AT_ONCE // (bins * (rows + columns)))
