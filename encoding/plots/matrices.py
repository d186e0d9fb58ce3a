"""Figures of matrices: dissimilarities of stimuli, confusions of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .style import INK, MUTED, panels, sequential, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..results import Result


def plot_rdms(
    rdms: xr.DataArray, *, names: Sequence[str] | None = None, groups: Sequence[Any] | None = None
) -> Figure:
    """Draw dissimilarity matrices side by side.

    Parameters
    ----------
    rdms
        ``rdm × pair``, with ``stimulus_a`` and ``stimulus_b`` along ``pair``.
    names
        Title of each matrix; default ``neuroid_id``.
    groups
        For each stimulus, in order of first appearance among the pairs, what it belongs to: stimuli are sorted by it
        and groups are named along the side.

    Returns
    -------
    matplotlib.figure.Figure
        Every matrix has its own colour scale from its 1st to its 99th percentile, because units differ.

    Raises
    ------
    ValueError
        If the array is not ``rdm × pair`` or ``groups`` has another length than there are stimuli.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.plots import plot_rdms
    >>> pairs = {"stimulus_a": ["a", "a", "b"], "stimulus_b": ["b", "c", "c"]}
    >>> rdms = neuro.assemble([[1.0, 2.0, 3.0]], rdm={"neuroid_id": ["V4"]}, pair=pairs, modality="rdm", units="a.u.")
    >>> len(plot_rdms(rdms).axes)
    2
    """
    if rdms.dims != ("rdm", "pair"):
        raise ValueError(f"the dissimilarities are {' × '.join(map(str, rdms.dims))}; give rdm × pair.")
    stimuli, rows, columns = _places(rdms)
    if groups is not None and len(groups) != len(stimuli):
        raise ValueError(f"groups has {len(groups)} entries for {len(stimuli)} stimuli.")
    order = (
        np.arange(len(stimuli))
        if groups is None
        else np.argsort(pd.factorize(np.asarray(groups))[0], kind="stable")
    )
    titles = [str(name) for name in (rdms.coords["neuroid_id"].values if names is None else names)]
    with styled():
        figure, axes = panels(len(titles), width=2.9, height=2.7, columns=4)
        for axis, title, values in zip(axes, titles, rdms.values, strict=True):
            square = np.full((len(stimuli), len(stimuli)), np.nan)
            square[rows, columns] = square[columns, rows] = values
            low, high = np.nanquantile(values, [0.01, 0.99]) if np.isfinite(values).any() else (0.0, 1.0)
            picture = axis.imshow(
                square[np.ix_(order, order)], cmap=sequential(), vmin=low, vmax=high, interpolation="nearest"
            )
            axis.set_title(wrapped(title, 28), fontsize=9)
            _group_ticks(axis, None if groups is None else np.asarray(groups)[order], first=axis is axes[0])
            bar = figure.colorbar(picture, ax=axis, shrink=0.75, pad=0.03)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=7, length=2)
    return figure


def plot_confusion(result: Result, model: str | None = None) -> Figure:
    """Draw what was taken for what, as shares of each true class.

    Parameters
    ----------
    result
        Of a classifier, with the variable ``confusion`` (model × true × predicted).
    model
        Which model; default all, one panel each.

    Raises
    ------
    ValueError
        If the result has no confusions.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> result = encoding.evaluate(encoding.ShrinkageLDA(), rng.standard_normal((40, 3)), np.arange(40) % 2, cv=4)
    >>> len(encoding.plots.plot_confusion(result).axes[0].images)
    1
    """
    if "confusion" not in result.dataset:
        raise ValueError("this result has no confusions; evaluate a classifier by accuracy.")
    confusion = result.dataset["confusion"]
    models = [str(name) for name in confusion.coords["model"].values] if model is None else [model]
    classes = [str(name) for name in confusion.coords["true"].values]
    side = 1.5 + 0.42 * max(len(classes), 3)
    with styled():
        figure, axes = panels(len(models), width=side + 0.4, height=side, columns=3)
        for axis, name in zip(axes, models, strict=True):
            counts = confusion.sel(model=name).values
            share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axis.imshow(share, cmap=sequential(), vmin=0, vmax=1)
            for row, column in np.ndindex(share.shape):
                color = "white" if share[row, column] > 0.5 else INK if share[row, column] >= 0.05 else MUTED
                axis.text(
                    column,
                    row,
                    f"{100 * share[row, column]:.0f}",
                    ha="center",
                    va="center",
                    color=color,
                    fontsize=8,
                )
            axis.set_xticks(range(len(classes)), classes, rotation=40, ha="right")
            axis.set_yticks(range(len(classes)), classes)
            axis.set_xlabel("predicted (% of true)")
            axis.set_ylabel("true")
            if len(models) > 1:
                axis.set_title(wrapped(name, 24))
            axis.tick_params(length=0)
            for spine in axis.spines.values():
                spine.set_visible(False)
    return figure


def _places(rdms: xr.DataArray) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """Stimuli in order of appearance, and row and column of every pair."""
    a, b = rdms.coords["stimulus_a"].values, rdms.coords["stimulus_b"].values
    codes, stimuli = pd.factorize(np.concatenate([a, b]))
    return np.asarray(stimuli), codes[: len(a)], codes[len(a) :]


def _group_ticks(axis: Axes, groups: NDArray[Any] | None, first: bool) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    if groups is None:
        return
    borders = np.flatnonzero(groups[1:] != groups[:-1]) + 0.5
    for border in borders:
        axis.axhline(border, color="white", linewidth=0.7)
        axis.axvline(border, color="white", linewidth=0.7)
    if first:
        edges = np.r_[-0.5, borders, len(groups) - 0.5]
        middles = (edges[1:] + edges[:-1]) / 2
        names = [str(groups[int(middle)]) for middle in np.floor(middles)]
        axis.set_yticks(middles, names, fontsize=7)
        axis.tick_params(axis="y", length=0)
