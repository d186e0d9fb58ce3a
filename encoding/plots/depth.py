"""Figures of what changes with depth: a value a layer, or a value a layer and token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from .style import CYCLE, GRID, MUTED, panels, sequential, short_names, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: so many layers have room for their names
MOST_NAMES = 24
#: most lines that can be told apart
MOST_LINES = 12
#: most tokens whose names are drawn
MOST_TOKENS = 60


def plot_depth(
    values: xr.DataArray,
    *,
    label: str | None = None,
    tokens: Sequence[str] | None = None,
    logarithmic: bool = False,
) -> Figure:
    """Draw a value over the layers of a network, or over layers and tokens.

    Parameters
    ----------
    values
        Of ``layer``; of ``layer`` and one more dimension (a line each: rules, phases, checkpoints); or of ``layer ×
        token`` (a map): active shares, ratios of massive activations, the mask of voids, ….
    label
        What the value is; default its name.
    tokens
        Names of tokens, drawn along a map of at most 60.
    logarithmic
        Draw lines on a logarithmic axis.

    Returns
    -------
    matplotlib.figure.Figure
        Depth runs from left to right along lines, and from below upwards in maps, in which lines separate sequences.

    Raises
    ------
    ValueError
        If there is no dimension ``layer``, more than one other, or more lines than can be told apart.

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.plots.depth import plot_depth
    >>> shares = xr.DataArray([0.5, 0.3], [("layer", ["blocks.0", "blocks.1"])], name="active share")
    >>> plot_depth(shares).axes[0].get_ylabel()
    'active share'
    """
    if "layer" not in values.dims or values.ndim > 2:
        raise ValueError(
            f"the values are {' × '.join(map(str, values.dims)) or 'a number'}; give layer, layer × token, or "
            "layer and one dimension of lines."
        )
    name = label or str(values.name or "value").replace("_", " ")
    if "token" in values.dims:
        if tokens is not None and len(tokens) != values.sizes["token"]:
            raise ValueError(
                f"there are {len(tokens)} names for {values.sizes['token']} tokens; give one each."
            )
        return _map(values.transpose("layer", "token"), name, tokens)
    return _lines(values, name, logarithmic)


def _lines(values: xr.DataArray, name: str, logarithmic: bool) -> Figure:
    others = [dim for dim in values.dims if dim != "layer"]
    if others and values.sizes[others[0]] > MOST_LINES:
        raise ValueError(
            f"{values.sizes[others[0]]} lines along {others[0]!r} cannot be told apart; select {MOST_LINES}."
        )
    rows = values.transpose(*others, "layer")
    drawn = np.atleast_2d(rows.values.astype(float))
    with styled():
        figure, (axis,) = panels(1, width=min(9.0, 3.2 + 0.32 * values.sizes["layer"]), height=3.4)
        ordered = others and rows[others[0]].dtype.kind in "fiu"
        shades = sequential()(np.linspace(0.25, 1, len(drawn))) if ordered else None
        for k, row in enumerate(drawn):
            color: Any = CYCLE[k % len(CYCLE)] if shades is None else shades[k]
            title = str(rows[others[0]].values[k]) if others else None
            line = "-" if k < len(CYCLE) or ordered else "--"
            axis.plot(np.arange(len(row)), row, line, color=color, marker="o", markersize=3.5, label=title)
        if logarithmic:
            axis.set_yscale("log")
        elif np.nanmin(drawn) >= 0:
            axis.set_ylim(bottom=0)
        axis.set_ylabel(name)
        axis.grid(axis="y", color=GRID, linewidth=0.8)
        axis.set_axisbelow(True)
        _name_layers(axis, values, "x")
        if others:
            figure.legend(loc="outside right upper", title=str(others[0]), fontsize=8, title_fontsize=8)
    return figure


def _map(values: xr.DataArray, name: str, tokens: Sequence[str] | None) -> Figure:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    drawn = values.values.astype(float)
    n_layers, n_tokens = drawn.shape
    mask = values.dtype.kind == "b"
    look: Any = {"cmap": sequential()}
    if mask:
        look = {"cmap": ListedColormap([GRID, CYCLE[0]]), "vmin": 0, "vmax": 1}
    elif drawn.min() < 0 < drawn.max():
        reach = np.abs(drawn).max()
        look = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    with styled():
        figure, (axis,) = panels(1, width=min(11.0, 3.0 + 0.13 * n_tokens), height=1.7 + 0.2 * n_layers)
        image = axis.imshow(drawn, aspect="auto", origin="lower", interpolation="nearest", **look)
        _name_layers(axis, values, "y")
        if "sequence" in values.coords:
            edges = np.flatnonzero(np.diff(values["sequence"].values)) + 0.5
            axis.vlines(edges, -0.5, n_layers - 0.5, color="white", linewidth=1.6)
        axis.set_xlabel("token")
        if tokens is not None and n_tokens <= MOST_TOKENS:
            axis.set_xticks(range(n_tokens), labels=[str(token) for token in tokens], rotation=90, fontsize=7)
            axis.set_xlabel("")
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        if mask:
            handles = [Patch(color=CYCLE[0], label=name), Patch(color=GRID, label=f"not {name}")]
            figure.legend(handles=handles, loc="outside upper right", ncols=2, fontsize=8)
        else:
            bar = figure.colorbar(image, ax=axis, pad=0.02)
            bar.set_label(name)
            bar.outline.set_edgecolor(MUTED)
    return figure


def _layer_names(values: xr.DataArray) -> tuple[list[str], str]:
    """Names of layers and what they share: the number tells ``blocks.0.mlp`` and ``blocks.1.mlp`` apart."""
    if "layer" not in values.coords:
        return [str(k) for k in range(values.sizes["layer"])], "layer"
    names = [str(layer) for layer in values["layer"].values]
    parts = [name.split(".") for name in names]
    if len(names) > 1 and len({len(part) for part in parts}) == 1:
        differing = [k for k, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
        if len(differing) == 1 and len(parts[0]) > 1:
            (k,) = differing
            return [part[k] for part in parts], ".".join([*parts[0][:k], "k", *parts[0][k + 1 :]])
    return short_names(names), ""


def _name_layers(axis: Axes, values: xr.DataArray, along: Literal["x", "y"]) -> None:
    """Names of all layers where there is room, else of some."""
    names, shared = _layer_names(values)
    shown = range(0, len(names), -(-len(names) // MOST_NAMES))
    turned = along == "x" and max(map(len, names)) > 3
    options: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    getattr(axis, f"set_{along}ticks")(list(shown), labels=[names[k] for k in shown], fontsize=8, **options)
    getattr(axis, f"set_{along}label")(shared)
