"""Figures of brain-likeness: layers by areas and by time, the order of layers, and scores over people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from .style import ACCENT, GRID, INK, MUTED, WARM, panels, score_label, sequential, short_names, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

#: values are written into the fields of matrices of up to so many
MOST_NUMBERS = 120


def plot_layer_matrix(matrix: xr.DataArray) -> Figure:
    """Draw the scores of layers by area or by time, the best layer of every area (or time of every layer) marked.

    Parameters
    ----------
    matrix
        ``model × area`` or ``model × time_bin``, as ``layer_by_area`` and ``layer_by_time`` give them.

    Returns
    -------
    matplotlib.figure.Figure
        Deeper layers are higher up.

    Raises
    ------
    ValueError
        If the array is neither.

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.plots.likeness import plot_layer_matrix
    >>> scores = {"model": ["conv1", "conv2"], "area": ["V1", "V4", "IT"]}
    >>> matrix = xr.DataArray([[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]], scores, ("model", "area"))
    >>> len(plot_layer_matrix(matrix).axes)
    2
    """
    if matrix.dims not in (("model", "area"), ("model", "time_bin")):
        raise ValueError(
            f"the matrix is {' × '.join(map(str, matrix.dims))}; give model × area or model × time_bin."
        )
    over_time = matrix.dims[1] == "time_bin"
    values = matrix.values
    names = short_names([str(name) for name in matrix["model"].values])
    with styled():
        width = 7.2 if over_time else max(3.4, 0.75 * matrix.shape[1] + 2.2)
        figure, (axis,) = panels(1, width=width, height=max(2.6, 0.34 * len(names) + 1.3))
        if over_time:
            edges = 1e3 * np.append(matrix["time_bin_start"].values, matrix["time_bin_end"].values[-1])
            image: ScalarMappable = axis.pcolormesh(
                edges, np.arange(len(names) + 1) - 0.5, values, cmap=sequential()
            )
            peaks = np.nanargmax(values, axis=1)
            axis.plot((edges[peaks] + edges[peaks + 1]) / 2, range(len(names)), "o-", color=WARM, ms=4, lw=1)
            axis.set_xlabel("time (ms)")
        else:
            image = axis.imshow(values, origin="lower", aspect="auto", cmap=sequential())
            axis.plot(
                range(values.shape[1]),
                np.nanargmax(values, axis=0),
                "s",
                mfc="none",
                mec=WARM,
                ms=20,
                mew=1.6,
            )
            axis.set_xticks(range(values.shape[1]), [str(area) for area in matrix["area"].values])
            if values.size <= MOST_NUMBERS:
                _numbers(axis, values)
        axis.set_yticks(range(len(names)), names)
        axis.tick_params(length=0)
        label = score_label(str(matrix.attrs.get("scoring", "score")))
        figure.colorbar(image, ax=axis, label=label.replace(" with ", "\nwith ").replace(" of ", "\nof "))
    return figure


def plot_order(table: xr.Dataset) -> Figure:
    """Draw the depth of layers against the place of areas, or against time, with their correlation.

    Parameters
    ----------
    table
        What ``spatial_score`` or ``temporal_score`` gave.

    Returns
    -------
    matplotlib.figure.Figure
        What no layer predicts, or what predicts nothing, is drawn hollow and not used.

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.plots.likeness import plot_order
    >>> points = {name: ("area", [0.0, 1.0, 2.0]) for name in ("depth", "position")}
    >>> table = xr.Dataset({**points, "used": ("area", [True] * 3)}, {"area": ["V1", "V4", "IT"]})
    >>> figure = plot_order(table.assign(correlation=1.0, low=0.9, high=1.0, p_order=1 / 3))
    >>> figure.axes[0].get_ylabel()
    'depth of the best layer'
    """
    spatial = "area" in table.dims
    along = table["position"].values if spatial else 1e3 * table["time"].values
    depth, used = table["depth"].values, table["used"].values
    names = table["area" if spatial else "model"].values
    with styled():
        figure, (axis,) = panels(1, width=4.6, height=3.6)
        slope, start = np.polyfit(along[used], depth[used], 1)
        ends = np.array([along[used].min(), along[used].max()])
        axis.plot(ends, slope * ends + start, color=GRID, lw=3, zorder=0)
        axis.plot(along[used], depth[used], "o", color=ACCENT, ms=7)
        axis.plot(along[~used], depth[~used], "o", mfc="none", mec=MUTED, ms=7)
        for x, y, name in zip(along, depth, short_names([str(name) for name in names]), strict=True):
            axis.annotate(
                name, (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=8, color=INK
            )
        axis.set_xlabel("position in the hierarchy" if spatial else "time of the highest score (ms)")
        axis.set_ylabel("depth of the best layer" if spatial else "depth of the layer")
        axis.margins(0.12, 0.16)
        r, low, high, p = (float(table[key]) for key in ("correlation", "low", "high", "p_order"))
        axis.set_title(f"r = {r:.2f} [{low:.2f}, {high:.2f}], p = {p:.3f}")
    return figure


def plot_group(group: xr.Dataset, by: str = "region") -> Figure:
    """Draw the mean over people of every model, people as dots, one panel a region.

    Parameters
    ----------
    group
        What ``group_statistics`` gave, with few places.
    by
        The label of places that makes the panels.

    Returns
    -------
    matplotlib.figure.Figure
        Bars are means with their standard error; a star stands over models with a family-wise p below 0.05.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> people = {}
    >>> for seed in range(3):
    ...     brain = neuro.simulate(n_stimuli=40, n_units=2, random_state=seed)
    ...     people[f"S{seed}"] = encoding.evaluate(encoding.RidgeCV(), brain, brain, cv=3)
    >>> group = encoding.group.group_statistics(people, by="neuroid_id")
    >>> len(encoding.plots.plot_group(group, by="neuroid_id").axes)
    2
    """
    if by not in group.coords:
        raise ValueError(f"the statistics have no label {by!r}; there are {sorted(map(str, group.coords))}.")
    models = short_names([str(name) for name in group["model"].values])
    positions = np.arange(len(models))
    with styled():
        figure, axes = panels(
            group.sizes["unit"], width=max(2.4, 0.5 * len(models) + 1.2), height=3.4, sharey=True
        )
        for place, axis in enumerate(axes):
            here = group.isel(unit=place)
            axis.bar(
                positions, here["mean"], yerr=here["sem"], color=ACCENT, width=0.62, ecolor=INK, alpha=0.85
            )
            for person in here["subject_scores"].values:
                axis.plot(positions, person, "o", color=INK, ms=3, alpha=0.45)
            axis.axhline(group.attrs.get("chance", 0.0), color=MUTED, lw=1, ls=":")
            top = np.nanmax(here["subject_scores"].values, axis=0)
            for x, y, p in zip(positions, top, here["p_max"].values, strict=True):
                if p < 0.05:
                    axis.annotate(
                        "*", (x, y), (0, 3), textcoords="offset points", ha="center", fontsize=14, color=WARM
                    )
            axis.set_xticks(positions, models, rotation=45, ha="right")
            axis.set_title(f"{here[by].values} ({int(here['n_subjects'].max())} people)")
            axis.margins(y=0.12)
        axes[0].set_ylabel(score_label(str(group.attrs.get("scoring", "score"))))
    return figure


def _numbers(axis: Axes, values: np.ndarray) -> None:
    """Write every value into its field, light on dark."""
    lowest, highest = np.nanmin(values), np.nanmax(values)
    for (row, column), value in np.ndenumerate(values):
        dark = value > (lowest + highest) / 2
        axis.text(
            column,
            row,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if dark else INK,
        )
