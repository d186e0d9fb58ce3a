"""Kernel alignment of representations: how alike the inner products (or Gaussian similarities) of stimuli are.

Representations are ``(stimuli, units)`` tensors. Every function here compares all of one list with all of another, for
several orders of the stimuli of the second at once, which is what a permutation test needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

#: elements of kernel rows, of all representations together, that are held at once
CHUNK = 1 << 25
#: most stimuli whose distances the median is taken over
MEDIAN_OF = 4096


class Products(NamedTuple):
    """Inner products of centred kernels and what corrects them: ``(orders, a, b)``, diagonals ``(a or b, stimuli)``."""

    cross: torch.Tensor
    own_a: torch.Tensor
    own_b: torch.Tensor
    diagonal_a: torch.Tensor
    diagonal_b: torch.Tensor


def kernel_alignment(
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    orders: torch.Tensor,
    *,
    kernel: str = "linear",
    debiased: bool = False,
    bandwidth: float = 1.0,
) -> torch.Tensor:
    r"""Centred kernel alignment of every ``a`` with every ``b`` (Cortes et al., 2012; Kornblith et al., 2019).

    :math:`\langle K, L\rangle / (\lVert K\rVert \lVert L\rVert)` of centred kernels; with the linear one it is the RV
    coefficient. It needs either the products of all units or rows of the kernels, whichever is less work, and never
    holds a whole kernel.

    Parameters
    ----------
    a, b
        Representations, ``(stimuli, units)``.
    orders
        ``(orders, stimuli)``: which row of ``b`` goes with each row of ``a``.
    kernel
        ``"linear"``, or ``"rbf"``: :math:`\exp(-d^2 / 2\sigma^2)`.
    debiased
        Inner products estimated without bias (HSIC₁ of Song et al., 2012), so that few stimuli and many units do not
        look alike; needs four stimuli.
    bandwidth
        σ of the Gaussian kernel, in medians of the distances between stimuli.

    Returns
    -------
    torch.Tensor
        ``(orders, a, b)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.representations import kernel_alignment
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    >>> kernel_alignment([x], [2 * x.flip(1)], torch.arange(3)[None]).round(decimals=6).tolist()
    [[[1.0]]]
    """
    first = [compact(centred(x)) for x in a]
    second = first if b is a else [compact(centred(x)) for x in b]
    if kernel == "linear":
        found = (
            _products_of_units(first, second, orders)
            if _units_are_cheaper(first, second)
            else _products_of_kernels(first, second, orders, [None] * len(first), [None] * len(second))
        )
    else:
        widths = [[bandwidth * median_distance(x) for x in side] for side in (first, second)]
        if 0 in widths[0] + widths[1]:
            raise ValueError(
                "more than half of the distances between stimuli of a representation are 0, so that their median is no "
                "bandwidth; average equal stimuli first, or use a linear kernel."
            )
        found = _products_of_kernels(first, second, orders, *widths)
    return _ratio(_unbiased(found, orders) if debiased else found)


def adjusted_rv(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor], orders: torch.Tensor) -> torch.Tensor:
    """RV coefficient of standardised units with adjusted squared correlations (Mayer et al., 2011, J Proteome Res).

    Every squared correlation of two units is replaced by ``1 - (n - 1) / (n - 2) (1 - r²)``, whose expectation is 0
    where they are independent. Parameters and result are those of :func:`kernel_alignment`.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.representations import adjusted_rv
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    >>> adjusted_rv([x], [5 * x.flip(1)], torch.arange(3)[None]).round(decimals=6).tolist()
    [[[1.0]]]
    """
    n = orders.shape[1]
    sizes_a, sizes_b = (torch.tensor([float(x.shape[1]) for x in side]).to(a[0]) for side in (a, b))
    first = [compact(standardised(x)) for x in a]
    second = first if b is a else [compact(standardised(x)) for x in b]
    found = _products_of_units(first, second, orders)

    def adjusted(squares: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        return pairs - (n - 1) / (n - 2) * (pairs - squares)

    return _ratio(
        found._replace(
            cross=adjusted(found.cross, sizes_a[:, None] * sizes_b),
            own_a=adjusted(found.own_a, sizes_a.square()),
            own_b=adjusted(found.own_b, sizes_b.square()),
        )
    )


def centred(x: torch.Tensor) -> torch.Tensor:
    """Patterns without their mean over stimuli."""
    return x - x.mean(dim=0)


def standardised(x: torch.Tensor) -> torch.Tensor:
    """Units without their mean and of length 1; 0 where a unit does not vary.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.representations import standardised
    >>> standardised(torch.tensor([[1.0, 3.0], [1.0, 5.0]])).round(decimals=4)
    tensor([[ 0.0000, -0.7071],
            [ 0.0000,  0.7071]])
    """
    rows = centred(x)
    length: torch.Tensor = torch.linalg.vector_norm(rows, dim=0)
    rounding = 16 * torch.finfo(x.dtype).eps * torch.linalg.vector_norm(x, dim=0)
    return torch.where(length > rounding, rows / length.clamp(min=torch.finfo(x.dtype).tiny), 0)


def compact(x: torch.Tensor) -> torch.Tensor:
    """Patterns in a rotation that has no more units than stimuli; distances and inner products are kept.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.representations import compact
    >>> tuple(compact(torch.ones(3, 100)).shape)
    (3, 3)
    """
    if x.shape[1] <= x.shape[0]:
        return x
    triangle: torch.Tensor = torch.linalg.qr(x.mT, mode="r").R
    return triangle.mT.contiguous()


def sqdistances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances of the rows of ``x`` from those of ``y``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.representations import sqdistances
    >>> sqdistances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])).tolist()
    [[25.0]]
    """
    inner = x @ y.mT
    return inner.mul_(-2).add_(x.square().sum(1)[:, None]).add_(y.square().sum(1)).clamp_(min=0)


