from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from cerebridge.encoding.study.threads import FEW_VALUES, threads_for


def threads() -> list[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return [pool["num_threads"] for pool in threadpool_info()]


@pytest.mark.parametrize("n_values", [FEW_VALUES, FEW_VALUES + 1])
def test_small_matrices_get_one_thread_and_others_what_there_was(n_values):
    with threadpool_limits(2):
        before = threads()
        with threads_for(n_values):
            assert threads() == ([1] * len(before) if n_values <= FEW_VALUES else before)
        assert threads() == before
