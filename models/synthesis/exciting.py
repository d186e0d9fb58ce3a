"""The most exciting inputs of a neuron: made for its readout, and found among real stimuli."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from ...neuro.progress import track
from ..pooling import Pool
from ..stimuli import StimulusSet
from .ascent import Synthesis, maximise
from .images import score_images
from .objectives import Objective, Prepare, ReadoutObjective

Array = NDArray[Any]


def make_exciting(
    net: nn.Module,
    layers: str | Sequence[str],
    weights: Any,
    bias: Any = 0.0,
    *,
    pool: Pool = None,
    prepare: Prepare | None = None,
    n_starts: int = 3,
    size: int = 224,
    device: str | torch.device = "auto",
    random_state: int = 0,
    progress: bool | None = None,
    **ascent: Any,
) -> Synthesis:
    """Make the image that each neuron's readout predicts the largest response to (most exciting input).

    Parameters
    ----------
    net, layers, pool
        What the readout was fitted on, as :func:`models.extract` took it.
    weights
        Of one neuron (features), or neurons × features, as ``coef_`` of scikit-learn and of ``encoding.RidgeCV``.
    bias
        One a neuron, or one number: ``intercept_``.
    prepare
        As of :class:`ReadoutObjective`.
    n_starts
        From how many different noises the ascent begins; the best end is kept.
    size
        Height and width of the images.
    device, progress
        As everywhere.
    random_state
        Seeds the starts.
    ascent
        Options of :func:`maximise`. Give ``contrast``, the standard deviation of the values of the images that the
        readout was fitted on, where predictions are to be compared with those of real images: more contrast than they
        had is what a linear readout knows least about.

    Returns
    -------
    Synthesis
        One image a neuron, in their order; ``course`` is of the start that was best.

    Raises
    ------
    ValueError
        If weights and biases do not fit, or as of :func:`maximise`.

    References
    ----------
    Walker et al. (2019). Inception loops discover what excites neurons most using deep predictive models. Nature
    Neuroscience 22:2060.
    Bashivan, Kar & DiCarlo (2019). Neural population control via deep image synthesis. Science 364:eaav9436.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> from cerebridge.models.synthesis import make_exciting
    >>> net = models.load("tiny", weights="random")
    >>> weights = np.random.default_rng(0).standard_normal((2, 32))
    >>> made = make_exciting(net, "conv2", weights, pool="global", size=32, steps=5)
    >>> made.images.shape, bool((made.scores > made.before).all())
    ((2, 32, 32, 3), True)
    """
    table = np.atleast_2d(np.asarray(weights, dtype=float))
    biases = np.asarray(bias, dtype=float)
    if biases.ndim and biases.shape != (len(table),):
        raise ValueError(f"bias= has the shape {biases.shape} for {len(table)} neurons; give one a neuron.")
    if n_starts < 1:
        raise ValueError(f"n_starts={n_starts} must be at least 1.")
    made = []
    neurons = zip(table, np.broadcast_to(biases, len(table)), strict=True)
    for row, constant in track(neurons, "making images", total=len(table), show=progress):
        objective = ReadoutObjective(net, layers, row, constant, pool=pool, prepare=prepare)
        options = {"device": device, "random_state": random_state, "progress": False, **ascent}
        ends = maximise(objective, n=n_starts, size=size, **options)
        best = int(np.argmax(ends.scores))
        made.append((ends.images[best], ends.scores[best], ends.before[best], ends.course[:, best]))
    images, scores, before, courses = (np.stack(parts) for parts in zip(*made, strict=True))
    return Synthesis(images, scores, before, courses.T)


def rank_stimuli(
    objective: Objective | Array,
    stimuli: StimulusSet,
    *,
    n: int | None = None,
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> pd.DataFrame:
    """Rank real stimuli by an objective, the most exciting first.

    Parameters
    ----------
    objective
        As of :func:`maximise`; or scores, one a stimulus, such as measured or cross-validated responses.
    stimuli
        What is ranked.
    n
        How many of the first are returned; all by default.
    batch_size
        Stimuli at a time.
    device, progress
        As everywhere.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``rank`` from 1, with the columns of ``stimuli.table``, ``score``, and ``row`` in the stimulus set:
        ``stimuli[ranking["row"]]`` are the stimuli in order.

    Raises
    ------
    ValueError
        If there is not one finite score a stimulus.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> from cerebridge.models.synthesis import rank_stimuli
    >>> stimuli = models.StimulusSet.from_arrays(np.zeros((3, 8, 8, 3), np.uint8), ["a", "b", "c"])
    >>> rank_stimuli(np.array([0.1, 0.5, 0.3]), stimuli, n=2)["stimulus_id"].tolist()
    ['b', 'c']
    """
    if callable(objective):
        scores = score_images(objective, stimuli, batch_size=batch_size, device=device, progress=progress)
    else:
        scores = np.asarray(objective)
    if scores.shape != (len(stimuli),) or not np.isfinite(scores).all():
        raise ValueError(
            f"the scores have the shape {scores.shape} for {len(stimuli)} stimuli, or are not finite; give one "
            "number a stimulus."
        )
    order = np.argsort(-scores, kind="stable")[:n]
    table = stimuli.table.iloc[order].assign(score=scores[order], row=order)
    return table.set_index(pd.RangeIndex(1, len(table) + 1, name="rank"))
