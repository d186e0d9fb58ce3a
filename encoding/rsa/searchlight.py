"""Searchlights: models compared with the dissimilarities around every voxel or vertex."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...models.devices import resolve_device
from ...neuro.assembly import quoted, validate
from ...neuro.progress import track
from ..audit import fingerprint, versions
from ..cluster import Blocks
from ..containers import to_tensor
from ..engine.dissimilarity import whiten
from ..engine.searchlight import CONSTANT, SCORED, SINGULAR, UNDEFINED, Models, Searchlight
from ..results import Result
from .images import PLACE
from .metrics import METRICS, check_request
from .neighbourhoods import Neighbourhoods, find_neighbours, take_rows
from .noise import given_noise, residuals
from .pairs import check_rdms, pair_table
from .patterns import Design, check_finite, mean_patterns, run_patterns
from .places import places_of
from .preparation import check_method, matched, precision, prepare_checked

Array = NDArray[Any]

#: centres between two steps of the progress bar, or sent to a worker at once
BLOCK = 512
#: why centres have no score
REASONS = {
    SINGULAR: "the noise of their units is singular",
    UNDEFINED: "a pattern is constant or zero over their units",
    CONSTANT: "their dissimilarities are all the same or zero",
}
FITTED = "nothing is fitted: models are fixed, and noise is the recording's own"


def run_searchlight(
    array: xr.DataArray | Mapping[str, xr.DataArray],
    models: Mapping[str, xr.DataArray] | xr.DataArray,
    neighbours: Neighbourhoods | None = None,
    *,
    radius: float | None = None,
    metric: str = "correlation",
    method: str = "spearman",
    noise: Any = None,
    cv: str = "run",
    mesh: Any = "fsaverage5",
    device: str | torch.device = "auto",
    client: Any = None,
    progress: bool | None = None,
) -> Result:
    """Compare models with the RDM of the units around every centre, one pass over the brain, no RDM kept.

    Parameters
    ----------
    array
        ``presentation × neuroid`` of voxels or vertices; or one a person, by name, with the same stimuli.
    models
        ``rdm × pair``, one model an RDM; or a mapping of name to such an array of one RDM. Stimuli are matched by
        their ids; pairs that are missing in a model are left out of its comparisons alone.
    neighbours
        Of :func:`find_neighbours`; needed for other than its usual settings.
    radius
        Instead: mm, as there.
    metric, noise, cv
        As of :func:`rdm`, but for metrics of counts and rates, ``"decoding"`` and noise by run. ``"residual"`` is
        estimated around every centre: the covariance of its own units over the deviations of presentations from the
        mean of their stimulus, shrunk (Ledoit & Wolf, 2004).
    method
        How RDMs are compared: see :func:`compare`.
    mesh
        Of vertices, for ``radius``: see :func:`find_neighbours`.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, … Dissimilarities are computed in the precision of the array, comparisons
        in float64 wherever the device has it.
    client
        A connected ``distributed.Client``, whose workers share the centres; default this process.
    progress
        Whether to draw a progress bar; default on a terminal.

    Returns
    -------
    Result
        Units are the centres, with all labels of their voxels or vertices, ``n_units`` around them, and ``subject``
        where there are several. A centre without a score is missing; the audit counts them by reason, and centres
        that had too few units to be tried.

    Raises
    ------
    ValueError
        If the units have no place or are others than those of ``neighbours``, stimuli differ from the models', values
        are missing, or no centre can be scored.

    Warns
    -----
    UserWarning
        If some centres cannot be scored.

    References
    ----------
    Kriegeskorte, Goebel & Bandettini (2006). Information-based functional brain mapping. PNAS 103.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(modality="fmri", n_stimuli=8, n_units=60, random_state=0)
    >>> x, y, z = np.unravel_index(np.arange(60), (5, 4, 3))
    >>> brain = brain.assign_coords({axis: ("neuroid", 3.0 * at) for axis, at in zip("xyz", (x, y, z))})
    >>> models = {"all": rsa.rdm(brain)}
    >>> rsa.run_searchlight(brain, models, radius=6).score.sizes["unit"]
    60
    """
    people = dict(array) if isinstance(array, Mapping) else {"": array}
    if not people:
        raise ValueError("array is empty; give at least one person's.")
    started = time.perf_counter()
    parts, audits = [], {}
    for name, one in people.items():
        check_array(one, metric, method, noise, cv)
        around = neighbours or find_neighbours(one, radius=radius, mesh=mesh, progress=progress)
        check_units(one, around, mesh)
        part, audits[name] = _searched(
            one, models, around, (metric, method, noise, cv), device, client, progress
        )
        parts.append(part if not name else part.assign_coords(subject=("unit", [name] * part.sizes["unit"])))
    dataset = parts[0] if len(parts) == 1 else _joined(parts)
    dataset.attrs.update(
        scoring=method,
        chance=0.0,
        unit_kind="centre",
        metric=metric,
        audit=audits.get("", {"fitted_on": FITTED, "people": audits}),
        provenance={
            "responses": {name: fingerprint(one.values) for name, one in people.items()},
            "device": str(resolve_device(device)),
            "seconds": round(time.perf_counter() - started, 3),
            "versions": versions(),
        },
    )
    return Result(dataset)


def check_array(array: xr.DataArray, metric: str, method: str, noise: Any, cv: str) -> None:
    """Refuse what has no patterns, and what no searchlight can do."""
    if validate(array).dims != ("presentation", "neuroid"):
        raise ValueError(
            f"a searchlight takes presentation × neuroid, and the array is {' × '.join(map(str, array.dims))}; "
            "average a recording into trials, or select a time bin, first."
        )
    check_method(method)
    known = [name for name, how in METRICS.items() if not how.rates and how.of != "presentations"]
    if metric not in known:
        raise ValueError(f"metric={metric!r} is unknown to searchlights; use {', '.join(map(repr, known))}.")
    check_request(array, metric, noise, cv, (1.0, 0.0))


def check_units(array: xr.DataArray, around: Neighbourhoods, mesh: Any) -> None:
    """Refuse neighbourhoods of other units than those of the array."""
    n = array.sizes["neuroid"]
    if len(around.places) != n:
        raise ValueError(
            f"the neighbourhoods are of {len(around.places)} units, and the array has {n}; find them "
            "with the mask that the array was read with, or from the array itself."
        )
    named = {"hemisphere", "vertex"} if around.kind == "surface" else {"x", "y", "z"}
    if not named <= set(array.coords):
        raise ValueError(
            f"the units of the array have no {', '.join(sorted(named))} by which they could be told from others; keep "
            "the labels that neuro.fmri.read gave."
        )
    keys = places_of(array, mesh).keys
    other = np.flatnonzero(~np.isclose(keys, around.places, atol=1e-3).all(axis=1))
    if other.size:
        unit = array.coords["neuroid_id"].values[other[0]]
        raise ValueError(
            f"{other.size} units lie elsewhere than those of the neighbourhoods, the first {quoted(unit)}; "
            "find the neighbours of this very array, its units in this order."
        )


def _searched(
    array: xr.DataArray,
    models: Mapping[str, xr.DataArray] | xr.DataArray,
    around: Neighbourhoods,
    request: tuple[str, str, Any, str],
    device: str | torch.device,
    client: Any,
    progress: bool | None,
) -> tuple[xr.Dataset, dict[str, Any]]:
    """Scores of one person's centres, and what is to be known about them."""
    metric, method, noise, cv = request
    where = resolve_device(device)
    label = str(array.name or array.attrs["modality"])
    counts = None
    if METRICS[metric].of == "runs":
        patterns, counts, stimuli = run_patterns(array, cv, label, where)
        _check_together(counts, stimuli, label, cv)
    else:
        patterns, stimuli = mean_patterns(array, label, where)
    names, rows = _model_rows(models, stimuli)
    noises = _noise(noise, array, label, where)
    if (variances := noises.pop("variances", None)) is not None:
        patterns = whiten(patterns, variances)
    light = Searchlight(
        patterns=patterns[0].movedim(-1, 0).contiguous(),
        models=_prepared(names, torch.as_tensor(rows, dtype=precision(where), device=where), method),
        metric=METRICS[metric].function,
        counts=counts,
        precision=precision(where),
        **noises,
    )
    order = np.argsort(around.sizes, kind="stable")
    blocks = [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]
    found = Blocks([light], client).map(
        _block_scores, (take_rows(around.indptr, around.indices, block) for block in blocks)
    )
    scores, why = np.empty((len(order), len(names))), np.empty(len(order), dtype=np.int64)
    for block, (some, reasons) in zip(
        blocks, track(found, "searchlight", len(blocks), progress), strict=True
    ):
        scores[block], why[block] = some, reasons
    units = {
        str(name): ("unit", c.values[around.centres])
        for name, c in array.coords.items()
        if c.dims == ("neuroid",) and name != "unit"
    }
    dataset = xr.Dataset(
        {"score": (("model", "split", "unit"), scores.T[:, None])},
        {"model": names, "split": [0], **units, "n_units": ("unit", around.sizes)},
        {name: array.attrs[name] for name in PLACE if name in array.attrs},
    )
    return dataset, _audit(why, around, label, request)


