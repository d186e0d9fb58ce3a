"""What an estimator does, asked of pipelines too: where its own step is, what it takes, what it can be spared."""

from __future__ import annotations

from inspect import signature
from typing import Any

from sklearn.utils.validation import has_fit_parameter


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
