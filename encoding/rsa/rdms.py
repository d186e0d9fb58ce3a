"""Representational dissimilarity matrices of labelled arrays, their square form and their averages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ...models.devices import resolve_device
from ...neuro.assembly import assemble, quoted, validate
from ..engine import dissimilarity as engine
from .comparison import precision
from .pairs import check_rdms, pair_table, stimulus_order
from .patterns import mean_patterns, noise_covariance, run_patterns, select_units, unit_groups

METRICS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "correlation": engine.correlation,
    "cosine": engine.cosine,
    "euclidean": engine.euclidean,
    "sqeuclidean": engine.sqeuclidean,
    "mahalanobis": engine.euclidean,
}
#: elements of patterns or Gram matrices held at once; more time bins than that are worked through in parts
CHUNK = 1 << 25


def rdm(
    array: xr.DataArray,
    metric: str = "correlation",
    *,
    noise: Any = None,
    cv: str = "run",
    by: str | Sequence[str] | None = None,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    """Dissimilarities between the patterns that stimuli evoke.

    Parameters
    ----------
    array
        ``presentation × neuroid``, or ``presentation × neuroid × time_bin`` for one RDM a time bin. Presentations of
        one ``stimulus_id`` are averaged first, except for crossnobis.
    metric
        ``"correlation"`` (1 - Pearson's r over units, default), ``"cosine"``, ``"euclidean"``, ``"sqeuclidean"``,
        ``"mahalanobis"`` (Euclidean after whitening by ``noise``), or ``"crossnobis"``: cross-validated squared
        distance a unit over the runs of ``cv``, of whitened patterns where ``noise`` is given. It is unbiased: 0 on
        average where two stimuli do not differ, and negative half of those times (Walther et al., 2016, NeuroImage).
        Presentations of a stimulus may be unbalanced over runs, or missing in some.
    noise
        What patterns are whitened by first, for any metric: noise **covariance** of the units (units × units; the
        inverse of a precision), their variances (one a unit), or ``"residual"``: covariance of the deviations of
        presentations from the mean of their stimulus, shrunk (Ledoit & Wolf, 2004). Default: no whitening.
    cv
        Coordinate along ``presentation`` that tells independent recordings apart, for crossnobis.
    by
        Coordinate or coordinates along ``neuroid`` (``"layer"``, ``"region"``, ``["subject", "region"]``): one RDM
        for each of their values. Default: one RDM of all units.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, … Computed in the precision of the array (integers: float64).

    Returns
    -------
    xarray.DataArray
        ``rdm × pair``, pairs in the order of ``numpy.triu_indices(n_stimuli, 1)``. Labels along ``rdm``:
        ``neuroid_id`` (what ``by`` says), those labels of the units that are constant in each group, and the times.

    Raises
    ------
    ValueError
        If values are missing, a pattern is constant under correlation, a stimulus occurs in one run only under
        crossnobis, or the noise is singular.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=10, n_units=20, n_repeats=2, random_state=0)
    >>> rsa.rdm(brain, metric="euclidean").shape
    (1, 45)
    """
    _check_request(array, metric, noise)
    where = resolve_device(device)
    groups, table = unit_groups(array, by)
    vectors, stimuli = [], np.array([])
    for units, label in zip(groups, table["neuroid_id"], strict=True):
        part = select_units(array, units).load()
        covariance = noise_covariance(noise, part, units, array.sizes["neuroid"], str(label))
        if metric == "crossnobis":
            patterns, counts, stimuli = run_patterns(part, cv, str(label), where)
        else:
            (patterns, stimuli), counts = mean_patterns(part, str(label), where), None
        if len(stimuli) < 2:
            raise ValueError(
                f"{quoted(label)} has one stimulus, {quoted(stimuli[0])}; a dissimilarity needs two."
            )
        found = _dissimilarities(patterns, metric, covariance, counts)
        _check_defined(found, patterns, stimuli, metric, str(label))
        vectors.append(found.cpu().numpy())
    return assemble(
        np.concatenate(vectors),
        rdm=_with_times(table, array),
        pair=pair_table(stimuli),
        modality=array.attrs["modality"],
        units=_units(array.attrs["units"], metric, noise is not None),
        provenance=f"rsa.rdm(metric={metric!r}) of: {array.attrs.get('provenance', '')}",
    ).assign_attrs(metric=metric)


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
        ``rdm × pair`` with the labels that are constant within each mean, and ``n_rdms``. A pair that is missing in
        one RDM is missing in the mean.

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
    total = np.zeros((len(first), rdms.sizes["pair"]))
    np.add.at(total, codes, rdms.values)
    counts = np.bincount(codes)
    out = rdms.isel(rdm=first).copy(data=total / counts[:, None])
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


def _check_request(array: xr.DataArray, metric: str, noise: Any) -> None:
    if validate(array).dims[0] != "presentation":
        raise ValueError(
            f"dissimilarities are between presentations, and the array is {' × '.join(map(str, array.dims))}; "
            "cut a recording into trials first."
        )
    known = (*METRICS, "crossnobis")
    if metric not in known:
        raise ValueError(f"metric={metric!r} is unknown; use {', '.join(map(repr, known))}.")
    if metric == "mahalanobis" and noise is None:
        raise ValueError("metric='mahalanobis' needs noise=: a covariance, variances, or 'residual'.")


def _dissimilarities(
    patterns: torch.Tensor, metric: str, covariance: NDArray[Any] | None, counts: torch.Tensor | None
) -> torch.Tensor:
    """All time bins, so many at once as memory should hold."""
    n = patterns.shape[1]
    step = max(1, CHUNK // max(n * n, patterns[0].numel()))
    noise = (
        None
        if covariance is None
        else torch.as_tensor(covariance, dtype=precision(patterns.device), device=patterns.device)
    )
    parts = []
    for part in patterns.split(step):
        whitened = part if noise is None else _whiten(part, noise)
        parts.append(METRICS[metric](whitened) if counts is None else engine.crossnobis(whitened, counts))
    return torch.cat(parts)


def _whiten(patterns: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    try:
        return engine.whiten(patterns, noise)
    except ValueError:
        raise ValueError(
            f"the noise covariance of {len(noise)} units is singular; shrink it, e.g. by "
            "sklearn.covariance.ledoit_wolf, or give variances only."
        ) from None


def _check_defined(
    found: torch.Tensor, patterns: torch.Tensor, stimuli: NDArray[Any], metric: str, label: str
) -> None:
    undefined = found.isnan()
    if not bool(undefined.any()):
        return
    time, pair = (int(k) for k in undefined.nonzero()[0])
    a, b = (stimuli[k[pair]] for k in np.triu_indices(len(stimuli), 1))
    if metric == "crossnobis":
        raise ValueError(
            f"stimuli {quoted(a)} and {quoted(b)} of {label!r} never occur in the same run; "
            "crossnobis needs one that holds both."
        )
    here = patterns[time]
    size = here.abs().amax(dim=-1)
    flatness = (
        size if metric == "cosine" else (here.amax(dim=-1) - here.amin(dim=-1)) / size.where(size > 0, 1)
    )
    kind = "zero" if metric == "cosine" else "constant"
    raise ValueError(
        f"the pattern of stimulus {quoted(stimuli[int(flatness.argmin())])} is {kind} over the {here.shape[-1]} "
        f"units of {label!r}, so metric={metric!r} is undefined; leave the stimulus out or use metric='euclidean'."
    )


def _with_times(table: dict[str, NDArray[Any]], array: xr.DataArray) -> dict[str, NDArray[Any]]:
    """The RDMs' labels, repeated for every time bin."""
    if "time_bin" not in array.dims:
        return table
    times = {str(name): c.values for name, c in array.coords.items() if c.dims == ("time_bin",)}
    n_groups, n_times = len(table["neuroid_id"]), array.sizes["time_bin"]
    out = {name: np.repeat(labels, n_times) for name, labels in table.items()}
    out |= {name: np.tile(labels, n_groups) for name, labels in times.items()}
    bins = zip(out["neuroid_id"], out["time_bin_start"], out["time_bin_end"], strict=True)
    out["neuroid_id"] = np.array([f"{label} | {start:.10g} to {end:.10g} s" for label, start, end in bins])
    return out


def _units(units: str, metric: str, whitened: bool) -> str:
    if metric in ("correlation", "cosine") or whitened:
        return "1"
    return units if metric == "euclidean" else f"({units})^2"
