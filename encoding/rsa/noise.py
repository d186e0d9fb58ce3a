"""Noise of units: estimated from repeats or residuals, or given by the user, and what whitens the patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ...models.devices import resolve_device
from ...neuro.assembly import quoted, validate
from ..containers import to_tensor
from ..engine.covariance import estimate
from ..parameters import whole_number
from .patterns import Design, Indices, check_finite, split_labels
from .preparation import precision

Array = NDArray[Any]
SHRINKAGES = ("ledoit-wolf", "oas")


def noise_covariance(
    array: xr.DataArray,
    of: str = "repeats",
    *,
    shrinkage: str | float | None = "ledoit-wolf",
    by: str | Sequence[str] | None = None,
    dof: int | None = None,
    device: str | torch.device = "auto",
) -> Any:
    """Covariance of the noise of units, for ``noise=`` of :func:`rdm`.

    Parameters
    ----------
    array
        ``presentation × neuroid [× time_bin]``, or ``time_bin × neuroid`` for residuals. Time bins of presentations
        are pooled.
    of
        ``"repeats"``: deviations of presentations from the mean of their stimulus. ``"residuals"``: the array holds
        what a model (a GLM) left of the recording.
    shrinkage
        Towards equal variances: ``"ledoit-wolf"`` (default; Ledoit & Wolf, 2004), ``"oas"`` (Chen et al., 2010), how
        far from 0 to 1, or ``None``.
    by
        Coordinate or coordinates along units (``"region"``) or along rows (``"run"``): one covariance for each of
        their values. Deviations are then from the means within each of these.
    dof
        Degrees of freedom that are left to each covariance, by which sums of squares are divided: rows less the
        regressors of the GLM. Default: rows less the means taken off.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, … Computed in float64 wherever the device has it.

    Returns
    -------
    xarray.DataArray or dict
        ``neuroid × neuroid_b`` with the labels of units; with ``by`` a dictionary by value, of units outside that of
        rows where both are named.

    Raises
    ------
    ValueError
        If values are missing, nothing is repeated, or a unit has no noise.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=10, n_units=20, n_repeats=3, random_state=0)
    >>> rsa.noise_covariance(brain).shape
    (20, 20)
    """
    _check_options(array, of, shrinkage)
    dof = None if dof is None else whole_number(dof, "dof")
    where = resolve_device(device)
    names = [] if by is None else [by] if isinstance(by, str) else list(by)
    rows_dim = "presentation" if of == "repeats" or "presentation" in array.dims else "time_bin"
    along = {
        dim: [name for name in names if name in array.coords and array.coords[name].dims == (dim,)]
        for dim in ("neuroid", rows_dim)
    }
    unknown = [name for name in names if name not in along["neuroid"] + along[rows_dim]]
    if unknown:
        raise ValueError(f"by={unknown[0]!r} is no coordinate along 'neuroid' or {rows_dim!r}.")

    def of_rows(units: xr.DataArray, label: str) -> Any:
        if not along[rows_dim]:
            return _labelled(units, of, shrinkage, dof, label, where)
        return {
            key: _labelled(units.isel({rows_dim: rows}), of, shrinkage, dof, f"{label}, {by} {key}", where)
            for key, rows in _by_label(units, rows_dim, along[rows_dim]).items()
        }

    if not along["neuroid"]:
        return of_rows(array, _name(array))
    groups = _by_label(array, "neuroid", along["neuroid"])
    return {str(key): of_rows(array.isel(neuroid=units), str(key)) for key, units in groups.items()}


def residual_covariance(
    values: torch.Tensor,
    design: Design,
    labels: list[str],
    units: list[Array],
    shrinkage: str | float | None = "ledoit-wolf",
    dof: int | None = None,
) -> torch.Tensor:
    """Covariance ``(groups, units, units)`` of deviations from the mean of each stimulus, pooled over time.

    Parameters
    ----------
    values, design, labels, units, dof
        As of :func:`residuals`.
    """
    deviations, free = residuals(values, design, labels, units, dof)
    return estimate(deviations, shrinkage) * (len(design.codes) / free)


def residuals(
    values: torch.Tensor, design: Design, labels: list[str], units: list[Array], dof: int | None = None
) -> tuple[torch.Tensor, int]:
    """Deviations from the mean of each stimulus, ``(groups, time bins × presentations, units)``, and their freedom.

    Parameters
    ----------
    values
        ``(groups, time bins, presentations, units)``.
    design
        Whose stimuli are averaged, whatever their run.
    labels, units
        For messages: what the groups and their units are called.
    dof
        Degrees of freedom of a time bin, if others than presentations less stimuli.
    """
    free = len(design.codes) - len(design.stimuli) if dof is None else dof
    if free < 1:
        raise ValueError(
            f"the noise of {labels[0]!r} needs repeated stimuli, and it has one presentation of each; take it from "
            "other recordings, or leave it out."
        )
    exact = values.to(precision(values.device))
    codes = torch.as_tensor(design.codes, device=values.device)
    deviations = (exact - design.pooled.means(exact)[..., 0, :][..., codes, :]).flatten(1, 2)
    quiet = ~(deviations.square().amax(dim=-2) > 0)
    if bool(quiet.any()):
        group, unit = (int(k) for k in quiet.nonzero()[0])
        raise ValueError(
            f"unit {quoted(units[group][unit])} of {labels[group]!r} has no noise at all, so nothing can be scaled by "
            "it; leave it out."
        )
    return deviations, free


def given_noise(noise: Any, array: xr.DataArray, units: Indices, label: str, runs: Array) -> Array:
    """Noise of some units as the user gave it, checked.

    Parameters
    ----------
    noise
        Variances, a covariance, or a mapping of the RDMs' labels or of runs (or one in the other) to such.
    array
        Whose units they are.
    units
        Positions along ``neuroid``.
    label
        Of the RDM of these units.
    runs
        Labels of the runs.

    Returns
    -------
    numpy.ndarray
        ``(units,)``, ``(units, units)`` or, of noise that differs between runs, ``(runs, units, units)``.
    """
    own = isinstance(noise, Mapping) and label in noise
    if own:
        noise = noise[label]
    if isinstance(noise, Mapping):
        keys = {str(key): value for key, value in noise.items()}
        missing = [run for run in runs if str(run) not in keys]
        if missing:
            raise ValueError(
                f"noise is a mapping without {label!r} and without run {quoted(missing[0])}; give one covariance for "
                "each value of by=, or for each run."
            )
        parts = [_checked(keys[str(run)], array, units, label, own) for run in runs]
        return np.stack([part if part.ndim == 2 else np.diag(part) for part in parts])
    if np.ndim(noise) == 3:
        if len(noise) != len(runs):
            raise ValueError(
                f"noise has the shape {np.shape(noise)}; for {len(runs)} runs give {len(runs)} of them."
            )
        return np.stack([_checked(part, array, units, label, own) for part in noise])
    return _checked(noise, array, units, label, own)


def _checked(noise: Any, array: xr.DataArray, units: Indices, label: str, own: bool) -> Array:
    n_units, k = array.sizes["neuroid"], len(units)
    if isinstance(noise, xr.DataArray) and "neuroid_id" in noise.coords:
        at = pd.Index(noise.coords["neuroid_id"].values).get_indexer(array.coords["neuroid_id"].values[units])
        if (at < 0).any():
            unit = array.coords["neuroid_id"].values[units[int(np.argmin(at))]]
            raise ValueError(
                f"the noise of {label!r} lacks unit {quoted(unit)}; estimate it from the same units."
            )
        units, n_units = at, noise.shape[0]
    noise = np.asarray(noise, dtype=np.float64)
    if own and noise.shape in ((k,), (k, k)):
        units = np.arange(k)
    elif noise.shape not in ((n_units,), (n_units, n_units)):
        raise ValueError(
            f"noise has the shape {noise.shape}; for {n_units} units it must be {(n_units, n_units)} or {(n_units,)}."
        )
    if not np.array_equal(units, np.arange(noise.shape[0])):
        noise = noise[units] if noise.ndim == 1 else noise[np.ix_(units, units)]
    variances = noise if noise.ndim == 1 else noise.diagonal()
    if not np.isfinite(noise.sum()) or not (variances > 0).all():
        raise ValueError(
            f"the noise of {label!r} has missing values or variances that are not positive; leave such units out."
        )
    if (
        noise.ndim == 2
        and not np.array_equal(noise, noise.T)
        and not np.allclose(noise, noise.T, rtol=1e-5, atol=1e-8 * variances.max())
    ):
        raise ValueError(
            "the noise covariance is not symmetric; give the covariance of the units, not their loadings."
        )
    return noise


def _check_options(array: xr.DataArray, of: str, shrinkage: Any) -> None:
    dims = validate(array).dims
    if of not in ("repeats", "residuals"):
        raise ValueError(f"of={of!r} is unknown; use 'repeats' or 'residuals'.")
    if "neuroid" not in dims or (of == "repeats" and "presentation" not in dims):
        raise ValueError(
            f"the noise of {of} cannot come from {' × '.join(map(str, dims))}; give presentation × neuroid, or "
            "time_bin × neuroid with of='residuals'."
        )
    known = shrinkage is None or (
        shrinkage in SHRINKAGES
        if isinstance(shrinkage, str)
        else isinstance(shrinkage, (int, float)) and 0 <= shrinkage <= 1
    )
    if not known:
        raise ValueError(
            f"shrinkage={shrinkage!r} is unknown; use 'ledoit-wolf', 'oas', a number from 0 to 1, or None."
        )


def _labelled(
    array: xr.DataArray, of: str, shrinkage: Any, dof: int | None, label: str, where: torch.device
) -> xr.DataArray:
    units = array.coords["neuroid_id"].values
    rows_dim = "presentation" if "presentation" in array.dims else "time_bin"
    values = to_tensor(array, where).movedim(1, -1)
    values = values[None, None] if values.ndim == 2 else values.movedim(1, 0)[None]
    names = (
        array.coords["stimulus_id"].values if "stimulus_id" in array.coords else np.arange(values.shape[2])
    )
    check_finite(values, label, names, units)
    design = (
        Design.of(array)
        if of == "repeats"
        else Design(*np.zeros((2, values.shape[2]), int), *np.zeros((2, 1)))
    )
    if of == "residuals" and array.sizes[rows_dim] < 2:
        raise ValueError(f"{label!r} has one row of residuals; a covariance needs at least two.")
    found = residual_covariance(values, design, [label], [units], shrinkage, dof)[0].cpu().numpy()
    coords = {str(name): c for name, c in array.coords.items() if c.dims == ("neuroid",)}
    return xr.DataArray(
        found,
        dims=("neuroid", "neuroid_b"),
        coords=coords,
        attrs={"modality": array.attrs["modality"], "units": f"({array.attrs['units']})^2", "of": of},
    )


def _by_label(array: xr.DataArray, dim: str, names: list[str]) -> dict[Any, Indices]:
    groups, table = split_labels(array, dim, names)
    labels = [table[name] for name in names]
    keys = (
        labels[0].tolist()
        if len(labels) == 1
        else [" | ".join(map(str, key)) for key in zip(*labels, strict=True)]
    )
    return dict(zip(keys, groups, strict=True))


def _name(array: xr.DataArray) -> str:
    return str(array.name or array.attrs["modality"])
