"""Which rows may change places when chance is measured: those that are alike if nothing relates the two sides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .splits import RECORDING_GROUPS, Indices

Codes = NDArray[np.intp]


@dataclass(frozen=True)
class Exchange:
    """How rows change places: ``draw(rng)`` gives the row whose truth comes to each place; and the same in words."""

    draw: Callable[[np.random.Generator], Indices]
    description: str


def find_exchange(
    rows: xr.DataArray,
    exchange: str | None = None,
    *,
    labels: NDArray[np.generic] | None = None,
    groups: NDArray[np.generic] | None = None,
) -> Exchange:
    """Rows that change places to see what chance gives, as the recording's structure allows.

    Parameters
    ----------
    rows
        The array that is split.
    exchange
        Coordinate whose equal values (volumes of one block, repeats of one stimulus) move together. By default
        responses to stimuli move with all of their group (all repeats of a stimulus, all stimuli of a category), class
        labels within their recording and group, or with all of their group where it has one label; blocks move whole
        where there is a coordinate ``"block"``, and what else is continuous is rotated within its recording. A rotation
        joins the ends of a recording, so it is exact only for long ones: of noise that stays alike for a fifth of each
        run (AR(1) of 0.9, runs of 50 samples) 6.4 % came out at 5 %, of a sixtieth (0.9, 300 samples) 5.2 %.
    labels
        Class labels where a classifier is evaluated.
    groups
        What was kept together by the split, one label a row.

    Returns
    -------
    Exchange
        Blocks change places with blocks of as many rows.

    Raises
    ------
    ValueError
        If ``exchange`` is no coordinate of the rows, or nothing can change places.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.exchange import find_exchange
    >>> brain = neuro.simulate(n_stimuli=3, n_units=2, n_repeats=2, random_state=0)
    >>> find_exchange(brain, groups=brain.stimulus_id.values).description
    '3 groups of rows change places'
    """
    n = rows.sizes[rows.dims[0]]
    continuous = rows.dims[0] == "time_bin"
    recordings = _recordings(rows)
    kept = None if groups is None else _codes(groups)
    blocks, what = _named_blocks(rows, exchange)
    parts = np.zeros(n, dtype=np.intp)
    if labels is None and not continuous:
        if exchange is None and kept is not None and np.bincount(kept).max() > 1:
            blocks, what = kept, "groups of rows"
    elif labels is None:
        parts = recordings
    elif _constant(labels, outer := recordings if kept is None else kept):
        units = outer if blocks is None or exchange is None else blocks
        if _constant(labels, units):
            what = f"labels of {units.max() + 1} groups of rows change places"
            return Exchange(partial(_relabelled, units), what)
    else:
        parts = recordings if kept is None else _codes(recordings * (kept.max() + 1) + kept)
    members = [np.flatnonzero(parts == code) for code in range(parts.max() + 1)]
    inside = f" within {len(members)} recordings or groups" if len(members) > 1 else ""
    if blocks is None and continuous:
        return Exchange(partial(_turned, members), f"the recording is rotated in time{inside}")
    sets = [same for part in members for same in _blocks_by_length(part, blocks)]
    moving = [same for same in sets if len(same) > 1]
    if not moving:
        raise ValueError(
            f"no two {what} hold as many rows, so none can change places and there is no chance to compare with; "
            "pass another exchange= coordinate, or permutations=0."
        )
    return Exchange(partial(_swapped, n, moving), f"{sum(map(len, moving))} {what} change places{inside}")


def find_blocks(
    rows: xr.DataArray,
    exchange: str | None = None,
    *,
    labels: NDArray[np.generic] | None = None,
    groups: NDArray[np.generic] | None = None,
) -> tuple[Codes, str]:
    """Rows that belong together when rows are drawn again: one code a row, and what they are in words.

    Parameters
    ----------
    rows, exchange, labels, groups
        As for :func:`find_exchange`.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.exchange import find_blocks
    >>> brain = neuro.simulate(n_stimuli=3, n_units=2, n_repeats=2, random_state=0)
    >>> codes, what = find_blocks(brain, groups=brain.stimulus_id.values)
    >>> int(codes.max()) + 1, what
    (3, 'groups of rows')
    """
    blocks, what = _named_blocks(rows, exchange)
    if blocks is None and groups is not None and rows.dims[0] != "time_bin":
        kept = _codes(groups)
        if np.bincount(kept).max() > 1 and (labels is None or _constant(labels, kept)):
            return kept, "groups of rows"
    if blocks is None:
        blocks = np.arange(rows.sizes[rows.dims[0]])
    return blocks, what


def _relabelled(groups: Codes, rng: np.random.Generator) -> Indices:
    """Each group takes the label of another; any row of a group stands for it."""
    first = np.unique(groups, return_index=True)[1]
    return first[rng.permutation(len(first))][groups]


def _turned(recordings: list[Indices], rng: np.random.Generator) -> Indices:
    """Each recording begins somewhere else and goes on at its start."""
    order = np.arange(sum(map(len, recordings)))
    for rows in recordings:
        order[rows] = np.roll(rows, rng.integers(1, max(2, len(rows))))
    return order


def _swapped(n: int, sets: list[Indices], rng: np.random.Generator) -> Indices:
    """Blocks of equal length (blocks × rows) change places; all other rows stay."""
    order = np.arange(n)
    for blocks in sets:
        order[blocks] = blocks[rng.permutation(len(blocks))]
    return order


def _named_blocks(rows: xr.DataArray, exchange: str | None) -> tuple[Codes | None, str]:
    """Codes of the blocks that a coordinate tells apart."""
    name = "block" if exchange is None else exchange
    if name in rows.coords and rows.coords[name].dims == rows.dims[:1]:
        return _codes(rows.coords[name].values), f"{name}s"
    if exchange is not None:
        known = sorted(str(c) for c in rows.coords if rows.coords[c].dims == rows.dims[:1])
        raise ValueError(
            f"there is no coordinate exchange={exchange!r} along {str(rows.dims[0])!r}; there are {known}."
        )
    return None, "rows"


def _recordings(rows: xr.DataArray) -> Codes:
    """A number for each run of each session of each subject, as far as the array tells them apart."""
    codes = np.zeros(rows.sizes[rows.dims[0]], dtype=np.intp)
    for name in RECORDING_GROUPS:
        if name in rows.coords and rows.coords[name].dims == rows.dims[:1]:
            own = _codes(rows.coords[name].values)
            codes = _codes(codes * (own.max() + 1) + own)
    return codes


def _constant(labels: NDArray[np.generic], within: Codes) -> bool:
    """Whether each of several groups has one label."""
    pairs = _codes(labels) * (within.max() + 1) + within
    return bool(within.max()) and len(np.unique(pairs)) == within.max() + 1


def _codes(labels: NDArray[np.generic]) -> Codes:
    return pd.factorize(labels, use_na_sentinel=False)[0].astype(np.intp)


def _blocks_by_length(part: Indices, blocks: Codes | None) -> list[Indices]:
    """Blocks of each length, as blocks × rows."""
    if blocks is None:
        return [part[:, None]]
    own = _codes(blocks[part])
    lengths = np.bincount(own)
    order = part[np.argsort(own, kind="stable")]
    pieces = np.split(order, np.cumsum(lengths)[:-1])
    return [np.stack([piece for piece in pieces if len(piece) == length]) for length in np.unique(lengths)]
