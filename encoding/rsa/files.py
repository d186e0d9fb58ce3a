"""Given dissimilarity matrices: MATLAB, numpy and text files as labelled arrays."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import Table, assemble
from .pairs import pair_table

Array = NDArray[Any]
Labels = dict[str, list[Any]]


def read_rdms(
    path: str | os.PathLike[str],
    *,
    variable: str | None = None,
    field: str = "RDM",
    parts: Sequence[str] | None = None,
    stimuli: Sequence[Any] | Array | None = None,
    rdm: Table | None = None,
    modality: str = "dissimilarity",
    units: str = "a.u.",
) -> xr.DataArray:
    """Read given RDMs from one file.

    Parameters
    ----------
    path
        ``.mat`` (structs with an RDM field, or plain arrays), ``.npz``, ``.npy``, ``.csv`` or ``.tsv`` (with or without
        stimulus names in the first row and column). RDMs are ``n × n``, stacks of them (``R × n × n`` or
        ``n × n × R``), vectors in the order of ``numpy.triu_indices(n, 1)``, or one vector a row.
    variable
        Which variable of a ``.mat`` or ``.npz``; needed only where several could be meant.
    field
        Struct field with the dissimilarities. The other text and number fields become labels along ``rdm``.
    parts
        Labels that the pieces of each RDM's name give, split at ``"|"``: ``("region", "subject", "session")`` for
        ``"hIT | BE | Session: 1"``.
    stimuli
        Stimulus ids in the order of the matrices. Default: the names in a text file, else 0, 1, 2, …
    rdm
        More labels, one a RDM or one for all: ``{"region": "IT", "subject": range(15)}``.
    modality, units
        Attributes of the array.

    Returns
    -------
    xarray.DataArray
        ``rdm × pair`` in float64.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, the variable is not clear, or an RDM is asymmetric, has other values than zero on its
        diagonal, or a length that no number of stimuli has.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from cerebridge.encoding import rsa
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "two.npy", np.ones((2, 3, 3)) - np.eye(3))
    ...     rsa.read_rdms(Path(folder) / "two.npy", rdm={"subject": ["a", "b"]}).shape
    (2, 3)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; check the path of the RDMs.")
    if path.suffix.lower() not in READERS:
        raise ValueError(f"{path.name} is no {', '.join(READERS)} file; save the RDMs as one of these.")
    found, names = READERS[path.suffix.lower()](path, variable, field)
    vectors, labels = _vectors(found, field, path)
    n = _n_stimuli(vectors.shape[1])
    given = names if stimuli is None else list(stimuli)
    ids = np.arange(n) if given is None else np.asarray(given)
    if len(ids) != n:
        raise ValueError(f"{len(ids)} stimuli are named, but the RDMs of {path.name} have {n}.")
    if len(pd.unique(ids)) < n:
        raise ValueError(
            f"the stimuli of {path.name} are not named uniquely; every row of an RDM needs its own name."
        )
    table = _table(labels, parts, rdm, len(vectors), path)
    return assemble(
        vectors,
        rdm=table,
        pair=pair_table(ids),
        modality=modality,
        units=units,
        provenance=f"read from {path.name}",
    )


def _read_mat(path: Path, variable: str | None, field: str) -> tuple[Any, None]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        contents = loadmat(path, squeeze_me=True, struct_as_record=False)
    except NotImplementedError:
        raise ValueError(
            f"{path.name} is a MATLAB 7.3 file; save it with -v7, or its RDMs as .npy."
        ) from None
    except (MatReadError, ValueError, OSError, TypeError) as error:
        raise ValueError(
            f"{path.name} cannot be read as a MATLAB file ({error}); copy or save it again."
        ) from None
    contents = {name: np.atleast_1d(value) for name, value in contents.items() if not name.startswith("__")}
    structs = {
        name: value
        for name, value in contents.items()
        if value.dtype == object and value.size and hasattr(value.flat[0], field)
    }
    return _choose(contents, structs or _rdm_like(contents), variable, path), None


