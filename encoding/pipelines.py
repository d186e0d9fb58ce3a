"""What an estimator does, asked of pipelines too: where its own step is, what it takes, what it can be spared."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.utils.validation import has_fit_parameter

from ..models.memory import parse_bytes

#: scikit-learn's estimators that fit every target by itself
ALONE = (Ridge, LinearRegression, KernelRidge, KNeighborsRegressor)
#: bytes for targets that are fitted side by side where nobody set a limit
STACK = 2**28


def last_step(estimator: Any) -> tuple[str, Any]:
    """What parameters of the estimator at the end of nested pipelines are prefixed with, and that estimator.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from cerebridge.encoding.pipelines import last_step
    >>> last_step(make_pipeline(StandardScaler(), Ridge()))
    ('ridge__', Ridge())
    """
    prefix = ""
    while getattr(estimator, "steps", None):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return prefix, estimator


def groups_parameter(estimator: Any) -> str | None:
    """The name by which ``fit`` takes groups, ``None`` if it takes none."""
    prefix, last = last_step(estimator)
    # scikit-learn's searches take groups without naming them
    takes = has_fit_parameter(last, "groups") or (hasattr(last, "cv") and hasattr(last, "refit"))
    return f"{prefix}groups" if takes else None


def predicts_in_groups(estimator: Any) -> bool:
    """Whether predictions depend on which rows belong together, as those of models with lags do."""
    return "groups" in signature(last_step(estimator)[1].predict).parameters


def takes_labels(estimator: Any) -> bool:
    """Whether any part of an estimator reads the labels of what it is given, as bands and delays do."""
    parts = [step for _, step in getattr(estimator, "steps", None) or []]
    parts += [getattr(estimator, "estimator", None)]
    return bool(getattr(estimator, "takes_labels", False)) or any(map(takes_labels, filter(None, parts)))


def fits_targets_alone(estimator: Any) -> bool:
    """Whether every target is fitted by itself, so that further ones beside it change nothing but rounding.

    Ours say so; of scikit-learn's it is known of linear and kernel ridge, least squares and nearest neighbours, and of
    steps before them that never see the targets.

    Examples
    --------
    >>> from sklearn.cross_decomposition import PLSRegression
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from cerebridge.encoding.pipelines import fits_targets_alone
    >>> fits_targets_alone(make_pipeline(StandardScaler(), Ridge())), fits_targets_alone(PLSRegression())
    (True, False)
    """
    steps = getattr(estimator, "steps", None)
    if steps:
        return fits_targets_alone(steps[-1][1]) and all(_ignores_targets(step) for _, step in steps[:-1])
    if type(estimator) in ALONE:
        return np.ndim(getattr(estimator, "alpha", 0.0)) == 0
    return bool(getattr(estimator, "independent_targets", False))


def stack_bytes(estimator: Any) -> int:
    """Bytes that may be taken by targets fitted side by side: the memory that the estimator was given, if any."""
    memory = getattr(last_step(estimator)[1], "memory", None)
    return STACK if memory is None else parse_bytes(memory)


def exchange_bytes(features: tuple[int, ...], truth: NDArray[Any]) -> int:
    """Bytes that a whole truth takes beside others: itself, copies of its rows, weights, and what chose among them."""
    n_features = int(np.prod(features[1:]))
    return int(truth.itemsize * truth.shape[1] * (5 * len(truth) + 2 * n_features + 200))


def _ignores_targets(step: Any) -> bool:
    """Whether a transformer never looks at the targets, as far as that is known."""
    _, package, *_ = (*type(step).__module__.split("."), "")
    known = package in ("preprocessing", "decomposition", "random_projection")
    if type(step).__module__.startswith("sklearn.") and known:
        return type(step).__name__ != "TargetEncoder"
    return step in (None, "passthrough") or bool(getattr(step, "independent_targets", False))