def _check_together(counts: torch.Tensor, stimuli: Array, label: str, cv: str) -> None:
    """Refuse two stimuli that no run holds."""
    there = (counts > 0).double()
    apart = (there @ there.T == 0).nonzero()
    if len(apart):
        a, b = (quoted(stimuli[int(k)]) for k in apart[0])
        raise ValueError(
            f"stimuli {a} and {b} of {label!r} never occur in the same {cv}; a cross-validated metric needs one "
            "that holds both."
        )


def _block_scores(light: Searchlight, block: tuple[Array, Array]) -> tuple[Array, Array]:
    indptr, indices = (torch.from_numpy(part.astype(np.int64)) for part in block)
    scores, why = light.scores(indptr, indices)
    return scores.cpu().numpy(), why.cpu().numpy()


def _model_rows(
    models: Mapping[str, xr.DataArray] | xr.DataArray, stimuli: Array
) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the models and their dissimilarities, one a row, pairs as of ``stimuli``."""
    pairs = pair_table(stimuli)
    like = xr.DataArray(
        np.zeros((1, len(pairs["stimulus_a"]))),
        {name: ("pair", labels) for name, labels in pairs.items()},
        ("rdm", "pair"),
    )
    if isinstance(models, xr.DataArray):
        check_rdms(models, "models")
        names = [str(name) for name in models.coords["neuroid_id"].values]
        return names, matched(like, models, ("the array", "models")).values.astype(np.float64)
    if not isinstance(models, Mapping) or not models:
        raise TypeError(
            "models must be a mapping of names to RDMs with one at least, or an array rdm × pair."
        )
    rows = []
    for name, model in models.items():
        which = f"model {name!r}"
        if check_rdms(model, which).sizes["rdm"] != 1:
            raise ValueError(f"{which} has {model.sizes['rdm']} RDMs; give one a name, or all as one array.")
        rows.append(matched(like, model, ("the array", which)).values[0])
    return [str(name) for name in models], np.stack(rows).astype(np.float64)


def _prepared(names: list[str], rows: torch.Tensor, method: str) -> Models:
    """Models ready to be compared, those together that miss the same pairs."""
    patterns, group = torch.unique(~rows.isnan(), dim=0, return_inverse=True)
    groups = []
    for number, known in enumerate(patterns):
        which = (group == number).nonzero()[:, 0]
        labels = [names[int(k)] for k in which]
        pairs = None if bool(known.all()) else known
        some = rows[which] if pairs is None else rows[which][:, pairs]
        groups.append((which, pairs, prepare_checked(some, method, "models", labels, known=pairs)))
    return Models(method, groups)


def _noise(noise: Any, array: xr.DataArray, label: str, where: torch.device) -> dict[str, Any]:
    """What whitens the patterns: ``variances`` of units, or what :class:`Searchlight` takes."""
    exact: dict[str, Any] = {"dtype": precision(where), "device": where}
    if isinstance(noise, str):
        design, units = Design.of(array), array.coords["neuroid_id"].values
        values = to_tensor(array).to(**exact)
        check_finite(values, label, design.stimuli[design.codes], units)
        deviations, freedom = residuals(values[None, None], design, [label], [units])
        return {"residuals": deviations[0].T.contiguous(), "freedom": freedom}
    if noise is None:
        return {}
    found = given_noise(noise, array, np.arange(array.sizes["neuroid"]), label, np.array([]))
    if found.ndim == 3:
        raise ValueError(
            "noise has a covariance of each run; a searchlight takes one of all runs: give their mean."
        )
    return {"variances" if found.ndim == 1 else "noise": to_tensor(found).to(**exact)}


def _audit(
    why: Array, around: Neighbourhoods, label: str, request: tuple[str, str, Any, str]
) -> dict[str, Any]:
    """How many centres have a score and why others have none; warns of those, and refuses where none has."""
    metric, _, noise, cv = request
    missing = {said: int((why == reason).sum()) for reason, said in REASONS.items()}
    missing = {said: n for said, n in missing.items() if n}
    said = "; ".join(f"{n} because {reason}" for reason, n in missing.items())
    if (why != SCORED).all():
        raise ValueError(f"none of the {len(why)} centres of {label!r} can be scored: {said}.")
    if missing:
        warnings.warn(
            f"{sum(missing.values())} of {len(why)} centres of {label!r} have no score: {said}.", stacklevel=5
        )
    return {
        "fitted_on": FITTED,
        "centres": len(why),
        "units": [int(around.sizes.min()), int(around.sizes.max())],
        "around": repr(around),
        "not_scored": missing,
        "left_out_for_too_few_units": around.n_left_out,
        "cross_validated": f"over {cv}" if METRICS[metric].of == "runs" else "no: noise adds to distances",
        "noise": "none"
        if noise is None
        else "residuals around each centre"
        if isinstance(noise, str)
        else "given",
    }


def _joined(parts: list[xr.Dataset]) -> xr.Dataset:
    """People side by side."""
    labels = set.intersection(*({str(name) for name in part.coords} for part in parts))
    same = [part.drop_vars([name for name in part.coords if name not in labels]) for part in parts]
    return xr.concat(same, "unit", data_vars="minimal", coords="minimal", compat="override", join="exact")
