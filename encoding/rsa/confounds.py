"""What simpler features carry of a similarity, and of a representation's variance."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...models.devices import resolve_device
from .. import inputs
from ..containers import kind_of, labels_along, to_tensor
from ..ridge import RidgeCV
from ..significance import check_count, false_discovery_rate
from ..splits import make_splits
from .comparison import compare
from .pairs import check_enough, check_rdms
from .partial import LINEAR
from .preparation import check_method, stack_named

Array = NDArray[np.float64]
#: share of intervals that should hold the true value
COVERAGE = 0.95
#: penalties of decoders
ALPHAS = np.logspace(-6, 6, 13)


def report_confounds(
    models: Mapping[str, xr.DataArray] | xr.DataArray,
    data: xr.DataArray,
    lower: Sequence[str],
    method: str = "spearman",
    *,
    n_resamples: int = 1000,
    random_state: int | None = 0,
    device: str | torch.device = "auto",
) -> xr.Dataset:
    """How much of the similarity of models to RDMs lower-level models carry.

    Representations are dominated by features that are simple, learned early or frequent, so models may seem alike, or
    different, for these alone (Lampinen, Chan & Hermann, 2024, arXiv:2405.05847). Here the low-level models are
    regressed out first, and the similarity before and after stand beside each other.

    Parameters
    ----------
    models
        ``rdm × pair`` array, one model an RDM; or a mapping of name to such an array of one RDM. Low-level models
        are among them.
    data
        ``rdm × pair``, one RDM a person; stimuli are matched by their ids. A pair that a model lacks is left out for
        all, one that a person lacks for that person; the attribute ``missing_pairs`` counts both.
    lower
        Names of the low-level models.
    method
        ``"spearman"`` (default), ``"pearson"``, ``"cosine"``, ``"rho-a"``, or a whitened form; see :func:`compare`.
    n_resamples
        Draws of people for the interval of ``carried``.
    random_state
        Seeds them.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    xarray.Dataset
        For every other ``model``: ``raw``, its mean similarity over people; ``after``, the mean partial similarity
        without the low-level models; ``carried``, the share of the variance the model explains (squared similarity,
        summed over people) that it explains together with the low-level models and not beyond them, negative where
        they hide it; ``lower_raw``, the similarity of each low-level model (dimension ``lower``). The values of each
        person are in ``raw_by_rdm``, ``after_by_rdm`` and ``unique_by_rdm`` (semi-partial: left in the model only).
        Of several people ``raw`` and ``after`` have 95 % t-intervals (``_low``, ``_high``), one-sided ``p`` against
        zero and ``_p_fdr`` over models, and ``carried`` has a bootstrap interval over people.

    Raises
    ------
    ValueError
        If a name is unknown, no model is left, or a model is a combination of the low-level ones.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding import rsa
    >>> brain = neuro.simulate(n_stimuli=20, n_units=40, random_state=0)
    >>> parts = rsa.rdm(brain.assign_coords(part=("neuroid", list("abcd") * 10)), by="part")
    >>> report = rsa.report_confounds(parts[:2], parts[2:], lower=["a"])
    >>> report.after.dims, report.lower_raw.dims
    (('model',), ('lower',))
    """
    check_method(method)
    if method not in LINEAR:
        raise ValueError(f"method={method!r} cannot take out models; use {', '.join(map(repr, LINEAR))}.")
    check_count(n_resamples, "n_resamples")
    check_enough(check_rdms(data, "data"), "data")
    stacked = stack_named(models, data, "models")
    # before and after are compared, so both are of the pairs that all models have
    stacked = stacked.where(~stacked.isnull().any("rdm"))
    higher, low = _divided(stacked, lower)
    where = resolve_device(device)

    def values(which: xr.DataArray, **options: Any) -> Array:
        found = compare(which, data, method, device=where, **options)
        return np.asarray(found.values, dtype=np.float64)

    lacking = int((stacked.isnull().any("rdm").values | data.isnull().any("rdm").values).sum())
    raw, after = values(higher), values(higher, given=low)
    unique = values(higher, given=low, semi="a")
    dims = ("model", "rdm")
    people = {str(k): v for k, v in labels_along(data, "rdm").items()}
    report = xr.Dataset(
        {
            "raw_by_rdm": (dims, raw),
            "after_by_rdm": (dims, after),
            "unique_by_rdm": (dims, unique),
            "raw": ("model", raw.mean(axis=1)),
            "after": ("model", after.mean(axis=1)),
            "carried": ("model", _carried(raw, unique)),
            "lower_raw": ("lower", values(low).mean(axis=1)),
        },
        {"model": higher.coords["neuroid_id"].values, "lower": low.coords["neuroid_id"].values, **people},
        {"method": method, "n_resamples": n_resamples, "coverage": COVERAGE, "missing_pairs": lacking},
    )
    if raw.shape[1] > 1:
        _add_statistics(report, raw, after, unique, n_resamples, random_state)
    else:
        report.attrs["no_interval"] = "there is one RDM, so nothing is known about people"
    return report


def share_variance(
    features: Mapping[str, Any],
    representation: Any,
    *,
    cv: Any = None,
    groups: Any = None,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Which share of a representation's variance features carry, beside how well they can be decoded from it.

    A feature that is decoded perfectly may carry next to nothing of the variance, and similarity analyses see variance
    (Lampinen, Chan & Hermann, 2024, arXiv:2405.05847). Each feature is regressed on all units (with an intercept), and
    the variance it predicts of held-out rows is summed over units. Features that are correlated share variance, so
    shares need not sum to one.

    Parameters
    ----------
    features
        By name: ``(samples,)`` or ``(samples, columns)``; text and categories become one column a category.
    representation
        ``(samples, units)``, of any of the three kinds of arrays.
    cv, groups
        For a labelled representation as in :func:`cerebridge.encoding.evaluate`, which never separates repeats or
        runs at random; for plain arrays contiguous folds (default 5), of whole groups where there are.
    random_state
        Seeds folds of stimuli.

    Returns
    -------
    xarray.Dataset
        For every ``feature``: ``share`` of the total variance of all units on held-out rows, ``by_unit`` the same of
        each unit (``neuroid``), and ``decoding``, the share of the feature's own variance that a ridge regression on
        all units predicts of held-out rows. Below zero where the prediction is worse than the mean.

    Raises
    ------
    ValueError
        If lengths differ, values are missing, a feature or the whole representation is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import rsa
    >>> a, b = np.random.default_rng(0).standard_normal((2, 200))
    >>> units = np.column_stack([a, a, a, b])
    >>> shares = rsa.share_variance({"a": a, "b": b}, units)
    >>> bool(abs(shares.share - [0.75, 0.25]).max() < 0.1), shares.decoding.values.round(2).tolist()
    (True, [1.0, 1.0])
    """
    units = to_tensor(representation)
    if units.ndim != 2:
        raise ValueError(
            f"the representation must be samples × units, got {units.ndim} dimensions; stack the others."
        )
    inputs.require_finite(units, representation, "the representation", "samples", 0)
    values = units.double().cpu().numpy()
    columns = {str(name): _columns(feature, str(name), len(values)) for name, feature in features.items()}
    if not columns:
        raise ValueError("features is empty; give at least one by name.")
    folds = _folds(representation, cv, groups, len(values), random_state)
    of_units = np.sum([_variation(values, fold) for fold in folds], axis=0)
    total = of_units.sum()
    if not total > 0:
        raise ValueError(
            "the representation is constant on the held-out rows, so it has no variance to share."
        )
    by_unit, decoding = [], []
    for name, feature in columns.items():
        own = sum(float(_variation(feature, fold).sum()) for fold in folds)
        if not own > 0:
            raise ValueError(f"feature {name!r} is constant, so nothing follows from it; leave it out.")
        by_unit.append(np.sum([_explained(feature, values, fold) for fold in folds], axis=0))
        decoded = sum(float(_explained(values, feature, fold, _ridge).sum()) for fold in folds)
        decoding.append(decoded / own)
    shares = np.array(by_unit)
    coords: dict[Any, Any] = {"feature": list(columns)}
    if kind_of(representation) == "xarray":
        coords |= labels_along(representation, representation.dims[1], renamed="neuroid")
    return xr.Dataset(
        {
            "share": ("feature", shares.sum(axis=1) / total),
            "decoding": ("feature", np.array(decoding)),
            "by_unit": (
                ("feature", "neuroid"),
                np.divide(shares, of_units, out=np.zeros_like(shares), where=of_units > 0),
            ),
        },
        coords,
        {"folds": len(folds)},
    )


