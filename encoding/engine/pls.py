"""Partial least squares regression on the principal components of the features.

Rotating features changes no score, loading or prediction. In the basis of their principal components the features
are a diagonal matrix, so that after one decomposition a component costs products with the matrix of covariances
``(directions, targets)`` alone, whatever the number of samples and features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .moments import Split, centre, take
from .planning import WORTHWHILE
from .scoring import SCORES, Scoring
from .spectral import spectrum

#: share of the variance of all features below which squares have lost half of the digits of a component, and more
FAINT = 1e-8


class Standard(NamedTuple):
    """Means and scales of the columns of a table, learned on its rows."""

    mean: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor, scale: bool) -> tuple[Standard, torch.Tensor]:
        """Learn them, and apply them; a column that does not vary has the scale 1, as all have without ``scale``."""
        centred, mean = centre(rows)
        std = centred.std(0, correction=1) if scale and len(rows) > 1 else torch.ones_like(mean)
        std = torch.where(std > 0, std, 1.0)
        return cls(mean, std), centred / std if scale else centred


class Components(NamedTuple):
    """Components of a fit, as many as the features have.

    ``rotations`` turn standardised features into scores, ``(features, components)``; ``loadings`` turn scores into
    standardised targets, ``(targets, components)``; ``iterations`` of each component.
    """

    rotations: torch.Tensor
    loadings: torch.Tensor
    iterations: list[int]


def fit(X: torch.Tensor, Y: torch.Tensor, n_components: int, tol: float, max_iter: int) -> Components:
    """Components of largest covariance, one after the other (Wold, 1975; de Jong, 1993).

    Parameters
    ----------
    X, Y
        Features ``(samples, features)`` and targets ``(samples, targets)`` with means zero, ``X`` in float64.
    n_components
        At most so many; fewer where no covariance is left to explain.
    tol, max_iter
        The weights of a component are found by power iterations from the first target that varies, until their
        squared change is below ``tol``. This is what NIPALS does, so that the answers agree even where it stops
        early; with ``tol=0`` the weights are the leading singular vector itself.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.pls import fit
    >>> X = torch.tensor([[-1.0, 0.0], [0.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    >>> components = fit(X, X[:, :1], 2, tol=0.0, max_iter=1)
    >>> (components.rotations @ components.loadings.T).abs().round(decimals=9).tolist()
    [[1.0], [0.0]]
    """
    principal, singular, back = _principal(X)
    found, faintest = _components(principal, singular, back, Y, n_components, tol, max_iter)
    lost = len(singular) < min(len(X) - 1, X.shape[1]) and len(found.iterations) < n_components
    if lost or faintest < FAINT:  # what squares have lost, or left nothing but rounding of
        found, _ = _components(*_decomposed(X), Y, n_components, tol, max_iter)
    return found


def _components(
    principal: torch.Tensor,
    singular: torch.Tensor,
    back: torch.Tensor,
    Y: torch.Tensor,
    n_components: int,
    tol: float,
    max_iter: int,
) -> tuple[Components, float]:
    """Components from principal ones, and the smallest share of the variance of all features that one of them has."""
    covariance, start = _covariance(principal, Y)
    precision = len(singular) * torch.finfo(principal.dtype).eps * float(covariance.square().sum().sqrt())
    rotations: list[torch.Tensor] = []
    scores: list[torch.Tensor] = []
    iterations = []
    faintest, total = 1.0, float(singular.square().sum())
    for _ in range(min(n_components, len(singular))):
        if float(covariance.square().sum().sqrt()) <= precision:
            break
        weights, steps = _leading(covariance, start, precision, tol, max_iter)
        rotation, score = weights, singular * weights
        for _ in range(2 if scores else 0):  # once more than exact arithmetic needs
            overlap = torch.stack(scores, 1).T @ score
            rotation = rotation - torch.stack(rotations, 1) @ overlap
            score = score - torch.stack(scores, 1) @ overlap
        length = torch.linalg.vector_norm(score)
        faintest = min(faintest, float(length) ** 2 / total)
        rotation, score = rotation / length, score / length
        loading = singular * score
        covariance = covariance - torch.outer(loading, rotation @ covariance)
        start = start - loading * (rotation @ start)
        rotations.append(rotation)
        scores.append(score)
        iterations.append(steps)
    if not rotations:
        return Components(back.new_zeros(len(back), 0), Y.new_zeros(Y.shape[1], 0), []), faintest
    rotated = torch.stack(rotations, 1)
    # signs are free: the largest rotation of each component is positive
    rotation = back @ rotated
    signs = rotation.gather(0, rotation.abs().argmax(0, keepdim=True)).sign()
    loadings = Y.T @ (principal @ rotated * signs).to(Y.dtype)
    return Components(rotation * signs, loadings, iterations), faintest


def coefficients(
    gram: torch.Tensor, covariance: torch.Tensor, n_components: int, tol: float, max_iter: int
) -> torch.Tensor | None:
    """Coefficients of the same fit from products alone, where these are at hand and a decomposition is dear.

    Parameters
    ----------
    gram, covariance
        Products of centred features with themselves, ``(features, features)``, and with centred targets,
        ``(features, targets)``, in float64.
    n_components, tol, max_iter
        As in :func:`fit`.

    Returns
    -------
    torch.Tensor or None
        ``(features, targets)``; none where a component varies so little that products have lost too many of its
        digits, so that :func:`fit` is needed.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.pls import coefficients
    >>> gram = torch.tensor([[2.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    >>> coefficients(gram, gram[:, :1], 2, tol=1e-6, max_iter=500).round(decimals=9).abs().tolist()
    [[1.0], [0.0]]
    """
    whole, there = covariance, covariance.abs().amax(0) > 0
    start = covariance[:, int(there.to(torch.uint8).argmax())]
    precision = len(gram) * torch.finfo(gram.dtype).eps * float(covariance.square().sum().sqrt())
    rotations, loadings = (gram.new_zeros(len(gram), n_components) for _ in range(2))
    faintest = FAINT * float(gram.diagonal().sum())
    for k in range(min(n_components, len(gram))):
        if float(covariance.square().sum().sqrt()) <= precision:
            break
        rotation, _ = _leading(covariance, start, precision, tol, max_iter)
        for _ in range(2 if k else 0):  # once more than exact arithmetic needs
            rotation = rotation - rotations[:, :k] @ (loadings[:, :k].T @ rotation)
        loading = gram @ rotation
        variance = torch.dot(rotation, loading)
        if not float(variance) >= faintest:
            return None
        length = variance.sqrt()
        rotation, loading = rotation / length, loading / length
        covariance = torch.addr(covariance, loading, rotation @ covariance, alpha=-1)
        start = start - loading * torch.dot(rotation, start)
        rotations[:, k], loadings[:, k] = rotation, loading
    return rotations @ (rotations.T @ whole)


def cross_validate(
    X: torch.Tensor,
    Y: torch.Tensor,
    splits: Sequence[Split],
    grid: Sequence[int],
    scale: bool,
    scoring: Scoring,
    tol: float,
    max_iter: int,
) -> torch.Tensor:
    """Mean score over splits of every number of components in ``grid``, ascending: ``(targets, grid)``.

    Every split is fitted once, with as many components as the largest number; means and scales are those of its
    training samples. Where there are fewer components, more of them change nothing.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.pls import cross_validate
    >>> X = torch.arange(8.0, dtype=torch.float64)[:, None]
    >>> splits = [Split(torch.arange(4, 8), torch.arange(4)), Split(torch.arange(4), torch.arange(4, 8))]
    >>> cross_validate(X, 2 * X, splits, [1], False, "r2", 1e-6, 500).round(decimals=9).tolist()
    [[1.0]]
    """
    score = SCORES[scoring]
    scores = Y.new_empty(len(splits), Y.shape[1], len(grid))
    for k, split in enumerate(splits):
        of_x, rows = Standard.of(take(X, split.train).double(), scale)
        of_y, columns = Standard.of(take(Y, split.train), scale)
        components = fit(rows, columns, grid[-1], tol, max_iter)
        held = (take(X, split.test).double() - of_x.mean) / of_x.scale @ components.rotations
        held = held.to(Y.dtype)
        for start in range(0, Y.shape[1], WORTHWHILE):
            block = slice(start, start + WORTHWHILE)
            truth = (take(Y[:, block], split.test) - of_y.mean[block]) / of_y.scale[block]
            predicted, before = torch.zeros_like(truth), 0
            for a, number in enumerate(grid):
                new = slice(before, number)
                predicted.addmm_(held[:, new], components.loadings[block, new].T)
                scores[k, block, a] = score(truth, predicted)
                before = number
    return scores.nanmean(0)


def _principal(X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Principal components of centred rows, their lengths, and the basis they are coordinates in."""
    wide = len(X) < X.shape[1]
    values, vectors = spectrum(X @ X.T if wide else X.T @ X)
    there = values > 0
    singular, vectors = values[there].sqrt().flip(0), vectors[:, there].flip(1)
    if wide:
        return vectors * singular, singular, X.T @ (vectors / singular)
    return X @ vectors, singular, vectors


def _decomposed(X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same from the rows themselves, which takes longer and keeps the digits of directions that hardly vary."""
    left, singular, right = torch.linalg.svd(X, full_matrices=False)
    there = singular > max(X.shape) * torch.finfo(X.dtype).eps * singular[0]
    return left[:, there] * singular[there], singular[there], right[there].T


def _covariance(principal: torch.Tensor, Y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Covariances of directions and targets, and those of the first target that varies.

    With more targets than directions the targets are rotated to as many, which changes no component.
    """
    varies = Y.abs().amax(0) > 0
    first = int(varies.to(torch.uint8).argmax())
    start = principal.T @ Y[:, first].to(principal.dtype)
    if Y.shape[1] <= principal.shape[1]:
        return principal.T @ Y.to(principal.dtype), start
    triangle = principal.new_zeros(0, principal.shape[1])
    width = max(WORTHWHILE, principal.shape[1])
    for begin in range(0, Y.shape[1], width):
        block = Y[:, begin : begin + width].to(principal.dtype)
        rows = torch.cat([triangle, block.T @ principal])
        triangle = torch.linalg.qr(rows, mode="r").R
    return triangle.T, start


def _leading(
    covariance: torch.Tensor, start: torch.Tensor, precision: float, tol: float, max_iter: int
) -> tuple[torch.Tensor, int]:
    """Direction of largest covariance, and the iterations that it took."""
    if tol == 0:
        wide = covariance.shape[0] <= covariance.shape[1]
        vector = torch.linalg.eigh(
            covariance @ covariance.T if wide else covariance.T @ covariance
        ).eigenvectors[:, -1]
        weights = vector if wide else covariance @ vector
        return weights / torch.linalg.vector_norm(weights), 1
    length = torch.linalg.vector_norm(start)
    if float(length) <= precision:  # the first target is explained: begin with what is not
        start = covariance[:, covariance.square().sum(0).argmax()]
        length = torch.linalg.vector_norm(start)
    weights = start / length
    for step in range(2, max_iter + 1):
        if covariance.shape[1] == 1:
            return weights, 1
        last, weights = weights, covariance @ (covariance.T @ weights)
        weights = weights / torch.linalg.vector_norm(weights)
        if float((weights - last).square().sum()) < tol:
            return weights, step
    return weights, max_iter
