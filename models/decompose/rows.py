"""Rows of activations in, features out: checked, and in the caller's own kind with its labels."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.utils import validation
from torch import Tensor

from ... import __version__
from ...neuro.assembly import assemble

#: scikit-learn's word for "do not look for NaN", which changed in 1.6; ours names the place
ANY_VALUES = {
    next(
        name for name in inspect.signature(validation.check_array).parameters if name.endswith("all_finite")
    ): False
}


def read_rows(estimator: BaseEstimator, X: Any, *, reset: bool) -> Tensor:
    """Check rows × units of ``fit`` (``reset``) or ``transform``, and remember how many units there are.

    Parameters
    ----------
    estimator
        Whose input it is; gets ``n_features_in_`` and, of a labelled array, ``neuroids_``.
    X
        numpy, torch, or labelled ``presentation × neuroid`` or ``time_bin × neuroid``.
    reset
        Whether this is ``fit``.

    Returns
    -------
    torch.Tensor
        float32 as float32 (float16 too), everything else as float64.

    Raises
    ------
    ValueError, TypeError
        If it is no finite table of numbers, or not as wide as the estimator was fitted to.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.decompose import SemiNMF
    >>> from cerebridge.models.decompose.rows import read_rows
    >>> read_rows(SemiNMF(2), np.zeros((3, 4), np.float32), reset=True).dtype
    torch.float32
    """
    if not isinstance(X, xr.DataArray | Tensor):
        if hasattr(validation, "validate_data"):
            X = validation.validate_data(estimator, X, reset=reset, **ANY_VALUES)
        else:
            X = estimator._validate_data(X, reset=reset, **ANY_VALUES)
    tensor = X.detach() if isinstance(X, Tensor) else torch.from_numpy(_numbers(np.asarray(X)))
    name = type(estimator).__name__
    if tensor.ndim != 2 or not tensor.numel():
        raise ValueError(f"{name} takes rows × units, got the shape {tuple(tensor.shape)}; stack or select.")
    if tensor.dtype != torch.float64:
        half = tensor.dtype in (torch.float16, torch.bfloat16, torch.float32)
        tensor = tensor.to(torch.float32 if half else torch.float64)
    if reset:
        estimator.n_features_in_ = tensor.shape[1]
        estimator.neuroids_ = table_of(X, "neuroid") if isinstance(X, xr.DataArray) else None
    elif tensor.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {tensor.shape[1]} features, but {name} is expecting {estimator.n_features_in_} features as "
            "input; give the units it was fitted to."
        )
    if not bool(torch.isfinite(tensor.sum())):
        _refuse_infinite(tensor)
    return tensor


def give_features(
    values: Tensor, X: Any, estimator: BaseEstimator, facts: Mapping[str, Any] | None = None
) -> Any:
    """Give features of the rows ``X`` back in the caller's own kind.

    Parameters
    ----------
    values
        Rows × features.
    X
        What the rows came from.
    estimator
        Whose features they are: its class is the coordinate ``decomposition``, its parameters the provenance.
    facts
        More for the provenance.

    Returns
    -------
    numpy.ndarray, torch.Tensor or xarray.DataArray
        Labelled rows keep their labels; neuroids carry ``feature``, ``layer`` (that of the units, if there is one)
        and ``decomposition``.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from cerebridge.models.decompose import SemiNMF
    >>> from cerebridge.models.decompose.rows import give_features
    >>> give_features(torch.ones(3, 2), np.zeros((3, 4)), SemiNMF(2)).shape
    (3, 2)
    """
    if not isinstance(X, xr.DataArray):
        return values.to(X.device) if isinstance(X, Tensor) else values.cpu().numpy()
    kind = type(estimator).__name__
    layer = layer_of(X)
    number = np.arange(values.shape[1])
    neuroid = {
        "neuroid_id": [f"{layer}/{kind}/{k:06d}" for k in number],
        "layer": layer,
        "feature": number,
        "decomposition": kind,
    }
    parameters = {name: str(value) for name, value in estimator.get_params().items()}
    told = {"decomposition": kind, "parameters": parameters, **(facts or {}), "cerebridge": __version__}
    return relabel(values, X, neuroid, "features", json.dumps({**told, "of": X.attrs.get("provenance", "")}))


def give_units(values: Tensor, X: Any, estimator: BaseEstimator) -> Any:
    """Give rows × units, made from the features ``X``, back in the caller's kind with the units of ``fit``.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from cerebridge.models.decompose import SemiNMF
    >>> from cerebridge.models.decompose.rows import give_units
    >>> give_units(torch.ones(3, 4), np.zeros((3, 2)), SemiNMF(2)).shape
    (3, 4)
    """
    if not isinstance(X, xr.DataArray):
        return values.to(X.device) if isinstance(X, Tensor) else values.cpu().numpy()
    neuroid = estimator.neuroids_
    if neuroid is None:
        neuroid = {"neuroid_id": np.arange(values.shape[1])}
    return relabel(values, X, neuroid, "activation", X.attrs.get("provenance", ""))


def relabel(values: Tensor, X: xr.DataArray, neuroid: Any, modality: str, provenance: str) -> xr.DataArray:
    """Assemble values on the rows of ``X`` and other neuroids.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import neuro
    >>> from cerebridge.models.decompose.rows import relabel
    >>> brain = neuro.simulate(n_stimuli=4, n_units=3, random_state=0)
    >>> relabel(torch.ones(4, 1), brain, {"neuroid_id": [0]}, "features", "by hand").shape
    (4, 1)
    """
    rows = str(X.dims[0])
    return assemble(
        values,
        **{rows: table_of(X, rows)},
        neuroid=neuroid,
        modality=modality,
        units="a.u.",
        sfreq=X.attrs.get("sfreq"),
        provenance=provenance,
    )


def table_of(array: xr.DataArray, dim: str) -> pd.DataFrame:
    """The coordinates along one dimension as a table.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.models.decompose.rows import table_of
    >>> "neuroid_id" in table_of(neuro.simulate(n_stimuli=4, n_units=3, random_state=0), "neuroid")
    True
    """
    return pd.DataFrame(
        {str(name): coord.values for name, coord in array.coords.items() if coord.dims == (dim,)}
    )


def layer_of(array: xr.DataArray) -> str:
    """The layer of all units, or the layers joined by ``+``, or ``"units"`` where there is no such label.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.models.decompose.rows import layer_of
    >>> layer_of(neuro.simulate(n_stimuli=4, n_units=3, random_state=0))
    'units'
    """
    if "layer" not in array.coords:
        return "units"
    return "+".join(dict.fromkeys(array.coords["layer"].values.tolist()))


def _numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise TypeError(f"the values are of type {array.dtype}; only real numbers can be decomposed.")
    return np.ascontiguousarray(array if array.dtype.kind == "f" else array.astype(np.float64))


def _refuse_infinite(tensor: Tensor) -> None:
    wrong = ~torch.isfinite(tensor)
    if bool(wrong.any()):
        kind = "NaN" if bool(tensor.isnan().any()) else "infinity"
        rows = wrong.any(1)
        raise ValueError(
            f"Input X contains {kind}: in {int(rows.sum())} of {len(rows)} rows, first row "
            f"{int(rows.nonzero()[0])}; drop these rows or fill them in."
        )
