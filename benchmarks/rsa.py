"""Dissimilarities and their comparison against rsatoolbox, on the same threads, with equal results.

rsatoolbox is given prepared ``Dataset`` and ``RDMs`` objects; ours starts from the labelled array. Both sides run in
turns, and the best turn of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cerebridge import neuro
from cerebridge.encoding import rsa

Array = NDArray[np.float64]
Job = tuple[Callable[[], Array], Callable[[], Array]]
TURNS = 3
AGREEMENT = 1e-10


def run(quick: bool) -> dict[str, Any]:
    """Compute and compare RDMs (quick: a tenth of the size) with both packages."""
    rng = np.random.default_rng(0)
    stimuli, units, channels, many, few = (100, 1000, 50, 20, 5) if quick else (1000, 10000, 500, 200, 20)
    jobs: dict[str, Job] = {
        f"correlation, {stimuli} stimuli x {units} units": dissimilarities(rng, stimuli, units),
        f"crossnobis, 92 stimuli x 8 runs x {channels} units": crossvalidated(rng, 92, channels),
        f"rho-a, {many} x {few} RDMs of 92 stimuli": comparisons(rng, many, few, "rho-a"),
        f"tau-a, {few} x {few} RDMs of 92 stimuli": comparisons(rng, few, few, "tau-a"),
    }
    report = {name: measure(*job) for name, job in jobs.items()}
    ours, theirs = (sum(row[side] for row in report.values()) for side in ("seconds", "peer_seconds"))
    return {
        "ratio": round(theirs / ours, 2),
        "jobs": report,
        "largest_difference": max(row["difference"] for row in report.values()),
        "threads": torch.get_num_threads(),
    }


def measure(ours: Callable[[], Array], theirs: Callable[[], Array]) -> dict[str, float]:
    """Best seconds of both sides; their results must agree."""
    seconds, peer_seconds = [], []
    for _ in range(TURNS):
        expected, took = timed(theirs)
        peer_seconds.append(took)
        found, took = timed(ours)
        seconds.append(took)
    difference = float(np.abs(found - expected).max())
    assert difference < AGREEMENT, f"the results differ by {difference}"
    ratio = round(min(peer_seconds) / min(seconds), 2)
    return {
        "ratio": ratio,
        "seconds": min(seconds),
        "peer_seconds": min(peer_seconds),
        "difference": difference,
    }


def timed(function: Callable[[], Array]) -> tuple[Array, float]:
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started


def recording(values: Array, stimuli: NDArray[Any], runs: NDArray[Any]) -> Any:
    return neuro.assemble(
        values,
        presentation={"stimulus_id": stimuli, "run": runs},
        neuroid={"neuroid_id": np.arange(values.shape[1])},
        modality="spikes",
        units="spikes/s",
    )


def dissimilarities(rng: np.random.Generator, n_stimuli: int, n_units: int) -> Job:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    values, stimuli = rng.normal(size=(n_stimuli, n_units)), np.arange(n_stimuli)
    array = recording(values, stimuli, np.zeros(n_stimuli))
    data = Dataset(values, obs_descriptors={"stimulus": list(stimuli)})
    return (
        lambda: rsa.rdm(array).values,
        lambda: calc_rdm(data, "correlation", "stimulus").get_vectors(),
    )


def crossvalidated(rng: np.random.Generator, n_stimuli: int, n_units: int, n_runs: int = 8) -> Job:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    stimuli, runs = np.tile(np.arange(n_stimuli), n_runs), np.repeat(np.arange(n_runs), n_stimuli)
    values = rng.normal(size=(len(runs), n_units))
    noise = np.cov(rng.normal(size=(n_units, 2 * n_units)))
    precision = np.linalg.inv(noise)
    array = recording(values, stimuli, runs)
    data = Dataset(values, obs_descriptors={"stimulus": list(stimuli), "run": list(runs)})
    return (
        lambda: rsa.rdm(array, "crossnobis", noise=noise).values,
        lambda: calc_rdm(data, "crossnobis", "stimulus", precision, "run").get_vectors(),
    )


def comparisons(rng: np.random.Generator, n_a: int, n_b: int, method: str) -> Job:
    from rsatoolbox.rdm import RDMs, compare

    a, b = rng.random((n_a, 4186)), rng.random((n_b, 4186))
    theirs = RDMs(a), RDMs(b)
    return lambda: rsa.compare(a, b, method), lambda: compare(*theirs, method)
