"""The benchmark of dissimilarities and their comparison agrees with its peer at toy size."""

from __future__ import annotations

import pytest


def test_both_packages_agree_and_are_measured():
    pytest.importorskip("rsatoolbox")
    from benchmarks import rsa

    report = rsa.run(quick=True)
    assert report["largest_difference"] < 1e-5
    assert all(job["seconds"] > 0 and job["peer_seconds"] > 0 for job in report["jobs"].values())
