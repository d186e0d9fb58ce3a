"""Targets that miss samples: found by pattern, splits restricted, results put back in order."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.encoding.engine.missing import gather, n_samples, part_of, patterns, restrict
from cerebridge.encoding.engine.moments import Split
from cerebridge.encoding.engine.primal import Fitted


def ragged(seed: int, n: int = 8, targets: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    Y = torch.randn(n, targets, generator=generator)
    kinds = torch.rand(n, 3, generator=generator) < 0.3
    kinds[0] = False
    return torch.where(kinds[:, torch.randint(3, (targets,), generator=generator)], torch.nan, Y)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_every_target_is_in_the_one_pattern_of_its_samples(seed):
    Y = ragged(seed)
    found = patterns(Y)
    assert sorted(torch.cat([pattern.targets for pattern in found]).tolist()) == list(range(Y.shape[1]))
    for samples, targets in found:
        for target in targets:
            assert Y[:, target].isfinite().nonzero()[:, 0].tolist() == samples.tolist()
    sizes = [len(pattern.samples) for pattern in found]
    assert sizes == sorted(sizes, reverse=True)
    assert len({tuple(pattern.samples.tolist()) for pattern in found}) == len(found)
    torch.testing.assert_close(n_samples(found), Y.isfinite().sum(0))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_parts_come_back_in_order(seed):
    Y = ragged(seed)
    found = patterns(Y)
    fits = []
    for pattern in found:
        part = part_of(torch.arange(8.0)[:, None], Y, pattern)
        assert part[1].isfinite().all()
        assert part[0][:, 0].tolist() == pattern.samples.tolist()
        sums = part[1].sum(0)
        fits.append(Fitted(sums[:, None], sums, sums[:, None], sums))
    whole = gather(found, fits)
    for tensor in whole:
        torch.testing.assert_close(tensor.reshape(-1), Y.nansum(0))


def test_splits_that_lose_a_side_are_left_out():
    halves = [Split(torch.arange(4), torch.arange(4, 8)), Split(torch.arange(4, 8), torch.arange(4))]
    kept = restrict(halves, torch.tensor([1, 2, 3, 7]))
    assert len(kept) == 1
    assert kept[0].train.tolist() == [3]
    assert kept[0].test.tolist() == [0, 1, 2]
