"""What an evaluation gives: scores with their ceiling, chance level, p-values, provenance and audit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIMS = ("model", "split", "unit")


class Result:
    """Scores of models on units over splits, with everything that is needed to believe them.

    Parameters
    ----------
    dataset
        ``score`` (model × split × unit) in the unit of its scoring; beside it any of ``ceiling`` (unit, in the
        same unit), ``normalised`` (like ``score``), ``p``, ``p_fdr`` and ``p_max`` (model × unit), ``score_low`` and
        ``score_high``, the limits of a 95 % interval of the mean over splits (model × unit), hyperparameters such as
        ``alpha`` (like ``score``), ``fit_seconds`` (model × split). Along ``unit`` lie the labels of what was
        predicted (``region``, ``x``, ``y``, ``z``, ``time_bin_start``, …). Attributes: ``scoring``, ``chance``,
        ``unit_kind`` and, as dictionaries, ``provenance`` and ``audit``.

    Raises
    ------
    ValueError
        If ``score`` is missing or has other dimensions.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(n_stimuli=40, n_units=3, n_repeats=2, random_state=0)
    >>> result = encoding.evaluate(encoding.RidgeCV(), brain, brain, cv=3)
    >>> result.score.dims
    ('model', 'split', 'unit')
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        if "score" not in dataset or dataset["score"].dims != DIMS:
            raise ValueError(f"a Result needs a variable 'score' with the dimensions {' × '.join(DIMS)}.")
        self.dataset = dataset

    @property
    def score(self) -> xr.DataArray:
        """Scores, model × split × unit."""
        return self.dataset["score"]

    @property
    def audit(self) -> dict[str, Any]:
        """What was fitted on what, overlaps of train and test, selection beside nested score, shuffle control."""
        return _from_json(self.dataset.attrs.get("audit", {}))

    @property
    def provenance(self) -> dict[str, Any]:
        """Hashes of the data, code version, splits, seed, device, dtype."""
        return _from_json(self.dataset.attrs.get("provenance", {}))

    def unit_scores(self, normalised: bool = False) -> xr.DataArray:
        """Mean over splits, model × unit; ``normalised`` gives shares of the ceiling."""
        if normalised and "normalised" not in self.dataset:
            raise ValueError("these scores have no ceiling, so they cannot be normalised.")
        return self.dataset["normalised" if normalised else "score"].mean("split")

    def summary(self, by: str = "region") -> pd.DataFrame:
        """One row a model and region.

        Parameters
        ----------
        by
            The label along ``unit`` that makes the rows; without it all units are one group.

        Returns
        -------
        pandas.DataFrame
            ``score`` is the median over units of the mean over splits; ``low`` and ``high`` a 95 % bootstrap
            interval of that median over units (of one unit: over held-out rows if they were drawn, else over
            splits); then ``ceiling``, ``normalised`` (medians), ``significant`` (share of units with corrected
            p < 0.05), and ``n_units``, how many units have a score.
        """
        scores = self.unit_scores()
        labels = scores.coords[by].values if by in scores.coords else np.full(scores.sizes["unit"], "all")
        rows = []
        for model in scores.coords["model"].values:
            for label in pd.unique(labels):
                here = self.dataset.sel(model=model).isel(unit=np.flatnonzero(labels == label))
                rows.append({"model": str(model), by: label, **_row(here)})
        return pd.DataFrame(rows)

    def plot(self, by: str = "region") -> Figure:
        """Draw the scores of all models against the ceiling.

        Models of the RDMs of people (of one region) are drawn with their tests, RSA over time as courses, and
        everything else with one panel a region.
        """
        from . import plots

        if "time" in self.dataset.dims:
            return plots.plot_courses(self)
        labels = self.dataset.coords[by].values.tolist() if by in self.dataset.coords else []
        if self.dataset.attrs.get("unit_kind") == "rdm" and len(set(labels)) < 2:
            return plots.plot_inference(self)
        return plots.plot_profile(self, by=by)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one netCDF-4 file; :meth:`load` gives an equal result back."""
        from ..neuro.store import save_dataset

        save_dataset(Path(path), self.dataset)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Result:
        """Read what :meth:`save` wrote."""
        from ..neuro.store import load_dataset

        return cls(load_dataset(Path(path)))

    def __repr__(self) -> str:
        """The summary as a table."""
        attrs = self.dataset.attrs
        sizes = ", ".join(f"{self.dataset.sizes[dim]} {dim}s" for dim in DIMS)
        head = f"Result: {attrs.get('scoring', 'score')}, {sizes}, chance {attrs.get('chance', 'unknown')}"
        return f"{head}\n{self.summary().to_string(index=False, float_format=lambda value: f'{value:.3f}')}"


def _from_json(value: Any) -> dict[str, Any]:
    return dict(json.loads(value)) if isinstance(value, str) else dict(value)


def _row(here: xr.Dataset) -> dict[str, float]:
    """Median, interval, ceiling and significance of one model on one group of units."""
    by_unit = here["score"].mean("split").values
    sample = by_unit if by_unit.size > 1 else here["score"].values.ravel()
    low, high = bootstrap_interval(sample, np.median if by_unit.size > 1 else np.mean)
    if by_unit.size == 1 and "score_low" in here:
        low, high = here["score_low"].item(), here["score_high"].item()
    row: dict[str, float] = {"score": median_or_nan(by_unit), "low": low, "high": high}
    if "ceiling" in here:
        row["ceiling"] = median_or_nan(here["ceiling"].values)
        row["normalised"] = median_or_nan(here["normalised"].mean("split").values)
    for name in ("p_fdr", "p"):
        if name in here:
            p = here[name].values
            row["significant"] = float((p < 0.05).sum() / max(1, np.isfinite(p).sum()))
            break
    row["n_units"] = int(np.isfinite(by_unit).sum())
    return row


def median_or_nan(values: Any) -> float:
    """Median of the values that are there, NaN if none is."""
    known = np.ravel(np.asarray(values, dtype=np.float64))
    known = known[~np.isnan(known)]
    return float(np.median(known)) if known.size else float("nan")


def mean_of_known(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean of the scores that are there, NaN where none is."""
    known = ~np.isnan(values)
    total, n = np.where(known, values, 0).sum(axis), known.sum(axis)
    return np.divide(total, n, out=np.full(np.shape(total), np.nan), where=n > 0)


def bootstrap_interval(
    sample: np.ndarray, statistic: Any = np.median, n_resamples: int = 1000, random_state: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of a statistic over resampled values; NaN for fewer than two values."""
    sample = sample[np.isfinite(sample)]
    if sample.size < 2:
        return float("nan"), float("nan")
    rows = np.random.default_rng(random_state).integers(0, sample.size, (n_resamples, sample.size))
    low, high = np.quantile(statistic(sample[rows], axis=1), [0.025, 0.975])
    return float(low), float(high)
