"""Representations aligned by a rotation or a permutation: canonical correlations, Procrustes, shape metrics.

All of them weigh the principal directions of the stimuli's patterns, and rotate one representation onto the other:
equal weights give canonical correlations, singular values give Procrustes, mixtures the shape metrics between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from .matching import assign
from .representations import centred, compact

Fold = tuple[torch.Tensor, torch.Tensor]
Weigh = Callable[[torch.Tensor], torch.Tensor]


class Space(NamedTuple):
    """Weighted directions of training patterns: ``rows`` of the training stimuli, and the way of others into it.

    ``loadings`` are the training patterns of the units, ``(directions, units)``.
    """

    mean: torch.Tensor
    basis: torch.Tensor
    rows: torch.Tensor
    loadings: torch.Tensor

    def place(self, x: torch.Tensor) -> torch.Tensor:
        """Other stimuli in the same directions."""
        return (x - self.mean) @ self.basis


def canonical_correlation(
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    orders: torch.Tensor,
    folds: Sequence[Fold] | None = None,
    *,
    variance: float | None = None,
    projection_weighted: bool = False,
) -> torch.Tensor:
    """Mean canonical correlation of all of ``a`` with all of ``b``.

    Parameters
    ----------
    a, b
        Representations, ``(stimuli, units)``.
    orders
        ``(orders, stimuli)``: which row of ``b`` goes with each row of ``a``.
    folds
        Training and held-out stimuli: directions from the one, correlations on the other, mean over folds; two
        representations must have fewer dimensions together than training stimuli, else directions are not determined.
        ``None``: both from all stimuli, which grows to 1 with the number of units.
    variance
        Only so many leading principal components as hold this share of the variance (SVCCA; Raghu et al., 2017).
    projection_weighted
        Canonical variates weighted by what they carry of the units of ``a`` (PWCCA; Morcos et al., 2018).

    Returns
    -------
    torch.Tensor
        ``(orders, a, b)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.shapes import canonical_correlation
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    >>> mixed = x @ torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    >>> canonical_correlation([x], [mixed], torch.arange(4)[None]).round(decimals=4).tolist()
    [[[1.0]]]
    """
    weigh = torch.ones_like if variance is None else partial(leading, variance=variance)
    prepare: Callable[[torch.Tensor], torch.Tensor] = (lambda x: x) if projection_weighted else compact
    left = [prepare(x) for x in a]
    right = left if b is a else [prepare(y) for y in b]

    def score(train: tuple[Space, Space], test: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        x, y = train
        turn, r, other = torch.linalg.svd(x.rows.mT @ y.rows, full_matrices=False)
        if test is not None:
            variates = (centred(test[0] @ turn), centred(test[1] @ other.mT))
            lengths = [torch.linalg.vector_norm(side, dim=0) for side in variates]
            tiny = torch.finfo(r.dtype).tiny
            r = (variates[0] * variates[1]).sum(0) / (lengths[0] * lengths[1]).clamp(min=tiny)
        weights: torch.Tensor = torch.ones_like(r)
        if projection_weighted:
            weights = (turn.mT @ x.loadings).abs().sum(1)
        mean: torch.Tensor = (r * weights).sum() / weights.sum()
        return mean

    found = _over_pairs(left, right, orders, folds, weigh, score, symmetric=not projection_weighted)
    return torch.stack(found).mean(0)


def shape_distance(
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    orders: torch.Tensor,
    folds: Sequence[Fold] | None = None,
    *,
    alpha: float = 1.0,
    group: str = "orthogonal",
    kind: str = "angular",
) -> torch.Tensor:
    r"""Distance that is left after the best rotation or permutation of units (Williams et al., 2021).

    Patterns are centred and partly whitened, :math:`\varphi(X) = X (\alpha I + (1 - \alpha) s \Sigma^{-1/2})`, where
    :math:`s^2` is the mean of the eigenvalues of :math:`\Sigma = X^\top X` that are not zero: so both terms are of one
    size, whatever the unit of measurement. Each kind is a metric for every ``alpha`` and group.

    Parameters
    ----------
    a, b, orders
        As for :func:`canonical_correlation`.
    folds
        Training and held-out stimuli: whitened and aligned on the one, sums of products of all held-out stimuli taken
        together. ``None``: aligned and measured on all stimuli.
    alpha
        1 for Procrustes, 0 for whitened patterns (canonical correlations).
    group
        ``"orthogonal"``, or ``"permutation"`` (equal numbers of units).
    kind
        ``"angular"`` (arc cosine of the similarity), ``"euclidean"`` (in the unit of the patterns, over all stimuli),
        ``"chord"`` (Euclidean of patterns scaled to length 1), or ``"similarity"`` (cosine of the angle).

    Returns
    -------
    torch.Tensor
        ``(orders, a, b)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.shapes import shape_distance
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    >>> shape_distance([x], [-2 * x.flip(1)], torch.arange(3)[None], kind="similarity").round(decimals=6).tolist()
    [[[1.0]]]
    """
    units = group == "permutation"
    prepare: Callable[[torch.Tensor], torch.Tensor] = (lambda x: x) if units else compact
    left = [prepare(x) for x in a]
    right = left if b is a else [prepare(y) for y in b]

    def sums(train: tuple[Space, Space], test: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        x, y = (space.rows for space in train) if test is None else test
        product = train[0].rows.mT @ train[1].rows
        if units:
            match = assign(product)
            inner = (x[:, match.rows] * y[:, match.columns]).sum()
        elif test is None:
            inner = torch.linalg.svdvals(product).sum()
        else:
            turn, _, other = torch.linalg.svd(product, full_matrices=False)
            inner = ((x @ turn) * (y @ other.mT)).sum()
        return torch.stack([inner, x.square().sum(), y.square().sum()])

    weigh = partial(mixed, alpha=alpha)
    parts = _over_pairs(left, right, orders, folds, weigh, sums, symmetric=True, in_units=units)
    inner, own_a, own_b = torch.stack(parts).sum(0).unbind(-1)
    if kind == "euclidean":
        return (own_a + own_b - 2 * inner).clamp(min=0).sqrt()
    similarity = inner / (own_a * own_b).sqrt()
    if kind == "similarity":
        return similarity
    if kind == "chord":
        return (2 - 2 * similarity).clamp(min=0).sqrt()
    return similarity.clamp(-1, 1).acos()


def leading(values: torch.Tensor, variance: float) -> torch.Tensor:
    """Weights 1 for the leading directions that hold a share of the variance; the others are left out.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.shapes import leading
    >>> leading(torch.tensor([3.0, 1.0, 0.1]), 0.99).tolist()
    [1.0, 1.0]
    """
    share = values.square().cumsum(0) / values.square().sum()
    return torch.ones_like(values[: 1 + int((share < variance - 1e-12).sum())])


def mixed(values: torch.Tensor, alpha: float) -> torch.Tensor:
    """Weights between the singular values (1) and their root mean square for all (0).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.shapes import mixed
    >>> mixed(torch.tensor([7.0, 1.0]), 0.5).tolist()
    [6.0, 3.0]
    """
    return alpha * values + (1 - alpha) * values.square().mean().sqrt()


def fit_space(x: torch.Tensor, weigh: Weigh, *, in_units: bool = False) -> Space:
    """Weighted principal directions of patterns; ``in_units``, turned back to the units.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.shapes import fit_space
    >>> fit_space(torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.ones_like).rows.abs()
    tensor([[0.7071],
            [0.7071]])
    """
    mean = x.mean(dim=0)
    left, values, right = torch.linalg.svd(x - mean, full_matrices=False)
    rank = int((values > max(x.shape) * torch.finfo(x.dtype).eps * values[0]).sum())
    if not rank:
        raise ValueError(
            "a representation does not vary over the training stimuli of a fold; use fewer folds."
        )
    weights = weigh(values[:rank])
    left, values, right = left[:, : len(weights)], values[: len(weights)], right[: len(weights)]
    rows, basis = left * weights, right.mT * (weights / values)
    if in_units:
        rows, basis = rows @ right, basis @ right
    return Space(mean, basis, rows, values[:, None] * right)


def _over_pairs(
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    orders: torch.Tensor,
    folds: Sequence[Fold] | None,
    weigh: Weigh,
    score: Callable[[tuple[Space, Space], tuple[torch.Tensor, torch.Tensor] | None], torch.Tensor],
    *,
    symmetric: bool,
    in_units: bool = False,
) -> list[torch.Tensor]:
    """``score`` of all pairs in every fold: of spaces of its training stimuli, and its held-out stimuli in them."""
    everything = torch.arange(orders.shape[1], device=orders.device)
    found = []
    for train, test in [(everything, everything)] if folds is None else folds:
        spaces_a = [fit_space(x[train], weigh, in_units=in_units) for x in a]
        # in another order, the directions of all stimuli are the same and their rows have moved
        fixed = (
            [fit_space(y, weigh, in_units=in_units) for y in b] if folds is None and b is not a else spaces_a
        )
        by_order = []
        for order in orders:
            spaces_b = (
                [space._replace(rows=space.rows[order]) for space in fixed]
                if folds is None
                else [fit_space(y[order[train]], weigh, in_units=in_units) for y in b]
            )
            table: list[list[torch.Tensor]] = []
            for i, x in enumerate(spaces_a):
                row = []
                for j, y in enumerate(spaces_b):
                    if symmetric and b is a and j < i:
                        row.append(_swapped(table[j][i]))
                        continue
                    held_out = None if folds is None else (x.place(a[i][test]), y.place(b[j][order[test]]))
                    row.append(score((x, y), held_out))
                table.append(row)
            by_order.append(torch.stack([torch.stack(row) for row in table]))
        found.append(torch.stack(by_order))
    return found


def _swapped(value: torch.Tensor) -> torch.Tensor:
    """The same of the pair the other way round: inner product, then the sums of squares of either side."""
    return value[[0, 2, 1]] if value.ndim else value
