"""Bootstrap and permutation tests of model RDMs against rsatoolbox, with equal results for equal resamples.

``eval_dual_bootstrap`` resamples people and stimuli in a loop. It runs a few samples, whose draws are recorded, and its
seconds count in proportion; ours evaluates the very same samples, and then as many as were asked for. Evaluations and
noise ceilings of all three kinds of resampling must agree, and so must the variances that come of them. Permutations
are compared with a loop that exchanges the stimuli of the model and calls rsatoolbox's ``compare``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cerebridge.encoding.rsa import permutation, resampling

from . import compete, versions
from ._draws import Draws, counted, recorded

Array = NDArray[np.float64]
PEERS = {
    "cosine": "cosine",
    "whitened-cosine": "cosine_cov",
    "rho-a": "rho-a",
    "tau-a": "tau-a",
    "spearman": "spearman",
}
AGREEMENT = 1e-10


def run(quick: bool) -> dict[str, Any]:
    """Compare 20 people, 92 stimuli and 5 models with 1000 samples and permutations (quick: a small case)."""
    people, stimuli, models, samples, looped = (5, 12, 3, 20, 5) if quick else (20, 92, 5, 1000, 5)
    data, fixed = simulate(people, stimuli, models)
    boots = {
        method: dual_bootstrap(data, fixed, method, samples, looped)
        for method in ("cosine", "whitened-cosine", "rho-a", "tau-a")
    }
    some = data[: 3 if quick else 15]
    permuted = {
        method: permutations(some, fixed[:1], method, samples, looped * 4)
        for method in ("rho-a", "spearman", "tau-a", "cosine", "whitened-cosine")
    }
    return {
        "ratio": min(case["ratio"] for case in boots.values()),
        "ratios": {name: case["ratio"] for name, case in boots.items()},
        "ratios_of_permutations": {name: case["ratio"] for name, case in permuted.items()},
        "sizes": {
            "people": people,
            "stimuli": stimuli,
            "models": models,
            "samples": samples,
            "looped": looped,
        },
        "cases": {"dual bootstrap": boots, "permutations": permuted},
        "threads": torch.get_num_threads(),
        "versions": versions("rsatoolbox"),
    }


def simulate(people: int, stimuli: int, models: int) -> tuple[Array, Array]:
    """RDMs of people who see one truth through noise, and models ever farther from it."""
    rng = np.random.default_rng(0)
    truth = rng.random(stimuli * (stimuli - 1) // 2)
    data = truth + rng.random((people, truth.size))
    fixed = np.stack([truth + k * rng.random(truth.size) for k in range(1, models + 1)])
    return data, fixed


def dual_bootstrap(data: Array, models: Array, method: str, samples: int, looped: int) -> dict[str, Any]:
    """Time both sides, and check that they agree on the samples of the peer."""
    from rsatoolbox.inference import eval_dual_bootstrap
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs

    n_people, n_stimuli = len(data), round((1 + (1 + 8 * data.shape[1]) ** 0.5) / 2)
    theirs = RDMs(data), [ModelFixed(str(k), RDMs(row[None])) for k, row in enumerate(models)]
    draws: Draws = []

    def peer() -> Any:
        with recorded(draws):
            return eval_dual_bootstrap(theirs[1], theirs[0], method=PEERS[method], N=looped)

    pairs = torch.triu_indices(n_stimuli, n_stimuli, 1)
    tensors = torch.from_numpy(models), torch.from_numpy(data), pairs
    counts = resampling.draw_counts("both", samples, n_people, n_stimuli, np.random.default_rng(0))

    def evaluated(people: Array, stimuli: Array) -> Array:
        return resampling.evaluate_samples(*tensors, method, "rank", people, stimuli, "both")

    timings = compete({"ours": lambda: evaluated(*counts), "peer": peer}, 1)
    expected = timings["peer"].result
    found = evaluated(*counted(draws, (n_people, n_stimuli)))
    m = len(models)
    differences = {
        "evaluations": np.abs(found[..., :m] - expected.evaluations[:, :, 0, 0].transpose(2, 0, 1)).max(),
        "ceilings": np.abs(found[..., m:] - expected.noise_ceiling[:, :, 0].transpose(2, 1, 0)).max(),
        "variances": np.abs(
            resampling.corrected_variance(
                np.einsum("kii->ki", resampling.covariance_of(found)), "both", n_people, n_stimuli
            )[:m]
            - expected.model_var
        ).max(),
    }
    assert max(differences.values()) < AGREEMENT, f"{method}: results differ by {differences}"
    return report(timings, samples / looped) | {"agreement": {k: float(v) for k, v in differences.items()}}


def permutations(data: Array, models: Array, method: str, n: int, looped: int) -> dict[str, Any]:
    """The same for exchanged stimuli of a model."""
    from rsatoolbox.rdm import RDMs, compare

    n_stimuli = round((1 + (1 + 8 * data.shape[1]) ** 0.5) / 2)
    rows, columns = np.triu_indices(n_stimuli, 1)
    square = np.zeros((n_stimuli, n_stimuli))
    square[rows, columns] = square[columns, rows] = models[0]
    theirs = RDMs(data)

    def peer() -> Array:
        rng = np.random.default_rng(0)
        orders = rng.permuted(np.tile(np.arange(n_stimuli), (looped, 1)), axis=1)
        moved = (square[order[rows], order[columns]] for order in orders)
        return np.stack([compare(RDMs(row[None]), theirs, PEERS[method])[0] for row in moved])

    tensors = torch.from_numpy(models), torch.from_numpy(data)

    def ours(size: int = n) -> Array:
        return permutation.null_scores(*tensors, n_stimuli, method, size, 0)

    timings = compete({"ours": ours, "peer": peer}, 2)
    difference = float(np.abs(ours(looped)[:, 0] - timings["peer"].result).max())
    assert difference < AGREEMENT, f"{method}: permuted scores differ by {difference}"
    return report(timings, n / looped) | {"agreement": {"scores": difference}}


def report(timings: dict[str, Any], share: float) -> dict[str, Any]:
    """Ratios, the peer's time counted ``share`` times."""
    return {
        "ratio": round(timings["peer"].wall * share / timings["ours"].wall, 1),
        "ratio_cpu": round(timings["peer"].cpu * share / timings["ours"].cpu, 1),
        **{name: timing.summary() for name, timing in timings.items()},
    }
