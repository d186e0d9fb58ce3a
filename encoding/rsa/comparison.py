"""How alike dissimilarity matrices are."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from ...models.devices import resolve_device
from ..containers import kind_of, to_kind, to_tensor
from ..engine.similarity import similarities
from .pairs import check_enough, check_rdms
from .partial import check_partial, take_out
from .preparation import (
    check_found,
    check_method,
    check_noise,
    known_together,
    matched,
    ordered,
    precision,
    prepare_checked,
)

#: dissimilarities that are prepared at once
CHUNK = 1 << 23

#: what the sides are called in messages
CALLED = {name: name for name in ("a", "b", "given")}


def compare(
    a: Any,
    b: Any = None,
    method: str = "spearman",
    *,
    sigma: Any = None,
    given: Any = None,
    semi: Literal[False, "a", "b"] = False,
    device: str | torch.device = "auto",
) -> Any:
    """Similarity of every RDM of one set to every RDM of another.

    Parameters
    ----------
    a, b
        Labelled ``rdm × pair`` arrays, whose pairs are matched by stimulus whatever their order and orientation; or
        plain dissimilarities in one common order: a vector, or one vector a row. Without ``b``, all of ``a`` among
        themselves. Pairs that are missing (NaN) in one of two RDMs count for neither of them.
    method
        ``"pearson"``, ``"spearman"`` (default), ``"cosine"``, ``"tau-b"`` (Kendall's), ``"tau-a"`` (ties count as
        neither), or ``"rho-a"`` (Spearman's expected under random breaking of ties; Schütt et al., 2023, eLife). The
        last two do not favour models that predict ties. ``"whitened-pearson"`` and ``"whitened-cosine"`` allow for
        the covariance of dissimilarities that share a condition (Diedrichsen et al., 2020). ``"bures"`` compares the
        second moments that squared distances belong to, ``"riemannian"`` is minus the distance of those of ``b``,
        which must have full rank, from those of ``a`` at the best scale and noise level.
    sigma
        Noise covariance of the conditions' pattern estimates (or their variances), in the order of first appearance
        in ``a``, for the whitened methods and ``"riemannian"``; default: independent and equal.
    given
        RDMs whose part is taken out of ``a`` and ``b`` first (partial correlation): covariates, of the kind of ``a``.
        With ``"spearman"`` and ``"rho-a"`` the ranks are regressed.
    semi
        ``"a"`` or ``"b"``: take it out of that side only (semi-partial correlation).
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …; plain torch vectors stay where they are. Computed in float64 wherever
        the device has it.

    Returns
    -------
    xarray.DataArray, numpy.ndarray, torch.Tensor or float
        ``rdm_a × rdm_b`` with the labels of both (``region_a``, ``region_b``, …) if labelled, where the attribute
        ``missing_pairs`` counts pairs that some RDM lacks; else in the kind of ``a``, without the axis of a side that
        is one vector; a number for two vectors.

    Raises
    ------
    ValueError
        If the stimuli or lengths differ, there are fewer than four conditions, an RDM is constant where that leaves
        the similarity undefined, or the covariates are collinear.

    Examples
    --------
    >>> from cerebridge.encoding import rsa
    >>> rsa.compare([1, 2, 3], [1, 2, 4], method="tau-a")
    1.0
    >>> round(rsa.compare([1, 2, 3, 5, 4, 6], [2, 1, 3, 4, 5, 6], given=[1, 1, 2, 2, 3, 3]), 3)
    0.535
    """
    check_method(method)
    check_partial(method, given, semi)
    b = a if b is None else b
    sides = {"a": a, "b": b} | ({} if given is None else {"given": given})
    if "xarray" in (kinds := {kind_of(side) for side in sides.values()}):
        if len(kinds) > 1:
            raise TypeError(
                "one of the sets of RDMs is labelled and another is not, so their pairs cannot be matched; "
                "label all or pass the values of all."
            )
        return compare_labelled(sides, method, sigma, semi, device)
    where = a.device if isinstance(a, torch.Tensor) else resolve_device(device)
    rows = {name: to_tensor(side, where) for name, side in sides.items()}
    x = rows["a"]
    for name, y in rows.items():
        if x.ndim not in (1, 2) or y.ndim not in (1, 2) or x.shape[-1] != y.shape[-1]:
            raise ValueError(
                f"a has the shape {tuple(x.shape)} and {'b' if name == 'a' else name} {tuple(y.shape)}; "
                "give vectors (or one a row) of one length."
            )
    flat = {name: torch.atleast_2d(side) for name, side in rows.items()}
    found, lacking = _all_with_all(
        flat, method, sigma, semi, {name: np.arange(len(side)) for name, side in flat.items()}
    )
    if lacking:
        warnings.warn(
            f"{lacking} of {x.shape[-1]} dissimilarities are missing in some RDM; each similarity is over those that "
            "both RDMs have.",
            stacklevel=2,
        )
    found = found.reshape(x.shape[:-1] + rows["b"].shape[:-1])
    return found.item() if found.ndim == 0 else to_kind(found, kind_of(a))


def compare_labelled(
    sides: dict[str, xr.DataArray],
    method: str,
    sigma: Any = None,
    semi: Literal[False, "a", "b"] = False,
    device: str | torch.device = "auto",
    called: dict[str, str] = CALLED,
) -> xr.DataArray:
    """Compare labelled RDMs: ``a``, ``b`` and maybe ``given`` of ``sides``, in messages ``called`` something else."""
    for name, side in sides.items():
        # more than three pairs are of more than three stimuli
        if check_rdms(side, called[name]).sizes["pair"] < 4:
            check_enough(side, called[name])
    where = resolve_device(device)
    first = ordered(sides["a"], method, called["a"])
    labels = {name: side.coords["neuroid_id"].values for name, side in sides.items()}
    rows = {
        name: to_tensor(matched(first, side, (called["a"], called[name])), where)
        for name, side in sides.items()
    }
    values, lacking = _all_with_all(rows, method, sigma, semi, labels, called)
    coords: dict[str, tuple[str, Any]] = {}
    for suffix in ("a", "b"):
        dim = f"rdm_{suffix}"
        coords[dim] = (dim, labels[suffix])
        coords |= {
            f"{name}_{suffix}": (dim, c.values)
            for name, c in sides[suffix].coords.items()
            if c.dims == ("rdm",) and name not in ("neuroid_id", "rdm")
        }
    attrs = {"method": method} | ({"missing_pairs": lacking} if lacking else {})
    return xr.DataArray(values.cpu().numpy(), dims=("rdm_a", "rdm_b"), coords=coords, attrs=attrs)


def _all_with_all(
    rows: dict[str, torch.Tensor],
    method: str,
    sigma: Any,
    semi: Literal[False, "a", "b"],
    labels: dict[str, Any],
    called: dict[str, str] = CALLED,
) -> tuple[torch.Tensor, int]:
    """Similarities over the pairs that are known on both sides, and how many pairs are missing anywhere."""
    a, b, given = rows["a"], rows["b"], rows.get("given")
    noise = check_noise(sigma, method, a.shape[-1], a)
    if given is not None and bool((unknown := given.isnan().any(dim=0)).any()):
        a = a.masked_fill(unknown, torch.nan)
    if not _lacks(a) and not _lacks(b):
        return _over_known({**rows, "a": a}, labels, method, semi, noise, None, called), 0
    found = torch.empty(len(a), len(b), dtype=precision(a.device), device=a.device)
    for in_a, in_b, known in known_together(a, b):
        some, names = {**rows, "a": a[in_a], "b": b[in_b]}, dict(labels)
        names |= {"a": labels["a"][in_a.cpu().numpy()], "b": labels["b"][in_b.cpu().numpy()]}
        found[in_a[:, None], in_b] = _over_known(some, names, method, semi, noise, known, called)
    return found, int(torch.cat([a, b]).isnan().any(dim=0).sum())


def _over_known(
    rows: dict[str, torch.Tensor],
    labels: dict[str, Any],
    method: str,
    semi: Literal[False, "a", "b"],
    noise: torch.Tensor | None,
    known: torch.Tensor | None,
    called: dict[str, str],
) -> torch.Tensor:
    """Similarities over pairs that all RDMs have (``None``: all)."""
    precise = precision(rows["a"].device)

    def prepared(name: str, some: slice = slice(None)) -> torch.Tensor:
        side = rows[name][some]
        side = (side if known is None else side[:, known]).to(precise)
        return prepare_checked(side, method, called[name], labels[name][some], noise, known)

    covariates = prepared("given") if "given" in rows else None

    def left_of(name: str, some: slice = slice(None)) -> torch.Tensor:
        ready = prepared(name, some)
        if covariates is None or (semi and semi != name):
            return ready
        return take_out(ready, covariates, called[name], labels[name][some], labels["given"])

    first = left_of("a")
    # a few rows at a time, so that what is prepared of the larger set is never held as a whole
    step = max(1, CHUNK // rows["b"].shape[-1])
    parts = []
    for start in range(0, len(rows["b"]), step):
        some = slice(start, start + step)
        parts.append(similarities(first, left_of("b", some), method))
        check_found(parts[-1], method, called["b"], labels["b"][some])
    return torch.cat(parts, dim=-1).to(precise)


def _lacks(rows: torch.Tensor) -> bool:
    # sums are missing where a value is: one pass, and no second array of that size
    return bool(rows.sum(dim=-1).isnan().any())
