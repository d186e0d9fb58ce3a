"""``python -m benchmarks NAME [--quick] [--threads N]``: run one benchmark and print one JSON line."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import resource
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for."""
    names = sorted(
        module.name
        for module in pkgutil.iter_modules([str(Path(__file__).parent)])
        if not module.name.startswith("_")
    )
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=names, help=f"one of: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small sizes: agreement matters, speed does not")
    parser.add_argument("--threads", type=int, help="threads of both sides (default: those of torch)")
    options = parser.parse_args(arguments)
    if options.name is None:
        parser.print_help()
        return 0
    if options.threads is not None:
        for pool in ("OMP", "MKL", "OPENBLAS"):  # read when numpy and torch are first imported, below
            os.environ[f"{pool}_NUM_THREADS"] = str(options.threads)
    benchmarks = importlib.import_module("benchmarks")
    if options.threads is not None:
        importlib.import_module("torch").set_num_threads(options.threads)
    result = importlib.import_module(f"benchmarks.{options.name}").run(options.quick)
    report = {
        "name": options.name,
        "quick": options.quick,
        **result,
        "machine": benchmarks.machine(),
        "versions": benchmarks.versions("numpy", "torch", "scikit-learn") | result.get("versions", {}),
        "max_resident_kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
