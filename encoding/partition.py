"""Variance partitioning: what every band of features explains of held-out responses, alone and together."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import norm, t
from sklearn.base import clone

from ..neuro.progress import track
from . import inputs, parameters
from .bands import Columns, find_bands, labels_of, names_of
from .containers import kind_of, labels_along, to_tensor
from .engine.partition import Members, region_weights, shares, subsets, sum_blocks, unique_weights
from .engine.resampling import block_length
from .exchange import find_blocks
from .pipelines import groups_parameter
from .splits import make_splits

Array = NDArray[Any]
Indices = NDArray[np.int64]

#: up to so many bands every set of them is fitted
MOST = 4
#: a model whose parts miss its prediction by more than this share of the responses' spread is not additive
ADDITIVE = 1e-4
#: and as much of their mean is rounding
ROUNDING = 1e-6
#: share of intervals that should hold the true value
COVERAGE = 0.95
#: units that say how far a recording depends on its past
SERIES = 100
#: blocks from which an interval cannot be drawn any more
FEWEST = 5


class Rows(NamedTuple):
    """Training and held-out rows of every fold, groups of rows or ``None``, and what the folds are in words."""

    folds: Sequence[tuple[Indices, Indices]]
    groups: Array | None
    description: str


@dataclass(frozen=True)
class Fits:
    """Fits of sets of bands, and what they explain of every held-out row, ``(rows, targets)``."""

    estimator: Any
    features: Array
    truth: Array
    bands: Mapping[Hashable, Columns]
    rows: Rows

    @property
    def held_out(self) -> Indices:
        """Held-out rows, fold by fold."""
        return np.concatenate([test for _, test in self.rows.folds])

    def variation(self) -> Array:
        """Squares of the responses about the mean of their training rows."""
        return np.concatenate([self._seen(fold)[0] ** 2 for fold in self.rows.folds])

    def explained(self, members: Members) -> Array:
        """What the bands of a set explain: the variation less the squared error."""
        columns = np.sort(np.concatenate([list(self.bands.values())[band] for band in members]))
        parts = []
        for fold in self.rows.folds:
            truth, mean = self._seen(fold)
            predicted = self._predict(self._fit(columns, fold[0]), self.features[fold[1]][:, columns]) - mean
            parts.append(truth**2 - (truth - predicted) ** 2)
        return np.concatenate(parts)

    def products(self) -> list[Array] | None:
        """The part of every band in what all explain together; ``None`` if predictions are no sum over bands."""
        parts: list[list[Array]] = []
        for train, test in self.rows.folds:
            truth, mean = self._seen((train, test))
            model = self._fit(np.arange(self.features.shape[1]), train)
            average = self.features[train].mean(0, keepdims=True)
            level = self._predict(model, average)
            of_band = []
            for columns in self.bands.values():
                alone = np.repeat(average, len(test), 0)
                alone[:, columns] = self.features[np.ix_(test, columns)]
                of_band.append(self._predict(model, alone) - level)
            predicted = self._predict(model, self.features[test]) - mean
            if (np.abs(sum(of_band) - predicted) > ADDITIVE * truth.std(0) + ROUNDING * np.abs(mean)).any():
                return None
            parts.append([part * (2 * truth - predicted) for part in of_band])
        return [np.concatenate(of_band) for of_band in zip(*parts, strict=True)]

    def _seen(self, fold: tuple[Indices, Indices]) -> tuple[Array, Array]:
        """Held-out responses as seen from the training mean, and that mean."""
        mean = self.truth[fold[0]].mean(0)
        return self.truth[fold[1]] - mean, mean

    def _fit(self, columns: Indices, train: Indices) -> Any:
        model = clone(self.estimator)
        if "bands" in model.get_params():
            names = names_of(self.bands)[labels_of(self.bands)]
            model.set_params(bands=names[columns])
        groups = {}
        if self.rows.groups is not None and (name := groups_parameter(model)):
            groups[name] = self.rows.groups[train]
        with warnings.catch_warnings():
            # every set of bands and fold would say again which penalties lie at the ends of the grid
            warnings.filterwarnings("ignore", r"\d+ of \d+ targets ")
            return model.fit(self.features[np.ix_(train, columns)], self.truth[train], **groups)

    def _predict(self, model: Any, features: Array) -> Array:
        return np.asarray(model.predict(features), dtype=np.float64).reshape(len(features), -1)


def partition_variance(
    estimator: Any,
    X: Any,
    Y: Any,
    bands: Any = None,
    *,
    cv: Any = None,
    groups: Any = None,
    bootstrap: int = 1000,
    random_state: int | None = 0,
    progress: bool | None = None,
) -> xr.Dataset:
    """Divide the variance of held-out responses that is explained among bands of features.

    Every set of bands is fitted by itself and scored on held-out rows (more than 4 bands: all, and all but each).
    The share of a set is ``1 - error / error of the training mean``, over all held-out rows.

    Parameters
    ----------
    estimator
        A regressor, cloned for every fold and set; one with a parameter ``bands`` is given the bands of its set.
    X
        Features, ``(samples, features)``.
    Y
        Responses, ``(samples,)`` or ``(samples, targets)``, row by row with ``X``.
    bands
        ``None``: the estimator's own ``bands``, else the coordinate ``"band"`` of ``X``. A text: another coordinate.
        Or one label a feature; or a list (or dictionary) of slices, columns or masks.
    cv, groups
        For a labelled ``X`` as in :func:`cerebridge.encoding.evaluate`, which never separates repeats, runs, or
        neighbours in time at random; for plain arrays contiguous folds (default 5), of whole groups where there are.
    bootstrap
        Draws of held-out rows for the intervals, without refits. Rows of a stimulus or group move together; of time
        series and plain arrays, stretches of neighbours do. 0 for none.
    random_state
        Seeds folds of stimuli and draws.
    progress
        ``None`` shows a bar on terminals.

    Returns
    -------
    xarray.Dataset
        For every unit (``neuroid``): ``total``, the share of all bands; ``r2`` of every ``set``; ``unique``, of every
        ``band``, what is lost without it; ``shared``, the rest; ``product``, the product measure of every band, which
        sums to ``total`` exactly (linear models with an intercept); with at most 4 bands ``venn``, what exactly the
        bands of a set share (a Venn diagram). Each has an ``…_interval`` with ends ``low`` and ``high`` of 95 %
        intervals: of these fitted models on new rows, what other training rows would change is not in them.

    Raises
    ------
    ValueError
        If there is one band only, bands are wrong, or folds would leak.

    References
    ----------
    Borcard, Legendre & Drapeau (1992), Ecology 73; Pratt (1987), Proc. 2nd Tampere Conf. Statistics; Dupré la Tour et
    al. (2022), NeuroImage 264.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((100, 6))
    >>> Y = X[:, :3].sum(1, keepdims=True) + rng.standard_normal((100, 1))
    >>> parts = encoding.partition_variance(encoding.RidgeCV(), X, Y, [slice(3), slice(3, 6)], bootstrap=100)
    >>> bool(parts.unique[0, 0] > 0.5), bool(abs(parts.unique[1, 0]) < 0.1)
    (True, True)
    """
    parameters.whole_number(bootstrap, "bootstrap", 0)
    features = _features(X)
    targets = inputs.targets(Y, len(features), X)
    truth = targets.reshape(len(targets), -1).cpu().numpy()
    found = find_bands(getattr(estimator, "bands", None) if bands is None else bands, X, features.shape[1])
    if len(found) < 2:
        raise ValueError(
            "there is one band only, so that there is nothing to divide; give two bands or more."
        )
    rows = _rows(X, Y, cv, groups, len(truth), random_state)
    fits = Fits(estimator, features, truth, found, rows)
    sets = subsets(len(found), MOST)
    total = fits.explained(sets[-1])
    blocks, what = _blocks(X, rows, fits.held_out, total)
    others = track(sets[:-1], "partitioning variance", show=progress)
    sums = [*(_sums(fits.explained(members), blocks) for members in others), _sums(total, blocks)]
    quantities = _quantities(sets, len(found))
    products = fits.products()
    if products is None:
        warnings.warn(
            f"predictions of {type(estimator).__name__} are no sum over bands about the mean, so that there is no "
            "product measure; use a linear model with an intercept.",
            stacklevel=2,
        )
    else:
        sums += [_sums(product, blocks) for product in products]
        quantities = {
            name: torch.nn.functional.pad(weights, (0, len(products))) for name, weights in quantities.items()
        }
        quantities["product"] = torch.eye(len(sums), dtype=torch.float64)[len(sets) :]
    variation = _sums(fits.variation(), blocks)
    estimates, ends = _estimate(sums, variation, quantities, bootstrap, random_state)
    dataset = _dataset(estimates, ends, quantities, sets, names_of(found), Y)
    dataset.attrs |= {"folds": rows.description, "blocks": what, "bootstrap": bootstrap, "coverage": COVERAGE}
    return dataset


def _features(X: Any) -> Array:
    """Features as a plain table."""
    features = to_tensor(X)
    if features.ndim != 2:
        raise ValueError(
            f"X must be samples × features, got {features.ndim} dimensions; stack or select the others."
        )
    inputs.require_finite(features, X, "X", "samples", 0)
    return features.cpu().numpy()


def _rows(X: Any, Y: Any, cv: Any, groups: Any, n: int, random_state: int | None) -> Rows:
    """Folds that do not leak, as far as labels tell."""
    if kind_of(X) == "xarray":
        splits = make_splits(X, cv, groups, random_state=random_state)
        return Rows(splits.folds, splits.groups, splits.description)
    pairs = inputs.splits(5 if cv is None else cv, n, Y, groups, (X, Y))
    folds = [(split.train.numpy(), split.test.numpy()) for split in pairs]
    return Rows(folds, None if groups is None else np.asarray(groups), f"{len(folds)} folds")


def _blocks(X: Any, rows: Rows, held_out: Indices, explained: Array) -> tuple[torch.Tensor, str]:
    """The block of every held-out row, from 0, and what blocks are in words."""
    codes: Array | None = None
    if kind_of(X) == "xarray":
        codes, what = find_blocks(X, groups=rows.groups)
        codes = None if what == "rows" and X.dims[0] == "time_bin" else codes
    elif rows.groups is not None:
        codes, what = np.unique(rows.groups, return_inverse=True)[1], "groups of rows"
    if codes is None:
        in_order = explained[np.argsort(held_out, kind="stable")]
        length = block_length(torch.from_numpy(in_order[:, :SERIES]))
        codes, what = np.arange(held_out.max() + 1) // length, f"stretches of {length} rows"
    blocks = np.unique(codes[held_out], return_inverse=True)[1]
    if blocks.max() + 1 < FEWEST:
        raise ValueError(
            f"the held-out rows are {blocks.max() + 1} blocks that move together ({what}), too few for an interval; "
            "give smaller groups."
        )
    return torch.from_numpy(blocks), what


def _sums(values: Array, blocks: torch.Tensor) -> torch.Tensor:
    return sum_blocks(torch.from_numpy(values).double(), blocks, int(blocks.max()) + 1)


def _quantities(sets: Sequence[Members], n_bands: int) -> dict[str, torch.Tensor]:
    """By name, what each set counts for each value of a quantity."""
    every = torch.eye(len(sets), dtype=torch.float64)
    unique = unique_weights(sets, n_bands)
    quantities = {
        "total": every[-1:],
        "r2": every,
        "unique": unique,
        "shared": every[-1:] - unique.sum(0, keepdim=True),
    }
    return quantities | ({"venn": region_weights(sets, n_bands)} if n_bands <= MOST else {})


def _estimate(
    sums: Sequence[torch.Tensor],
    variation: torch.Tensor,
    quantities: Mapping[str, torch.Tensor],
    bootstrap: int,
    random_state: int | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """All quantities one under the other, and their intervals."""
    n = len(variation)
    # one less than there are, so that few blocks vary as much as they should (Rao & Wu, 1988); few know their own
    # spread badly, as few values do in a t-test (Hesterberg, 2015)
    drawn = np.random.default_rng(random_state).multinomial(n - 1, np.full(n, 1 / n), size=max(bootstrap, 1))
    tail = float(norm.cdf(t.ppf((1 - COVERAGE) / 2, n - 1)))
    weights = torch.cat(list(quantities.values()))
    estimates, ends = shares(
        torch.stack(list(sums)), variation, weights, torch.from_numpy(drawn).double(), tail
    )
    return estimates, ends if bootstrap else None


def _dataset(
    estimates: torch.Tensor,
    ends: torch.Tensor | None,
    quantities: Mapping[str, torch.Tensor],
    sets: Sequence[Members],
    names: Array,
    Y: Any,
) -> xr.Dataset:
    dims = {
        "total": (),
        "shared": (),
        "r2": ("set",),
        "venn": ("set",),
        "unique": ("band",),
        "product": ("band",),
    }
    variables: dict[str, Any] = {}
    start = 0
    for name, weights in quantities.items():
        part = slice(start, start + len(weights))
        start = part.stop
        own = (*dims[name], "neuroid")
        values = estimates[part].numpy()
        variables[name] = (own, values if dims[name] else values[0])
        if ends is not None:
            limits = ends[:, part].numpy()
            variables[f"{name}_interval"] = (("end", *own), limits if dims[name] else limits[:, 0])
    united = ["+".join(str(names[band]) for band in members) for members in sets]
    coords: dict[Hashable, Any] = {"band": names, "set": united}
    if ends is not None:
        coords["end"] = ["low", "high"]
    if kind_of(Y) == "xarray" and Y.ndim == 2:
        coords |= labels_along(Y, Y.dims[1], renamed="neuroid")
    return xr.Dataset(variables, coords)
