"""Targets that miss samples: which of them have the same ones, and are fitted together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .moments import Split
from .primal import Fitted
from .tables import Matrix, Table, take


class Pattern(NamedTuple):
    """Sorted positions of samples, and of the targets that have exactly these."""

    samples: torch.Tensor
    targets: torch.Tensor


def patterns(Y: Matrix) -> list[Pattern]:
    """Sets of targets with the same samples; the largest set of samples first.

    Parameters
    ----------
    Y
        ``(samples, targets)``, NaN where missing; a table has no NaN.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.missing import patterns
    >>> found = patterns(torch.tensor([[1.0, torch.nan, 3.0], [4.0, 5.0, 6.0]]))
    >>> [(pattern.samples.tolist(), pattern.targets.tolist()) for pattern in found]
    [([0, 1], [0, 2]), ([1], [1])]
    """
    # a sum is cheaper than a mask of every value, and finite only if all values are
    if isinstance(Y, Table) or bool(torch.isfinite(Y.sum())):
        return [Pattern(*(torch.arange(size, device=Y.device) for size in Y.shape))]
    missing = Y.isnan()
    holes = missing.any(0)
    complete = (~holes).nonzero()[:, 0]
    found = [Pattern(torch.arange(len(Y), device=Y.device), complete)] if len(complete) else []
    if not bool(holes.any()):
        return found
    members = holes.nonzero()[:, 0]
    kinds, kind = torch.unique(missing[:, members], dim=1, return_inverse=True)
    ragged = [Pattern((~kinds[:, k]).nonzero()[:, 0], members[kind == k]) for k in range(kinds.shape[1])]
    return found + sorted(ragged, key=lambda pattern: -len(pattern.samples))


def part_of(X: Matrix, Y: Matrix, pattern: Pattern) -> tuple[Matrix, Matrix]:
    """Features and targets of one pattern; as they are where nothing is missing.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.missing import part_of, patterns
    >>> Y = torch.tensor([[torch.nan], [3.0]])
    >>> part_of(torch.eye(2), Y, patterns(Y)[0])
    (tensor([[0., 1.]]), tensor([[3.]]))
    """
    if len(pattern.samples) == len(X) and len(pattern.targets) == Y.shape[1]:
        return X, Y
    if isinstance(X, Table) or isinstance(Y, Table):
        raise ValueError("y misses samples, which needs X in memory; load X or raise memory.")
    return take(X, pattern.samples.to(X.device)), take(Y, pattern.samples)[:, pattern.targets]


def restrict(splits: Sequence[Split], samples: torch.Tensor) -> list[Split]:
    """Splits of some of the samples, as positions among these; those that lose a side are left out.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.missing import restrict
    >>> from cerebridge.encoding.engine.moments import Split
    >>> first, last = torch.arange(2), torch.arange(2, 6)
    >>> restrict([Split(first, last), Split(last, first)], torch.tensor([1, 3, 5]))
    [Split(train=tensor([0]), test=tensor([1, 2]))]
    """
    restricted = [
        Split(*(torch.isin(samples, side).nonzero()[:, 0] for side in (split.train, split.test)))
        for split in splits
    ]
    return [split for split in restricted if len(split.train) and len(split.test) > 1]


def n_samples(found: Sequence[Pattern]) -> torch.Tensor:
    """How many samples each target has, ``(targets,)``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.missing import n_samples, patterns
    >>> n_samples(patterns(torch.tensor([[torch.nan, 2.0], [3.0, 4.0]])))
    tensor([1, 2])
    """
    counts = found[0].samples.new_empty(sum(len(pattern.targets) for pattern in found))
    for pattern in found:
        counts[pattern.targets] = len(pattern.samples)
    return counts


def gather(found: Sequence[Pattern], fits: Sequence[Fitted]) -> Fitted:
    """What was fitted for each pattern, in the order of the targets.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.missing import gather, patterns
    >>> from cerebridge.encoding.engine.primal import Fitted
    >>> one, two = (Fitted(*4 * [torch.full((1, 1), value)]) for value in (1.0, 2.0))
    >>> gather(patterns(torch.tensor([[torch.nan, 2.0], [3.0, 4.0]])), [one, two]).coef
    tensor([[2.],
            [1.]])
    """
    if len(fits) == 1:
        return fits[0]
    n_targets = sum(len(pattern.targets) for pattern in found)
    whole = Fitted(*(x.new_empty(n_targets, *x.shape[1:]) for x in fits[0]))
    for pattern, fitted in zip(found, fits, strict=True):
        for all_targets, some in zip(whole, fitted, strict=True):
            all_targets[pattern.targets.to(some.device)] = some
    return whole
