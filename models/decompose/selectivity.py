"""Units that prefer a category of stimuli, and by how much on stimuli that they were not chosen by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ... import __version__
from ...neuro.assembly import EPOCHED, quoted, validate
from .rows import table_of

Array = NDArray[Any]


def find_selective_units(
    activations: xr.DataArray,
    preferred: Any,
    labels: str | Sequence[Any] = "category",
    *,
    against: Any = None,
    n_folds: int = 2,
    alpha: float = 0.05,
    min_dprime: float = 0.0,
    alternative: Literal["greater", "two-sided"] = "greater",
    random_state: int = 0,
) -> xr.Dataset:
    """Find units that respond more to a category, and how much more to stimuli that they were not chosen by.

    Stimuli are dealt into folds, of the category and of the others alike. Units are chosen on all folds but one
    (Wilcoxon's rank-sum test, false discovery rate over all units) and described on the one left out, so that choosing
    does not flatter their selectivity. Repeats of a stimulus are averaged first and never divided.

    Parameters
    ----------
    activations
        ``presentation × neuroid``.
    preferred
        Label of the category, or a list of labels that make it up.
    labels
        Coordinate along ``presentation``, or one label a row.
    against
        Label, or labels, of the stimuli to compare with; default: all others.
    n_folds
        2 (default): split halves, each used once to choose and once to describe.
    alpha
        False discovery rate below which a unit counts as selective.
    min_dprime
        Smallest d′, where it is chosen, of a unit that counts.
    alternative
        ``"greater"`` (default) or ``"two-sided"``, which finds units that prefer the others, too.
    random_state
        Seed of the folds.

    Returns
    -------
    xarray.Dataset
        ``fold × neuroid``: ``selected``, and on the choosing and (with ``_held_out``) the other stimuli ``dprime``
        (difference of means over the root of the mean variance), ``t`` (Welch), ``selectivity_index`` (difference over
        sum of absolute means) and the rank-sum ``p``; ``p_fdr``. Units that do not vary have 0, and p = 1; those that
        vary between the groups alone have an infinite d′ and t.

    Raises
    ------
    ValueError
        If labels are missing, one of the two groups has fewer than two stimuli a fold, repeats of a stimulus have
        several labels, or values are not finite.

    References
    ----------
    Afraz, Kiani & Esteky (2006). Microstimulation of inferotemporal cortex influences face categorization. Nature 442
    (d′). Baek et al. (2021). Face detection in untrained deep neural networks. Nat Commun 12 (selective units).

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.models import decompose
    >>> values = np.random.default_rng(0).standard_normal((60, 20))
    >>> values[:30, 7] += 3
    >>> stimuli = {"stimulus_id": range(60), "category": np.repeat(["face", "house"], 30)}
    >>> units = {"neuroid_id": range(20)}
    >>> net = neuro.assemble(values, presentation=stimuli, neuroid=units, modality="activation", units="a.u.")
    >>> selective = decompose.find_selective_units(net, "face")
    >>> selective["selected"].values.all(axis=0).nonzero()[0].tolist()
    [7]
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha!r}; give a false discovery rate between 0 and 1.")
    if alternative not in ("greater", "two-sided"):
        raise ValueError(f"alternative={alternative!r} is unknown; use 'greater' or 'two-sided'.")
    if not isinstance(n_folds, int | np.integer) or n_folds < 2:
        raise ValueError(
            f"n_folds is {n_folds!r}; give at least 2, of which one describes what the others chose."
        )
    values, named = _stimuli(activations, read_labels(activations, labels))
    inside = np.isin(named, _listed(preferred))
    outside = ~inside if against is None else np.isin(named, _listed(against)) & ~inside
    for which, group, asked in ((inside, "preferred", preferred), (outside, "against", against)):
        if which.sum() < 2 * n_folds:
            raise ValueError(
                f"{int(which.sum())} stimuli are {group} ({asked if asked is not None else 'all others'!r}; there are "
                f"{few(list(dict.fromkeys(named.tolist())))}); {n_folds} folds need at least {2 * n_folds}."
            )
    folds = _deal(inside, outside, n_folds, random_state)
    per_fold = []
    for fold in range(n_folds):
        choosing = _selectivity(values, inside & (folds != fold), outside & (folds != fold), alternative)
        held = _selectivity(values, inside & (folds == fold), outside & (folds == fold), alternative)
        p_fdr = false_discovery(choosing["p"])
        strength = choosing["dprime"] if alternative == "greater" else np.abs(choosing["dprime"])
        per_fold.append(
            {"selected": (p_fdr < alpha) & (strength >= min_dprime), **choosing, "p_fdr": p_fdr}
            | {f"{name}_held_out": value for name, value in held.items()}
        )
    variables = {
        name: (("fold", "neuroid"), np.stack([each[name] for each in per_fold])) for name in per_fold[0]
    }
    facts = {"preferred": preferred, "against": against, "alpha": alpha, "alternative": alternative}
    facts |= {"n_folds": n_folds, "min_dprime": min_dprime, "random_state": random_state}
    coords = {"fold": np.arange(n_folds), **neuroid_coords(activations)}
    return xr.Dataset(variables, coords, {"provenance": tell(facts, activations)})


