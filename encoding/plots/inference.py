"""Figures of models tested on the RDMs of people: scores, noise ceiling, and which model is better than which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..results import Result
from ..significance import false_discovery_rate
from .style import ACCENT, BAND, GRID, INK, MUTED, WARM, short_names, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: more models than that are drawn as rows, with a matrix of their differences
MOST_BARS = 12
#: more people than that are no longer drawn one by one beside rows
MOST_DOTS = 30


@dataclass(frozen=True)
class _Scores:
    """What is drawn, models in the order in which they are drawn."""

    names: list[str]
    mean: NDArray[Any]
    limits: NDArray[Any] | None
    people: NDArray[Any]
    ceiling: tuple[float, float] | None
    above_chance: NDArray[np.bool_] | None
    at_ceiling: NDArray[np.bool_] | None
    better: NDArray[np.bool_] | None
    chance: float


def plot_inference(result: Result, *, sort: bool | None = None, alpha: float = 0.05) -> Figure:
    """Draw how similar models are to people, against the noise ceiling, with tests of models and of pairs of models.

    Parameters
    ----------
    result
        What ``rsa.infer``, ``rsa.crossvalidate`` or the like gave; intervals and tests are drawn if it was resampled.
    sort
        Best models first; default only where there are more than twelve models.
    alpha
        Level below which a corrected p-value counts as evidence.

    Returns
    -------
    matplotlib.figure.Figure
        Up to twelve models are bars: the mean over people, who are dots, with its 95 % interval. A star says that
        the mean is above chance, a diamond on the noise ceiling that the model is not below it (false discovery
        rate over models). Above the bars, one line for each model that is better than others: a dot on the
        model, ticks down to those it is better than (false discovery rate over pairs). More models are rows, with
        the same marks and a matrix of the differences between pairs, those without evidence left out.

    References
    ----------
    Nili et al. (2014), PLoS Comput Biol 10, for bars with ceilings; Golan, Raju & Kriegeskorte (2020), PNAS 117, for
    the lines of dominance.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import plots, rsa
    >>> brain = neuro.simulate(n_stimuli=12, n_units=30, random_state=0)
    >>> people = rsa.rdm(brain.assign_coords(subject=("neuroid", [0, 1, 2] * 10)), by="subject")
    >>> figure = plots.plot_inference(rsa.infer({"all": rsa.rdm(brain)}, people))
    >>> figure.axes[0].get_ylabel()
    'similarity to people (rho-a)'
    """
    n = result.dataset.sizes["model"]
    scores = _gathered(result.dataset, n > MOST_BARS if sort is None else sort, alpha)
    label = f"similarity to people ({result.dataset.attrs.get('scoring', 'score')})"
    with styled():
        figure = _bars(scores, label) if n <= MOST_BARS else _rows(scores, label)
        caption = _caption(result.dataset, scores, alpha)
        figure.supxlabel(
            wrapped(caption, int(17 * figure.get_figwidth())), fontsize=7.5, color=MUTED, x=0.02, ha="left"
        )
    return figure


def _gathered(dataset: xr.Dataset, sort: bool, alpha: float) -> _Scores:
    people = dataset["score"].mean("split").values
    mean = dataset["mean"].values if "mean" in dataset else people.mean(axis=1)
    order = np.argsort(-mean, kind="stable") if sort else np.arange(len(mean))
    tested: dict[str, Any] = dict.fromkeys(("limits", "above_chance", "at_ceiling", "better"))
    if "mean_low" in dataset:
        tested["limits"] = np.stack([dataset["mean_low"].values, dataset["mean_high"].values])[:, order]
    for name in ("p_zero", "p_group"):
        if name in dataset:
            tested["above_chance"] = (false_discovery_rate(dataset[name].values) < alpha)[order]
            break
    ceiling = None
    if "ceiling" in dataset:
        lower = dataset["ceiling"].values.mean()
        ceiling = (float(lower), float(dataset.get("ceiling_upper", dataset["ceiling"]).values.mean()))
        if "p_ceiling" in dataset:
            below = false_discovery_rate(dataset["p_ceiling"].values) < alpha
            tested["at_ceiling"] = (~below | (mean >= lower))[order]
    if "p_pair_fdr" in dataset:
        certain = np.nan_to_num(dataset["p_pair_fdr"].values, nan=1.0) < alpha
        tested["better"] = (certain & (mean[:, None] > mean))[np.ix_(order, order)]
    names = short_names([str(name) for name in dataset["model"].values[order]])
    chance = float(dataset.attrs.get("chance", 0.0))
    return _Scores(names, mean[order], people=people[order], ceiling=ceiling, chance=chance, **tested)


def _bars(scores: _Scores, label: str) -> Figure:
    from matplotlib.figure import Figure

    n = len(scores.names)
    places = np.arange(n)
    better = np.zeros((n, n), dtype=bool) if scores.better is None else scores.better
    dominant = np.flatnonzero(better.any(axis=1)).tolist()
    above = 0.16 * len(dominant) + 0.1 if dominant else 0.0
    figure = Figure(figsize=(max(3.6, 0.62 * n + 1.3), 4.4 + above), layout="constrained")
    if dominant:
        upper, axis = figure.subplots(2, 1, sharex=True, height_ratios=[above, 3.4])
        _wings(upper, better, dominant)
    else:
        axis = figure.subplots()
    axis.bar(places, scores.mean, width=0.64, color=ACCENT, alpha=0.85, zorder=1)
    _people(axis, scores, places)
    if scores.limits is not None:
        axis.vlines(places, *scores.limits, color=INK, lw=1.8, zorder=4)
    top = _tops(scores)
    _band(axis, scores, vertical=True)
    _marks(axis, scores, places, top, vertical=True)
    # one or two bars are not drawn wider than those of many
    axis.set_xlim((n - 1) / 2 - max(n, 3) / 2 - 0.1, (n - 1) / 2 + max(n, 3) / 2 + 0.1)
    axis.set_xticks(places, scores.names, rotation=40, ha="right", rotation_mode="anchor")
    axis.tick_params(axis="x", length=0)
    axis.set_ylabel(label)
    axis.margins(y=0.06)
    return figure


def _rows(scores: _Scores, label: str) -> Figure:
    from matplotlib.figure import Figure

    n = len(scores.names)
    places = np.arange(n)
    height = 0.155 * n + 1.5
    side = min(0.155 * n, 6.5)
    with_matrix = scores.better is not None
    figure = Figure(figsize=(5.4 + (side + 0.4) * with_matrix, height), layout="constrained")
    if with_matrix:
        axis, matrix = figure.subplots(1, 2, sharey=True, width_ratios=[4.6, side])
        _differences(figure, matrix, scores)
    else:
        axis = figure.subplots()
    if scores.people.shape[1] <= MOST_DOTS:
        for place, people in zip(places, scores.people, strict=True):
            axis.plot(people, np.full(people.shape, place), "o", color=MUTED, ms=1.8, alpha=0.5, mew=0)
    if scores.limits is not None:
        axis.hlines(places, *scores.limits, color=ACCENT, lw=1.4, zorder=3)
    axis.plot(scores.mean, places, "o", color=ACCENT, ms=4, zorder=4)
    _band(axis, scores, vertical=False)
    _marks(axis, scores, places, _tops(scores), vertical=False)
    axis.set_yticks(places, scores.names, fontsize=7)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", color=GRID, lw=0.5)
    axis.set_axisbelow(True)
    axis.set_ylim(n - 0.4, -0.6)
    axis.set_xlabel(label)
    return figure


def _people(axis: Axes, scores: _Scores, places: NDArray[Any]) -> None:
    """People as dots, each at the same distance from the middle of every bar."""
    n = scores.people.shape[1]
    shift = np.linspace(-0.2, 0.2, n) if n > 1 else np.zeros(1)
    for place, people in zip(places, scores.people, strict=True):
        axis.plot(place + shift, people, "o", color=INK, ms=2.6, alpha=0.45, mew=0, zorder=3)


def _tops(scores: _Scores) -> NDArray[Any]:
    """Where a mark above everything that is drawn of a model has its place."""
    top = np.maximum(scores.people.max(axis=1), scores.mean)
    return top if scores.limits is None else np.maximum(top, scores.limits[1])


def _band(axis: Axes, scores: _Scores, vertical: bool) -> None:
    line, span = (axis.axhline, axis.axhspan) if vertical else (axis.axvline, axis.axvspan)
    line(scores.chance, color=MUTED, lw=0.9, zorder=2)
    if scores.ceiling is not None:
        low, high = scores.ceiling
        span(low, high, color=BAND, zorder=0, lw=0)
        line(low, color=MUTED, lw=0.7, zorder=0)


def _marks(axis: Axes, scores: _Scores, places: NDArray[Any], top: NDArray[Any], vertical: bool) -> None:
    """Stars over models above chance, diamonds on the ceiling of those that are not below it."""
    if scores.above_chance is not None:
        for place, here in zip(places[scores.above_chance], top[scores.above_chance], strict=True):
            point, shift = ((place, here), (0, 1)) if vertical else ((here, place), (3, -4.5))
            style: dict[str, Any] = {"ha": "center"} if vertical else {"ha": "left"}
            axis.annotate(
                "*",
                point,
                shift,
                textcoords="offset points",
                fontsize=12 if vertical else 9,
                color=INK,
                **style,
            )
    if scores.at_ceiling is not None and scores.ceiling is not None:
        chosen = places[scores.at_ceiling]
        level = np.full(len(chosen), scores.ceiling[0])
        x, y = (chosen, level) if vertical else (level, chosen)
        axis.plot(x, y, "D", color=WARM, ms=5 if vertical else 3.5, mec="white", mew=0.6, zorder=5)


def _wings(axis: Axes, better: NDArray[np.bool_], dominant: list[Any]) -> None:
    """One line a model that is better than others, with ticks down to those."""
    for row, model in enumerate(reversed(dominant)):
        worse = np.flatnonzero(better[model])
        axis.hlines(row, min(worse.min(), model), max(worse.max(), model), color=INK, lw=1)
        axis.vlines(worse, row - 0.38, row, color=INK, lw=1)
        axis.plot(model, row, "o", color=ACCENT, ms=5, zorder=3)
    axis.set_ylim(-0.7, len(dominant) - 0.3)
    axis.set_axis_off()


def _differences(figure: Figure, axis: Axes, scores: _Scores) -> None:
    """Differences of all pairs of models, where there is evidence for one."""
    assert scores.better is not None
    difference = scores.mean[:, None] - scores.mean
    known = scores.better | scores.better.T
    largest = np.abs(difference).max() or 1.0
    picture = axis.imshow(
        np.where(known, difference, np.nan), cmap="PuOr_r", vmin=-largest, vmax=largest, aspect="auto"
    )
    axis.set_facecolor(GRID)
    axis.tick_params(length=0, labelleft=False)
    axis.set_xticks([])
    axis.set_xlabel("the same models, in the same order")
    for spine in axis.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(picture, ax=axis, shrink=0.5, aspect=30, pad=0.02, label="row less column")
    bar.outline.set_visible(False)


def _caption(dataset: xr.Dataset, scores: _Scores, alpha: float) -> str:
    """What the marks mean; only of those that are there."""
    n = scores.people.shape[1]
    people = f"{n} RDM{'s' * (n > 1)} of people"
    parts = [f"dots: {people}" if n <= MOST_DOTS or len(scores.names) <= MOST_BARS else people]
    if scores.limits is not None:
        over = {"both": "people and stimuli", "subjects": "people", "conditions": "stimuli"}
        resampled = str(dataset.attrs.get("resample", "both"))
        parts.append(f"lines: 95 % intervals over {over.get(resampled, resampled)}")
    if scores.ceiling is not None:
        parts.append("grey band: noise ceiling")
    if scores.at_ceiling is not None:
        parts.append("diamond: not below it" if scores.at_ceiling.any() else "all are below it")
    if scores.above_chance is not None:
        some = scores.above_chance.any()
        parts.append(f"*: above {scores.chance:g}" if some else f"none is above {scores.chance:g}")
    if scores.better is not None and len(scores.names) > MOST_BARS:
        parts.append("matrix: differences with evidence, grey without")
    elif scores.better is not None and len(scores.names) > 1:
        some = scores.better.any()
        parts.append("lines above: better (dot) than (ticks)" if some else "none is better than another")
    tested = scores.above_chance is not None or scores.better is not None
    return "; ".join(parts) + (f"; tests at a false discovery rate of {100 * alpha:g} %." if tested else ".")
