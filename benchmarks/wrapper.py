"""Extraction to disk against Brain-Score's ``PytorchWrapper``; run it with the environment that has Brain-Score.

``.venv-brainscore/bin/python -m benchmarks wrapper``. Both sides extract the same layers of the same network from the
same files with the same preprocessing function and threads, and end with all activations on disk: ours in a store,
theirs as Brain-Score's users have it, all in memory and then by ``result_caching``, which pickles the assembly (their
preprocessing through torchvision, and a fetch of plugins, take no part). Each run has a process of its own; its memory
is the largest resident size, with all imports, as the kernel counts it in ``VmHWM``, and the growth since the network
was built. Batches of theirs are 64, their default, or ours, whichever is faster in a trial of 128 images.

thingsvision, the other peer, does not install beside torch 2.13: its newest release pins torch 2.0, TensorFlow 2.15 and
numpy below 2.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from . import peak_memory, reset_peak_memory, versions
from .extraction import make_pictures

LAYERS = [f"features.{number}" for number in (1, 2, 3, 6, 8, 11, 14, 17)]
TRIAL = 128
LIMIT, LIMIT_MEMORY = 1.1, 10.0


def run(quick: bool) -> dict[str, Any]:
    """Eight layers of MobileNetV2 for 2,000 images (quick: 48), in turns with Brain-Score over them."""
    import torch

    n, repeats = (48, 1) if quick else (2000, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder / "pictures", n)
        options = {"folder": folder, "threads": torch.get_num_threads()}
        batch_size = in_own_process(partial(extract, n=min(n, TRIAL), **options))["batch_size"]
        trials = {
            size: in_own_process(partial(wrap, n=min(n, TRIAL), batch_size=size, **options))["wall_seconds"]
            for size in (64, batch_size)
        }
        theirs_size = min(trials, key=lambda size: trials[size])
        ours, theirs = [], []
        for _ in range(repeats):
            ours.append(in_own_process(partial(extract, n=n, **options)))
            theirs.append(in_own_process(partial(wrap, n=n, batch_size=theirs_size, **options)))
    difference = max(each["difference"] for each in theirs)
    if difference > 1e-5:
        raise AssertionError(f"both sides differ by {difference} of a layer's range")
    ours, theirs = (min(runs, key=lambda each: each["wall_seconds"]) for runs in (ours, theirs))
    return {
        "ratio": round(theirs["wall_seconds"] / ours["wall_seconds"], 3),
        "ratio_cpu": round(theirs["cpu_seconds"] / ours["cpu_seconds"], 3),
        "ratio_memory": round(theirs["peak_bytes"] / ours["peak_bytes"], 2),
        "ratio_memory_growth": round(theirs["growth_bytes"] / ours["growth_bytes"], 2),
        "limit_ratio": LIMIT,
        "limit_ratio_memory": LIMIT_MEMORY,
        "agreement": difference,
        "sizes": {"images": n, "layers": LAYERS, "stored_bytes": ours["stored_bytes"]},
        "their_trials": {str(size): round(seconds, 2) for size, seconds in trials.items()},
        "brainscore": theirs,
        "extract": ours,
        "versions": versions("brainscore-vision", "xarray", "pillow"),
    }


def in_own_process(function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Call a function in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function).result()


def measured(function: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """The result of a function, and what it took."""
    reset_peak_memory()
    before, wall, cpu = peak_memory(), time.perf_counter(), time.process_time()
    result = function()
    return result, {
        "wall_seconds": round(time.perf_counter() - wall, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "peak_bytes": peak_memory(),
        "growth_bytes": peak_memory() - before,
    }


def extract(folder: Path, n: int, threads: int) -> dict[str, Any]:
    """Our side."""
    import torch

    from cerebridge import models

    torch.set_num_threads(threads)
    net = models.load("mobilenet_v2", weights="random")
    stimuli = models.StimulusSet.from_folder(folder / "pictures")[:n]
    store = folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    stored, facts = measured(lambda: models.extract(net, stimuli, LAYERS, store=store))
    provenance = json.loads(stored.attrs["provenance"])
    size = sum(file.stat().st_size for file in store.iterdir())
    return {**facts, "batch_size": provenance["batch_size"], "stored_bytes": size}


def wrap(folder: Path, n: int, threads: int, batch_size: int) -> dict[str, Any]:
    """Their side, and how much it differs from what ours has stored."""
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    # read when Brain-Score is imported: no installing of plugins, and nothing in the home folder
    os.environ |= {"BS_INSTALL_DEPENDENCIES": "no", "RESULTCACHING_HOME": str(cache)}
    import numpy as np
    import torch
    from brainscore_vision.model_helpers.activations.pytorch import PytorchWrapper
    from PIL import Image

    from cerebridge import models, neuro

    torch.set_num_threads(threads)
    net = models.load("mobilenet_v2", weights="random")

    def preprocess(paths: list[str]) -> Any:
        batch = []
        for path in paths:
            with Image.open(path) as image:
                batch.append(net.preprocess(image).numpy())
        return np.stack(batch)

    wrapper = PytorchWrapper(net, preprocess, identifier="mobilenet", batch_size=batch_size)
    paths = sorted(str(path) for path in (folder / "pictures").iterdir())[:n]
    assembly, facts = measured(
        lambda: wrapper.from_paths(paths, layers=LAYERS, stimuli_identifier=f"pictures-{n}")
    )
    if not any(file.stat().st_size > assembly.nbytes for file in cache.rglob("*.pkl")):
        raise AssertionError("Brain-Score did not save the activations")
    stored, values, differences = neuro.load(folder / "store"), assembly.values, []
    theirs, ours = assembly["layer"].values, stored["layer"].values
    for layer in LAYERS:
        kept = stored.isel(neuroid=np.flatnonzero(ours == layer)).values
        differences.append(np.abs(values[:, theirs == layer] - kept).max() / np.ptp(kept))
    return {**facts, "batch_size": batch_size, "difference": float(max(differences))}
