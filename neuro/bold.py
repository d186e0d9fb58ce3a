"""Where the signals of a recording lie: volumes, surfaces and grayordinates become runs of volumes × units."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .runs import Runs, load

#: region of a unit that the atlas does not label
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class Grid:
    """The units of a recording, and how a run is read at them.

    Parameters
    ----------
    neuroid
        One column a label of the units.
    attrs
        What it takes to put values of the units back into the brain.
    read
        Image of a run -> raw values, volumes × units, in double precision.
    """

    neuroid: dict[str, NDArray[Any]]
    attrs: dict[str, Any]
    read: Callable[[Any], NDArray[Any]]


def grid(runs: Runs, *, mask: Any = None, atlas: Any = None, mesh: Any = None) -> Grid:
    """The units that all runs share, from their mask and atlas.

    Parameters
    ----------
    runs
        Opened runs, all of one kind.
    mask
        Image of the same kind, or ``None``.
    atlas
        ``(image, {label: name})`` or ``None``.
    mesh
        Mesh of surface runs, for the places of vertices; default their own, if they have one.

    Returns
    -------
    Grid

    Raises
    ------
    ValueError
        If the runs differ in shape or place, or nothing is left by mask and atlas.

    Examples
    --------
    >>> import nibabel, numpy as np
    >>> image = nibabel.Nifti1Image(np.ones((2, 2, 1, 5)), np.eye(4))
    >>> from cerebridge.neuro.runs import open_runs
    >>> grid(open_runs(image, t_r=2.0)).neuroid["neuroid_id"].tolist()
    ['0-0-0', '0-1-0', '1-0-0', '1-1-0']
    """
    kind = runs.kind
    if kind == "surface":
        return _surface_grid(runs, mask, atlas, runs.mesh if mesh is None else mesh)
    if kind == "cifti":
        return _cifti_grid(runs, mask, atlas)
    return _volume_grid(runs, mask, atlas)


def _volume_grid(runs: Runs, mask: Any, atlas: Any) -> Grid:
    import nibabel
    from nilearn.masking import apply_mask

    first = runs.images[0]
    for image, name in zip(runs.images, runs.names, strict=True):
        if image.shape[:3] != first.shape[:3]:
            raise ValueError(
                f"{name} has voxels {image.shape[:3]}, but {runs.names[0]} has {first.shape[:3]}; "
                "resample them to one grid, e.g. with nilearn.image.resample_to_img."
            )
        if not np.allclose(image.affine, first.affine, atol=1e-3):
            raise ValueError(
                f"{name} lies elsewhere than {runs.names[0]} (their affines differ by up to "
                f"{np.abs(image.affine - first.affine).max():.3g} mm); register or resample them to one grid."
            )
    inside = np.ones(first.shape[:3], bool) if mask is None else on_grid(mask, first) > 0
    label = None if atlas is None else on_grid(atlas[0], first)
    kept = _kept(inside, label, mask is not None)
    at = np.argwhere(kept)
    xyz = nibabel.affines.apply_affine(first.affine, at)
    table = {
        "neuroid_id": np.array(["-".join(map(str, place)) for place in at.tolist()]),
        **{axis: at[:, k] for k, axis in enumerate("ijk")},
        **{axis: xyz[:, k] for k, axis in enumerate("xyz")},
        **_regions(label[kept] if label is not None else None, atlas),
    }
    picture = nibabel.Nifti1Image(kept.astype(np.uint8), first.affine)
    return Grid(
        neuroid=table,
        attrs={
            "image": "nifti",
            "affine": [float(value) for value in first.affine.ravel()],
            "volume_shape": [int(size) for size in first.shape[:3]],
        },
        read=lambda run: apply_mask(run, picture, dtype="f8", ensure_finite=False),
    )


def on_grid(image: Any, like: Any) -> NDArray[Any]:
    """Values of a mask or atlas at the voxels of ``like``, by nearest neighbour where the grids differ."""
    import nibabel
    from nilearn.image import resample_to_img

    image = nibabel.load(image) if isinstance(image, (str, Path)) else image
    if image.ndim == 4 and image.shape[3] == 1:
        image = image.slicer[..., 0]
    if image.ndim != 3:
        raise ValueError(
            f"the mask or atlas has shape {image.shape}; give one volume (of a probabilistic atlas its maximum)."
        )
    if image.shape != like.shape[:3] or not np.allclose(image.affine, like.affine, atol=1e-3):
        target = nibabel.Nifti1Image(np.zeros(like.shape[:3], np.uint8), like.affine)
        image = resample_to_img(image, target, interpolation="nearest", force_resample=True, copy_header=True)
    return cast(NDArray[Any], np.rint(np.nan_to_num(image.get_fdata())).astype(np.int64))


def _surface_grid(runs: Runs, mask: Any, atlas: Any, mesh: Any) -> Grid:
    first = runs.images[0]
    sizes = {side: part.shape[0] for side, part in first.parts.items()}
    for image, name in zip(runs.images, runs.names, strict=True):
        if {side: part.shape[0] for side, part in image.parts.items()} != sizes:
            raise ValueError(
                f"{name} has other numbers of vertices than {runs.names[0]}; resample them to one surface."
            )
    hemisphere = np.repeat(list(sizes), list(sizes.values()))
    vertex = np.concatenate([np.arange(size) for size in sizes.values()])
    inside = np.ones(len(vertex), bool) if mask is None else _vertices(mask, sizes, "mask") > 0
    label = None if atlas is None else _vertices(atlas[0], sizes, "atlas").astype(np.int64)
    kept = _kept(inside, label, mask is not None)
    table = {
        "neuroid_id": np.array([f"{h}-{v}" for h, v in zip(hemisphere[kept], vertex[kept], strict=True)]),
        "hemisphere": hemisphere[kept],
        "vertex": vertex[kept],
        **_regions(label[kept] if label is not None else None, atlas),
    }
    if mesh is not None:
        xyz = _vertices({side: _mesh(mesh)[side].coordinates for side in sizes}, sizes, "mesh")
        table.update({axis: xyz[kept, k].astype(float) for k, axis in enumerate("xyz")})
    return Grid(
        neuroid=table,
        attrs={"image": "surface", "surface_vertices": json.dumps(sizes)},
        read=lambda run: np.concatenate([run.parts[side] for side in sizes])[kept].T.astype(float),
    )


def _mesh(mesh: Any) -> dict[str, Any]:
    from nilearn.surface import PolyMesh

    parts = mesh.parts if hasattr(mesh, "parts") else PolyMesh(**mesh).parts
    return cast(dict[str, Any], parts)


def _vertices(source: Any, sizes: Mapping[str, int], what: str) -> NDArray[Any]:
    """Values of a mask, atlas or mesh at the vertices of the hemispheres that were recorded."""
    from nilearn.surface import PolyData

    data = getattr(source, "data", source)
    parts = data.parts if isinstance(data, PolyData) else PolyData(**data).parts
    if any(side not in parts or parts[side].shape[0] != size for side, size in sizes.items()):
        found = {side: part.shape[0] for side, part in parts.items()}
        raise ValueError(
            f"the {what} has vertices {found}, the runs {dict(sizes)}; use the same surface for both."
        )
    return np.concatenate([parts[side] for side in sizes])


def _cifti_grid(runs: Runs, mask: Any, atlas: Any) -> Grid:
    axis = runs.images[0].header.get_axis(1)
    for image, name in zip(runs.images, runs.names, strict=True):
        if image.header.get_axis(1) != axis:
            raise ValueError(
                f"{name} has other grayordinates than {runs.names[0]}; resample them to one set."
            )
    structure = np.array([str(name) for name in axis.name])
    inside = np.ones(len(axis), bool) if mask is None else _grayordinates(mask, axis) > 0
    label = None if atlas is None else _grayordinates(atlas[0], axis).astype(np.int64)
    kept = _kept(inside, label, mask is not None)
    short = np.array([name.removeprefix("CIFTI_STRUCTURE_") for name in structure])
    in_volume = axis.volume_mask
    place = np.where(in_volume[:, None], axis.voxel, -1)
    xyz = np.full((len(axis), 3), np.nan)
    if in_volume.any():
        xyz[in_volume] = place[in_volume] @ axis.affine[:3, :3].T + axis.affine[:3, 3]
    where = [
        f"{v}" if v >= 0 else "-".join(map(str, p)) for v, p in zip(axis.vertex, place.tolist(), strict=True)
    ]
    table = {
        "neuroid_id": np.array([f"{s}-{w}" for s, w in zip(short, where, strict=True)])[kept],
        "structure": short[kept],
        "vertex": np.asarray(axis.vertex)[kept],
        **{name: place[kept, k] for k, name in enumerate("ijk")},
        **{name: xyz[kept, k] for k, name in enumerate("xyz")},
        **(_regions(label[kept], atlas) if label is not None else {"region": short[kept]}),
    }
    attrs: dict[str, Any] = {
        "image": "cifti",
        "surface_vertices": json.dumps({k: int(v) for k, v in axis.nvertices.items()}),
    }
    if in_volume.any():
        attrs["affine"] = [float(value) for value in axis.affine.ravel()]
        attrs["volume_shape"] = [int(size) for size in axis.volume_shape]
    return Grid(
        neuroid=table,
        attrs=attrs,
        read=lambda run: np.asarray(run.dataobj, dtype=float)[:, kept],
    )


def _grayordinates(source: Any, axis: Any) -> NDArray[Any]:
    """Values of a dense CIFTI map (``dscalar``, ``dlabel``) at the grayordinates of ``axis``, else zero."""
    image = load(source)
    own = image.header.get_axis(1)
    values = np.nan_to_num(np.asarray(image.dataobj, dtype=float)[0])
    known = dict(zip(_keys(own), values, strict=True))
    return np.array([known.get(key, 0.0) for key in _keys(axis)])


def _keys(axis: Any) -> list[tuple[Any, ...]]:
    return [(str(n), int(v), *p) for n, v, p in zip(axis.name, axis.vertex, axis.voxel.tolist(), strict=True)]


def _kept(inside: NDArray[Any], label: NDArray[Any] | None, masked: bool) -> NDArray[Any]:
    """A mask decides alone which units there are; without one, an atlas does."""
    kept = inside if label is None or masked else label > 0
    if not kept.any():
        raise ValueError("mask and atlas leave no voxel of the runs; check that they lie in the same space.")
    return kept


def _regions(label: NDArray[Any] | None, atlas: Any) -> dict[str, NDArray[Any]]:
    if label is None:
        return {}
    names = dict(atlas[1] or {})
    present = np.unique(label[label > 0]).tolist()
    if names and (nameless := [value for value in present if value not in names]):
        raise ValueError(
            f"the atlas has label {nameless[0]}, which has no name; give a name for every label."
        )
    table = {value: str(names.get(value, value)) for value in present}
    return {"label": label, "region": np.array([table.get(value, UNLABELLED) for value in label.tolist()])}


def read_atlas(atlas: Any, names: Any) -> tuple[Any, dict[int, str]] | None:
    """Atlas image and the names of its labels, from an image, a path or what nilearn's fetchers give.

    Parameters
    ----------
    atlas
        Label image (path, NIfTI, CIFTI, surface) or a ``Bunch`` with ``maps`` and ``lut``.
    names
        ``{label: name}``, a table or TSV with ``index`` and ``name``, or ``None``.

    Examples
    --------
    >>> read_atlas("atlas.nii.gz", {1: "V1"})
    ('atlas.nii.gz', {1: 'V1'})
    """
    if atlas is None:
        return None
    if not isinstance(atlas, (str, Path)) and hasattr(atlas, "maps"):
        names = getattr(atlas, "lut", None) if names is None else names
        atlas = atlas.maps
    if isinstance(names, (str, Path)):
        names = pd.read_csv(names, sep="\t")
    if isinstance(names, pd.DataFrame):
        if not {"index", "name"} <= set(names.columns):
            raise ValueError(
                f"the atlas table has columns {', '.join(map(str, names.columns))}; it needs index and name."
            )
        names = dict(zip(names["index"], names["name"], strict=True))
    return atlas, {int(label): str(name) for label, name in (names or {}).items()}


def sphere_atlas(spheres: Mapping[str, Sequence[float]], like: Any) -> tuple[Any, dict[int, str]]:
    """Label image of spheres on the voxels of ``like``, for :func:`grid`.

    Parameters
    ----------
    spheres
        ``{name: (x, y, z, radius)}`` in mm.
    like
        Any image on the grid wanted.

    Raises
    ------
    ValueError
        If a sphere has no voxel or two spheres share one.

    Examples
    --------
    >>> import nibabel, numpy as np
    >>> like = nibabel.Nifti1Image(np.zeros((5, 5, 5)), np.eye(4))
    >>> image, names = sphere_atlas({"V1": (2, 2, 2, 1)}, like)
    >>> int((image.get_fdata() == 1).sum()), names
    (7, {1: 'V1'})
    """
    import nibabel
    from nilearn.maskers import NiftiSpheresMasker

    everywhere = nibabel.Nifti1Image(np.ones(like.shape[:3], np.uint8), like.affine)
    label = np.zeros(like.shape[:3], np.int32)
    names = dict(enumerate(spheres, start=1))
    for value, name in names.items():
        *centre, radius = spheres[name]
        if len(centre) != 3 or not radius > 0:
            raise ValueError(
                f"sphere {name!r} is {tuple(spheres[name])}; give x, y, z and a radius above 0, all in mm."
            )
        masker = NiftiSpheresMasker(
            [tuple(centre)], radius=radius, mask_img=everywhere, standardize=None
        ).fit()
        try:
            ball = masker.inverse_transform(np.ones((1, 1))).get_fdata()[..., 0] > 0
        except ValueError:
            raise ValueError(
                f"sphere {name!r} holds no voxel of the runs; its centre is in mm of their space."
            ) from None
        if label[ball].any():
            raise ValueError(
                f"spheres {names[int(label[ball].max())]!r} and {name!r} share voxels; make them smaller."
            )
        label[ball] = value
    return nibabel.Nifti1Image(label, like.affine), names
