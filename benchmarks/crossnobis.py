"""Crossnobis of many regions with full noise covariances against rsatoolbox, region by region, with equal results.

Both sides start from the same recording. Two cases: the noise covariance of each region is known, which ours takes as
it is and rsatoolbox, which wants its inverse, from ``numpy.linalg.inv``; and it is estimated from residuals, by both
with Ledoit and Wolf's shrinkage. The time with the precisions already at hand is reported beside the first.

rsatoolbox is measured on a few regions, since its cost is the same for each; its ``Dataset`` objects are made
beforehand and are not timed.

What was learned: threads that share each small product wait for one another, and beside torch's those of numpy do so
too; on a busy machine of two cores two threads were then five times slower than one. So every region has one thread,
and the arithmetic stays with torch. One region at a time keeps its patterns in the processor's cache and is faster
than any larger batch; an explicit inverse of the factor, or solving in blocks, is no faster than one triangular solve.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import benchmarks
from cerebridge import neuro
from cerebridge.encoding import rsa

Array = NDArray[np.float64]
TURNS = 3
AGREEMENT = 1e-9


def run(quick: bool) -> dict[str, Any]:
    """Compute the RDMs of 200 regions (quick: 6 small ones) with ours, and of some of them with rsatoolbox."""
    stimuli, runs, units, regions, some = (20, 4, 50, 6, 3) if quick else (92, 8, 500, 200, 10)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(stimuli * runs, units * regions))
    residuals = rng.normal(size=(2 * units, units * regions))
    names = np.array([f"region {k:03d}" for k in range(regions)])
    labels = np.tile(np.arange(stimuli), runs), np.repeat(np.arange(runs), stimuli)
    array = neuro.assemble(
        values,
        presentation={"stimulus_id": labels[0], "run": labels[1]},
        neuroid={"neuroid_id": np.arange(units * regions), "region": np.repeat(names, units)},
        modality="fmri",
        units="a.u.",
    )
    left = neuro.assemble(
        residuals,
        time_bin={"time_bin_start": np.arange(2 * units), "time_bin_end": np.arange(2 * units) + 1.0},
        neuroid={"neuroid_id": np.arange(units * regions), "region": np.repeat(names, units)},
        modality="fmri",
        units="a.u.",
        sfreq=1.0,
    )
    blocks = [slice(k * units, (k + 1) * units) for k in range(regions)]
    known = dict(zip(names, (np.cov(residuals[:, block].T) for block in blocks), strict=True))
    peers = [_dataset(values[:, block], *labels) for block in blocks[:some]]

    def from_residuals() -> Array:
        noise = rsa.noise_covariance(left, "residuals", by="region")
        return np.asarray(rsa.rdm(array, "crossnobis", noise=noise, by="region").values)

    cases = {
        "known covariance": _measure(
            lambda: np.asarray(rsa.rdm(array, "crossnobis", noise=known, by="region").values),
            [
                lambda data=data, name=name: _theirs(data, np.linalg.inv(known[name]))
                for data, name in zip(peers, names, strict=False)
            ],
            regions,
        ),
        "residuals": _measure(
            from_residuals,
            [
                lambda data=data, block=block: _theirs(data, _their_precision(residuals[:, block]))
                for data, block in zip(peers[: 2 if quick else 1], blocks, strict=False)
            ],
            regions,
        ),
    }
    precisions = [np.linalg.inv(known[name]) for name in names[:some]]
    alone = [_timed(lambda k=k: _theirs(peers[k], precisions[k]))[1] for k in range(some)]
    return {
        "ratio": cases["known covariance"]["ratio"],
        "cases": cases,
        "peer_seconds_with_precisions_at_hand": float(np.median(alone)) * regions,
        "size": {"stimuli": stimuli, "runs": runs, "units": units, "regions": regions, "peer_regions": some},
        "threads": torch.get_num_threads(),
        "versions": benchmarks.versions("rsatoolbox"),
    }


def _measure(ours: Callable[[], Array], theirs: list[Callable[[], Array]], regions: int) -> dict[str, float]:
    """Best seconds of ours, median seconds of theirs a region times all regions; results must agree."""
    found, seconds = min((_timed(ours) for _ in range(TURNS)), key=lambda each: each[1])
    expected = [_timed(each) for each in theirs]
    difference = max(float(np.abs(row - rdm).max()) for row, (rdm, _) in zip(found, expected, strict=False))
    assert difference < AGREEMENT, f"the results differ by {difference}"
    peer_seconds = float(np.median([took for _, took in expected])) * regions
    return {
        "ratio": round(peer_seconds / seconds, 2),
        "seconds": seconds,
        "peer_seconds": peer_seconds,
        "difference": difference,
    }


def _timed(function: Callable[[], Array]) -> tuple[Array, float]:
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started


def _dataset(values: Array, stimuli: Array, runs: Array) -> Any:
    from rsatoolbox.data import Dataset

    return Dataset(values, obs_descriptors={"stimulus": list(stimuli), "run": list(runs)})


def _theirs(data: Any, precision: Array) -> Array:
    from rsatoolbox.rdm import calc_rdm

    return np.asarray(calc_rdm(data, "crossnobis", "stimulus", precision, "run").get_vectors()[0])


def _their_precision(residuals: Array) -> Array:
    from rsatoolbox.data.noise import prec_from_residuals

    return np.asarray(prec_from_residuals(residuals, method="shrinkage_eye"))
