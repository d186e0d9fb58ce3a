"""Cross-validated ridge from start to end: the planned way, block of targets by block of targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from .dual import Dual, Rotated
from .moments import Split
from .planning import Path
from .primal import Fitted, Primal
from .scoring import Scoring

Ridge = Primal | Dual | Rotated


def prepare(
    path: Path,
    X: torch.Tensor,
    splits: Sequence[Split],
    alphas: torch.Tensor,
    scoring: Scoring,
    fit_intercept: bool,
) -> Ridge:
    """Decompose the features for every split; where a kernel is too rough for its penalties, rotate instead.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.paths import prepare
    >>> X = torch.tensor([[1.0, 1e6, 1e6], [2.0, 1e6, 1e6], [3.0, -2e6, -2e6]], dtype=torch.float64)
    >>> splits = [Split(torch.tensor([2]), torch.tensor([0, 1]))]
    >>> penalties = torch.tensor([[1e10], [1e-3]], dtype=torch.float64)
    >>> [type(prepare("dual", X, splits, alphas, "r2", True)).__name__ for alphas in penalties]
    ['Dual', 'Rotated']
    """
    if path == "primal":
        return Primal(X, splits, alphas, scoring, fit_intercept)
    if path == "dual":
        dual = Dual(X, splits, alphas, scoring, fit_intercept)
        if not dual.is_rough:
            return dual
    return Rotated(X, splits, alphas, scoring, fit_intercept)


def fit_blocks(
    ridge: Ridge,
    Y: torch.Tensor,
    at_once: int,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Fitted:
    """Fit every column of ``Y``, a block at a time on the device of the features, and collect where ``Y`` is.

    Parameters
    ----------
    ridge
        What :func:`prepare` gave.
    Y
        ``(samples, targets)``.
    at_once
        Targets a block.
    track
        Draws progress over the blocks.
    """
    results: Fitted | None = None
    for start in track(range(0, Y.shape[1], at_once)):
        block = slice(start, start + at_once)
        part = ridge.fit(Y[:, block].to(ridge.X.device, ridge.X.dtype))
        if results is None:
            results = Fitted(*(x.new_empty(Y.shape[1], *x.shape[1:], device=Y.device) for x in part))
        for whole, piece in zip(results, part, strict=True):
            whole[block] = piece.to(Y.device)
    assert results is not None
    return results
