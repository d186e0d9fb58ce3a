"""Cross-validated ridge from start to end: the planned way, block of targets by block of targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from .dual import Dual, Rotated
from .leaveout import LeaveOneOut
from .moments import Split
from .planning import Path
from .primal import Fitted, Primal
from .scoring import Scoring
from .tables import Matrix, Table, columns

Ridge = Primal | Dual | Rotated | LeaveOneOut

#: values up to 2 to this power, and down to its inverse, are left as they are
HARMLESS = 16
#: penalties beyond these make no difference to values near 1, but their inverses would leave the number format
PENALTIES = (1e-100, 1e100)


def prepare(
    path: Path,
    X: Matrix,
    splits: Sequence[Split],
    alphas: torch.Tensor,
    scoring: Scoring,
    fit_intercept: bool,
) -> tuple[Path, Ridge]:
    """Decompose the features for every split; where a kernel is too rough for its penalties, rotate instead.

    ``"loo"`` and ``"gcv"`` need no splits. A table of features stays where it is as long as the way allows that.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.paths import prepare
    >>> X = torch.tensor([[1.0, 1e6, 1e6], [2.0, 1e6, 1e6], [3.0, -2e6, -2e6]], dtype=torch.float64)
    >>> splits = [Split(torch.tensor([2]), torch.tensor([0, 1]))]
    >>> penalties = torch.tensor([[1e10], [1e-3]], dtype=torch.float64)
    >>> [prepare("dual", X, splits, alphas, "r2", True)[0] for alphas in penalties]
    ['dual', 'rotated']
    """
    if path in ("loo", "gcv"):
        X = X.whole() if isinstance(X, Table) else X
        return path, LeaveOneOut(X, alphas, scoring, fit_intercept, path == "gcv")
    if path == "primal":
        return path, Primal(X, splits, alphas, scoring, fit_intercept)
    if path == "dual":
        dual = Dual(X, splits, alphas, scoring, fit_intercept)
        if not dual.is_rough:
            return path, dual
        if isinstance(X, Table):
            raise ValueError(
                f"alphas as small as {float(alphas.min()):.1g} (of scaled features) are lost in the rounding of the "
                "kernel of X; use larger alphas, or load X into memory."
            )
    X = X.whole() if isinstance(X, Table) else X
    return "rotated", Rotated(X, splits, alphas, scoring, fit_intercept)


def cross_validate(
    path: Path,
    X: Matrix,
    Y: Matrix,
    splits: Sequence[Split],
    alphas: torch.Tensor,
    scoring: Scoring,
    fit_intercept: bool,
    at_once: int,
    track: Callable[[Sequence[int]], Iterable[int]] = iter,
    keep: Callable[[int, torch.Tensor], None] | None = None,
) -> tuple[Path, Fitted]:
    """Fit every column of ``Y``, a block at a time on the device of ``X``, and collect where ``Y`` is.

    Parameters
    ----------
    path, X, splits, alphas, scoring, fit_intercept
        As for :func:`prepare`.
    Y
        ``(samples, targets)``, of any precision and on any device; of a table no more than a block is in memory.
    at_once
        Targets a block.
    track
        Draws progress over the blocks.
    keep
        Takes the first target of a block and its coefficients, of which none are then returned.

    Returns
    -------
    path
        The way that was taken.
    fitted : Fitted
        Of all targets.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.moments import Split
    >>> from cerebridge.encoding.engine.paths import cross_validate
    >>> X = torch.arange(8.0, dtype=torch.float64)[:, None]
    >>> splits = [Split(torch.arange(4, 8), torch.arange(4)), Split(torch.arange(4), torch.arange(4, 8))]
    >>> path, fitted = cross_validate("primal", X, 3 * X, splits, torch.tensor([1e-9]), "r2", True, at_once=1)
    >>> round(fitted.coef.item(), 6)
    3.0
    """
    scale = binary_scale(X.largest if isinstance(X, Table) else X)[None]
    alphas = (alphas * scale.double().square()).clamp(*PENALTIES)
    if not bool(scale == 1):
        X = X.times(scale) if isinstance(X, Table) else X * scale
    path, ridge = prepare(path, X, splits, alphas, scoring, fit_intercept)
    home = torch.device("cpu") if isinstance(Y, Table) else Y.device
    results: Fitted | None = None
    for start in track(range(0, Y.shape[1], at_once)):
        part = _fit_block(ridge, X, Y, start, start + at_once, scale)
        if keep is not None:
            keep(start, part.coef)
            part = part._replace(coef=part.coef[:, :0])
        if at_once >= Y.shape[1] and home == X.device:
            return path, part
        if results is None:
            results = Fitted(*(x.new_empty(Y.shape[1], *x.shape[1:], device=home) for x in part))
        for whole, piece in zip(results, part, strict=True):
            whole[start : start + at_once] = piece.to(home)
    assert results is not None
    return path, results


def _fit_block(ridge: Ridge, X: Matrix, Y: Matrix, start: int, stop: int, scale: torch.Tensor) -> Fitted:
    """Neighbouring targets, brought near 1 and back."""
    if isinstance(Y, Table) and isinstance(X, Table) and isinstance(ridge, Primal):
        table = Y.columns(start, stop)
        scales = binary_scale(table.largest[None], 0)
        part = ridge.fit(table.times(scales))
    else:
        block = columns(Y, start, stop).to(X.device, X.dtype)
        scales = binary_scale(block, 0)
        part = ridge.fit(block if bool((scales == 1).all()) else block * scales)
    factor = scale / scales
    if not bool((factor == 1).all()):
        part.coef.mul_(factor[:, None])
    return part._replace(intercept=part.intercept / scales)


def binary_scale(x: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    """A power of two that brings values near 1, or 1 where their squares and products are in no danger.

    Multiplying by it is exact. Without it recordings in tesla leave the range of single precision when squared.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.paths import binary_scale
    >>> binary_scale(torch.tensor([[3.0, 3e-15], [0.0, -5e-15]]), 0) * torch.tensor([3.0, -5e-15])
    tensor([ 3.0000, -1.4074])
    """
    lowest, highest = (x.amin(), x.amax()) if dim is None else torch.aminmax(x, dim=dim)
    _, exponent = torch.frexp(torch.maximum(-lowest, highest))
    harmless = exponent.abs() <= HARMLESS
    return torch.ldexp(torch.ones_like(lowest), torch.where(harmless, 0, 1 - exponent))
