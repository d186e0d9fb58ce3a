"""Factorised readout: where a unit looks, times what it looks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..maps import Layout
from .heads import FactorisedHead, FieldReadout, Reading
from .prf import require_maps


class FactorisedReadout(FieldReadout):
    """Linear readout whose weights are a mask over places times weights of features, for every unit.

    It starts where ridge on a Gaussian pool of a grid predicts held-out training samples best.

    Parameters
    ----------
    l1
        Penalty of the sum of a unit's absolute feature weights (of standardised channels and responses; masks
        have norm 1).
    smoothness
        Penalty of the sum of squared differences between neighbouring places of a unit's mask.
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
    mask_
        ``(targets, rows, columns)``, each of norm 1.
    coef_
        Feature weights, of standardised channels and responses, ``(targets, channels)``.
    intercept_, scale_, best_score_, history_, best_epoch_, weights_
        As of :class:`GaussianReadout`.

    References
    ----------
    Klindt et al. (2017), NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> maps = np.random.default_rng(0).standard_normal((60, 2, 5, 5))
    >>> factorised = readouts.FactorisedReadout(max_epochs=2).fit(maps, maps[:, 0, 1, 3])
    >>> [int(place) for place in np.unravel_index(factorised.mask_.argmax(), (5, 5))]
    [1, 3]
    """

    def __init__(
        self,
        l1: float = 1e-2,
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
        channels, rows, columns = layout.shape
        head = FactorisedHead(channels, rows, columns, n_targets, self.l1, self.smoothness)
        return Reading(channels, head)
