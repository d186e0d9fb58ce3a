"""``evaluate(permutations=N)`` against a loop of refits with himalaya: the same null distribution.

Every permutation exchanges the truth between rows and repeats the whole nested cross-validation. The loop refits
himalaya's ``RidgeCV`` (torch back end) on every exchanged truth, as its users do; ours lays exchanges side by side as
targets of one fit a fold, so that features are decomposed once a fold, not once a fold and permutation. ``bound`` is
the time of bare ``RidgeCV`` fits to as many targets at once: what is left is drawing, copying, predicting and scoring.
The loop runs a few permutations, and its seconds count in proportion.

What was tried: more exchanges at a time than 256 MiB hold gain nothing (1000 × 800, 20 targets, 100 permutations: 7.7 s
with stacks of 50, 6.3 s of 200, 6.1 s of all); decompositions shared between stacks would save the same few percent.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.model_selection import KFold

from cerebridge.encoding import RidgeCV, evaluate
from cerebridge.encoding.crossvalidation import mean_over_folds
from cerebridge.encoding.engine import scoring
from cerebridge.encoding.exchange import find_exchange
from cerebridge.encoding.splits import make_splits
from cerebridge.encoding.tasks import prepare_task

from . import compete, versions

ALPHAS = np.logspace(0, 6, 7)


def run(quick: bool) -> dict[str, Any]:
    """Compare on tall and on wide features."""
    sizes = [(200, 40, 20, 20, 4)] if quick else [(1000, 200, 100, 200, 10), (500, 2000, 50, 200, 10)]
    cases = [compare(*size, repeats=1 if quick else 2) for size in sizes]
    return {
        "name": "permutation",
        **{key: cases[0][key] for key in ("ratio", "ratio_cpu", "agreement", "sizes")},
        "cases": cases,
        "versions": versions("himalaya"),
    }


def compare(
    samples: int, features: int, targets: int, permutations: int, looped: int, repeats: int
) -> dict[str, Any]:
    """Time both sides on one simulated data set and check that they agree on the first permutations."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((samples, features)) * np.arange(1, features + 1) ** -0.5
    Y = X @ rng.standard_normal((features, targets)) + 5 * rng.standard_normal((samples, targets))
    task = prepare_task(RidgeCV(), X, Y, "average")
    folds = make_splits(task.rows).folds
    exchange = find_exchange(task.rows)

    def orders(n: int) -> list[np.ndarray]:
        drawn = np.random.default_rng(0)
        return [exchange.draw(drawn) for _ in range(n)]

    def ours() -> Any:
        return evaluate(
            RidgeCV(ALPHAS, KFold(5), device="cpu"), X, Y, permutations=permutations, progress=False
        )

    def peer() -> np.ndarray:
        return np.stack([peer_scores(X, Y[order], folds) for order in orders(looped)])

    def bound() -> None:
        wide = np.concatenate([Y[order] for order in orders(permutations)], axis=1)
        for train, _ in folds:
            RidgeCV(ALPHAS, KFold(5), device="cpu").fit(X[train], wide[train])

    timings = compete({"ours": ours, "peer": peer, "bound": bound}, repeats)
    null = timings["peer"].result
    short = evaluate(RidgeCV(ALPHAS, KFold(5), device="cpu"), X, Y, permutations=looped, progress=False)
    observed = peer_scores(X, Y, folds)
    p = (1 + (null >= observed).sum(axis=0)) / (looped + 1)
    distance = float(np.abs(short.unit_scores().values[0] - observed).max())
    control = abs(short.audit["shuffle_control"]["model"] - float(np.median(null)))
    assert distance < 1e-8, f"scores differ from himalaya's by {distance}"
    assert control < 1e-8, f"scores of exchanged truth differ from himalaya's by {control}"
    assert np.array_equal(p, short.dataset["p"].values[0]), "p differs from that of the loop"
    share = permutations / looped
    return {
        "sizes": {
            "samples": samples,
            "features": features,
            "targets": targets,
            "alphas": len(ALPHAS),
            "permutations": permutations,
            "looped": looped,
            "folds": len(folds),
        },
        "ratio": round(timings["peer"].wall * share / timings["ours"].wall, 2),
        "ratio_cpu": round(timings["peer"].cpu * share / timings["ours"].cpu, 2),
        "times_bound": round(timings["ours"].cpu / timings["bound"].cpu, 2),
        "agreement": {"largest_score_difference": distance, "null_median_difference": control},
        **{name: timing.summary() for name, timing in timings.items()},
    }


def peer_scores(X: np.ndarray, Y: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Held-out correlations of himalaya's ridge, nested, mean over folds."""
    import torch
    from himalaya.backend import get_backend, set_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV as PeerRidgeCV
    from himalaya.scoring import r2_score

    before = get_backend()
    set_backend("torch")
    kind = PeerRidgeCV if X.shape[0] >= X.shape[1] else KernelRidgeCV
    scores = []
    try:
        for train, test in folds:
            model = kind(
                alphas=ALPHAS, cv=KFold(5), fit_intercept=True, solver_params={"score_func": r2_score}
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(torch.from_numpy(X[train]), torch.from_numpy(Y[train]))
                predicted = model.predict(torch.from_numpy(X[test]))
            scores.append(scoring.pearsonr(torch.from_numpy(Y[test]), predicted).numpy())
    finally:
        set_backend(before)
    return mean_over_folds(scores)
