"""The benchmark of inner products agrees with all features at toy size."""

from __future__ import annotations


def test_both_ways_agree_and_are_measured():
    from benchmarks import gram

    report = gram.run(quick=True)
    assert report["passes"] > 1
    assert max(report["agreement"].values()) < 1e-5
    assert report["gram"]["wall_seconds"] > 0
