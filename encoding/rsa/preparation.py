"""RDMs made ready for comparing: matched, in the right precision and order, and refused where that is undefined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import quoted
from ..containers import to_tensor
from ..engine.similarity import MATRIX_METHODS, METHODS, is_undefined, prepare
from .pairs import check_rdms, match_pairs, stimulus_order

#: ways of comparing in which vectors keep their mean
UNCENTRED = ("cosine", "whitened-cosine", "bures", "riemannian")


def check_method(method: str) -> None:
    """Refuse an unknown way of comparing."""
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; use {', '.join(map(repr, METHODS))}.")


def is_above_zero(method: str, data: NDArray[Any]) -> bool:
    """Whether similarity to these dissimilarities is above 0 whatever they hold, so that 0 is no chance level."""
    return method in UNCENTRED and not (data < 0).any()


def precision(device: torch.device) -> torch.dtype:
    """Float64, but for Apple's GPUs, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def vectors(rdms: xr.DataArray, device: torch.device) -> torch.Tensor:
    """Dissimilarities of labelled RDMs, one RDM a row, in the precision for comparing."""
    return to_tensor(rdms, device, precision(device))


def matched(a: xr.DataArray, b: xr.DataArray, names: tuple[str, str]) -> xr.DataArray:
    """``b`` with its pairs in the order of ``a``."""
    order = match_pairs(a, b, names)
    return b if order is None else b.isel(pair=order)


def ordered(rdms: xr.DataArray, method: str, which: str) -> xr.DataArray:
    """RDMs with their pairs in the order of ``numpy.triu_indices`` if ``method`` reads them as matrices."""
    if method not in MATRIX_METHODS:
        return rdms
    stimuli, index = stimulus_order(rdms, which)
    order = index[np.triu_indices(len(stimuli), 1)]
    return rdms if (order == np.arange(len(order))).all() else rdms.isel(pair=order)


