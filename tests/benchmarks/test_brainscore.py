"""The benchmark runs beside Brain-Score and finds the same scores; its speed is no business of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("brainscore_vision", reason="Brain-Score is not installed (make test-brainscore)")
pytestmark = pytest.mark.brainscore


def test_all_metrics_agree_with_brainscores() -> None:
    command = [sys.executable, "-m", "benchmarks", "brainscore", "--quick", "--threads", "1"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report["quick"] and report["limit_ratio"] == 5
    assert {"pls", "ridge", "neuron_to_neuron", "rdm", "cka", "internal_consistency"} <= set(report["cases"])
    for case in report["cases"].values():
        assert case["largest_difference"] < 1e-6
        assert min(case[side]["cpu_seconds"] for side in ("ours", "peer")) > 0
