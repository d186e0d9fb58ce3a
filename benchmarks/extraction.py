"""Extraction against the bare forward loop: what hooks, labels, checks and the store cost.

The bare loop decodes the same files one batch ahead on the same thread, and runs the same network only as far as
the last layer asked for, with the same batches on the same threads; it keeps nothing. Both sides run in turns, and
the best turn of each counts. Activations are stored raw and unpooled, about 0.6 MB an image. ``ratio`` is of seconds,
``cpu_ratio`` of processor time, which other work on the machine disturbs less. A quick run is dominated by what does
not grow with the number of images: a trial batch, and the labels of 147,000 units.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cerebridge import models, neuro
from cerebridge.models.batches import Feed, cut_rows

LAYERS = ["features.3", "features.6", "features.10", "features.13", "features.17"]
LIMIT = 0.9

Cost = tuple[float, float]


def run(quick: bool) -> dict[str, Any]:
    """Extract 5 layers of MobileNetV2 for 2,000 images (quick: 64) and run the bare loop over them."""
    n = 64 if quick else 2000
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        make_pictures(pictures, n)
        net = models.load("mobilenet_v2", weights="random")
        stimuli = models.StimulusSet.from_folder(pictures)
        batch_size = planned_batch_size(net, stimuli)
        bare, ours, store = [], [], Path(folder) / "store"
        for _ in range(1 if quick else 3):
            bare.append(cost(lambda: forward_loop(net, stimuli, batch_size)))
            shutil.rmtree(store, ignore_errors=True)
            ours.append(cost(lambda: models.extract(net, stimuli, LAYERS, store=store)))
        stored = neuro.load(store)
        difference = largest_difference(net, stimuli, stored, batch_size)
        small, large = (peak_bytes(pictures, Path(folder) / f"peak{k}", k) for k in (n // 4, n))
        stored_bytes = sum(file.stat().st_size for file in store.iterdir())
    (bare_seconds, bare_cpu), (seconds, cpu) = (np.min(costs, axis=0).tolist() for costs in (bare, ours))
    assert difference < 1e-5, f"stored and computed activations differ by {difference} of their range"
    return {
        "ratio": round(bare_seconds / seconds, 3),
        "cpu_ratio": round(bare_cpu / cpu, 3),
        "limit_ratio": LIMIT,
        "images": n,
        "layers": len(LAYERS),
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
        "images_per_second": round(n / seconds, 1),
        "bare_images_per_second": round(n / bare_seconds, 1),
        "stored_bytes": stored_bytes,
        "largest_relative_difference": difference,
        f"peak_bytes_{n // 4}_images": small,
        f"peak_bytes_{n}_images": large,
    }


def make_pictures(folder: Path, n: int) -> None:
    """Write JPEG files of 112 × 112 pixels with the smooth structure of photographs."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(n):
        coarse = Image.fromarray(random.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        coarse.resize((112, 112), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.jpg", quality=90)


def planned_batch_size(net: Any, stimuli: models.StimulusSet) -> int:
    """Tell which batch extraction chooses by itself."""
    few = models.extract(net, stimuli[:8], LAYERS)
    return int(json.loads(few.attrs["provenance"])["batch_size"])


def forward_loop(net: Any, stimuli: models.StimulusSet, batch_size: int) -> None:
    """Decode and run, keep nothing."""
    truncated = net.features[:18]
    feed = Feed(stimuli, net.preprocess, torch.float32)
    with torch.no_grad():
        for _, inputs in feed.ahead(cut_rows(range(len(stimuli)), batch_size)):
            truncated(inputs)


def largest_difference(net: Any, stimuli: models.StimulusSet, stored: Any, batch_size: int) -> float:
    """Between the store and a forward pass by hand, as a share of each layer's range."""
    hidden = torch.stack([net.preprocess(stimulus) for stimulus in stimuli[:batch_size]])
    worst = 0.0
    with torch.no_grad():
        for number, block in enumerate(net.features[:18]):
            hidden = block(hidden)
            layer = f"features.{number}"
            if layer in LAYERS:
                columns = np.flatnonzero(stored["layer"].values == layer)
                rows = stored.isel(
                    presentation=slice(0, batch_size), neuroid=slice(columns[0], columns[-1] + 1)
                )
                expected = hidden.flatten(1).numpy()
                worst = max(worst, float(np.abs(rows.values - expected).max() / np.ptp(expected)))
    return worst


def peak_bytes(pictures: Path, store: Path, n: int) -> int:
    """Measure the peak memory of a process that extracts the first ``n`` pictures."""
    code = (
        "import re; from pathlib import Path; from cerebridge import models; "
        "net = models.load('mobilenet_v2', weights='random'); "
        f"stimuli = models.StimulusSet.from_folder({str(pictures)!r})[:{n}]; "
        f"models.extract(net, stimuli, {LAYERS!r}, store={str(store)!r}); "
        # what getrusage tells a child begins with its parent's size
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(finished.stdout) * 1024


def cost(job: Callable[[], Any]) -> Cost:
    """Measure the seconds and the processor seconds of a job."""
    started, used = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - started, time.process_time() - used