def known_together(
    a: torch.Tensor, b: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """Rows of two sets that miss the same pairs, and the pairs that both of them know (``None``: all)."""
    missing_a, missing_b = a.isnan(), b.isnan()
    if not bool(missing_a.any() or missing_b.any()):
        yield torch.arange(len(a)), torch.arange(len(b)), None
        return
    (patterns_a, code_a), (patterns_b, code_b) = (
        torch.unique(missing, dim=0, return_inverse=True) for missing in (missing_a, missing_b)
    )
    for i, pattern_a in enumerate(patterns_a):
        for j, pattern_b in enumerate(patterns_b):
            known = ~(pattern_a | pattern_b)
            rows = (code_a == i).nonzero()[:, 0], (code_b == j).nonzero()[:, 0]
            yield *rows, None if bool(known.all()) else known


def prepare_checked(
    rows: torch.Tensor,
    method: str,
    which: str,
    labels: Any = None,
    noise: torch.Tensor | None = None,
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """Prepare vectors for comparing, or name the first that cannot be compared.

    Parameters
    ----------
    rows
        One RDM a row; of all its pairs only those in ``known``.
    method, noise, known
        As of :func:`cerebridge.encoding.engine.similarity.prepare`.
    which
        What the set is called in messages.
    labels
        Names of the RDMs; without them they are counted.
    """
    names = (
        [f"{which}[{k}]" for k in range(len(rows))]
        if labels is None
        else [f"RDM {quoted(x)} of {which}" for x in labels]
    )
    if not bool(rows.sum(dim=-1).isfinite().all()) and bool(
        (missing := (~rows.isfinite()).sum(dim=-1)).any()
    ):
        k = int(missing.nonzero()[0])
        raise ValueError(
            f"{names[k]} has {int(missing[k])} missing or infinite dissimilarities; drop those pairs first."
        )
    if rows.shape[-1] < 2:
        shared = "" if known is None else " that are not missing on either side"
        raise ValueError(
            f"{names[0]} has {rows.shape[-1]} dissimilarities{shared}; comparing needs at least two, so three stimuli."
        )
    try:
        ready = prepare(rows, method, noise, known)
    except (ValueError, torch.linalg.LinAlgError) as error:
        raise ValueError(_matrix_trouble(error, names[0], method)) from None
    undefined = is_undefined(ready, method)
    if bool(undefined.any()):
        kind = "zero" if method in ("cosine", "whitened-cosine", "bures") else "constant"
        raise ValueError(
            f"{names[int(undefined.nonzero()[0])]} is {kind}, so its {method} similarity is undefined; leave it out, "
            "or use method='rho-a'."
        )
    return ready


def check_found(found: torch.Tensor, method: str, which: str, labels: Any) -> None:
    """Refuse similarities to RDMs (columns) that have none, naming the first."""
    undefined = found.isnan().any(dim=0)
    if bool(undefined.any()):
        raise ValueError(
            f"RDM {quoted(labels[int(undefined.nonzero()[0])])} of {which} has second moments that are singular or not "
            f"those of distances, so method={method!r} is undefined; use squared distances of patterns of more units "
            "than conditions, or method='bures'."
        )


def check_noise(sigma: Any, method: str, n_pairs: int, like: torch.Tensor) -> torch.Tensor | None:
    """Noise covariance between conditions as a matrix, or ``None``; refused where ``method`` has no use for it."""
    if sigma is None:
        return None
    if method not in MATRIX_METHODS or method == "bures":
        raise ValueError(
            f"method={method!r} does not use sigma=; it is for 'whitened-pearson', 'whitened-cosine' and 'riemannian'."
        )
    noise = to_tensor(sigma).to(like.device, precision(like.device))
    noise = torch.diag(noise) if noise.ndim == 1 else noise
    n = (1 + (1 + 8 * n_pairs) ** 0.5) / 2
    if noise.ndim != 2 or noise.shape[0] != noise.shape[1] or len(noise) != n:
        raise ValueError(
            f"sigma has the shape {tuple(noise.shape)}; for {n_pairs} dissimilarities give the noise covariance of "
            f"{n:g} conditions."
        )
    if not bool(noise.isfinite().all()) or not torch.allclose(noise, noise.mT, rtol=1e-5, atol=1e-8):
        raise ValueError("sigma is not symmetric or has missing values; give a covariance of conditions.")
    return noise


def _matrix_trouble(error: Exception, name: str, method: str) -> str:
    text = str(error)
    if "not all pairs" in text:
        return f"method={method!r} reads matrices, and {name} is none: {text}."
    if "missing" in text:
        return (
            f"method={method!r} needs matrices, and {text}; leave out the conditions that lack pairs, "
            "or use method='whitened-cosine' without sigma."
        )
    return "sigma is singular; shrink it towards its diagonal, or give variances only."


def stack_named(
    rdms: Mapping[str, xr.DataArray] | xr.DataArray, like: xr.DataArray, which: str
) -> xr.DataArray:
    """RDMs given as an array, or by name as one array, their pairs in the order of ``like``."""
    if isinstance(rdms, xr.DataArray):
        return matched(like, check_rdms(rdms, which), ("data", which))
    if not isinstance(rdms, Mapping):
        raise TypeError(
            f"{which} is a {type(rdms).__name__}; give a mapping of name to RDM, or an array rdm × pair."
        )
    if not rdms:
        raise ValueError(f"{which} is empty; give at least one RDM.")
    rows = []
    for name, array in rdms.items():
        label = f"{which}[{name!r}]"
        if check_rdms(array, label).sizes["rdm"] != 1:
            raise ValueError(f"{label} has {array.sizes['rdm']} RDMs; give one a name, or all as one array.")
        rows.append(matched(like, array, ("data", label)).values)
    pairs = {name: c for name, c in like.coords.items() if c.dims == ("pair",)}
    names = np.array([str(name) for name in rdms])
    return xr.DataArray(
        np.concatenate(rows),
        dims=("rdm", "pair"),
        coords={"neuroid_id": ("rdm", names), **pairs},
        attrs={"modality": "model", "units": "a.u."},
    )
