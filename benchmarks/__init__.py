"""Speed and agreement against the peers: ``python -m benchmarks NAME``, one JSON line a run.

Every benchmark is a module here with ``run(quick: bool) -> dict``; it raises where the answers do not agree.
Nothing heavy is imported above the functions, so that ``--threads`` still reaches every thread pool.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any


@dataclass
class Timing:
    """Best wall and processor seconds of the repetitions of a function, its memory and its last result."""

    wall: float = float("inf")
    cpu: float = float("inf")
    peak_bytes: int = 0
    result: Any = field(default=None, repr=False)

    def repeat(self, function: Callable[[], Any]) -> None:
        """Run ``function`` once more."""
        self.result = None
        reset_peak_memory()
        wall, cpu = time.perf_counter(), time.process_time()
        self.result = function()
        self.wall = min(self.wall, time.perf_counter() - wall)
        self.cpu = min(self.cpu, time.process_time() - cpu)
        self.peak_bytes = max(self.peak_bytes, peak_memory())

    def summary(self) -> dict[str, float]:
        """What goes into the report."""
        return {
            "wall_seconds": round(self.wall, 4),
            "cpu_seconds": round(self.cpu, 4),
            "peak_bytes": self.peak_bytes,
        }


def compete(contestants: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """Run all contestants in turns in this process, so that a busy machine is busy for all of them."""
    timings = {name: Timing() for name in contestants}
    for _ in range(repeats):
        for name, function in contestants.items():
            timings[name].repeat(function)
    return timings


def reset_peak_memory() -> None:
    """Let the kernel forget the largest memory so far, where it can."""
    if os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Largest resident memory in bytes, since :func:`reset_peak_memory` where the kernel could forget."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def machine() -> dict[str, Any]:
    """Processor, cores, and threads that torch uses."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of distributions."""
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}
