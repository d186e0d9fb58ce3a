"""What rsatoolbox's bootstrap draws, so that ours can be given the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

Draws = list[tuple[NDArray[Any], NDArray[Any]]]


@contextmanager
def recorded(draws: Draws) -> Iterator[None]:
    """Keep the people and stimuli of every sample in ``draws``, from a fixed seed and without a progress bar."""
    from rsatoolbox.inference import evaluate

    draw = evaluate.bootstrap_sample

    def keeping(*arguments: Any, **options: Any) -> Any:
        sample = draw(*arguments, **options)
        draws.append(sample[1:])
        return sample

    draws.clear()
    np.random.seed(0)  # noqa: NPY002 (what the peer draws with)
    with (
        mock.patch.object(evaluate, "bootstrap_sample", keeping),
        mock.patch.object(evaluate.tqdm, "trange", range),
    ):
        yield


def counted(draws: Draws, sizes: Sequence[int]) -> list[NDArray[np.int64]]:
    """How often each person and each stimulus was drawn in every sample."""
    return [
        np.stack([np.bincount(indices, minlength=n) for indices in side])
        for side, n in zip(zip(*draws, strict=True), sizes, strict=True)
    ]
