"""Noise ceilings: what the best possible model can score, from repeats, one definition for every modality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from .assembly import validate

Array = NDArray[np.float64]
Method = Literal["split-half", "leave-one-out", "variance"]

#: values worked on at once, so that memory does not grow with the number of units
CHUNK = 2**22
#: a correlation over fewer stimuli says nothing
FEWEST = 3


def noise_ceiling(
    array: xr.DataArray,
    method: Method = "split-half",
    scoring: Literal["pearsonr", "r2"] = "pearsonr",
    *,
    n_repeats: int | None = None,
    n_splits: int = 20,
    random_state: int | np.random.Generator | None = 0,
) -> xr.DataArray:
    r"""Highest score that a model can expect, from how well single presentations of a stimulus agree.

    The ceiling is the expected score of the perfect model, which knows each stimulus' expected response, against
    the responses averaged over repeats. With signal variance V over stimuli, mean variance N of a single
    presentation about its expectation, and :math:`m_i` repeats of stimulus i, the averages have the reliability

    .. math:: R = \frac{V / N}{V / N + \overline{1 / m_i}},

    which is the ceiling of r², and :math:`\sqrt R` that of a correlation. All methods estimate V / N, each unit
    from the presentations at which it has a value; none needs as many repeats of each stimulus.

    Parameters
    ----------
    array
        ``presentation × neuroid`` or ``presentation × neuroid × time_bin``, single presentations; those of equal
        ``stimulus_id`` are repeats.
    method
        ``"split-half"``: correlation of the averages of two random halves of each stimulus' repeats, averaged over
        ``n_splits`` splits, and extrapolated by Spearman-Brown. ``"leave-one-out"``: correlation of each repeat
        with the average of the others, likewise extrapolated; stimuli with fewer repeats take part again.
        ``"variance"``: variance components, N within stimuli and V what it leaves of the variance of averages;
        :math:`\sqrt{V / N}` is the noise ceiling SNR (ncsnr) of the Natural Scenes Dataset.
    scoring
        ``"pearsonr"``: the ceiling is a correlation; ``"r2"``: a share of variance.
    n_repeats
        How many repeats are averaged in what is scored, e.g. 1 for single presentations. Default: all there are.
    n_splits, random_state
        Splits and seed of ``"split-half"``.

    Returns
    -------
    xarray.DataArray
        ``"ceiling"``, ``neuroid`` or ``neuroid × time_bin``, from 0 to 1. It is 0 where repeats agree no better
        than chance or a unit is constant, and NaN where fewer than 3 stimuli have repeats in that unit.

    Raises
    ------
    ValueError
        If the array has no presentations or no repeats, or an option is unknown.

    References
    ----------
    Spearman (1910) and Brown (1910), British Journal of Psychology 3; Schoppe et al. (2016), Frontiers in
    Computational Neuroscience 10:10; Allen et al. (2022), Nature Neuroscience 25:116-126.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> neurons = neuro.simulate(n_stimuli=200, n_units=5, n_repeats=10, random_state=0)
    >>> bool(abs(neuro.noise_ceiling(neurons) - neurons.true_ceiling).max() < 0.05)
    True
    """
    if method not in ("split-half", "leave-one-out", "variance"):
        raise ValueError(f"method is {method!r}; it must be 'split-half', 'leave-one-out' or 'variance'.")
    if scoring not in ("pearsonr", "r2"):
        raise ValueError(f"scoring is {scoring!r}; a ceiling is known for 'pearsonr' and 'r2'.")
    for name, count in {"n_repeats": n_repeats, "n_splits": n_splits}.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}; it must be 1 at least.")
    order, starts = _sorted_repeats(array)
    seeds = np.random.default_rng(random_state).integers(2**32, size=n_splits)
    per_unit = array.sizes.get("time_bin", 1)
    step = max(1, CHUNK // (order.size * per_unit))
    parts = []
    for first in range(0, array.sizes["neuroid"], step):
        chunk = array.isel(neuroid=slice(first, first + step))
        cells = _Cells.of(chunk, order, starts)
        if method == "variance":
            signal, noise = _components(cells)
        else:
            signal, noise = _agreement(
                cells, _halves(cells, seeds) if method == "split-half" else _left_out(cells)
            )
        averaged = cells.mean_inverse() if n_repeats is None else np.float64(1 / n_repeats)
        reliability = np.divide(
            signal, signal + noise * averaged, out=np.zeros_like(signal), where=signal > 0
        )
        parts.append(np.where(cells.enough(), reliability, np.nan))
    ceiling = np.concatenate(parts).reshape(array.shape[1:])
    if scoring == "pearsonr":
        ceiling = np.sqrt(ceiling)
    like = array.isel(presentation=0, drop=True)
    return xr.DataArray(
        ceiling,
        dims=like.dims,
        coords=like.coords,
        name="ceiling",
        attrs={"method": method, "scoring": scoring},
    )


def _sorted_repeats(array: xr.DataArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order that brings a stimulus' rows together, and where in it each stimulus starts."""
    validate(array)
    if "presentation" not in array.dims:
        raise ValueError(
            f"a ceiling needs presentations, and this array is {' × '.join(map(str, array.dims))}; "
            "cut it into trials or estimate single-trial responses first."
        )
    codes = pd.factorize(array.coords["stimulus_id"].values)[0]
    counts = np.bincount(codes)
    if counts.max() == 1:
        raise ValueError(
            "this array has no repeats, each stimulus_id occurs once; a ceiling needs the single presentations, "
            "before they are averaged."
        )
    if (counts > 1).sum() < FEWEST:
        raise ValueError(
            f"only {(counts > 1).sum()} stimuli are repeated; a ceiling needs {FEWEST} at least."
        )
    keys = [codes] if "repetition" not in array.coords else [array.coords["repetition"].values, codes]
    return np.lexsort(keys), np.cumsum([0, *counts[:-1]])


