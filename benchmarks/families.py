"""Kernel ridge, partial least squares and the lasso against their peers: same answers in the same run.

- ``pls``: scikit-learn's PLSRegression with the parameters of Brain-Score's metric; same predictions, and the same
  number of power iterations of every component.
- ``lasso``: a loop over targets of scikit-learn's LassoCV, whose tolerance is low enough for the same penalties. Ours
  follows every path exactly, so that it has no tolerance to pay for; ``at_default_tolerance`` compares with what the
  peer takes when it may stop early, without the same answers.
- ``kernel`` and ``mixture``: himalaya's KernelRidgeCV and MultipleKernelRidgeCV, torch back end, on the same mixtures.

What else was tried for the lasso (same machine, one thread, 100 penalties, 1000 × 300, correlated features): coordinate
descent that moves all targets together spends its time between small operations and was 3 times slower than
scikit-learn's; accelerated gradients on all targets were 4 to 6 times faster than it, but took thousands of steps with
fewer samples than features. The exact path is 10 to 90 times faster, and is exact. Descent is kept for groups.

Where there is little to win: partial least squares with few targets, where both sides are done in milliseconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from cerebridge.encoding.engine.bandsearch import draw_candidates
from cerebridge.encoding.kernels import KernelRidgeCV
from cerebridge.encoding.lasso import LassoCV
from cerebridge.encoding.pls import PLSRegression

from . import compete, versions

#: samples, features, targets, and what else each case needs
FULL = {
    "pls": {"samples": 1000, "features": 8000, "targets": 500, "components": 25},
    "lasso": {"samples": 1000, "features": 200, "targets": 20, "alphas": 100},
    "lasso_wide": {"samples": 200, "features": 400, "targets": 5, "alphas": 50},
    "kernel": {"samples": 1000, "features": 200, "targets": 1000, "alphas": 10},
    "mixture": {"samples": 400, "features": 90, "targets": 200, "alphas": 10, "candidates": 50},
}
QUICK = {
    "pls": {"samples": 80, "features": 200, "targets": 30, "components": 10},
    "lasso": {"samples": 100, "features": 20, "targets": 3, "alphas": 20},
    "lasso_wide": {"samples": 40, "features": 60, "targets": 2, "alphas": 20},
    "kernel": {"samples": 80, "features": 20, "targets": 30, "alphas": 5},
    "mixture": {"samples": 60, "features": 9, "targets": 10, "alphas": 5, "candidates": 8},
}
FOLDS = 5


def run(quick: bool) -> dict[str, Any]:
    """Compare every family at its size."""
    runners = {
        "pls": run_pls,
        "lasso": run_lasso,
        "lasso_wide": run_lasso,
        "kernel": run_kernel,
        "mixture": run_mixture,
    }
    cases = {
        name: {"sizes": sizes, **runners[name](**sizes)} for name, sizes in (QUICK if quick else FULL).items()
    }
    return {
        "dtype": "float64",
        "ratios": {name: case["ratio"] for name, case in cases.items()},
        "cases": cases,
        "versions": versions("himalaya"),
    }


def run_pls(samples: int, features: int, targets: int, components: int) -> dict[str, Any]:
    from sklearn.cross_decomposition import PLSRegression as Peer

    X, Y = simulate(samples, features, targets)
    report, ours, peer = against(
        lambda: PLSRegression(components, device="cpu").fit(X, Y),
        lambda: Peer(components, scale=False).fit(X, Y),
    )
    distance = float(np.abs(ours.predict(X) - peer.predict(X)).max() / np.abs(Y).max())
    assert distance < 1e-8, f"predictions differ from scikit-learn's by {distance}"
    assert ours.n_iter_ == [int(steps) for steps in peer.n_iter_]
    return {**report, "peer": "scikit-learn", "agreement": {"largest_prediction_difference": distance}}


def run_lasso(samples: int, features: int, targets: int, alphas: int) -> dict[str, Any]:
    from sklearn.linear_model import LassoCV as Peer

    rng = np.random.default_rng(0)
    X = rng.standard_normal((samples, features)) + 0.5 * rng.standard_normal((samples, 1))
    signal = X @ (
        rng.standard_normal((features, targets)) * (rng.random((features, targets)) < 10 / features)
    )
    Y = signal + rng.standard_normal((samples, targets)) * signal.std(0)
    grid = np.geomspace(1, 1e-3 if samples > features else 1e-2, alphas)
    largest = np.abs((X - X.mean(0)).T @ (Y - Y.mean(0))).max(0) / samples

    def loop(tol: float) -> list[Any]:
        settings = {"cv": FOLDS, "tol": tol, "max_iter": 1_000_000}
        return [Peer(alphas=grid * top, **settings).fit(X, y) for top, y in zip(largest, Y.T, strict=True)]

    eps = float(grid[-1])
    report, ours, peer = against(
        lambda: LassoCV(alphas, eps=eps, cv=FOLDS, device="cpu").fit(X, Y), lambda: loop(1e-8)
    )
    default = compete({"peer": lambda: loop(1e-4)}, 1)["peer"]
    different = int((~np.isclose(ours.alpha_, [model.alpha_ for model in peer])).sum())
    distance = float(np.abs(ours.coef_ - np.stack([model.coef_ for model in peer])).max())
    assert different == 0, f"{different} of {targets} targets have another alpha than scikit-learn's"
    assert distance < 1e-3, f"coefficients differ from scikit-learn's by {distance}"
    gap = float(ours.dual_gap_.max())
    assert gap < 1e-9, f"a duality gap of {gap} is left"
    return {
        **report,
        "peer": "scikit-learn, a loop over targets, tol=1e-8",
        "at_default_tolerance": default.summary(),
        "agreement": {"different_alphas": different, "largest_coef_difference": distance, "largest_gap": gap},
    }


def run_kernel(samples: int, features: int, targets: int, alphas: int) -> dict[str, Any]:
    X, Y = (torch.from_numpy(x) for x in simulate(samples, features, targets))
    grid, gamma = np.logspace(-3, 2, alphas), 1 / features

    def peer() -> Any:
        from himalaya.kernel_ridge import KernelRidgeCV as Peer
        from himalaya.scoring import r2_score

        return Peer(
            grid,
            kernel="rbf",
            kernel_params={"gamma": gamma},
            fit_intercept=True,
            cv=FOLDS,
            solver_params={"score_func": r2_score},
        ).fit(X, Y)

    report, ours, theirs = against(
        lambda: KernelRidgeCV("rbf", grid, gamma=gamma, cv=FOLDS, device="cpu").fit(X, Y), with_himalaya(peer)
    )
    agreement = compare_choices(ours, theirs, ours.best_score_, theirs.cv_scores_)
    return {**report, "peer": "himalaya, torch back end", "agreement": agreement}


def run_mixture(samples: int, features: int, targets: int, alphas: int, candidates: int) -> dict[str, Any]:
    X, Y = (torch.from_numpy(x) for x in simulate(samples, features, targets))
    grid, bands = np.logspace(-2, 4, alphas), np.array_split(np.arange(features), 3)
    settings = {
        "kernel": "linear",
        "alphas": grid,
        "bands": bands,
        "n_candidates": candidates,
        "cv": FOLDS,
        "random_state": 0,
    }
    weights = draw_candidates(candidates, 3, check_random_state(0).randint(2**31 - 1))

    def peer() -> Any:
        from himalaya.kernel_ridge import MultipleKernelRidgeCV
        from himalaya.scoring import r2_score

        kernels = torch.stack([X[:, band] @ X[:, band].T for band in bands])
        how = {"n_iter": weights, "alphas": grid, "score_func": r2_score, "progress_bar": False}
        return MultipleKernelRidgeCV("precomputed", fit_intercept=True, cv=FOLDS, solver_params=how).fit(
            kernels, Y
        )

    report, ours, theirs = against(
        lambda: KernelRidgeCV(**settings, device="cpu").fit(X, Y), with_himalaya(peer)
    )
    agreement = compare_choices(ours, theirs, ours.cv_scores_, theirs.cv_scores_)
    return {**report, "peer": "himalaya, torch back end, the same mixtures", "agreement": agreement}


def against(ours: Callable[[], Any], peer: Callable[[], Any]) -> tuple[dict[str, Any], Any, Any]:
    """Time both sides, and give back what they fitted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timings = compete({"ours": ours, "peer": peer}, 1)
    report = {
        "ratio": round(timings["peer"].wall / timings["ours"].wall, 2),
        "ratio_cpu": round(timings["peer"].cpu / timings["ours"].cpu, 2),
        "ours": timings["ours"].summary(),
        "peer_timing": timings["peer"].summary(),
    }
    return report, timings["ours"].result, timings["peer"].result


