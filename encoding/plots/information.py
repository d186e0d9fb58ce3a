"""Figures of what layers know: the information plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from .style import CYCLE, GRID, INK, MUTED, panels, sequential, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: lines of layers whose colours come again
LINES = ("-", "--", ":")
#: so many layers have their legend within the axes
FEW_LAYERS = 5


def plot_information_plane(plane: xr.Dataset, curve: xr.Dataset | None = None) -> Figure:
    """Draw the way of every layer through the information plane.

    Parameters
    ----------
    plane
        ``I_XT`` and ``I_TY`` of ``layer × epoch``.
    curve
        Their bound along ``beta``, of :func:`cerebridge.encoding.information.bottleneck_curve`.

    Returns
    -------
    matplotlib.figure.Figure
        One line a layer; dots are epochs, from light to dark. Open dots are saturated
        estimates.

    Raises
    ------
    ValueError
        If ``plane`` has no ``I_XT`` and ``I_TY`` of ``layer × epoch``.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import information
    >>> from cerebridge.encoding.plots import plot_information_plane
    >>> layer = np.repeat([[-0.5], [0.5]], 20, axis=0)
    >>> plane = information.information_plane({0: {"hidden": 0 * layer}, 1: {"hidden": layer}}, layer[:, 0] > 0)
    >>> plot_information_plane(plane).axes[0].get_xlabel()
    'I(X;T) in bits'
    """
    if not {"I_XT", "I_TY"} <= set(plane.data_vars) or set(plane["I_XT"].dims) != {"layer", "epoch"}:
        raise ValueError(
            "the dataset has no I_XT and I_TY of layer × epoch; make one with information_plane."
        )
    known = plane[["I_XT", "I_TY"]].transpose("layer", "epoch")
    saturated = plane["saturated"].transpose("layer", "epoch").values if "saturated" in plane else None
    shade = np.linspace(0.15, 1, plane.sizes["epoch"])
    with styled():
        figure, (axis,) = panels(1, width=5.6, height=4.2)
        if curve is not None:
            # from nothing known to all that the label can give, which more on the input does not raise
            order = np.argsort(curve["I_XT"].values)
            x = np.r_[
                0, curve["I_XT"].values[order], max(float(known["I_XT"].max()), float(curve["I_XT"].max()))
            ]
            y = np.r_[0, curve["I_TY"].values[order], float(curve["I_TY"].max())]
            axis.plot(x, y, color=MUTED, linewidth=1.2, linestyle="--", zorder=1, label="bottleneck")
            axis.fill_between(x, y, color=GRID, alpha=0.5, zorder=0, linewidth=0)
        for k, name in enumerate(known["layer"].values):
            x, y = (known[variable].values[k] for variable in ("I_XT", "I_TY"))
            color = CYCLE[k % len(CYCLE)]
            line = LINES[k // len(CYCLE) % len(LINES)]
            axis.plot(x, y, line, color=color, linewidth=1.2, alpha=0.8, zorder=2, label=str(name))
            dots = axis.scatter(x, y, c=shade, cmap=sequential(), vmin=0, vmax=1, s=26, zorder=3)
            dots.set_edgecolor(color)
            dots.set_linewidth(1.1)
            if saturated is not None:
                axis.scatter(x[saturated[k]], y[saturated[k]], s=26, color="white", edgecolor=color, zorder=4)
        axis.set_xlabel("I(X;T) in bits")
        axis.set_ylabel("I(T;Y) in bits")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        if plane.sizes["layer"] > FEW_LAYERS:
            figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        else:
            axis.legend(loc="lower right", fontsize=8)
        bar = figure.colorbar(dots, ax=axis, shrink=0.7, pad=0.02)
        bar.set_ticks([shade[0], 1], labels=[str(plane["epoch"].values[end]) for end in (0, -1)])
        bar.set_label("epoch", color=INK)
        bar.ax.set_ylim(shade[0], 1)
        bar.outline.set_visible(False)
    return figure