@dataclass(frozen=True)
class _Cells:
    """Presentations × units, sorted by stimulus; what is missing is 0 in ``values``, and not in ``present``.

    Where all units miss the same presentations ``present`` is one column, and so is all that is counted.
    """

    values: Array
    present: NDArray[np.bool_]
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, chunk: xr.DataArray, order: NDArray[np.intp], starts: NDArray[np.intp]) -> _Cells:
        values = chunk.values.reshape(order.size, -1)[order].astype(float)
        infinite = np.isinf(values).any(axis=0)
        if infinite.any():
            unit = np.flatnonzero(infinite)[0] // chunk.sizes.get("time_bin", 1)
            raise ValueError(
                f"neuroid {chunk.coords['neuroid_id'].values.tolist()[unit]!r} has infinite values; set them to NaN, "
                "which is missing."
            )
        present = ~np.isnan(values)
        # measured from a value of its own, a constant unit is exactly zero
        values -= np.take_along_axis(values, present.argmax(axis=0)[None], axis=0)
        values[~present] = 0
        if (present == present[:, :1]).all():
            present = present[:, :1]
        return cls(values, present, starts)

    @cached_property
    def stimulus(self) -> NDArray[np.intp]:
        """The stimulus of each row, counted from 0."""
        return np.repeat(np.arange(self.starts.size), np.diff([*self.starts, len(self.values)]))

    @cached_property
    def counts(self) -> NDArray[np.int32]:
        """stimuli × units: repeats."""
        return self.count(self.present)

    def count(self, rows: NDArray[np.bool_]) -> NDArray[np.int32]:
        """How many rows of each stimulus."""
        return np.add.reduceat(rows, self.starts, axis=0, dtype=np.int32)

    def sum(self, rows: NDArray[np.bool_]) -> Array:
        """Sum of each stimulus' values in some rows."""
        if rows.shape[1] > 1:
            return np.add.reduceat(np.where(rows, self.values, 0), self.starts, axis=0)
        from scipy.sparse import csr_matrix

        columns = np.arange(len(rows))
        edges = np.append(self.starts, len(rows))
        return cast(Array, csr_matrix((rows[:, 0].astype(float), columns, edges)) @ self.values)

    def ranks(self, order: NDArray[np.intp]) -> NDArray[np.int32]:
        """1, 2, … for the rows of a stimulus that are present, as they come in ``order``."""
        present = self.present[order]
        seen = np.cumsum(present, axis=0, dtype=np.int32)
        seen -= (seen - present)[self.starts][self.stimulus]
        ranks = np.empty_like(seen)
        ranks[order] = seen
        return ranks

    def mean_inverse(self) -> Array:
        """Mean over stimuli of one divided by the repeats."""
        return _mean(1 / np.maximum(self.counts, 1), self.counts > 0)

    def enough(self) -> NDArray[np.bool_]:
        """Whether a unit's repeats say anything."""
        return cast(NDArray[np.bool_], (self.counts > 1).sum(axis=0) >= FEWEST)


