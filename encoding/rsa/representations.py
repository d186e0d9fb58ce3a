"""How alike representations are: of layers and brain areas, from their patterns rather than from dissimilarities.

What a method does not see is what it is invariant to:

========================  ==========  =========  ===============================================================
method                    kind        symmetric  does not change with
========================  ==========  =========  ===============================================================
linear-cka, rv            similarity  yes        rotation, one scale for all units
debiased-linear-cka       similarity  yes        the same; 0 on average for unrelated representations
rbf-cka                   similarity  yes        the same
debiased-rbf-cka          similarity  yes        the same; 0 on average for unrelated representations
adjusted-rv               similarity  yes        permutation, scale and sign of every unit by itself
cca                       similarity  yes        any invertible linear map
svcca                     similarity  yes        rotation, one scale for all units
pwcca                     similarity  no         a: permutation and one scale; b: any invertible linear map
procrustes                similarity  yes        rotation, one scale for all units
procrustes-distance       distance    yes        the same; a metric
shape-angular             distance    yes        rotation (or permutation), one scale for all units; a metric
shape-euclidean           distance    yes        rotation (or permutation); a metric
one-to-one                similarity  yes        permutation, scale of every unit by itself, but not its sign
soft-matching             similarity  yes        the same, and copies of all units
soft-matching-distance    distance    yes        the same; a metric
predictivity              similarity  no         a: rotation; b: scale of every unit by itself
knn-overlap               similarity  yes        rotation, one scale for all units
========================  ==========  =========  ===============================================================

All but ``knn-overlap`` with the cosine leave a constant added to a unit out of account.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import quoted
from ...neuro.progress import track
from ..engine import matching, neighbours, shapes
from ..engine import representations as kernels
from ..parameters import whole_number
from ..significance import check_count, p_values
from ..splits import make_splits
from .predictivity import ALPHAS, linear_predictivity
from .sides import Side, read_sides

Fold = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Method:
    """A way of comparing: what computes it, its options with their defaults, and what it needs.

    ``fits`` says whether anything is fitted, so that ``cv`` makes sense; ``whitens``, whether all directions count
    equally, which takes more stimuli than units; ``together``, how many orders of the stimuli are worked on at once.
    """

    compute: Callable[..., torch.Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["similarity", "distance"] = "similarity"
    symmetric: bool = True
    fits: bool = False
    whitens: bool = False
    units_vary: bool = False
    fewest_stimuli: int = 3
    together: int = 250


_RBF = {"bandwidth": 1.0}
_SHAPE = {"alpha": 1.0, "group": "orthogonal"}
_CKA, _CCA = kernels.kernel_alignment, shapes.canonical_correlation
_MATCH, _ALIGN = matching.matched_correlation, shapes.shape_distance

METHODS: dict[str, Method] = {
    "linear-cka": Method(_CKA),
    "debiased-linear-cka": Method(partial(_CKA, debiased=True), fewest_stimuli=4),
    "rbf-cka": Method(partial(_CKA, kernel="rbf"), _RBF),
    "debiased-rbf-cka": Method(partial(_CKA, kernel="rbf", debiased=True), _RBF, fewest_stimuli=4),
    "rv": Method(_CKA),
    "adjusted-rv": Method(kernels.adjusted_rv, units_vary=True),
    "cca": Method(_CCA, fits=True, whitens=True),
    "svcca": Method(_CCA, {"variance": 0.99}, fits=True, whitens=True),
    "pwcca": Method(partial(_CCA, projection_weighted=True), symmetric=False, fits=True, whitens=True),
    "procrustes": Method(partial(_ALIGN, kind="similarity"), fits=True),
    "procrustes-distance": Method(partial(_ALIGN, kind="chord"), kind="distance", fits=True),
    "shape-angular": Method(partial(_ALIGN, kind="angular"), _SHAPE, kind="distance", fits=True),
    "shape-euclidean": Method(partial(_ALIGN, kind="euclidean"), _SHAPE, kind="distance", fits=True),
    "one-to-one": Method(_MATCH, fits=True, units_vary=True),
    "soft-matching": Method(partial(_MATCH, soft=True), fits=True, units_vary=True),
    "soft-matching-distance": Method(
        partial(_MATCH, soft=True, distance=True), kind="distance", fits=True, units_vary=True
    ),
    "predictivity": Method(
        linear_predictivity, {"alphas": ALPHAS}, symmetric=False, fits=True, units_vary=True, together=5
    ),
    "knn-overlap": Method(neighbours.neighbour_overlap, {"n_neighbours": 10, "metric": "cosine"}),
}


def compare_representations(
    a: Any,
    b: Any = None,
    method: str = "linear-cka",
    *,
    by: str | Sequence[str] | None = None,
    cv: Any = None,
    permutations: int = 0,
    random_state: int | None = 0,
    device: str | torch.device = "auto",
    progress: bool | None = None,
    **options: Any,
) -> Any:
    """Compare the patterns that the same stimuli evoke in layers, areas, networks or people.

    Parameters
    ----------
    a, b
        Representations, ``stimuli × units``: a labelled array (``presentation × neuroid``, matched by
        ``stimulus_id``, repeats averaged; or ``time_bin × neuroid``), a numpy array or a tensor, whose stimuli are in
        one order; or several of them, by name or in a list. Without ``b``, all of ``a`` among themselves. Inner
        products of ``models.extract_gram`` do where a rotation changes nothing.
    method
        See the table of :mod:`cerebridge.encoding.rsa.representations` for what each is invariant to.
        ``"linear-cka"`` (default; = ``"rv"``), ``"rbf-cka"`` (option ``bandwidth=1.0``, in medians of the distances),
        ``"debiased-linear-cka"`` and ``"debiased-rbf-cka"`` (Song et al., 2012; for few stimuli and many units, where
        the others are close to 1 whatever the data: Murphy et al., 2024), ``"adjusted-rv"`` (Mayer et al., 2011);
        ``"cca"`` (mean canonical correlation), ``"svcca"`` (``variance=0.99``; Raghu et al., 2017), ``"pwcca"``
        (weights from ``a``; Morcos et al., 2018); ``"procrustes"`` and ``"procrustes-distance"``, ``"shape-angular"``
        and ``"shape-euclidean"`` (``alpha=1.0`` down to 0 for whitened, ``group="orthogonal"`` or ``"permutation"``;
        Williams et al., 2021); ``"one-to-one"`` (Li et al., 2015), ``"soft-matching"`` and
        ``"soft-matching-distance"`` (Khosla & Williams, 2024); ``"predictivity"`` (``alphas``: held-out correlation
        of the units of ``b`` with a ridge regression on ``a``; of one set among itself, both ways);
        ``"knn-overlap"`` (``n_neighbours=10``, ``metric="cosine"`` or ``"euclidean"``; Huh et al., 2024).
    by
        Coordinate or coordinates along ``neuroid`` (``"layer"``, ``["layer", "region"]``): every side falls into the
        groups of those that it has.
    cv
        For methods that fit something (canonical directions, rotations, matchings): number of folds, a splitter or
        pairs of rows; fitted on training stimuli, measured on held-out ones. Labelled stimuli are shuffled into
        folds, moments and unlabelled rows are not. Default: in-sample, but 5 folds for ``"predictivity"``.
    permutations
        Times that the stimuli of ``b`` are shuffled (moments are shifted in a circle), for ``p``.
    random_state
        Seeds permutations and folds.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …; tensors stay where they are. Computed in float64 wherever there is one.
    progress
        Whether to draw a progress bar; ``None`` on a terminal only.

    Returns
    -------
    float or xarray.DataArray or xarray.Dataset
        A number for two single representations, else ``representation_a × representation_b`` (a side that is one
        representation has no dimension) with the labels of both (``layer_a``, ``region_b``, …). With ``permutations``
        a dataset of ``score``, ``chance`` (mean over shuffles), ``p``, ``p_fdr`` and ``p_max`` (one-sided: more alike
        than chance; missing for representations with themselves). Attributes say ``kind`` (similarity or distance)
        and ``fit``: in-sample, or how stimuli were held out.

    Raises
    ------
    ValueError
        If stimuli differ or are too few for the method, values are missing, a unit or a representation does not
        vary, or method or option is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import rsa
    >>> rng = np.random.default_rng(0)
    >>> layers = {name: rng.standard_normal((40, 5)) for name in ("conv", "fc")}
    >>> brain = layers["fc"] @ rng.standard_normal((5, 3))
    >>> round(rsa.compare_representations(layers["fc"], 2 * layers["fc"][:, ::-1]), 6)
    1.0
    >>> found = rsa.compare_representations(layers, brain, "predictivity")
    >>> found.sel(representation_a="fc").item() > 0.99 > found.sel(representation_a="conv").item()
    True
    """
    chosen = _method(method, options)
    check_count(permutations, "permutations")
    first, second = read_sides(a, b, by, device)
    _check(first, second, method, chosen, options)
    folds, fit = _folds(first, chosen, method, cv, random_state)
    if chosen.whitens or (options.get("alpha") == 0 and folds is None):
        variance = {**chosen.options, **options}.get("variance")
        _check_whitening(first, second, method, variance, folds)
    compute = partial(chosen.compute, **{**chosen.options, **options})
    if folds is not None:
        compute = partial(compute, folds=folds)
    orders = _orders(first, permutations, random_state)
    # one list on both sides lets symmetric methods do half of the work
    values = second.values if b is not None else first.values
    parts = orders.split(chosen.together)
    parts = track(parts, f"comparing by {method}", show=progress)
    found = torch.cat([compute(first.values, values, part) for part in parts]).cpu().numpy()
    _check_defined(found[0], first, second, method)
    attrs = {"method": method, "kind": chosen.kind, "fit": fit, "n_stimuli": len(first.values[0])}
    attrs |= {name: value for name, value in {**chosen.options, **options}.items() if name != "alphas"}
    return _labelled(found, first, second, attrs, itself=b is None)


def _method(method: str, options: Mapping[str, Any]) -> Method:
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; use {', '.join(map(repr, METHODS))}.")
    chosen = METHODS[method]
    if unknown := [name for name in options if name not in chosen.options]:
        known = ", ".join(chosen.options) or "none"
        raise ValueError(f"{unknown[0]!r} is no option of method={method!r}, which has: {known}.")
    merged = {**chosen.options, **options}
    for name, allowed in (("group", ("orthogonal", "permutation")), ("metric", ("cosine", "euclidean"))):
        if name in merged and merged[name] not in allowed:
            raise ValueError(f"{name}={merged[name]!r} is unknown; use {' or '.join(map(repr, allowed))}.")
    if "n_neighbours" in merged:
        whole_number(merged["n_neighbours"], "n_neighbours")
    for name, low, high in (("alpha", 0, 1), ("variance", 1e-6, 1), ("bandwidth", 1e-6, np.inf)):
        if name in merged and not low <= merged[name] <= high:
            raise ValueError(f"{name}={merged[name]!r} must lie between {low:g} and {high:g}.")
    return chosen


def _check(first: Side, second: Side, method: str, chosen: Method, options: Mapping[str, Any]) -> None:
    """Refuse what the method cannot say anything about."""
    n = len(first.values[0])
    asked = {**chosen.options, **options}.get("n_neighbours", 0)
    if n < chosen.fewest_stimuli or asked >= n:
        most = f"n_neighbours={asked}" if asked >= n else f"method={method!r}"
        least = max(chosen.fewest_stimuli, asked + 1)
        raise ValueError(f"{most} needs at least {least} stimuli, and there are {n}.")
    sides = (first, second)
    by_unit = chosen.units_vary or method == "pwcca" or options.get("group") == "permutation"
    turned = next((side.turned for side in sides if side.turned is not None), None)
    if by_unit and turned is not None:
        raise ValueError(
            f"method={method!r} looks at single units, and of {turned!r} only inner products of stimuli are known; "
            "extract the features with models.extract, or use method='linear-cka'."
        )
    if chosen.units_vary:
        for side in sides:
            for x, name, units in zip(side.values, side.names, side.units, strict=True):
                still = (x == x[0]).all(0)
                if bool(still.any()):
                    unit = units[int(still.nonzero()[0])]
                    raise ValueError(
                        f"{int(still.sum())} of {x.shape[1]} units of {name!r} do not vary (first {quoted(unit)}), so "
                        f"method={method!r} cannot correlate them; leave them out."
                    )
    if options.get("group") == "permutation":
        sizes = {x.shape[1] for side in sides for x in side.values}
        if len(sizes) > 1:
            raise ValueError(
                f"group='permutation' needs equal numbers of units, and there are {sorted(sizes)}; use "
                "method='soft-matching-distance'."
            )


def _check_defined(found: NDArray[np.float64], first: Side, second: Side, method: str) -> None:
    """Refuse representations that are like none in the sense of the method."""
    undefined = np.argwhere(np.isnan(found))
    if len(undefined):
        a, b = undefined[0]
        raise ValueError(
            f"method={method!r} is undefined for {first.names[a]!r} and {second.names[b]!r}, because one of them has "
            "the same distance between all stimuli, as of one-hot codes; leave it out, or use method='linear-cka'."
        )


def _check_whitening(
    first: Side, second: Side, method: str, variance: float | None, folds: Sequence[Fold] | None
) -> None:
    """Refuse canonical correlations that are 1 for any data or not determined, and say where some of them are."""
    n = len(first.values[0]) if folds is None else min(len(train) for train, _ in folds)
    sizes, names = [], []
    for side in (first, second):
        for x, name in zip(side.values, side.names, strict=True):
            kept = x.shape[1] if variance is None else len(shapes.leading(_singular(x), variance))
            sizes.append(min(kept, n - 1))
            names.append(name)
    largest, second_largest = sorted(sizes)[-1], sorted(sizes)[-2]
    if largest == n - 1:
        name = names[int(np.argmax(sizes))]
        raise ValueError(
            f"{name!r} has at least as many dimensions as {n} {'' if folds is None else 'training '}stimuli allow, so "
            f"method={method!r} fits any data; use fewer dimensions (method='svcca', variance=0.8) or 'procrustes'."
        )
    if largest + second_largest > n - 1 and folds is not None:
        raise ValueError(
            f"representations of {second_largest} and {largest} dimensions are not determined by {n} training stimuli; "
            "use fewer dimensions (method='svcca', variance=0.8) or method='procrustes'."
        )
    if largest + second_largest > n - 1:
        warnings.warn(
            f"representations of {second_largest} and {largest} dimensions share some directions of {n} stimuli "
            f"whatever the data, so method={method!r} is too high; use fewer dimensions, or method='procrustes'.",
            stacklevel=3,
        )


def _singular(x: torch.Tensor) -> torch.Tensor:
    values: torch.Tensor = torch.linalg.svdvals(kernels.compact(kernels.centred(x)))
    return values


def _folds(
    side: Side, chosen: Method, method: str, cv: Any, random_state: int | None
) -> tuple[list[Fold] | None, str]:
    """Training and held-out rows, and how they came about."""
    if method == "predictivity" and cv is None:
        cv = 5
    if cv is None:
        return None, "in-sample" if chosen.fits else "nothing is fitted"
    if not chosen.fits:
        raise ValueError(f"method={method!r} fits nothing, so that cv={cv!r} has no use; leave it out.")
    splits = make_splits(side.rows, cv, random_state=random_state)
    device = side.values[0].device
    folds = [tuple(torch.as_tensor(part, device=device) for part in fold) for fold in splits.folds]
    least = min(min(len(train), len(test)) for train, test in folds)
    if least < 3:
        raise ValueError(
            f"cv leaves {least} stimuli in a part of a fold; use fewer folds, so that each has three."
        )
    return [(train, test) for train, test in folds], splits.description


def _orders(side: Side, permutations: int, random_state: int | None) -> torch.Tensor:
    """The given order, then random ones; ``(1 + permutations, stimuli)``."""
    n = len(side.values[0])
    rng = np.random.default_rng(random_state)
    rows = [np.arange(n)]
    for _ in range(permutations):
        rows.append(np.roll(rows[0], rng.integers(1, n)) if side.continuous else rng.permutation(n))
    return torch.as_tensor(np.stack(rows), device=side.values[0].device)


def _labelled(
    found: NDArray[np.float64], first: Side, second: Side, attrs: dict[str, Any], itself: bool
) -> Any:
    dims: list[str] = []
    coords: dict[str, Any] = {}
    for side, suffix in ((first, "a"), (second, "b")):
        if not side.single:
            dim = f"representation_{suffix}"
            dims.append(dim)
            coords[dim] = (dim, np.array(side.names))
            coords |= {f"{name}_{suffix}": (dim, values) for name, values in side.labels.items()}
    shape = tuple(len(side.values) for side in (first, second) if not side.single)
    score = xr.DataArray(found[0].reshape(shape), coords, dims, attrs=attrs)
    if len(found) == 1:
        return score if dims else float(score)
    sign = 1 if attrs["kind"] == "similarity" else -1
    tested = sign * found
    if itself:  # a representation with itself is no test
        tested[:, np.arange(len(first.names)), np.arange(len(first.names))] = np.nan
    flat = tested.reshape(len(found), -1)
    known = ~np.isnan(flat[0])
    variables = {"score": score, "chance": score.copy(data=found[1:].mean(0).reshape(shape))}
    for name, values in p_values(flat[0, known], flat[1:, known]).items():
        column = np.full(len(known), np.nan)
        column[known] = values
        variables[name] = score.copy(data=column.reshape(shape))
    return xr.Dataset(variables, attrs=attrs | {"permutations": len(found) - 1})