def median_distance(x: torch.Tensor) -> float:
    """Median distance between stimuli; of more than 4,096 evenly spaced ones are taken.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.representations import median_distance
    >>> median_distance(torch.tensor([[0.0], [1.0], [3.0]]))
    2.0
    """
    some = x[:: -(-len(x) // MEDIAN_OF)]
    rows, columns = torch.triu_indices(len(some), len(some), 1, device=x.device)
    return math.sqrt(float(sqdistances(some, some)[rows, columns].median()))


def _units_are_cheaper(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> bool:
    """Whether products of units take fewer operations than kernels, of which one half is computed."""
    n = len(a[0])
    units_a, units_b = (sum(x.shape[1] for x in side) for side in (a, b))
    sides = units_a if b is a else units_a + units_b
    return units_a * units_b < n * (sides + len(a) * len(b)) / 2


def _products_of_units(
    a: Sequence[torch.Tensor], b: Sequence[torch.Tensor], orders: torch.Tensor
) -> Products:
    """From the squared products of units: no work depends on the square of the number of stimuli."""
    together = torch.cat(list(b), dim=1)
    owner = torch.repeat_interleave(
        torch.arange(len(b), device=orders.device),
        torch.tensor([x.shape[1] for x in b], device=orders.device),
    )
    cross = together.new_zeros(len(orders), len(a), len(b))
    for k, order in enumerate(orders):
        rows = together[order]
        for i, x in enumerate(a):
            cross[k, i].index_add_(0, owner, (x.mT @ rows).square_().sum(0))
    own_a, own_b = (torch.stack([(x.mT @ x).square_().sum() for x in side]) for side in (a, b))
    diagonals = (torch.stack([x.square().sum(1) for x in side]) for side in (a, b))
    return Products(cross, own_a, own_b, *diagonals)


def _products_of_kernels(
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    orders: torch.Tensor,
    widths_a: Sequence[float | None],
    widths_b: Sequence[float | None],
) -> Products:
    """From rows of the kernels (without a width: linear), a block at a time; centred afterwards by their sums."""
    n = len(a[0])
    cross = a[0].new_zeros(len(orders), len(a), len(b))
    own_a, own_b = cross.new_zeros(len(a)), cross.new_zeros(len(b))
    sums_a, sums_b = cross.new_zeros(len(a), n), cross.new_zeros(len(b), n)
    # rows of a linear kernel of centred patterns sum to zero
    taken_a, taken_b = (sums_a, sums_b) if widths_a[0] is not None else (None, None)
    # kernels that fit are shuffled; else their rows are computed anew for every order
    held = None
    if len(orders) > 1 and n * n * len(b) <= CHUNK:
        held = _kernel_rows(b, widths_b, slice(0, n), None).view(len(b), n, n)
    for block in _blocks(n, len(a) + len(b)):
        left = _kernel_rows(a, widths_a, block, taken_a)
        own_a += left.square().sum(1)
        for k, order in enumerate(orders):
            if b is a and _is_identity(order):
                right = left
            elif k == 0 or held is None:
                right = _kernel_rows([y[order] for y in b], widths_b, block, taken_b if k == 0 else None)
            else:
                right = _weighed(held[:, order[block]][:, :, order[block.start :]], block)
            if k == 0:
                own_b += right.square().sum(1)
            cross[k] += left @ right.mT
    if b is a and _is_identity(orders[0]):
        sums_b = sums_a
    else:  # the sums were taken in the first order
        sums_b = torch.empty_like(sums_b).index_copy_(1, orders[0], sums_b)
    means_a, means_b = sums_a / n, sums_b / n
    grand_a, grand_b = means_a.mean(1), means_b.mean(1)
    shuffled = torch.stack([means_a @ means_b[:, order].mT for order in orders])
    diagonals = []
    for side, widths, means, grand in ((a, widths_a, means_a, grand_a), (b, widths_b, means_b, grand_b)):
        raw = [
            x.square().sum(1) if width is None else torch.ones_like(x[:, 0])
            for x, width in zip(side, widths, strict=True)
        ]
        diagonals.append(torch.stack(raw) - 2 * means + grand[:, None])
    return Products(
        cross - 2 * n * shuffled + n**2 * grand_a[:, None] * grand_b,
        own_a - 2 * n * means_a.square().sum(1) + n**2 * grand_a.square(),
        own_b - 2 * n * means_b.square().sum(1) + n**2 * grand_b.square(),
        *diagonals,
    )


def _kernel_rows(
    side: Sequence[torch.Tensor],
    widths: Sequence[float | None],
    block: slice,
    sums: torch.Tensor | None,
) -> torch.Tensor:
    """Rows of every kernel from the diagonal on, flattened; what lies beyond the block counts twice in products."""
    size = block.stop - block.start
    rows = side[0].new_empty(len(side), size, len(side[0]) - block.start)
    for kernel, x, width in zip(rows, side, widths, strict=True):
        if width is None:
            torch.mm(x[block], x[block.start :].mT, out=kernel)
        else:
            kernel[:] = sqdistances(x[block], x[block.start :]).mul_(-0.5 / width**2).exp_()
    if sums is not None:
        sums[:, block] += rows.sum(2)
        sums[:, block.stop :] += rows[:, :, size:].sum(1)
    return _weighed(rows, block)


def _weighed(rows: torch.Tensor, block: slice) -> torch.Tensor:
    """Rows flattened; in place, what lies beyond the block is made to count twice in products of two."""
    rows[:, :, block.stop - block.start :] *= math.sqrt(2)
    return rows.flatten(1)


def _blocks(n: int, n_kernels: int) -> Iterator[slice]:
    """Stimuli whose kernel rows are held at once: so few that the half below the diagonal is hardly computed."""
    size = max(1, min(CHUNK // (n * n_kernels), max(128, n // 16)))
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def _is_identity(order: torch.Tensor) -> bool:
    return bool((order == torch.arange(len(order), device=order.device)).all())


def _unbiased(found: Products, orders: torch.Tensor) -> Products:
    """HSIC₁ times n (n - 3), which cancels in the ratio: the diagonals of both kernels do not take part."""
    n = orders.shape[1]

    def correction(inner: torch.Tensor, totals: torch.Tensor) -> torch.Tensor:
        return totals / ((n - 1) * (n - 2)) - n / (n - 2) * inner

    a, b = found.diagonal_a, found.diagonal_b
    inner = torch.stack([a @ b[:, order].mT for order in orders])
    own = [correction(d.square().sum(1), d.sum(1).square()) for d in (a, b)]
    return found._replace(
        cross=found.cross + correction(inner, a.sum(1)[:, None] * b.sum(1)),
        own_a=found.own_a + own[0],
        own_b=found.own_b + own[1],
    )


def _ratio(found: Products) -> torch.Tensor:
    """Similarity of kernels; NaN for one of which only rounding is left, as without bias of equal distances."""
    own = []
    for squares, diagonal in ((found.own_a, found.diagonal_a), (found.own_b, found.diagonal_b)):
        rounding = 1e3 * torch.finfo(squares.dtype).eps * diagonal.square().sum(1)
        own.append(torch.where(squares > rounding, squares, torch.nan))
    return found.cross / (own[0][:, None] * own[1]).sqrt()
