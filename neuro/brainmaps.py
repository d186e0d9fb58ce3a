"""Back into the brain: values of voxels, vertices or grayordinates become an image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .bold import on_grid
from .runs import HEMISPHERES, load


def to_img(scores: xr.DataArray, like: Any = None, fill: float = np.nan) -> Any:
    """Put a result of voxels, vertices or regions back into the brain.

    Parameters
    ----------
    scores
        Values along ``neuroid`` (or ``unit``, as in results) with the coordinates that :func:`read` gave:
        ``i``, ``j``, ``k``; or ``hemisphere``, ``vertex``; or ``structure``, …; or ``label`` for means of regions.
        A further dimension becomes several volumes, in its order.
    like
        Where the values lie, needed if ``scores.attrs`` no longer say it: the array that was read, or any image on
        its grid. For surfaces always a mesh or ``SurfaceImage``; for means of regions the atlas.
    fill
        Value of everything that was not measured; default NaN (missing), since zero may be a score.

    Returns
    -------
    nibabel.Nifti1Image, nilearn.surface.SurfaceImage or nibabel.Cifti2Image
        Of the kind that was read.

    Raises
    ------
    ValueError
        If the place of the values is unknown, outside the image, or taken twice (several subjects).

    Examples
    --------
    >>> import nibabel, numpy as np
    >>> from cerebridge import neuro
    >>> run = nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(3, 2, 2, 9)), np.eye(4))
    >>> array = neuro.fmri.read(run, t_r=2.0)
    >>> neuro.fmri.to_img(array.std("time_bin", keep_attrs=True)).shape
    (3, 2, 2)
    """
    values, labels = _rows(scores)
    attrs = like.attrs if isinstance(like, xr.DataArray) else scores.attrs
    like = None if isinstance(like, xr.DataArray) else like
    if "label" in labels and "neuroid_id" in labels and not {"i", "vertex"} & set(labels):
        return _regions_img(values, labels["label"], like, fill)
    if {"hemisphere", "vertex"} <= set(labels):
        return _surface_img(values, labels, like, fill)
    if {"structure", "vertex"} <= set(labels):
        return _cifti_img(values, labels, attrs, like)
    if {"i", "j", "k"} <= set(labels):
        return _volume_img(values, labels, attrs, like, fill)
    raise ValueError(
        f"the scores carry no place in the brain (their coordinates are {', '.join(map(str, labels)) or 'none'}); "
        "keep i, j, k (or hemisphere, vertex) of the array that neuro.fmri.read gave."
    )


def _rows(scores: xr.DataArray) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
    """Values as rows × units, and the labels of the units; one row stays without its axis."""
    if not isinstance(scores, xr.DataArray):
        raise TypeError(f"scores are {type(scores).__name__}; give a DataArray with its coordinates.")
    dim = next((name for name in ("neuroid", "unit") if name in scores.dims), None)
    if dim is None or scores.ndim > 2:
        raise ValueError(
            f"the scores are {' × '.join(map(str, scores.dims))}; they must lie along neuroid (or unit) and at "
            "most one further dimension: select or average the others."
        )
    scores = scores.transpose(..., dim)
    values = scores.values if scores.dtype.kind == "f" else scores.values.astype(np.float64)
    return values, {str(name): c.values for name, c in scores.coords.items() if c.dims == (dim,)}


def _once(places: NDArray[Any]) -> None:
    if len(np.unique(places, axis=0)) < len(places):
        raise ValueError(
            "two of the scores lie at the same place; select one subject before making an image."
        )


def _volume_img(
    values: NDArray[Any], labels: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any], like: Any, fill: float
) -> Any:
    import nibabel

    if like is not None:
        image = load(like)
        affine, shape = image.affine, tuple(image.shape[:3])
    elif "volume_shape" in attrs and not isinstance(attrs["affine"], str):
        affine, shape = (
            np.reshape(attrs["affine"], (4, 4)),
            tuple(int(n) for n in np.asarray(attrs["volume_shape"])),
        )
    else:
        raise ValueError(
            "the scores do not say which image their voxels belong to (attrs 'affine' and 'volume_shape'); pass "
            "like= the array that was read, or an image on its grid."
        )
    at = np.stack([labels[axis] for axis in "ijk"], axis=1).astype(int)
    _once(at)
    if (at < 0).any() or (at >= shape).any():
        wrong = at[((at < 0) | (at >= shape)).any(axis=1)][0].tolist()
        raise ValueError(
            f"voxel {tuple(wrong)} lies outside the image of shape {shape}; pass like= an image on its grid."
        )
    data = np.full((*shape, *values.shape[:-1]), fill, dtype=values.dtype)
    data[tuple(at.T)] = values.T
    return nibabel.Nifti1Image(data, affine)


def _surface_img(values: NDArray[Any], labels: Mapping[str, NDArray[Any]], like: Any, fill: float) -> Any:
    from nilearn.surface import PolyMesh, SurfaceImage

    mesh = getattr(like, "mesh", like)
    if mesh is None:
        raise ValueError(
            "a surface image needs a mesh; pass like= the SurfaceImage or mesh of the recording."
        )
    mesh = mesh if isinstance(mesh, PolyMesh) else PolyMesh(**mesh)
    if outside := set(labels["hemisphere"]) - set(mesh.parts):
        raise ValueError(
            f"the mesh lacks the {outside.pop()} hemisphere of the scores; pass both with like=."
        )
    _once(np.stack([labels["hemisphere"].astype(str), labels["vertex"].astype(str)], axis=1))
    parts = {}
    for side in (side for side in HEMISPHERES if side in mesh.parts):
        here = labels["hemisphere"] == side
        size, vertex = mesh.parts[side].n_vertices, labels["vertex"][here].astype(int)
        if (vertex >= size).any():
            raise ValueError(
                f"vertex {vertex.max()} lies outside the {side} mesh of {size} vertices; pass its own mesh."
            )
        parts[side] = np.full((size, *values.shape[:-1]), fill, dtype=values.dtype)
        parts[side][vertex] = values[..., here].T
    return SurfaceImage(mesh, parts)


def _cifti_img(
    values: NDArray[Any], labels: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any], like: Any
) -> Any:
    from nibabel import Cifti2Image, cifti2

    axis = load(like).header.get_axis(1) if like is not None else None
    if axis is None and "surface_vertices" not in attrs:
        raise ValueError(
            "the scores do not say which surfaces they belong to; pass like= the CIFTI image that was read."
        )
    sizes = axis.nvertices if axis is not None else json.loads(attrs["surface_vertices"])
    affine = axis.affine if axis is not None else attrs.get("affine")
    shape = axis.volume_shape if axis is not None else attrs.get("volume_shape")
    voxel = np.stack([labels[name] for name in "ijk"], axis=1).astype(int)
    vertex = labels["vertex"].astype(int)
    _once(np.column_stack([labels["neuroid_id"].astype(str), vertex.astype(str)]))
    models = cifti2.BrainModelAxis(
        name=np.array([f"CIFTI_STRUCTURE_{name}" for name in labels["structure"]], dtype=object),
        voxel=voxel,
        vertex=vertex,
        affine=None if affine is None or not (voxel >= 0).any() else np.reshape(affine, (4, 4)),
        volume_shape=None
        if shape is None or not (voxel >= 0).any()
        else tuple(int(n) for n in np.asarray(shape)),
        nvertices={
            name: int(n)
            for name, n in sizes.items()
            if name in {f"CIFTI_STRUCTURE_{s}" for s in labels["structure"]}
        },
    )
    rows = np.atleast_2d(values)
    maps = cifti2.ScalarAxis([f"map {k}" for k in range(len(rows))])
    return Cifti2Image(rows, cifti2.Cifti2Header.from_axes((maps, models)))


def _regions_img(values: NDArray[Any], label: NDArray[Any], like: Any, fill: float) -> Any:
    """Every voxel or vertex of the atlas ``like`` gets the value of its region."""
    import nibabel
    from nilearn.surface import SurfaceImage

    atlas = like.maps if not isinstance(like, (str, Path)) and hasattr(like, "maps") else like
    if atlas is None:
        raise ValueError("means of regions go back into the brain through their atlas; pass it with like=.")
    _once(label[:, None])

    def painted(at: NDArray[Any]) -> NDArray[Any]:
        out = np.full((*at.shape, *values.shape[:-1]), fill, dtype=values.dtype)
        for value, row in zip(label.tolist(), values.T, strict=True):
            out[at == value] = row
        return out

    if isinstance(atlas, SurfaceImage):
        return SurfaceImage(
            atlas.mesh, {side: painted(np.ravel(part)) for side, part in atlas.data.parts.items()}
        )
    image = load(atlas)
    if isinstance(image, nibabel.Cifti2Image):
        at = np.rint(np.asarray(image.dataobj)[0]).astype(int)
        rows = np.atleast_2d(painted(at).T)
        maps = nibabel.cifti2.ScalarAxis([f"map {k}" for k in range(len(rows))])
        return nibabel.Cifti2Image(
            rows, nibabel.cifti2.Cifti2Header.from_axes((maps, image.header.get_axis(1)))
        )
    return nibabel.Nifti1Image(painted(on_grid(image, image)), image.affine)
