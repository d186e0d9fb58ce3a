"""All pairs of layers by linear CKA against its definition pair by pair, on the same threads, with equal results.

The peer is the function that papers share: patterns centred, three norms of products a pair, in whichever form
(units × units or stimuli × stimuli) has fewer operations. It is timed on some pairs, which must agree, and scaled to
all; ``cached`` is the same with the norms of every layer computed once, the best that a loop over pairs can do.

What decides: with 20 layers on either side, rows of the kernels (a half of each, once) and one product of all kernels
take a fifth of the operations of products of units; with few units they would take more, and are not used.
Permutations cost the loop a whole comparison each, where ours shuffles kernels that it holds; ``ratio_cached`` is
against a loop that does so too, its kernels given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cerebridge.encoding import rsa

from . import Timing, compete

Array = NDArray[np.float64]
AGREEMENT = 1e-10

#: stimuli, units, layers a side; pairs that the peer is timed on
SIZES = {
    "many stimuli": (2000, 512, 20, 12),
    "many units": (500, 4000, 20, 12),
    "few units": (20_000, 64, 20, 12),
}
QUICK = {"many stimuli": (60, 20, 4, 3), "many units": (30, 80, 4, 3), "few units": (200, 4, 4, 3)}


def run(quick: bool) -> dict[str, Any]:
    """Compare at every size; the first one counts."""
    cases = {name: all_pairs(*sizes) for name, sizes in (QUICK if quick else SIZES).items()}
    cases["permutations"] = permutations(*((30, 60, 10, 5) if quick else (92, 5000, 1000, 20)))
    return {
        "peer": "definition pair by pair, numpy",
        "dtype": "float64",
        "ratio": next(iter(cases.values()))["ratio"],
        "cases": cases,
        "threads": torch.get_num_threads(),
    }


def simulate(n: int, units: int, layers: int) -> tuple[list[Array], list[Array]]:
    """Layers of two networks that drift away from one set of latent features with depth."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((n, 10))
    return tuple(
        [
            latent @ rng.standard_normal((10, units)) + k * rng.standard_normal((n, units))
            for k in range(layers)
        ]
        for _ in range(2)
    )


def all_pairs(n: int, units: int, layers: int, timed: int) -> dict[str, Any]:
    """Linear CKA of every layer with every layer."""
    a, b = simulate(n, units, layers)
    pairs = [divmod(k, layers) for k in np.linspace(0, layers**2 - 1, timed).astype(int)]
    similarity = by_units if units <= n else by_stimuli

    def cached() -> list[float]:
        own = [
            {k: similarity(side[k], side[k]) for k in {p[which] for p in pairs}}
            for which, side in enumerate((a, b))
        ]
        return [similarity(a[i], b[j]) / np.sqrt(own[0][i] * own[1][j]) for i, j in pairs]

    contestants: dict[str, Callable[[], Any]] = {
        "ours": lambda: rsa.compare_representations(a, b, device="cpu").values,
        "peer": lambda: [definition(a[i], b[j], similarity) for i, j in pairs],
        "cross only": lambda: [similarity(a[i], b[j]) for i, j in pairs],
    }
    timings = compete(contestants, 2)
    ours, peer, cross = timings["ours"], timings["peer"], timings["cross only"]
    difference = max(abs(ours.result[i, j] - value) for (i, j), value in zip(pairs, peer.result, strict=True))
    assert difference < AGREEMENT, f"the results differ by {difference}"
    np.testing.assert_allclose(cached(), peer.result)
    scale = layers**2 / timed
    # every layer's own norm once, for what it takes to compute one product
    best_loop = cross.wall * (scale + 2 * layers / timed)
    return {
        "sizes": {"stimuli": n, "units": units, "layers": (layers, layers), "pairs_timed": timed},
        "ratio": round(peer.wall * scale / ours.wall, 2),
        "ratio_cached": round(best_loop / ours.wall, 2),
        "largest_difference": float(difference),
        "ours": ours.summary(),
        "peer_seconds": round(peer.wall * scale, 3),
        "cached_seconds": round(best_loop, 3),
        "peer_peak_bytes": peer.peak_bytes,
    }


def permutations(n: int, units: int, times: int, timed: int) -> dict[str, Any]:
    """Linear CKA of shuffled stimuli, mean over shuffles; 5 layers and 3 areas."""
    a, b = (side[:k] for side, k in zip(simulate(n, units, 5), (5, 3), strict=True))
    rng = np.random.default_rng(0)
    orders = [np.arange(n), *(rng.permutation(n) for _ in range(times))]
    similarity = by_stimuli

    def peer() -> Array:
        return np.array(
            [[[definition(x, y[order], similarity) for y in b] for x in a] for order in orders[:timed]]
        )

    def ours() -> Array:
        found = rsa.compare_representations(a, b, permutations=times, device="cpu")
        return found["chance"].values

    kernels = [[(x - x.mean(0)) @ (x - x.mean(0)).T for x in side] for side in (a, b)]

    def held() -> Array:
        return np.array(
            [
                [[(k * m[order][:, order]).sum() for m in kernels[1]] for k in kernels[0]]
                for order in orders[:timed]
            ]
        )

    timings: dict[str, Timing] = compete({"ours": ours, "peer": peer, "held kernels": held}, 2)
    few = rsa.compare_representations(a, b, permutations=timed - 1, device="cpu")
    difference = float(np.abs(few["chance"].values - timings["peer"].result[1:].mean(0)).max())
    assert difference < AGREEMENT, f"the results differ by {difference}"
    seconds = timings["peer"].wall * (times + 1) / timed
    return {
        "sizes": {
            "stimuli": n,
            "units": units,
            "pairs": 15,
            "permutations": times,
            "permutations_timed": timed,
        },
        "ratio": round(seconds / timings["ours"].wall, 2),
        "ratio_cached": round(timings["held kernels"].wall * (times + 1) / timed / timings["ours"].wall, 2),
        "largest_difference": difference,
        "ours": timings["ours"].summary(),
        "peer_seconds": round(seconds, 3),
    }


def definition(x: Array, y: Array, similarity: Callable[[Array, Array], float]) -> float:
    """Linear CKA (Kornblith et al., 2019)."""
    return similarity(x, y) / np.sqrt(similarity(x, x) * similarity(y, y))


def by_units(x: Array, y: Array) -> float:
    """Squared norm of the products of units."""
    return float(np.square((x - x.mean(0)).T @ (y - y.mean(0))).sum())


def by_stimuli(x: Array, y: Array) -> float:
    """Inner product of the kernels; numpy computes one half of each."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float(((x @ x.T) * (y @ y.T)).sum())
