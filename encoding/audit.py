"""What a score rests on: overlaps of training and test, and where everything came from."""

from __future__ import annotations

import hashlib
import platform
from typing import Any

import numpy as np
import sklearn
import torch
import xarray as xr
from numpy.typing import NDArray

from .. import __version__
from ..models.devices import resolve_device
from .crossvalidation import ModelRun
from .pipelines import last_step
from .splits import RECORDING_GROUPS, Splits, in_both, time_neighbours

Array = NDArray[Any]


def audit_splits(rows: xr.DataArray, splits: Splits, labels: Array | None) -> dict[str, Any]:
    """Say what was fitted on what, and what training and test parts have in common.

    Parameters
    ----------
    rows
        The array whose first dimension was split.
    splits
        The folds.
    labels
        Class labels of a classifier, whose stimuli may recur across runs.

    Returns
    -------
    dict
        ``fitted_on``, ``split``, row counts, and the largest overlap over folds in rows, stimuli, groups and time.
    """
    sizes = [(len(train), len(test)) for train, test in splits.folds]
    audit: dict[str, Any] = {
        "fitted_on": "the training rows of each fold alone, hyperparameters included",
        "split": splits.description,
        "n_splits": len(splits),
        "training_rows": [min(a for a, _ in sizes), max(a for a, _ in sizes)],
        "test_rows": [min(b for _, b in sizes), max(b for _, b in sizes)],
        "row_overlap": max(int(np.intersect1d(*fold).size) for fold in splits.folds),
        "time_overlap": max(time_neighbours(rows, *fold) for fold in splits.folds),
    }
    if splits.groups is not None:
        audit["group_overlap"] = max(len(in_both(splits.groups, *fold)) for fold in splits.folds)
    for name in (*RECORDING_GROUPS, "stimulus_id"):
        if name in rows.coords and rows.coords[name].dims == rows.dims[:1]:
            key = f"{name.removesuffix('_id')}_overlap"
            audit[key] = max(len(in_both(rows.coords[name].values, *fold)) for fold in splits.folds)
    if audit.get("stimulus_overlap") and labels is not None:
        audit["stimulus_overlap_note"] = "conditions recur across folds by design"
    return audit


def provenance(
    estimator: Any,
    runs: dict[str, ModelRun],
    truth: Array,
    splits: Splits,
    random_state: int | None,
    seconds: float,
) -> dict[str, Any]:
    """Hashes of data and splits, versions, seed, device and dtype, as a dictionary that fits into JSON."""
    device = getattr(last_step(estimator)[1], "device", "cpu")
    return {
        "estimator": repr(estimator),
        "features": {name: run.fingerprint for name, run in runs.items()},
        "responses": fingerprint(truth),
        "folds": fingerprint(*(part for fold in splits.folds for part in fold)),
        "dtype": {name: run.dtype for name, run in runs.items()},
        "device": str(resolve_device() if device == "auto" else device),
        "random_state": random_state,
        "seconds": round(seconds, 3),
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
    }


def versions() -> dict[str, str]:
    """The versions on which numbers depend."""
    return {
        "cerebridge": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "xarray": xr.__version__,
    }


def fingerprint(*arrays: Array) -> str:
    """Short hash of shapes, types and values."""
    digest = hashlib.blake2b(digest_size=12)
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        text = array.dtype.kind in "OUS"
        digest.update(
            "\x1f".join(map(str, array.ravel())).encode() if text else np.ascontiguousarray(array).tobytes()
        )
    return digest.hexdigest()
