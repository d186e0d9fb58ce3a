"""Labelled designs of count models: tuning, history and coupling as one table of features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from .containers import kind_of, labels_along, to_tensor
from .inputs import group_labels

if TYPE_CHECKING:
    from .basis import Basis


def design(terms: Mapping[str, tuple[Basis, Any]], groups: Any = None) -> xr.DataArray:
    """Make one table of features from bases and time courses.

    Parameters
    ----------
    terms
        Name of a band to a basis and time courses ``(time bins, sources)``. A basis with a ``window`` is convolved
        with the past of each source, one without is evaluated at its values. A basis of several inputs takes the
        sources as these.
    groups
        One label a time bin, or the name of a coordinate (``"trial"``): no past reaches over its changes.

    Returns
    -------
    xarray.DataArray
        ``time_bin × neuroid``; along the features ``band``, ``source`` and ``basis`` (number of the function) say
        what each is. Labels of time bins are those of the first labelled time courses.

    Raises
    ------
    ValueError
        If there are no terms, or their time courses are not equally long.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import bases
    >>> rng = np.random.default_rng(0)
    >>> terms = {
    ...     "speed": (bases.BSpline(4), rng.random((50, 1))),
    ...     "coupling": (bases.RaisedCosine(2, spacing="log", window=8), rng.poisson(0.5, (50, 3))),
    ... }
    >>> features = bases.design(terms)
    >>> features.shape, features.band.values[[0, -1]].tolist(), features.source.values[[0, -1]].tolist()
    ((50, 10), ['speed', 'coupling'], ['0', '2'])
    """
    if not terms:
        raise ValueError("there are no terms; give at least one band with its basis and time courses.")
    courses = {band: _table(x) for band, (_, x) in terms.items()}
    lengths = {band: len(course) for band, course in courses.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"time courses differ in length ({lengths}); cut them to the same time bins.")
    arrays = [x for _, x in terms.values()]
    labels = group_labels(groups, next(iter(lengths.values())), arrays)
    blocks, names = [], []
    for band, (basis, x) in terms.items():
        columns = courses[band]
        sources = _sources(x, columns.shape[1])
        if basis.n_inputs > 1:
            inputs: tuple[NDArray[Any], ...] = tuple(columns.T)
            sources = ["+".join(sources)]
        else:
            inputs = (columns,)
        features = basis.evaluate(*inputs) if basis.window is None else basis.convolve(*inputs, groups=labels)
        blocks.append(features.reshape(len(columns), -1))
        names += [(band, source, k) for source in sources for k in range(basis.n_basis)]
    coords: dict[Any, Any] = {
        "neuroid_id": ("neuroid", [f"{band}:{source}:{k}" for band, source, k in names]),
        "band": ("neuroid", [band for band, _, _ in names]),
        "source": ("neuroid", [source for _, source, _ in names]),
        "basis": ("neuroid", [k for _, _, k in names]),
    }
    for x in arrays:
        if kind_of(x) == "xarray":
            along = labels_along(x, x.dims[0], renamed="time_bin")
            coords |= {name: label for name, label in along.items() if name not in coords}
            break
    return xr.DataArray(np.concatenate(blocks, 1), coords, dims=("time_bin", "neuroid"))


def own_history(features: xr.DataArray, targets: ArrayLike, band: str) -> NDArray[np.bool_]:
    """Which features each target may use, where those of ``band`` are its own past only.

    Parameters
    ----------
    features
        A design.
    targets
        Names of the targets, as the sources of ``band`` are called.
    band
        Of the design, convolved with the counts of the targets.

    Returns
    -------
    array
        ``(features, targets)``: the ``feature_mask`` of :class:`cerebridge.encoding.PoissonGLM`.

    Raises
    ------
    ValueError
        If a target is no source of ``band``.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import bases
    >>> features = bases.design({"history": (bases.History(1), np.zeros((9, 2)))})
    >>> bases.own_history(features, ["0", "1"], "history").tolist()
    [[True, False], [False, True]]
    """
    names = np.asarray(targets).astype(str)
    inside = features["band"].values == band
    sources = features["source"].values
    missing = np.setdiff1d(names, sources[inside])
    if len(missing):
        raise ValueError(
            f"{missing[0].item()!r} is no source of band {band!r}; convolve the counts of all targets."
        )
    return ~inside[:, None] | (sources[:, None] == names)


def filters(coef: xr.DataArray, basis: Basis, band: str) -> xr.DataArray:
    """Turn coefficients of a band of filters back into filters of time.

    Parameters
    ----------
    coef
        ``coef_`` of a model fitted to a labelled design, ``(neuroid, feature)`` or ``(feature,)``.
    basis
        Of this band.
    band
        Name of the band.

    Returns
    -------
    xarray.DataArray
        ``(neuroid, source, lag)``, with lags in time bins from 1.

    Raises
    ------
    ValueError
        If there is no such band.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> from cerebridge.encoding import bases
    >>> counts = np.random.default_rng(0).poisson(0.5, (200, 3))
    >>> basis = bases.RaisedCosine(2, spacing="log", window=8)
    >>> glm = encoding.PoissonGLM(1e-2).fit(bases.design({"coupling": (basis, counts)}), counts)
    >>> bases.filters(glm.coef_, basis, "coupling").shape
    (3, 3, 8)
    """
    inside = np.flatnonzero(coef["feature_band"].values == band)
    if not len(inside):
        known = list(dict.fromkeys(coef["feature_band"].values.tolist()))
        raise ValueError(f"there is no band {band!r}; there are {known}.")
    part = coef.isel(feature=inside)
    sources = list(dict.fromkeys(part["feature_source"].values.tolist()))
    kernel = basis.kernel()
    values = part.values.reshape(*part.shape[:-1], len(sources), basis.n_basis) @ kernel.T
    dims = (*coef.dims[:-1], "source", "lag")
    coords: dict[Any, Any] = {"source": sources, "lag": np.arange(1, len(kernel) + 1)}
    if coef.ndim == 2:
        coords |= labels_along(coef, coef.dims[0])
    return xr.DataArray(values, coords, dims=dims)


def _table(x: Any) -> NDArray[np.float64]:
    values = to_tensor(x, "cpu").double().numpy()
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise ValueError(f"time courses must be time bins × sources, got {values.ndim} dimensions.")
    return values


def _sources(x: Any, n: int) -> list[str]:
    if kind_of(x) == "xarray" and x.ndim == 2 and "neuroid_id" in x.coords:
        return [str(name) for name in x["neuroid_id"].values]
    return [str(k) for k in range(n)]
