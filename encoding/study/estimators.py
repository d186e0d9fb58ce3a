"""Encoders that a study names: classes of :mod:`cerebridge.encoding` with their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import isclass, signature
from typing import Any

from ... import encoding
from .validation import allowed

#: the encoder of analyses that name none
RIDGE = {"name": "RidgeCV", "options": {}}


def build_encoder(entry: Mapping[str, Any], settings: Mapping[str, Any], device: str) -> Any:
    """An estimator as the study wants it.

    Parameters
    ----------
    entry
        ``name`` of the class and its ``options``.
    settings
        Of the analysis: ``scoring``, by which hyperparameters are chosen too, ``seed`` and, for ridge, ``alphas``.
    device
        Where it computes.

    Examples
    --------
    >>> from cerebridge.encoding.study.estimators import build_encoder
    >>> build_encoder({"name": "RidgeCV", "options": {"cv": 3}}, {"scoring": "r2", "seed": 0}, "cpu")
    RidgeCV(cv=3, device='cpu')
    """
    kind = _find(entry["name"])
    takes = signature(kind).parameters
    options = {"device": device, "random_state": settings["seed"]}
    if settings["scoring"] in ("pearsonr", "r2"):
        options["scoring"] = settings["scoring"]
    if kind is encoding.RidgeCV and "alphas" in settings:
        options["alphas"] = settings["alphas"]
    options = {name: value for name, value in options.items() if name in takes}
    return kind(**{**options, **entry["options"]})


def encoder_problems(where: str, entry: Mapping[str, Any]) -> Iterator[str]:
    """Say which class or option of an entry of the study does not exist."""
    name = entry["name"]
    try:
        kind = _find(name)
    except AttributeError:
        yield f"{where}.name is {name!r}{allowed(name, _known())}"
        return
    known = list(signature(kind).parameters)
    for option in entry["options"]:
        if option not in known:
            yield f"{where}.options has the unknown key {option!r}{allowed(option, known)}"


def _find(name: str) -> Any:
    """The class with a name, which may lie in a public module."""
    found: Any = encoding
    for part in name.split("."):
        found = getattr(found, part)
    if not (isclass(found) and hasattr(found, "fit") and hasattr(found, "predict")):
        raise AttributeError(name)
    return found


def _known() -> list[str]:
    """Names of all encoders."""
    names = [*encoding.__all__, *(f"readouts.{name}" for name in encoding.readouts.__all__)]
    known = []
    for name in names:
        try:
            _find(name)
        except AttributeError:
            continue
        known.append(name)
    return known
