"""Inner products of stimuli in place of their patterns: what ``models.extract_gram`` gives, as RDMs and as patterns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...neuro.assembly import assemble, quoted
from .metrics import units_of
from .pairs import pair_table
from .patterns import find_groups, is_along

Array = NDArray[np.float64]

#: metrics that inner products determine
METRICS = ("correlation", "cosine", "euclidean", "sqeuclidean")
#: inner products of single precision tell no less from nothing
ROUNDING = 1e-6


@dataclass(frozen=True)
class Gram:
    """Inner products of the patterns of stimuli, stimuli × stimuli, and what their means over features take off them.

    Attributes
    ----------
    inner
        Of the patterns.
    of_means
        Of the patterns' means, repeated for each feature.
    """

    inner: Array
    of_means: Array

    @classmethod
    def of(cls, array: xr.DataArray) -> Gram:
        """Of an array of ``models.extract_gram``; all its layers together, features side by side.

        Raises
        ------
        ValueError
            If labels or inner products are missing.
        """
        for name in ("stimulus_b", "layer", "feature_mean", "n_features"):
            if not is_along(array, name, "neuroid"):
                raise ValueError(
                    f"an array of inner products needs the coordinate {name!r} along 'neuroid'; take one of "
                    "models.extract_gram."
                )
        stimuli = array.coords["stimulus_id"].values.tolist()
        layers, others = (array.coords[name].values for name in ("layer", "stimulus_b"))
        sizes, means = (array.coords[name].values for name in ("n_features", "feature_mean"))
        n = len(stimuli)
        inner, sums, n_features = np.zeros((n, n)), np.zeros(n), 0
        for layer in dict.fromkeys(layers.tolist()):
            columns = np.flatnonzero(layers == layer)
            place = dict(zip(others[columns].tolist(), columns.tolist(), strict=True))
            absent = [stimulus for stimulus in stimuli if stimulus not in place]
            if absent or len(set(stimuli)) < n:
                what = f"those of {quoted(absent[0])} are missing" if absent else "a stimulus occurs twice"
                raise ValueError(
                    f"the layer {layer!r} lacks inner products of each stimulus with each ({what}); select the same "
                    "stimuli along 'presentation' and by 'stimulus_b'."
                )
            order = [place[stimulus] for stimulus in stimuli]
            inner += array.isel(neuroid=order).values
            sums += means[order] * sizes[order]
            n_features += int(sizes[order[0]])
        if not np.isfinite(inner).all():
            raise ValueError("the array has missing or infinite inner products; extract it again.")
        return cls(inner, np.multiply.outer(sums, sums) / n_features)

    def sqdistances(self) -> Array:
        """Squared Euclidean distances of all pairs, in the order of ``numpy.triu_indices(n, 1)``."""
        rows, columns = np.triu_indices(len(self.inner), 1)
        own = np.diagonal(self.inner)
        return np.maximum(own[rows] + own[columns] - 2 * self.inner[rows, columns], 0)

    def cosines(self, centred: bool) -> tuple[Array, int | None]:
        """Cosines of all pairs, of patterns without their mean if ``centred``, and the first stimulus without any."""
        inner = self.inner - self.of_means if centred else self.inner
        own = np.diagonal(inner)
        flat = np.flatnonzero(own <= ROUNDING * np.diagonal(self.inner))
        if flat.size:
            return np.zeros(0), int(flat[0])
        rows, columns = np.triu_indices(len(inner), 1)
        return inner[rows, columns] / np.sqrt(own[rows] * own[columns]), None

    def patterns(self) -> Array:
        """Patterns with these inner products, stimuli × at most as many units; the features turned around."""
        values, vectors = np.linalg.eigh(self.inner)
        kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
        turned: Array = vectors[:, kept] * np.sqrt(values[kept])
        return turned


def is_gram(array: Any) -> bool:
    """Whether an array holds inner products of stimuli instead of their patterns.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.rsa.grams import is_gram
    >>> is_gram(neuro.simulate(n_stimuli=4, n_units=3, random_state=0))
    False
    """
    return isinstance(array, xr.DataArray) and array.attrs.get("modality") == "gram"


def rdm_of_gram(array: xr.DataArray, metric: str, by: str | Sequence[str] | None, noise: Any) -> xr.DataArray:
    """Dissimilarities of patterns of which only the inner products are known.

    Parameters
    ----------
    array
        Of ``models.extract_gram``.
    metric
        One of :data:`METRICS`.
    by
        Labels along ``neuroid`` that tell RDMs apart, such as ``"layer"``; layers that share them count as one.
    noise
        Must be ``None``: whitening needs the units.

    Raises
    ------
    ValueError
        If inner products do not determine what is asked for, or a pattern is constant or zero.

    Examples
    --------
    >>> from cerebridge import neuro
    >>> from cerebridge.encoding.rsa.grams import rdm_of_gram
    >>> gram = neuro.assemble(
    ...     [[1.0, 0.0], [0.0, 4.0]],
    ...     presentation={"stimulus_id": ["a", "b"]},
    ...     neuroid={
    ...         "neuroid_id": [0, 1],
    ...         "layer": "fc",
    ...         "stimulus_b": ["a", "b"],
    ...         "feature_mean": [0.5, 1.0],
    ...         "n_features": 2,
    ...     },
    ...     modality="gram",
    ...     units="a.u.",
    ... )
    >>> rdm_of_gram(gram, "sqeuclidean", "layer", noise=None).values
    array([[5.]])
    """
    if metric not in METRICS or noise is not None:
        what = f"metric={metric!r}" if metric not in METRICS else "noise="
        raise ValueError(
            f"{what} needs the features themselves, and the array holds their inner products, which give "
            f"{', '.join(map(repr, METRICS))} without noise=; use models.extract."
        )
    groups = find_groups(array, by)
    stimuli = array.coords["stimulus_id"].values
    found = []
    for rows, units, label in zip(
        groups.presentations, groups.units, groups.table["neuroid_id"], strict=True
    ):
        if len(rows) < len(stimuli):
            raise ValueError(
                "by= must name labels along 'neuroid', as inner products are between all stimuli."
            )
        gram = Gram.of(array.isel(neuroid=units))
        if metric in ("euclidean", "sqeuclidean"):
            squares = gram.sqdistances()
            found.append(squares if metric == "sqeuclidean" else np.sqrt(squares))
            continue
        cosines, flat = gram.cosines(centred=metric == "correlation")
        if flat is not None:
            kind = "zero" if metric == "cosine" else "constant"
            raise ValueError(
                f"the pattern of stimulus {quoted(stimuli[flat])} is {kind} over the features of {quoted(label)}, so "
                f"metric={metric!r} is undefined; leave the stimulus out or use metric='euclidean'."
            )
        found.append(1 - cosines)
    return assemble(
        np.stack(found),
        rdm={
            name: labels
            for name, labels in groups.table.items()
            if name not in ("stimulus_b", "feature_mean")
        },
        pair=pair_table(stimuli),
        modality="activation",
        units=units_of(array.attrs["units"], metric, whitened=False),
        provenance=f"rsa.rdm(metric={metric!r}) of: {array.attrs.get('provenance', '')}",
    ).assign_attrs(metric=metric)
