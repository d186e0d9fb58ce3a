"""The benchmark of temporal response functions: both sides agree at small sizes."""

from __future__ import annotations

from benchmarks import trf


def test_agrees_with_mne():
    report = trf.run(quick=True)
    assert set(report["cases"]) == {"one penalty", "chosen penalty"}
    assert report["cases"]["chosen penalty"]["agreement"]["different_alphas"] == 0
    assert all(case["agreement"]["largest_coef_difference"] < 1e-8 for case in report["cases"].values())
    assert all(case["ratio"] > 0 for case in report["cases"].values())
