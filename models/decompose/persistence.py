"""Fitted decompositions in one safetensors file: parameters as JSON, arrays as they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ...neuro.files import aside

Estimator = TypeVar("Estimator", bound=BaseEstimator)


class Kept(BaseEstimator):
    """An estimator whose fitted attributes go into a file and come back from it."""

    def save(self, path: str | Path) -> None:
        """Write parameters and fitted attributes to one safetensors file; what is there is replaced.

        Raises
        ------
        OSError
            If it cannot be written; what was at ``path`` is unchanged.

        Examples
        --------
        >>> import tempfile, torch
        >>> from cerebridge.models.decompose import SparseAutoencoder
        >>> sae = SparseAutoencoder(8, k=2, max_epochs=1).fit(torch.eye(4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sae.save(f"{folder}/sae.safetensors")
        ...     bool((SparseAutoencoder.load(f"{folder}/sae.safetensors").components_ == sae.components_).all())
        True
        """
        check_is_fitted(self)
        write_fitted(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote; nothing in the file is executed.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is damaged or holds something else.

        Examples
        --------
        >>> from cerebridge.models.decompose import SparseAutoencoder
        >>> SparseAutoencoder.load("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: there is no file nowhere; SparseAutoencoder.save writes one.
        """
        return read_fitted(cls, Path(path))


def digest_of(estimator: BaseEstimator) -> str:
    """A hash of all fitted arrays."""
    digest = hashlib.sha256()
    for name, value in sorted(vars(estimator).items()):
        if name.endswith("_") and isinstance(value, np.ndarray):
            digest.update(f"{name}{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:32]


def write_fitted(estimator: BaseEstimator, path: Path) -> None:
    """Write parameters and fitted attributes (arrays, numbers, text, tables) to a file.

    Raises
    ------
    TypeError
        If a parameter is of a type that JSON has not.
    OSError
        If it cannot be written; what was at ``path`` is unchanged.
    """
    from safetensors.numpy import save_file

    arrays: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name, value in vars(estimator).items():
        if not name.endswith("_") or name.startswith("_"):
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            arrays[name] = np.ascontiguousarray(value)
        elif isinstance(value, dict):
            arrays |= {f"{name}/{key}": np.ascontiguousarray(array) for key, array in value.items()}
        elif isinstance(value, pd.DataFrame):
            plain[name] = {"table": value.to_dict(orient="list")}
        else:
            plain[name] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    parameters = {name: _named(value) for name, value in estimator.get_params(deep=False).items()}
    told = {"class": type(estimator).__name__, "parameters": parameters, "fitted": plain}
    try:
        text = json.dumps(told, default=_number)
    except TypeError as error:
        raise TypeError(
            f"{type(estimator).__name__} has a parameter that cannot be written ({error})."
        ) from None
    with aside(path) as part:
        save_file(arrays, part, metadata={"cerebridge": text})


def read_fitted(kind: type[Estimator], path: Path) -> Estimator:
    """Read what :func:`write_fitted` wrote of an estimator of this class.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or holds something else.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; {kind.__name__}.save writes one.")
    try:
        with safe_open(path, framework="numpy") as file:
            told = json.loads((file.metadata() or {})["cerebridge"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # whatever a damaged header or content raises
        raise ValueError(
            f"{path} is damaged or no file of {kind.__name__}.save ({type(error).__name__}); fit and save again."
        ) from None
    if told["class"] != kind.__name__:
        raise ValueError(f"{path} holds a {told['class']}, not a {kind.__name__}; load it with that class.")
    parameters = {n: tuple(v) if isinstance(v, list) else v for n, v in told["parameters"].items()}
    estimator = kind(**parameters)
    for name, value in told["fitted"].items():
        table = isinstance(value, dict) and "table" in value
        setattr(estimator, name, pd.DataFrame(value["table"]) if table else value)
    for name, array in arrays.items():
        owner, _, key = name.partition("/")
        if key:
            vars(estimator).setdefault(owner, {})[key] = array
        else:
            setattr(estimator, name, array)
    return estimator


def _named(value: Any) -> Any:
    """Paths and devices by their names."""
    return value if isinstance(value, str | int | float | bool | list | tuple | type(None)) else str(value)


def _number(value: Any) -> Any:
    """A number of numpy as one of Python."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__}")