def read_labels(activations: xr.DataArray, labels: str | Sequence[Any]) -> Array:
    """Check activations and give one label a presentation.

    Raises
    ------
    ValueError
        If the activations are of another form or not finite, or labels are missing or too few.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.models.decompose.selectivity import read_labels
    >>> read_labels(neuro.simulate(n_stimuli=2, n_units=3, random_state=0), ["a", "b"]).tolist()
    ['a', 'b']
    """
    if validate(activations).dims != EPOCHED:
        raise ValueError(
            f"the activations are {' × '.join(map(str, activations.dims))}; give presentation × neuroid, e.g. the mean "
            "over time bins."
        )
    wrong = ~np.isfinite(activations.values).all(axis=1)
    if wrong.any():
        raise ValueError(f"presentation {int(wrong.argmax())} has NaN or infinite activations; leave it out.")
    if isinstance(labels, str):
        if labels not in activations.coords or activations.coords[labels].dims != ("presentation",):
            along = [str(name) for name, c in activations.coords.items() if c.dims == ("presentation",)]
            raise ValueError(f"there is no coordinate {labels!r} along presentation; there are {few(along)}.")
        labels = activations.coords[labels].values
    given = np.asarray(labels)
    if given.shape != (activations.sizes["presentation"],):
        raise ValueError(
            f"there are {activations.sizes['presentation']} presentations, but labels of the shape {given.shape}."
        )
    if pd.isna(given).any():
        raise ValueError(
            f"the label of presentation {int(pd.isna(given).argmax())} is missing; leave it out."
        )
    return given


def _stimuli(activations: xr.DataArray, labels: Array) -> tuple[Array, Array]:
    """Means over repeats, float64, and the label of each stimulus."""
    ids = activations["stimulus_id"].values
    number = pd.factorize(ids)[0]
    first = np.unique(number, return_index=True)[1]
    mixed = labels != labels[first][number]
    if mixed.any():
        raise ValueError(
            f"repeats of the stimulus {quoted(ids[mixed.argmax()])} have several labels; give them one."
        )
    sums = np.zeros((len(first), activations.shape[1]))
    np.add.at(sums, number, activations.values)
    return sums / np.bincount(number)[:, None], labels[first]


def _deal(inside: Array, outside: Array, n_folds: int, random_state: int) -> Array:
    """A fold for each stimulus, as many of each group in every fold."""
    generator = np.random.default_rng(random_state)
    folds = np.full(len(inside), -1)
    for group in (inside, outside):
        rows = generator.permutation(np.flatnonzero(group))
        folds[rows] = np.arange(len(rows)) % n_folds
    return folds


def _selectivity(values: Array, inside: Array, outside: Array, alternative: str) -> dict[str, Array]:
    """Statistics of every unit between two groups of stimuli."""
    from scipy.stats import mannwhitneyu

    preferred, others = values[inside], values[outside]
    difference = preferred.mean(axis=0) - others.mean(axis=0)
    spread = preferred.var(axis=0, ddof=1), others.var(axis=0, ddof=1)
    total = np.abs(preferred.mean(axis=0)) + np.abs(others.mean(axis=0))
    error = spread[0] / len(preferred) + spread[1] / len(others)
    # a unit that never varies prefers nothing
    constant = np.ptp(np.concatenate([preferred, others]), axis=0) == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "dprime": difference / np.sqrt((spread[0] + spread[1]) / 2),
            "t": difference / np.sqrt(error),
            "selectivity_index": np.divide(difference, total, out=np.zeros_like(total), where=total > 0),
            "p": mannwhitneyu(preferred, others, axis=0, alternative=alternative, method="asymptotic").pvalue,
        }
    return {name: np.where(constant, float(name == "p"), value) for name, value in found.items()}


def false_discovery(p: Array) -> Array:
    """Adjust p-values after Benjamini and Hochberg (1995).

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.decompose.selectivity import false_discovery
    >>> false_discovery(np.array([0.01, 0.04])).tolist()
    [0.02, 0.04]
    """
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(p))


def neuroid_coords(activations: xr.DataArray) -> dict[str, Any]:
    """The labels of units, ready for a dataset's coordinates.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.models.decompose.selectivity import neuroid_coords
    >>> neuroid_coords(neuro.simulate(n_stimuli=2, n_units=3, random_state=0))["neuroid_id"][0]
    'neuroid'
    """
    return {name: ("neuroid", values.to_numpy()) for name, values in table_of(activations, "neuroid").items()}


def tell(facts: dict[str, Any], activations: xr.DataArray) -> str:
    """Provenance of what was computed from activations, as JSON.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.models.decompose.selectivity import tell
    >>> '"alpha": 0.05' in tell({"alpha": 0.05}, neuro.simulate(n_stimuli=2, n_units=3, random_state=0))
    True
    """
    of = activations.attrs.get("provenance", "")
    return json.dumps({**facts, "of": of, "cerebridge": __version__}, default=str)


def _listed(labels: Any) -> list[Any]:
    return list(labels) if isinstance(labels, list | tuple | set | np.ndarray) else [labels]


def few(names: Sequence[Any]) -> str:
    """Name at most eight things.

    Examples
    --------
    >>> from cerebridge.models.decompose.selectivity import few
    >>> few(["face", "body"])
    "'face', 'body'"
    """
    return ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
