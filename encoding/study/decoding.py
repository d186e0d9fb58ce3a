"""The decoding analysis: what was shown, read from the recording; and a map of where it can be read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ...neuro.progress import track
from ..discriminant import ShrinkageLDA
from ..evaluation import evaluate
from ..scorers import find_scorer
from ..splits import Splits, make_splits
from .graph import Inputs
from .threads import threads_for

Array = NDArray[Any]

#: values of a label that mean "nothing was shown"
REST = ("rest", "")
#: coordinates of a unit that a map needs
PLACE = ("neuroid_id", "i", "j", "k", "x", "y", "z", "channel_type", "mne_channel", "region")


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _svm() -> Any:
    from sklearn.svm import LinearSVC

    return make_pipeline(StandardScaler(), LinearSVC(C=0.01))


#: classifiers by their name in study files
CLASSIFIERS: dict[str, Callable[[], Any]] = {"lda": ShrinkageLDA, "logistic": _logistic, "svm": _svm}


def decode(settings: Mapping[str, Any], inputs: Inputs, folder: Path) -> xr.Dataset:
    """Accuracy on held-out rows, and where ``radius`` is set, of the units around each unit.

    Parameters
    ----------
    settings
        The analysis' options and ``seed``.
    inputs
        ``"recording"``.

    Returns
    -------
    xarray.Dataset
        As :func:`cerebridge.encoding.evaluate` gives it; ``map`` lies along ``place``, whose coordinates are those of
        the units with the prefix ``place_``.
    """
    array = chosen_rows(inputs["recording"], settings["target"], settings.get("classes"))
    with threads_for(array.size):
        return _decoded(settings, array)


def _decoded(settings: Mapping[str, Any], array: xr.DataArray) -> xr.Dataset:
    cv, seed = settings.get("cv"), settings["seed"]
    classifier = _classifier(settings["classifier"], array)
    result = evaluate(
        classifier,
        _parts(array, settings.get("by")),
        settings["target"],
        cv=cv,
        groups=settings.get("groups"),
        scoring=settings["scoring"],
        permutations=settings["permutations"],
        random_state=seed,
    ).dataset
    if "radius" not in settings:
        return result
    labels = array.coords[settings["target"]].values
    splits = make_splits(array, cv, settings.get("groups"), labels=labels, random_state=seed)
    values = accuracy_map(classifier, array, labels, splits, settings["radius"], settings["scoring"])
    place = {f"place_{name}": ("place", array.coords[name].values) for name in PLACE if name in array.coords}
    attrs = {
        name: array.attrs[name] for name in ("modality", "affine", "volume_shape") if name in array.attrs
    }
    return result.assign(map=("place", values, {**attrs, "radius": settings["radius"]})).assign_coords(place)


def chosen_rows(array: xr.DataArray, target: str, classes: list[str] | None) -> xr.DataArray:
    """Rows whose label is one of the classes; all that show something by default.

    Raises
    ------
    ValueError
        If there is no such label, or a class does not occur.
    """
    dim = str(array.dims[0])
    if target not in array.coords or array.coords[target].dims != (dim,):
        known = sorted(str(name) for name, coord in array.coords.items() if coord.dims == (dim,))
        raise ValueError(f"the recording has no label {target!r} along its rows; it has {', '.join(known)}.")
    labels = array.coords[target].values.astype(str)
    there = np.unique(labels)
    wanted = [name for name in there if name not in REST] if classes is None else classes
    for name in wanted:
        if name not in there:
            raise ValueError(f"no row has {target} = {name!r}; there are {', '.join(there)}.")
    return array.isel({dim: np.flatnonzero(np.isin(labels, wanted))})


def accuracy_map(
    classifier: Any, array: xr.DataArray, labels: Array, splits: Splits, radius: float, scoring: str
) -> Array:
    """Held-out accuracy of the units within ``radius`` mm of each unit (Kriegeskorte et al., 2006, PNAS).

    Parameters
    ----------
    classifier
        Fitted anew for every neighbourhood and fold.
    array
        Rows × units, with ``x``, ``y``, ``z`` in mm along ``neuroid``.
    labels
        The class of each row.
    splits
        Training and test rows.
    radius
        mm.
    scoring
        Name of a scorer of labels.

    Returns
    -------
    numpy.ndarray
        One accuracy a unit, the mean over folds.

    Raises
    ------
    ValueError
        If the units have no positions.
    """
    from sklearn.neighbors import NearestNeighbors

    missing = [axis for axis in "xyz" if axis not in array.coords]
    if missing:
        raise ValueError(
            f"a map needs the positions x, y, z of the units, and {', '.join(missing)} is missing; leave out 'radius'."
        )
    places = np.stack([array.coords[axis].values for axis in "xyz"], axis=1).astype(float)
    neighbours = NearestNeighbors(radius=radius).fit(places).radius_neighbors(places, return_distance=False)
    score, values = find_scorer(scoring, labels=True).function, array.values
    out = np.empty(len(places))
    for k, units in enumerate(track(neighbours, "mapping")):
        folds = []
        for train, test in splits.folds:
            fitted = clone(classifier).fit(values[np.ix_(train, units)], labels[train])
            folds.append(score(labels[test], fitted.predict(values[np.ix_(test, units)])))
        out[k] = np.mean(folds)
    return out


def _classifier(name: str, array: xr.DataArray) -> Any:
    classifier = CLASSIFIERS[name]()
    if array.ndim == 2:
        return classifier
    return Pipeline([("flat", FunctionTransformer(_flattened)), ("classify", classifier)])


def _flattened(values: Array) -> Array:
    """Units and time bins side by side."""
    return values.reshape(len(values), -1)


def _parts(array: xr.DataArray, by: str | None) -> dict[str, xr.DataArray]:
    """All units, or those of each value of a label."""
    if by is None or by not in array.coords:
        return {"all units": array}
    labels = array.coords[by].values
    return {
        str(label): array.isel(neuroid=np.flatnonzero(labels == label))
        for label in dict.fromkeys(labels.tolist())
    }
