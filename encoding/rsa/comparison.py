"""How alike dissimilarity matrices are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from ...models.devices import resolve_device
from ...neuro.assembly import quoted
from ..containers import kind_of, to_kind, to_tensor
from ..engine.similarity import METHODS, prepare, similarities
from .pairs import check_rdms, match_pairs


def compare(a: Any, b: Any = None, method: str = "spearman", *, device: str | torch.device = "auto") -> Any:
    """Similarity of every RDM of one set to every RDM of another.

    Parameters
    ----------
    a, b
        Labelled ``rdm × pair`` arrays, whose pairs are matched by stimulus whatever their order and orientation; or
        plain dissimilarities in one common order: a vector, or one vector a row. Without ``b``, all of ``a`` among
        themselves.
    method
        ``"pearson"``, ``"spearman"`` (default), ``"cosine"``, ``"tau-a"`` (Kendall's, ties count as neither), or
        ``"rho-a"`` (Spearman's expected under random breaking of ties; Schütt et al., 2023, eLife). The last two do
        not favour models that predict ties.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …; plain torch vectors stay where they are. Computed in float64 wherever
        the device has it.

    Returns
    -------
    xarray.DataArray, numpy.ndarray, torch.Tensor or float
        ``rdm_a × rdm_b`` with the labels of both (``region_a``, ``region_b``, …) if labelled; else in the kind of
        ``a``, without the axis of a side that is one vector; a number for two vectors.

    Raises
    ------
    ValueError
        If the stimuli or lengths differ, a dissimilarity is missing, or an RDM is constant where that leaves the
        similarity undefined.

    Examples
    --------
    >>> from cerebridge.encoding import rsa
    >>> rsa.compare([1, 2, 3], [1, 2, 4], method="tau-a")
    1.0
    """
    check_method(method)
    b = a if b is None else b
    if "xarray" in (kinds := {kind_of(a), kind_of(b)}):
        if len(kinds) > 1:
            raise TypeError(
                "one of the two sets of RDMs is labelled and the other is not, so their pairs cannot be matched; "
                "label both or pass the values of both."
            )
        return _compare_labelled(a, b, method, device)
    where = a.device if isinstance(a, torch.Tensor) else resolve_device(device)
    x, y = (to_tensor(side, where, precision(where)) for side in (a, b))
    if x.ndim not in (1, 2) or y.ndim not in (1, 2) or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"a has the shape {tuple(x.shape)} and b {tuple(y.shape)}; give vectors (or one a row) of one length."
        )
    first, second = (
        prepare_checked(torch.atleast_2d(side), method, name) for side, name in ((x, "a"), (y, "b"))
    )
    found = similarities(first, second, method).reshape(x.shape[:-1] + y.shape[:-1])
    return found.item() if found.ndim == 0 else to_kind(found, kind_of(a))


def check_method(method: str) -> None:
    """Refuse an unknown way of comparing."""
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; use {', '.join(map(repr, METHODS))}.")


def precision(device: torch.device) -> torch.dtype:
    """Float64, but for Apple's GPUs, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def vectors(rdms: xr.DataArray, device: torch.device) -> torch.Tensor:
    """Dissimilarities of labelled RDMs, one RDM a row, in the precision for comparing."""
    return to_tensor(rdms, device, precision(device))


def prepare_checked(rows: torch.Tensor, method: str, which: str, labels: Any = None) -> torch.Tensor:
    """Prepare vectors for comparing, or name the first that cannot be compared."""
    names = (
        [f"{which}[{k}]" for k in range(len(rows))]
        if labels is None
        else [f"RDM {quoted(x)} of {which}" for x in labels]
    )
    missing = (~rows.isfinite()).sum(dim=-1)
    if bool(missing.any()):
        k = int(missing.nonzero()[0])
        raise ValueError(
            f"{names[k]} has {int(missing[k])} missing or infinite dissimilarities; drop those pairs first."
        )
    if rows.shape[-1] < 2:
        raise ValueError(
            f"{names[0]} has {rows.shape[-1]} dissimilarities; comparing needs at least two, so three stimuli."
        )
    ready = prepare(rows, method)
    undefined = ready.isnan().flatten(1).any(dim=-1)
    if bool(undefined.any()):
        kind = "zero" if method == "cosine" else "constant"
        raise ValueError(
            f"{names[int(undefined.nonzero()[0])]} is {kind}, so its {method} similarity is undefined; leave it out, "
            "or use method='rho-a'."
        )
    return ready


def matched(a: xr.DataArray, b: xr.DataArray, names: tuple[str, str]) -> xr.DataArray:
    """``b`` with its pairs in the order of ``a``."""
    order = match_pairs(a, b, names)
    return b if order is None else b.isel(pair=order)


def _compare_labelled(
    a: xr.DataArray, b: xr.DataArray, method: str, device: str | torch.device
) -> xr.DataArray:
    check_rdms(a, "a"), check_rdms(b, "b")
    where = resolve_device(device)
    first, second = (
        prepare_checked(vectors(side, where), method, name, side.coords["neuroid_id"].values)
        for side, name in ((a, "a"), (matched(a, b, ("a", "b")), "b"))
    )
    coords: dict[str, tuple[str, Any]] = {}
    for side, suffix in ((a, "a"), (b, "b")):
        dim = f"rdm_{suffix}"
        coords[dim] = (dim, side.coords["neuroid_id"].values)
        coords |= {
            f"{name}_{suffix}": (dim, c.values)
            for name, c in side.coords.items()
            if c.dims == ("rdm",) and name not in ("neuroid_id", "rdm")
        }
    values = similarities(first, second, method).cpu().numpy()
    return xr.DataArray(np.asarray(values), dims=("rdm_a", "rdm_b"), coords=coords, attrs={"method": method})
