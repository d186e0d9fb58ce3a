"""Figure of attention decoding: accuracy by the length of the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from .style import ACCENT, INK, MUTED, panels, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_attention(found: xr.Dataset) -> Figure:
    """Draw the share of windows that are decided rightly against their length, trials as dots.

    Parameters
    ----------
    found
        What :func:`cerebridge.encoding.decode_attention` gave.

    Returns
    -------
    matplotlib.figure.Figure
        The line joins accuracies, the grey line what rotated talkers give, the dotted line is a half; filled points
        have p below 0.05.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> heard, ignored = rng.standard_normal((2, 4, 640))
    >>> brain = np.roll(heard, 6, axis=1)[:, :, None] + rng.standard_normal((4, 640, 8))
    >>> found = encoding.decode_attention(brain, heard, ignored, 64.0, alphas=1.0, windows=[1.0, 5.0], n_shifts=20)
    >>> encoding.plots.plot_attention(found).axes[0].get_xlabel()
    'window (s)'
    """
    windows = found["window"].values
    accuracy, p = found["accuracy"].values, found["p"].values
    with styled():
        figure, (axis,) = panels(1, width=4.6, height=3.4)
        axis.axhline(0.5, color=MUTED, lw=1, ls=":")
        axis.plot(windows, found["chance"].values, color=MUTED, lw=1, label="rotated talkers")
        for trial in found["trial_accuracy"].values:
            axis.plot(windows, trial, "o", color=INK, ms=3, alpha=0.4)
        axis.plot(windows, accuracy, color=ACCENT, label="all windows")
        for window, mean, is_significant in zip(windows, accuracy, p < 0.05, strict=True):
            axis.plot(window, mean, "o", color=ACCENT, ms=7, mfc=ACCENT if is_significant else "white")
        axis.set_xscale("log")
        axis.set_xticks(windows, [f"{window:g}" for window in windows])
        axis.minorticks_off()
        axis.set_xlabel("window (s)")
        axis.set_ylabel("share of windows decided rightly")
        axis.legend(loc="lower right", fontsize=8)
    return figure
