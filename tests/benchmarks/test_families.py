"""The benchmark of kernels, partial least squares and the lasso runs and agrees with the peers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_every_family_agrees_with_its_peer():
    pytest.importorskip("himalaya")
    command = [sys.executable, "-m", "benchmarks", "families", "--quick", "--threads", "1"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert (
        set(report["cases"]) == set(report["ratios"]) == {"pls", "lasso", "lasso_wide", "kernel", "mixture"}
    )
    assert report["cases"]["pls"]["agreement"]["largest_prediction_difference"] < 1e-8
    for name in ("lasso", "lasso_wide", "kernel", "mixture"):
        assert report["cases"][name]["agreement"]["different_alphas"] == 0
    assert report["cases"]["lasso"]["agreement"]["largest_coef_difference"] < 1e-4
