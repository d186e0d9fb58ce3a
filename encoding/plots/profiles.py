"""Profiles of scores against the ceiling, comparisons, and courses over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ..results import Result, bootstrap_interval
from .style import (
    ACCENT,
    BAND,
    CYCLE,
    GRID,
    INK,
    MUTED,
    WARM,
    panels,
    score_label,
    short_names,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: at most so many units are drawn as dots
DOTS = 300


def plot_profile(result: Result, by: str = "region") -> Figure:
    """Draw the score of each model, in the order given, against ceiling and chance; one panel a region.

    Parameters
    ----------
    result
        Scores of encoders.
    by
        The label of units that makes the panels; without it there is one.

    Returns
    -------
    matplotlib.figure.Figure
        Points are medians over units with a 95 % bootstrap interval, faint dots are units, with their own intervals
        where these were estimated. Layers of one network are joined by a line. The grey band holds the middle half
        of the units' ceilings, its line their median.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> from cerebridge.encoding.plots import plot_profile
    >>> brain = neuro.simulate(n_stimuli=40, n_units=3, n_repeats=2, random_state=0)
    >>> figure = plot_profile(encoding.evaluate(encoding.RidgeCV(), {"itself": brain}, brain, cv=3))
    >>> len(figure.axes)
    1
    """
    table = result.summary(by)
    models = [str(name) for name in result.dataset["model"].values]
    labels = _labels(result, by)
    with styled():
        figure, axes = panels(
            len(pd.unique(labels)),
            width=max(3.2, 0.62 * len(models) + 1.2),
            height=3.6,
            columns=2,
            sharey=True,
        )
        for axis, label in zip(axes, pd.unique(labels), strict=True):
            units = np.flatnonzero(labels == label)
            rows = table[table[by] == label].set_index("model").loc[models]
            _dots(axis, result.unit_scores().values[:, units], limits=_limits(result, units))
            _reference_lines(axis, result, units)
            _medians(axis, models, rows)
            axis.set_title(
                _titled(label, units.size) if by in result.score.coords else _titled("", units.size)
            )
            _model_ticks(axis, models)
        axes[0].set_ylabel(score_label(str(result.dataset.attrs.get("scoring", "score"))))
        _legend(figure, axes[0])
    return figure


def plot_comparison(result: Result, by: str = "region") -> Figure:
    """Draw one bar a model with its units (subjects, matrices) as dots, and the noise ceiling as a band.

    Parameters
    ----------
    result
        Scores of comparisons or classifiers. ``ceiling`` and ``ceiling_upper`` (one a unit) bound the band; without
        the second, the first is a line.
    by
        The label of units that makes the panels; without it there is one.

    Returns
    -------
    matplotlib.figure.Figure
        Bars are means over units and splits, with a 95 % bootstrap interval over units where there are several,
        else over held-out rows if they were drawn again, else over splits.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(n_stimuli=40, n_units=3, n_repeats=2, random_state=0)
    >>> result = encoding.evaluate(encoding.RidgeCV(), {"itself": brain}, brain, cv=3)
    >>> len(encoding.plots.plot_comparison(result).axes)
    1
    """
    models = [str(name) for name in result.dataset["model"].values]
    labels = _labels(result, by)
    with styled():
        figure, axes = panels(
            len(pd.unique(labels)),
            width=max(3.4, 0.62 * len(models) + 1.4),
            height=3.6,
            columns=2,
            sharey=True,
        )
        for axis, label in zip(axes, pd.unique(labels), strict=True):
            units = np.flatnonzero(labels == label)
            _bars(axis, result.score.values[:, :, units], _limits(result, units))
            _reference_lines(axis, result, units)
            _model_ticks(axis, models)
            if by in result.score.coords:
                axis.set_title(wrapped(str(label)))
        axes[0].set_ylabel(score_label(str(result.dataset.attrs.get("scoring", "score"))))
        _legend(figure, axes[0])
    return figure


def plot_timecourse(courses: Result | xr.DataArray, ylabel: str | None = None) -> Figure:
    """Draw values over time, one line a model or row.

    Parameters
    ----------
    courses
        A result whose units carry ``time_bin_start`` (units of one time are averaged), or an array of
        lines × ``time_bin``, its other dimension's coordinate naming the lines.
    ylabel
        What is drawn; default the result's scoring.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.plots import plot_timecourse
    >>> time = {"time_bin_start": ("time_bin", [0.0, 0.1]), "time_bin_end": ("time_bin", [0.1, 0.2])}
    >>> len(plot_timecourse(xr.DataArray([[0.1, 0.2]], time, ("model", "time_bin")), "correlation").axes)
    1
    """
    times, lines, chance = _courses(courses)
    if ylabel is None:
        attrs = courses.dataset.attrs if isinstance(courses, Result) else courses.attrs
        ylabel = score_label(str(attrs.get("scoring", attrs.get("units", ""))))
    with styled():
        figure, (axis,) = panels(1, width=7.2, height=3.2)
        for number, (name, values) in enumerate(lines.items()):
            axis.plot(1000 * times, values, color=CYCLE[number % len(CYCLE)], label=name)
        axis.axhline(
            chance, color=MUTED, linestyle="--", linewidth=1, label="chance" if chance == chance else None
        )
        if times.min() < 0 < times.max():
            axis.axvline(0, color=GRID, linewidth=1.5, zorder=0)
        axis.set_xlabel("time (ms)")
        axis.set_ylabel(ylabel)
        axis.margins(x=0)
        _legend(figure, axis)
    return figure


def _courses(courses: Result | xr.DataArray) -> tuple[NDArray[Any], dict[str, NDArray[Any]], float]:
    """Middles of time bins in seconds, values of every line, and chance."""
    if isinstance(courses, xr.DataArray):
        array, chance = courses, float(courses.attrs.get("chance", np.nan))
    else:
        array, chance = courses.unit_scores(), float(courses.dataset.attrs.get("chance", np.nan))
    if "time_bin_start" not in array.coords:
        raise ValueError(
            "there is no 'time_bin_start' in what should be drawn over time; keep the time labels."
        )
    dim = str(array.coords["time_bin_start"].dims[0])
    middle = (array.coords["time_bin_start"].values + array.coords["time_bin_end"].values) / 2
    times, where = np.unique(middle, return_inverse=True)
    rows = array.transpose(..., dim)
    names = [""] if rows.ndim == 1 else [str(name) for name in rows.coords[rows.dims[0]].values]
    counts = np.bincount(where)
    values = np.atleast_2d(rows.values)
    means = [np.bincount(where, row) / counts for row in values]
    return times, dict(zip(short_names(names), means, strict=True)), chance


def _labels(result: Result, by: str) -> NDArray[Any]:
    if by in result.score.coords:
        return np.asarray(result.score.coords[by].values)
    return np.full(result.score.sizes["unit"], "all")


def _limits(result: Result, units: NDArray[Any]) -> NDArray[Any] | None:
    """Intervals of units, ends × models × units, where they were estimated."""
    if "score_low" not in result.dataset:
        return None
    return np.stack([result.dataset[name].values[:, units] for name in ("score_low", "score_high")])


def _titled(label: Any, n_units: int) -> str:
    """A region and how many units it has."""
    count = f"{n_units} unit{'' if n_units == 1 else 's'}"
    return f"{label} ({count})" if label else count


def _dots(axis: Axes, scores: NDArray[Any], above: bool = False, limits: NDArray[Any] | None = None) -> None:
    """Units as faint dots beside each model's place, the same sideways shift for a unit everywhere."""
    rng = np.random.default_rng(0)
    units = np.arange(scores.shape[1])
    if units.size > DOTS:
        units = np.sort(rng.choice(units, DOTS, replace=False))
    shift = rng.uniform(-0.16, 0.16, units.size)
    for place, row in enumerate(scores):
        axis.scatter(
            place + shift, row[units], s=5, color=MUTED, alpha=0.35, linewidths=0, zorder=3 if above else 1
        )
        if limits is not None:
            ends = limits[:, place, units]
            axis.vlines(place + shift, *ends, color=MUTED, alpha=0.25, linewidth=0.6, zorder=1)


