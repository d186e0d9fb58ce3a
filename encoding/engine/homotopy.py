"""The lasso's whole path of one target, exact: between two penalties its weights move on straight lines.

Where a feature joins or leaves, the inverse of the products of the features in use is updated (Osborne, Presnell &
Turlach, 2000; Efron et al., 2004). It is many small steps on the processor, hence numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: a feature joins where what the others leave of its variance is more than this share of it
PIVOT = 1e-10
#: changes after which the inverse is computed anew
FRESH = 64


class Line(NamedTuple):
    """Weights ``start - alpha slope`` of the features in use, and correlations ``offset + alpha rate`` of all."""

    start: Array
    slope: Array
    offset: Array
    rate: Array


class Active:
    """Features in use, their products with all features, and the inverse of those with each other."""

    def __init__(self, row: Callable[[int], Array], correlation: Array, most: int) -> None:
        self.row, self.correlation = row, correlation
        self.features: list[int] = []
        self.signs = np.zeros(most)
        self.rows = np.zeros((most, len(correlation)))
        self.inverse = np.zeros((most, most))
        self.changes = 0

    def join(self, feature: int, sign: float) -> bool:
        """Take a feature in; say no where those in use already determine it, or fill the space."""
        k = len(self.features)
        if k == len(self.signs):
            return False
        row = self.row(feature)
        towards = row[self.features]
        image = self.inverse[:k, :k] @ towards
        pivot = row[feature] - towards @ image
        if not pivot > PIVOT * row[feature]:
            return False
        scaled = image / pivot
        self.inverse[:k, :k] += np.outer(image, scaled)
        self.inverse[k, :k] = self.inverse[:k, k] = -scaled
        self.inverse[k, k] = 1 / pivot
        self.rows[k], self.signs[k] = row, sign
        self.features.append(feature)
        self._count()
        return True

    def leave(self, place: int) -> None:
        """Drop the feature at a place; the last one takes it."""
        last = len(self.features) - 1
        order = [last if i == place else i for i in range(last)]
        k, column = last + 1, self.inverse[: last + 1, place].copy()
        reduced = self.inverse[:k, :k] - np.outer(column, column / column[place])
        self.inverse[:last, :last] = reduced[np.ix_(order, order)]
        self.rows[place], self.signs[place] = self.rows[last], self.signs[last]
        self.features = [self.features[i] for i in order]
        self._count()

    def line(self) -> Line:
        """How weights and correlations move with the penalty."""
        k = len(self.features)
        ends = np.stack([self.correlation[self.features], self.signs[:k]])
        start, slope = ends @ self.inverse[:k, :k]
        fitted, rate = np.stack([start, slope]) @ self.rows[:k]
        return Line(start, slope, self.correlation - fitted, rate)

    def _count(self) -> None:
        self.changes += 1
        if self.changes % FRESH == 0 and self.features:
            k = len(self.features)
            self.inverse[:k, :k] = np.linalg.inv(self.rows[:k, self.features])


def lasso_path(row: Callable[[int], Array], correlation: Array, alphas: Array, most: int) -> Array:
    """Weights at falling penalties, ``(features, alphas)``.

    Features that others determine stay out. Where rounding keeps the path from its end, the remaining weights are
    the last ones known; the duality gap tells.

    Parameters
    ----------
    row
        Products of one feature with all features, over the number of samples.
    correlation
        Products of the features with the target, over the number of samples.
    alphas
        Penalties, falling.
    most
        Features that can be in use together: the rank of the features, or more.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding.engine.homotopy import lasso_path
    >>> gram = np.array([[1.0, 0.5], [0.5, 1.0]])
    >>> lasso_path(lambda j: gram[j], np.array([1.0, 0.0]), np.array([1.0, 0.5, 0.25]), 2).round(3).tolist()
    [[0.0, 0.5, 0.833], [0.0, 0.0, -0.167]]
    """
    path = np.zeros((len(correlation), len(alphas)))
    out = np.ones(len(correlation), dtype=bool)  # neither in use nor refused
    first = int(np.abs(correlation).argmax())
    alpha, done = float(abs(correlation[first])), 0
    while done < len(alphas) and alphas[done] >= alpha:
        done += 1
    active = Active(row, correlation, most)
    if done == len(alphas) or not active.join(first, np.sign(correlation[first])):
        return path
    out[first] = False
    left = -1
    for _ in range(20 * most + 100):
        line = active.line()
        joining, sign, next_join = _next_join(line, out, alpha, left)
        leaving, next_leave = _next_leave(line, active.signs, alpha)
        reached = max(next_join, next_leave, 0.0)
        while done < len(alphas) and alphas[done] >= reached:
            path[active.features, done] = line.start - alphas[done] * line.slope
            done += 1
        if done == len(alphas):
            return path
        alpha, left = reached, -1
        if next_leave >= next_join:
            left = active.features[leaving]
            active.leave(leaving)
            out[:] = True  # what was determined before may no longer be
            out[active.features] = False
        else:
            out[joining] = False
            active.join(joining, sign)
        if not active.features:
            break
    path[:, done:] = path[:, [max(done - 1, 0)]]
    return path


def _next_join(line: Line, out: NDArray[np.bool_], alpha: float, left: int) -> tuple[int, float, float]:
    """The feature whose correlation is next to reach the penalty, its sign, and that penalty."""
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.stack([line.offset / (1 - line.rate), -line.offset / (1 + line.rate)])
    # rounding may put what happens now a little above the present penalty
    at[:, ~out] = -np.inf
    at[~(at <= alpha * (1 + 1e-9))] = -np.inf
    if left >= 0:  # what left just now is at the penalty, on its way down
        at[at[:, left] > alpha * (1 - 1e-9), left] = -np.inf
    side, feature = np.unravel_index(int(at.argmax()), at.shape)
    return int(feature), 1.0 - 2.0 * int(side), min(float(at[side, feature]), alpha)


def _next_leave(line: Line, signs: Array, alpha: float) -> tuple[int, float]:
    """The place of the feature whose weight is next to reach zero, and the penalty where it does."""
    # weights grow from zero where their slope has the other sign; only shrinking ones can leave
    shrinking = line.slope * signs[: len(line.slope)] < 0
    if not shrinking.any():
        return -1, -np.inf
    at = np.where(shrinking, line.start / np.where(shrinking, line.slope, 1.0), -np.inf)
    place = int(at.argmax())
    return place, min(float(at[place]), alpha)
