"""Representational dissimilarity matrices of labelled arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...models.devices import resolve_device
from ...neuro.assembly import assemble, quoted
from ...neuro.progress import track
from ..engine.threads import spread
from .grams import is_gram, rdm_of_gram
from .metrics import CHUNK, Calculation, check_request, units_of
from .pairs import pair_table
from .patterns import Design, Groups, Indices, find_groups, is_along, read_values


def rdm(
    array: xr.DataArray,
    metric: str = "correlation",
    *,
    noise: Any = None,
    cv: str = "run",
    by: str | Sequence[str] | None = None,
    prior: tuple[float, float] = (1.0, 0.1),
    device: str | torch.device = "auto",
) -> xr.DataArray:
    """Dissimilarities between the patterns that stimuli evoke.

    Parameters
    ----------
    array
        ``presentation × neuroid``, or ``presentation × neuroid × time_bin`` for one RDM a time bin. Presentations of
        one ``stimulus_id`` are averaged first, in each run where the metric is cross-validated. A stimulus whose
        values are all missing in the units of one RDM is missing there, and a warning says so. Inner products of
        ``models.extract_gram`` give the metrics of their own that they determine: the first four.
    metric
        ``"correlation"`` (1 - Pearson's r over units, default), ``"cosine"``, ``"euclidean"``, ``"sqeuclidean"``;
        ``"mahalanobis"`` (Euclidean after whitening by ``noise``).

        Cross-validated over the runs of ``cv``, so 0 on average where two stimuli do not differ, and negative half
        of those times; presentations may be unbalanced over runs, or missing in some: ``"crossnobis"`` (squared
        distance a unit, of whitened patterns where ``noise`` is given; Walther et al., 2016, NeuroImage), ``"ldc"``
        (linear discriminant contrast: the same summed over units), ``"ldt"`` (each run's contrast over its standard
        error, averaged over runs; ``noise`` is that of single presentations), and ``"decoding"`` (accuracy of linear
        discriminants between two stimuli in the run left out, 0.5 by chance; their noise is ``noise``, by default
        that of the repeats in the other runs, shrunk).

        Of counts and rates: ``"poisson"`` (symmetrised Kullback–Leibler divergence a unit; Schütt et al., 2023,
        eLife), ``"poisson-cv"`` (the same cross-validated), ``"jensen-shannon"`` (distance of patterns scaled to sum
        1, from 0 to 1).
    noise
        What patterns are whitened by first: noise **covariance** of the units (units × units; the inverse of a
        precision), their variances (one a unit), or ``"residual"``: covariance of the deviations of presentations
        from the mean of their stimulus, shrunk (Ledoit & Wolf, 2004). A mapping gives each RDM its own (keys: the
        values of ``by``), or each run (keys: those of ``cv``; or runs × units × units), whose patterns are then
        whitened by the symmetric root of its own before runs meet. See :func:`noise_covariance`. Default: no
        whitening.
    cv
        Coordinate along ``presentation`` that tells independent recordings apart.
    by
        Coordinate or coordinates along ``neuroid`` (``"layer"``, ``"region"``, ``["subject", "region"]``), or along
        ``presentation`` (``"subject"`` of people who share channels): one RDM for each of their values. Default: one
        RDM of all.
    prior
        Rate and weight of what is mixed into Poisson rates, so that none is zero.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, … Computed in the precision of the array (integers: float64).

    Returns
    -------
    xarray.DataArray
        ``rdm × pair``, pairs in the order of ``numpy.triu_indices(n_stimuli, 1)``. Labels along ``rdm``:
        ``neuroid_id`` (what ``by`` says), the labels of ``by``, those of the units that are constant in each group,
        and the times.

    Raises
    ------
    ValueError
        If values are missing, a pattern is constant under correlation, a stimulus occurs in one run only under a
        cross-validated metric, rates are negative, or the noise is singular.

    Warns
    -----
    UserWarning
        If a stimulus is missing altogether in some RDMs.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=10, n_units=20, n_repeats=2, random_state=0)
    >>> rsa.rdm(brain, metric="euclidean").shape
    (1, 45)
    """
    check_request(array, metric, noise, cv, prior)
    if is_gram(array):
        return rdm_of_gram(array, metric, by, noise)
    where = resolve_device(device)
    groups = find_groups(array, by)
    design = Design.of(array, cv if is_along(array, cv, "presentation") else None)
    calculation = Calculation(array, groups, metric, noise, cv, prior)
    n, n_times = len(design.stimuli), array.sizes.get("time_bin", 1)
    found: NDArray[Any] | None = None
    chunks = list(_chunks(groups, calculation, design, n_times, where))
    reading = Lock()
    parts = spread(lambda chosen: _of_groups(calculation, design, chosen, where, reading), chunks, where)
    for chosen, part in zip(chunks, track(parts, "dissimilarities", len(chunks)), strict=True):
        if found is None:
            found = np.empty((len(groups.units), n_times, n * (n - 1) // 2), dtype=part.dtype)
        found[chosen] = part
    assert found is not None
    _warn_of_missing(found, groups, metric)
    return assemble(
        found.reshape(-1, found.shape[-1]),
        rdm=_with_times(groups.table, array),
        pair=pair_table(design.stimuli),
        modality=array.attrs["modality"],
        units=units_of(array.attrs["units"], metric, noise is not None),
        provenance=f"rsa.rdm(metric={metric!r}) of: {array.attrs.get('provenance', '')}",
    ).assign_attrs(metric=metric)


def _chunks(
    groups: Groups, calculation: Calculation, design: Design, n_times: int, where: torch.device
) -> Iterator[list[int]]:
    """Groups of equally many units of the same presentations, so many at once as memory should hold."""
    alike: dict[tuple[int, int], list[int]] = {}
    for k, (rows, units) in enumerate(zip(groups.presentations, groups.units, strict=True)):
        alike.setdefault((id(rows), len(units)), []).append(k)
    for (_, n_units), members in alike.items():
        numbers = n_times * calculation.n_numbers(design, n_units)
        step = max(1, CHUNK.get(where.type, 1 << 24) // numbers)
        for start in range(0, len(members), step):
            yield members[start : start + step]


def _of_groups(
    calculation: Calculation, design: Design, chosen: list[int], where: torch.device, reading: Lock
) -> NDArray[Any]:
    """Dissimilarities ``(groups, time bins, pairs)``; missing where a group lacks a stimulus."""
    groups = calculation.groups
    rows = groups.presentations[chosen[0]]
    with reading:
        values = read_values(calculation.array, rows, [groups.units[k] for k in chosen], where)
    if bool(values.sum().isfinite()):
        return _placed(calculation, values, design, rows, chosen)
    parts = []
    for k, part in zip(chosen, values.split(1), strict=True):
        known = (~part.isnan()).any(dim=3).any(dim=1)[0].cpu().numpy()
        if not known.any():
            raise ValueError(
                f"{quoted(groups.table['neuroid_id'][k])} has no values, all are missing; leave it out."
            )
        parts.append(_placed(calculation, part[:, :, np.flatnonzero(known)], design, rows[known], [k]))
    return np.concatenate(parts)


def _placed(
    calculation: Calculation, values: torch.Tensor, design: Design, rows: Indices, chosen: list[int]
) -> NDArray[Any]:
    """Dissimilarities among all stimuli of the design, of some of its presentations."""
    whole = len(rows) == len(design.codes)
    here = design if whole else design.select(rows)
    found = calculation.dissimilarities(values, here, chosen).cpu().numpy()
    n = len(design.stimuli)
    if len(here.stimuli) == n:
        return found
    index = np.zeros((n, n), dtype=np.intp)
    index[np.triu_indices(n, 1)] = np.arange(n * (n - 1) // 2)
    kept = np.unique(design.codes[rows])
    out = np.full((*found.shape[:-1], n * (n - 1) // 2), np.nan, dtype=found.dtype)
    out[..., index[np.ix_(kept, kept)][np.triu_indices(len(kept), 1)]] = found
    return out


def _warn_of_missing(found: NDArray[Any], groups: Groups, metric: str) -> None:
    missing = np.isnan(found).any(axis=1)
    lacking = np.flatnonzero(missing.any(axis=1))
    if lacking.size:
        label = groups.table["neuroid_id"][lacking[0]]
        warnings.warn(
            f"{lacking.size} of {len(found)} RDMs lack stimuli altogether, the first {quoted(label)}: "
            f"{int(missing.sum())} of their dissimilarities by {metric} are missing (NaN).",
            stacklevel=3,
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
