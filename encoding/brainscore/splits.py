"""The splits of Brain-Score's metrics, drawn by scikit-learn with the same seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import quoted
from ..engine.moments import Split
from ..parameters import whole_number
from .sides import STIMULUS, labels_along


@dataclass(frozen=True)
class CrossValidation:
    """How Brain-Score splits stimuli: shuffled ten times, a tenth held out, objects in equal shares on both sides.

    Parameters
    ----------
    splits
        How many.
    train_size, test_size
        Shares or numbers of what is split; without either, 0.9 is for training.
    split_coord
        The coordinate whose values are split.
    stratification_coord
        The coordinate of which both sides hold equal shares; ``None`` for none.
    kfold
        Shuffled folds instead of shuffled splits.
    unique_split_values
        Whether values that occur several times are split as one, such as all stimuli of an object.
    random_state
        Of scikit-learn's splitter.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.brainscore.splits import CrossValidation
    >>> brain = neuro.simulate(n_stimuli=20, n_units=3, random_state=0)
    >>> [split.test.tolist() for split in CrossValidation(2, stratification_coord=None).draw(brain)]
    [[3, 16], [8, 15]]
    """

    splits: int = 10
    train_size: float | int | None = None
    test_size: float | int | None = None
    split_coord: str = STIMULUS
    stratification_coord: str | None = "object_name"
    kfold: bool = False
    unique_split_values: bool = False
    random_state: int | None = 1

    @classmethod
    def of(cls, options: dict[str, Any] | None, **defaults: Any) -> CrossValidation:
        """Take the options that Brain-Score calls ``crossvalidation_kwargs``, over the defaults of a metric.

        Raises
        ------
        TypeError
            If an option is unknown.
        ValueError
            If there are no splits, or sizes are given for folds.
        """
        known = [field.name for field in fields(cls)]
        given = options or {}
        if not isinstance(given, Mapping):
            raise TypeError(f"crossvalidation_kwargs is {given!r}; give a dictionary of {', '.join(known)}.")
        for name in given:
            if name not in known:
                raise TypeError(
                    f"crossvalidation_kwargs has {name!r}, which is no option; there are {', '.join(known)}."
                )
        whole_number(given.get("splits", cls.splits), "splits")
        sizes = [
            name for name in ("train_size", "test_size") if given.get(name) not in (None, defaults.get(name))
        ]
        if given.get("kfold") and sizes:
            raise ValueError(
                f"kfold=True holds every fold out in turn; leave {sizes[0]} out, and give splits=."
            )
        return cls(**{**defaults, **given})

    def draw(self, array: xr.DataArray) -> list[Split]:
        """Training and test rows of every split.

        Raises
        ------
        ValueError
            If a coordinate is missing, the sizes do not fit, or a split would have the same values on both sides.
        """
        codes, values = pd.factorize(self._labels(array, self.split_coord, "split"))
        rows = np.arange(len(codes))
        if self.unique_split_values:
            rows = rows[np.unique(codes, return_index=True)[1][np.argsort(values)]]
        strata = None
        if self.stratification_coord is not None:
            strata = self._labels(array, self.stratification_coord, "stratification")[rows]
        try:
            drawn = list(self._splitter().split(np.zeros(len(rows)), strata))
        except ValueError as error:
            balanced = "" if strata is None else f", balanced by {self.stratification_coord!r},"
            raise ValueError(
                f"{len(rows)} values of {self.split_coord!r} cannot be split{balanced} ({str(error).rstrip('.')}); "
                "give other sizes in crossvalidation_kwargs"
                f"{'' if strata is None else ', or stratification_coord=None'}."
            ) from None
        found = []
        for train, test in ((codes[rows[side]] for side in sides) for sides in drawn):
            both = np.intersect1d(train, test)
            if both.size:
                raise ValueError(
                    f"a split would have {self.split_coord} {quoted(values[both[0]])} in training and test; average "
                    "repeats first, or give unique_split_values=True."
                )
            found.append(Split(*(torch.from_numpy(np.flatnonzero(np.isin(codes, s))) for s in (train, test))))
        return found

    def _splitter(self) -> Any:
        from sklearn.model_selection import KFold, ShuffleSplit, StratifiedKFold, StratifiedShuffleSplit

        stratified = self.stratification_coord is not None
        if self.kfold:
            folds = StratifiedKFold if stratified else KFold
            return folds(n_splits=self.splits, shuffle=True, random_state=self.random_state)
        train_size = 0.9 if self.train_size is None and self.test_size is None else self.train_size
        shuffled = StratifiedShuffleSplit if stratified else ShuffleSplit
        return shuffled(
            n_splits=self.splits,
            train_size=train_size,
            test_size=self.test_size,
            random_state=self.random_state,
        )

    def _labels(self, array: xr.DataArray, name: str, purpose: str) -> NDArray[Any]:
        labels = labels_along(array, name, "presentation")
        if labels is None:
            hint = ", or stratification_coord=None" if purpose == "stratification" else ""
            raise ValueError(
                f"the {purpose} coordinate {name!r} is missing along 'presentation'; add it, or give another one in "
                f"crossvalidation_kwargs{hint}."
            )
        return labels
