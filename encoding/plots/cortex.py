"""Maps on the cortical surface: inflated from both sides, and cut open and flat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .maps import colours
from .style import MUTED, styled, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Surface = Literal["inflated", "flat"]

#: direction from which a hemisphere is looked at: sign along x
SIDES = {("left", "lateral"): -1, ("left", "medial"): 1, ("right", "lateral"): 1, ("right", "medial"): -1}
#: grey of gyri and sulci
GYRUS, SULCUS = 0.86, 0.68
#: a vertex has a value if this share of what it samples has one
LEAST_WEIGHT = 0.3


def plot_cortex(
    values: xr.DataArray,
    *,
    surfaces: tuple[Surface, ...] = ("inflated", "flat"),
    mesh: str = "fsaverage5",
    label: str = "",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Draw values of vertices, or of voxels in MNI space, on the cortex of an average brain.

    Parameters
    ----------
    values
        Along ``unit`` or ``neuroid``, with ``hemisphere`` and ``vertex`` of the mesh; or with ``i``, ``j``, ``k`` and
        the attributes ``affine`` and ``volume_shape`` in MNI space, from where every vertex takes the mean along
        the cortical ribbon. A first dimension makes one row of maps each, named by its coordinate. Missing values
        show the folds of the cortex.
    surfaces
        ``"inflated"`` (both hemispheres from outside and inside) and ``"flat"``.
    mesh
        A mesh of nilearn; its package holds ``"fsaverage5"``, others are downloaded.
    label
        Of the colour bar.
    limits
        Least and greatest value of the colours; default the range of the values and zero, symmetric about it where
        values have both signs.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If units lie neither on a surface nor in a volume, or a vertex lies outside the mesh.

    References
    ----------
    Fischl et al. (1999). High-resolution intersubject averaging and a coordinate system for the cortical surface.
    Hum Brain Mapp 8.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from cerebridge.encoding.plots.cortex import plot_cortex
    >>> places = {"hemisphere": ("unit", ["left"] * 100), "vertex": ("unit", np.arange(100))}
    >>> len(plot_cortex(xr.DataArray(np.arange(100.0), places, "unit"), surfaces=("flat",)).axes)
    3
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from nilearn.datasets import load_fsaverage, load_fsaverage_data

    unit = next(name for name in ("neuroid", "unit") if name in values.dims)
    rows = (values if values.ndim == 2 else values.expand_dims("map")).transpose(..., unit)
    meshes = load_fsaverage(mesh)
    folds = load_fsaverage_data(mesh=mesh, data_type="sulcal").data.parts
    maps = _on_vertices(rows, unit, meshes)
    panels = [
        (surface, side, view)
        for surface in surfaces
        for side in ("left", "right")
        for view in (("lateral", "medial") if surface == "inflated" else ("flat",))
    ]
    known = np.concatenate([np.ravel(part) for part in maps.values()])
    if np.isnan(known).all():
        raise ValueError("all values are missing; there is nothing to draw.")
    low, high, scheme = colours(np.append(known, 0.0), limits)
    paint = ScalarMappable(Normalize(low, high), scheme)
    with styled():
        figure = Figure(figsize=(2.1 * len(panels) + 0.9, 1.9 * len(rows) + 0.3), layout="constrained")
        axes = figure.subplots(len(rows), len(panels), squeeze=False)
        for row in range(len(rows)):
            for axis, (surface, side, view) in zip(axes[row], panels, strict=True):
                part = meshes[surface].parts[side]
                corners = _looked_at(part.coordinates, side, view)
                _draw(axis, corners, part.faces, maps[side][row], folds[side], paint)
                if row == 0:
                    axis.set_title(f"{side} {view}", fontsize=8, color=MUTED, loc="center")
            if values.ndim == 2:
                name = rows[rows.dims[0]].values[row] if rows.dims[0] in rows.coords else row
                axes[row][0].set_ylabel(wrapped(str(name), 18))
        figure.colorbar(paint, ax=axes, label=label, shrink=0.7, aspect=30, pad=0.01)
    return figure


def _on_vertices(rows: xr.DataArray, unit: str, meshes: Any) -> dict[str, Array]:
    """Values of every map at the vertices of each hemisphere, NaN where there are none."""
    sizes = {side: part.n_vertices for side, part in meshes["pial"].parts.items()}
    if {"hemisphere", "vertex"} <= set(rows.coords):
        maps = {side: np.full((len(rows), size), np.nan) for side, size in sizes.items()}
        for side, size in sizes.items():
            here = rows["hemisphere"].values == side
            vertex = rows["vertex"].values[here].astype(int)
            if vertex.size and vertex.max() >= size:
                raise ValueError(
                    f"vertex {vertex.max()} lies outside the {side} mesh of {size} vertices; name the mesh of the "
                    "recording with mesh=."
                )
            maps[side][:, vertex] = rows.values[:, here]
        return maps
    if {"i", "j", "k"} <= set(rows.coords) and "affine" in rows.attrs:
        return _from_volume(rows, unit, meshes)
    raise ValueError(
        "the units lie neither on a surface nor in a volume; keep hemisphere and vertex, or i, j, k and the attribute "
        "'affine', of the array that neuro.fmri.read gave."
    )


def _from_volume(rows: xr.DataArray, unit: str, meshes: Any) -> dict[str, Array]:
    """Means of the voxels that have a value between the white and the outer surface."""
    from nibabel import Nifti1Image
    from nilearn.surface import vol_to_surf

    from ...neuro.brainmaps import to_img

    images = [to_img(rows.isel({rows.dims[0]: row}).squeeze(drop=True)) for row in range(len(rows))]

    def sampled(volume: Array, image: Any, side: str) -> Array:
        part, inner = (meshes[name].parts[side] for name in ("pial", "white_matter"))
        surface = vol_to_surf(
            Nifti1Image(volume, image.affine), part, inner_mesh=inner, interpolation="linear"
        )
        return np.asarray(surface, dtype=np.float64)

    maps = {}
    for side in ("left", "right"):
        columns = []
        for image in images:
            volume = np.asarray(image.dataobj, dtype=np.float64)
            known = ~np.isnan(volume)
            weight = sampled(known.astype(np.float64), image, side)
            total = sampled(np.where(known, volume, 0.0), image, side)
            inside = weight > LEAST_WEIGHT
            columns.append(np.where(inside, total / np.where(inside, weight, 1.0), np.nan))
        maps[side] = np.stack(columns)
    return maps


def _looked_at(corners: Array, side: str, view: str) -> Array:
    """Coordinates as the eye sees them: right, up, and towards it."""
    if view == "flat":
        return np.column_stack([corners[:, :2], np.zeros(len(corners))])
    sign = SIDES[side, view]
    return np.column_stack([sign * corners[:, 1], corners[:, 2], sign * corners[:, 0]])


def _draw(axis: Axes, corners: Array, faces: NDArray[Any], values: Array, folds: Array, paint: Any) -> None:
    """Paint the triangles that face the eye, the farthest first."""
    from matplotlib.collections import PolyCollection

    triangles = corners[faces]
    edges = triangles[:, 1:] - triangles[:, :1]
    normal = np.cross(edges[:, 0], edges[:, 1])
    # triangles of a flat map lie in one plane, whichever way round they were cut out
    facing = normal[:, 2] > 0 if np.ptp(corners[:, 2]) > 0 else np.ones(len(faces), dtype=bool)
    order = np.flatnonzero(facing)
    order = order[np.argsort(triangles[order, :, 2].mean(1), kind="stable")]
    light = np.abs(normal[:, 2]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    grey = np.where(folds[faces].mean(1) > 0, SULCUS, GYRUS)
    painted = np.column_stack([grey, grey, grey, np.ones(len(faces))])
    # a triangle has a value if most of its corners have one
    at = values[faces]
    n_known = (~np.isnan(at)).sum(1)
    mean = np.where(np.isnan(at), 0, at).sum(1) / np.maximum(n_known, 1)
    shown = n_known >= 2
    painted[shown] = paint.to_rgba(mean[shown])
    painted[:, :3] *= (0.72 + 0.28 * light)[:, None]
    shapes = PolyCollection(
        list(triangles[order, :, :2]), facecolors=painted[order], edgecolors="face", linewidths=0.2
    )
    shapes.set_rasterized(True)
    axis.add_collection(shapes)
    axis.set_aspect("equal")
    axis.autoscale_view()
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