def compare_choices(
    ours: Any, theirs: Any, scores: torch.Tensor, their_scores: torch.Tensor
) -> dict[str, Any]:
    """Penalties and scores of two fits, asserted to be the same."""
    different = int((~np.isclose(ours.alpha_, theirs.best_alphas_)).sum())
    distance = float((scores - their_scores).abs().max())
    assert different == 0, f"{different} of {len(ours.alpha_)} targets have another alpha than himalaya's"
    assert distance < 1e-6, f"scores differ from himalaya's by {distance}"
    return {"different_alphas": different, "largest_score_difference": distance}


def with_himalaya(function: Callable[[], Any]) -> Callable[[], Any]:
    """Run ``function`` with himalaya's torch back end, and put back the one that was."""

    def run() -> Any:
        from himalaya.backend import get_backend, set_backend

        before = get_backend()
        set_backend("torch")
        try:
            return function()
        finally:
            set_backend(before)

    return run


def simulate(samples: int, features: int, targets: int) -> tuple[np.ndarray, np.ndarray]:
    """Features with a spectrum like that of network activations, and targets from pure noise to almost none."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((samples, min(samples, features)))
    X = (latent * np.arange(1, latent.shape[1] + 1) ** -0.7) @ rng.standard_normal(
        (latent.shape[1], features)
    ) + 1
    X /= X.std(0)
    signal = X @ rng.standard_normal((features, targets))
    return X, signal + rng.standard_normal((samples, targets)) * np.logspace(-1, 1, targets) * signal.std(0)
