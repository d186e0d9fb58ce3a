"""Other forms of RDMs: square matrices, and means."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from ...neuro.assembly import validate
from .pairs import check_rdms, stimulus_order


def square(rdms: xr.DataArray) -> xr.DataArray:
    """Symmetric matrices, to look at and to select from by stimulus; also ``rdms.rsa.square``.

    Parameters
    ----------
    rdms
        ``rdm × pair``, every pair once, in any order.

    Returns
    -------
    xarray.DataArray
        ``rdm × stimulus_a × stimulus_b``, stimuli in order of first appearance, zeros on the diagonal.

    Raises
    ------
    ValueError
        If a pair is missing or occurs twice.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> rdms = rsa.rdm(neuro.simulate(n_stimuli=10, n_units=20, random_state=0))
    >>> rsa.square(rdms).shape
    (1, 10, 10)
    """
    stimuli, index = stimulus_order(check_rdms(rdms, "the array"), "the array")
    values = rdms.values[:, index]
    diagonal = np.arange(len(stimuli))
    values[:, diagonal, diagonal] = 0
    labels = {name: c for name, c in rdms.coords.items() if c.dims == ("rdm",)}
    return xr.DataArray(
        values,
        dims=("rdm", "stimulus_a", "stimulus_b"),
        coords={**labels, "stimulus_a": stimuli, "stimulus_b": stimuli},
        attrs=rdms.attrs,
    )


def average(rdms: xr.DataArray, by: str | None = None) -> xr.DataArray:
    """Mean of RDMs, for example of a person's sessions or of all people.

    Parameters
    ----------
    rdms
        ``rdm × pair``.
    by
        Coordinate along ``rdm``: one mean for each of its values, in order of first appearance. Default: one of all.

    Returns
    -------
    xarray.DataArray
        ``rdm × pair`` with the labels that are constant within each mean, and ``n_rdms``. A pair's mean is that of
        the RDMs that have it; one that none has is missing.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=10, n_units=20, random_state=0)
    >>> rsa.average(rsa.rdm(brain, by="neuroid_id", metric="euclidean")).shape
    (1, 45)
    """
    check_rdms(rdms, "the array")
    if by is not None and (by not in rdms.coords or rdms.coords[by].dims != ("rdm",)):
        names = [repr(name) for name, c in rdms.coords.items() if c.dims == ("rdm",)]
        raise ValueError(f"by={by!r} is no coordinate along 'rdm'; there are {', '.join(names)}.")
    labels = np.zeros(rdms.sizes["rdm"]) if by is None else rdms.coords[by].values
    codes, names = pd.factorize(labels)
    first = np.unique(codes, return_index=True)[1]
    total, known = np.zeros((2, len(first), rdms.sizes["pair"]))
    missing = np.isnan(rdms.values)
    np.add.at(total, codes, np.where(missing, 0, rdms.values))
    np.add.at(known, codes, ~missing)
    counts = np.bincount(codes)
    mean = np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0)
    out = rdms.isel(rdm=first).copy(data=mean)
    for name, coord in rdms.coords.items():
        if coord.dims == ("rdm",):
            same = pd.factorize(coord.values)[0]
            if (same != same[first][codes]).any():
                out = out.drop_vars([name])
    ids = ["mean"] if by is None else [str(name) for name in names]
    return validate(out.assign_coords(neuroid_id=("rdm", ids), n_rdms=("rdm", counts)))


@xr.register_dataarray_accessor("rsa")
class RsaAccessor:
    """``rdms.rsa.square`` on any ``rdm × pair`` array."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    @property
    def square(self) -> xr.DataArray:
        """Symmetric matrices, ``rdm × stimulus_a × stimulus_b``; see :func:`square`."""
        return square(self._array)
