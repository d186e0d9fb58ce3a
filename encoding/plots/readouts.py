"""Figures of readouts: where the queries of routed readouts look in each image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .style import MUTED, panels, sequential, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: most images and queries that a figure has room for
MOST_IMAGES, MOST_QUERIES = 12, 8
#: opacity of an image in grey, and of the map over it
GREY, OVER = 0.56, 0.72


def plot_attention_maps(
    attention: xr.DataArray,
    images: Sequence[Any] | None = None,
    *,
    head: int | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw where queries look: a row an image, a column a query, over the image in grey.

    Parameters
    ----------
    attention
        ``presentation × query × head × row × column``, as ``attention`` of a routed readout gives it; at most 12
        images and 8 queries.
    images
        The pictures in the same order: arrays ``(height, width)`` or ``(height, width, 3)``, or a stimulus set.
        They are drawn in the first column. Default: maps alone.
    head
        Which head; default the mean over heads.
    names
        Of the images; default ``stimulus_id``.

    Returns
    -------
    matplotlib.figure.Figure
        All maps share one colour scale, in multiples of attention that is spread evenly.

    Raises
    ------
    ValueError
        If tokens have no grid, there are other numbers of images or names than rows, or more than can be drawn.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from cerebridge.encoding.plots.readouts import plot_attention_maps
    >>> maps = np.full((2, 3, 1, 4, 4), 1 / 16)
    >>> attention = xr.DataArray(maps, dims=("presentation", "query", "head", "row", "column"))
    >>> len(plot_attention_maps(attention).axes)
    7
    """
    if attention.dims[1:] != ("query", "head", "row", "column"):
        raise ValueError(
            f"the attention is {' × '.join(map(str, attention.dims))}; give presentation × query × head × row × "
            "column, for which tokens need a grid."
        )
    n_images, n_queries = attention.shape[:2]
    if n_images > MOST_IMAGES or n_queries > MOST_QUERIES:
        raise ValueError(
            f"{n_images} images × {n_queries} queries are too many to be seen; select at most {MOST_IMAGES} and "
            f"{MOST_QUERIES}."
        )
    for what, given in (("images", images), ("names", names)):
        if given is not None and len(given) != n_images:
            raise ValueError(f"there are {len(given)} {what} and attention to {n_images}; give one each.")
    values = attention.mean("head") if head is None else attention.isel(head=head)
    even = values.values * values.sizes["row"] * values.sizes["column"]
    queries = attention["query"].values
    titles = [f"query {name}" if queries.dtype.kind in "iu" else str(name) for name in queries]
    return _draw(even, images, _row_names(attention, names), titles)


def _row_names(attention: xr.DataArray, names: Sequence[str] | None) -> list[str]:
    if names is None and "stimulus_id" in attention.coords:
        names = attention.coords["stimulus_id"].values.tolist()
    return [str(name) for name in names] if names is not None else [""] * attention.shape[0]


def _draw(even: NDArray[Any], images: Sequence[Any] | None, names: list[str], titles: list[str]) -> Figure:
    own = int(images is not None)
    columns = own + len(titles)
    top = max(float(np.quantile(even, 0.995)), 1 + 1e-6)
    with styled():
        figure, axes = panels(len(even) * columns, width=1.7, height=1.75, columns=columns)
        for number, axis in enumerate(axes):
            row, column = divmod(number, columns)
            picture = None if images is None else np.asarray(images[row])
            height, width = even.shape[2:] if picture is None else picture.shape[:2]
            if picture is not None and column < own:
                axis.imshow(picture, cmap="gray")
            else:
                if picture is not None:
                    grey = picture.mean(axis=2) if picture.ndim == 3 else picture
                    axis.imshow(grey, cmap="gray", alpha=GREY)
                shown = axis.imshow(
                    even[row, column - own],
                    cmap=sequential() if picture is None else "inferno",
                    vmin=0,
                    vmax=top,
                    alpha=None if picture is None else OVER,
                    extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                    interpolation="nearest",
                )
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row == 0:
                title = "image" if column < own else titles[column - own]
                axis.set_title(wrapped(title, 18), fontsize=9, loc="center")
            if column == 0:
                axis.set_ylabel(wrapped(names[row][-18:], 18), fontsize=7)
        bar = figure.colorbar(shown, ax=axes, shrink=0.6, pad=0.02, aspect=30)
        bar.set_label("attention (1: spread evenly)", fontsize=8)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_edgecolor(MUTED)
    return figure
