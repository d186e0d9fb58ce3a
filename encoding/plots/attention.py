"""Figure of attention decoding: accuracy by the length of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from .style import ACCENT, INK, MUTED, panels, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_attention(found: xr.Dataset) -> Figure:
    """Draw the share of windows that are decided rightly against their length, trials as dots.

    Parameters
    ----------
    found
        ``score`` (model × trial × window) with ``window`` in seconds, ``shifted`` and ``p``.

    Returns
    -------
    matplotlib.figure.Figure
        The line joins means over trials, the dotted line is chance, the grey line what rotated talkers give; filled
        points have p below 0.05.

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.plots import plot_attention
    >>> score = (("model", "split", "unit"), [[[0.6, 0.8], [0.7, 1.0]]])
    >>> data = {"score": score, "shifted": ("unit", [0.5, 0.5]), "p": (("model", "unit"), [[0.2, 0.01]])}
    >>> plot_attention(xr.Dataset(data, {"window": ("unit", [1.0, 10.0])})).axes[0].get_xlabel()
    'window (s)'
    """
    windows = found["window"].values
    score, p = found["score"].values[0], found["p"].values[0]
    means = np.nanmean(score, axis=0)
    with styled():
        figure, (axis,) = panels(1, width=4.6, height=3.4)
        axis.axhline(0.5, color=MUTED, lw=1, ls=":")
        axis.plot(windows, found["shifted"].values, color=MUTED, lw=1, label="rotated talkers")
        for trial in score:
            axis.plot(windows, trial, "o", color=INK, ms=3, alpha=0.4)
        axis.plot(windows, means, color=ACCENT, label="mean over trials")
        for window, mean, is_significant in zip(windows, means, p < 0.05, strict=True):
            axis.plot(window, mean, "o", color=ACCENT, ms=7, mfc=ACCENT if is_significant else "white")
        axis.set_xscale("log")
        axis.set_xticks(windows, [f"{window:g}" for window in windows])
        axis.minorticks_off()
        axis.set_xlabel("window (s)")
        axis.set_ylabel("share of windows decided rightly")
        axis.legend(loc="lower right", fontsize=8)
    return figure
