"""Figures of similarity over time: courses with their clusters, layer × time maps, time × time matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..results import Result
from .style import BAND, CYCLE, GRID, INK, MUTED, panels, score_label, short_names, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure


def plot_courses(
    result: Result,
    models: Sequence[str] | None = None,
    variable: str = "score",
    *,
    ceiling: bool = True,
) -> Figure:
    """Draw one line a model or region over time, with people's standard error and significant clusters below.

    Parameters
    ----------
    result
        Of ``rsa.infer_over_time`` or ``rsa.fuse``.
    models
        Which; default all.
    variable
        ``"score"``, or ``"commonality"`` of a fusion with models.
    ceiling
        Whether to draw the noise ceiling, which may lie far above the courses.

    Returns
    -------
    matplotlib.figure.Figure
        Bars below the courses are times in clusters with p below the level of the test; points are peaks of the mean
        with their interval over people. The grey band is the noise ceiling.

    Raises
    ------
    ValueError
        If there are no people and times, or no such model or variable.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> from cerebridge.encoding.plots.courses import plot_courses
    >>> features = np.random.default_rng(0).standard_normal((12, 5))
    >>> people = [neuro.simulate(features, "eeg", snr=5, random_state=k) for k in range(6)]
    >>> result = rsa.infer_over_time(rsa.rdm(neuro.simulate(features, "fmri", random_state=0)), people, random_state=0)
    >>> len(plot_courses(result).axes)
    1
    """
    cube, times = _cube(result, variable)
    names = [str(name) for name in result.dataset["model"].values]
    chosen = _chosen(names, models)
    dataset = result.dataset
    significant = dataset.get("significant" if variable == "score" else f"significant_{variable}")
    with styled():
        figure, (axis,) = panels(1, width=7.2, height=3.6)
        if ceiling and variable == "score" and "ceiling" in dataset:
            bounds = [
                dataset[name].values.reshape(cube.shape[0], -1).mean(0)
                for name in ("ceiling", "ceiling_upper")
            ]
            axis.fill_between(1e3 * times, *bounds, color=BAND, linewidth=0, zorder=0, label="noise ceiling")
        axis.axhline(0, color=MUTED, linestyle="--", linewidth=1, zorder=1)
        if times[0] < 0 < times[-1]:
            axis.axvline(0, color=GRID, linewidth=1.5, zorder=0)
        labels = short_names([names[k] for k in chosen])
        for place, (k, label) in enumerate(zip(chosen, labels, strict=True)):
            color = CYCLE[place % len(CYCLE)]
            _line(axis, times, cube[:, k], color, label)
            if variable == "score":
                _peak(axis, dataset.isel(model=k), cube[:, k].mean(0).max(), color)
        if significant is not None:
            _bars(axis, times, significant.values[chosen])
        axis.set_xlabel("time (ms)")
        axis.set_ylabel(
            score_label(str(dataset.attrs.get("scoring", "score")))
            if variable == "score"
            else f"{variable} (R²)"
        )
        axis.margins(x=0)
        handles, texts = axis.get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside upper left", ncols=6, fontsize=8)
    return figure


def plot_course_map(result: Result, variable: str = "score") -> Figure:
    """Draw layers (or regions) × time as a map, clusters outlined and the peak of each row marked.

    Parameters
    ----------
    result
        Of ``rsa.infer_over_time`` or ``rsa.fuse``; the first model is the lowest row.
    variable
        ``"score"``, or ``"commonality"`` of a fusion with models.

    Returns
    -------
    matplotlib.figure.Figure
        Means over people, white at 0.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> from cerebridge.encoding.plots.courses import plot_course_map
    >>> features = np.random.default_rng(0).standard_normal((12, 5))
    >>> people = [neuro.simulate(features, "eeg", snr=5, random_state=k) for k in range(6)]
    >>> layers = rsa.rdm(neuro.simulate({"one": features, "two": features}, "fmri", random_state=0), by="region")
    >>> len(plot_course_map(rsa.infer_over_time(layers, people, joint=True, random_state=0)).axes)
    2
    """
    cube, times = _cube(result, variable)
    dataset = result.dataset
    mean = cube.mean(0)
    names = short_names([str(name) for name in dataset["model"].values])
    edges = 1e3 * _edges(dataset)
    significant = dataset.get("significant" if variable == "score" else f"significant_{variable}")
    with styled():
        figure, (axis,) = panels(1, width=7.2, height=max(2.6, 0.34 * len(names) + 1.3))
        image = _image(axis, edges, np.arange(len(names) + 1) - 0.5, mean)
        if significant is not None:
            _outline(axis, edges, np.arange(len(names) + 1) - 0.5, significant.values)
        peaks = 1e3 * times[mean.argmax(axis=1)]
        axis.plot(peaks, range(len(names)), "o", color=INK, ms=4)
        axis.set_xlabel("time (ms)")
        axis.set_yticks(range(len(names)), names)
        axis.tick_params(length=0)
        label = (
            score_label(str(dataset.attrs.get("scoring", "score")))
            if variable == "score"
            else f"{variable} (R²)"
        )
        _colorbar(figure, image, axis, label)
    return figure


def plot_time_matrix(found: xr.Dataset) -> Figure:
    """Draw time × time maps of generalisation, clusters outlined, the diagonal dotted; one panel a model.

    Parameters
    ----------
    found
        Of ``rsa.generalise_over_time``.

    Returns
    -------
    matplotlib.figure.Figure
        Means over people, white at 0; all panels on one scale.

    Raises
    ------
    ValueError
        If there is no time × time map.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> from cerebridge.encoding.plots.courses import plot_time_matrix
    >>> features = np.random.default_rng(0).standard_normal((12, 5))
    >>> people = [neuro.simulate(features, "eeg", snr=5, random_state=k) for k in range(6)]
    >>> len(plot_time_matrix(rsa.generalise_over_time(people, window=0.05, step=0.05, random_state=0)).axes)
    2
    """
    if "score" not in found or found["score"].dims[1:] != ("model", "time", "time_other"):
        raise ValueError("there is no score over time × time; give what rsa.generalise_over_time returned.")
    mean = found["score"].mean("subject").values
    limit = float(np.nanmax(np.abs(mean))) or 1.0
    rows, columns = (1e3 * _borders(found[name].values) for name in ("time", "time_other"))
    patterns = "learned at" in str(found.attrs.get("compared", ""))
    with styled():
        figure, axes = panels(len(mean), width=3.9, height=3.3, columns=3)
        for axis, name, values, number in zip(
            axes, found["model"].values, mean, range(len(mean)), strict=True
        ):
            image = _image(axis, columns, rows, values, limit)
            if "significant" in found:
                _outline(axis, columns, rows, found["significant"].values[number])
            low, high = max(rows[0], columns[0]), min(rows[-1], columns[-1])
            axis.plot([low, high], [low, high], ":", color=MUTED, lw=1)
            for draw, edges in ((axis.axvline, columns), (axis.axhline, rows)):
                if edges[0] < 0 < edges[-1]:
                    draw(0, color=GRID, lw=1)
            axis.set_aspect("equal")
            axis.set_xlabel("measured at (ms)" if patterns else "time (ms)")
            axis.set_title(wrapped(str(name), 30))
        axes[0].set_ylabel("learned at (ms)" if patterns else "time (ms)")
        _colorbar(figure, image, axes, score_label(str(found.attrs.get("scoring", "score"))))
    return figure


def _cube(result: Result, variable: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """People × models × times, and the middles of times in seconds."""
    dataset = result.dataset
    if "subject" not in dataset.coords or "time" not in dataset.dims:
        raise ValueError("the result has no people and times; give that of rsa.infer_over_time or rsa.fuse.")
    if variable not in dataset or variable not in ("score", "commonality"):
        raise ValueError(
            f"the result has no {variable!r} over time; use 'score', or fuse with given= for 'commonality'."
        )
    values = dataset[variable].values.reshape(dataset.sizes["model"], -1, dataset.sizes["time"])
    return values.swapaxes(0, 1), dataset["time"].values


def _chosen(names: list[str], models: Sequence[str] | None) -> list[int]:
    if models is None:
        return list(range(len(names)))
    unknown = [name for name in models if name not in names]
    if unknown:
        raise ValueError(f"there is no model {unknown[0]!r}; there are {', '.join(map(repr, names))}.")
    return [names.index(name) for name in models]


def _line(axis: Axes, times: NDArray[Any], people: NDArray[Any], color: str, label: str) -> None:
    """Mean of people, and its standard error."""
    mean = people.mean(0)
    axis.plot(1e3 * times, mean, color=color, label=label, zorder=3)
    if len(people) > 1:
        error = people.std(0, ddof=1) / np.sqrt(len(people))
        axis.fill_between(
            1e3 * times, mean - error, mean + error, color=color, alpha=0.2, linewidth=0, zorder=2
        )


def _peak(axis: Axes, dataset: xr.Dataset, height: float, color: str) -> None:
    """When a course is highest, with its interval."""
    if not np.isfinite(dataset["peak"]):
        return
    when = 1e3 * float(dataset["peak"])
    ends = [1e3 * float(dataset[name]) if name in dataset else when for name in ("peak_low", "peak_high")]
    error = [[max(when - ends[0], 0.0)], [max(ends[1] - when, 0.0)]]
    axis.errorbar(
        when,
        height,
        xerr=error,
        fmt="o",
        ms=4.5,
        color=color,
        mec="white",
        mew=0.8,
        capsize=2,
        lw=1,
        zorder=4,
    )


def _bars(axis: Axes, times: NDArray[Any], significant: NDArray[Any]) -> None:
    """A row of bars below the courses for each model."""
    low, high = axis.get_ylim()
    edges = 1e3 * _borders(times)
    for place, row in enumerate(significant):
        level = low - 0.05 * (high - low) * (place + 0.6)
        steps = np.diff(np.r_[0, row.astype(int), 0])
        for begin, stop in zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True):
            color = CYCLE[place % len(CYCLE)]
            axis.plot(edges[[begin, stop]], [level, level], color=color, lw=3, solid_capstyle="butt")
    axis.set_ylim(low - 0.05 * (high - low) * (len(significant) + 0.4), high)


def _image(
    axis: Axes, columns: NDArray[Any], rows: NDArray[Any], values: NDArray[Any], limit: float | None = None
) -> ScalarMappable:
    limit = limit or float(np.nanmax(np.abs(values))) or 1.0
    return axis.pcolormesh(columns, rows, values, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True)


def _outline(axis: Axes, columns: NDArray[Any], rows: NDArray[Any], inside: NDArray[Any]) -> None:
    """Borders of a mask, along the edges of its cells."""
    from matplotlib.collections import LineCollection

    padded = np.pad(inside.astype(bool), 1)
    across, along = padded[1:-1, 1:] != padded[1:-1, :-1], padded[1:, 1:-1] != padded[:-1, 1:-1]
    lines = [[(columns[k], rows[r]), (columns[k], rows[r + 1])] for r, k in np.argwhere(across)]
    lines += [[(columns[k], rows[r]), (columns[k + 1], rows[r])] for r, k in np.argwhere(along)]
    axis.add_collection(LineCollection(lines, colors=INK, linewidths=1.1, capstyle="projecting"))


def _colorbar(figure: Figure, image: ScalarMappable, axes: Any, label: str) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02, label=label.replace(" of ", "\nof "))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)


def _edges(dataset: xr.Dataset) -> NDArray[Any]:
    return _borders(dataset["time"].values)


def _borders(middles: NDArray[Any]) -> NDArray[Any]:
    """Edges of cells around their middles."""
    if len(middles) == 1:
        return np.array([middles[0] - 5e-3, middles[0] + 5e-3])
    between = (middles[1:] + middles[:-1]) / 2
    return np.r_[2 * middles[0] - between[0], between, 2 * middles[-1] - between[-1]]
