"""Fits and scores over folds: of one model, and of the same model where chance alone rules."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from ..neuro.progress import track
from .scorers import SCORERS, Scorer
from .significance import Order, null_scores
from .splits import Splits

Array = NDArray[Any]

#: values of exchanged truth that are fitted side by side, which bounds memory to a few times 8 bytes each
STACKED_VALUES = 4_000_000


@dataclass
class FoldFit:
    """What one fit on one fold left behind."""

    score: Array
    truth: Array
    prediction: Array
    seconds: float
    selected: dict[str, Any]


@dataclass
class ModelRun:
    """Fits of one model, its scores under chance (permutations × units), and what its features were."""

    fits: list[FoldFit]
    null: Array | None
    fingerprint: str
    dtype: str


@dataclass(frozen=True)
class CrossValidation:
    """An estimator, cloned and fitted on the training rows of every fold, scored on the test rows."""

    estimator: Any
    splits: Splits
    scorer: Scorer
    progress: bool | None = None

    def fits(self, x: Array, truth: Array, name: str) -> list[FoldFit]:
        """All folds, with a progress bar."""
        folds = track(range(len(self.splits)), f"evaluating {name}", show=self.progress)
        return [self.fit(x, truth, k) for k in folds]

    def null(
        self, x: Array, truth: Array, order: Order, n: int, random_state: int | None, name: str
    ) -> Array:
        """Scores where the truth was exchanged and everything fitted again, permutations × units."""
        alone = getattr(self.estimator, "independent_targets", False) and self.scorer.name in SCORERS
        n_together = max(1, STACKED_VALUES // truth.size) if alone and truth.ndim == 2 else 1

        def score(exchanged: Array) -> Array:
            return np.mean([self.fit(x, exchanged, k).score for k in range(len(self.splits))], axis=0)

        draws = null_scores(score, truth, order, n, n_together=n_together, random_state=random_state)
        return np.array(list(track(draws, f"permuting {name}", total=n, show=self.progress)))

    def fit(self, x: Array, truth: Array, k: int) -> FoldFit:
        """One fold."""
        train, test = self.splits.folds[k]
        fitted = clone(self.estimator)
        kwargs: dict[str, Any] = {}
        if self.splits.groups is not None and has_fit_parameter(fitted, "groups"):
            kwargs["groups"] = self.splits.groups[train]
        started = time.perf_counter()
        fitted.fit(x[train], truth[train], **kwargs)
        seconds = time.perf_counter() - started
        prediction = self._respond(fitted, x[test])
        if truth.ndim == 2:
            prediction = prediction.reshape(truth[test].shape)
        score = np.asarray(self.scorer.function(truth[test], prediction), dtype=np.float64)
        return FoldFit(np.atleast_1d(score), truth[test], prediction, seconds, _selected(fitted))

    def _respond(self, fitted: Any, x: Array) -> Array:
        respond = fitted.predict
        if self.scorer.needs_decision:
            respond = getattr(fitted, "decision_function", None) or fitted.predict_proba
        return np.asarray(respond(x))


def _selected(fitted: Any) -> dict[str, Any]:
    """Hyperparameters that a fit chose itself: those of the last step that has any."""
    for step in [s for _, s in reversed(getattr(fitted, "steps", []))] or [fitted]:
        found = {
            name: getattr(step, name)
            for name in ("alpha_", "best_score_", "best_params_")
            if hasattr(step, name)
        }
        if found:
            return found
    return {}
