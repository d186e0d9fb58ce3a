"""Options that every extraction shares, and what it refuses before it starts: results that fit nowhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from .memory import format_bytes


def resolve_kept_type(dtype: str) -> torch.dtype:
    """Turn ``dtype=`` into the type in which activations are kept.

    Raises
    ------
    ValueError
        If it is none of the two.

    Examples
    --------
    >>> from cerebridge.models.limits import resolve_kept_type
    >>> resolve_kept_type("float16")
    torch.float16
    """
    if dtype not in ("float32", "float16"):
        raise ValueError(f"dtype is {dtype!r}; activations are kept as 'float32' or 'float16'.")
    return torch.float16 if dtype == "float16" else torch.float32


def resolve_batch_size(batch_size: int | str) -> int | None:
    """Turn ``batch_size=`` into a number, or ``None`` for ``"auto"``.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> from cerebridge.models.limits import resolve_batch_size
    >>> resolve_batch_size(8), resolve_batch_size("auto")
    (8, None)
    """
    if batch_size == "auto":
        return None
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; give 'auto' or a positive number of stimuli.")
    return batch_size


def refuse_large_result(needed: float, budget: int, hint: str = "give a folder as store=, ") -> None:
    """Refuse a result in memory that is larger than the promise.

    Parameters
    ----------
    needed, budget
        In bytes.
    hint
        What helps beside pooling and half precision.

    Raises
    ------
    ValueError
        If it is.

    Examples
    --------
    >>> from cerebridge.models.limits import refuse_large_result
    >>> refuse_large_result(10, 20)
    """
    if needed > budget:
        raise ValueError(
            f"the activations take {format_bytes(needed)}, more than memory={format_bytes(budget)}; {hint}pool the "
            "layers, use dtype='float16', or raise memory=."
        )


def refuse_full_disk(folder: Path, needed: float) -> None:
    """Refuse to begin what the disk has no room for.

    Raises
    ------
    OSError
        If fewer bytes than ``needed`` are free at ``folder``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from cerebridge.models.limits import refuse_full_disk
    >>> refuse_full_disk(Path("."), 1)
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"the activations take {format_bytes(needed)}, but only {format_bytes(free)} are free at {folder}; pool "
            "the layers, use dtype='float16', or choose another disk."
        )
