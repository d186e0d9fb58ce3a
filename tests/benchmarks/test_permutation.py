"""The benchmark of permutations runs, and its null distribution is that of the loop of refits."""

from __future__ import annotations

import pytest

from benchmarks import permutation


def test_permutations_agree_with_a_loop_of_himalayas_refits():
    pytest.importorskip("himalaya")
    report = permutation.run(quick=True)
    assert report["agreement"]["null_median_difference"] < 1e-8
    assert report["cases"][0]["sizes"]["permutations"] == 20
    for side in ("ours", "peer", "bound"):
        assert report["cases"][0][side]["cpu_seconds"] > 0