def _read_npz(path: Path, variable: str | None, field: str) -> tuple[Array, None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            contents = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read as numbers ({error}); save its RDMs again.") from None
    return _choose(contents, _rdm_like(contents), variable, path), None


def _read_npy(path: Path, variable: str | None, field: str) -> tuple[Array, None]:
    try:
        return np.load(path, allow_pickle=False), None
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read as numbers ({error}); save its RDMs again.") from None


def _read_text(path: Path, variable: str | None, field: str) -> tuple[Array, list[str] | None]:
    try:
        cells = pd.read_csv(path, header=None, dtype=str, sep="\t" if path.suffix.lower() == ".tsv" else ",")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path.name} cannot be read as a table ({str(error).strip()}); save it again."
        ) from None
    names = None
    if pd.isna(pd.to_numeric(cells.iloc[0, 0], errors="coerce")):
        corner = int(cells.shape[0] == cells.shape[1])
        names = cells.iloc[0, corner:].astype(str).tolist()
        if corner and cells.iloc[1:, 0].astype(str).tolist() != names:
            raise ValueError(
                f"the stimuli in the first row and the first column of {path.name} differ; sort both alike."
            )
        cells = cells.iloc[1:, corner:]
    numbers = cells.apply(pd.to_numeric, errors="coerce")
    text = np.argwhere(numbers.isna().to_numpy() & cells.notna().to_numpy())
    if len(text):
        raise ValueError(
            f"{path.name} has {cells.iloc[tuple(text[0])]!r} where a dissimilarity should be; give numbers only."
        )
    return numbers.to_numpy(dtype=np.float64), names


READERS: dict[str, Callable[[Path, str | None, str], tuple[Any, list[str] | None]]] = {
    ".mat": _read_mat,
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_text,
    ".tsv": _read_text,
}


def _choose(contents: dict[str, Array], fitting: dict[str, Array], variable: str | None, path: Path) -> Array:
    if variable is not None:
        if variable not in contents:
            raise ValueError(
                f"{path.name} has no variable {variable!r}; it has {', '.join(map(repr, contents))}."
            )
        return contents[variable]
    if len(fitting) != 1:
        what = f"{len(fitting)} variables could be RDMs in" if fitting else "no variable looks like RDMs in"
        raise ValueError(
            f"{what} {path.name}; name one with variable=: {', '.join(map(repr, fitting or contents))}."
        )
    return next(iter(fitting.values()))


def _rdm_like(contents: dict[str, Array]) -> dict[str, Array]:
    return {
        name: value
        for name, value in contents.items()
        if value.dtype.kind in "fiub"
        and value.size > 1
        and (_is_square(value) or (value.ndim < 3 and _n_stimuli(value.shape[-1]) > 1))
    }


def _is_square(values: Array) -> bool:
    return (values.ndim in (2, 3) and values.shape[0] == values.shape[1]) or (
        values.ndim == 3 and values.shape[1] == values.shape[2]
    )


def _n_stimuli(n_pairs: int) -> int:
    """How many stimuli have so many pairs; 0 if no number has."""
    n = (1 + math.isqrt(1 + 8 * n_pairs)) // 2
    return n if n * (n - 1) // 2 == n_pairs else 0


def _vectors(found: Array, field: str, path: Path) -> tuple[Array, Labels]:
    """Dissimilarities, one RDM a row, and the labels of structs."""
    if found.dtype != object:
        return _condensed(found, path.name), {}
    rows: list[Array] = []
    labels: Labels = {}
    for k, struct in enumerate(found.ravel()):
        names = getattr(struct, "_fieldnames", [])
        if field not in names:
            raise ValueError(
                f"element {k} of {path.name} has no field {field!r}; it has {', '.join(map(repr, names)) or 'none'}."
            )
        plain = {name: value for name in names if np.ndim(value := getattr(struct, name)) == 0}
        for name, value in plain.items():
            labels.setdefault(name, []).append(value.strip() if isinstance(value, str) else value)
        rows.append(_condensed(np.asarray(getattr(struct, field)), f"RDM {k} of {path.name}"))
        if rows[-1].shape != (1, rows[0].shape[1]):
            raise ValueError(
                f"RDM {k} of {path.name} has {rows[-1].size} dissimilarities, the first {rows[0].size}; "
                "read each set on its own."
            )
    return np.concatenate(rows), {name: values for name, values in labels.items() if len(values) == len(rows)}


