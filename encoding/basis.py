"""What every basis can do, and how two of them make one."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .engine.convolution import convolve_past
from .inputs import group_labels

Array = NDArray[np.float64]


class Basis(ABC):
    """Functions of a number, or of as many numbers as ``n_inputs``.

    ``n_basis`` is the number of functions; ``window`` the number of time bins that filters look back, ``None`` for
    a basis of values.

    Examples
    --------
    >>> from cerebridge.encoding import bases
    >>> both = bases.RaisedCosine(3) * bases.Cyclic(4)
    >>> both.n_inputs, both.n_basis, isinstance(both, bases.Basis)
    (2, 12, True)
    """

    n_basis: int
    n_inputs: int = 1
    window: int | None = None

    @abstractmethod
    def evaluate(self, *x: ArrayLike) -> Array:
        """Values of all functions.

        Parameters
        ----------
        *x
            One array for each input, of the same shape.

        Returns
        -------
        array
            The shape of ``x``, then ``n_basis``.

        Examples
        --------
        >>> from cerebridge.encoding import bases
        >>> bases.Identity().evaluate([2.0, 3.0]).tolist()
        [[2.0], [3.0]]
        """

    def kernel(self) -> Array:
        """The functions as filters, ``(window, n_basis)``; the first row weighs the bin just before.

        Examples
        --------
        >>> from cerebridge.encoding import bases
        >>> bases.History(2).kernel().tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        return self.evaluate(self._lags())

    def convolve(self, *x: ArrayLike, groups: ArrayLike | None = None) -> Array:
        """Filter the past of time courses: strictly before each bin, and never across groups.

        Parameters
        ----------
        *x
            One time course for each input, ``(time bins,)`` or ``(time bins, sources)``.
        groups
            One label a time bin (a trial, a run). Where it changes, the past begins anew: what was before counts
            as 0.

        Returns
        -------
        array
            The shape of ``x``, then ``n_basis``.

        Examples
        --------
        >>> from cerebridge.encoding import bases
        >>> bases.History(2).convolve([1.0, 2.0, 3.0], groups=["a", "a", "b"]).tolist()
        [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
        """
        values = np.asarray(checked_inputs(self, x)[0], dtype=np.float64)
        if values.ndim not in (1, 2):
            raise ValueError(f"x must be time bins or time bins × sources, got {values.ndim} dimensions.")
        labels = group_labels(groups, len(values), ())
        starts = np.array([0])
        if labels is not None:
            starts = np.r_[0, 1 + np.flatnonzero(labels[1:] != labels[:-1])]
        table = torch.from_numpy(np.ascontiguousarray(values.reshape(len(values), -1)))
        filtered = convolve_past(table, torch.from_numpy(self.kernel()), torch.from_numpy(starts))
        return filtered.numpy().reshape(*values.shape, self.n_basis)

    def __add__(self, other: Basis) -> Basis:
        """Both side by side, each of inputs of its own."""
        return Sum(self, other)

    def __mul__(self, other: Basis) -> Basis:
        """All products of a function of one and a function of the other."""
        return Product(self, other)

    def _lags(self) -> Array:
        """Where the functions are evaluated to become filters."""
        if self.window is None:
            raise ValueError(
                f"{type(self).__name__} looks back over no bins; give it a window to make filters."
            )
        return np.linspace(0, 1, self.window)


class _Pair(Basis):
    """Two bases, each of inputs of its own."""

    def __init__(self, first: Basis, second: Basis) -> None:
        self.first, self.second = first, second
        self.n_inputs = first.n_inputs + second.n_inputs
        windows = [basis.window for basis in (first, second)]
        if (windows[0] is None) != (windows[1] is None):
            raise ValueError(
                "a basis of values and one of the past (with a window) do not mix; make them two bands of a design."
            )
        self.window = None if windows[0] is None or windows[1] is None else max(windows[0], windows[1])

    @abstractmethod
    def _join(self, first: Array, second: Array) -> Array:
        """Features of both to features of the pair."""

    def evaluate(self, *x: ArrayLike) -> Array:
        """As :meth:`Basis.evaluate`."""
        x = checked_inputs(self, x)
        n = self.first.n_inputs
        return self._join(self.first.evaluate(*x[:n]), self.second.evaluate(*x[n:]))

    def convolve(self, *x: ArrayLike, groups: ArrayLike | None = None) -> Array:
        """As :meth:`Basis.convolve`."""
        x = checked_inputs(self, x)
        n = self.first.n_inputs
        return self._join(
            self.first.convolve(*x[:n], groups=groups), self.second.convolve(*x[n:], groups=groups)
        )

    def kernel(self) -> Array:
        """Not defined: each part filters another input."""
        raise ValueError("a composed basis has no single filter; ask its parts, first and second.")


class Sum(_Pair):
    """Features of two bases side by side: what ``a + b`` makes.

    Examples
    --------
    >>> from cerebridge.encoding import bases
    >>> (bases.Identity() + bases.BSpline(4)).n_basis
    5
    """

    def __init__(self, first: Basis, second: Basis) -> None:
        super().__init__(first, second)
        self.n_basis = first.n_basis + second.n_basis

    def _join(self, first: Array, second: Array) -> Array:
        return np.concatenate([first, second], -1)


class Product(_Pair):
    """All products of features of two bases, those of the second fastest: what ``a * b`` makes.

    Examples
    --------
    >>> from cerebridge.encoding import bases
    >>> (bases.Identity() * bases.Identity()).evaluate([2.0], [5.0]).tolist()
    [[10.0]]
    """

    def __init__(self, first: Basis, second: Basis) -> None:
        super().__init__(first, second)
        self.n_basis = first.n_basis * second.n_basis

    def _join(self, first: Array, second: Array) -> Array:
        return (first[..., :, None] * second[..., None, :]).reshape(*first.shape[:-1], self.n_basis)


def checked_inputs(basis: Basis, x: tuple[ArrayLike, ...]) -> tuple[ArrayLike, ...]:
    """The inputs of a basis, refused if they are not as many as it has."""
    if len(x) != basis.n_inputs:
        raise ValueError(f"this basis takes {basis.n_inputs} inputs, got {len(x)}; give one array for each.")
    return x
