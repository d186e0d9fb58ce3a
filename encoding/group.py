"""Statistics over people: scores by region, or by voxel or vertex of a common space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .layermatrices import labels_of, scoring_of
from .results import Result, mean_of_known, median_or_nan
from .significance import false_discovery_rate

Array = NDArray[np.float64]

__all__ = ["group_statistics", "roi_summary"]

#: what an image of voxels needs to know
PLACE = ("affine", "volume_shape")
#: signs are enumerated for up to so many people, and drawn beyond
MOST_PEOPLE = 12


def roi_summary(results: Result | Mapping[str, Result], by: str = "region") -> pd.DataFrame:
    """Scores by person, model and region of interest.

    Parameters
    ----------
    results
        A result of each person by name, or one whose units carry ``subject``.
    by
        Label of units that names their region.

    Returns
    -------
    pandas.DataFrame
        ``subject``, ``model``, the region; ``mean`` and ``median`` over its units of the mean over folds;
        ``normalised``, the median share of the ceiling, where there is one; ``significant``, the share of units with
        corrected p < 0.05, where there are p; ``n_units`` with a score.

    Raises
    ------
    ValueError
        If units lack the label.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(n_stimuli=40, n_units=4, random_state=0)
    >>> result = encoding.evaluate(encoding.RidgeCV(), brain, brain, cv=3)
    >>> encoding.group.roi_summary({"one": result, "two": result}, by="neuroid_id").shape
    (8, 6)
    """
    rows = []
    for subject, part in _people(results).items():
        dataset = part.dataset
        labels = labels_of(part.score, by)
        for model in dataset["model"].values:
            for region in pd.unique(labels):
                here = dataset.sel(model=model).isel(unit=np.flatnonzero(labels == region))
                scores = mean_of_known(here["score"].values, 0)
                row = {"subject": subject, "model": str(model), by: region}
                row |= {"mean": float(mean_of_known(scores, 0)), "median": median_or_nan(scores)}
                if "normalised" in here:
                    row["normalised"] = median_or_nan(mean_of_known(here["normalised"].values, 0))
                if "p_fdr" in here:
                    p = here["p_fdr"].values
                    row["significant"] = float((p < 0.05).sum() / max(1, np.isfinite(p).sum()))
                rows.append(row | {"n_units": int(np.isfinite(scores).sum())})
    return pd.DataFrame(rows)


def group_statistics(
    results: Result | Mapping[str, Result],
    by: str | Sequence[str] = "region",
    *,
    chance: float | None = None,
    permutations: int = 10_000,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Whether people's scores are above chance, for every model and place, by flipping signs.

    Under the null hypothesis a person's distance from chance could as well have the other sign. Signs are flipped for
    all places of a person at once, so that the largest t of each draw corrects for the number of places.

    Parameters
    ----------
    results
        A result of each person by name, or one whose units carry ``subject``; people may lack some places.
    by
        Labels of units that name the place which is the same in all people: ``"region"`` (its units are averaged),
        ``("i", "j", "k")`` for voxels and ``("hemisphere", "vertex")`` for vertices of a common space.
    chance
        What scores are compared with; default the chance level of the results.
    permutations
        Draws of signs where there are more than twelve people; for fewer all signs are enumerated.
    random_state
        Seeds the draws.

    Returns
    -------
    xarray.Dataset
        ``model × unit``: ``mean``, ``sem``, ``t``, one-sided ``p``, ``p_fdr`` and ``p_max`` (family-wise over units of
        a model), ``n_subjects``. Missing where fewer than two people have the place. ``subject_scores``,
        ``subject × model × unit``. The smallest possible p is one in two to the number of people.

    Raises
    ------
    ValueError
        If there are fewer than two people, models differ between them, or units lack a label.

    References
    ----------
    Nichols & Holmes (2002). Nonparametric permutation tests for functional neuroimaging. Hum Brain Mapp 15.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> people = {}
    >>> for seed in range(6):
    ...     brain = neuro.simulate(n_stimuli=60, n_units=3, random_state=seed)
    ...     people[f"S{seed}"] = encoding.evaluate(encoding.RidgeCV(), brain, brain, cv=3)
    >>> group = encoding.group.group_statistics(people, by="neuroid_id")
    >>> group["p_max"].round(3).values.tolist()
    [[0.016, 0.016, 0.016]]
    """
    people = _people(results)
    if len(people) < 2:
        raise ValueError(
            f"there is {len(people)} person; statistics over people need two at least: pass a result of each by name, "
            "or one with units of several subjects."
        )
    labels = [by] if isinstance(by, str) else list(by)
    scores, places = _common(people, labels)
    first = next(iter(people.values()))
    level = float(first.dataset.attrs.get("chance", 0.0)) if chance is None else chance
    signs = _signs(len(people), permutations, random_state)
    tested = [_sign_flips(scores[:, model] - level, signs) for model in range(scores.shape[1])]
    variables: dict[str, Any] = {
        name: (("model", "unit"), np.stack([part[name] for part in tested])) for name in tested[0]
    }
    variables["mean"] = (("model", "unit"), mean_of_known(scores, 0))
    variables["subject_scores"] = (("subject", "model", "unit"), scores)
    coords: dict[str, Any] = {
        "subject": list(people),
        "model": first.dataset["model"].values,
        **{name: ("unit", places[name].to_numpy()) for name in labels},
    }
    place = {name: first.dataset.attrs[name] for name in PLACE if name in first.dataset.attrs}
    attrs = scoring_of(first) | place | {"chance": level}
    return xr.Dataset(variables, coords, attrs)


