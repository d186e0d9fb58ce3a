"""The benchmarks run, agree with the peer, and say where they ran; their speed is no business of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_without_a_name_the_benchmarks_are_listed():
    listed = run()
    assert listed.returncode == 0
    assert "ridge" in listed.stdout
    unknown = run("nothing")
    assert unknown.returncode == 2
    assert "invalid choice: 'nothing'" in unknown.stderr


def test_ridge_agrees_with_himalaya():
    pytest.importorskip("himalaya")
    finished = run("ridge", "--quick", "--threads", "1")
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report["quick"]
    assert report["machine"]["threads"] == 1
    assert report["max_resident_kilobytes"] > 0
    assert {"python", "numpy", "torch", "himalaya"} <= set(report["versions"])
    for case in report["cases"].values():
        assert case["agreement"]["different_alphas"] == 0
        assert case["agreement"]["largest_coef_difference"] < 1e-6
        assert min(case[side]["cpu_seconds"] for side in ("ours", "peer")) > 0
