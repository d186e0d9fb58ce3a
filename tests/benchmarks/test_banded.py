"""The benchmark of banded ridge runs and agrees with the peer."""

from __future__ import annotations

import pytest

from benchmarks import banded


def test_banded_ridge_agrees_with_himalaya():
    pytest.importorskip("himalaya")
    report = banded.run(quick=True)
    assert set(report["cases"]) == {"primal", "dual"}
    for case in report["cases"].values():
        assert case["agreement"]["different_penalties"] == 0
        assert case["agreement"]["largest_coef_difference"] < 1e-6
