"""Image triplets in which what two layers find alike comes apart, and what people choose in them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ..memory import format_bytes, parse_bytes

Array = NDArray[Any]

#: random triplets that tell how much the two layers go together without selection
RANDOM_TRIPLETS = 10_000
#: roots that are tried for one bin before it is left empty in a table
ROOTS_TRIED = 50
#: a logistic fit has converged, or never will
TOLERANCE, LARGEST = 1e-10, 30.0


@dataclass(frozen=True)
class Triplets:
    """Triplets of images and how well they are balanced.

    Attributes
    ----------
    table
        One row a triplet: ``root``, ``image_1`` and ``image_2`` (stimulus ids), ``high_bin`` and ``low_bin`` (with its
        sign), ``high_difference`` and ``low_difference`` (how much more alike to the root ``image_2`` is than
        ``image_1``, correlations), and ``repetition``, the table of bins that it belongs to.
    report
        ``n_triplets``, ``correlation`` of the two differences over them and ``random_correlation`` over random
        triplets, ``mean_low_difference`` and ``positive_low`` (share), ``bins_filled`` (share of the bins that have a
        triplet) and ``fewest`` and ``most`` triplets in a bin.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.synthesis import select_triplets
    >>> high, low = np.random.default_rng(0).standard_normal((2, 100, 20))
    >>> triplets = select_triplets(high, low, bins=2, tolerance=0.03)
    >>> bool(len(triplets.table) == triplets.report["n_triplets"])
    True
    """

    table: pd.DataFrame
    report: pd.Series


@dataclass(frozen=True)
class ChoiceFit:
    """A logistic model of choices.

    Attributes
    ----------
    table
        One row a regressor, and ``"bias"``: ``weight`` (log odds for one standard deviation of the regressor),
        ``standard_error``, ``z`` and ``p`` (two-sided, Wald).
    log_likelihood, pseudo_r2
        Of the choices, and as a share of what is missing without regressors (McFadden, 1974).

    Examples
    --------
    >>> from cerebridge.models.synthesis import fit_choices
    >>> fit = fit_choices({"high": [1.0, 2.0, 3.0, 4.0]}, [0, 1, 0, 1])
    >>> fit.table.index.tolist(), round(fit.pseudo_r2, 2)
    (['high', 'bias'], 0.15)
    """

    table: pd.DataFrame
    log_likelihood: float
    pseudo_r2: float


def select_triplets(
    high: xr.DataArray | Array,
    low: xr.DataArray | Array,
    *,
    bins: int | Sequence[int] = 10,
    width: float = 0.5,
    tolerance: float = 0.01,
    repetitions: int = 50,
    memory: str | int = "2GiB",
    random_state: int = 0,
) -> Triplets:
    """Select triplets of a root and two images whose likeness to it differs by set amounts in two layers.

    For each bin of a high-level and a low-level difference a random unused root is taken, and a random one of the pairs
    of images that differ so within the tolerance. The sign of the low-level difference is drawn, so that it says
    nothing about the high-level one. No image is used twice.

    Parameters
    ----------
    high, low
        Activations of two layers (or networks) for the same images (presentation × neuroid).
    bins
        The differences, in multiples of ``width``: 10 stands for 1, 2, …, 10; or the multiples themselves.
    width
        In standard deviations of the layer's correlations between images.
    tolerance
        How far a difference may be from its bin, as a correlation.
    repetitions
        How often all bins are gone through at most; it ends earlier when roots run out.
    memory
        What the correlations between all images may take.
    random_state
        Seeds roots, signs and choices.

    Returns
    -------
    Triplets
        ``table`` and ``report``.

    Raises
    ------
    ValueError
        If the layers are of other images, cannot be correlated, or no triplet is found.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.synthesis import select_triplets
    >>> high, low = np.random.default_rng(0).standard_normal((2, 300, 50))
    >>> triplets = select_triplets(high, low, bins=3)
    >>> bool(triplets.report["n_triplets"] > 50), bool(abs(triplets.report["correlation"]) < 0.3)
    (True, True)
    """
    multiples = list(range(1, bins + 1)) if isinstance(bins, int | np.integer) else [int(k) for k in bins]
    if not multiples or min(multiples) < 0 or len(set(multiples)) < len(multiples):
        raise ValueError(f"bins={bins!r} must be a positive number, or several different ones from 0.")
    for name, value in (("width", width), ("tolerance", tolerance), ("repetitions", repetitions)):
        if not value > 0:
            raise ValueError(f"{name}={value} must be positive.")
    ids = _same_images(high, low)
    needed, budget = 2 * len(ids) ** 2 * 4, parse_bytes(memory)
    if needed > budget:
        raise ValueError(
            f"the correlations between {len(ids)} images take {format_bytes(needed)}, more than "
            f"memory={format_bytes(budget)}; choose among fewer images, or raise memory=."
        )
    search = _Search(_correlations(high, "high"), _correlations(low, "low"), width, tolerance, random_state)
    rows = search.fill(multiples, repetitions)
    if not rows:
        raise ValueError(
            f"no triplet of {len(ids)} images falls into any bin; use smaller or fewer bins, or a larger tolerance=."
        )
    table = pd.DataFrame(rows)
    report = pd.Series(_report(table, search, len(multiples) ** 2))
    for column in ("root", "image_1", "image_2"):
        table[column] = ids[table[column]]
    return Triplets(table, report)


def fit_choices(differences: pd.DataFrame | Mapping[str, Any], choices: Any) -> ChoiceFit:
    """Fit how choices between two images depend on how much more alike to the root the second one is.

    Parameters
    ----------
    differences
        One column a regressor, such as ``triplets.table[["high_difference", "low_difference"]]``, or those of other
        layers.
    choices
        For each triplet whether ``image_2`` was chosen (1 or 0, booleans).

    Returns
    -------
    ChoiceFit
        Weights with their standard errors, by maximum likelihood.

    Raises
    ------
    ValueError
        If numbers are missing, regressors determine each other, or the choices are all alike or follow from the
        regressors without an error, so that no weight is large enough.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.synthesis import fit_choices
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((500, 2))
    >>> choices = rng.random(500) < 1 / (1 + np.exp(-2 * x[:, 0]))
    >>> fit = fit_choices({"high": x[:, 0], "low": x[:, 1]}, choices)
    >>> (fit.table["p"] < 0.05).tolist()
    [True, False, False]
    """
    from scipy.special import expit
    from scipy.stats import norm

    x, y, names = _regressors(differences, choices)
    weights = np.zeros(x.shape[1])
    for _ in range(100):
        expected = expit(x @ weights)
        information = (x * (expected * (1 - expected))[:, None]).T @ x
        step = np.linalg.lstsq(information, x.T @ (y - expected), rcond=None)[0]
        weights = weights + step
        if np.abs(weights).max() > LARGEST:
            raise ValueError(
                "the choices follow from the regressors without an error, so that no weight is large enough for them; "
                "give more or noisier choices, or fewer regressors."
            )
        if np.abs(step).max() < TOLERANCE:
            break
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    # of log(1 + exp), which does not overflow
    likelihood = float(-np.logaddexp(0, np.where(y == 1, -1, 1) * (x @ weights)).sum())
    rate = y.mean()
    without = float(len(y) * (rate * np.log(rate) + (1 - rate) * np.log1p(-rate)))
    z = weights / errors
    table = pd.DataFrame(
        {"weight": weights, "standard_error": errors, "z": z, "p": 2 * norm.sf(np.abs(z))},
        index=pd.Index([*names, "bias"], name="regressor"),
    )
    return ChoiceFit(table, likelihood, 1 - likelihood / without)


def _same_images(high: xr.DataArray | Array, low: xr.DataArray | Array) -> Array:
    ids = [
        np.asarray(layer.coords["stimulus_id"].values)
        if isinstance(layer, xr.DataArray)
        else np.arange(len(layer))
        for layer in (high, low)
    ]
    labelled = isinstance(high, xr.DataArray) and isinstance(low, xr.DataArray)
    if len(ids[0]) != len(ids[1]) or (labelled and (ids[0] != ids[1]).any()):
        raise ValueError(
            "high= and low= are of other images, or of another order; extract both from the same stimuli."
        )
    return ids[0]


def _correlations(layer: xr.DataArray | Array, name: str) -> NDArray[np.float32]:
    """Correlations between all images."""
    rows = np.asarray(layer, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"{name}= must be images × features, all of them finite; its shape is {rows.shape}.")
    centred = rows - rows.mean(axis=1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    if not size.all():
        raise ValueError(
            f"{name}= is constant for image {int(size.argmin())}, which correlates with none; leave it out."
        )
    centred = (centred / size).astype(np.float32)
    return np.asarray(centred @ centred.T)


class _Search:
    """Two matrices of correlations and the images that are still free."""

    def __init__(
        self,
        high: NDArray[np.float32],
        low: NDArray[np.float32],
        width: float,
        tolerance: float,
        random_state: int,
    ) -> None:
        self.high, self.low, self.tolerance = high, low, tolerance
        self.rng = np.random.default_rng(random_state)
        pairs = np.triu_indices(len(high), 1)
        self.high_unit = width * float(high[pairs].std(dtype=np.float64))
        self.low_unit = width * float(low[pairs].std(dtype=np.float64))
        self.free = np.ones(len(high), dtype=bool)
        self.orders: dict[int, NDArray[np.int64]] = {}

    def fill(self, multiples: list[int], repetitions: int) -> list[dict[str, Any]]:
        """Go through all bins, in another order every time, until one round finds nothing."""
        found: list[dict[str, Any]] = []
        bins = list(itertools.product(multiples, multiples))
        for repetition in range(repetitions):
            before = len(found)
            for k in self.rng.permutation(len(bins)):
                row = self._one(*bins[k])
                if row is not None:
                    found.append({**row, "repetition": repetition})
            if len(found) == before:
                break
        return found

    def _one(self, high_bin: int, low_bin: int) -> dict[str, Any] | None:
        low_bin *= int(self.rng.choice((-1, 1)))
        for root in self.rng.permutation(np.flatnonzero(self.free))[:ROOTS_TRIED]:
            first, second = self._pairs(int(root), high_bin * self.high_unit, low_bin * self.low_unit)
            if len(first):
                k = self.rng.integers(len(first))
                i, j = int(first[k]), int(second[k])
                self.free[[root, i, j]] = False
                return {
                    "root": int(root),
                    "image_1": i,
                    "image_2": j,
                    "high_bin": high_bin,
                    "low_bin": low_bin,
                    "high_difference": float(self.high[root, j] - self.high[root, i]),
                    "low_difference": float(self.low[root, j] - self.low[root, i]),
                }
        return None

    def _pairs(self, root: int, high: float, low: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All free pairs with these differences: of sorted likenesses, each image's partners are one stretch."""
        if root not in self.orders:
            self.orders[root] = np.argsort(self.high[root], kind="stable")
        order = self.orders[root]
        order = order[self.free[order] & (order != root)]
        likeness, other = self.high[root, order].astype(np.float64), self.low[root, order].astype(np.float64)
        begin = np.searchsorted(likeness, likeness + high - self.tolerance, "left")
        end = np.searchsorted(likeness, likeness + high + self.tolerance, "right")
        counts = end - begin
        first = np.repeat(np.arange(len(order)), counts)
        second = (
            np.arange(len(first)) - np.repeat(counts.cumsum() - counts, counts) + np.repeat(begin, counts)
        )
        fits = (np.abs(other[second] - other[first] - low) <= self.tolerance) & (first != second)
        return order[first[fits]], order[second[fits]]


