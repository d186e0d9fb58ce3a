"""RidgeCV against himalaya's torch back end on the same threads: same penalties, same coefficients.

What else was tried (same machine, one thread, 3000 × 1000, 5000 targets, 20 alphas, 5 folds):

- Computing held-out sums of squares through the Gram matrix in the eigenbasis (2 p² operations a target and penalty)
  instead of the held-out features (2 n_k p): dearer wherever a fold has fewer samples than features. A triangle
  from a QR decomposition of the held-out features serves both cases, and blocks of 300 of its rows skip most of its
  zeros: 16 % of the whole fit here, a third where folds have more samples than features. Thinner blocks are slower.
- Compressing the path of penalties: the filters ``1 / (s + alpha)`` of 20 penalties over 7 decades span 14 to 19
  dimensions to double precision. Predictions of such a basis, combined for every penalty (or reduced to a small Gram
  matrix a target), give the same scores to 1e-13 but save nothing with 20 penalties (0.44 s against 0.45 to 0.6 s for
  a fold of 1000 targets), 1.5 to 2 times with 50. Left out: it pays only for grids finer than data can tell apart.
- Blocks of 5000 targets: 10 to 20 % slower than 1000 to 2000 on a CPU, whose caches they leave.

More features than samples: once there are many more targets than samples, the dual way is one product of matrices a
penalty for either side. What is left to win is beside it: folds left out once, not once a block of targets; residuals
straight from their operator, with nothing of the truth computed anew for each penalty; coefficients written where they
stay, since first touching 200 MB takes as long as a third of their product.

``share_of_products`` is our processor time over that of :func:`bare_products`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cerebridge.encoding.engine.planning import WORTHWHILE
from cerebridge.encoding.engine.primal import ROWS
from cerebridge.encoding.ridge import RidgeCV

from . import compete, versions

#: samples, features, targets, alphas, folds; repetitions
MAIN = ((4000, 400, 2000, 10, 5), 2)
OTHERS = {
    "many features": ((3000, 1000, 5000, 20, 5), 1),
    "wide": ((1000, 8000, 3000, 10, 5), 2),
    "few features": ((4000, 100, 2000, 10, 5), 2),
    "wide, few targets": ((1000, 3000, 200, 10, 5), 2),
}
QUICK = {"primal": ((300, 40, 60, 6, 4), 1), "dual": ((60, 150, 30, 6, 4), 1)}


def run(quick: bool) -> dict[str, Any]:
    """Compare at every size; the first one counts."""
    cases = QUICK if quick else {"main": MAIN, **OTHERS}
    results = {name: compare(*sizes, repeats) for name, (sizes, repeats) in cases.items()}
    first = next(iter(results.values()))
    return {
        "peer": "himalaya, torch back end",
        "dtype": "float64",
        **{key: first[key] for key in ("ratio", "ratio_cpu", "agreement", "sizes")},
        "cases": results,
        "versions": versions("himalaya"),
    }


def compare(
    samples: int, features: int, targets: int, alphas: int, folds: int, repeats: int
) -> dict[str, Any]:
    """Time both sides on one simulated data set and check that they agree."""
    X, Y = simulate(samples, features, targets)
    grid = np.logspace(-1, 6, alphas)
    contestants: dict[str, Callable[[], Any]] = {
        "ours": lambda: fit_ours(X, Y, grid, folds),
        "peer": lambda: fit_peer(X, Y, grid, folds),
    }
    primal = samples > features
    if primal:
        contestants["products"] = lambda: bare_products(samples, features, targets, alphas, folds)
    timings = compete(contestants, repeats)
    ours, peer = timings["ours"], timings["peer"]
    (alpha, coef), (peer_alpha, peer_coef) = ours.result, peer.result
    different = int((~np.isclose(alpha, peer_alpha, rtol=1e-9)).sum())
    distance = float(np.abs(coef - peer_coef).max())
    assert different == 0, f"{different} of {targets} targets have another alpha than himalaya's"
    assert distance < 1e-6, f"coefficients differ from himalaya's by {distance}"
    return {
        "sizes": {
            "samples": samples,
            "features": features,
            "targets": targets,
            "alphas": alphas,
            "folds": folds,
        },
        "ratio": round(peer.wall / ours.wall, 2),
        "ratio_cpu": round(peer.cpu / ours.cpu, 2),
        **({"share_of_products": round(ours.cpu / timings["products"].cpu, 2)} if primal else {}),
        "agreement": {"different_alphas": different, "largest_coef_difference": distance},
        "ours": ours.summary(),
        "peer": peer.summary(),
    }


def simulate(samples: int, features: int, targets: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features with a spectrum like that of network activations, and targets from pure noise to almost none."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((samples, features)) * np.arange(1, features + 1) ** -0.5
    for _ in range(8):  # reflections: a rotation of 8000 features would take longer than their fit
        normal = rng.standard_normal(features)
        X -= np.outer(X @ normal, 2 / (normal @ normal) * normal)
    X += 1
    signal = X @ rng.standard_normal((features, targets))
    noise = rng.standard_normal((samples, targets)) * np.logspace(-1, 1.5, targets) * signal.std(0)
    return torch.from_numpy(X), torch.from_numpy(signal + noise)


def fit_ours(
    X: torch.Tensor, Y: torch.Tensor, alphas: np.ndarray, folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Penalties and coefficients, ``(targets, features)``."""
    ridge = RidgeCV(alphas, cv=folds, device="cpu").fit(X, Y)
    return ridge.alpha_.numpy(), ridge.coef_.numpy()


