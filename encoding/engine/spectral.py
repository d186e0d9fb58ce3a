"""Ridge in the eigenbasis of its design: one decomposition serves every penalty and every target."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

#: error of the smallest penalised eigenvalue, relative to itself, from which a Gram matrix is too rough a summary
ROUGH = 1e-6


class Spectrum(NamedTuple):
    """Eigenvalues, ascending, and eigenvectors as columns; absent directions have the value zero."""

    values: torch.Tensor
    vectors: torch.Tensor


def spectrum(gram: torch.Tensor) -> Spectrum:
    """Eigenvalues and eigenvectors of a Gram matrix.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.spectral import spectrum
    >>> spectrum(torch.tensor([[1.0, 1.0], [1.0, 1.0]])).values
    tensor([0., 2.])
    """
    values, vectors = torch.linalg.eigh(gram)
    return Spectrum(_without_absent(values, torch.finfo(gram.dtype).eps), vectors)


def spectrum_of_rows(rows: torch.Tensor) -> Spectrum:
    """The spectrum of ``rows' rows`` from the rows themselves: slower, and exact where squaring is not.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.spectral import spectrum_of_rows
    >>> spectrum_of_rows(torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])).values
    tensor([1., 4.])
    """
    n, p = rows.shape
    _, singular, right = torch.linalg.svd(rows, full_matrices=n < p)
    values = torch.nn.functional.pad(singular.square(), (0, p - len(singular))).flip(0)
    return Spectrum(_without_absent(values, torch.finfo(rows.dtype).eps ** 2), right.T.flip(1))


def is_rough(values: torch.Tensor, smallest_alpha: float) -> bool:
    """Whether rounding in a Gram matrix can change what ridge does with its weakest direction.

    Eigenvalues are exact to the rounding of the largest one. This compares it with the smallest, the smallest
    penalty added, and says yes from one part in a million.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.spectral import is_rough
    >>> values = torch.tensor([0.0, 1e6], dtype=torch.float64)
    >>> is_rough(values, 1.0), is_rough(values, 1e-9)
    (False, True)
    """
    error = torch.finfo(values.dtype).eps * float(values[-1])
    return error > ROUGH * (float(values[0]) + smallest_alpha)


def robust_spectrum(gram: torch.Tensor, smallest_alpha: float, rows: Callable[[], torch.Tensor]) -> Spectrum:
    """The spectrum of ``gram``, or that of its rows where the Gram matrix is too rough for ``smallest_alpha``."""
    found = spectrum(gram)
    return spectrum_of_rows(rows()) if is_rough(found.values, smallest_alpha) else found


def inverse_filters(values: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """``1 / (value + alpha)`` for each penalty (rows) and direction (columns); 0 for absent directions.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.spectral import inverse_filters
    >>> inverse_filters(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 3.0]))
    tensor([[0.0000, 0.5000],
            [0.0000, 0.2500]])
    """
    return (values > 0) / (values + alphas[:, None])


def choose(scores: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
    """For each target the penalty with the best score; among equals the largest.

    Scores count as equal where they differ by no more than rounding (``eps ** 0.75``: 2e-12 in double, 6e-6 in
    single precision), so that the choice does not depend on chunks or devices.

    Parameters
    ----------
    scores
        ``(targets, alphas)``; NaN is worse than any number.
    alphas
        ``(alphas,)``.

    Returns
    -------
    torch.Tensor
        Positions in ``alphas``, ``(targets,)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.spectral import choose
    >>> choose(torch.tensor([[0.1, 0.2, 0.2], [0.3, 0.2, torch.nan]]), torch.tensor([1.0, 2.0, 3.0]))
    tensor([2, 0])
    """
    known = scores.nan_to_num(nan=-torch.inf)
    tolerance = torch.finfo(scores.dtype).eps ** 0.75
    equal = known >= known.amax(1, keepdim=True) - tolerance
    return torch.where(equal, alphas, -torch.inf).argmax(1)


def _without_absent(values: torch.Tensor, precision: float) -> torch.Tensor:
    """Eigenvalues with zero for those that rounding cannot tell from zero."""
    return torch.where(values > len(values) * precision * values[-1], values, 0.0)