def _report(table: pd.DataFrame, search: _Search, n_bins: int) -> dict[str, float]:
    draws = search.rng.integers(len(search.high), size=(3, RANDOM_TRIPLETS))
    root, i, j = draws[:, (draws[0] != draws[1]) & (draws[0] != draws[2]) & (draws[1] != draws[2])]
    high, low = search.high[root, j] - search.high[root, i], search.low[root, j] - search.low[root, i]
    both = table[["high_difference", "low_difference"]]
    filled = table.groupby([table["high_bin"], table["low_bin"].abs()]).size()
    varied = len(table) > 2 and (both.std() > 0).all()
    return {
        "n_triplets": len(table),
        "correlation": float(both.corr().iloc[0, 1]) if varied else np.nan,
        "random_correlation": float(np.corrcoef(high, low)[0, 1]),
        "mean_low_difference": float(both["low_difference"].mean()),
        "positive_low": float((both["low_difference"] > 0).mean()),
        "bins_filled": len(filled) / n_bins,
        "fewest": int(filled.min()) if len(filled) == n_bins else 0,
        "most": int(filled.max()),
    }


def _regressors(
    differences: pd.DataFrame | Mapping[str, Any], choices: Any
) -> tuple[Array, Array, list[str]]:
    """Standardised regressors with a constant, choices as 0 and 1, and names."""
    table = pd.DataFrame(differences).astype(float)
    y = np.asarray(choices).astype(float)
    if y.shape != (len(table),) or not np.isin(y, (0, 1)).all():
        raise ValueError(
            f"choices= has the shape {y.shape} for {len(table)} triplets; give one a triplet, "
            "1 where image_2 was chosen."
        )
    if not np.isfinite(table.to_numpy()).all():
        raise ValueError("differences= has missing or infinite values; leave those triplets out.")
    if y.min() == y.max():
        raise ValueError("the choices are all alike; a model of choices needs both.")
    spread = table.std(ddof=0)
    if (spread == 0).any():
        raise ValueError(f"the regressor {spread.idxmin()!r} is constant; leave it out.")
    x = np.column_stack([(table - table.mean()) / spread, np.ones(len(table))])
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise ValueError("the regressors determine each other; leave one out.")
    return x, y, [str(name) for name in table.columns]
