"""All models of an evaluation: one after another, or as many side by side as keep a cluster busy."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from ..neuro.progress import track
from .audit import fingerprint
from .cluster import Blocks, at_a_time
from .crossvalidation import Chance, CrossValidation, ModelRun
from .tasks import Task


def run_models(
    crossvalidation: CrossValidation, task: Task, chance: Chance | None, client: Any = None
) -> dict[str, ModelRun]:
    """Fits of every model, and its scores under chance.

    Parameters
    ----------
    crossvalidation
        How a model is fitted and scored.
    task
        The models; the features of one are read when its turn comes.
    chance
        How the truth is exchanged, if it is.
    client
        A Dask client, on whose workers everything is fitted.
    """
    n = min(at_a_time(len(crossvalidation.splits), client), len(task.models))
    if n == 1:
        return {name: _run(crossvalidation, task, chance, name, client) for name in task.models}
    # one bar for all of them: a terminal draws one at a time
    quiet = replace(crossvalidation, progress=False)
    with ThreadPoolExecutor(n) as threads:
        runs: Iterator[ModelRun] = threads.map(
            lambda name: _run(quiet, task, chance, name, client), task.models
        )
        done = track(runs, "evaluating models", len(task.models), crossvalidation.progress)
        return dict(zip(task.models, done, strict=True))


def _run(
    crossvalidation: CrossValidation, task: Task, chance: Chance | None, name: str, client: Any
) -> ModelRun:
    x = task.features(name)
    blocks = Blocks([crossvalidation, x, task.truth], client)
    fits = crossvalidation.fits(blocks, task.truth, name)
    null = None if chance is None else crossvalidation.null(blocks, x, task.truth, chance, name)
    return ModelRun(fits, null, fingerprint(np.asarray(x)), str(x.dtype))
