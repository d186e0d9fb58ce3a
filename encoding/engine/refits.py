"""Linear regressions refitted to many training sets that share most of their samples, as shuffled splits do.

What two training sets share is multiplied once: the splits are halved again and again, and each half gets the sums
of the samples that all of its training sets hold. Sums are only ever added, never taken off again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from . import pls
from .leaveout import LeaveOneOut
from .moments import Moments, Split, centre, take
from .spectral import spectrum

#: least width of a block of features that is added to a triangle
BLOCK = 1024


def training_moments(X: torch.Tensor, Y: torch.Tensor, splits: Sequence[Split]) -> Iterator[Moments]:
    """Moments of ``X`` with ``X`` and ``Y`` side by side, over the training samples of every split.

    Parameters
    ----------
    X, Y
        ``(samples, features)`` and ``(samples, targets)``, of one dtype.
    splits
        Their training sets may overlap in any way.

    Yields
    ------
    Moments
        ``products`` is ``(features, features + targets)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.refits import training_moments
    >>> x = torch.tensor([[1.0], [2.0], [6.0]])
    >>> splits = [Split(torch.tensor([0, 1]), torch.tensor([2])), Split(torch.tensor([1, 2]), torch.tensor([0]))]
    >>> [moments.products.tolist() for moments in training_moments(x, x, splits)]
    [[[0.5, 0.5]], [[8.0, 8.0]]]
    """
    member = torch.zeros(len(splits), len(X), dtype=torch.bool, device=X.device)
    for row, split in zip(member, splits, strict=True):
        row[split.train] = True
    both = torch.cat([X, Y], 1)

    def walk(member: torch.Tensor, summed: torch.Tensor, total: Moments | None) -> Iterator[Moments]:
        common = member.all(0) & ~summed
        if bool(common.any()):
            moments = Moments.of(X[common], both[common])
            total = moments if total is None else total + moments
        if len(member) == 1:
            assert total is not None
            yield total
            return
        for half in member.tensor_split(2):
            yield from walk(half, summed | common, total)

    return walk(member, torch.zeros_like(member[0]), None)


def narrowed(X: torch.Tensor) -> torch.Tensor:
    """Features in float64, rotated to as many as there are samples where there are more; distances are kept.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.refits import narrowed
    >>> tuple(narrowed(torch.ones(3, 100)).shape)
    (3, 3)
    """
    n, p = X.shape
    if p <= n:
        return X.double()
    triangle = X.new_zeros(0, n, dtype=torch.float64)
    width = max(BLOCK, 4 * n)
    for start in range(0, p, width):
        block = X[:, start : start + width]
        triangle = torch.linalg.qr(torch.cat([triangle, block.T.double()]), mode="r").R
    return triangle.T.contiguous()


def pls_predictions(
    X: torch.Tensor,
    Y: torch.Tensor,
    splits: Sequence[Split],
    n_components: int,
    tol: float = 1e-6,
    max_iter: int = 500,
) -> Iterator[torch.Tensor]:
    """Held-out predictions of partial least squares, ``(test samples, targets)`` of every split.

    Components are those of :func:`cerebridge.encoding.engine.pls.fit`, from moments alone where these tell enough.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.refits import pls_predictions
    >>> x = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    >>> splits = [Split(torch.tensor([0, 1]), torch.tensor([2]))]
    >>> [predicted.tolist() for predicted in pls_predictions(x, 3 * x, splits, 1)]
    [[[12.0]]]
    """
    X = narrowed(X)
    for moments, split in zip(training_moments(X, Y, splits), splits, strict=True):
        found = pls.coefficients(*_products(moments), n_components, tol, max_iter)
        if found is None:
            rows, columns = (centre(take(side, split.train))[0] for side in (X, Y))
            components = pls.fit(rows, columns, n_components, tol, max_iter)
            found = components.rotations @ components.loadings.T
        yield _predict(X, moments, split, found)


def ridge_predictions(
    X: torch.Tensor, Y: torch.Tensor, splits: Sequence[Split], alpha: float
) -> Iterator[torch.Tensor]:
    """Held-out predictions of ridge with one penalty for all targets, ``(test samples, targets)`` of every split.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.refits import ridge_predictions
    >>> x = torch.tensor([[1.0], [3.0], [5.0]], dtype=torch.float64)
    >>> splits = [Split(torch.tensor([0, 1]), torch.tensor([2]))]
    >>> [predicted.tolist() for predicted in ridge_predictions(x, x, splits, 2.0)]
    [[[3.5]]]
    """
    X = narrowed(X)
    for moments, split in zip(training_moments(X, Y, splits), splits, strict=True):
        yield _predict(X, moments, split, _ridge_weights(*_products(moments), alpha))


def ridge_cv_predictions(
    X: torch.Tensor, Y: torch.Tensor, splits: Sequence[Split], alphas: torch.Tensor
) -> Iterator[torch.Tensor]:
    """The same with the penalty whose left-out squared errors, summed over all targets, are smallest.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.refits import ridge_cv_predictions
    >>> x = torch.tensor([[1.0], [2.0], [3.0], [5.0]], dtype=torch.float64)
    >>> splits = [Split(torch.arange(3), torch.tensor([3]))]
    >>> alphas = torch.tensor([1e-9, 9.0], dtype=torch.float64)
    >>> [predicted.round(decimals=3).tolist() for predicted in ridge_cv_predictions(x, x, splits, alphas)]
    [[[5.0]]]
    """
    X = narrowed(X)
    for split in splits:
        rows, responses = take(X, split.train), take(Y, split.train)
        shares = LeaveOneOut(rows, alphas, "r2", True, generalised=False).fit(responses).scores
        variation = centre(responses)[0].square().sum(0)
        errors = ((1 - shares) * variation[:, None]).nansum(0)
        best = float(alphas[errors.argmin()])
        yield from ridge_predictions(X, Y, [split], best)


def linear_predictions(X: torch.Tensor, Y: torch.Tensor, splits: Sequence[Split]) -> Iterator[torch.Tensor]:
    """Held-out predictions of least squares, of minimal norm where there is a choice.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.refits import linear_predictions
    >>> x = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
    >>> splits = [Split(torch.tensor([0, 1]), torch.tensor([2]))]
    >>> [predicted.round(decimals=9).tolist() for predicted in linear_predictions(x, 3 * x, splits)]
    [[[12.0]]]
    """
    X = narrowed(X)
    for split in splits:
        (rows, mean), (columns, level) = centre(take(X, split.train)), centre(take(Y, split.train))
        left, singular, right = torch.linalg.svd(rows, full_matrices=False)
        there = singular > torch.finfo(X.dtype).eps * max(rows.shape) * singular[0]
        inverse = torch.where(there, 1 / singular, 0.0)
        yield (take(X, split.test) - mean) @ (right.T * inverse) @ (left.T @ columns) + level


def best_unit_predictions(
    X: torch.Tensor, Y: torch.Tensor, splits: Sequence[Split]
) -> Iterator[torch.Tensor]:
    """For every target the feature that correlates best with it over the training samples, as it is.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.refits import best_unit_predictions
    >>> x = torch.tensor([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0], [7.0, 8.0]], dtype=torch.float64)
    >>> splits = [Split(torch.arange(3), torch.tensor([3]))]
    >>> [predicted.tolist() for predicted in best_unit_predictions(x, x[:, :1], splits)]
    [[[7.0]]]
    """
    for split in splits:
        columns = _unit_columns(take(Y, split.train))
        best = torch.full((Y.shape[1],), -torch.inf, dtype=Y.dtype, device=Y.device)
        place = torch.zeros(Y.shape[1], dtype=torch.long, device=Y.device)
        for start in range(0, X.shape[1], 4 * BLOCK):
            rows = take(X[:, start : start + 4 * BLOCK], split.train).double()
            r, first = (_unit_columns(rows).T @ columns).nan_to_num(nan=-torch.inf).max(0)
            better = r > best
            best, place = torch.where(better, r, best), torch.where(better, first + start, place)
        yield take(X, split.test)[:, place].double()


def _unit_columns(rows: torch.Tensor) -> torch.Tensor:
    """Columns without their mean and of length 1; NaN where one does not vary."""
    centred = centre(rows)[0]
    length: torch.Tensor = torch.linalg.vector_norm(centred, dim=0)
    return centred / length


def _products(moments: Moments) -> tuple[torch.Tensor, torch.Tensor]:
    """Products of features with themselves and with targets."""
    p = len(moments.products)
    return moments.products[:, :p].contiguous(), moments.products[:, p:].contiguous()


def _predict(X: torch.Tensor, moments: Moments, split: Split, found: torch.Tensor) -> torch.Tensor:
    return (take(X, split.test) - moments.mean_a) @ found + moments.mean_b[X.shape[1] :]


def _ridge_weights(gram: torch.Tensor, products: torch.Tensor, alpha: float) -> torch.Tensor:
    penalised = gram.clone()
    penalised.diagonal().add_(alpha)
    factor, failed = torch.linalg.cholesky_ex(penalised)
    if not bool(failed):
        return torch.cholesky_solve(products, factor)
    values, vectors = spectrum(gram)  # without a penalty, and with features that depend on one another
    inverse = torch.where(values > 0, 1 / (values + alpha), 0.0)
    return vectors @ (inverse[:, None] * (vectors.T @ products))
