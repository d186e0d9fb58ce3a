"""The benchmarks of scale run at toy size, keep to their cap, and targets are those fitted by themselves."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu, scale


def test_targets_of_a_streamed_fit_are_those_fitted_alone():
    report = scale.run(quick=True)
    assert report["agreement"]["same_alphas"] > 0.9
    assert report["agreement"]["largest_difference"] < 1e-3
    assert 0 < report["bytes"]["peak_resident"] <= report["bytes"]["cap"]
    assert report["bytes"]["coefficients_on_disk"] >= 4 * 200 * 600


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_benchmark_of_one_says_so():
    assert gpu.run(quick=True)["note"].startswith("there is no GPU here")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_the_share_of_the_rate_of_products_is_measured():
    assert 0 < gpu.run(quick=True)["cases"][0]["share"] < 2