def _people(results: Result | Mapping[str, Result]) -> dict[str, Result]:
    """A result of each person."""
    if isinstance(results, Mapping):
        return {str(name): result for name, result in results.items()}
    labels = labels_of(results.score, "subject")
    return {
        str(person): Result(results.dataset.isel(unit=np.flatnonzero(labels == person)))
        for person in pd.unique(labels)
    }


def _common(people: Mapping[str, Result], labels: list[str]) -> tuple[Array, pd.DataFrame]:
    """Scores of people × models × places, NaN where a person lacks a place, and the places."""
    first_name, first = next(iter(people.items()))
    models = first.dataset["model"].values
    tables = {}
    for name, result in people.items():
        if result.dataset["model"].values.tolist() != models.tolist():
            raise ValueError(
                f"{name!r} has other models than {first_name!r}; evaluate the same models in the same order for all."
            )
        by_unit = result.unit_scores()
        index = pd.MultiIndex.from_arrays([labels_of(by_unit, label) for label in labels], names=labels)
        values = pd.DataFrame(by_unit.transpose("unit", "model").values, index=index)
        tables[name] = values.groupby(level=labels, sort=False).mean()
    places = pd.concat([table.iloc[:, :0] for table in tables.values()])
    places = places[~places.index.duplicated()].index
    scores = np.stack([table.reindex(places).to_numpy().T for table in tables.values()])
    return scores, places.to_frame(index=False)


def _signs(n: int, permutations: int, random_state: int | None) -> Array:
    """Signs of people, draws × people; the first draw is the data's own."""
    if n <= MOST_PEOPLE:
        return np.array(list(product([1.0, -1.0], repeat=n)))
    signs = np.random.default_rng(random_state).choice([1.0, -1.0], (permutations + 1, n))
    signs[0] = 1.0
    return signs


def _sign_flips(values: Array, signs: Array) -> dict[str, Array]:
    """t of every place (columns) and how many draws of signs reach it, here or anywhere."""
    known = ~np.isnan(values)
    n = known.sum(0)
    enough = n > 1
    filled = np.where(known, values, 0.0)
    squares = (filled**2).sum(0)
    means = signs @ filled / np.maximum(n, 1)
    spread = np.sqrt(np.maximum(squares / np.maximum(n, 1) - means**2, 0) / np.maximum(n - 1, 1))
    # scores that do not differ at all between people have the spread of their rounding
    spread = np.maximum(spread, 1e-12 * np.sqrt(squares))
    t = np.divide(means, spread, out=np.zeros_like(means), where=spread > 0)
    # rounding must not decide whether a draw reaches the data's own t
    reached = t[0] - 1e-9 * np.maximum(1, np.abs(t[0]))
    p = (t >= reached).mean(0)
    largest = np.where(enough, t, -np.inf).max(1, keepdims=True)
    p_max = (largest >= reached).mean(0)
    p = np.where(enough, p, np.nan)
    return {
        "sem": np.where(enough, spread[0], np.nan),
        "t": np.where(enough, t[0], np.nan),
        "p": p,
        "p_fdr": false_discovery_rate(p),
        "p_max": np.where(enough, p_max, np.nan),
        "n_subjects": n,
    }
