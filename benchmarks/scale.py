"""Ridge of 100,000 targets in a promised amount of memory: data on disk, coefficients to disk.

Nothing else does it, so there is no peer: the run measures its own resident memory, asserts that it keeps to the
promise, and checks some targets against a plain fit of these alone. Data come from one HDF5 file and are written
there beforehand, a slab at a time; penalties and predictions of held-out samples are kept in memory.

``memory=`` promises what a fit takes beside data and results. ``cap`` is the promise for the whole process, with
libraries, results and predictions in it.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cerebridge.encoding.ridge import RidgeCV

from . import peak_memory, reset_peak_memory, versions

#: samples, held-out samples, features, targets, alphas, folds
FULL = (3600, 400, 5000, 100_000, 10, 5)
QUICK = (120, 20, 200, 600, 4, 3)
#: bytes for the process, and what of them the fit may take
CAP, MEMORY = 4 * 10**9, "2.4GB"
#: targets that are fitted again by themselves
CHECKED = 40
SLAB = 200


def run(quick: bool) -> dict[str, Any]:
    """Write data, fit, predict, and compare some targets."""
    samples, held_out, features, targets, n_alphas, folds = QUICK if quick else FULL
    alphas = np.logspace(0, 6, n_alphas)
    with tempfile.TemporaryDirectory() as folder:
        path, coef_path = Path(folder, "data.h5"), Path(folder, "coef.nc")
        simulate(path, samples, held_out, features, targets)
        with h5py.File(path) as file:
            X, Y = file["X"], file["Y"]
            ridge = RidgeCV(alphas, cv=folds, device="cpu", memory=MEMORY)
            plan = ridge.plan(X, Y)
            reset_peak_memory()
            started, processor = time.perf_counter(), time.process_time()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", r"\d+ of \d+ targets ")
                ridge.fit(X, Y, coef_to=coef_path)
            fitted, processor = time.perf_counter(), time.process_time() - processor
            predicted = ridge.predict(file["X_held_out"][()])
            seconds = time.perf_counter() - fitted
            peak = peak_memory()
            agreement = check(ridge, predicted, file, alphas, folds)
        size = coef_path.stat().st_size
    assert peak <= CAP, f"{peak} bytes were resident, more than {CAP}"
    return {
        "peer": "none",
        "dtype": "float32",
        "sizes": dict(
            zip(
                ("samples", "held_out", "features", "targets", "alphas", "folds"),
                QUICK if quick else FULL,
                strict=True,
            )
        ),
        "plan": str(plan),
        "path": ridge.path_,
        "targets_at_once": plan.targets_at_once,
        "seconds": {
            "planned": round(plan.seconds or 0.0, 3),
            "fit": round(fitted - started, 1),
            "fit_cpu": round(processor, 1),
            "predict": round(seconds, 1),
        },
        "bytes": {"cap": CAP, "planned": plan.bytes, "peak_resident": peak, "coefficients_on_disk": size},
        "agreement": agreement,
        "versions": versions("h5py"),
    }


def simulate(path: Path, samples: int, held_out: int, features: int, targets: int) -> None:
    """Features and responses in float32, some rows at a time."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((features, 50), dtype=np.float32) / np.float32(features**0.5)
    mixing = rng.standard_normal((50, targets), dtype=np.float32)
    noise = np.logspace(0, 1.5, targets, dtype=np.float32)
    with h5py.File(path, "w") as file:
        for name, rows in (("", samples), ("_held_out", held_out)):
            X = file.create_dataset(
                f"X{name}", (rows, features), "f4", chunks=(min(rows, SLAB), min(features, 1000))
            )
            Y = file.create_dataset(
                f"Y{name}", (rows, targets), "f4", chunks=(min(rows, SLAB), min(targets, 1000))
            )
            for start in range(0, rows, SLAB):
                block = rng.standard_normal((min(SLAB, rows - start), features), dtype=np.float32)
                X[start : start + SLAB] = block
                noises = noise * rng.standard_normal((len(block), targets), dtype=np.float32)
                Y[start : start + SLAB] = block @ weights @ mixing + noises


def check(
    ridge: RidgeCV, predicted: np.ndarray, file: h5py.File, alphas: np.ndarray, folds: int
) -> dict[str, float]:
    """Some targets against a fit of these alone, in memory and in double precision."""
    chosen = np.linspace(0, predicted.shape[1] - 1, CHECKED).astype(int)
    X = file["X"][()].astype(np.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\d+ of \d+ targets ")
        alone = RidgeCV(alphas, cv=folds, device="cpu").fit(X, np.stack([file["Y"][:, t] for t in chosen], 1))
    same = alone.alpha_ == ridge.alpha_[chosen]
    expected = alone.predict(file["X_held_out"][()].astype(np.float64))
    distance = float(np.abs(predicted[:, chosen] - expected)[:, same].max() / expected.std())
    # in single precision two penalties may score alike
    assert same.mean() > 0.9, f"{(~same).sum()} of {CHECKED} targets have another alpha than by themselves"
    assert distance < 1e-3, f"predictions differ by {distance} of their deviation"
    truth = file["Y_held_out"]
    score = [np.corrcoef(predicted[:, t], truth[:, t])[0, 1] for t in chosen]
    assert score[0] > score[-1] + 0.1, "targets with less noise are not predicted better"
    return {
        "same_alphas": float(same.mean()),
        "largest_difference": distance,
        "held_out_r_least_noise": round(float(score[0]), 3),
        "held_out_r_most_noise": round(float(score[-1]), 3),
    }
