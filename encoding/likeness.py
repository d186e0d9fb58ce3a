"""Brain-likeness over space and time: how well layers predict, and whether their order is that of the brain.

Three scores of a layered model, from one evaluation of all its layers: the encoding score (how well), the spatial
score (whether deeper layers fit areas farther along the hierarchy) and the temporal score (whether deeper layers fit
later responses). Layers are the models of a :class:`~cerebridge.encoding.Result`, in the order of their depth.

References
----------
Raugel et al. (2025). Disentangling the factors of convergence between brains and computer vision models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from .layermatrices import labels_of, layer_by_area, layer_by_time, scoring_of
from .ordering import correlation, order_p, resampled
from .results import Result, mean_of_known

Array = NDArray[np.float64]

__all__ = ["encoding_score", "half_time", "layer_by_area", "layer_by_time", "spatial_score", "temporal_score"]


def encoding_score(result: Result, by: str = "region") -> pd.DataFrame:
    """How well the layers predict each area: the best layer, chosen on other folds than it is scored on.

    Parameters
    ----------
    result
        Scores of layers (models) on units, with at least two splits.
    by
        Label of units that names their area; without it all units are one.

    Returns
    -------
    pandas.DataFrame
        One row an area: ``score``, mean over units and folds of the layer that is best on the other folds;
        ``layer``, the one that is best over all folds, and ``layer_score``, which was used to choose it and is
        therefore too high by some of the noise; ``n_units``. Folds share training rows, so that even ``score`` lies a
        little above zero where there is only noise (0.03 of 0.05 in simulation); a layer chosen within the training
        rows, as :class:`cerebridge.encoding.LayerSelectionCV` does, has no such bias.

    Examples
    --------
    >>> from cerebridge import encoding, neuro
    >>> brain = neuro.simulate(n_stimuli=60, n_units=4, random_state=0)
    >>> result = encoding.evaluate(encoding.RidgeCV(), {"one": brain, "two": brain[:, :2]}, brain, cv=3)
    >>> encoding.likeness.encoding_score(result)["layer"].tolist()
    ['one']
    """
    scores = result.score
    if scores.sizes["split"] < 2:
        raise ValueError(
            "the best layer is chosen on other folds than it is scored on; give at least two splits."
        )
    labels = labels_of(scores, by) if by in scores.coords else np.full(scores.sizes["unit"], "all")
    rows = []
    for area in pd.unique(labels):
        by_fold = mean_of_known(scores.values[:, :, labels == area], 2)
        folds = range(by_fold.shape[1])
        honest = [by_fold[np.argmax(mean_of_known(np.delete(by_fold, fold, 1), 1)), fold] for fold in folds]
        mean = mean_of_known(by_fold, 1)
        rows.append(
            {
                by: area,
                "score": float(mean_of_known(np.array(honest), 0)),
                "layer": str(scores["model"].values[np.argmax(mean)]),
                "layer_score": float(mean.max()),
                "n_units": int((labels == area).sum()),
            }
        )
    return pd.DataFrame(rows)


def spatial_score(
    result: Result,
    positions: Mapping[Any, float] | str,
    *,
    by: str = "region",
    depths: ArrayLike | None = None,
    alpha: float | None = 0.05,
    n_bootstrap: int = 1000,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Whether deeper layers fit areas farther along the hierarchy: correlation of best layer and position.

    Parameters
    ----------
    result
        Scores of layers (models) on units; with ``permutations``, so that areas which no layer predicts are left out.
    positions
        Place of every area in the hierarchy, or the name of the area to measure from: then the distance of the
        areas' centres (``x``, ``y``, ``z``) from its own.
    by
        Label of units that names their area.
    depths
        Depth of every layer; default its number.
    alpha
        Areas are used where any layer predicts any unit with a family-wise p below; ``None`` uses all.
    n_bootstrap
        Resamplings of people (where units have two or more subjects), else of the units of every area.
    random_state
        Seeds them, and orders of areas that are too many to enumerate.

    Returns
    -------
    xarray.Dataset
        Along ``area``: ``best_layer``, ``depth``, ``position``, ``score`` (of that layer), ``p`` (whether any layer
        predicts it) and ``used``. As single values: ``correlation`` with its 95 % interval ``low`` and ``high``,
        and ``p_order``, how often areas in another order are correlated at least as much, on either side.

    Raises
    ------
    ValueError
        If fewer than three areas are left, an area has no position, or areas are to be selected without p.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding, neuro
    >>> layers = {f"layer {k}": np.random.default_rng(k).standard_normal((80, 4)) for k in range(3)}
    >>> brain = neuro.simulate(dict(zip(["V1", "V4", "IT"], layers.values())), n_units=12, snr=4, random_state=0)
    >>> features = {name: brain[:, :4].copy(data=layer) for name, layer in layers.items()}
    >>> result = encoding.evaluate(encoding.RidgeCV(), features, brain, cv=3, permutations=100)
    >>> score = encoding.likeness.spatial_score(result, {"V1": 0.0, "V4": 1.0, "IT": 2.0}, n_bootstrap=10)
    >>> score["best_layer"].values.tolist(), round(float(score["correlation"]), 2)
    (['layer 0', 'layer 1', 'layer 2'], 1.0)
    """
    labels = labels_of(result.score, by)
    areas = pd.unique(labels)
    place = _positions(result, positions, labels, areas)
    table = _profile(result, [np.flatnonzero(labels == area) for area in areas], alpha, areas, "area")
    depth = _depths(result, depths)
    used = table["used"].values

    def score(by_unit: Array, groups: Sequence[NDArray[np.intp]]) -> float:
        best = [np.argmax(mean_of_known(by_unit[:, group], 1)) for group in groups]
        return correlation(depth[best], place[used])

    groups = [np.flatnonzero(labels == area) for area, keep in zip(areas, used, strict=True) if keep]
    table = table.assign(
        position=("area", place), depth=("area", depth[table["best_index"].values])
    ).drop_vars("best_index")
    return _with_score(
        table, table["depth"].values[used], place[used], result, groups, score, n_bootstrap, random_state
    )


