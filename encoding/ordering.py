"""Whether two orders agree: their correlation, how often chance does as well, and units drawn again."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: orders are enumerated up to so many, and drawn beyond
MOST_ORDERS = 5040


def correlation(a: Array, b: Array) -> float:
    """Pearson's correlation; 0 where one side does not vary, which is an order of no kind."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def order_p(a: Array, b: Array, random_state: int | None = 0) -> float:
    """Share of the orders of ``b`` that are correlated with ``a`` at least as much, on either side."""
    a, b = a - a.mean(), b - b.mean()
    if factorial(len(b)) <= MOST_ORDERS:
        orders = np.array(list(permutations(range(len(b)))))
    else:
        rng = np.random.default_rng(random_state)
        orders = np.argsort(rng.random((10 * MOST_ORDERS, len(b))), axis=1)
        orders[0] = np.arange(len(b))
    products = np.abs(b[orders] @ a)
    return float((products >= abs(a @ b) * (1 - 1e-10)).mean())


def resampled(
    groups: list[NDArray[np.intp]], people: NDArray[np.intp] | None, rng: np.random.Generator, whole: bool
) -> list[NDArray[np.intp]]:
    """Units drawn again: people with all their units, else whole groups, else the units of every group."""
    if people is not None and people.max() > 0:
        drawn = np.bincount(rng.integers(0, people.max() + 1, people.max() + 1), minlength=people.max() + 1)
        again = [np.repeat(group, drawn[people[group]]) for group in groups]
        # an area that no person drawn has keeps its own units
        return [new if new.size else group for new, group in zip(again, groups, strict=True)]
    if whole:
        return [groups[k] for k in rng.integers(0, len(groups), len(groups))]
    return [rng.choice(group, len(group)) for group in groups]
