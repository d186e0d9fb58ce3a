"""The benchmark of scale runs at toy size, keeps to its cap, and its targets are those fitted by themselves."""

from __future__ import annotations

from benchmarks import scale


def test_targets_of_a_streamed_fit_are_those_fitted_alone():
    report = scale.run(quick=True)
    assert report["agreement"]["same_alphas"] > 0.9
    assert report["agreement"]["largest_difference"] < 1e-3
    assert 0 < report["bytes"]["peak_resident"] <= report["bytes"]["cap"]
    assert report["bytes"]["coefficients_on_disk"] >= 4 * 200 * 600
