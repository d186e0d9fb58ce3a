"""What encoders of several feature spaces share: one linear model a space, and its out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone

from ..neuro.progress import track
from . import inputs
from .bands import Columns, find_bands
from .containers import to_tensor
from .engine.moments import Split
from .pipelines import groups_parameter
from .ridge import RidgeCV


@dataclass(frozen=True)
class Spaces:
    """Training data of a model of several feature spaces, as tensors on the CPU.

    ``X`` is ``(samples, features)``, ``Y`` ``(samples, targets)``; ``bands`` are the columns of each space.
    """

    estimator: Any
    X: torch.Tensor
    Y: torch.Tensor
    bands: Mapping[Hashable, Columns]
    splits: list[Split]
    groups: NDArray[Any] | None

    @classmethod
    def of(cls, shell: Any, name: str, X: Any, y: Any, groups: Any) -> Spaces:
        """Check the input of ``shell``, an encoder with ``estimator``, ``cv``, ``device`` and bands under ``name``."""
        X_ = inputs.features(shell, X, reset=True).cpu()
        Y_ = inputs.targets(y, len(X_), X).cpu()
        groups = inputs.group_labels(groups, len(X_), (X, y))
        splits = inputs.splits(shell.cv, len(X_), y, groups, (X, y))
        estimator = RidgeCV(device=shell.device) if shell.estimator is None else shell.estimator
        dtype = torch.promote_types(X_.dtype, Y_.dtype)
        Y_ = Y_.reshape(len(Y_), -1).to(dtype)
        bands = find_bands(getattr(shell, name), X, X_.shape[1], name)
        return cls(estimator, X_.to(dtype), Y_, bands, splits, groups)

    def out_of_fold(self, show: bool | None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """For every split the held-out responses and each space's predictions, ``(spaces, samples, targets)``."""
        for split in track(self.splits, "predicting from each feature space", show=show):
            predictions = []
            for columns in self.bands.values():
                coef, intercept = self.fit(columns, split.train)
                predictions.append(self.X[split.test][:, columns] @ coef.T + intercept)
            yield self.Y[split.test], torch.stack(predictions)

    def fit(
        self, columns: Columns, rows: torch.Tensor | None = None, targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients and intercepts from one space; of all rows and targets, or some."""
        index = torch.arange(len(self.X)) if rows is None else rows
        Y = self.Y[index] if targets is None else self.Y[index][:, targets]
        model = clone(self.estimator)
        options = {}
        if self.groups is not None and (name := groups_parameter(model)):
            options[name] = self.groups[index.numpy()]
        model.fit(self.X[index][:, columns].numpy(), Y.numpy(), **options)
        if not hasattr(model, "coef_") or not hasattr(model, "intercept_"):
            raise TypeError(
                f"{type(model).__name__} has no coef_ and intercept_; give a linear model such as RidgeCV() as "
                "estimator."
            )
        coef = to_tensor(model.coef_, dtype=self.X.dtype).reshape(Y.shape[1], len(columns))
        intercept = np.broadcast_to(np.asarray(model.intercept_, dtype=float).reshape(-1), Y.shape[1])
        return coef, torch.from_numpy(intercept.copy()).to(self.X.dtype)
