"""The benchmark of fitted models runs, and both sides agree on the same folds of the same samples."""

from __future__ import annotations

import pytest

from benchmarks import mixtures


def test_bootstrapped_crossvalidation_agrees_with_rsatoolbox():
    pytest.importorskip("rsatoolbox")
    report = mixtures.run(quick=True)
    assert set(report["cases"]) == {"cosine", "pearson"}
    for case in report["cases"].values():
        assert max(case["agreement"].values()) < 1e-6
        assert case["ours"]["cpu_seconds"] > 0 and case["peer"]["cpu_seconds"] > 0
