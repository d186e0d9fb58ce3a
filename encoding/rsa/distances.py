"""How dissimilarities vary together from measurement to measurement."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...models.devices import resolve_device
from ..containers import to_tensor
from ..engine.distances import distance_covariance as covariance_of
from .pairs import check_rdms, stimulus_order
from .preparation import precision

Array = NDArray[Any]
#: metrics whose covariance is known, and whether they are cross-validated
KNOWN = {"crossnobis": True, "ldc": True, "sqeuclidean": False}
#: numbers of all covariances together
MOST = 1 << 28


def distance_covariance(
    rdms: xr.DataArray,
    *,
    n_runs: int,
    n_units: int | None = None,
    noise: Any = None,
    stimulus_noise: Any = None,
    signal: bool = True,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    r"""Covariance of crossnobis or squared Euclidean distances over repetitions of the experiment.

    For distances a unit of patterns whose noise in each run is normal, between two pairs of stimuli
    :math:`\left(\tfrac{4}{M} \Delta \circ \Xi \, \tfrac{\mathrm{tr}\,\Sigma}{P} + \tfrac{2}{M (M - 1)} \Xi \circ \Xi
    \, \tfrac{\mathrm{tr}\,\Sigma^2}{P}\right) / P`, with :math:`\Delta` the inner products a unit of true differences,
    which the distances themselves estimate, :math:`\Xi` those of the stimuli's noise, :math:`\Sigma` the covariance
    of the noise of units (Diedrichsen et al., 2021, Neurons Behav Data Anal Theory; Schütt et al., 2023, eLife). The
    signal is taken to have no preferred direction among the units. Without cross-validation :math:`M^2` replaces
    :math:`M (M - 1)`.

    Parameters
    ----------
    rdms
        ``rdm × pair`` of :func:`rdm` with ``metric="crossnobis"``, ``"ldc"`` or ``"sqeuclidean"``.
    n_runs
        M: independent runs behind each distance.
    n_units
        P: units behind each distance. Default: those of ``noise``.
    noise
        What covariance of the units is left in the patterns of one run: units × units, or variances. Default:
        uncorrelated with variance 1, as after whitening by the noise of a single presentation.
    stimulus_noise
        Covariance of the noise between stimuli (stimuli × stimuli, in order of first appearance), or variances: 1
        over the presentations a run. Default: 1 each.
    signal
        Whether the distances' own part is added; without it the covariance is that where no stimuli differ.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, … Computed in float64 wherever the device has it.

    Returns
    -------
    xarray.DataArray
        ``rdm × pair × pair_b``, pairs as in ``rdms``.

    Raises
    ------
    ValueError
        If the metric is another, a size does not fit, or the result would not fit into memory.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> rdms = rsa.rdm(neuro.simulate(n_stimuli=6, n_units=20, random_state=0), "sqeuclidean")
    >>> rsa.distance_covariance(rdms, n_runs=1, n_units=20).shape
    (1, 15, 15)
    """
    metric = check_rdms(rdms, "the array").attrs.get("metric")
    if metric not in KNOWN:
        raise ValueError(
            f"the covariance of distances is known for {', '.join(map(repr, KNOWN))}, and these RDMs are of "
            f"metric={metric!r}."
        )
    crossvalidated = KNOWN[metric]
    if n_runs < 1 + crossvalidated:
        raise ValueError(f"n_runs={n_runs}, but {metric} distances come from at least {1 + crossvalidated}.")
    stimuli, index = stimulus_order(rdms, "the array")
    n_pairs = rdms.sizes["pair"]
    if rdms.size * n_pairs > MOST:
        raise ValueError(
            f"{rdms.sizes['rdm']} covariances of {n_pairs} distances take {rdms.size * n_pairs * 8 / 2**30:.1f} GiB; "
            "select stimuli or RDMs first."
        )
    if bool(rdms.isnull().any()):
        raise ValueError("the RDMs have missing dissimilarities; select the stimuli that all have first.")
    where = resolve_device(device)
    n_units, trace, trace_of_square = _sizes(noise, n_units)
    # crossnobis is a mean over units, the others are sums
    over = n_units if metric == "crossnobis" else 1
    folds = n_runs * (n_runs - 1 if crossvalidated else n_runs)
    found = covariance_of(
        to_tensor(
            np.where(np.eye(len(stimuli), dtype=bool), 0, rdms.values[:, index]), where, precision(where)
        ),
        to_tensor(_between(stimulus_noise, len(stimuli)), where, precision(where)),
        linear=signal * 4 * trace / (n_runs * n_units * over),
        quadratic=2 * trace_of_square / (folds * over**2),
        bias=0.0 if crossvalidated else trace / (n_runs * over),
    )
    order = index[np.triu_indices(len(stimuli), 1)]
    values = np.empty(found.shape)
    values[:, order[:, None], order] = found.cpu().numpy()
    pairs = {name: rdms.coords[name].values for name in ("stimulus_a", "stimulus_b")}
    return xr.DataArray(
        values,
        dims=("rdm", "pair", "pair_b"),
        coords={
            **{str(name): c for name, c in rdms.coords.items() if c.dims == ("rdm",)},
            **{name: ("pair", labels) for name, labels in pairs.items()},
            **{f"{name}_b": ("pair_b", labels) for name, labels in pairs.items()},
        },
        attrs={"metric": metric, "n_runs": n_runs, "n_units": n_units},
    )


def _sizes(noise: Any, n_units: int | None) -> tuple[int, float, float]:
    """Number of units, and traces of their covariance and of its square."""
    if noise is None:
        if n_units is None:
            raise ValueError("give n_units=, how many units are behind each distance, or their noise=.")
        return n_units, float(n_units), float(n_units)
    noise = np.asarray(noise, dtype=np.float64)
    units = len(noise) if noise.ndim else 0
    if noise.shape not in ((units,), (units, units)) or (n_units is not None and n_units != units):
        raise ValueError(
            f"noise has the shape {noise.shape}; it must be units × units or one variance a unit, of all the units "
            "behind each distance."
        )
    return units, float(noise.sum() if noise.ndim == 1 else noise.trace()), float((noise**2).sum())


def _between(noise: Any, n: int) -> Array:
    """Covariance of the noise of ``n`` stimuli."""
    noise = np.ones(n) if noise is None else np.asarray(noise, dtype=np.float64)
    if noise.shape not in ((n,), (n, n)):
        raise ValueError(
            f"stimulus_noise has the shape {noise.shape}; for {n} stimuli it must be {(n, n)} or {(n,)}."
        )
    return np.diag(noise) if noise.ndim == 1 else noise
