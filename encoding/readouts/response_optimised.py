"""Response-optimised encoders: a convolutional network trained from images to responses, with a readout on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.moments import Split
from ..maps import Layout
from .cores import ResidualCore
from .heads import FieldReadout, Reading, make_head
from .prf import require_maps


class ResponseOptimised(FieldReadout):
    """A residual network and a readout, trained end to end from images (or maps) to responses.

    Parameters
    ----------
    base
        The readout: ``"gaussian"`` or ``"factorised"``.
    channels, blocks, kernel
        Of the core: features, residual blocks, and odd width of its filters.
    halvings
        How many times the core averages neighbouring places two by two; at most ``blocks + 1``.
    turns
        4 for a core whose filters are shared over quarter turns, which needs square images; 1 for a plain one.
    spread, l1, smoothness
        Of :class:`GaussianReadout` and :class:`FactorisedReadout`.
    validation
        Share of the samples that early stopping looks at: whole groups or stimuli, or the end of a recording.
    optimizer, learning_rate, weight_decay, batch_size, max_epochs, patience, gradient_clip
        Of :func:`cerebridge.models.training.train`; early stopping is on the mean correlation over units.
    device, random_state, progress
        As everywhere.
    checkpoint
        File from which an interrupted ``fit`` goes on; or an existing folder with a file for each fit, as for folds.

    Attributes
    ----------
    position_, covariance_, mask_, coef_
        Of the readout, on the core's features.
    intercept_, scale_, best_score_, history_, best_epoch_, weights_
        As of :class:`GaussianReadout`.

    References
    ----------
    Cadena et al. (2019), PLoS Computational Biology 15; Ecker et al. (2019), ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> images = np.random.default_rng(0).standard_normal((40, 1, 8, 8))
    >>> network = readouts.ResponseOptimised(channels=4, blocks=1, max_epochs=2)
    >>> network.fit(images, images[:, 0, 3, :2] ** 2).predict(images).shape
    (40, 2)
    """

    def __init__(
        self,
        base: str = "gaussian",
        channels: int = 16,
        blocks: int = 2,
        kernel: int = 3,
        halvings: int = 1,
        turns: int = 1,
        spread: float = 0.3,
        l1: float = 1e-3,
        smoothness: float = 1e-2,
        validation: float = 0.1,
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 64,
        max_epochs: int = 100,
        patience: int | None = 10,
        gradient_clip: float | None = None,
        device: str | torch.device = "auto",
        random_state: Any = 0,
        checkpoint: str | Path | None = None,
        progress: bool | None = False,
    ) -> None:
        self.base = base
        self.channels = channels
        self.blocks = blocks
        self.kernel = kernel
        self.halvings = halvings
        self.turns = turns
        self.spread = spread
        self.l1 = l1
        self.smoothness = smoothness
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

    def _build(self, layout: Layout, n_targets: int) -> nn.Module:
        require_maps(layout.shape, type(self).__name__)
        inputs, rows, columns = layout.shape
        step = 2**self.halvings
        if self.turns not in (1, 4):
            raise ValueError(f"turns={self.turns!r} must be 4 (quarter turns) or 1 (none).")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel!r} must be odd, so that maps keep their size.")
        if not 0 <= self.halvings <= self.blocks + 1 or min(rows, columns) < step:
            raise ValueError(
                f"halvings={self.halvings!r} is not possible for maps of {rows} × {columns} and {self.blocks} blocks; "
                f"use at most {min(self.blocks + 1, min(rows, columns).bit_length() - 1)}."
            )
        if self.turns == 4 and (rows != columns or rows % step):
            raise ValueError(
                f"turns=4 needs square maps whose side can be halved {self.halvings} times, got {rows} × {columns}; "
                "crop them, or use turns=1."
            )
        core = ResidualCore(inputs, self.channels, self.blocks, self.kernel, self.halvings, self.turns)
        features = (self.channels * self.turns, rows // step, columns // step)
        return Reading(inputs, make_head(self.base, features, n_targets, vars(self)), core)

    def _start(self, module: nn.Module, rows: Mapping[str, Tensor], splits: Sequence[Split]) -> None:
        """Nothing is known of features that are still to be learned."""
