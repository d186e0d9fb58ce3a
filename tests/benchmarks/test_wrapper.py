"""The benchmark against Brain-Score agrees with it at toy size."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_both_packages_agree_and_are_measured():
    pytest.importorskip("brainscore_vision")
    from benchmarks import wrapper

    report = wrapper.run(quick=True)
    assert report["agreement"] < 1e-5
    assert report["ratio"] > 0
    assert report["ratio_memory_growth"] > 1
