"""Figures of pictures in rows: stimuli chosen or made, with what was predicted or measured under them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .style import INK, MUTED, WARM, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: inches: of a picture, of a line under it, of the room for names of rows and of columns
PICTURE, LINE, MARGIN = 1.25, 0.15, 0.24
#: pictures side by side where nothing is said
COLUMNS = 6


def plot_pictures(
    images: Any,
    captions: Sequence[Any] | None = None,
    *,
    columns: int | None = None,
    rows: Sequence[Any] | None = None,
    column_names: Sequence[Any] | None = None,
    marked: Sequence[bool] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw pictures in rows, each with its caption.

    Parameters
    ----------
    images
        A stimulus set, or pictures of any sizes: ``height × width`` or ``height × width × 3`` or ``4``, uint8 or from
        0 to 1; ``None`` leaves a place empty.
    captions
        Under each picture; numbers are written with three digits, texts may have several lines.
    columns
        Pictures side by side. Default: as many as there are ``column_names``, at most six else.
    rows, column_names
        Names left of the rows and over the columns.
    marked
        Which pictures have a frame, such as those that were made.
    title
        Over all of it.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there are no pictures, one is none, or names and captions are not as many as they should be.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import plots
    >>> len(plots.plot_pictures(np.zeros((4, 8, 8, 3), np.uint8), [1.0, 2.5, 3.25, 4.0], columns=2).axes)
    4
    """
    from matplotlib.figure import Figure

    pictures = [None if image is None else _picture(image, k) for k, image in enumerate(images)]
    if not pictures:
        raise ValueError("there are no pictures to draw.")
    columns = columns or (len(column_names) if column_names is not None else min(COLUMNS, len(pictures)))
    n_rows = -(-len(pictures) // columns)
    _require(len(pictures), captions=captions, marked=marked)
    _require(n_rows, rows=rows)
    _require(columns, column_names=column_names)
    texts = [""] * len(pictures) if captions is None else [_written(caption) for caption in captions]
    lines = max(text.count("\n") + 1 if text else 0 for text in texts)
    left = MARGIN if rows is not None else 0.05
    top = MARGIN * ((column_names is not None) + (title is not None)) + 0.06
    cell = PICTURE + LINE * lines + 0.1
    width, height = left + columns * (PICTURE + 0.06), top + n_rows * cell
    with styled():
        figure = Figure(figsize=(width, height))
        for k, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            row, column = divmod(k, columns)
            x, y = left + column * (PICTURE + 0.06), height - top - row * cell - PICTURE
            axis = figure.add_axes((x / width, y / height, PICTURE / width, PICTURE / height))
            _draw(axis, picture, text, framed=marked is not None and bool(marked[k]))
            if column == 0 and rows is not None:
                place = (left / 2 / width, (y + PICTURE / 2) / height)
                figure.text(
                    *place, wrapped(str(rows[row]), 22), rotation=90, ha="center", va="center", fontsize=8
                )
            if row == 0 and column_names is not None:
                axis.set_title(str(column_names[column]), fontsize=8.5, loc="center", pad=4)
        if title is not None:
            figure.text(
                left / width, 1 - 0.06 / height, title, va="top", fontsize=10, fontweight="bold", color=INK
            )
    return figure


def _picture(image: Any, number: int) -> NDArray[Any]:
    values = np.asarray(image)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)) or not values.size:
        raise ValueError(
            f"picture {number} has the shape {values.shape}; give height × width, or height × width × 3 or 4."
        )
    if values.dtype == np.uint8:
        return values
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise ValueError(f"picture {number} has values that are not from 0 to 1; scale it, or give uint8.")
    return values


def _require(n: int, **given: Sequence[Any] | None) -> None:
    for name, entries in given.items():
        if entries is not None and len(entries) != n:
            raise ValueError(f"{name}= has {len(entries)} entries, but {n} are drawn.")


def _written(caption: Any) -> str:
    number = isinstance(caption, float | np.floating)
    return f"{caption:.3g}" if number else "" if caption is None else str(caption)


def _draw(axis: Axes, picture: NDArray[Any] | None, text: str, framed: bool) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(framed)
        spine.set_edgecolor(WARM)
        spine.set_linewidth(1.8)
    if picture is None:
        return
    limits: dict[str, Any] = (
        {"vmin": 0, "vmax": 255 if picture.dtype == np.uint8 else 1} if picture.ndim == 2 else {}
    )
    axis.imshow(picture, cmap="gray", interpolation="antialiased", **limits)
    axis.text(0.5, -0.035, text, transform=axis.transAxes, ha="center", va="top", fontsize=7.5, color=MUTED)