def _divided(models: xr.DataArray, lower: Sequence[str]) -> tuple[xr.DataArray, xr.DataArray]:
    """Models that are not low-level, and those that are."""
    names = [str(name) for name in models.coords["neuroid_id"].values]
    lower = [lower] if isinstance(lower, str) else list(lower)
    unknown = [name for name in lower if name not in names]
    if unknown or not lower:
        raise ValueError(
            f"lower={unknown[0] if unknown else lower!r} names no model; there are {', '.join(map(repr, names))}."
        )
    low = [k for k, name in enumerate(names) if name in lower]
    high = [k for k in range(len(names)) if k not in low]
    if not high:
        raise ValueError("all models are low-level, so none is left to report on; give at least one other.")
    return models.isel(rdm=high), models.isel(rdm=low)


def _carried(raw: Array, unique: Array) -> Array:
    """Share of squared similarities, summed over people (the last axis), that is not unique."""
    explained = (raw**2).sum(axis=-1)
    return 1 - np.divide(
        (unique**2).sum(axis=-1), explained, out=np.full_like(explained, np.nan), where=explained > 0
    )


def _add_statistics(
    report: xr.Dataset, raw: Array, after: Array, unique: Array, n_resamples: int, random_state: int | None
) -> None:
    """Intervals and tests over people."""
    from scipy.special import stdtr, stdtrit

    n = raw.shape[1]
    for name, values in (("raw", raw), ("after", after)):
        mean, error = values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(n)
        reach = stdtrit(n - 1, (1 + COVERAGE) / 2) * error
        p = stdtr(n - 1, -np.divide(mean, error, out=np.sign(mean) * np.inf, where=error > 0))
        found = {"low": mean - reach, "high": mean + reach, "p": p, "p_fdr": false_discovery_rate(p)}
        for key, column in found.items():
            report[f"{name}_{key}"] = ("model", column)
    if n_resamples:
        drawn = np.random.default_rng(random_state).integers(0, n, (n_resamples, n))
        ends = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
        low, high = np.quantile(_carried(raw[:, drawn], unique[:, drawn]), ends, axis=1)
        report["carried_low"], report["carried_high"] = ("model", low), ("model", high)


