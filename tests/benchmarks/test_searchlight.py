"""The benchmark of searchlights runs at toy size, agrees with its peer, and takes no more memory for more centres."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_scores_agree_and_memory_does_not_grow():
    pytest.importorskip("rsatoolbox")
    from benchmarks import searchlight

    report = searchlight.run(quick=True)
    assert report["largest_difference"] < 1e-10
    assert report["sizes"]["centres"] == 64
    assert set(report["memory"]["bytes"]) == {250, 1000}
