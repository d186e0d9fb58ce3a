"""Brain-Score's metrics against ours on the same assemblies, splits and threads: the same scores, split by split.

Theirs at its best: metrics are loaded beforehand, without progress bars, nothing is cached or installed. Both get
assemblies of Brain-Score's and give its ``Score``; what it takes to read and write labels counts for both.

Where theirs spends its time (2,000 × 512, 200 neurons, a split of about half a second on one thread): half in finding
rows by ``in`` and in correlating one neuroid after the other through xarray, half in NIPALS, whose every iteration
passes over the samples. Ours multiplies once what training sets share, and iterates on the covariance with the targets.

What else was tried (a split, one thread):

- Moments of every training set by itself take 31 ms, by sharing 10 ms; taking held-out rows off the moments of all
  would take as long as sharing, and leave the rounding of an outlying held-out row behind.
- Rotating the features of every split to principal components first, as a single fit of ``PLSRegression`` does, costs
  more than all of its 25 components on products, of which a thousand power iterations (34 ms) are nearly everything.
- numpy's ``isin`` on names, not on their codes, took 85 ms of what was then a ridge of 110 ms.

Of ``rdm`` the ranks of two million pairs are most of the work on either side.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

from . import compete, versions

LIMIT = 5.0
TOLERANCE = 1e-6
#: stimuli, features, neurons, splits
MAIN = (2000, 512, 200, 10)
QUICK = (160, 30, 28, 3)


def run(quick: bool) -> dict[str, Any]:
    """Compare all metrics on one simulated data set; the smaller ratio of ``pls`` and ``ridge`` counts."""
    from cerebridge import encoding
    from cerebridge.neuro.interchange import import_brainscore

    warnings.simplefilter("ignore", FutureWarning)
    vision = import_brainscore("brainscore_vision")
    transformations = import_brainscore("brainscore_vision.metric_helpers.transformations")
    transformations.tqdm = lambda items, **_: items
    logging.disable(logging.INFO)
    stimuli, features, neurons, splits = QUICK if quick else MAIN
    model, brain, repeats = simulate(stimuli, features, neurons)
    regression = {"crossvalidation_kwargs": {"splits": splits}}
    cases: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
        "pls": (regression, (model, brain)),
        "ridge": (regression, (model, brain)),
        "neuron_to_neuron": (regression, (model, brain)),
        "rdm": ({}, (model, brain)),
        "cka": ({}, (model, brain)),
        "cka_biased": ({}, (model, brain)),
        "internal_consistency": ({}, (repeats,)),
    }
    results = {}
    for name, (options, arrays) in cases.items():
        ours = encoding.brainscore.load_metric(name, device="cpu", **options) if options else None
        ours = ours or encoding.brainscore.load_metric(name)
        theirs = vision.load_metric(name, **options)
        results[name] = compare(lambda f=ours, a=arrays: f(*a), lambda f=theirs, a=arrays: f(*a), quick)
        difference = results[name]["largest_difference"]
        assert difference < TOLERANCE, f"the scores of {name} differ from Brain-Score's by {difference}"
    return {
        "peer": "brainscore-vision",
        "ratio": min(results[name]["ratio"] for name in ("pls", "ridge")),
        "ratio_cpu": min(results[name]["ratio_cpu"] for name in ("pls", "ridge")),
        "limit_ratio": LIMIT,
        "agreement": max(result["largest_difference"] for result in results.values()),
        "sizes": {"stimuli": stimuli, "features": features, "neurons": neurons, "splits": splits},
        "cases": results,
        "versions": versions("brainscore-vision", "brainscore-core", "scikit-learn", "xarray"),
    }


def compare(ours: Any, theirs: Any, quick: bool) -> dict[str, Any]:
    """Time both in turns and compare scores, errors and raw scores."""
    import numpy as np

    timings = compete({"ours": ours, "peer": theirs}, 1 if quick else 3)
    mine, other = timings["ours"], timings["peer"]
    differences = [abs(float(mine.result) - float(other.result))]
    for key in ("raw", "error"):
        if key in other.result.attrs:
            a, b = (np.asarray(result.attrs[key].values) for result in (mine.result, other.result))
            assert a.shape == b.shape
            differences.append(float(np.abs(a - b).max()))
    return {
        "score": round(float(mine.result), 6),
        "largest_difference": max(differences),
        "ratio": round(other.wall / mine.wall, 2),
        "ratio_cpu": round(other.cpu / mine.cpu, 2),
        "ours": mine.summary(),
        "peer": other.summary(),
    }


def simulate(stimuli: int, features: int, neurons: int, repeats: int = 6) -> tuple[Any, Any, Any]:
    """A model with the spectrum of network activations, neurons from hardly noisy to hardly anything else, repeats."""
    import numpy as np

    from cerebridge import neuro

    rng = np.random.default_rng(0)
    x = rng.standard_normal((stimuli, features)) * np.arange(1, features + 1) ** -0.5
    for _ in range(8):  # reflections turn the axes into mixtures
        normal = rng.standard_normal(features)
        x -= np.outer(x @ normal, 2 / (normal @ normal) * normal)
    signal = x @ rng.standard_normal((features, neurons))
    scale = np.logspace(-1, 1, neurons) * signal.std(0)
    single = signal[:, None] + np.sqrt(repeats) * scale * rng.standard_normal((stimuli, repeats, neurons))

    def assembly(values: np.ndarray, prefix: str) -> Any:
        count = len(values) // stimuli
        table = {
            "stimulus_id": np.repeat([f"s{i:05d}" for i in range(stimuli)], count),
            "object_name": np.repeat([f"o{i % 8}" for i in range(stimuli)], count),
        }
        if count > 1:
            table["repetition"] = np.tile(np.arange(count), stimuli)
        names = [f"{prefix}{i:04d}" for i in range(values.shape[1])]
        array = neuro.assemble(
            values,
            presentation=table,
            neuroid={"neuroid_id": names, "region": "IT"},
            modality="spikes",
            units="a.u.",
        )
        return neuro.to_brainscore(array)

    averaged = single.mean(axis=1)
    return assembly(x + 1, "f"), assembly(averaged, "n"), assembly(single.reshape(-1, neurons), "n")
