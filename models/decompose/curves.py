"""Curves that are a scale and an offset of a shape, fitted from many starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """``scale * shape(x, *parameters) + offset``, and the share of the variance that it explains."""

    parameters: Array
    scale: float
    offset: float
    r2: float


def fit_curve(
    shape: Callable[..., Array],
    x: Any,
    y: Any,
    bounds: Sequence[tuple[float, float]],
    *,
    n_starts: int = 32,
    random_state: int = 0,
) -> Fit:
    """Fit a curve by least squares: scale and offset exactly, the parameters of its shape within bounds.

    Parameters
    ----------
    shape
        ``shape(x, *parameters)``.
    x, y
        Points, finite.
    bounds
        Smallest and largest value of each parameter, positive; starts are spread evenly over their logarithms.
    n_starts
        Starts, of which the best is kept.
    random_state
        Seed of the starts.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        If there are fewer points than unknowns, or they are not finite.

    References
    ----------
    Golub & Pereyra (1973). The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate. SIAM J Numer Anal 10.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.decompose.curves import fit_curve
    >>> x = np.linspace(0, 4, 20)
    >>> fit = fit_curve(lambda x, rate: np.exp(-rate * x), x, 3 * np.exp(-0.7 * x) + 1, [(0.01, 10)])
    >>> round(float(fit.parameters[0]), 3), round(fit.scale, 3), round(fit.offset, 3)
    (0.7, 3.0, 1.0)
    """
    from scipy.optimize import least_squares

    x, y = np.asarray(x, float), np.asarray(y, float)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("the points of a curve are not finite; leave out those that are missing.")
    if len(y) < len(bounds) + 3:
        raise ValueError(
            f"{len(y)} points are too few for {len(bounds) + 2} unknowns; give at least one more."
        )
    low, high = np.log(np.array(bounds, float)).T
    # what does not vary is explained by its offset, but for rounding
    total = float(np.square(y - y.mean()).sum()) or max(1.0, float(np.square(y).sum()))

    def solve(logs: Array) -> tuple[Array, Array]:
        columns = np.stack([shape(x, *np.exp(logs)), np.ones_like(x)], axis=1)
        # a shape that overflows explains nothing
        columns = np.nan_to_num(columns, nan=0.0, posinf=0.0, neginf=0.0)
        linear = np.linalg.lstsq(columns, y, rcond=None)[0]
        return linear, (columns @ linear - y) / np.sqrt(total)

    starts = np.random.default_rng(random_state).uniform(low, high, (n_starts, len(bounds)))
    found = [least_squares(lambda logs: solve(logs)[1], start, bounds=(low, high)) for start in starts]
    best = min(found, key=lambda result: result.cost)
    scale, offset = solve(best.x)[0]
    return Fit(np.exp(best.x), float(scale), float(offset), float(1 - 2 * best.cost))
