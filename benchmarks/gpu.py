"""Ridge of 100,000 targets on a GPU, as a share of the rate at which it multiplies matrices; there is no peer.

``share`` are the operations that the fit cannot do without, over its time, over the measured rate of products of the
same precision. Moving targets to the GPU and coefficients back counts.
"""

from __future__ import annotations

import time
from datetime import date
from typing import Any

import numpy as np
import torch

from cerebridge.encoding.engine.planning import measure_speed
from cerebridge.encoding.ridge import RidgeCV

#: samples, features, targets, alphas, folds
SIZES = ((4000, 400, 100_000, 10, 5), (3000, 1000, 100_000, 20, 5))
QUICK = ((400, 40, 1000, 5, 5),)


def run(quick: bool) -> dict[str, Any]:
    """Fit on the GPU, or say that there is none."""
    if not torch.cuda.is_available():
        return {"peer": "none", "note": "there is no GPU here: torch sees no CUDA device."}
    cases = [measure(*sizes) for sizes in (QUICK if quick else SIZES)]
    return {
        "peer": "none",
        "dtype": "float32",
        "cases": cases,
        "gpu": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "date": date.today().isoformat(),
    }


def measure(samples: int, features: int, targets: int, alphas: int, folds: int) -> dict[str, Any]:
    """Best of two fits."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(samples, features, generator=generator)
    Y = torch.randn(samples, targets, generator=generator)
    ridge = RidgeCV(np.logspace(-1, 6, alphas), cv=folds, device="cuda")
    durations = []
    for _ in range(2):
        started = time.perf_counter()
        ridge.fit(X, Y)
        torch.cuda.synchronize()
        durations.append(time.perf_counter() - started)
    rate = measure_speed(torch.device("cuda"), torch.float32, order=8192)
    plan = ridge.plan(X, Y)
    return {
        "sizes": {
            "samples": samples,
            "features": features,
            "targets": targets,
            "alphas": alphas,
            "folds": folds,
        },
        "seconds": round(min(durations), 4),
        "operations": plan.operations,
        "products_per_second": rate,
        "share": round(plan.operations / min(durations) / rate, 3),
    }
