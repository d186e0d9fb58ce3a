"""The benchmark of compared representations runs and agrees; its speed is no business of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_all_pairs_agree_with_the_definition():
    command = [sys.executable, "-m", "benchmarks", "representations", "--quick", "--threads", "1"]
    root = Path(__file__).resolve().parents[2]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert set(report["cases"]) == {"many stimuli", "many units", "few units", "permutations"}
    for case in report["cases"].values():
        assert case["largest_difference"] < 1e-10
        assert case["ours"]["cpu_seconds"] > 0
