"""Extraction against the bare forward loop: what hooks, labels, checks and the store cost.

The bare loop decodes the same files one batch ahead on the same thread, and runs the same network only as far as
the last layer asked for, with the same batches on the same threads; it keeps nothing. Activations are stored raw and
unpooled, about 0.6 MB an image. The bare loop
shares what extraction asks of the C library's memory (``models.memory.keep_freed_memory``); in a process of its own
it took up to 1.7 times as long. A quick run is dominated by what does not grow with the number of images: a trial
batch, and the labels of 147,000 units.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import Timing, compete, versions

if TYPE_CHECKING:
    import xarray as xr

    from cerebridge.models import StimulusSet

LAYERS = ["features.3", "features.6", "features.10", "features.13", "features.17"]
BLOCKS = 18
LIMIT = 0.9


def run(quick: bool) -> dict[str, Any]:
    """Extract 5 layers of MobileNetV2 for 2,000 images (quick: 64), in turns with the bare loop over them."""
    from cerebridge import models, neuro

    n = 64 if quick else 2000
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder) / "pictures", n)
        net = models.load("mobilenet_v2", weights="random")
        stimuli = models.StimulusSet.from_folder(Path(folder) / "pictures")
        trial = models.extract(net, stimuli[:8], LAYERS)
        batch_size = int(json.loads(trial.attrs["provenance"])["batch_size"])
        store = Path(folder) / "store"

        def extract(count: int = n) -> None:
            shutil.rmtree(store, ignore_errors=True)
            models.extract(net, stimuli[:count], LAYERS, store=store)

        quarter = Timing()
        quarter.repeat(lambda: extract(n // 4))
        contestants = {"bare": lambda: forward_loop(net, stimuli, batch_size), "extract": extract}
        timings = compete(contestants, 1 if quick else 3)
        difference = largest_difference(net, stimuli[:batch_size], neuro.load(store))
        stored_bytes = sum(file.stat().st_size for file in store.iterdir())
    if difference > 1e-5:
        raise AssertionError(f"stored and computed activations differ by {difference} of their range")
    bare, ours = timings["bare"], timings["extract"]
    return {
        "ratio": round(bare.wall / ours.wall, 3),
        "ratio_cpu": round(bare.cpu / ours.cpu, 3),
        "limit_ratio": LIMIT,
        "agreement": difference,
        "sizes": {"images": n, "layers": LAYERS, "stored_bytes": stored_bytes},
        "batch_size": batch_size,
        "images_per_second": round(n / ours.wall, 1),
        "bare": bare.summary(),
        "extract": ours.summary(),
        "extract_quarter": quarter.summary(),
        "versions": versions("pillow", "h5py", "xarray"),
    }


def make_pictures(folder: Path, n: int) -> None:
    """Write JPEG files of 112 × 112 pixels with the smooth structure of photographs."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(n):
        coarse = Image.fromarray(random.integers(0, 256, (14, 14, 3), dtype=np.uint8))
        coarse.resize((112, 112), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.jpg", quality=90)


def forward_loop(net: Any, stimuli: StimulusSet, batch_size: int) -> None:
    """Decode and run, keep nothing."""
    import torch

    from cerebridge.models.batches import Feed, cut_rows
    from cerebridge.models.zoo import NETWORKS

    truncated = net.features[:BLOCKS]
    feed = Feed(stimuli, NETWORKS["mobilenet_v2"].preprocess, torch.float32)
    with torch.no_grad():
        for _, inputs in feed.ahead(cut_rows(range(len(stimuli)), batch_size)):
            truncated(inputs)


def largest_difference(net: Any, stimuli: StimulusSet, stored: xr.DataArray) -> float:
    """Compare the store with a forward pass by hand, as a share of each layer's range."""
    import numpy as np
    import torch

    hidden = torch.stack([net.preprocess(stimulus) for stimulus in stimuli])
    differences = []
    with torch.no_grad():
        for number, block in enumerate(net.features[:BLOCKS]):
            hidden = block(hidden)
            if f"features.{number}" in LAYERS:
                columns = np.flatnonzero(stored["layer"].values == f"features.{number}")
                kept = stored.isel(presentation=slice(0, len(stimuli)), neuroid=columns).values
                differences.append(np.abs(kept - hidden.flatten(1).numpy()).max() / np.ptp(kept))
    return float(max(differences))
