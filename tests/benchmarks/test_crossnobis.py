"""The benchmark of crossnobis over regions: both sides agree at small sizes."""

from __future__ import annotations

import pytest

pytest.importorskip("rsatoolbox")


def test_agrees_with_rsatoolbox():
    from benchmarks import crossnobis

    report = crossnobis.run(quick=True)
    assert set(report["cases"]) == {"known covariance", "residuals"}
    assert all(case["difference"] < crossnobis.AGREEMENT for case in report["cases"].values())
    assert all(case["ratio"] > 0 for case in report["cases"].values())
