"""Figures of sparse dictionaries: how often features are on, what is explained, and what stays dark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from .style import ACCENT, CYCLE, GRID, MUTED, WARM, panels, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: colours of the parts of an error
PARTS = {"linear": ACCENT, "nonlinear": WARM}


def plot_dictionaries(reports: xr.Dataset | Mapping[str, xr.Dataset]) -> Figure:
    """Draw how often features are on, and explained variance against sparsity.

    Parameters
    ----------
    reports
        Of :meth:`cerebridge.models.decompose.SparseAutoencoder.report`, by name; or one.

    Returns
    -------
    matplotlib.figure.Figure
        Left a histogram of the features' frequencies, on a logarithmic axis; how many are never on is said in the
        legend. Right one dot a dictionary and selection: the more to the upper left, the better.

    Raises
    ------
    ValueError
        If a dataset is no such report.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.plots import plot_dictionaries
    >>> from cerebridge.models.decompose import SparseAutoencoder
    >>> x = np.random.default_rng(0).standard_normal((100, 4))
    >>> len(plot_dictionaries(SparseAutoencoder(8, k=2, max_epochs=1).fit(x).report(x)).axes)
    2
    """
    named = {"": reports} if isinstance(reports, xr.Dataset) else dict(reports)
    curves = {}
    for name, report in named.items():
        if not {"frequency", "explained_variance", "l0"} <= set(report.data_vars):
            raise ValueError(
                f"the dataset {name!r} has no frequency; give reports of SparseAutoencoder.report."
            )
        for selection in report["selection"].values.tolist():
            several = report.sizes["selection"] > 1
            label = ", ".join(filter(None, (name, f"by {selection}" if several else ""))) or "dictionary"
            curves[label] = report.sel(selection=selection)
    with styled():
        figure, (left, right) = panels(2, width=4.2, height=3.4)
        lowest = min(
            float(report["frequency"].where(report["frequency"] > 0).min()) for report in curves.values()
        )
        edges = np.logspace(np.log10(lowest) - 0.01, 0.01, 31).tolist()
        for number, (label, report) in enumerate(curves.items()):
            color = CYCLE[number % len(CYCLE)]
            dead = f"{label} ({float(report['dead_share']):.0%} never on)"
            left.hist(report["frequency"], edges, histtype="step", color=color, linewidth=1.6, label=dead)
            right.plot(report["l0"], report["explained_variance"], "o", color=color, label=label)
        left.set(xscale="log", xlabel="share of samples on which a feature is on", ylabel="features")
        left.legend(fontsize=8)
        right.set(xlabel="features that are on (L0)", ylabel="explained variance")
        right.grid(color=GRID)
        right.set_axisbelow(True)
        right.margins(0.15)
    return figure


def plot_dark_matter(report: xr.Dataset) -> Figure:
    """Draw what dictionaries leave unexplained, split into what is linear in the activations and what is not.

    Parameters
    ----------
    report
        Of :func:`cerebridge.models.decompose.report_dark_matter`.

    Returns
    -------
    matplotlib.figure.Figure
        Left the unexplained share of variance: bars of one dictionary, or courses over the width of several with
        their power laws. Right how well the error's norm is predicted on held-out samples, by the activations and by
        each baseline.

    Raises
    ------
    ValueError
        If the dataset is no such report.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.plots import plot_dark_matter
    >>> from cerebridge.models.decompose import report_dark_matter
    >>> x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0))
    >>> [axis.get_ylabel() for axis in plot_dark_matter(report_dark_matter(x, 0.9 * x)).axes]
    ['share of variance unexplained', 'explained variance of the error’s norm']
    """
    if not {"unexplained_linear", "r2_norm", "r2_baseline"} <= set(report.data_vars):
        raise ValueError("the dataset has no split of errors; make one with report_dark_matter.")
    with styled():
        figure, (left, right) = panels(2, width=4.2, height=3.4)
        if report.sizes["width"] == 1:
            _bars(left, report)
        else:
            _courses(left, report)
        left.set_ylabel("share of variance unexplained")
        names = ["activations", *report["baseline"].values.tolist()]
        last = report.isel(width=-1)
        scores = [float(last["r2_norm"]), *last["r2_baseline"].values.tolist()]
        right.bar(np.arange(len(names)), scores, color=[ACCENT, *[MUTED] * (len(names) - 1)], width=0.65)
        right.axhline(0, color=GRID, linewidth=1)
        right.set_xticks(
            np.arange(len(names)), [name.replace("_", " ") for name in names], rotation=30, ha="right"
        )
        right.set_ylabel("explained variance of the error’s norm")
    return figure


def _bars(axis: Axes, report: xr.Dataset) -> None:
    values = [float(report[f"unexplained_{part}"][0]) for part in PARTS]
    bars = axis.bar(list(PARTS), values, color=list(PARTS.values()), width=0.6)
    axis.bar_label(bars, [f"{value:.3f}" for value in values], fontsize=8, padding=2)
    axis.margins(y=0.12)


def _courses(axis: Axes, report: xr.Dataset) -> None:
    """Over width, on logarithmic axes, where power laws are lines."""
    width = report["width"].values.astype(float)
    center = np.exp(np.log(width).mean())
    for part, color in PARTS.items():
        sizes = report[f"unexplained_{part}"].values
        slope = float(report["exponent"].sel(part=part))
        axis.plot(width, sizes, "o", color=color, label=f"{part}: width$^{{{slope:.2f}}}$")
        if (sizes > 0).all():
            law = np.exp(np.log(sizes).mean()) * (width / center) ** slope
            axis.plot(width, law, color=color, linewidth=1.1)
    axis.set(xscale="log", yscale="log", xlabel="features of the dictionary")
    axis.set_xticks(width, [f"{int(each):,}" for each in width], minor=False)
    axis.xaxis.minorticks_off()
    axis.legend(fontsize=8)
