"""Arrays in files of the common kinds, read without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def load_values(path: Path, key: str | None) -> Array:
    """The array in a .npy, .npz, .mat or .h5 file.

    Parameters
    ----------
    path
        The file.
    key
        Name of the array, needed where a file holds several.

    Raises
    ------
    ValueError
        If the file is of another kind, or does not hold the array.
    """
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    held = _held(path)
    if key is None and len(held) == 1:
        return next(iter(held.values()))
    if key is None or key not in held:
        raise ValueError(
            f"{path.name} holds the arrays {', '.join(held) or 'none'}; name one of them with 'key'."
        )
    return held[key]


def _held(path: Path) -> dict[str, Array]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    if path.suffix == ".mat":
        from scipy.io import loadmat

        found = loadmat(path)
        return {
            name: value
            for name, value in found.items()
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
        }
    if path.suffix in (".h5", ".hdf5"):
        import h5py

        found = {}
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        return found
    raise ValueError(f"{path.name} is no .npy, .npz, .mat or .h5 file.")
