"""Streams of samples: every one once an epoch, well mixed, in any order of memory, and stopped in a sentence."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.models.decompose.samples import Samples
from cerebridge.models.decompose.streams import Stream, make_batches, sample
from cerebridge.models.training import Batches, Rows
from cerebridge.neuro.store import ShardWriter, load


def numbered(n, places=1):
    return Samples(torch.arange(float(n * places)).reshape(n, places), places)


def epoch(stream, seed=0):
    return list(stream.draw(torch.Generator().manual_seed(seed)))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 200), places=st.integers(1, 3), size=st.integers(1, 50), memory=st.integers(1, 3000))
def test_every_sample_comes_once_an_epoch_in_equal_batches(n, places, size, memory):
    stream = Stream({"x": numbered(n, places), "g": numbered(n, places)}, size, memory)
    batches = epoch(stream)
    assert isinstance(stream, Batches) and len(batches) == len(stream)
    sizes = {len(batch["x"]) for batch in batches}
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1
    assert sorted(torch.cat([batch["x"] for batch in batches])[:, 0].tolist()) == list(range(n * places))
    assert all(torch.equal(batch["x"], batch["g"]) for batch in batches)


def test_the_order_is_the_seeds_and_is_mixed():
    stream = Stream({"x": numbered(5000)}, 100, memory=3 * 4 * 1000)
    first, again, other = (torch.cat([b["x"] for b in epoch(stream, seed)])[:, 0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    # neighbours in the order are far from each other, as if all rows were shuffled; in order they would not be
    apart = (first[1:] - first[:-1]).abs().median()
    assert apart > 500
    position = torch.corrcoef(torch.stack([first, torch.arange(5000.0)]))[0, 1]
    assert abs(float(position)) < 0.3


def test_no_more_is_in_memory_than_was_promised():
    reads = []

    class Watched(Samples):
        def read(self, start, stop):
            reads.append((stop - start, threading.current_thread() is threading.main_thread()))
            return super().read(start, stop)

    watched = Watched(torch.zeros(1000, 10))
    drawing = Stream({"x": watched}, 10, memory=12_000).draw(torch.Generator().manual_seed(0))
    next(drawing)
    # one pool is drawn from and one is read ahead, each at most a third
    assert sum(rows for rows, _ in reads) * 40 <= 8000
    assert not any(main for _, main in reads)
    drawing.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_what_fits_is_held_and_what_does_not_is_streamed(tmp_path):
    values = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float16)
    with ShardWriter(tmp_path, {}, 50) as writer:
        for start in range(0, 50, 9):
            writer.write(start, {"fc": values[start : start + 9]})
        writer.close({"stimulus_id": np.arange(50)})
    stored = Samples(load(tmp_path))
    assert isinstance(make_batches({"x": stored}, 10, memory=800), Rows)
    streamed = make_batches({"x": stored}, 10, memory=799)
    assert isinstance(streamed, Stream)
    drawn = torch.cat([batch["x"] for batch in epoch(streamed)])
    assert drawn.dtype == torch.float16
    np.testing.assert_array_equal(np.sort(drawn.numpy(), axis=0), np.sort(values, axis=0))
    assert isinstance(make_batches({"x": Samples(torch.zeros(50, 8))}, 10, memory=1), Rows)


def test_a_look_at_some_samples_is_random_and_enough():
    stream = Stream({"x": numbered(1000)}, 50, memory=1200)
    look = sample(stream, 120, seed=0)["x"][:, 0]
    assert len(look) == 150 and len(look.unique()) == 150
    assert len(sample(stream, 10**6, seed=0)["x"]) == 1000
    assert not torch.equal(look, sample(stream, 120, seed=1)["x"][:, 0])


def test_wrong_samples_are_said_in_a_sentence():
    with pytest.raises(ValueError, match="numbers of samples: {'x': 4, 'gradients': 3}"):
        make_batches({"x": numbered(4), "gradients": numbered(3)}, 2, 100)
    holed = numbered(40)
    holed.values[31] = torch.inf
    with pytest.raises(ValueError, match="Input X contains infinity in row 31; drop such rows"):
        epoch(Stream({"x": holed}, 4, 100))
    big = replace(numbered(4), values=torch.full((4, 3), 6e4, dtype=torch.float16))
    assert len(epoch(Stream({"x": big}, 4, 100))) == 1
