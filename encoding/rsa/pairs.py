"""Pairs of stimuli: which dissimilarity belongs to which, whatever the order and orientation of two arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import concat, quoted, validate

Indices = NDArray[np.intp]


def pair_table(stimuli: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Labels of all pairs of stimuli in the order of ``numpy.triu_indices(n, 1)``."""
    rows, columns = np.triu_indices(len(stimuli), 1)
    return {"stimulus_a": stimuli[rows], "stimulus_b": stimuli[columns]}


def check_rdms(array: xr.DataArray, which: str) -> xr.DataArray:
    """Return ``array`` if it is ``rdm × pair``; else say what to do."""
    if isinstance(array, xr.DataArray) and array.dims == ("pair",):
        raise ValueError(
            f"{which} is a single RDM without the dimension 'rdm'; select it with isel(rdm=[0])."
        )
    if validate(array).dims != ("rdm", "pair"):
        dims = " × ".join(map(str, array.dims))
        raise ValueError(
            f"{which} is {dims}, not rdm × pair; compute its dissimilarities with rsa.rdm first."
        )
    return array


def joined(rdms: Any, which: str) -> xr.DataArray:
    """RDMs of people as one array: a list of arrays, one a person or more, is joined; pairs are matched by stimulus.

    Raises
    ------
    ValueError
        If one is no ``rdm × pair`` array, or they are of different stimuli.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> from cerebridge.encoding.rsa.pairs import joined
    >>> people = [rsa.rdm(neuro.simulate(n_stimuli=6, n_units=5, random_state=k)) for k in range(3)]
    >>> joined(people, "data").neuroid_id.values.tolist()
    ['0 | spikes', '1 | spikes', '2 | spikes']
    """
    if not isinstance(rdms, list | tuple):
        return check_rdms(rdms, which)
    if not rdms:
        raise ValueError(f"{which} is an empty list; give the RDMs of at least one person.")
    parts = [check_rdms(part, f"{which}[{k}]") for k, part in enumerate(rdms)]
    first, labels = parts[0], {name: parts[0].coords[name] for name in ("stimulus_a", "stimulus_b")}
    for k, part in enumerate(parts[1:], 1):
        order = match_pairs(first, part, (f"{which}[0]", f"{which}[{k}]"))
        parts[k] = part if order is None else part.isel(pair=order).assign_coords(labels)
    ids = [part.coords["neuroid_id"].values.astype(str) for part in parts]
    if len(set(np.concatenate(ids))) < sum(map(len, ids)):
        parts = [
            part.assign_coords(neuroid_id=("rdm", [f"{k} | {name}" for name in names]))
            for k, (part, names) in enumerate(zip(parts, ids, strict=True))
        ]
    return concat(parts, "rdm")


def check_enough(rdms: xr.DataArray, which: str, needed: int = 4) -> None:
    """Refuse RDMs of fewer stimuli than inference needs: of three, the ranks of the pairs leave six orders.

    Raises
    ------
    ValueError
        Naming how many stimuli there are.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> from cerebridge.encoding.rsa.pairs import check_enough
    >>> check_enough(rsa.rdm(neuro.simulate(n_stimuli=4, n_units=5, random_state=0)), "data")
    """
    n = len(pd.unique(np.concatenate(_labels(rdms))))
    if n < needed:
        raise ValueError(f"{which} has {n} stimuli; inference needs at least {needed}.")


def stimulus_order(rdms: xr.DataArray, which: str) -> tuple[NDArray[Any], Indices]:
    """Stimuli of complete RDMs, and where the dissimilarity of each two of them lies.

    Returns
    -------
    stimuli
        In order of first appearance.
    index
        stimuli × stimuli: positions along ``pair``, 0 on the diagonal.

    Raises
    ------
    ValueError
        If a pair is missing or occurs twice.
    """
    stimuli, codes = _factorized(rdms)
    n = len(stimuli)
    index = np.full((n, n), -1, dtype=np.intp)
    index[codes[0], codes[1]] = index[codes[1], codes[0]] = np.arange(codes.shape[1])
    np.fill_diagonal(index, 0)
    if (index < 0).any():
        a, b = np.argwhere(index < 0)[0]
        raise ValueError(
            f"{which} has no dissimilarity of {quoted(stimuli[a])} and {quoted(stimuli[b])}; it must have every pair."
        )
    if codes.shape[1] != n * (n - 1) // 2:
        raise ValueError(
            f"{which} has {codes.shape[1]} pairs of {n} stimuli; each of the {n * (n - 1) // 2} must occur once."
        )
    return stimuli, index


def match_pairs(a: xr.DataArray, b: xr.DataArray, names: tuple[str, str] = ("a", "b")) -> Indices | None:
    """Positions along the pairs of ``b`` that follow the order of ``a``; ``None`` where the order is the same.

    The dissimilarity of (x, y) is that of (y, x).

    Raises
    ------
    ValueError
        If the two have other stimuli or other pairs.
    """
    labels_a, labels_b = _labels(a), _labels(b)
    if all(map(np.array_equal, labels_a, labels_b)):
        return None
    _, codes = _codes([*labels_a, *labels_b])
    codes_a, codes_b = (
        codes[: 2 * len(labels_a[0])].reshape(2, -1),
        codes[2 * len(labels_a[0]) :].reshape(2, -1),
    )
    _same_stimuli(labels_a, labels_b, names)
    n = int(codes.max()) + 1
    keys_a, keys_b = (np.minimum(*c) * n + np.maximum(*c) for c in (codes_a, codes_b))
    order_a, order_b = np.argsort(keys_a, kind="stable"), np.argsort(keys_b, kind="stable")
    sorted_a = keys_a[order_a]
    if not np.array_equal(sorted_a, keys_b[order_b]) or (sorted_a[1:] == sorted_a[:-1]).any():
        raise ValueError(
            f"{names[0]} and {names[1]} have the same stimuli, but not the same pairs, each once; "
            "select the common pairs first."
        )
    match = np.empty_like(order_a)
    match[order_a] = order_b
    return match


def _labels(rdms: xr.DataArray) -> tuple[NDArray[Any], NDArray[Any]]:
    return rdms.coords["stimulus_a"].values, rdms.coords["stimulus_b"].values


def _codes(labels: list[NDArray[Any]]) -> tuple[NDArray[Any], Indices]:
    """Unique labels and their codes; numbers and text stay different even where they look alike."""
    if len({label.dtype.kind for label in labels}) > 1:
        labels = [label.astype(object) for label in labels]
    codes, unique = pd.factorize(np.concatenate(labels))
    return np.asarray(unique), codes


def _factorized(rdms: xr.DataArray) -> tuple[NDArray[Any], Indices]:
    unique, codes = _codes(list(_labels(rdms)))
    return unique, codes.reshape(2, -1)


def _same_stimuli(a: tuple[NDArray[Any], ...], b: tuple[NDArray[Any], ...], names: tuple[str, str]) -> None:
    known_a, known_b = (set(np.concatenate(labels).tolist()) for labels in (a, b))
    if known_a == known_b:
        return
    parts = [
        f"{len(only)} only in {name} ({', '.join(sorted(map(repr, only))[:3])}{', …' if len(only) > 3 else ''})"
        for name, only in ((names[0], known_a - known_b), (names[1], known_b - known_a))
        if only
    ]
    raise ValueError(f"the RDMs have different stimuli: {' and '.join(parts)}; select the common ones first.")
