"""How well the best possible model could do on the RDMs of several people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import xarray as xr

from ...models.devices import resolve_device
from ..engine.ranks import midranks
from ..engine.similarity import paired_similarities, unit_length
from .pairs import joined
from .preparation import check_method, ordered, prepare_checked, vectors

Ceiling = Literal["rank", "mean"]


@dataclass(frozen=True)
class NoiseCeiling:
    """How well the best possible model could do on the RDMs of several people.

    ``lower`` is the mean similarity of each RDM with the pool of the others, ``upper`` with the pool of all, which
    contains it; ``by_rdm`` holds both along ``rdm``.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=10, n_units=20, random_state=0)
    >>> people = rsa.rdm(brain.assign_coords(subject=("neuroid", [0, 1] * 10)), by="subject")
    >>> rsa.noise_ceiling(people).by_rdm["upper"].dims
    ('rdm',)
    """

    lower: float
    upper: float
    by_rdm: xr.Dataset


def noise_ceiling(
    rdms: xr.DataArray | Sequence[xr.DataArray],
    method: str = "spearman",
    ceiling: Ceiling = "rank",
    *,
    device: str | torch.device = "auto",
) -> NoiseCeiling:
    """Noise ceiling of the RDMs of several people (Nili et al., 2014, PLoS Comput Biol).

    Parameters
    ----------
    rdms
        ``rdm × pair``, one RDM a person, or a list of such arrays. Pairs that one lacks are left out for all, and
        counted in the attribute ``missing_pairs`` of ``by_rdm``.
    method
        How RDMs are compared: see :func:`compare`.
    ceiling
        How RDMs are pooled. ``"rank"`` (default) brings each to the scale on which ``method`` compares before
        averaging, so that no person weighs more: ranks for the rank methods, z-scores for ``"pearson"``, unit length
        for ``"cosine"``, whitened or not. ``"mean"`` averages the dissimilarities as they are, as ``"bures"`` and
        ``"riemannian"`` always do.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    NoiseCeiling

    Raises
    ------
    ValueError
        If there are fewer than two RDMs, they have no pairs in common, or one cannot be compared.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=20, n_units=30, random_state=0)
    >>> people = rsa.rdm(brain.assign_coords(subject=("neuroid", [0, 1, 2] * 10)), by="subject")
    >>> ceiling = rsa.noise_ceiling(people)
    >>> bool(ceiling.lower < ceiling.upper)
    True
    """
    check_method(method)
    check_ceiling(ceiling)
    rdms = joined(rdms, "rdms")
    if rdms.sizes["rdm"] < 2:
        raise ValueError("a noise ceiling over RDMs needs those of at least two people, and rdms has one.")
    rows = vectors(ordered(rdms, method, "rdms"), resolve_device(device))
    found = rdm_ceilings(rows, method, ceiling, rdms.coords["neuroid_id"].values)
    lower, upper = (side.cpu().numpy() for side in found)
    coords = {name: c for name, c in rdms.coords.items() if c.dims == ("rdm",)}
    missing = int(rows.isnan().any(dim=0).sum())
    attrs = {"method": method, "ceiling": ceiling} | ({"missing_pairs": missing} if missing else {})
    by_rdm = xr.Dataset({"lower": ("rdm", lower), "upper": ("rdm", upper)}, coords, attrs)
    return NoiseCeiling(float(lower.mean()), float(upper.mean()), by_rdm)


def rdm_ceilings(
    rows: torch.Tensor, method: str, ceiling: Ceiling, labels: object = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarity of each row with the pool of the others and of all, over the pairs that all rows have."""
    known = rows.isfinite().all(dim=0)
    whole = bool(known.all())
    rows, pairs = (rows, None) if whole else (rows[:, known], known)
    ready = prepare_checked(rows, method, "the RDMs of people", labels, known=pairs)
    scaled = scale_rows(rows, method) if ceiling == "rank" else rows
    total = scaled.sum(dim=0, keepdim=True)
    lower, upper = (
        paired_similarities(prepare_checked(pool, method, "the pooled RDMs", known=pairs), ready, method)
        for pool in (total - scaled, total)
    )
    return lower, upper


def check_ceiling(ceiling: str) -> None:
    """Refuse an unknown way of pooling people."""
    if ceiling not in ("rank", "mean"):
        raise ValueError(f"ceiling={ceiling!r} is unknown; use 'rank' or 'mean'.")


def scale_rows(rows: torch.Tensor, method: str) -> torch.Tensor:
    """Dissimilarities on the scale on which ``method`` compares them, before any whitening."""
    if method in ("bures", "riemannian"):
        return rows
    if method.endswith("cosine"):
        return unit_length(rows)
    if method.endswith("pearson"):
        return unit_length(rows - rows.mean(dim=-1, keepdim=True))
    return midranks(rows)