def temporal_score(
    result: Result,
    *,
    depths: ArrayLike | None = None,
    alpha: float | None = 0.05,
    n_bootstrap: int = 1000,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Whether deeper layers fit later responses: correlation of a layer's depth and the time of its highest score.

    Parameters
    ----------
    result
        Scores of layers (models) on channels × time bins.
    depths, alpha, n_bootstrap, random_state
        As for :func:`spatial_score`, with layers for areas and channels for units.

    Returns
    -------
    xarray.Dataset
        Along ``model``: ``time`` of the highest score (seconds, middle of the bin), ``score`` there, ``depth``,
        ``p`` and ``used``. As single values ``correlation``, ``low``, ``high`` and ``p_order``.

    Raises
    ------
    ValueError
        If fewer than three layers are left, units have no times, or layers are to be selected without p.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding, neuro
    >>> layers = [np.random.default_rng(k).standard_normal((80, 4)) for k in range(3)]
    >>> time = {"time_bin_start": [0.0, 0.1, 0.2], "time_bin_end": [0.1, 0.2, 0.3]}
    >>> stimuli, sensors = {"stimulus_id": np.arange(80)}, {"neuroid_id": list("abcd")}
    >>> brain = neuro.assemble(
    ...     np.stack(layers, 2), presentation=stimuli, neuroid=sensors, time_bin=time, modality="meg", units="T"
    ... )
    >>> features = {f"layer {k}": brain.isel(time_bin=k, drop=True) for k in range(3)}
    >>> result = encoding.evaluate(encoding.RidgeCV(), features, brain, cv=3, permutations=100)
    >>> score = encoding.likeness.temporal_score(result, n_bootstrap=10)
    >>> score["time"].values.round(2).tolist(), round(float(score["correlation"]), 2)
    ([0.05, 0.15, 0.25], 1.0)
    """
    matrix = layer_by_time(result)
    middle = (matrix["time_bin_start"].values + matrix["time_bin_end"].values) / 2
    p, used = _predicted(result, alpha)
    depth = _depths(result, depths)
    peak = np.argmax(np.nan_to_num(matrix.values, nan=-np.inf), axis=1)
    table = xr.Dataset(
        {
            "time": ("model", middle[peak]),
            "score": ("model", matrix.values[np.arange(len(peak)), peak]),
            "depth": ("model", depth),
            "p": ("model", p),
            "used": ("model", used),
        },
        {"model": matrix["model"].values},
        scoring_of(result),
    )
    starts = result.score["time_bin_start"].values
    at = np.searchsorted(matrix["time_bin_start"].values, starts)
    channels = pd.factorize(result.score["neuroid_id"].values)[0]

    def score(by_unit: Array, groups: Sequence[NDArray[np.intp]]) -> float:
        units = np.concatenate(groups)
        counts = np.bincount(at[units], minlength=len(middle))
        sums = np.stack([np.bincount(at[units], row[units], len(middle)) for row in by_unit[used]])
        return correlation(depth[used], middle[np.argmax(sums / np.maximum(counts, 1), axis=1)])

    # a channel is drawn with all its times
    groups = [np.flatnonzero(channels == channel) for channel in range(channels.max() + 1)]
    return _with_score(
        table,
        depth[used],
        middle[peak][used],
        result,
        groups,
        score,
        n_bootstrap,
        random_state,
        whole=True,
    )


def half_time(steps: ArrayLike, scores: ArrayLike) -> float:
    """The first step of training at which a score has come half of its way to the final value.

    Parameters
    ----------
    steps
        When the checkpoints were taken, increasing.
    scores
        Score of each; the way is counted from zero.

    Returns
    -------
    float
        A step; NaN where the final score is not above zero, which has no half.

    Examples
    --------
    >>> from cerebridge.encoding.likeness import half_time
    >>> half_time([0, 10, 100, 1000], [0.0, 0.1, 0.25, 0.4])
    100.0
    """
    when, values = np.asarray(steps, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if when.shape != values.shape or when.ndim != 1 or not when.size or (np.diff(when) <= 0).any():
        raise ValueError(
            f"steps {when.shape} and scores {values.shape} must be two lists of one length, steps increasing."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"the score at step {when[np.argmin(np.isfinite(values))]:g} is missing; leave it out."
        )
    return float(when[np.argmax(values >= values[-1] / 2)]) if values[-1] > 0 else float("nan")


def _profile(
    result: Result, groups: list[NDArray[np.intp]], alpha: float | None, names: Any, dim: str
) -> xr.Dataset:
    """Best layer of every group of units, and whether any layer predicts it."""
    scores = result.unit_scores().values
    means = np.stack([mean_of_known(scores[:, group], 1) for group in groups], axis=1)
    best = np.argmax(np.nan_to_num(means, nan=-np.inf), axis=0)
    p, used = _predicted(result, alpha, groups)
    variables = {
        "best_layer": (dim, result.score["model"].values[best]),
        "best_index": (dim, best),
        "score": (dim, means[best, np.arange(len(best))]),
        "p": (dim, p),
        "used": (dim, used),
    }
    return xr.Dataset(variables, {dim: names}, scoring_of(result))


def _predicted(
    result: Result, alpha: float | None, groups: Sequence[NDArray[np.intp]] | None = None
) -> tuple[Array, NDArray[np.bool_]]:
    """p of every group of units for no prediction by any layer, or of every layer for none of any unit.

    The largest of a layer's scores rules all its units, so that p is corrected over them; over layers it is
    corrected by their number (Bonferroni).
    """
    if "p_max" not in result.dataset:
        if alpha is not None:
            raise ValueError(
                "the result has no p_max, so it is not known what is predicted at all; evaluate with permutations= "
                "(20 a layer at least), or pass alpha=None to use everything."
            )
        n = result.score.sizes["model"] if groups is None else len(groups)
        return np.full(n, np.nan), np.ones(n, dtype=bool)
    p = np.nan_to_num(result.dataset["p_max"].transpose("model", "unit").values, nan=1.0)
    smallest = p.min(1) if groups is None else np.array([p[:, group].min() for group in groups])
    corrected = np.minimum(1.0, smallest * len(p))
    return corrected, np.ones(len(corrected), dtype=bool) if alpha is None else corrected < alpha


def _with_score(
    table: xr.Dataset,
    depth: Array,
    place: Array,
    result: Result,
    groups: list[NDArray[np.intp]],
    score: Callable[[Array, Sequence[NDArray[np.intp]]], float],
    n_bootstrap: int,
    random_state: int | None,
    whole: bool = False,
) -> xr.Dataset:
    """The correlation of depth and place, its interval and its p, beside the table they come from."""
    if len(depth) < 3:
        raise ValueError(
            f"{len(depth)} of {len(table['used'])} are predicted by any layer, and an order needs three; add areas, "
            "layers or permutations (p is corrected over units and layers), or pass alpha=None to use all."
        )
    rng = np.random.default_rng(random_state)
    by_unit = np.nan_to_num(result.unit_scores().values)
    people = pd.factorize(result.score["subject"].values)[0] if "subject" in result.score.coords else None
    draws = [score(by_unit, resampled(groups, people, rng, whole)) for _ in range(n_bootstrap)]
    low, high = np.quantile(draws, [0.025, 0.975]) if draws else (np.nan, np.nan)
    return table.assign(
        correlation=correlation(depth, place),
        low=float(low),
        high=float(high),
        p_order=order_p(depth, place, random_state),
    )


def _positions(result: Result, positions: Any, labels: NDArray[Any], areas: NDArray[Any]) -> Array:
    if not isinstance(positions, str):
        if missing := [area for area in areas if area not in positions]:
            raise ValueError(f"positions has no place for the area {str(missing[0])!r}; give one for each.")
        return np.array([float(positions[area]) for area in areas])
    scores = result.score
    if positions not in areas:
        raise ValueError(f"there is no area {positions!r} to measure from; there are {areas.tolist()}.")
    if absent := sorted({"x", "y", "z"} - set(scores.coords)):
        raise ValueError(
            f"the units have no {absent[0]!r}, so distances are unknown; pass positions as numbers."
        )
    places = np.stack([scores[axis].values for axis in "xyz"], axis=1)
    centres = np.stack([places[labels == area].mean(0) for area in areas])
    return np.linalg.norm(centres - centres[list(areas).index(positions)], axis=1)


def _depths(result: Result, depths: ArrayLike | None) -> Array:
    n = result.score.sizes["model"]
    depth = np.arange(n, dtype=np.float64) if depths is None else np.asarray(depths, dtype=np.float64)
    if depth.shape != (n,):
        raise ValueError(f"depths has shape {depth.shape}, but there are {n} layers; give one number each.")
    return depth
