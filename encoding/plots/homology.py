"""Barcodes and diagrams of persistent homology."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .style import CYCLE, MUTED, panels, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..rsa.homology import Persistence

#: most bars of one dimension in a barcode; those left out are the shortest
MOST_BARS = 40


def plot_persistence(persistence: Persistence) -> Figure:
    """Draw the barcode and the persistence diagram of every RDM side by side.

    Parameters
    ----------
    persistence
        From :func:`cerebridge.encoding.rsa.persistent_homology`.

    Returns
    -------
    matplotlib.figure.Figure
        One row an RDM. Bars that never end run to the margin; of each dimension the longest 40 are drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import rsa
    >>> from cerebridge.encoding.plots.homology import plot_persistence
    >>> len(plot_persistence(rsa.persistent_homology(np.eye(4))).axes)
    2
    """
    bars = persistence.bars
    names = list(dict.fromkeys(bars["neuroid_id"].values.tolist()))
    with styled():
        figure, axes = panels(2 * len(names), width=3.4, height=2.9, columns=2)
        for k, name in enumerate(names):
            here = bars.isel(bar=np.flatnonzero(bars["neuroid_id"].values == name))
            birth, death = here["birth"].values, here["death"].values
            known = np.concatenate([birth, death[np.isfinite(death)]])
            margin = 1.08 * known.max() if known.max() > 0 else 1.0
            ends = np.where(np.isfinite(death), death, margin)
            barcode, diagram = axes[2 * k], axes[2 * k + 1]
            height = 0
            for dimension in np.unique(here["dimension"].values):
                rows = np.flatnonzero(here["dimension"].values == dimension)
                color = CYCLE[int(dimension) % len(CYCLE)]
                longest = rows[np.argsort(birth[rows] - ends[rows], kind="stable")][:MOST_BARS]
                order = longest[np.argsort(birth[longest], kind="stable")]
                heights = height + np.arange(len(order))
                barcode.hlines(heights, birth[order], ends[order], color=color, linewidth=1.4)
                diagram.scatter(birth[rows], ends[rows], s=14, color=color, label=f"H{dimension}", alpha=0.8)
                height += len(order) + 2
            barcode.set_yticks([])
            barcode.set_xlim(0, margin)
            barcode.set_xlabel("distance")
            barcode.set_title(wrapped(str(name), 28))
            diagram.plot([0, margin], [0, margin], color=MUTED, linewidth=0.8)
            diagram.axhline(margin, color=MUTED, linewidth=0.8, linestyle=":")
            diagram.set_xlabel("birth")
            diagram.set_ylabel("death")
            diagram.set_aspect("equal")
            diagram.legend(loc="lower right")
    return figure
