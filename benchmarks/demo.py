"""The demo's whole job as a user runs it: wall time and peak memory of `cerebridge demo` in its own process."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 60.0
LIMIT_BYTES = 2 * 10**9


def run(quick: bool) -> dict[str, Any]:
    """Run the demo once; quick and full size are the same job."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [sys.executable, "-m", "cerebridge.encoding.study.cli", "demo", "--out", folder]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        written = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
    assert {"report.html", "results.nc"} <= set(written), written
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert peak < LIMIT_BYTES, f"the demo took {peak} bytes"
    assert seconds < LIMIT_SECONDS, f"the demo took {seconds} s"
    return {
        "ratio": round(LIMIT_SECONDS / seconds, 2),
        "seconds": round(seconds, 2),
        "limit_seconds": LIMIT_SECONDS,
        "demo_peak_bytes": peak,
        "limit_bytes": LIMIT_BYTES,
    }
