"""The figure of a variance partition: what every band explains, alone and together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ..results import bootstrap_interval
from .style import BAND, CYCLE, INK, MUTED, panels, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: quantities that a panel may show, by what their axis is called
QUANTITIES = {
    "unique": "share of the variance (of bands: unique)",
    "product": "share of the variance (product measure)",
    "r2": "explained variance of every set of bands",
    "venn": "share of the variance in each region",
}
#: from so many units their distribution is drawn too
VIOLINS = 8


def plot_partition(parts: xr.Dataset, show: str = "unique", by: str = "region") -> Figure:
    """Draw what every band (or set of bands) explains of held-out responses; one panel a region.

    Parameters
    ----------
    parts
        Of :func:`cerebridge.encoding.partition_variance`.
    show
        ``"unique"`` (with what is shared, and the total), ``"product"``, ``"r2"`` or ``"venn"``.
    by
        The label of units that makes the panels; without it there is one.

    Returns
    -------
    matplotlib.figure.Figure
        Bars are medians over units with a 95 % bootstrap interval over units; the shapes behind are the units'
        distribution. Of a single unit the bar has the interval of its own held-out rows.

    Raises
    ------
    ValueError
        If ``show`` is unknown or not in the partition.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> from cerebridge.encoding.plots.partition import plot_partition
    >>> X = np.random.default_rng(0).standard_normal((60, 4))
    >>> parts = encoding.partition_variance(encoding.RidgeCV(), X, X[:, :3], [slice(2), slice(2, 4)], bootstrap=20)
    >>> len(plot_partition(parts).axes)
    1
    """
    if show not in QUANTITIES or show not in parts:
        known = " or ".join(repr(name) for name in QUANTITIES if name in parts)
        raise ValueError(f"show={show!r} is not in this partition; use {known}.")
    names, values, ends = _columns(parts, show)
    labels = parts[by].values if by in parts.coords else np.zeros(parts.sizes["neuroid"])
    with styled():
        figure, axes = panels(
            len(pd.unique(labels)), width=max(3.2, 0.6 * len(names) + 1.4), height=3.4, columns=3, sharey=True
        )
        for axis, label in zip(axes, pd.unique(labels), strict=True):
            units = np.flatnonzero(labels == label)
            _bars(axis, values[:, units], None if ends is None else ends[:, :, units], _colours(names, parts))
            axis.set_xticks(range(len(names)), [wrapped(name, 14) for name in names])
            if max(map(len, names)) > 8:
                axis.tick_params(axis="x", labelrotation=35)
            count = f"{units.size} unit{'s' if units.size > 1 else ''}"
            axis.set_title(f"{label} ({count})" if by in parts.coords else count)
        axes[0].set_ylabel(QUANTITIES[show])
    return figure


def _columns(parts: xr.Dataset, show: str) -> tuple[list[str], NDArray[Any], NDArray[Any] | None]:
    """Names of bars, values (bars × units) and, where they were drawn, intervals (2 × bars × units)."""
    names = [str(name) for name in parts[parts[show].dims[0]].values]
    more = {"unique": ["shared", "total"], "product": ["total"]}.get(show, [])
    values = np.concatenate([parts[show].values, *(parts[name].values[None] for name in more)])
    if f"{show}_interval" not in parts:
        return [*names, *more], values, None
    rest = [parts[f"{name}_interval"].values[:, None] for name in more]
    return [*names, *more], values, np.concatenate([parts[f"{show}_interval"].values, *rest], axis=1)


def _colours(names: list[str], parts: xr.Dataset) -> list[str]:
    """A colour for each band, others for sets of several."""
    bands = [str(name) for name in parts["band"].values]
    several = {"total": BAND}
    return [
        CYCLE[bands.index(name) % len(CYCLE)] if name in bands else several.get(name, MUTED) for name in names
    ]


def _bars(axis: Axes, values: NDArray[Any], ends: NDArray[Any] | None, colours: list[str]) -> None:
    """Medians over units with intervals, before the distribution of the units."""
    for place, (of_units, colour) in enumerate(zip(values, colours, strict=True)):
        known = of_units[np.isfinite(of_units)]
        if not known.size:
            continue
        middle = float(np.median(known))
        if known.size >= VIOLINS and np.ptp(known) > 0:
            parts: Any = axis.violinplot(known, [place], widths=0.85, showextrema=False)
            parts["bodies"][0].set(facecolor=colour, alpha=0.25, edgecolor="none", zorder=1)
        else:
            axis.scatter(np.full(known.size, place), known, s=8, color=colour, alpha=0.5, zorder=3)
        axis.bar(place, middle, width=0.5, color=colour, zorder=2)
        low, high = bootstrap_interval(known)
        if known.size == 1 and ends is not None:
            low, high = ends[:, place, 0]
        if np.isfinite([low, high]).all():
            error = [[max(middle - low, 0)], [max(high - middle, 0)]]
            axis.errorbar(place, middle, error, fmt="none", ecolor=INK, capsize=3, zorder=4)
    axis.axhline(0, color=MUTED, linewidth=0.8, zorder=0)
