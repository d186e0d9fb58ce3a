"""Scores of centres back in the brain: as images, and as maps that can be drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ...neuro.assembly import quoted
from ...neuro.brainmaps import to_img
from ..results import Result
from .places import read_mesh

#: attributes without which values of voxels have no image
PLACE = ("modality", "affine", "volume_shape", "image", "surface_vertices")


def to_image(
    result: Result | xr.Dataset,
    like: Any = None,
    *,
    model: str | None = None,
    variable: str = "score",
    subject: str | None = None,
    fill: float = np.nan,
) -> Any:
    """Put what a searchlight found, or statistics of it, back into the brain.

    Parameters
    ----------
    result
        Of :func:`run_searchlight`; or a dataset with the labels of voxels or vertices along ``unit``, as
        :func:`~cerebridge.encoding.group.group_statistics` and :func:`~cerebridge.encoding.clusters.cluster_test` give.
    like
        Where the values lie, if the result does not say it: an array that was read, an image on the same grid, or a
        mesh or ``SurfaceImage``; for vertices by default the mesh ``"fsaverage5"``.
    model
        Whose values; default all: of several models one volume each, in their order.
    variable
        What of the result; scores are averaged over splits.
    subject
        Whose, where the units are of several people.
    fill
        Value outside the centres and where there is no score; default NaN (missing).

    Returns
    -------
    nibabel.Nifti1Image or nilearn.surface.SurfaceImage
        ``.to_filename(path)`` of the first, and of the second's ``.data``, writes NIfTI or GIFTI.

    Raises
    ------
    ValueError
        If there is no such variable, model or subject, or the place of the values is unknown.

    Examples
    --------
    >>> import nibabel, numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(modality="fmri", n_stimuli=8, n_units=60, random_state=0)
    >>> at = dict(zip("ijk", np.unravel_index(np.arange(60), (5, 4, 3))))
    >>> places = {**at, **dict(zip("xyz", at.values()))}
    >>> brain = brain.assign_coords({name: ("neuroid", place) for name, place in places.items()})
    >>> result = rsa.run_searchlight(brain, {"all": rsa.rdm(brain)}, radius=2)
    >>> rsa.to_image(result, nibabel.Nifti1Image(np.zeros((5, 4, 3)), np.eye(4))).shape
    (5, 4, 3)
    """
    values = select_map(result, model=model, variable=variable, subject=subject)
    if not np.isnan(fill):
        values = values.fillna(fill)
    if {"hemisphere", "vertex"} <= set(values.coords) and (like is None or isinstance(like, str)):
        like = read_mesh("fsaverage5" if like is None else like)
    return to_img(values, like, fill)


def select_map(
    result: Result | xr.Dataset,
    *,
    model: str | None = None,
    variable: str = "score",
    subject: str | None = None,
) -> xr.DataArray:
    """One map of a result, or one a model, to be drawn.

    :func:`~cerebridge.encoding.plots.plot_map` draws voxels, :func:`~cerebridge.encoding.plots.plot_cortex` vertices.

    Parameters
    ----------
    result, model, variable, subject
        As for :func:`to_image`.

    Returns
    -------
    xarray.DataArray
        ``unit``, or ``model × unit``, with the labels of the units and what places them in an image.

    Raises
    ------
    ValueError
        If there is no such variable, model or subject.

    Examples
    --------
    >>> import xarray as xr
    >>> from cerebridge.encoding.rsa.images import select_map
    >>> t = xr.Dataset({"t": (("model", "unit"), [[1.0, 2.0]])}, {"model": ["faces"], "vertex": ("unit", [4, 5])})
    >>> select_map(t, variable="t").values
    array([1., 2.])
    """
    dataset = result.dataset if isinstance(result, Result) else result
    if variable not in dataset or "unit" not in dataset[variable].dims:
        known = [str(name) for name, each in dataset.items() if "unit" in each.dims]
        raise ValueError(f"the result has no {variable!r} of units; there are {', '.join(known)}.")
    values = dataset[variable]
    if "split" in values.dims:
        values = values.mean("split")
    if model is not None:
        values = _selected(values, "model", model)
    if subject is not None:
        values = _selected(values, "subject", subject)
    if "model" in values.dims and values.sizes["model"] == 1:
        values = values.isel(model=0)
    return values.assign_attrs({name: dataset.attrs[name] for name in PLACE if name in dataset.attrs})


def _selected(values: xr.DataArray, label: str, name: str) -> xr.DataArray:
    labels = values.coords[label].values if label in values.coords else np.array([])
    here = np.flatnonzero(np.atleast_1d(labels).astype(str) == str(name))
    if not here.size:
        known = ", ".join(map(repr, dict.fromkeys(np.atleast_1d(labels).tolist()))) or "none"
        raise ValueError(f"the result has no {label} {quoted(name)}; there are {known}.")
    dims = values.coords[label].dims
    if not dims:
        return values
    return values.isel({dims[0]: int(here[0]) if dims == (label,) else here})
