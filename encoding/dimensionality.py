"""How many dimensions activity fills."""

from __future__ import annotations

from typing import Any

import torch

from .dichotomies import activity_of
from .engine import geometry as engine


def participation_ratio(activity: Any) -> float:
    """Effective dimensions: squared sum of the variances along principal axes over the sum of their squares.

    Parameters
    ----------
    activity
        Rows × units: numpy, torch, or labelled ``presentation × neuroid``. Means over repeats, where there is noise:
        noise adds dimensions.

    Returns
    -------
    float
        From 1 (a line) to the number of units (a ball); of few rows, too low.

    Raises
    ------
    ValueError
        If values are missing or all rows are the same.

    References
    ----------
    Gao et al. (2017). A theory of multineuronal dimensionality, dynamics and measurement. bioRxiv 214262.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import geometry
    >>> geometry.participation_ratio(np.vstack([np.eye(4), -np.eye(4)]))
    4.0
    """
    return float(engine.participation_ratio(_variances(activity)))


def components_for(activity: Any, share: float = 0.9) -> int:
    """Number of principal components that hold a share of the variance.

    Parameters
    ----------
    activity
        As for :func:`participation_ratio`.
    share
        Of the variance, above 0 and up to 1.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the share is out of range, values are missing or all rows are the same.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import geometry
    >>> geometry.components_for(np.diag([9.0, 3, 1]) - np.diag([9.0, 3, 1]).mean(axis=0), 0.85)
    1
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share!r}; give a share of the variance, above 0 and up to 1.")
    variances = _variances(activity)
    held = variances.cumsum(dim=0) / variances.sum()
    # the last component is reached although rounding leaves the sum below 1
    return int((held < share - 1e-12).sum()) + 1


def two_nn(activity: Any, discard: float = 0.1) -> float:
    """Dimension of the manifold that activity lies on, curved or not, from the two nearest neighbours of each row.

    Parameters
    ----------
    activity
        As for :func:`participation_ratio`; hundreds of rows.
    discard
        Share of rows left out whose second neighbour is farthest beyond the first.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are fewer than ten rows, rows are the same, or values are missing.

    References
    ----------
    Facco et al. (2017). Estimating the intrinsic dimension of datasets by a minimal neighborhood information. Sci
    Rep 7.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import geometry
    >>> angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 2000)
    >>> round(geometry.two_nn(np.stack([np.cos(angle), np.sin(angle)], axis=1)), 1)
    1.0
    """
    if not 0 <= discard < 1:
        raise ValueError(f"discard is {discard!r}; give a share of the rows, from 0 and below 1.")
    values = activity_of(activity).double()
    if len(values) < 10:
        raise ValueError(f"the activity has {len(values)} rows; neighbours say something from ten on.")
    ratios = engine.two_nearest_ratio(values)
    if bool(ratios.isnan().any()):
        row = int(ratios.isnan().nonzero()[0])
        raise ValueError(f"row {row} of the activity occurs twice; average repeats first.")
    logs = ratios.log().sort().values
    kept = logs[: max(2, int(len(logs) * (1 - discard)))]
    # cumulative distribution 1 - ratio^-d: a line through the origin in logarithms
    expected = -torch.log1p(-torch.arange(1, len(kept) + 1, dtype=logs.dtype) / (len(logs) + 1))
    expected = expected.to(logs.device)
    return float((kept @ expected) / (kept @ kept))


def _variances(activity: Any) -> torch.Tensor:
    values = activity_of(activity).double()
    if not bool((values.amax(dim=0) > values.amin(dim=0)).any()):
        raise ValueError("the activity is the same in all rows, so that it has no dimension.")
    return engine.spectrum(values)
