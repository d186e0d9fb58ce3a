"""Readouts that route: queries of regions or units fetch features from where they are in each image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..parameters import whole_number
from .routed import RoutedReadout
from .routing import AttentionRouting, Routing, StaticRouting


class TransformerReadout(RoutedReadout):
    """Attention readout: queries of regions look for what their units read, wherever it is in an image.

    One decoder layer of cross-attention from learned queries to the tokens of an image, whose keys hold features
    and sine encodings of places; queries start from nothing and do not see each other. A unit's response is a
    linear readout of the sum of its queries.

    Parameters
    ----------
    mode
        What has a query: ``"unit"`` (default), ``"roi"`` (units of a region share one, so they share where to look),
        or ``"hemisphere"``.
    regions
        For ``mode="roi"``: name of a coordinate along the units of ``y`` (default ``"region"``); or one label a unit,
        or masks ``(regions, units)``, which may overlap. Units in no region get a query together.
    hemispheres
        Name of a coordinate, or one label a unit: the loss is the mean squared error of each hemisphere, summed.
        Without labels all units count alike.
    grid
        Rows and columns of tokens; default: a square if their number is one, else a line. Maps know theirs.
    width, heads, feedforward, dropout
        Of the decoder layer. ``width`` is a multiple of ``heads``; default the least that holds all features.
    queries_at_once
        How many queries of single units are held in memory at a time. It does not change what is computed without
        dropout.
    start
        ``None`` (default): queries are drawn at random, as in the paper, and learn from nothing where to look.
        ``"prf"``: every query also has a map over places, added to its scores, which begins at the Gaussian pool of a
        grid from which ridge predicts its units best, and is trained with the rest.
    validation
        Share of the samples whose mean correlation chooses the best epoch; the last ones, or whole groups.
    optimizer, learning_rate, weight_decay, batch_size, max_epochs, patience, gradient_clip
        Of the trainer, :func:`cerebridge.models.training.train`; the defaults are the paper's.
    device, random_state, checkpoint, progress
        As there.

    Attributes
    ----------
    query_names_
        Names of the queries: regions, hemispheres, or units.
    masks_
        ``(queries, units)``, who reads what; ``None`` where every unit has its own.
    intercept_, scale_
        Mean and standard deviation of the responses that were trained on, ``(targets,)``.
    best_score_
        Correlation on the validation samples, ``(targets,)``. It was used to choose: no estimate of performance.
    weights_, history_, best_epoch_
        Of the network by name; loss and score of every epoch; the epoch whose weights they are.
    layout_
        Shape of the maps.

    Notes
    -----
    Features are standardised channel by channel, and responses unit by unit, by the samples trained on. Maps with few
    channels need fewer heads: 16 heads on 64 channels see 4 values each.

    The defaults are for thousands of images. With about a thousand, where to look costs most of what there is to
    learn from: ``start="prf"``, two heads, a small network (``feedforward=64, dropout=0.3``) and fast learning
    (``learning_rate=2e-3, batch_size=64, patience=5``) do better, in a fraction of the time.

    References
    ----------
    Adeli et al. (2025), "Transformer brain encoders explain human high-level visual responses".

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> tokens = np.random.default_rng(0).standard_normal((40, 9, 4))
    >>> readout = readouts.TransformerReadout("roi", ["V1", "V1", "V4"], heads=2, feedforward=8, max_epochs=2)
    >>> readout.fit(tokens, tokens[:, 0, :3]).predict(tokens[:5]).shape
    (5, 3)
    >>> readout.attention(tokens[:5]).dims
    ('presentation', 'query', 'head', 'row', 'column')
    """

    def __init__(
        self,
        mode: str = "unit",
        regions: Any = "region",
        hemispheres: Any = "hemisphere",
        grid: tuple[int, int] | None = None,
        width: int | None = None,
        heads: int = 16,
        feedforward: int = 1024,
        dropout: float = 0.1,
        queries_at_once: int = 256,
        start: str | None = None,
        validation: float = 0.1,
        optimizer: str = "adamw",
        learning_rate: float = 5e-4,
        weight_decay: float = 1e-4,
        batch_size: int = 16,
        max_epochs: int = 15,
        patience: int | None = None,
        gradient_clip: float | None = 0.1,
        device: str | torch.device = "auto",
        random_state: Any = 0,
        checkpoint: str | Path | None = None,
        progress: bool | None = False,
    ) -> None:
        self.mode = mode
        self.regions = regions
        self.hemispheres = hemispheres
        self.grid = grid
        self.width = width
        self.heads = heads
        self.feedforward = feedforward
        self.dropout = dropout
        self.queries_at_once = queries_at_once
        self.start = start
        self.validation = validation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.gradient_clip = gradient_clip
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.progress = progress

    def _route(self, masks: Tensor | int, places: tuple[int, ...], features: int) -> Routing:
        heads = whole_number(self.heads, "heads")
        width = (
            heads * math.ceil(features / heads) if self.width is None else whole_number(self.width, "width")
        )
        if width % heads:
            raise ValueError(f"width={width} is no multiple of heads={heads}; change one of them.")
        mapped = self.start is not None
        return AttentionRouting(
            masks,
            places,
            features,
            width,
            heads,
            self.feedforward,
            self.dropout,
            self.queries_at_once,
            mapped,
        )


class StaticMapReadout(RoutedReadout):
    """Baseline of the attention readout: queries look at the same places in every image.

    A softmax map over places for each query; a unit's response is a linear readout of the features that its
    queries' maps pool.

    Parameters
    ----------
    mode, regions, hemispheres, grid, queries_at_once, validation, optimizer, learning_rate, weight_decay, batch_size, \
max_epochs, patience, gradient_clip, device, random_state, checkpoint, progress
        As for :class:`TransformerReadout`.
    start
        Where queries look before training: everywhere alike (``None``, default), or ``"prf"`` as there.

    Attributes
    ----------
    query_names_, masks_, intercept_, scale_, best_score_, weights_, history_, best_epoch_, layout_
        As for :class:`TransformerReadout`.

    References
    ----------
    Adeli et al. (2025), "Transformer brain encoders explain human high-level visual responses".

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> maps = np.random.default_rng(0).standard_normal((400, 2, 2, 2))
    >>> static = readouts.StaticMapReadout(learning_rate=0.05).fit(maps, maps[:, 0, 1, 0])
    >>> static.attention(maps[:1])[0, 0, 0].round(1).values.tolist()
    [[0.0, 0.0], [1.0, 0.0]]
    """

    def __init__(
        self,
        mode: str = "unit",
        regions: Any = "region",
        hemispheres: Any = "hemisphere",
        grid: tuple[int, int] | None = None,
        queries_at_once: int = 256,
        start: str | None = None,
        validation: float = 0.1,
        optimizer: str = "adamw",
        learning_rate: float = 5e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 16,
        max_epochs: int = 15,
        patience: int | None = None,
        gradient_clip: float | None = None,
        device: str | torch.device = "auto",
        random_state: Any = 0,
        checkpoint: str | Path | None = None,
        progress: bool | None = False,
    ) -> None:
        self.mode = mode
        self.regions = regions
        self.hemispheres = hemispheres
        self.grid = grid
        self.queries_at_once = queries_at_once
        self.start = start
        self.validation = validation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.gradient_clip = gradient_clip
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.progress = progress

    def _route(self, masks: Tensor | int, places: tuple[int, ...], features: int) -> Routing:
        return StaticRouting(masks, places, features, self.queries_at_once)
