"""Basis functions for tuning curves and for filters of the past, and labelled designs made of them.

A basis says how a number is spread over features: :meth:`Basis.evaluate` spreads values (tuning to a speed, a
direction), :meth:`Basis.convolve` spreads the past of a time course (history and coupling filters), with as many time
bins as its ``window``. Bases compose: ``a + b`` puts features side by side, ``a * b`` multiplies each with each.

Examples
--------
>>> import numpy as np
>>> from cerebridge.encoding import bases
>>> place = bases.BSpline(5, bounds=(0, 100)) * bases.BSpline(5, bounds=(0, 100))
>>> place.evaluate(np.array([10.0, 20.0]), np.array([50.0, 60.0])).shape
(2, 25)
>>> recent = bases.RaisedCosine(3, spacing="log", window=20)
>>> recent.convolve(np.eye(30)[:, :2]).shape
(30, 2, 3)
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate

from .basis import Basis, Product, Sum, checked_inputs
from .designs import design, filters, own_history
from .parameters import whole_number

Array = NDArray[np.float64]
Spacing = Literal["linear", "log"]

__all__ = [
    "BSpline",
    "Basis",
    "Cyclic",
    "History",
    "Identity",
    "Product",
    "RaisedCosine",
    "Sum",
    "design",
    "filters",
    "own_history",
]


class _Bounded(Basis):
    """A basis on an interval; values outside count as the nearest bound."""

    def __init__(self, n_basis: int, smallest: int, bounds: tuple[float, float], window: int | None) -> None:
        self.n_basis = whole_number(n_basis, "n_basis", smallest)
        self.bounds = (float(bounds[0]), float(bounds[1]))
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError(f"bounds must be a lower and a higher number, got {bounds}.")
        self.window = None if window is None else whole_number(window, "window")

    def _share(self, x: tuple[ArrayLike, ...]) -> Array:
        """Positions from 0 to 1 within the bounds."""
        low, high = self.bounds
        return np.clip((np.asarray(checked_inputs(self, x)[0], dtype=np.float64) - low) / (high - low), 0, 1)

    def _lags(self) -> Array:
        return self.bounds[0] + (self.bounds[1] - self.bounds[0]) * super()._lags()


class RaisedCosine(_Bounded):
    """Cosine bumps, evenly spaced or (``spacing="log"``) ever wider apart, as filters of the past should be.

    Parameters
    ----------
    n_basis
        Number of bumps, at least 2.
    bounds
        Interval that they cover; values outside count as the nearest bound.
    spacing
        ``"linear"``, or ``"log"``: dense near the lower bound, the last bump falling to 0 at the upper one.
    width
        Half width of a bump, in distances between bumps.
    stretch
        How strongly ``"log"`` stretches.
    window
        Time bins that filters look back; default: a basis of values.

    References
    ----------
    Pillow et al. (2005), Journal of Neuroscience 25; Pillow et al. (2008), Nature 454.

    Examples
    --------
    >>> from cerebridge.encoding import bases
    >>> bases.RaisedCosine(3).evaluate([0.0, 0.5]).round(2).tolist()
    [[1.0, 0.5, 0.0], [0.5, 1.0, 0.5]]
    """

    def __init__(
        self,
        n_basis: int,
        bounds: tuple[float, float] = (0.0, 1.0),
        spacing: Spacing = "linear",
        width: float = 2.0,
        stretch: float = 50.0,
        window: int | None = None,
    ) -> None:
        super().__init__(n_basis, 2, bounds, window)
        if spacing not in get_args(Spacing):
            raise ValueError(f"spacing={spacing!r} is unknown; use 'linear' or 'log'.")
        if not (width > 0 and stretch > 0):
            raise ValueError(f"width and stretch must be positive, got {width} and {stretch}.")
        self.spacing, self.width, self.stretch = spacing, width, stretch

    def evaluate(self, *x: ArrayLike) -> Array:
        """As :meth:`Basis.evaluate`."""
        share = self._share(x)
        peaks = np.linspace(0, 1, self.n_basis)
        if self.spacing == "log":
            share = np.log1p(self.stretch * share) / np.log1p(self.stretch)
            peaks = np.linspace(0, 1, self.n_basis + int(np.ceil(self.width)))[: self.n_basis]
        away = (share[..., None] - peaks) / (self.width * (peaks[1] - peaks[0]))
        return (1 + np.cos(np.pi * np.clip(away, -1, 1))) / 2


class BSpline(_Bounded):
    """B-splines that sum to 1 everywhere.

    Parameters
    ----------
    n_basis
        Number of splines, at least ``order``.
    order
        1 for steps, 2 for triangles, … 4 (default) for cubic pieces.
    bounds
        Interval that they cover; values outside count as the nearest bound.
    window
        Time bins that filters look back; default: a basis of values.

    References
    ----------
    de Boor (1978), A Practical Guide to Splines.

    Examples
    --------
    >>> from cerebridge.encoding import bases
    >>> bases.BSpline(3, order=2).evaluate([0.0, 0.25, 1.0]).tolist()
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """

    def __init__(
        self,
        n_basis: int,
        order: int = 4,
        bounds: tuple[float, float] = (0.0, 1.0),
        window: int | None = None,
    ) -> None:
        self.order = whole_number(order, "order")
        super().__init__(n_basis, self.order, bounds, window)

    def evaluate(self, *x: ArrayLike) -> Array:
        """As :meth:`Basis.evaluate`."""
        share = self._share(x)
        inner = np.linspace(0, 1, self.n_basis - self.order + 2)
        knots = np.r_[np.zeros(self.order - 1), inner, np.ones(self.order - 1)]
        return _splines(share, knots, self.order)


class Cyclic(Basis):
    """Evenly spaced B-splines of an angle or a phase, which sum to 1 and join where it starts again.

    Parameters
    ----------
    n_basis
        Number of splines, at least ``order``.
    period
        After which it starts again, in the unit of the values.
    order
        As for :class:`BSpline`.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import bases
    >>> around = bases.Cyclic(6, period=360).evaluate([10.0, 370.0, -350.0])
    >>> np.ptp(around, axis=0).max().round(9).item()
    0.0
    """

    def __init__(self, n_basis: int, period: float = 2 * np.pi, order: int = 4) -> None:
        self.order = whole_number(order, "order")
        self.n_basis = whole_number(n_basis, "n_basis", self.order)
        if not period > 0:
            raise ValueError(f"period must be positive, got {period}.")
        self.period = float(period)

    def evaluate(self, *x: ArrayLike) -> Array:
        """As :meth:`Basis.evaluate`."""
        values = np.asarray(checked_inputs(self, x)[0], dtype=np.float64)
        phase = np.mod(values / self.period, 1.0) * self.n_basis
        knots = np.arange(1.0 - self.order, self.n_basis + self.order)
        unrolled = _splines(np.minimum(phase, self.n_basis), knots, self.order)
        rolled = unrolled[..., : self.n_basis].copy()
        rolled[..., : self.order - 1] += unrolled[..., self.n_basis :]
        return rolled


class Identity(Basis):
    """The value itself: one feature, for a linear effect.

    Examples
    --------
    >>> from cerebridge.encoding import bases
    >>> (bases.Identity() + bases.Identity()).evaluate([1.0], [5.0]).tolist()
    [[1.0, 5.0]]
    """

    n_basis = 1

    def evaluate(self, *x: ArrayLike) -> Array:
        """As :meth:`Basis.evaluate`."""
        return np.asarray(checked_inputs(self, x)[0], dtype=np.float64)[..., None]


class History(Basis):
    """Every bin of the past by itself: the most general filter.

    Parameters
    ----------
    window
        Time bins that it looks back.

    Examples
    --------
    >>> from cerebridge.encoding import bases
    >>> bases.History(2).convolve([1.0, 2.0, 3.0]).tolist()
    [[0.0, 0.0], [1.0, 0.0], [2.0, 1.0]]
    """

    def __init__(self, window: int) -> None:
        self.window = self.n_basis = whole_number(window, "window")

    def evaluate(self, *x: ArrayLike) -> Array:
        """Whether a value is a lag of 1, 2, … bins."""
        values = np.asarray(checked_inputs(self, x)[0], dtype=np.float64)
        return (values[..., None] == np.arange(1, self.n_basis + 1)).astype(np.float64)

    def _lags(self) -> Array:
        return np.arange(1.0, self.n_basis + 1)


def _splines(x: Array, knots: Array, order: int) -> Array:
    """B-splines over sorted knots, where they sum to 1."""
    flat = interpolate.BSpline.design_matrix(x.reshape(-1), knots, order - 1).toarray()
    return flat.reshape(*x.shape, flat.shape[1])