def bare_products(samples: int, features: int, targets: int, alphas: int, folds: int) -> None:
    """The products of matrices of a fit with more samples than features, alone, at its shapes and precision.

    For every fold its moments, the targets' training and held-out products in the basis of the fold, and for every
    penalty the held-out predictions in the triangle of their features, without the blocks that are zero; for all
    samples the way into the basis and back. Decompositions, sums, scores and checks are what comes on top.
    """
    held_out = -(-samples // folds)
    size = min(targets, WORTHWHILE)
    X, Y = (torch.ones(held_out, width, dtype=torch.float64) for width in (features, size))
    basis, z = (torch.ones(rows, features, dtype=torch.float64) for rows in (features, size))
    triangle = basis[: min(held_out, features)]
    for _ in range(folds):
        _ = X.T @ X
    for start in range(0, targets, size):
        width = min(size, targets - start)
        for _ in range(folds):
            _ = Y[:, :width].T @ X
            for _ in range(2):
                _ = z[:width] @ basis
            for _ in range(alphas):
                zeros = 0
                for rows in triangle.chunk(-(-len(triangle) // ROWS)):
                    _ = z[:width, zeros:] @ rows[:, zeros:].T
                    zeros += len(rows)
        for _ in range(2):
            _ = z[:width] @ basis


def fit_peer(
    X: torch.Tensor, Y: torch.Tensor, alphas: np.ndarray, folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same from himalaya, whose documentation recommends kernels for more features than samples."""
    from himalaya.backend import get_backend, set_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV as PeerRidgeCV
    from himalaya.scoring import r2_score

    before = get_backend()
    set_backend("torch")
    try:
        settings = {
            "alphas": alphas,
            "cv": folds,
            "fit_intercept": True,
            "solver_params": {"score_func": r2_score},
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if X.shape[0] >= X.shape[1]:
                ridge = PeerRidgeCV(**settings).fit(X, Y)
                return ridge.best_alphas_.numpy(), ridge.coef_.numpy().T
            ridge = KernelRidgeCV(**settings).fit(X, Y)
            return ridge.best_alphas_.numpy(), ridge.get_primal_coef().numpy().T
    finally:
        set_backend(before)
