"""Where units lie: voxels in mm or on a grid, vertices on a mesh, from arrays, masks and surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import quoted
from ...neuro.runs import HEMISPHERES

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """Units that may be neighbours: those of one person and, on surfaces, of one hemisphere.

    Parameters
    ----------
    units
        Positions among all units.
    points
        Where each unit lies (mm, or on the grid); on surfaces where each vertex of the mesh does.
    vertices, faces
        On surfaces: the vertex that each unit is, and the triangles of the mesh.
    """

    units: Indices
    points: Array
    vertices: Indices | None = None
    faces: Indices | None = None


@dataclass(frozen=True, eq=False)
class Places:
    """Places of all units, and which of them may be neighbours.

    Parameters
    ----------
    kind
        ``"volume"`` or ``"surface"``.
    keys
        units × 3: x, y, z (or i, j, k), or hemisphere (0 left, 1 right), vertex, 0.
    parts
        The units, apart by person and hemisphere.
    """

    kind: Literal["volume", "surface"]
    keys: Array
    parts: list[Part]


def places_of(source: Any, mesh: Any = "fsaverage5", *, on_grid: bool = False) -> Places:
    """Read where units lie.

    Parameters
    ----------
    source
        Labelled array, dataset or result; mask image or its path; ``SurfaceImage``; ``PolyMesh`` or name of one.
    mesh
        Mesh of labelled vertices: a ``PolyMesh`` or a name of nilearn's.
    on_grid
        Whether voxels are placed by ``i``, ``j``, ``k``, not by mm.

    Raises
    ------
    ValueError, TypeError
        If the source has no places.

    Examples
    --------
    >>> import nibabel, numpy as np
    >>> mask = nibabel.Nifti1Image(np.ones((1, 1, 2), np.uint8), np.diag([2.0, 2.0, 3.0, 1.0]))
    >>> places_of(mask).keys.tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
    """
    source = getattr(source, "dataset", source)
    if isinstance(source, xr.DataArray | xr.Dataset):
        return _labelled(source, mesh, on_grid)
    if isinstance(source, str) and source.startswith("fsaverage"):
        source = read_mesh(source)
    if isinstance(source, str | Path) or hasattr(source, "affine"):
        return _masked(source, on_grid)
    if hasattr(source, "mesh"):
        inside = {side: np.ravel(part) > 0 for side, part in source.data.parts.items()}
        return _surface(*_stacked(inside), source.mesh)
    if hasattr(source, "parts"):
        return _surface(*_stacked({s: np.ones(p.n_vertices, bool) for s, p in source.parts.items()}), source)
    raise TypeError(
        f"the source is a {type(source).__name__}; give a labelled array, the image of a mask, or a surface."
    )


def read_mesh(mesh: Any) -> Any:
    """A ``PolyMesh``; of nilearn's names the surface halfway between white matter and pia.

    Examples
    --------
    >>> read_mesh("fsaverage5").parts["left"].n_vertices
    10242
    """
    from nilearn.datasets import load_fsaverage
    from nilearn.surface import InMemoryMesh, PolyMesh

    if not isinstance(mesh, str):
        return PolyMesh(**mesh) if isinstance(mesh, Mapping) else mesh
    inner, outer = (load_fsaverage(mesh)[name].parts for name in ("white_matter", "pial"))
    return PolyMesh(
        **{
            side: InMemoryMesh((inner[side].coordinates + outer[side].coordinates) / 2, outer[side].faces)
            for side in HEMISPHERES
        }
    )


def _labelled(source: xr.DataArray | xr.Dataset, mesh: Any, on_grid: bool) -> Places:
    dim = next((name for name in ("neuroid", "unit") if name in source.dims), None)
    labels = {str(name): c.values for name, c in source.coords.items() if dim and c.dims == (dim,)}
    people = pd.factorize(labels["subject"])[0] if "subject" in labels else None
    if {"hemisphere", "vertex"} <= set(labels):
        return _surface(labels["hemisphere"], labels["vertex"].astype(np.int64), mesh, people)
    axes = "ijk" if on_grid else "xyz"
    if not set(axes) <= set(labels):
        raise ValueError(
            f"the units have no {', '.join(axes)}, nor hemisphere and vertex (their labels are "
            f"{', '.join(labels) or 'none'}); keep those that neuro.fmri.read gave, or give the image of a mask."
        )
    points = np.stack([labels[axis] for axis in axes], axis=1).astype(np.float64)
    nowhere = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if nowhere.size:
        name = labels.get("neuroid_id", np.arange(len(points)))[nowhere[0]]
        raise ValueError(
            f"{nowhere.size} units have no place, the first {quoted(name)}; leave out those without x, y, z."
        )
    return _volume(points, people)


def _masked(source: Any, on_grid: bool) -> Places:
    from ...neuro.runs import load

    image = load(source)
    values = np.asarray(image.dataobj)
    inside = np.nan_to_num(values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values) > 0
    if inside.ndim != 3 or not inside.any():
        raise ValueError(
            f"the mask has the shape {image.shape} and {int(inside.sum())} voxels above 0; give one volume with some."
        )
    at = np.argwhere(inside)
    return _volume(at.astype(np.float64) if on_grid else at @ image.affine[:3, :3].T + image.affine[:3, 3])


def _volume(points: Array, people: NDArray[Any] | None = None) -> Places:
    codes = np.zeros(len(points), dtype=np.int64) if people is None else people
    parts = [Part(units, points[units]) for units in _groups(codes)]
    return Places("volume", points, parts)


def _surface(
    hemisphere: NDArray[Any], vertex: Indices, mesh: Any, people: NDArray[Any] | None = None
) -> Places:
    mesh = read_mesh(mesh)
    if not len(vertex):
        raise ValueError("no vertex of the surface is above 0; give a mask with some.")
    if outside := set(np.unique(hemisphere)) - set(mesh.parts):
        raise ValueError(
            f"the units lie on {quoted(outside.pop())}, and the mesh has {', '.join(mesh.parts)} alone."
        )
    side = np.array([HEMISPHERES.index(name) for name in hemisphere])
    codes = side if people is None else people * len(HEMISPHERES) + side
    parts = []
    for units in _groups(codes):
        name = HEMISPHERES[side[units[0]]]
        surface = mesh.parts[name]
        if vertex[units].max() >= surface.n_vertices or vertex[units].min() < 0:
            raise ValueError(
                f"the units have vertices {vertex[units].min()} to {vertex[units].max()}, and the {name} mesh has "
                f"{surface.n_vertices}; give their own mesh with mesh=."
            )
        points, faces = np.asarray(surface.coordinates, np.float64), np.asarray(surface.faces, np.int64)
        parts.append(Part(units, points, vertex[units], faces))
    return Places("surface", np.stack([side, vertex, np.zeros_like(side)], axis=1).astype(np.float64), parts)


def _stacked(inside: dict[str, NDArray[np.bool_]]) -> tuple[NDArray[Any], Indices]:
    """Hemisphere and vertex of what is inside, the left hemisphere first."""
    sides = [side for side in HEMISPHERES if side in inside]
    vertices = [np.flatnonzero(inside[side]) for side in sides]
    return np.repeat(sides, [len(v) for v in vertices]), np.concatenate(vertices)


def _groups(codes: NDArray[Any]) -> list[Indices]:
    return [np.flatnonzero(codes == code) for code in np.unique(codes)]
