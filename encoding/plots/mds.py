"""Figures of dissimilarity matrices as places in a plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .style import CYCLE, INK, MUTED, panels, short_names, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
#: names are written beside up to so many stimuli
MOST_NAMES = 40
#: share of a panel's width that a picture takes
PICTURE = 0.07


def plot_mds(
    rdms: xr.DataArray,
    *,
    labels: Sequence[Any] | None = None,
    images: Sequence[Any] | None = None,
    method: Literal["smacof", "classical"] = "smacof",
    random_state: int = 0,
) -> Figure:
    """Draw stimuli in a plane so that near ones are alike, one panel an RDM (multidimensional scaling).

    Parameters
    ----------
    rdms
        ``rdm × pair``, every pair once.
    labels
        For each stimulus, in order of first appearance among the pairs, what it belongs to: its colour, up to eight
        of them named in a legend. Default: stimuli are named by their ids where there are up to forty.
    images
        A picture of each stimulus (``height × width`` or ``height × width × 3`` or ``4``), drawn in its place.
    method
        ``"smacof"`` (default): distances in the plane as near to the dissimilarities as possible (metric stress,
        scikit-learn's ``MDS``), started from ``"classical"``: the first two principal coordinates (Torgerson, 1952),
        as they are. Both take dissimilarities for distances; squared ones are better given as their roots.
    random_state
        Passed on to scikit-learn.

    Returns
    -------
    matplotlib.figure.Figure
        Titles say the stress: the root of the squared misfit as a share of the squared dissimilarities. All panels
        after the first are turned and mirrored to match it.

    Raises
    ------
    ValueError
        If a pair is missing, the array is not ``rdm × pair``, or labels or images are not one a stimulus.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import plots, rsa
    >>> rdms = rsa.rdm(neuro.simulate(n_stimuli=8, n_units=20, random_state=0))
    >>> len(plots.plot_mds(rdms).axes)
    1
    """
    if method not in ("smacof", "classical"):
        raise ValueError(f"method={method!r} is unknown; use 'smacof' or 'classical'.")
    squares, stimuli = _squares(rdms)
    for name, given in (("labels", labels), ("images", images)):
        if given is not None and len(given) != len(stimuli):
            raise ValueError(f"{name} has {len(given)} entries for {len(stimuli)} stimuli.")
    names = [str(name) for name in rdms.coords["neuroid_id"].values]
    with styled():
        figure, axes = panels(len(names), width=4.2, height=4.3, columns=3)
        first: Array | None = None
        for axis, name, square in zip(axes, names, squares, strict=True):
            points = _arranged(square, method, random_state)
            points = points if first is None else _turned(points, first)
            first = points if first is None else first
            _draw(axis, points, stimuli, labels, images)
            axis.set_title(f"{wrapped(name, 40)} (stress {_stress(points, square):.2f})", fontsize=9)
        if labels is not None:
            _legend(figure, axes[0], labels)
    return figure


def _squares(rdms: xr.DataArray) -> tuple[Array, NDArray[Any]]:
    """Symmetric matrices of all RDMs, and the stimuli."""
    from ..rsa.pairs import check_rdms, stimulus_order

    stimuli, index = stimulus_order(check_rdms(rdms, "rdms"), "rdms")
    squares = rdms.values[:, index].astype(np.float64)
    squares[:, np.arange(len(stimuli)), np.arange(len(stimuli))] = 0
    if (missing := np.isnan(squares).sum(axis=(1, 2)) // 2).any():
        raise ValueError(
            f"RDM {rdms.coords['neuroid_id'].values[missing.argmax()]!s} has {missing.max()} missing dissimilarities; "
            "select the stimuli that have all of them."
        )
    # cross-validated dissimilarities may be negative, distances may not
    return np.maximum(squares, 0), stimuli


def _arranged(square: Array, method: str, random_state: int) -> Array:
    """Places of the stimuli, centred and with the longest axis horizontal."""
    points = _classical(square)
    if method == "smacof":
        from sklearn.manifold import smacof

        found = smacof(
            square, n_components=2, init=points, n_init=1, random_state=random_state, normalized_stress=False
        )
        points = _classical(_distances(found[0]))
    return points


def _classical(square: Array) -> Array:
    """The first two principal coordinates of the dissimilarities taken for distances."""
    n = len(square)
    centre = np.eye(n) - 1 / n
    values, directions = np.linalg.eigh(-0.5 * centre @ square**2 @ centre)
    points: Array = directions[:, -2:][:, ::-1] * np.sqrt(np.maximum(values[-2:][::-1], 0))
    return points


def _turned(points: Array, to: Array) -> Array:
    """Points turned, mirrored and scaled as near to others as possible (Procrustes)."""
    left, values, right = np.linalg.svd(points.T @ to)
    turned: Array = points @ left @ right * (values.sum() / max(float((points**2).sum()), 1e-300))
    return turned


def _distances(points: Array) -> Array:
    between: Array = np.linalg.norm(points[:, None] - points, axis=-1)
    return between


def _stress(points: Array, square: Array) -> float:
    """Kruskal's stress at the scale that fits best."""
    distances = _distances(points)
    scale = (distances * square).sum() / max(float((distances**2).sum()), 1e-300)
    return float(np.sqrt(((scale * distances - square) ** 2).sum() / max(float((square**2).sum()), 1e-300)))


def _draw(
    axis: Axes,
    points: Array,
    stimuli: NDArray[Any],
    labels: Sequence[Any] | None,
    images: Sequence[Any] | None,
) -> None:
    codes = np.zeros(len(points), dtype=int) if labels is None else pd.factorize(np.asarray(labels))[0]
    colors = [CYCLE[code % len(CYCLE)] for code in codes]
    axis.scatter(points[:, 0], points[:, 1], c=colors, s=24 if images is None else 2, linewidths=0, alpha=0.9)
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    reach = 0.56 * max(float(np.ptp(points, axis=0).max()), 1e-12)
    axis.set_xlim(middle[0] - reach, middle[0] + reach)
    axis.set_ylim(middle[1] - reach, middle[1] + reach)
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    if images is not None:
        _pictures(axis, points, images, colors if labels is not None else None, 2 * PICTURE * reach)
    elif labels is None and len(stimuli) <= MOST_NAMES:
        for point, name in zip(points, short_names([str(name) for name in stimuli]), strict=True):
            axis.annotate(name, point, (3, 3), textcoords="offset points", fontsize=6.5, color=INK)


def _pictures(
    axis: Axes, points: Array, images: Sequence[Any], colors: list[str] | None, size: float
) -> None:
    """Pictures in their places, framed in the colour of what they belong to."""
    from matplotlib.patches import Rectangle

    limits = axis.get_xlim(), axis.get_ylim()
    for k, (point, image) in enumerate(zip(points, images, strict=True)):
        x, y = point - size / 2
        axis.imshow(image, extent=(x, x + size, y, y + size), cmap="gray", zorder=3, interpolation="bilinear")
        if colors is not None:
            axis.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor=colors[k], lw=1.2, zorder=4))
    axis.set_xlim(*limits[0])
    axis.set_ylim(*limits[1])


def _legend(figure: Figure, axis: Axes, labels: Sequence[Any]) -> None:
    names = [str(name) for name in pd.unique(np.asarray(labels))]
    if len(names) > len(CYCLE):
        return
    handles = [
        axis.plot([], [], "o", color=color, ms=5, label=name)[0]
        for color, name in zip(CYCLE, names, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(names), 4), labelcolor=MUTED)
