"""Dissimilarities and their comparison against rsatoolbox, on the same threads, with equal results.

rsatoolbox is given prepared ``Dataset`` and ``RDMs`` objects; ours starts from the labelled array. Both sides run in
turns, and the best turn of each counts. The RDM of many conditions and its comparison to models run once, each side in
a process of its own, whose processor seconds and resident peak (with the models it was given) are reported.

What bounded the comparison of 92 conditions was sorting with places: integers that carry the place in their low bits
sort several times faster. Inversions counted by repeated splitting lost to the compiled tree of the peer where a side
had ties; comparing blocks of places and of values does not. Likeness by second moments stays bound by one
eigendecomposition for every two RDMs on both sides.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import benchmarks
from cerebridge import neuro
from cerebridge.encoding import rsa

Array = NDArray[np.float64]
Job = tuple[Callable[[], Array], Callable[[], Array]] | tuple[Callable[[], Array], Callable[[], Array], float]
TURNS = 3
AGREEMENT = 1e-10
#: of measures that theirs finds by a simplex search, or through roots of small eigenvalues
LOOSE = {"bures": 1e-7, "riemannian": 1e-5}
THEIRS = {"whitened-cosine": "cosine_cov", "riemannian": "neg_riem_dist"}


def run(quick: bool) -> dict[str, Any]:
    """Compute and compare RDMs (quick: a tenth of the size) with both packages."""
    rng = np.random.default_rng(0)
    stimuli, units, channels, many, few = (100, 1000, 50, 20, 5) if quick else (1000, 10000, 500, 200, 20)
    jobs: dict[str, Job] = {
        f"correlation, {stimuli} stimuli x {units} units": dissimilarities(rng, stimuli, units),
        f"crossnobis, 92 stimuli x 8 runs x {channels} units": crossvalidated(rng, 92, channels),
        f"rho-a, {many} x {few} RDMs of 92 stimuli": comparisons(rng, many, few, "rho-a"),
        f"tau-a, {few} x {few} RDMs of 92 stimuli": comparisons(rng, few, few, "tau-a"),
        f"tau-a, {few} x {few} RDMs of 92 stimuli, one side in two levels": comparisons(
            rng, few, few, "tau-a", 2
        ),
        f"whitened cosine, {many} x {few} RDMs of 92 stimuli": comparisons(rng, many, few, "whitened-cosine"),
        f"Bures, {few} x {few} RDMs of 92 stimuli": comparisons(rng, few, few, "bures"),
        f"Riemannian, {few // 5} x {few // 5} RDMs of 92 stimuli": comparisons(
            rng, few // 5, few // 5, "riemannian"
        ),
    }
    report: dict[str, Any] = {name: measure(*job) for name, job in jobs.items()}
    conditions, models = (200, 3) if quick else (5000, 20)
    report[f"correlation RDM of {conditions} conditions, Spearman to {models} models"] = many_conditions(
        conditions, models
    )
    ours, theirs = (sum(row[side] for row in report.values()) for side in ("seconds", "peer_seconds"))
    return {
        "ratio": round(theirs / ours, 2),
        "jobs": report,
        "largest_difference": max(row["difference"] for row in report.values()),
        "threads": torch.get_num_threads(),
    }


def measure(
    ours: Callable[[], Array], theirs: Callable[[], Array], agreement: float = AGREEMENT
) -> dict[str, float]:
    """Best seconds of both sides; their results must agree."""
    seconds, peer_seconds = [], []
    for _ in range(TURNS):
        expected, took = timed(theirs)
        peer_seconds.append(took)
        found, took = timed(ours)
        seconds.append(took)
    difference = float(np.abs(found - expected).max())
    assert difference < agreement, f"the results differ by {difference}"
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


def comparisons(rng: np.random.Generator, n_a: int, n_b: int, method: str, levels: int = 0) -> Job:
    from rsatoolbox.rdm import RDMs, compare

    a, b = (patterns(rng, n) if method in LOOSE else rng.random((n, 4186)) for n in (n_a, n_b))
    b = np.floor(levels * b) if levels else b
    theirs = RDMs(a), RDMs(b)
    return (
        lambda: rsa.compare(a, b, method),
        lambda: compare(*theirs, THEIRS.get(method, method)),
        LOOSE.get(method, AGREEMENT),
    )


def patterns(rng: np.random.Generator, n: int) -> Array:
    """Squared distances of patterns of more units than conditions."""
    from scipy.spatial.distance import pdist

    return np.stack([pdist(rng.normal(size=(92, 120)), "sqeuclidean") for _ in range(n)])


def many_conditions(n_conditions: int, n_models: int) -> dict[str, Any]:
    """Seconds and resident peak of both sides, each in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        report, found = {}, {}
        for side in ("theirs", "ours"):
            path = Path(folder) / f"{side}.npy"
            command = [sys.executable, "-m", "benchmarks.rsa", side, n_conditions, n_models, path]
            ran = subprocess.run(
                list(map(str, command)), check=True, capture_output=True, cwd=Path(__file__).parents[1]
            )
            report[side], found[side] = json.loads(ran.stdout.splitlines()[-1]), np.load(path)
    difference = float(np.abs(found["ours"] - found["theirs"]).max())
    assert difference < AGREEMENT, f"the results differ by {difference}"
    ours, theirs = report["ours"], report["theirs"]
    return {
        "ratio": round(theirs["seconds"] / ours["seconds"], 2),
        "seconds": ours["seconds"],
        "peer_seconds": theirs["seconds"],
        "difference": difference,
        "peak_share": round(ours["peak_bytes"] / theirs["peak_bytes"], 3),
        "peak_bytes": ours["peak_bytes"],
        "peer_peak_bytes": theirs["peak_bytes"],
        "growth_bytes": ours["growth_bytes"],
        "peer_growth_bytes": theirs["growth_bytes"],
    }


def one_side(side: str, n_conditions: int, n_models: int, path: str, n_units: int = 500) -> None:
    """Compute an RDM and compare it to models, as a process of its own."""
    rng = np.random.default_rng(0)
    values, stimuli = rng.normal(size=(n_conditions, n_units)), np.arange(n_conditions)
    models = np.empty((n_models, n_conditions * (n_conditions - 1) // 2))
    for row in models:
        row[:] = rng.random(row.size)
    if side == "ours":
        from cerebridge.encoding.rsa.pairs import pair_table

        array = recording(values, stimuli, np.zeros(n_conditions))
        names = {"neuroid_id": np.arange(n_models)}
        given = neuro.assemble(models, rdm=names, pair=pair_table(stimuli), modality="model", units="1")

        def work() -> Array:
            return np.asarray(rsa.compare(rsa.rdm(array), given).values)
    else:
        from rsatoolbox.data import Dataset
        from rsatoolbox.rdm import RDMs, calc_rdm, compare

        data, theirs = Dataset(values), RDMs(models)

        def work() -> Array:
            return np.asarray(compare(calc_rdm(data, "correlation"), theirs, "spearman"))

    before, started = benchmarks.peak_memory(), time.process_time()
    np.save(path, work())
    seconds, peak = time.process_time() - started, benchmarks.peak_memory()
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "growth_bytes": peak - before}))


if __name__ == "__main__":
    one_side(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
