"""All feature modules of VGG16 for representational similarity, within a memory budget and without the disk.

The features of 300 images at 224 × 224 take 34 GB in single precision; only their inner products are kept. The network
runs once a pass and no further than the pass needs, so that the 25 GB of the first ten modules cost little: some twenty
passes within 2 GB come to about six times the operations of one forward pass over all images. The truth that it is held
against has all features of one module at a time in memory: products in double precision of features without their mean
over units. It starts every module from the whole output of the one before, which fits into no budget.

Both sides run the network in the same batches: at the last modules of a random VGG16 patterns of different images
correlate to 1 - 2e-7, and at the quick size RSA by Pearson's r changes by 5e-5 if pairs of images instead of single
ones run at a time, which rounds otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import Timing, peak_memory, versions

if TYPE_CHECKING:
    from cerebridge.models import StimulusSet

LAYERS = [f"features.{number}" for number in range(31)]
TOLERANCE = 1e-5
COLUMNS = 1 << 15


def run(quick: bool) -> dict[str, Any]:
    """Correlation RDMs of 31 modules for 300 images (quick: 12 of 64 × 64 pixels), and their RSA with the pixels'."""
    import numpy as np
    from scipy.stats import spearmanr

    from cerebridge import models
    from cerebridge.encoding import rsa
    from cerebridge.models.preprocessing import IMAGENET

    n, size, memory = (12, 64, 24 * 10**6) if quick else (300, 224, 2 * 10**9)
    net = models.load("vgg16", weights="random")
    preprocess = models.Preprocessing(size, IMAGENET.mean, IMAGENET.std, "bilinear")
    stimuli = make_stimuli(n, size)
    options = {"preprocess": preprocess, "memory": memory}
    plan = models.plan_extraction(net, stimuli, LAYERS, gram=True, **options)
    before, timing = resident_memory(), Timing()
    timing.repeat(lambda: models.extract_gram(net, stimuli, LAYERS, **options))
    growth = timing.peak_bytes - before
    rdms = rsa.rdm(timing.result, "correlation", by="layer")
    pixels = upper(np.stack([preprocess(image).numpy().ravel() for image in stimuli]))
    truth = reference(net, stimuli, preprocess, plan.batch_size)
    largest = {"rdm": 0.0, "pearson": 0.0, "spearman": 0.0}
    for layer, found in zip(rdms["layer"].values, rdms.values, strict=True):
        wanted = truth[layer]
        differences = {
            "rdm": np.abs(found - wanted).max(),
            "pearson": np.corrcoef(found, pixels)[0, 1] - np.corrcoef(wanted, pixels)[0, 1],
            "spearman": spearmanr(found, pixels).statistic - spearmanr(wanted, pixels).statistic,
        }
        largest = {name: max(value, abs(float(differences[name]))) for name, value in largest.items()}
    if max(largest.values()) > TOLERANCE:
        raise AssertionError(f"RSA from inner products differs from that of the features by {largest}")
    return {
        "agreement": largest,
        "memory_growth_bytes": growth,
        "memory_budget_bytes": memory,
        "within_budget": growth <= memory,
        "planned_seconds": round(plan.seconds, 1),
        "passes": len(plan.passes),
        "batch_size": plan.batch_size,
        "decodings": plan.decodings,
        "gram": timing.summary(),
        "sizes": {"images": n, "pixels": size, "layers": len(LAYERS), "features": n_features(size)},
        "versions": versions("scipy", "xarray"),
    }


def make_stimuli(n: int, size: int) -> StimulusSet:
    """Images with the smooth structure of photographs."""
    import numpy as np
    from PIL import Image

    from cerebridge.models import StimulusSet

    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (n, 14, 14, 3), dtype=np.uint8)
    images = [Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC) for each in coarse]
    return StimulusSet.from_arrays(np.stack([np.asarray(image) for image in images]))


def reference(net: Any, stimuli: StimulusSet, preprocess: Any, batch_size: int) -> dict[str, Any]:
    """Correlation RDMs from all features of one module after the other."""
    import torch

    found = {}
    with torch.no_grad():
        hidden = torch.stack([preprocess(image) for image in stimuli])
        for layer, block in zip(LAYERS, net.features, strict=True):
            shape = block(hidden[:1].clone()).shape[1:]
            outputs = torch.empty((len(hidden), *shape))
            for rows, batch in zip(outputs.split(batch_size), hidden.split(batch_size), strict=True):
                rows.copy_(block(batch))
            hidden = outputs
            found[layer] = upper(hidden.flatten(1).numpy())
    return found


def upper(features: Any) -> Any:
    """One minus the correlation of all pairs of rows, in double precision."""
    import numpy as np

    inner = np.zeros((len(features), len(features)))
    mean = features.mean(1, dtype=np.float64)[:, None]
    for start in range(0, features.shape[1], COLUMNS):
        part = features[:, start : start + COLUMNS] - mean
        inner += part @ part.T
    length = np.sqrt(np.diagonal(inner))
    return (1 - inner / np.multiply.outer(length, length))[np.triu_indices(len(features), 1)]


def n_features(size: int) -> int:
    """Features of all modules for one image of ``size × size`` pixels."""
    total, side = 0, size
    for width, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        total += 2 * repeats * width * side**2
        side //= 2
        total += width * side**2
    return total


def resident_memory() -> int:
    """Bytes that this process has in memory now."""
    from . import reset_peak_memory

    reset_peak_memory()
    return peak_memory()
