"""A searchlight against rsatoolbox: 5,600 spheres of 93 voxels, 92 conditions, correlation, 10 models; one thread.

Both sides go from mask and patterns to scores: centres and their neighbours, RDMs, comparison. rsatoolbox is timed
twice: as it documents searchlights (``evaluate_models_searchlight`` with ``eval_fixed``, from a sample of the centres;
``ratio``), and with all RDMs kept and given to one call of ``compare``, the fastest that its parts allow
(``ratio_to_parts``). Half of our time is the matrix products, which theirs are too: the second ratio cannot grow much.
Memory is what a run takes beside data and neighbourhoods, at two numbers of centres, each in a process of its own.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cerebridge import neuro
from cerebridge.encoding import rsa

from . import compete, peak_memory, reset_peak_memory, versions

Array = NDArray[np.float64]

#: centres along each axis, conditions, models, centres that the documented way is sampled at
FULL = ((20, 20, 14), 92, 10, 100)
QUICK = ((4, 4, 4), 20, 3, 10)
#: voxels whose distance is below three: 93, of which the outermost two layers lack some
REACH, SPHERE = 2, 93
SIDE = 3.0
AGREEMENT = 1e-10
METHODS = ("pearson", "spearman", "rho-a")


def run(quick: bool) -> dict[str, Any]:
    """Time both, assert that centres, neighbours and scores agree, and measure memory."""
    inner, conditions, n_models, sample = QUICK if quick else FULL
    mask = np.pad(np.ones(np.add(inner, 2 * REACH)), REACH)
    values, models = patterns(mask, conditions, n_models)
    array, model_rdms = labelled(values, mask, models)
    timings = compete(
        {
            "ours": lambda: search(array, model_rdms),
            "peer": lambda: peer(values, mask, models),
        },
        2,
    )
    (ours, around), (theirs, centres, neighbours) = (timings[side].result for side in ("ours", "peer"))
    inside = np.flatnonzero(mask)
    assert np.array_equal(inside[around.centres], centres), "the centres differ"
    assert all(set(inside[around[c]]) == set(neighbours[c]) for c in range(len(around))), "neighbours differ"
    difference = float(np.abs(ours - theirs).max())
    assert difference < AGREEMENT, f"the scores differ by {difference}"
    documented = timings["peer"].wall + evaluation_seconds(values, mask, models, sample)
    return {
        "ratio": round(documented / timings["ours"].wall, 1),
        "ratio_to_parts": round(timings["peer"].wall / timings["ours"].wall, 1),
        "ours": timings["ours"].summary(),
        "peer_seconds": round(documented, 2),
        "peer_parts": timings["peer"].summary(),
        "largest_difference": difference,
        "other_methods": {m: seconds(lambda m=m: search(array, model_rdms, m)) for m in METHODS},
        "memory": memory(quick),
        "sizes": {
            "centres": len(around),
            "voxels_each": SPHERE,
            "conditions": conditions,
            "models": n_models,
        },
        "dtype": str(values.dtype),
        "threads": torch.get_num_threads(),
        "versions": versions("rsatoolbox", "scipy"),
    }


def search(array: Any, models: Any, method: str = "pearson") -> tuple[Array, Any]:
    """Ours: centres × models, and the neighbourhoods."""
    around = rsa.find_neighbours(array, radius=0.999 * 3 * SIDE, min_units=SPHERE)
    result = rsa.run_searchlight(array, models, around, method=method, device="cpu")
    return result.score.values[:, 0].T, around


def peer(values: Array, mask: Array, models: Array) -> tuple[Array, Any, Any]:
    """Theirs: centres × models, centres and neighbours."""
    from rsatoolbox.rdm import RDMs, compare
    from rsatoolbox.util.searchlight import get_searchlight_RDMs, get_volume_searchlight

    with quiet():
        centres, neighbours = get_volume_searchlight(mask, radius=3, threshold=1.0)
        events = np.arange(len(values))
        rdms = get_searchlight_RDMs(in_volume(values, mask), centres, neighbours, events, verbose=False)
    return compare(rdms, RDMs(models), "corr"), centres, neighbours


def evaluation_seconds(values: Array, mask: Array, models: Array, n: int) -> float:
    """Seconds by which the documented evaluation of all centres exceeds a single comparison, from some of them."""
    from rsatoolbox.inference import eval_fixed
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs, compare
    from rsatoolbox.util.searchlight import (
        evaluate_models_searchlight,
        get_searchlight_RDMs,
        get_volume_searchlight,
    )

    with quiet():
        centres, neighbours = get_volume_searchlight(mask, radius=3, threshold=1.0)
        rdms = get_searchlight_RDMs(
            in_volume(values, mask), centres[:n], neighbours[:n], np.arange(len(values)), verbose=False
        )
        fixed = [ModelFixed(f"model {k}", row) for k, row in enumerate(models)]
        documented = seconds(lambda: evaluate_models_searchlight(rdms, fixed, eval_fixed, method="corr"))
        at_once = seconds(lambda: compare(rdms, RDMs(models), "corr"))
    return (documented - at_once) / n * len(centres)


def memory(quick: bool) -> dict[str, Any]:
    """Bytes that a run takes, at two numbers of centres of the same brain; an array of all RDMs beside them."""
    conditions, (few, many) = (20, (250, 1000)) if quick else (92, (5600, 22400))
    taken = {}
    for n in (few, many):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            taken[n] = process.submit(extra_memory, n, many, conditions).result()
    rdms = 8 * (many - few) * conditions * (conditions - 1) // 2
    growth = taken[many] - taken[few]
    # the kernel counts in pages and pools, so that small sizes show nothing
    assert growth < max(rdms // 10, 1 << 24), f"{many - few} more centres took {growth} bytes more"
    return {"bytes": taken, "growth": growth, "rdms_would_take": rdms}


def extra_memory(n_centres: int, n_units: int, n_conditions: int) -> int:
    """Resident bytes at most during a run, beside those before it."""
    torch.set_num_threads(1)
    mask = np.ones((28, 28, -(-n_units // 784)))
    values, models = patterns(mask, n_conditions, FULL[2])
    array, model_rdms = labelled(values, mask, models)
    around = rsa.find_neighbours(array, radius=0.999 * 3 * SIDE, centres=np.arange(n_centres))
    first = rsa.find_neighbours(array, radius=0.999 * 3 * SIDE, centres=np.arange(100))
    rsa.run_searchlight(array, model_rdms, first, method="pearson", device="cpu")
    reset_peak_memory()
    before = peak_memory()
    rsa.run_searchlight(array, model_rdms, around, method="pearson", device="cpu")
    return peak_memory() - before


def patterns(mask: Array, n_conditions: int, n_models: int) -> tuple[Array, Array]:
    """Random patterns of the voxels in the mask, and model dissimilarities."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((n_conditions, int(mask.sum())))
    return values, rng.random((n_models, n_conditions * (n_conditions - 1) // 2))


def labelled(values: Array, mask: Array, models: Array) -> tuple[Any, Any]:
    """The same as labelled arrays."""
    places = SIDE * np.argwhere(mask)
    names = [f"condition {k:02d}" for k in range(len(values))]
    array = neuro.assemble(
        values,
        presentation={"stimulus_id": names},
        neuroid={"neuroid_id": np.arange(len(places)), **dict(zip("xyz", places.T, strict=True))},
        modality="fmri",
        units="a.u.",
    )
    first, second = np.triu_indices(len(names), 1)
    model_rdms = neuro.assemble(
        models,
        rdm={"neuroid_id": [f"model {k}" for k in range(len(models))]},
        pair={"stimulus_a": np.array(names)[first], "stimulus_b": np.array(names)[second]},
        modality="model",
        units="1",
    )
    return array, model_rdms


def in_volume(values: Array, mask: Array) -> Array:
    """Patterns of all voxels, those outside the mask 0."""
    out = np.zeros((len(values), mask.size))
    out[:, np.flatnonzero(mask)] = values
    return out


def seconds(function: Any) -> float:
    started = time.perf_counter()
    function()
    return round(time.perf_counter() - started, 3)


@contextlib.contextmanager
def quiet() -> Any:
    """Progress bars and prints of the peer go nowhere."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
