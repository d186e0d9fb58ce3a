"""Fitted estimators on disk without pickle: skops for scikit-learn's parts, safetensors for weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import skops.io

from ..neuro.files import aside

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
        If a part cannot be stored without pickle, such as a lambda or a class of your own.
    OSError
        If the file cannot be written; what was there is unchanged.

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
    with aside(Path(path)) as part:
        try:
            skops.io.dump(estimator, part)
            types = skops.io.get_untrusted_types(file=part)
        except OSError:
            raise
        except Exception as error:  # whatever the parts of an estimator raise
            raise TypeError(
                f"{type(estimator).__name__} cannot be stored without pickle ({str(error).splitlines()[0]})."
            ) from None
        foreign = _foreign(types)
        if foreign:
            raise TypeError(
                f"the estimator holds {foreign[0]}, which cannot be stored safely because it is not part of "
                f"{', '.join(name.split('.')[0] for name in TRUSTED)}; build it of their classes and functions."
            )


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

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from cerebridge import encoding
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "ridge.skops"
    >>> encoding.save(file, encoding.RidgeCV(cv=2).fit(np.eye(6), np.arange(6.0)))
    >>> encoding.load(file).predict(np.eye(6)).shape
    (6,)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; encoding.save writes one.")
    try:
        types = skops.io.get_untrusted_types(file=path)
    except Exception as error:  # skops raises whatever zipfile and json raise
        raise OSError(
            f"{path} is no estimator that encoding.save wrote, or it is damaged ({error})."
        ) from None
    foreign = _foreign(types)
    if foreign:
        raise TypeError(f"{path} holds {foreign[0]}, which is not loaded because it could run foreign code.")
    return skops.io.load(path, trusted=types)


def _foreign(types: list[str]) -> list[str]:
    return [name for name in types if not name.startswith(TRUSTED)]
