"""Stimuli on which two models disagree, made or chosen: what tells them apart in an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..stimuli import StimulusSet
from .ascent import Synthesis, maximise
from .images import as_stimuli, score_images
from .objectives import Objective

Array = NDArray[Any]
#: which model's prediction is to be high while the other one's is low; "both" high is the matched control
High = Literal["first", "second", "both"]

SIGNS: dict[str, tuple[float, float]] = {"first": (1, -1), "second": (-1, 1), "both": (1, 1)}
NAMES = ("first", "second")
#: how sharply the smooth minimum follows the smaller of two standard scores
SHARPNESS = 4.0


@dataclass(frozen=True)
class Controversy:
    """Controversial stimuli.

    Attributes
    ----------
    images
        ``n × height × width × 3`` from 0 to 1, or ``n × values``.
    table
        One row an image: ``high`` (which model predicts a high response, while the other predicts a low one),
        ``first`` and ``second`` (predictions in standard deviations from the mean over the reference stimuli), and
        ``controversy``: the smaller of what the one is above and the other below its mean. It is positive only where
        they disagree, and never so for a model against itself.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from cerebridge.models.synthesis import Controversy
    >>> made = Controversy(np.zeros((1, 8, 8, 3)), pd.DataFrame({"high": ["first"], "controversy": [2.5]}))
    >>> made.stimuli.table["controversy"].tolist()
    [2.5]
    """

    images: Array
    table: pd.DataFrame

    @property
    def stimuli(self) -> StimulusSet:
        """The images as a stimulus set with the columns of ``table``."""
        return as_stimuli(self.images, "controversial", dict(self.table.items()))


def make_controversial(
    first: Objective,
    second: Objective,
    reference: Any,
    *,
    high: Sequence[High] = ("first", "second"),
    n: int = 1,
    size: int = 224,
    device: str | torch.device = "auto",
    random_state: int = 0,
    progress: bool | None = None,
    **ascent: Any,
) -> Controversy:
    """Make images that one model predicts a high response to and another one a low response.

    Predictions are compared in standard deviations over the reference stimuli, and the smaller of the two
    disagreements is raised, so that both models have to commit themselves.

    Parameters
    ----------
    first, second
        Two models' predictions for the same thing, as objectives (:func:`maximise`): two encoders of a neuron
        (:class:`ReadoutObjective` of two networks), or of two classifiers the margin of one class over another.
    reference
        Stimuli over which predictions are standardised, such as those that the models were fitted on.
    high
        ``"first"``: the first model's prediction is high and the second one's low; ``"second"``: the other way;
        ``"both"``: both are high, made the same way as a control on which they agree.
    n
        Images for each of these.
    size, device, random_state, progress
        As of :func:`maximise`.
    ascent
        Further options of :func:`maximise`.

    Returns
    -------
    Controversy
        ``n`` images for each entry of ``high``.

    Raises
    ------
    ValueError
        If a model predicts the same for all reference stimuli, ``high`` is unknown, or as of :func:`maximise`.

    References
    ----------
    Golan, Raju & Kriegeskorte (2020). Controversial stimuli: pitting neural networks against each other as models of
    human cognition. PNAS 117:29330.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.synthesis import make_controversial
    >>> reference = np.random.default_rng(0).random((20, 16, 16, 3))
    >>> red, green = (lambda images, c=c: images[:, c].mean((1, 2)) for c in (0, 1))
    >>> made = make_controversial(red, green, reference, size=16, steps=20, space="pixels")
    >>> bool((made.table["controversy"] > 1).all())
    True
    """
    unknown = [kind for kind in high if kind not in SIGNS]
    if unknown or not high:
        raise ValueError(f"high={list(high)} must name some of 'first', 'second' and 'both'.")
    scored = [
        score_images(
            model, reference, device=device, progress=progress, bounds=ascent.get("bounds", (0.0, 1.0))
        )
        for model in (first, second)
    ]
    models = [
        _Standardised(model, *_moments(s, name))
        for model, s, name in zip((first, second), scored, NAMES, strict=True)
    ]
    options = {"size": size, "device": device, "random_state": random_state, "progress": progress, **ascent}
    images, tables = [], []
    for kind in high:
        made: Synthesis = maximise(_Disagreement(models[0], models[1], SIGNS[kind]), n=n, **options)
        scores = [score_images(model, made.images, device=device, bounds=None) for model in models]
        images.append(made.images)
        tables.append(_table(kind, *scores))
    return Controversy(np.concatenate(images), pd.concat(tables, ignore_index=True))


def select_controversial(
    first: Objective | Array, second: Objective | Array, stimuli: StimulusSet, *, n: int = 10, **scoring: Any
) -> pd.DataFrame:
    """Choose the stimuli of a pool on which two models disagree most, in both directions.

    Parameters
    ----------
    first, second
        Objectives, as of :func:`make_controversial`, or predictions, one a stimulus.
    stimuli
        The pool, over which predictions are standardised.
    n
        How many for each direction.
    scoring
        Options of :func:`score_images`.

    Returns
    -------
    pandas.DataFrame
        The columns of :class:`Controversy`'s table and of ``stimuli.table``, and ``row`` in the pool; the most
        controversial first within each direction.

    Raises
    ------
    ValueError
        If predictions are not one a stimulus, or all alike.

    References
    ----------
    Golan, Raju & Kriegeskorte (2020). Controversial stimuli: pitting neural networks against each other as models of
    human cognition. PNAS 117:29330.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> from cerebridge.models.synthesis import select_controversial
    >>> pool = models.StimulusSet.from_arrays(np.zeros((3, 8, 8, 3), np.uint8), ["a", "b", "c"])
    >>> chosen = select_controversial(np.array([1.0, 0.0, 2.0]), np.array([2.0, 3.0, 0.0]), pool, n=1)
    >>> chosen["stimulus_id"].tolist()
    ['c', 'b']
    """
    scores = []
    for model, name in ((first, NAMES[0]), (second, NAMES[1])):
        given = score_images(model, stimuli, **scoring) if callable(model) else np.asarray(model, dtype=float)
        if given.shape != (len(stimuli),) or not np.isfinite(given).all():
            raise ValueError(
                f"{name}= has the shape {given.shape} for {len(stimuli)} stimuli, or is not finite; give one "
                "prediction a stimulus."
            )
        mean, spread = _moments(given, name)
        scores.append((given - mean) / spread)
    tables = []
    for kind in ("first", "second"):
        table = _table(kind, *scores).join(stimuli.table).assign(row=np.arange(len(stimuli)))
        tables.append(table.sort_values("controversy", ascending=False, kind="stable").head(n))
    return pd.concat(tables, ignore_index=True)


class _Standardised(nn.Module):
    """A model's predictions in standard deviations; modules within it move with it."""

    def __init__(self, model: Objective, mean: float, spread: float) -> None:
        super().__init__()
        self.model, self.mean, self.spread = model, mean, spread

    def forward(self, images: Tensor) -> Tensor:
        return (self.model(images).reshape(len(images)) - self.mean) / self.spread


class _Disagreement(nn.Module):
    """The smooth minimum of two predictions, each in the direction that is wanted."""

    def __init__(self, first: nn.Module, second: nn.Module, signs: tuple[float, float]) -> None:
        super().__init__()
        self.first, self.second, self.signs = first, second, signs

    def forward(self, images: Tensor) -> Tensor:
        both = torch.stack([self.signs[0] * self.first(images), self.signs[1] * self.second(images)])
        return -torch.logsumexp(-SHARPNESS * both, 0) / SHARPNESS


def _moments(scores: Array, name: str) -> tuple[float, float]:
    mean, spread = float(scores.mean(dtype=np.float64)), float(scores.std(dtype=np.float64))
    if not spread:
        raise ValueError(
            f"the {name} model predicts the same for all stimuli, so that nothing is high or low for it."
        )
    return mean, spread


def _table(kind: str, first: Array, second: Array) -> pd.DataFrame:
    signs = SIGNS[kind]
    controversy = np.minimum(signs[0] * first, signs[1] * second)
    return pd.DataFrame({"high": kind, "first": first, "second": second, "controversy": controversy})
