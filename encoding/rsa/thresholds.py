"""Thresholds of geo-topological transforms, chosen by how well RDMs identify regions or layers at them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ...neuro.assembly import quoted
from ...neuro.progress import track
from ..audit import fingerprint, versions
from ..results import Result
from ..significance import check_count
from .comparison import check_method, compare
from .identification import (
    accuracy,
    add_p,
    check_mean,
    exchanged,
    grouped,
    labels_along,
    nearest,
    tabulate,
)
from .topology import Kind, check_request, transform_rdms

Array = NDArray[Any]
Thresholds = list[tuple[float, float]]
#: levels between which thresholds are chosen
LEVELS = tuple(np.linspace(0, 1, 11).round(1).tolist())


def select_thresholds(
    rdms: xr.DataArray,
    by: str = "region",
    *,
    people: str = "subject",
    kind: Kind = "relative",
    grid: Sequence[float] | None = None,
    method: str = "pearson",
    permutations: int = 200,
    random_state: int | None = 0,
    device: str | torch.device = "auto",
) -> Result:
    """Choose the thresholds at which RDMs identify regions or layers best, and say how well that does on new people.

    Model selection as in topological RSA: the RDMs of a held-out person are assigned to the region whose mean over
    other people is most similar. Thresholds are chosen on the other people alone (holding out each of them in turn),
    ties by the mean distance to the border between the best two, in units of its spread.

    Parameters
    ----------
    rdms
        ``rdm × pair`` of at least three people (or networks trained from different seeds).
    by, people
        Coordinates along ``rdm``: what is to be identified, and what is held out.
    kind
        Of the transform: see :func:`transform_rdms`.
    grid
        Levels of both thresholds; all pairs in rising order are tried (for geodesic kinds: those whose lower one is
        the lowest). Default for relative kinds: 0, 0.1, …, 1.
    method
        How transformed RDMs are compared: see :func:`identify`.
    permutations
        Number of exchanges of labels among the RDMs of each person, with thresholds chosen anew for each. 0:
        binomial test, which takes identifications as independent and so is a little too sure.
    random_state
        Seeds them.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    Result
        Models ``"untransformed"`` and ``"selected"``, splits are people; ``score`` is accuracy, with ``confusion``,
        ``similarity`` and ``p`` as from :func:`identify`, and thresholds ``lower`` and ``upper`` like ``score``.
        ``grid_accuracy`` (along ``threshold``, with ``threshold_lower`` and ``threshold_upper``) is what they were
        chosen by, from all people, and ``dataset.attrs["lower"]`` and ``["upper"]`` are the best for all people,
        for use on data that had no part in this.

    Raises
    ------
    ValueError
        If there are too few people, levels are missing or out of range, or leave an RDM constant.

    References
    ----------
    Lin & Kriegeskorte (2024). The topology and geometry of neural representations. PNAS 121.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> points = np.random.default_rng(0).standard_normal((2, 8, 12))
    >>> noisy = np.concatenate([points + 0.1 * np.roll(points, k, axis=1) for k in range(3)])
    >>> a, b = np.triu_indices(8, 1)
    >>> rdms = neuro.assemble(
    ...     np.linalg.norm(noisy[:, a] - noisy[:, b], axis=-1),
    ...     rdm={"neuroid_id": range(6), "region": ["V1", "IT"] * 3, "subject": np.arange(6) // 2},
    ...     pair={"stimulus_a": a, "stimulus_b": b}, modality="simulated", units="1",
    ... )
    >>> result = rsa.select_thresholds(rdms, grid=[0, 0.2, 0.8, 1])
    >>> result.score.mean("split").values.ravel().tolist()
    [1.0, 1.0]
    """
    started = time.perf_counter()
    check_method(method)
    check_mean(method)
    check_count(permutations, "permutations")
    truth, owners = (labels_along(rdms, name, "rdms") for name in (by, people))
    classes, members = grouped(truth, owners, by, people)
    _check_nested(truth, owners, classes, by, people)
    pairs = threshold_pairs(grid, kind)
    plain = torch.as_tensor(compare(rdms, method=method, device=device).values)
    levels = torch.stack(
        [
            _transformed(rdms, pair, kind, method, device)
            for pair in track(pairs, "thresholds", total=len(pairs))
        ]
    )
    chosen, selected = _nested(levels, members, owners)
    found = {"untransformed": nearest(plain, members, owners), "selected": selected}
    dataset = tabulate(found, rdms, truth, classes, {people: owners})
    null = None
    if permutations:
        draws = exchanged(members, owners, permutations, random_state)
        null = np.array([_null_draw(plain, levels, draw, owners) for draw in track(draws, "permutations")])
    add_p(dataset, null)
    grid_accuracy = accuracy(nearest(levels, members, owners), members).numpy()
    _add_thresholds(dataset, pairs, chosen, grid_accuracy, _best(levels, members, owners))
    score = dataset["score"].mean(("split", "unit")).values
    dataset.attrs.update(
        audit={
            "fitted_on": f"thresholds and means: the other values of {people!r} alone",
            "selection": {"selection_score": float(grid_accuracy.max()), "nested_score": float(score[1])},
            "permutations": f"{permutations} of {by!r}" if permutations else "none: binomial test",
        },
        provenance={
            "rdms": fingerprint(rdms.values),
            "kind": kind,
            "method": method,
            "random_state": random_state,
            "seconds": round(time.perf_counter() - started, 3),
            "versions": versions(),
        },
    )
    return Result(dataset)


def threshold_pairs(grid: ArrayLike | None, kind: str) -> Thresholds:
    """All pairs of levels in rising order, but those that are above or below everything."""
    if grid is None and kind.startswith("absolute"):
        raise ValueError(
            f"kind={kind!r} has thresholds in the unit of the dissimilarities; give their levels, grid=."
        )
    levels = np.unique(np.asarray(LEVELS if grid is None else grid, dtype=np.float64))
    pairs = [(low, high) for low in levels.tolist() for high in levels.tolist() if low <= high]
    for pair in pairs:
        check_request(kind, *pair)
    if kind.startswith("relative"):
        pairs = [pair for pair in pairs if pair not in ((0, 0), (1, 1))]
    if kind.endswith("geodesic"):
        # edges without length soon join everything, so that nothing is left to compare
        pairs = [(low, high) for low, high in pairs if low == levels[0] < high]
    if not pairs:
        raise ValueError(f"grid={levels.tolist()} leaves no two thresholds to try; give more levels.")
    return pairs


def _check_nested(truth: Array, owners: Array, classes: Array, by: str, people: str) -> None:
    for label in classes:
        n = len(pd.unique(owners[truth == label]))
        if n < 3:
            raise ValueError(
                f"{by} {quoted(label)} is known of {n} values of {people!r}; choosing thresholds on others than are "
                "scored needs three."
            )


def _transformed(
    rdms: xr.DataArray, thresholds: tuple[float, float], kind: Kind, method: str, device: Any
) -> torch.Tensor:
    bent = transform_rdms(rdms, *thresholds, kind, device=device)
    flat = np.flatnonzero(np.nanmax(bent.values, axis=1) == np.nanmin(bent.values, axis=1))
    if flat.size:
        name = quoted(rdms.coords["neuroid_id"].values[flat[0]])
        raise ValueError(
            f"the thresholds {thresholds[0]:g} and {thresholds[1]:g} leave RDM {name} constant; leave them out of the "
            "grid."
        )
    return torch.as_tensor(compare(bent, method=method, device=device).values)


def _best(levels: torch.Tensor, members: torch.Tensor, owners: Array) -> int:
    """Thresholds of the highest accuracy; among equals those with the clearest decisions."""
    found = nearest(levels, members, owners)
    right = accuracy(found, members)
    own = (found * members).sum(dim=-1)
    margin = own - found.masked_fill(members.bool(), -torch.inf).amax(dim=-1)
    clear = margin.mean(dim=-1) / margin.std(dim=-1).clamp(min=torch.finfo(margin.dtype).tiny)
    return int(clear.masked_fill(right < right.max() - 1e-9, -torch.inf).argmax())


def _nested(
    levels: torch.Tensor, members: torch.Tensor, owners: Array
) -> tuple[dict[Any, int], torch.Tensor]:
    """Which thresholds the other people choose for each, and similarities of RDMs to group means at these."""
    everywhere = nearest(levels, members, owners)
    selected = torch.empty_like(everywhere[0])
    chosen = {}
    for owner in pd.unique(owners):
        own = torch.as_tensor(owners == owner)
        rest = (~own).nonzero()[:, 0]
        best = _best(levels[:, rest[:, None], rest], members[rest], owners[rest.numpy()])
        selected[own] = everywhere[best, own]
        chosen[owner] = best
    return chosen, selected


def _null_draw(
    plain: torch.Tensor, levels: torch.Tensor, members: torch.Tensor, owners: Array
) -> list[float]:
    selected = _nested(levels, members, owners)[1]
    return [accuracy(found, members).item() for found in (nearest(plain, members, owners), selected)]


def _add_thresholds(
    dataset: xr.Dataset, pairs: Thresholds, chosen: dict[Any, int], grid_accuracy: Array, best: int
) -> None:
    table = np.array(pairs)
    by_split = table[list(chosen.values())]
    for k, name in enumerate(("lower", "upper")):
        values = np.stack([np.full(len(by_split), np.nan), by_split[:, k]])[..., None]
        dataset[name] = (("model", "split", "unit"), values)
        dataset.coords[f"threshold_{name}"] = ("threshold", table[:, k])
        dataset.attrs[name] = float(table[best, k])
    dataset["grid_accuracy"] = ("threshold", grid_accuracy)
