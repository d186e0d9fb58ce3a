"""Semantic spatial transformer: what an image is about moves receptive fields and scales features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..maps import Layout
from .base import Standardise
from .heads import FieldReadout, Head, Reading, make_head
from .prf import require_maps


class Semantics(nn.Module):
    """From a description of the image to an affine move of receptive fields and a gain of every channel.

    Its last layer starts at zero: the move is then the identity and all gains are 1, exactly.
    """

    def __init__(self, described: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.standardise = Standardise("semantics", described)
        last = nn.Linear(hidden, 6 + channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(described, hidden), nn.GELU(), last)

    def forward(self, semantics: Tensor) -> tuple[Tensor, Tensor]:
        """Moves ``(samples, 2, 3)`` and gains ``(samples, channels)``."""
        change = self.network(self.standardise(semantics))
        identity = torch.eye(2, 3, device=change.device, dtype=change.dtype)
        return identity + change[:, :6].reshape(-1, 2, 3), 1 + change[:, 6:]


class Steered(Reading):
    """A reading whose receptive fields and channels the semantics steer."""

    def __init__(self, channels: int, head: Head, described: int, hidden: int) -> None:
        super().__init__(channels, head)
        self.steering = Semantics(described, hidden, channels)

    def forward(self, maps: Tensor, **described: Tensor) -> Tensor:
        """Responses ``(samples, units)`` to maps and ``semantics``."""
        moves, gains = self.steering(described["semantics"])
        return super().forward(maps, moves=moves, gains=gains)


class SpatialTransformerReadout(FieldReadout):
    """A Gaussian or factorised readout whose fields move, and whose features are scaled, with the image's meaning.

    A small network maps the semantic vector of each image to an affine transformation of all receptive fields,
    which starts as the identity, and to gains of the channels, which start at 1: before training it is the readout
    on which it is built.

    Parameters
    ----------
    base
        ``"gaussian"`` or ``"factorised"``.
    hidden
        Width of the network that reads the semantics.
    semantics
        Layer whose neuroids are the semantic vector in labelled features (join them to the maps with
        :func:`cerebridge.neuro.concat` along ``"neuroid"``). Plain features are a pair ``(maps, semantics)``.
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
        Of the base, before they are moved and scaled.
    intercept_, scale_, best_score_, history_, best_epoch_, weights_
        As of :class:`GaussianReadout`.

    References
    ----------
    Jaderberg et al. (2015), NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> rng = np.random.default_rng(0)
    >>> maps, meaning = rng.standard_normal((60, 2, 5, 5)), rng.standard_normal((60, 3))
    >>> readout = readouts.SpatialTransformerReadout(max_epochs=2).fit((maps, meaning), maps[:, :, 1, 3])
    >>> readout.predict((maps, meaning)).shape
    (60, 2)
    """

    def __init__(
        self,
        base: str = "gaussian",
        hidden: int = 64,
        semantics: str = "semantics",
        spread: float = 0.1,
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
        self.hidden = hidden
        self.semantics = semantics
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
        if layout.semantics is None:
            raise ValueError(
                f"{type(self).__name__} needs a semantic vector for each image; give X as (maps, semantics), or "
                f"neuroids of the layer {self.semantics!r} beside those of the maps."
            )
        head = make_head(self.base, layout.shape, n_targets, vars(self))
        return Steered(layout.shape[0], head, len(layout.semantics), self.hidden)
