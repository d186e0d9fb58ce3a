"""As many threads as pay off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

#: matrices of up to so many values are worked on faster by one thread than by several that wait for each other
FEW_VALUES = 1_000_000


@contextmanager
def threads_for(n_values: int) -> Iterator[None]:
    """One thread of BLAS and OpenMP inside, where many fits of small matrices follow; else as many as there were.

    Parameters
    ----------
    n_values
        Rows × features of the largest matrix.

    Examples
    --------
    >>> from cerebridge.encoding.study.threads import threads_for
    >>> with threads_for(1000):
    ...     pass
    """
    with threadpool_limits(1 if n_values <= FEW_VALUES else None):
        yield
