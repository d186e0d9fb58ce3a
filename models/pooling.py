"""Reducing feature maps before they are kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional

Pool = None | int | tuple[int, int] | Literal["global"] | Callable[[Tensor], Tensor]


def resolve_pool(pool: Pool, layers: Sequence[str] = ()) -> Callable[[Tensor], Tensor]:
    """Turn ``pool=`` into a function of a batch of outputs.

    Parameters
    ----------
    pool
        ``None`` keeps outputs whole. ``7`` or ``(7, 7)`` averages feature maps (batch × channels × rows × columns)
        down to so many rows and columns; smaller maps stay. ``"global"`` averages over all positions of feature
        maps and over the tokens of sequences (batch × tokens × channels). A function is called with the output of
        each layer and must leave the batch axis first. Vectors are never pooled.
    layers
        What is pooled, by name.

    Raises
    ------
    ValueError
        If it is none of these, or a layer's axes are heads or time steps, which are no places of a feature map.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.pooling import resolve_pool
    >>> resolve_pool(7)(torch.ones(2, 16, 28, 28)).shape
    torch.Size([2, 16, 7, 7])
    """
    if pool is None:
        return _keep
    if callable(pool):
        return pool
    parts = [layer for layer in layers if {"heads", "steps"} & set(re.split(r"[:(]", layer)[1:])]
    if parts:
        raise ValueError(
            f"pool={pool!r} averages over places, and {parts[0]!r} has heads or time steps, too; extract it by itself, "
            "or give a function of the output as pool=."
        )
    if pool == "global":
        return _average_globally
    size = (pool, pool) if isinstance(pool, int) else pool
    if not (isinstance(size, tuple) and len(size) == 2 and all(isinstance(s, int) and s > 0 for s in size)):
        raise ValueError(
            f"pool={pool!r} is unknown; use None, 7, (7, 7), 'global' or a function of the output."
        )
    return lambda output: _average_to(output, cast(tuple[int, int], size))


def _keep(output: Tensor) -> Tensor:
    return output


def _average_to(output: Tensor, size: tuple[int, int]) -> Tensor:
    if output.ndim != 4:
        return output
    rows, columns = (min(wanted, given) for wanted, given in zip(size, output.shape[2:], strict=True))
    return functional.adaptive_avg_pool2d(output.to(_at_least_float32(output)), (rows, columns))


def _average_globally(output: Tensor) -> Tensor:
    if output.ndim < 3:
        return output
    over = (1,) if output.ndim == 3 else tuple(range(2, output.ndim))
    return output.mean(over, dtype=_at_least_float32(output))


def _at_least_float32(output: Tensor) -> torch.dtype:
    """Averages of half precision are formed in single precision."""
    return torch.promote_types(output.dtype, torch.float32)
