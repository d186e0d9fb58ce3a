"""Fitted estimators on disk without pickle: skops for scikit-learn's parts, safetensors for weights."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import skops.io

#: modules whose classes are part of a fitted pipeline and run no code of the file when they are rebuilt
TRUSTED = ("cerebridge.", "sklearn.", "numpy.", "scipy.", "pyriemann.", "mne.decoding.")


def save(path: str | os.PathLike[str], estimator: Any) -> None:
    """Write anything fitted, scikit-learn pipelines included, to one file.

    Parameters
    ----------
    path
        A ``.skops`` file (a zip archive of arrays and a JSON schema); written aside and renamed.
    estimator
        A fitted estimator or pipeline.

    Raises
    ------
    TypeError
        If a part cannot be stored without pickle, such as a lambda.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from cerebridge import encoding
    >>> ridge = encoding.RidgeCV(cv=2).fit(np.eye(6), np.arange(6.0))
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "ridge.skops"
    >>> encoding.save(file, ridge)
    >>> bool((encoding.load(file).coef_ == ridge.coef_).all())
    True
    """
    path = Path(path)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        skops.io.dump(estimator, aside)
        untrusted = [
            name for name in skops.io.get_untrusted_types(file=aside) if not name.startswith(TRUSTED)
        ]
        if untrusted:
            raise TypeError(
                f"the estimator holds {untrusted[0]}, which cannot be stored safely; use named classes and functions."
            )
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Any:
    """Read what :func:`save` wrote; nothing in the file is executed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the file is damaged or no estimator of :func:`save`.
    TypeError
        If it holds types from outside scikit-learn, scipy, numpy, MNE, pyRiemann and this package.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; encoding.save writes one.")
    try:
        types = skops.io.get_untrusted_types(file=path)
    except Exception as error:  # skops raises whatever zipfile and json raise
        raise OSError(
            f"{path} is no estimator that encoding.save wrote, or it is damaged ({error})."
        ) from error
    foreign = [name for name in types if not name.startswith(TRUSTED)]
    if foreign:
        raise TypeError(f"{path} holds {foreign[0]}, which is not loaded because it could run foreign code.")
    return skops.io.load(path, trusted=types)
