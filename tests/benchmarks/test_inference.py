"""The benchmark of inference runs, and both sides agree on the same resamples."""

from __future__ import annotations

import pytest

from benchmarks import inference


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
def test_bootstrap_and_permutations_agree_with_rsatoolbox():
    pytest.importorskip("rsatoolbox")
    report = inference.run(quick=True)
    assert set(report["ratios"]) == {"cosine", "whitened-cosine", "rho-a", "tau-a"}
    for kind in report["cases"].values():
        for case in kind.values():
            assert max(case["agreement"].values()) < 1e-10
            assert case["ours"]["cpu_seconds"] > 0 and case["peer"]["cpu_seconds"] > 0
