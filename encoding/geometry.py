"""Geometry of representations: alignment with input and task, abstraction, separability, dimensions.

Dichotomies split conditions (stimuli, task states) into two halves. Where ``labels`` are given, one dichotomy is
looked at; without, all that are balanced.

References
----------
Bernardi et al. (2020). The geometry of abstraction in the hippocampus and prefrontal cortex. Cell 183. Alleman,
Lindsey & Fusi (2024). Task structure and nonlinearity jointly determine learned representational geometry. ICLR.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from ..neuro.assembly import quoted
from ..neuro.progress import track
from .containers import ndim_of
from .dichotomies import (
    accuracy,
    activity_of,
    balanced_dichotomies,
    best_parallelism,
    by_dichotomy,
    conditions_of,
    crossvalidated,
    folds_of,
    generalisation,
    labels_of_rows,
    linear_classifier,
    mean_activity,
    sides_of_conditions,
    sides_of_rows,
)
from .dimensionality import components_for, participation_ratio, two_nn
from .engine import representations
from .engine.geometry import mean_cosine

__all__ = [
    "components_for",
    "cross_condition_generalisation",
    "kernel_alignment",
    "linear_separability",
    "parallelism_score",
    "participation_ratio",
    "shattering_dimensionality",
    "two_nn",
]


def kernel_alignment(activity: Any, target: Any) -> float:
    """Alignment of the linear kernel of activity with that of a target, or of the input: centred, from 0 to 1.

    Parameters
    ----------
    activity
        Rows × units: numpy, torch, or labelled ``presentation × neuroid``.
    target
        Rows × features, or one class label a row, which stand for one column a class.

    Returns
    -------
    float
        Linear CKA: 1 where the two differ by rotation, shift and scale only.

    Raises
    ------
    ValueError
        If rows differ, values are missing, or nothing varies.

    References
    ----------
    Cristianini et al. (2001). On kernel-target alignment. NeurIPS. Cortes, Mohri & Rostamizadeh (2012). Algorithms for
    learning kernels based on centered alignment. JMLR 13.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import geometry
    >>> codes = np.repeat(np.eye(2), 3, axis=0)
    >>> round(geometry.kernel_alignment(5 + codes, ["a", "a", "a", "b", "b", "b"]), 6)
    1.0
    """

    values = activity_of(activity)
    if ndim_of(target) == 1:
        target = np.eye(len(values))[
            np.unique(labels_of_rows(activity, target, "target"), return_inverse=True)[1]
        ]
    features = activity_of(target)
    if len(features) != len(values):
        raise ValueError(
            f"activity has {len(values)} rows and target {len(features)}; give as many, row by row."
        )
    for name, side in (("activity", values), ("target", features)):
        if not bool((side.amax(dim=0) > side.amin(dim=0)).any()):
            raise ValueError(f"the {name} is the same in all rows, so that its alignment is undefined.")
    same = torch.arange(len(values), device=values.device)[None]
    a, b = (side.to(values.device, torch.float64) for side in (values, features))
    return representations.kernel_alignment([a], [b], same).item()


def parallelism_score(
    activity: Any, labels: Any = None, context: Any = None, *, condition: Any = None
) -> float | xr.DataArray:
    """How parallel the directions are along which a variable is coded in different contexts (Bernardi et al., 2020).

    Parameters
    ----------
    activity
        Rows × units; rows of one condition are averaged.
    labels
        The variable: one of two values for each row, or the name of a coordinate along ``presentation``. Default: all
        balanced dichotomies of the conditions.
    context
        What pairs conditions: within each of its values the difference of the two labels is one direction. Without,
        the pairing of conditions is taken that makes directions most parallel.
    condition
        What the rows are: one value a row, or the name of a coordinate. Default: ``stimulus_id`` of labelled
        activity, else each row is a condition. Not needed with labels and context.

    Returns
    -------
    float or xarray.DataArray
        Mean cosine of the directions, 1 for a factorised code and about 0 for a random one (0 with a direction of
        length 0); along ``dichotomy`` without ``labels``.

    Raises
    ------
    ValueError
        If there are not two labels, a context lacks one of them, or conditions are too many to pair.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import geometry
    >>> cube = np.array([[0.0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]])
    >>> geometry.parallelism_score(cube, labels=[0, 0, 1, 1], context=[0, 1, 0, 1])
    1.0
    """

    values = activity_of(activity).double()
    if labels is None or context is None:
        names, codes = conditions_of(activity, condition)
        means = mean_activity(values, codes)
        if labels is not None:
            return best_parallelism(means, sides_of_conditions(sides_of_rows(activity, labels), codes, names))
        splits = balanced_dichotomies(names)
        scores = [best_parallelism(means, split) for split in splits]
        return by_dichotomy(scores, splits, names, "parallelism score")
    side, contexts = sides_of_rows(activity, labels), labels_of_rows(activity, context, "context")
    directions = []
    for name in pd.unique(contexts):
        ends = [(contexts == name) & (side == k) for k in (0, 1)]
        if not all(end.any() for end in ends):
            raise ValueError(f"context {quoted(name)} has one of the two labels only; leave it out.")
        start, end = (values[torch.as_tensor(rows)].mean(dim=0) for rows in ends)
        directions.append(end - start)
    if len(directions) < 2:
        raise ValueError(
            "there is one context, and directions are compared across contexts; give two at least."
        )
    return float(mean_cosine(torch.stack(directions)))


def cross_condition_generalisation(
    activity: Any, labels: Any = None, context: Any = None, *, condition: Any = None, classifier: Any = None
) -> float | xr.DataArray:
    """Cross-condition generalisation performance (CCGP): a variable read out where the readout never was.

    A linear classifier learns the labels in some conditions and is tested in others (Bernardi et al., 2020).

    Parameters
    ----------
    activity
        Rows × units.
    labels
        As for :func:`parallelism_score`. Default: all balanced dichotomies of the conditions.
    context
        Each of its values is held out in turn. Without, one condition of either side is held out, in all ways.
    condition
        What the rows are: one value a row, or the name of a coordinate. Default: ``stimulus_id`` of labelled
        activity, else each row is a condition. Not needed with labels and context.
    classifier
        scikit-learn estimator; default linear support vector machine on units scaled by the training rows.

    Returns
    -------
    float or xarray.DataArray
        Accuracy (mean of both sides, and over what is held out); chance 0.5, and below it for codes in which the
        variable is inverted.

    Raises
    ------
    ValueError
        If there are not two labels, or one of them has a single condition.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import geometry
    >>> cube = np.array([[0.0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]])
    >>> geometry.cross_condition_generalisation(cube, labels=[0, 0, 1, 1], context=[0, 1, 0, 1])
    1.0
    """

    values, model = activity_of(activity).cpu().numpy(), linear_classifier(classifier)
    if labels is None or context is None:
        names, codes = conditions_of(activity, condition)
        if labels is not None:
            side = sides_of_rows(activity, labels)
            sides_of_conditions(side, codes, names)
            return generalisation(values, side, codes, model)
        splits = balanced_dichotomies(names)
        scores = [
            generalisation(values, split[codes], codes, model) for split in track(splits, "dichotomies")
        ]
        return by_dichotomy(scores, splits, names, "cross-condition generalisation performance")
    side, contexts = sides_of_rows(activity, labels), labels_of_rows(activity, context, "context")
    if len(names := pd.unique(contexts)) < 2:
        raise ValueError("there is one context, and one is held out; give two at least.")
    return float(np.mean([accuracy(values, side, contexts == name, model) for name in names]))


def linear_separability(
    activity: Any,
    labels: Any = None,
    *,
    condition: Any = None,
    groups: Any = None,
    cv: int = 5,
    classifier: Any = None,
) -> float | xr.DataArray:
    """Accuracy of a linear classifier of a dichotomy on held-out rows of the same conditions.

    Parameters
    ----------
    activity
        Rows × units, with repeats of each condition.
    labels
        As for :func:`parallelism_score`. Default: all balanced dichotomies of the conditions.
    condition
        What the rows are: one value a row, or the name of a coordinate. Default: ``stimulus_id`` of labelled
        activity; with ``labels``, the labels.
    groups
        What is held out in turn: runs, sessions. Default: ``cv`` folds, each of neighbouring repeats of every
        condition.
    cv
        Number of folds, at most the repeats of the rarest condition.
    classifier
        scikit-learn estimator; default linear support vector machine on units scaled by the training rows.

    Returns
    -------
    float or xarray.DataArray
        Accuracy (mean of both sides, and over folds), chance 0.5; along ``dichotomy`` without ``labels``.

    Raises
    ------
    ValueError
        If a condition has fewer repeats than there are folds, or a fold lacks a label.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import geometry
    >>> line = np.arange(-10.0, 10)[:, None] + 0.5
    >>> geometry.linear_separability(line + 5 * np.sign(line), labels=line[:, 0] > 0)
    1.0
    """

    values, model = activity_of(activity).cpu().numpy(), linear_classifier(classifier)
    if labels is not None:
        side = sides_of_rows(activity, labels)
        by = side if condition is None else condition
        names, codes = conditions_of(activity, by)
        return crossvalidated(values, side, folds_of(activity, codes, names, groups, cv), model)
    names, codes = conditions_of(activity, condition)
    folds = folds_of(activity, codes, names, groups, cv)
    splits = balanced_dichotomies(names)
    scores = [crossvalidated(values, split[codes], folds, model) for split in track(splits, "dichotomies")]
    return by_dichotomy(scores, splits, names, "linear separability")


def shattering_dimensionality(
    activity: Any, condition: Any = None, *, groups: Any = None, cv: int = 5, classifier: Any = None
) -> float:
    """How much of everything a linear readout can tell: mean separability of all balanced dichotomies.

    Parameters
    ----------
    activity, condition, groups, cv, classifier
        As for :func:`linear_separability`.

    Returns
    -------
    float
        1 where conditions lie in general position, 0.5 where nothing can be read out (Rigotti et al., 2013, Nature;
        Bernardi et al., 2020).

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import geometry
    >>> corners = np.repeat(np.eye(4), 5, axis=0)
    >>> geometry.shattering_dimensionality(corners, condition=np.repeat(list("abcd"), 5))
    1.0
    """
    options = {"condition": condition, "groups": groups, "cv": cv, "classifier": classifier}
    return float(np.mean(linear_separability(activity, **options)))
