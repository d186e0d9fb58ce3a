"""BandedRidgeCV against himalaya's GroupRidgeCV, torch back end: same candidates, same choices, same coefficients.

Both try the same weights of three bands with the same penalties. What makes the difference (one thread):

- Data are read once: weights of bands scale rows and columns of the folds' Gram matrices.
- The sum of squares of the predictions of all penalties takes one product of matrices instead of one a penalty
  (``engine/filtered.py``).

With more features than samples (the second case) both sides decompose a kernel a fold and candidate, and there is
little to win.

What was not done:

- Successive halving over candidates, or ranking them by a sketch of the residuals: it changes which candidate is
  chosen for some targets, and the search is no longer what it says it is.
- One batched call of the eigendecomposition for candidates or folds: LAPACK takes them one after the other, so that
  there is nothing to win on a CPU (200 × 200: 2.6 ms each, alone or in a batch).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from cerebridge.encoding.banded import BandedRidgeCV

from . import compete, versions

#: samples, features of each band, targets, candidates, alphas, folds; repetitions
MAIN = ((2000, (60, 80, 60), 500, 200, 10, 5), 1)
OTHERS = {"more features than samples": ((300, (200, 200, 200), 300, 20, 10, 5), 1)}
QUICK = {
    "primal": ((300, (10, 20, 10), 40, 10, 6, 4), 1),
    "dual": ((60, (50, 40, 60), 30, 10, 6, 4), 1),
}


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
    samples: int,
    features: tuple[int, ...],
    targets: int,
    candidates: int,
    alphas: int,
    folds: int,
    repeats: int,
) -> dict[str, Any]:
    """Time both sides on one simulated data set and check that they agree."""
    bands, Y = simulate(samples, features, targets)
    weights = np.random.default_rng(1).dirichlet(np.ones(len(bands)), candidates)
    grid = np.logspace(-1, 6, alphas)
    timings = compete(
        {
            "ours": lambda: fit_ours(bands, Y, weights, grid, folds),
            "peer": lambda: fit_peer(bands, Y, weights, grid, folds),
        },
        repeats,
    )
    ours, peer = timings["ours"], timings["peer"]
    (deltas, scores, coef), (peer_deltas, peer_scores, peer_coef) = ours.result, peer.result
    different = int((~np.isclose(deltas, peer_deltas, rtol=1e-9)).any(0).sum())
    agreement = {
        "different_penalties": different,
        "largest_score_difference": float(np.abs(scores - peer_scores).max()),
        "largest_coef_difference": float(np.abs(coef - peer_coef).max()),
    }
    assert different == 0, f"{different} of {targets} targets have other band penalties than himalaya's"
    assert agreement["largest_score_difference"] < 1e-8, agreement
    assert agreement["largest_coef_difference"] < 1e-6, agreement
    return {
        "sizes": {
            "samples": samples,
            "features": list(features),
            "targets": targets,
            "candidates": candidates,
            "alphas": alphas,
            "folds": folds,
        },
        "ratio": round(peer.wall / ours.wall, 2),
        "ratio_cpu": round(peer.cpu / ours.cpu, 2),
        "agreement": agreement,
        "ours": ours.summary(),
        "peer": peer.summary(),
    }


def simulate(
    samples: int, features: tuple[int, ...], targets: int
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Bands of different scale, of which every target needs others, from almost no noise to little else."""
    rng = np.random.default_rng(0)
    bands = [
        rng.standard_normal((samples, p)) * scale + 1 for p, scale in zip(features, (1, 3, 0.3), strict=True)
    ]
    signal = np.zeros((samples, targets))
    for band in bands:
        part = band @ rng.standard_normal((band.shape[1], targets))
        signal += part / part.std(0) * rng.dirichlet(np.full(2, 0.5), targets)[:, 0]
    noise = rng.standard_normal((samples, targets)) * np.logspace(-1, 1, targets) * signal.std(0)
    return [torch.from_numpy(band) for band in bands], torch.from_numpy(signal + noise)


def fit_ours(
    bands: list[torch.Tensor], Y: torch.Tensor, weights: np.ndarray, alphas: np.ndarray, folds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log inverse penalties, scores of candidates, and coefficients, ``(targets, features)``."""
    labels = np.repeat(np.arange(len(bands)), [band.shape[1] for band in bands])
    ridge = BandedRidgeCV(labels, alphas, weights, cv=folds, device="cpu", polish=0).fit(
        torch.cat(bands, 1), Y
    )
    return ridge.deltas_.numpy(), ridge.cv_scores_.numpy(), ridge.coef_.numpy()


def fit_peer(
    bands: list[torch.Tensor], Y: torch.Tensor, weights: np.ndarray, alphas: np.ndarray, folds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same from himalaya, whose documentation recommends kernels for more features than samples."""
    from himalaya.backend import get_backend, set_backend
    from himalaya.kernel_ridge import MultipleKernelRidgeCV
    from himalaya.ridge import GroupRidgeCV
    from himalaya.scoring import r2_score

    before = get_backend()
    set_backend("torch")
    params = {
        "n_iter": torch.from_numpy(weights),
        "alphas": torch.from_numpy(alphas),
        "score_func": r2_score,
        "progress_bar": False,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if len(Y) >= sum(band.shape[1] for band in bands):
                settings = {"groups": "input", "fit_intercept": True, "cv": folds}
                ridge = GroupRidgeCV(**settings, solver_params=params).fit(bands, Y)
                return ridge.deltas_.numpy(), ridge.cv_scores_.numpy(), ridge.coef_.numpy().T
            kernels = torch.stack([band @ band.T for band in bands])
            settings = {
                "kernels": "precomputed",
                "solver": "random_search",
                "fit_intercept": True,
                "cv": folds,
            }
            ridge = MultipleKernelRidgeCV(**settings, solver_params=params).fit(kernels, Y)
            dual = ridge.get_primal_coef([band - band.mean(0) for band in bands])
            return ridge.deltas_.numpy(), ridge.cv_scores_.numpy(), torch.cat(list(dual)).numpy().T
    finally:
        set_backend(before)
