"""Checks of the parameters that estimators share, each answered in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .engine.scoring import Scoring


def positive(values: ArrayLike, name: str, hint: str = "") -> NDArray[np.float64]:
    """A list of positive finite numbers; a single number is a list of one.

    Raises
    ------
    ValueError
        If it is empty or not a list, or naming the first value that is not positive.

    Examples
    --------
    >>> from cerebridge.encoding.parameters import positive
    >>> positive([1, 10], "alphas").tolist()
    [1.0, 10.0]
    """
    numbers = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if numbers.ndim != 1 or not len(numbers):
        raise ValueError(f"{name} must be a list of positive numbers, got shape {numbers.shape}.")
    wrong = np.flatnonzero(~((numbers > 0) & np.isfinite(numbers)))
    if len(wrong):
        raise ValueError(f"{name} must be positive, got {numbers[wrong[0]]} at position {wrong[0]}{hint}.")
    return numbers


def whole_number(value: Any, name: str, smallest: int = 1) -> int:
    """A whole number that is not too small.

    Raises
    ------
    ValueError
        If it is anything else.

    Examples
    --------
    >>> from cerebridge.encoding.parameters import whole_number
    >>> whole_number(25, "n_components")
    25
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < smallest:
        raise ValueError(f"{name} must be a whole number from {smallest}, got {value!r}.")
    return int(value)


def whole_numbers(values: Any, name: str) -> list[int]:
    """Different whole numbers from 1, ascending; a single one is a list of one.

    Raises
    ------
    ValueError
        If it is anything else.

    Examples
    --------
    >>> from cerebridge.encoding.parameters import whole_numbers
    >>> whole_numbers([5, 1], "rank")
    [1, 5]
    """
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    listed = (
        list(listed) if isinstance(listed, Sequence | range) and not isinstance(listed, str) else [listed]
    )
    if not listed:
        raise ValueError(f"{name} is an empty list; give whole numbers from 1.")
    return sorted({whole_number(value, name) for value in listed})


def known_scoring(scoring: Any) -> Scoring:
    """A score that the engine computes.

    Raises
    ------
    ValueError
        If it is unknown.

    Examples
    --------
    >>> from cerebridge.encoding.parameters import known_scoring
    >>> known_scoring("r2")
    'r2'
    """
    if scoring not in get_args(Scoring):
        known = " or ".join(map(repr, get_args(Scoring)))
        raise ValueError(f"scoring={scoring!r} is unknown; use {known}.")
    return cast(Scoring, scoring)