def _halves(cells: _Cells, seeds: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Random halves of each stimulus' repeats, the odd one on either side, the same for all chunks."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        ranks = cells.ranks(np.lexsort([rng.random(len(cells.values)), cells.stimulus]))
        half = (cells.counts + rng.integers(2, size=(cells.starts.size, 1))) // 2
        yield cells.present & (ranks <= half[cells.stimulus])


def _left_out(cells: _Cells) -> Iterator[NDArray[np.bool_]]:
    """One repeat of each stimulus after the other; where repeats have run out, the first again."""
    ranks = cells.ranks(np.arange(len(cells.values)))
    repeats = np.maximum(cells.counts, 1)
    for k in range(np.bincount(cells.stimulus).max()):
        yield cells.present & (ranks == (k % repeats + 1)[cells.stimulus])


def _agreement(cells: _Cells, splits: Iterator[NDArray[np.bool_]]) -> tuple[Array, Array]:
    """Signal and noise variance, up to a common factor, from how the averages of two parts correlate.

    Averages of a and b repeats correlate with r = s / sqrt((s + 1/a)(s + 1/b)), s the ratio of signal to noise;
    solved for s this is the Spearman-Brown formula for halves of any size.
    """
    total = cells.sum(cells.present)
    results = []
    for part in splits:
        n_first = cells.count(part)
        n_second = cells.counts - n_first
        sum_first = cells.sum(part)
        both = (n_first > 0) & (n_second > 0)
        share_first, share_second = 1 / np.maximum(n_first, 1), 1 / np.maximum(n_second, 1)
        r = _correlation(sum_first * share_first, (total - sum_first) * share_second, both)
        results.append(np.broadcast_arrays(r, _mean(share_first, both), _mean(share_second, both)))
    r, first, second = np.mean(results, axis=0)
    r = np.clip(r, 0, 1)
    signal = r**2 * (first + second) + r * np.sqrt(r**2 * (first - second) ** 2 + 4 * first * second)
    return signal, 2 * (1 - r**2)


def _components(cells: _Cells) -> tuple[Array, Array]:
    """Signal and noise variance of one presentation, from the variance between and within stimuli."""
    counts = cells.counts
    seen = counts > 0
    means = cells.sum(cells.present) / np.maximum(counts, 1)
    within = (cells.present * (cells.values - means[cells.stimulus]) ** 2).sum(axis=0)
    noise = within / np.maximum((counts - seen).sum(axis=0), 1)
    deviations = (means - _mean(means, seen)) ** 2
    between = _mean(deviations, seen) * seen.sum(axis=0) / np.maximum(seen.sum(axis=0) - 1, 1)
    return between - noise * cells.mean_inverse(), noise


def _mean(values: Array, where: NDArray[np.bool_]) -> Array:
    """Mean over stimuli, 0 where there are none."""
    return cast(Array, (values * where).sum(axis=0) / np.maximum(where.sum(axis=0), 1))


def _correlation(a: Array, b: Array, where: NDArray[np.bool_]) -> Array:
    """Pearson correlation over stimuli, 0 where one side does not vary."""
    a = (a - _mean(a, where)) * where
    b = (b - _mean(b, where)) * where
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.zeros_like(scale), where=scale > 0)
