"""Pieces of work in their order, whatever the threads, which are given back."""

from __future__ import annotations

import pytest
import torch

from cerebridge.encoding.engine.threads import spread


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("n", [1, 2, 50])
def test_results_keep_their_order_and_each_piece_has_a_thread(two_threads, n):
    found = list(spread(lambda k: (k, torch.get_num_threads()), range(n), torch.device("cpu")))
    assert found == [(k, 2 if n == 1 else 1) for k in range(n)]
    assert torch.get_num_threads() == 2


def test_threads_are_given_back_after_an_error(two_threads):
    with pytest.raises(ZeroDivisionError):
        list(spread(lambda k: 1 / k, [1, 0, 2], torch.device("cpu")))
    assert torch.get_num_threads() == 2
