"""Fits and scores over folds: of one model, and of the same model where chance alone rules."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone

from ..neuro.progress import track
from .exchange import Exchange
from .pipelines import groups_parameter, last_step, predicts_in_groups
from .scorers import SCORERS, Scorer, score_units
from .significance import null_scores
from .splits import Splits, stretches

Array = NDArray[Any]
Features = Array | xr.DataArray

#: values of exchanged truth that are fitted side by side, which bounds memory to a few times 8 bytes each
STACKED_VALUES = 4_000_000
#: after so many orders of labels that cannot be learned there is none that can
MOST_DRAWS = 1000


@dataclass
class FoldFit:
    """What one fit on one fold left behind.

    ``nested`` is the score in the unit of the selection, ``compared`` what the scorer was given.
    """

    score: Array
    nested: Array | None
    truth: Array
    prediction: Array
    compared: tuple[Array, ...]
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
    """An estimator, cloned and fitted on the training rows of every fold, scored on the test rows.

    ``selector`` is the score by which the estimator chooses its own hyperparameters, where that is known. ``rows`` is
    the array that was split, ``units`` are the labels of what is predicted.
    """

    estimator: Any
    splits: Splits
    scorer: Scorer
    rows: xr.DataArray
    selector: Scorer | None = None
    units: Mapping[str, tuple[str, Array]] = field(default_factory=dict)
    progress: bool | None = None

    def fits(self, x: Features, truth: Array, name: str) -> list[FoldFit]:
        """All folds, with a progress bar."""
        folds = track(range(len(self.splits)), f"evaluating {name}", show=self.progress)
        return [self.fit(x, truth, k) for k in folds]

    def null(
        self, x: Features, truth: Array, exchange: Exchange, n: int, random_state: int | None, name: str
    ) -> Array:
        """Scores where the truth was exchanged and everything fitted again, permutations × units."""
        alone = getattr(self.estimator, "independent_targets", False) and self.scorer.name in SCORERS
        n_together = max(1, STACKED_VALUES // truth.size) if alone and truth.ndim == 2 else 1

        def score(exchanged: Array) -> Array:
            return mean_over_folds([self.fit(x, exchanged, k).score for k in range(len(self.splits))])

        if truth.ndim == 1:
            exchange = self._learnable(exchange, truth)
        draws = null_scores(score, truth, exchange, n, n_together=n_together, random_state=random_state)
        return np.array(list(track(draws, f"permuting {name}", total=n, show=self.progress)))

    def fit(self, x: Features, truth: Array, k: int) -> FoldFit:
        """One fold."""
        fold = train, test = self.splits.folds[k]
        fitted = clone(self.estimator)
        started = time.perf_counter()
        with warnings.catch_warnings():
            # of units that do not vary the evaluation speaks itself, once and by name
            warnings.filterwarnings("ignore", r"\d+ of \d+ targets ")
            warnings.filterwarnings("ignore", "The groups parameter is ignored")
            fitted.fit(x[train], self._responses(x[train], truth[train]), **self._groups(fitted, train))
        seconds = time.perf_counter() - started
        asked = self._recordings(test) if predicts_in_groups(fitted) else {}
        prediction = np.asarray(fitted.predict(x[test], **asked))
        if truth.ndim == 2:
            prediction = prediction.reshape(truth[test].shape)
            if not np.isfinite(prediction).all():
                raise ValueError(
                    f"{type(fitted).__name__} predicts missing or infinite values in fold {k}; scale the features or "
                    "penalise more."
                )
        selected = _selected(fitted)
        nested = None
        if self.selector is not None and "best_score_" in selected:
            nested = score_units(
                self.selector, *_compared(self.selector, fitted, x[test], prediction, truth, fold)
            )
        compared = _compared(self.scorer, fitted, x[test], prediction, truth, fold)
        score = score_units(self.scorer, *compared)
        return FoldFit(score, nested, truth[test], prediction, compared, seconds, selected)

    def _learnable(self, exchange: Exchange, labels: Array) -> Exchange:
        """Only those orders that leave two classes to learn in every fold, as the true one does."""

        def draw(rng: np.random.Generator) -> Array:
            for _ in range(MOST_DRAWS):
                order = exchange.draw(rng)
                trained = (labels[order[train]] for train, _ in self.splits.folds)
                if all((part != part[0]).any() for part in trained):
                    return order
            raise ValueError(
                f"none of {MOST_DRAWS} exchanges of labels leaves two classes among the training rows of every fold; "
                "use fewer folds, or permutations=0 and control=False."
            )

        return Exchange(draw, exchange.description)

    def _responses(self, x: Features, truth: Array) -> Array | xr.DataArray:
        """Responses with the labels of rows and units, where the features have labels too."""
        if not isinstance(x, xr.DataArray) or truth.ndim != 2:
            return truth
        # exchanged responses lie side by side, each time with the same labels
        units = {name: np.resize(values, truth.shape[1]) for name, (_, values) in self.units.items()}
        labels: dict[str, Any] = {name: ("neuroid", values) for name, values in units.items()}
        along = {str(name): coord for name, coord in x.coords.items() if coord.dims == x.dims[:1]}
        labels |= {name: coord.variable for name, coord in along.items() if name not in labels}
        return xr.DataArray(truth, labels, dims=(x.dims[0], "neuroid"))

    def _groups(self, fitted: Any, train: Array) -> dict[str, Array]:
        """The groups of the training rows for what chooses hyperparameters inside, if it takes any."""
        name = groups_parameter(fitted)
        if name is None:
            return {}
        if predicts_in_groups(fitted):
            return self._recordings(train, name)
        if self.splits.groups is None:
            return {}
        return _several(name, pd.factorize(self.splits.groups[train], sort=True)[0])

    def _recordings(self, rows: Array, name: str = "groups") -> dict[str, Array]:
        """The groups of some rows for what looks back in time: where a fold cuts a recording, another one begins."""
        return _several(name, stretches(self.rows, rows, self.splits.groups))


def _several(name: str, groups: Array) -> dict[str, Array]:
    """An argument, if there is more than one group."""
    return {name: groups} if groups.max() > 0 else {}


def mean_over_folds(scores: Sequence[Array]) -> Array:
    """Mean of the folds that have a score, NaN where none has."""
    stacked = np.stack(scores)
    known = ~np.isnan(stacked)
    total, n = np.where(known, stacked, 0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)


def _compared(
    scorer: Scorer, fitted: Any, x: Features, prediction: Array, truth: Array, fold: tuple[Array, Array]
) -> tuple[Array, ...]:
    """What a scorer compares in a fold: truth, what is predicted, and what is without features if it asks for that."""
    train, test = fold
    if scorer.needs_decision:
        return truth[test, None] == fitted.classes_, _decision(fitted, x)
    return (
        (truth[test], prediction)
        if scorer.null is None
        else (truth[test], prediction, scorer.null(truth[train]))
    )


def _decision(fitted: Any, x: Features) -> Array:
    """How much speaks for each class, rows × classes."""
    respond = getattr(fitted, "decision_function", None) or getattr(fitted, "predict_proba", None)
    if respond is None:
        raise ValueError(
            f"{type(fitted).__name__} only names classes; scoring='roc_auc' needs decision_function or predict_proba, "
            "so use 'accuracy' or another classifier."
        )
    decision = np.asarray(respond(x))
    return np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision


def _selected(fitted: Any) -> dict[str, Any]:
    """Hyperparameters that the last step of a fit chose itself."""
    last = last_step(fitted)[1]
    return {
        name: getattr(last, name) for name in ("alpha_", "best_score_", "best_params_") if hasattr(last, name)
    }
