"""Filters of the past: short causal convolutions that never look over a border."""

from __future__ import annotations

import torch
from torch.nn.functional import conv1d


def convolve_past(x: torch.Tensor, kernel: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Weigh the samples before each sample, up to the last border, beyond which everything counts as 0.

    Parameters
    ----------
    x
        ``(samples, sources)``.
    kernel
        ``(lags, filters)``; the first row weighs the sample just before.
    starts
        Sorted positions of first samples after a border; the first is 0.

    Returns
    -------
    torch.Tensor
        ``(samples, sources, filters)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.convolution import convolve_past
    >>> x, kernel = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [0.5]])
    >>> convolve_past(x, kernel, torch.tensor([0]))[:, 0, 0].tolist()
    [0.0, 1.0, 2.5]
    >>> convolve_past(x, kernel, torch.tensor([0, 2]))[:, 0, 0].tolist()
    [0.0, 1.0, 0.0]
    """
    lags = len(kernel)
    # zeros before every stretch, so that one convolution serves them all
    stretch = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    stretch[starts] = 1
    positions = torch.arange(len(x), device=x.device) + lags * stretch.cumsum(0)
    padded = x.new_zeros(x.shape[1], 1, int(positions[-1]) + 1)
    padded[:, 0, positions] = x.T
    filtered = conv1d(padded, kernel.flip(0).T[:, None].to(x.dtype))
    return filtered[:, :, positions - lags].permute(2, 0, 1)