def _condensed(values: Array, which: str) -> Array:
    """One vector a RDM, from matrices or vectors, checked."""
    if values.dtype.kind not in "fiub":
        raise ValueError(
            f"{which} holds values of type {values.dtype}; dissimilarities must be real numbers."
        )
    values = values.astype(np.float64)
    if not _is_square(values):
        if values.ndim > 2 or not _n_stimuli(values.shape[-1]) > 1:
            raise ValueError(
                f"{which} has the shape {values.shape}, neither square nor n(n - 1)/2 dissimilarities of n stimuli; "
                "give whole matrices or their upper triangles."
            )
        return np.atleast_2d(values)
    if values.ndim == 3 and values.shape[1] != values.shape[2]:
        values = np.moveaxis(values, 2, 0)
    matrices = values[None] if values.ndim == 2 else values
    transposed = matrices.swapaxes(1, 2)
    wrong = np.argwhere(~np.isclose(matrices, transposed, rtol=1e-6, atol=1e-12, equal_nan=True))
    if len(wrong):
        k, i, j = wrong[0]
        raise ValueError(
            f"{which}, matrix {k} is not symmetric: ({i}, {j}) is {matrices[k, i, j]:g} and ({j}, {i}) is "
            f"{matrices[k, j, i]:g}; average it with its transpose first if both mean the same."
        )
    diagonal = np.nan_to_num(np.diagonal(matrices, axis1=1, axis2=2))
    wrong = np.argwhere(np.abs(diagonal) > 1e-12 + 1e-6 * np.nanmax(np.abs(matrices)))
    if len(wrong):
        k, i = wrong[0]
        raise ValueError(
            f"{which}, matrix {k} has {diagonal[k, i]:g} on its diagonal at {i}; a stimulus is not dissimilar to "
            "itself, so check that these are dissimilarities, not similarities."
        )
    return matrices[:, *np.triu_indices(matrices.shape[1], 1)]


def _table(labels: Labels, parts: Sequence[str] | None, given: Table | None, n: int, path: Path) -> Table:
    """Labels along ``rdm``: those of the file, the pieces of the names, and those given."""
    text = [values for values in labels.values() if all(isinstance(value, str) for value in values)]
    names = [" | ".join(pieces) for pieces in zip(*text, strict=True)] if text else [path.stem] * n
    table: dict[str, Any] = {
        name: values for name, values in labels.items() if len(text) > 1 or values not in text
    }
    for part, values in zip(parts or (), _pieces(names, parts, path), strict=True):
        table[part] = values
    if len(set(names)) < n:
        names = [f"{name} [{k}]" for k, name in enumerate(names)]
    table["neuroid_id"] = names
    return table | {
        str(name): list(v) if isinstance(v, range) else v
        for name, v in (given if given is not None else {}).items()
    }


def _pieces(names: list[str], parts: Sequence[str] | None, path: Path) -> list[list[str]]:
    if not parts:
        return []
    split = [[piece.strip() for piece in name.split("|")] for name in names]
    odd = [name for name, pieces in zip(names, split, strict=True) if len(pieces) != len(parts)]
    if odd:
        raise ValueError(
            f"the name {odd[0]!r} in {path.name} does not have {len(parts)} pieces between '|'; give one part a piece."
        )
    return [list(column) for column in zip(*split, strict=True)]
