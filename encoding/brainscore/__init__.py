"""Brain-Score both ways: their benchmarks and metrics on our models, ours on theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...exports import export

if TYPE_CHECKING:
    from .benchmarks import LocalBenchmark, read_benchmark, to_benchmark
    from .extractors import from_model
    from .metrics import load_metric
    from .models import to_model
    from .scores import score
    from .stimuli import from_stimulus_set, to_stimulus_set

#: where each public name lives; imported on first use
_HOMES = {
    "LocalBenchmark": "benchmarks",
    "from_model": "extractors",
    "from_stimulus_set": "stimuli",
    "load_metric": "metrics",
    "read_benchmark": "benchmarks",
    "score": "scores",
    "to_benchmark": "benchmarks",
    "to_model": "models",
    "to_stimulus_set": "stimuli",
}

__all__ = [
    "LocalBenchmark",
    "from_model",
    "from_stimulus_set",
    "load_metric",
    "read_benchmark",
    "score",
    "to_benchmark",
    "to_model",
    "to_stimulus_set",
]

__getattr__, __dir__ = export(__name__, _HOMES)
