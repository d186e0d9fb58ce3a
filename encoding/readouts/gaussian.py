"""Gaussian readout: every unit reads the features at one point, which is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..maps import Layout
from .heads import FieldReadout, GaussianHead, Reading
from .prf import require_maps


class GaussianReadout(FieldReadout):
    """Linear readout of the features at one learned point of the map for every unit.

    In training the point is drawn from a Gaussian around the unit's position, so that gradients see its
    surroundings; predictions read the position itself, between places bilinearly. It starts where ridge on a
    Gaussian pool of a grid predicts the validation set best.

    Parameters
    ----------
    spread
        Standard deviation of the Gaussian at the start, in half lengths of the map; it is learned.
    l1
        Penalty of the sum of a unit's absolute feature weights (of standardised channels and responses).
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
    position_, covariance_
        Mean ``(x, y)`` and covariance of each unit's point, from -1 to 1 (centres of the outermost places),
        ``(targets, 2)`` and ``(targets, 2, 2)``.
    coef_
        Feature weights, of standardised channels and responses, ``(targets, channels)``.
    intercept_, scale_
        Mean and standard deviation of the responses trained on, ``(targets,)``.
    best_score_
        Correlation on the validation set, ``(targets,)``, which chose the epoch: it is no estimate of performance.
    history_, best_epoch_, weights_
        Course of the training, whose weights were kept, and these.

    References
    ----------
    Lurz et al. (2021), ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> maps = np.random.default_rng(0).standard_normal((60, 2, 5, 5))
    >>> gaussian = readouts.GaussianReadout(max_epochs=2).fit(maps, maps[:, 0, 1, 3])
    >>> gaussian.position_.round(1).tolist()
    [0.5, -0.5]
    """

    def __init__(
        self,
        spread: float = 0.1,
        l1: float = 1e-3,
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
        self.spread = spread
        self.l1 = l1
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
        return Reading(layout.shape[0], GaussianHead(layout.shape[0], n_targets, self.spread, self.l1))
