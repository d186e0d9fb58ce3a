"""Brain-Score's ceilings by our engine: what repeats of a stimulus, or people, agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ..engine.dissimilarity import correlation
from ..engine.moments import Split
from ..engine.scoring import pearsonr
from ..engine.similarity import paired_similarities, prepare
from .sides import STIMULUS, as_table, average_units, labels_along, score_class, unit_scores
from .splits import CrossValidation

Array = NDArray[np.float64]

#: values of repeats worked on at once
CHUNK = 2**24
#: a correlation over fewer stimuli says nothing
FEWEST = 3


@dataclass(frozen=True)
class InternalConsistency:
    """Correlation over stimuli of the averages of two halves of the repeats, Spearman-Brown corrected.

    It is the reliability of the average of all repeats: the highest share of variance that a model can explain. The
    highest correlation is its square root. Missing values are left out of their averages.

    Parameters
    ----------
    split_coord
        The coordinate that counts repeats; its values are halved ten times.
    crossvalidation
        How.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(n_stimuli=50, n_units=5, n_repeats=8, random_state=0)
    >>> ceiling = encoding.brainscore.load_metric("internal_consistency")(brain)
    >>> 0 < ceiling.item() < 1, ceiling.raw.shape
    (True, (10, 5))
    """

    split_coord: str = "repetition"
    crossvalidation: CrossValidation = field(
        default_factory=lambda: CrossValidation(
            train_size=0.5, stratification_coord=None, unique_split_values=True
        )
    )

    def __call__(self, assembly: xr.DataArray) -> Any:
        """Estimate the ceiling of a recording with its single repeats.

        Raises
        ------
        ValueError
            If repeats are missing or not counted, or halves share too few stimuli.
        """
        table = as_table(assembly, "recording")
        splits = CrossValidation(**{**vars(self.crossvalidation), "split_coord": self.split_coord}).draw(
            table
        )
        stimuli = torch.from_numpy(pd.factorize(table[STIMULUS].values)[0])
        step = max(1, CHUNK // len(stimuli))
        values = torch.from_numpy(table.values.astype(np.float64))
        parts = [
            _halves_agree(values[:, start : start + step], stimuli, splits)
            for start in range(0, values.shape[1], step)
        ]
        return average_units(unit_scores(np.concatenate(parts, axis=1), table))


@dataclass(frozen=True)
class RSACeiling:
    """Spearman's correlation of every person's RDM with the mean of all (upper bound), averaged.

    ``lower_bound_loo`` among the attributes is that with the mean of the others (Nili et al., 2014, PLoS Comput Biol).

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(n_stimuli=10, n_units=12, random_state=0)
    >>> people = brain.assign_coords(subject=("neuroid", np.repeat(["a", "b"], 6)))
    >>> ceiling = encoding.brainscore.load_metric("rsa_ceiling")(people)
    >>> ceiling.item() > ceiling.attrs["lower_bound_loo"]
    True
    """

    def __call__(self, assembly: xr.DataArray) -> Any:
        """Estimate the ceiling of a recording with ``subject`` along its neuroids.

        Raises
        ------
        ValueError
            If there are no people, or only one.
        """
        table = as_table(assembly, "recording")
        labels = labels_along(table, "subject", "neuroid")
        if labels is None:
            raise ValueError(
                "the coordinate 'subject' is missing along 'neuroid'; say whose neuroids they are."
            )
        people = np.unique(labels)
        if len(people) < 2:
            raise ValueError(
                f"there is one subject ({people[0]!r}), but a ceiling of RDMs compares people; give two at least."
            )
        values = torch.from_numpy(np.array(table.values, dtype=np.float64))
        rdms = torch.stack([correlation(values[:, labels == person]) for person in people])
        if bool(rdms.isnan().any()):
            raise ValueError("the pattern of some stimulus is missing or constant in a person; leave it out.")
        total = rdms.sum(0)
        others = (total - rdms) / (len(people) - 1)
        own = prepare(rdms, "spearman")
        upper = paired_similarities(own, prepare(total[None], "spearman"), "spearman")
        lower = paired_similarities(own, prepare(others, "spearman"), "spearman")
        score = score_class(assembly)(float(upper.mean()))
        score.attrs["lower_bound_loo"] = float(lower.mean())
        return score


def _halves_agree(values: torch.Tensor, stimuli: torch.Tensor, splits: Sequence[Split]) -> Array:
    """Corrected correlation of the halves of every split and neuroid."""
    found = []
    for split in splits:
        first, second = (_average(values[rows], stimuli[rows], int(stimuli.max()) + 1) for rows in split)
        both = torch.isfinite(first) & torch.isfinite(second)
        fewest = int(both.sum(0).min())
        if fewest < FEWEST:
            raise ValueError(
                f"halves of the repeats share {fewest} stimuli in some neuroid; a ceiling needs {FEWEST} at least, "
                "each with repeats in both halves."
            )
        r = _correlation(first, second, both).numpy()
        found.append(2 * r / (1 + r))
    return np.array(found)


def _average(values: torch.Tensor, stimuli: torch.Tensor, n_stimuli: int) -> torch.Tensor:
    """Mean of what is there over the rows of each stimulus, NaN where there is nothing."""
    there = torch.isfinite(values)
    sums, counts = (values.new_zeros(n_stimuli, values.shape[1]) for _ in range(2))
    sums.index_add_(0, stimuli, torch.where(there, values, 0))
    counts.index_add_(0, stimuli, there.to(values.dtype))
    return sums / counts


def _correlation(a: torch.Tensor, b: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
    """Correlation of columns over the rows that both have; one pass where nothing is missing."""
    if bool(both.all()):
        return pearsonr(a, b)
    columns = [pearsonr(x[rows, None], y[rows, None]) for x, y, rows in zip(a.T, b.T, both.T, strict=True)]
    return torch.cat(columns)