def _bars(axis: Axes, scores: NDArray[Any], limits: NDArray[Any] | None = None) -> None:
    """Means with intervals, of models × splits × units."""
    place, by_unit = np.arange(len(scores)), scores.mean(axis=1)
    heights = np.nanmean(by_unit, axis=1)
    axis.bar(place, heights, color=ACCENT, width=0.62, zorder=2)
    sample = by_unit if by_unit.shape[1] > 1 else scores[:, :, 0]
    ends = np.array([bootstrap_interval(row, np.mean) for row in sample]).T
    if limits is not None and by_unit.shape[1] == 1:
        ends = limits[:, :, 0]
    if np.isfinite(ends).all():
        axis.errorbar(place, heights, np.abs(ends - heights), fmt="none", ecolor=INK, capsize=3, zorder=4)
    if by_unit.shape[1] > 1:
        _dots(axis, by_unit, above=True)


def _legend(figure: Figure, axis: Axes) -> None:
    """One legend above all panels."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=6, fontsize=8)


def _reference_lines(axis: Axes, result: Result, units: NDArray[Any]) -> None:
    """Noise ceiling and chance."""
    dataset = result.dataset
    if "ceiling_upper" in dataset:
        low, high = (float(dataset[name].values[units].mean()) for name in ("ceiling", "ceiling_upper"))
        if np.isfinite([low, high]).all():
            axis.axhspan(low, high, color=BAND, zorder=0, label="noise ceiling")
    elif "ceiling" in dataset:
        ceiling = dataset["ceiling"].values[units]
        if np.isfinite(ceiling).any():
            low, middle, high = np.nanquantile(ceiling, [0.25, 0.5, 0.75])
            axis.axhspan(low, high, color=BAND, zorder=0)
            axis.axhline(middle, color=MUTED, linewidth=1.2, zorder=1, label="noise ceiling")
    chance = float(dataset.attrs.get("chance", np.nan))
    if np.isfinite(chance):
        axis.axhline(chance, color=MUTED, linestyle="--", linewidth=1, zorder=1, label="chance")


def _medians(axis: Axes, models: list[str], rows: pd.DataFrame) -> None:
    """Medians with intervals; the best is marked, layers of one network are joined."""
    place = np.arange(len(models))
    score = rows["score"].to_numpy()
    errors = np.abs(np.stack([score - rows["low"], rows["high"] - score]))
    errors = np.where(np.isfinite(errors), errors, 0)
    networks = [name.split("/")[0] if "/" in name else None for name in models]
    for network in dict.fromkeys(name for name in networks if name is not None):
        own = [k for k, name in enumerate(networks) if name == network]
        axis.plot(place[own], score[own], color=ACCENT, zorder=4)
    best = int(np.nanargmax(score)) if np.isfinite(score).any() else -1
    for k in place:
        color = WARM if k == best else ACCENT
        label = "best" if k == best and len(models) > 1 else None
        axis.errorbar(
            k,
            score[k],
            errors[:, [k]],
            fmt="o",
            color=color,
            markersize=6,
            capsize=3,
            elinewidth=1.4,
            zorder=5,
            label=label,
        )


def _model_ticks(axis: Axes, models: list[str]) -> None:
    names = short_names(models)
    tilted = sum(map(len, names)) > 9 * len(names)
    axis.set_xticks(
        np.arange(len(models)), names, rotation=35 if tilted else 0, ha="right" if tilted else "center"
    )
    axis.set_xlim(-0.6, len(models) - 0.4)
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
