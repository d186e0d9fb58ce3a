"""The memory promise: what a pass takes is measured, and plans stay within what was allowed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cerebridge.models.memory import LiveBytes, format_bytes, parse_bytes, plan_batches

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "count"), [("2GiB", 2**31), ("500 MB", 5 * 10**8), ("1.5kib", 1536), (77, 77), ("12", 12)]
)
def test_amounts_of_memory(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["much", "-1GiB", "2 GiBs", 0, "", None])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(ValueError, match="is no amount of memory"):
        parse_bytes(text)


@pytest.mark.parametrize(("count", "text"), [(5, "5 B"), (2048, "2.0 KiB"), (2**40, "1.0 TiB")])
def test_bytes_for_people(count, text):
    assert format_bytes(count) == text


def test_live_bytes_of_a_chain_are_its_widest_neighbours():
    net = nn.Sequential(nn.Linear(10, 1000), nn.ReLU(), nn.Linear(1000, 50), nn.Linear(50, 2))
    inputs = torch.zeros(4, 10)
    with torch.no_grad(), LiveBytes() as live:
        net(inputs)
    # the widest layer's output and its ReLU, four rows of 1000 float32 each
    assert live.peak == 2 * 4 * 1000 * 4


def test_live_bytes_count_what_is_kept_and_not_what_is_changed_in_place():
    kept = []
    with LiveBytes() as live:
        kept.extend(torch.zeros(100, dtype=torch.float64) for _ in range(5))
        kept[0].add_(1).view(10, 10).mul_(2)
        kept.clear()
        torch.zeros(10)
    assert live.peak == 5 * 800


@settings(max_examples=50, deadline=None)
@given(
    forward=st.integers(1, 10**8),
    inputs=st.integers(1, 10**6),
    outputs=st.integers(1, 10**8),
    labels=st.integers(1, 10**8),
    memory=st.integers(10**3, 10**10),
)
def test_plans_keep_the_promise(forward, inputs, outputs, labels, memory):
    arguments = {
        "forward": forward,
        "inputs": inputs,
        "outputs": outputs,
        "labels": labels,
        "memory": memory,
        "device": CPU,
    }
    if labels + 2 * forward + 3 * inputs + 2 * outputs > memory:
        with pytest.raises(
            ValueError, match="one stimulus and the labels of all units need about .* more than memory="
        ):
            plan_batches(batch_size=None, **arguments)
    else:
        plan = plan_batches(batch_size=None, **arguments)
        assert plan.peak_bytes <= memory
        assert plan.shard_rows % plan.batch_size == 0 < plan.shard_rows


def test_a_batch_size_that_breaks_the_promise_is_refused():
    arguments = {"forward": 1e6, "inputs": 1e3, "outputs": 1e3, "labels": 0, "device": CPU}
    assert plan_batches(batch_size=3, memory=10**7, **arguments).batch_size == 3
    with pytest.raises(ValueError, match=r"a batch of 30 .*need about .*lower batch_size="):
        plan_batches(batch_size=30, memory=10**7, **arguments)
