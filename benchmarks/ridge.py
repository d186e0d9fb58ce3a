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

Where there is little to win: the dual way with many more targets than samples is one product of matrices a penalty for
either side (``dual`` below).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from cerebridge.encoding.ridge import RidgeCV

from . import compete, versions

#: samples, features, targets, alphas, folds; repetitions
MAIN = ((3000, 1000, 5000, 20, 5), 2)
OTHERS = {
    "few features": ((4000, 100, 2000, 10, 5), 3),
    "more features than samples": ((1000, 3000, 200, 10, 5), 2),
    "dual, many targets": ((1000, 3000, 3000, 10, 5), 1),
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
    timings = compete(
        {"ours": lambda: fit_ours(X, Y, grid, folds), "peer": lambda: fit_peer(X, Y, grid, folds)}, repeats
    )
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
        "agreement": {"different_alphas": different, "largest_coef_difference": distance},
        "ours": ours.summary(),
        "peer": peer.summary(),
    }


def simulate(samples: int, features: int, targets: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features with a spectrum like that of network activations, and targets from pure noise to almost none."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((samples, features)) * np.arange(1, features + 1) ** -0.5
    X = X @ np.linalg.qr(rng.standard_normal((features, features)))[0] + 1
    signal = X @ rng.standard_normal((features, targets))
    noise = rng.standard_normal((samples, targets)) * np.logspace(-1, 1.5, targets) * signal.std(0)
    return torch.from_numpy(X), torch.from_numpy(signal + noise)


def fit_ours(
    X: torch.Tensor, Y: torch.Tensor, alphas: np.ndarray, folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Penalties and coefficients, ``(targets, features)``."""
    ridge = RidgeCV(alphas, cv=folds, device="cpu").fit(X, Y)
    return ridge.alpha_.numpy(), ridge.coef_.numpy()


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
