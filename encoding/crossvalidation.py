"""Fits and scores over folds: of one model, and of the same model where chance alone rules."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone

from ..neuro.progress import track
from .cluster import AHEAD, Blocks
from .exchange import Exchange
from .pipelines import (
    exchange_bytes,
    fits_targets_alone,
    groups_parameter,
    last_step,
    predicts_in_groups,
    stack_bytes,
)
from .results import mean_of_known
from .scorers import SCORERS, Scorer, score_units
from .splits import Splits, stretches

Array = NDArray[Any]
Features = Array | xr.DataArray

#: units that are worth a block of their own on another machine
FEWEST_UNITS = 100
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
class Chance:
    """How many times the truth is exchanged between rows, how, and from which seed."""

    exchange: Exchange
    n: int
    random_state: int | None


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

    def fits(self, blocks: Blocks, truth: Array, name: str) -> list[FoldFit]:
        """All folds, with a progress bar; shared data of ``blocks`` are this, the features and the truth."""
        portions = self._portions(truth, blocks)
        items = [(k, portion) for k in range(len(self.splits)) for portion in portions]
        done = track(blocks.map(_fit_part, items), f"evaluating {name}", len(items), self.progress)
        return [_joined(list(islice(done, len(portions)))) for _ in self.splits.folds]

    def null(self, blocks: Blocks, x: Features, truth: Array, chance: Chance, name: str) -> Array:
        """Scores where the truth was exchanged and everything fitted again, permutations × units."""
        n_together = 1
        if self._fits_units_alone(truth):
            n_together = max(1, stack_bytes(self.estimator) // exchange_bytes(np.shape(x), truth))
            n_together = min(
                n_together, -(-chance.n // (AHEAD * blocks.n_threads)) if blocks.client else chance.n
            )
        exchange = self._learnable(chance.exchange, truth) if truth.ndim == 1 else chance.exchange
        rng = np.random.default_rng(chance.random_state)
        orders = (exchange.draw(rng) for _ in range(chance.n))
        stacks = iter(lambda: list(islice(orders, n_together)), [])
        scores = (row for stack in blocks.map(_null_part, stacks) for row in stack)
        return np.array(list(track(scores, f"permuting {name}", chance.n, self.progress)))

    def _fits_units_alone(self, truth: Array) -> bool:
        """Whether the score of a unit is the same whatever other units are fitted with it."""
        return truth.ndim == 2 and self.scorer.name in SCORERS and fits_targets_alone(self.estimator)

    def _portions(self, truth: Array, blocks: Blocks) -> list[slice]:
        """Units that are fitted together: all, but where several workers can share them."""
        if blocks.client is None or not self._fits_units_alone(truth):
            return [slice(None)]
        wanted = -(-AHEAD * blocks.n_threads // len(self.splits))
        step = max(FEWEST_UNITS, -(-truth.shape[1] // wanted))
        return [slice(start, start + step) for start in range(0, truth.shape[1], step)]

    def fit(self, x: Features, truth: Array, k: int, units: slice = slice(None)) -> FoldFit:
        """One fold, of all units or some."""
        fold = train, test = self.splits.folds[k]
        truth = truth[:, units] if truth.ndim == 2 else truth
        fitted = clone(self.estimator)
        started = time.perf_counter()
        with warnings.catch_warnings():
            # of units that do not vary the evaluation speaks itself, once and by name
            warnings.filterwarnings("ignore", r"\d+ of \d+ targets ")
            warnings.filterwarnings("ignore", "The groups parameter is ignored")
            fitted.fit(
                x[train], self._responses(x[train], truth[train], units), **self._groups(fitted, train)
            )
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

    def _responses(self, x: Features, truth: Array, part: slice) -> Array | xr.DataArray:
        """Responses with the labels of rows and units, where the features have labels too."""
        if not isinstance(x, xr.DataArray) or truth.ndim != 2:
            return truth
        # exchanged responses lie side by side, each time with the same labels
        units = {name: np.resize(values[part], truth.shape[1]) for name, (_, values) in self.units.items()}
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
        groups = pd.factorize(self.splits.groups[train], sort=True)[0]
        # a closed form that leaves single rows out does as groups of single rows ask
        alone = isinstance(getattr(last_step(fitted)[1], "cv", None), str) and np.bincount(groups).max() == 1
        return {} if alone else _several(name, groups)

    def _recordings(self, rows: Array, name: str = "groups") -> dict[str, Array]:
        """The groups of some rows for what looks back in time: where a fold cuts a recording, another one begins."""
        return _several(name, stretches(self.rows, rows, self.splits.groups))


def _several(name: str, groups: Array) -> dict[str, Array]:
    """An argument, if there is more than one group."""
    return {name: groups} if groups.max() > 0 else {}


def _fit_part(
    crossvalidation: CrossValidation, x: Features, truth: Array, part: tuple[int, slice]
) -> FoldFit:
    return crossvalidation.fit(x, truth, *part)


def _null_part(crossvalidation: CrossValidation, x: Features, truth: Array, orders: list[Array]) -> Array:
    """Scores of some exchanges of the truth, laid side by side as further columns; exchanges × units."""
    exchanged = truth[orders[0]] if len(orders) == 1 else np.concatenate([truth[o] for o in orders], axis=1)
    scores = [crossvalidation.fit(x, exchanged, k).score for k in range(len(crossvalidation.splits))]
    return mean_over_folds(scores).reshape(len(orders), -1)


def _joined(parts: list[FoldFit]) -> FoldFit:
    """One fold from the fits of its units."""
    if len(parts) == 1:
        return parts[0]
    joined = {
        name: _side_by_side([getattr(part, name) for part in parts])
        for name in ("score", "truth", "prediction")
    }
    nested = None if parts[0].nested is None else np.concatenate([part.nested for part in parts])
    compared = tuple(map(_side_by_side, zip(*(part.compared for part in parts), strict=True)))
    selected = {
        name: np.concatenate([np.atleast_1d(part.selected[name]) for part in parts])
        for name in parts[0].selected
    }
    seconds = sum(part.seconds for part in parts)
    return FoldFit(**joined, nested=nested, compared=compared, seconds=seconds, selected=selected)


def _side_by_side(arrays: Sequence[Array]) -> Array:
    return np.concatenate(arrays, axis=-1)


def mean_over_folds(scores: Sequence[Array]) -> Array:
    """Mean of the folds that have a score, NaN where none has."""
    return mean_of_known(np.stack(scores), 0)


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
