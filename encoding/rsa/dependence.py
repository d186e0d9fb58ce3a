"""Dependence of RDMs at the thresholds where it is largest, with the search paid for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ...models.devices import resolve_device
from ...neuro.progress import track
from ..containers import kind_of, to_tensor
from ..engine.topology import distance_profiles, ramp
from ..significance import check_count
from .comparison import matched, precision
from .pairs import check_rdms, stimulus_order
from .thresholds import Thresholds, threshold_pairs
from .topology import plain_order, scaled_rows

#: entries of permuted matrices held at once
CHUNK = 1 << 23


def compare_adaptively(
    a: Any,
    b: Any,
    *,
    kind: Literal["relative", "absolute"] = "relative",
    grid: ArrayLike = (0, 0.2, 0.4, 0.6, 0.8, 1),
    permutations: int = 1000,
    random_state: int | None = 0,
    device: str | torch.device = "auto",
) -> xr.Dataset:
    """Dependence of RDMs at the thresholds where it is largest, tested against the same search on permuted stimuli.

    The adaptive geo-topological dependence measure: the squared distance correlation of two RDMs, both bent by the
    thresholds that make it largest, for each comparison its own. Chance is the largest value after the stimuli of
    one RDM are exchanged, so that the search is paid for.

    Parameters
    ----------
    a, b
        Labelled ``rdm × pair`` arrays, or plain dissimilarities in one common order: a vector, or one vector a row.
    kind
        What thresholds count: ``"relative"`` (default), shares of the pairs, or ``"absolute"``, fractions of the
        largest dissimilarity of each RDM; thresholds (0, 1) are then the distance correlation itself.
    grid
        Levels of all thresholds, from 0 to 1; all pairs in rising order are tried for ``a`` and for ``b``.
    permutations
        Number of random orders of stimuli.
    random_state
        Seeds them.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    xarray.Dataset
        ``rdm_a × rdm_b``: ``dependence`` from 0 to 1, one-sided ``p`` (left out without permutations), and the
        thresholds ``lower_a``, ``upper_a``, ``lower_b`` and ``upper_b``.

    Raises
    ------
    ValueError
        If stimuli differ, dissimilarities are missing or all equal, or levels are out of range.

    References
    ----------
    Lin & Kriegeskorte (2018). Adaptive geo-topological independence criterion. arXiv:1810.02923. Székely, Rizzo &
    Bakirov (2007). Measuring and testing dependence by correlation of distances. Ann Stat 35.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import rsa
    >>> distances = np.random.default_rng(0).uniform(size=45)
    >>> found = rsa.compare_adaptively(distances, distances**3, permutations=50, random_state=0)
    >>> round(found["dependence"].item(), 3), round(found["p"].item(), 3)
    (1.0, 0.02)
    """
    check_count(permutations, "permutations")
    if kind not in ("relative", "absolute"):
        raise ValueError(f"kind={kind!r} is unknown; use 'relative' or 'absolute'.")
    pairs = threshold_pairs(grid, "relative")
    labelled = [kind_of(side) == "xarray" for side in (a, b)]
    if labelled[0] != labelled[1]:
        raise TypeError(
            "one of a and b is labelled and the other is not; label both or pass the values of both."
        )
    if labelled[0]:
        index = stimulus_order(check_rdms(a, "a"), "a")[1]
        b = matched(a, check_rdms(b, "b"), ("a", "b"))
    where = resolve_device(device)
    rows = [torch.atleast_2d(to_tensor(side, where, precision(where))) for side in (a, b)]
    if rows[0].shape[-1] != rows[1].shape[-1]:
        raise ValueError(
            f"a has {rows[0].shape[-1]} dissimilarities and b {rows[1].shape[-1]}; give as many."
        )
    if not labelled[0]:
        index = plain_order(rows[0].shape[-1])
    square = torch.as_tensor(index, device=where)
    profiles = [_profiles(part, square, pairs, kind, name) for part, name in zip(rows, "ab", strict=True)]
    first, second = profiles
    statistic = torch.einsum("xsij,ytij->xyst", first, second)
    best = statistic.flatten(2).argmax(dim=-1).cpu().numpy()
    dims = ("rdm_a", "rdm_b")
    found = {"dependence": (dims, statistic.amax(dim=(2, 3)).cpu().numpy())}
    if permutations:
        found["p"] = (dims, _adaptive_p(first, second, statistic, permutations, random_state))
    for side, number in zip("ab", np.divmod(best, len(pairs)), strict=True):
        found |= {
            f"{name}_{side}": (dims, np.array(pairs)[number, k]) for k, name in enumerate(("lower", "upper"))
        }
    ids = {
        f"rdm_{n}": side.coords["neuroid_id"].values
        for n, side in zip("ab", (a, b), strict=True)
        if labelled[0]
    }
    return xr.Dataset(found, ids, {"kind": kind, "permutations": permutations})


def _profiles(
    rows: torch.Tensor, square: torch.Tensor, pairs: Thresholds, kind: str, which: str
) -> torch.Tensor:
    """Centred matrices of every RDM at every two thresholds, ``(rdm, thresholds, n, n)``."""
    if bool((missing := rows.isnan().any(dim=-1)).any()):
        raise ValueError(
            f"{which}[{int(missing.nonzero()[0])}] has missing dissimilarities, and distance correlation needs every "
            "pair; leave out the stimuli that they belong to."
        )
    names = [f"{which}[{k}]" for k in range(len(rows))]
    scaled = scaled_rows(rows, kind, np.array(names))
    if kind == "absolute":
        scaled = scaled / scaled.amax(dim=-1, keepdim=True)
    bent = torch.stack([ramp(scaled, *pair) for pair in pairs], dim=1)[..., square]
    bent.diagonal(dim1=-2, dim2=-1).zero_()
    return distance_profiles(bent)


def _adaptive_p(
    a: torch.Tensor, b: torch.Tensor, statistic: torch.Tensor, n: int, random_state: int | None
) -> NDArray[Any]:
    """How often the largest dependence is reached after the stimuli of ``b`` are exchanged."""
    rng = np.random.default_rng(random_state)
    size = a.shape[-1]
    upper = torch.triu_indices(size, size, device=a.device)
    twice = torch.where(upper[0] == upper[1], 1.0, 2.0).to(a)
    fixed = (a[..., upper[0], upper[1]] * twice).flatten(0, 1)
    moving = b.flatten(2)
    reached = torch.ones_like(statistic[:, :, 0, 0])
    # the same order of stimuli may be summed in other company, which changes the last digits
    observed = statistic.amax(dim=(2, 3)) * (1 - 1e-10)
    step = max(1, CHUNK // (moving.shape[1] * len(twice)))
    for start in track(range(0, n, step), "permutations"):
        orders = rng.permuted(np.tile(np.arange(size), (min(step, n - start), 1)), axis=1)
        order = torch.as_tensor(orders, device=a.device)
        places = order[:, upper[0]] * size + order[:, upper[1]]
        for k, rows in enumerate(moving):
            drawn = (fixed @ rows[:, places].flatten(0, 1).mT).view(len(a), a.shape[1], moving.shape[1], -1)
            reached[:, k] += (drawn.amax(dim=(1, 2)) >= observed[:, k, None]).sum(dim=-1)
    return np.asarray((reached / (n + 1)).cpu().numpy())