def _columns(feature: Any, name: str, n: int) -> Array:
    """A feature as numbers, one column a category where it is none."""
    values = np.asarray(feature)
    if values.ndim not in (1, 2) or len(values) != n:
        raise ValueError(
            f"feature {name!r} has the shape {values.shape}; give one row for each of the {n} samples."
        )
    if values.dtype.kind in "biuf":
        columns = values.reshape(n, -1).astype(np.float64)
        if not np.isfinite(columns).all():
            raise ValueError(f"feature {name!r} has missing or infinite values; drop these samples.")
        return columns
    if values.ndim == 2:
        raise ValueError(
            f"feature {name!r} has several columns that are not numbers; give one feature for each."
        )
    return (values[:, None] == np.unique(values.astype(str))).astype(np.float64)


def _folds(
    representation: Any, cv: Any, groups: Any, n: int, random_state: int | None
) -> list[tuple[Any, Any]]:
    if kind_of(representation) == "xarray":
        return list(make_splits(representation, cv, groups, random_state=random_state).folds)
    pairs = inputs.splits(5 if cv is None else cv, n, None, groups, (representation,))
    return [(split.train.numpy(), split.test.numpy()) for split in pairs]


def _variation(values: Array, fold: tuple[Any, Any]) -> Array:
    """Squares of held-out values about the mean of the training rows, one sum a column."""
    return ((values[fold[1]] - values[fold[0]].mean(axis=0)) ** 2).sum(axis=0)


def _explained(predictors: Array, values: Array, fold: tuple[Any, Any], predict: Any = None) -> Array:
    """What a regression on the training rows explains of the variation of held-out rows."""
    train, test = fold
    predicted = (predict or _least_squares)(predictors[train], values[train], predictors[test])
    return _variation(values, fold) - ((values[test] - predicted) ** 2).sum(axis=0)


def _least_squares(X: Array, Y: Array, new: Array) -> Array:
    centre, level = X.mean(axis=0), Y.mean(axis=0)
    return level + (new - centre) @ np.linalg.lstsq(X - centre, Y - level, rcond=None)[0]


def _ridge(X: Array, Y: Array, new: Array) -> Array:
    """Ridge regression, as there may be more units than samples."""
    with warnings.catch_warnings():
        # without noise the least penalty is the best
        warnings.filterwarnings("ignore", r"\d+ of \d+ targets ")
        model = RidgeCV(alphas=ALPHAS).fit(X, Y)
    return np.asarray(model.predict(new)).reshape(len(new), -1)
