"""Persistent homology of neural manifolds: components, loops and voids, and over which distances they last."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ...neuro.assembly import quoted
from ...neuro.progress import track
from ..containers import to_tensor
from ..parameters import whole_number
from .pairs import check_rdms, stimulus_order

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]


@dataclass(frozen=True)
class Persistence:
    """Bars of persistent homology: when components, loops and voids appear and vanish as points are joined farther.

    Attributes
    ----------
    bars
        Along ``bar``: ``birth`` and ``death``, in the unit of the distances (death is infinite for what never
        vanishes: one component), with the ``dimension`` (0 components, 1 loops, 2 voids), the ``neuroid_id`` and the
        other labels of the RDM.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import rsa
    >>> angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    >>> ring = rsa.persistent_homology(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    >>> ring.summary().query("dimension == 1")[["n_bars", "longest"]].round(2).values.tolist()
    [[1.0, 1.47]]
    """

    bars: xr.Dataset

    def summary(self) -> pd.DataFrame:
        """One row an RDM and dimension.

        Returns
        -------
        pandas.DataFrame
            ``n_bars``; ``longest`` and ``second``, how long the two longest last (0 where there is none);
            ``contrast``, the longest over the second (infinite where there is no second, missing without any);
            ``total`` length; ``entropy`` of the shares of it (bits). Bars that never end, in ``n_endless``, count for
            nothing else.
        """
        rows = []
        for name, dimension, birth, death in self._diagrams():
            lengths = np.sort((death - birth)[np.isfinite(death)])[::-1]
            longest, second = (*lengths[:2], 0.0, 0.0)[:2]
            share = lengths[lengths > 0] / max(lengths.sum(), np.finfo(float).tiny)
            row = {
                "n_bars": len(birth),
                "n_endless": len(birth) - len(lengths),
                "longest": longest,
                "second": second,
            }
            contrast = longest / second if second > 0 else np.inf if longest > 0 else np.nan
            row |= {
                "contrast": contrast,
                "total": lengths.sum(),
                "entropy": -(share * np.log2(share)).sum() + 0.0,
            }
            rows.append({"neuroid_id": name, "dimension": dimension, **row})
        return pd.DataFrame(rows)

    def betti(self, at: ArrayLike) -> xr.DataArray:
        """Betti curves: how many bars there are at some distances.

        Parameters
        ----------
        at
            Distances.

        Returns
        -------
        xarray.DataArray
            ``neuroid_id × dimension × distance``.
        """
        distances = np.atleast_1d(np.asarray(at, dtype=np.float64))
        counts = [
            ((birth[:, None] <= distances) & (distances < death[:, None])).sum(axis=0)
            for _, _, birth, death in self._diagrams()
        ]
        coords = {"neuroid_id": self._names(), "dimension": self._dimensions(), "distance": distances}
        shape = [len(labels) for labels in coords.values()]
        return xr.DataArray(np.reshape(counts, shape), coords, list(coords), name="betti")

    def distances(self, dimension: int = 1, metric: str = "bottleneck") -> xr.DataArray:
        """How far the diagrams of RDMs are from one another.

        Parameters
        ----------
        dimension
            Of the bars that are matched; those that never end are left out.
        metric
            ``"bottleneck"``: largest move (over both coordinates) of the best matching, where bars may also vanish
            into the diagonal; or ``"wasserstein"``: sum of the moves (Euclidean).

        Returns
        -------
        xarray.DataArray
            ``rdm_a × rdm_b``.
        """
        measures = _import("persim", "distances of diagrams")
        if metric not in ("bottleneck", "wasserstein"):
            raise ValueError(f"metric={metric!r} is unknown; use 'bottleneck' or 'wasserstein'.")
        if dimension not in self._dimensions():
            raise ValueError(
                f"there are no bars of dimension {dimension}, only of {self._dimensions().tolist()}; compute them with "
                "max_dimension=."
            )
        names = self._names()
        diagrams = [
            np.stack([birth, death], axis=1)[np.isfinite(death)]
            for _, k, birth, death in self._diagrams()
            if k == dimension
        ]
        out = np.zeros((len(names), len(names)))
        for i, j in combinations(range(len(names)), 2):
            out[i, j] = out[j, i] = getattr(measures, metric)(diagrams[i], diagrams[j])
        return xr.DataArray(
            out, {"rdm_a": names, "rdm_b": names}, ["rdm_a", "rdm_b"], attrs={"metric": metric}
        )

    def plot(self) -> Figure:
        """Draw barcode and diagram, one row an RDM."""
        from ..plots.homology import plot_persistence

        return plot_persistence(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one netCDF-4 file; :meth:`load` gives equal bars back."""
        from ...neuro.store import save_dataset

        save_dataset(Path(path), self.bars)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Persistence:
        """Read what :meth:`save` wrote."""
        from ...neuro.store import load_dataset

        return cls(load_dataset(Path(path)))

    def _names(self) -> Array:
        return np.asarray(pd.unique(self.bars["neuroid_id"].values))

    def _dimensions(self) -> Array:
        return np.arange(int(self.bars.attrs["max_dimension"]) + 1)

    def _diagrams(self) -> list[tuple[Any, int, Array, Array]]:
        """Name, dimension, births and deaths of every diagram, empty ones too."""
        names, dimensions = self.bars["neuroid_id"].values, self.bars["dimension"].values
        birth, death = self.bars["birth"].values, self.bars["death"].values
        here = [
            (name, k, (names == name) & (dimensions == k))
            for name in self._names()
            for k in self._dimensions()
        ]
        return [(name, int(k), birth[rows], death[rows]) for name, k, rows in here]


def persistent_homology(
    rdms_or_patterns: Any,
    max_dimension: int = 1,
    *,
    metric: str = "euclidean",
    largest: float = np.inf,
    landmarks: int | None = None,
    field: int = 2,
) -> Persistence:
    """Persistent homology of stimuli or moments in the space of a neural population (Vietoris–Rips, by ripser).

    Points are joined that lie within a distance, and the distance grows: a loop that lasts long before it is filled
    is a ring in the data, as of head direction; two loops and a void are a torus, as of a grid module.

    Parameters
    ----------
    rdms_or_patterns
        Labelled ``rdm × pair`` array, for every RDM; or patterns (labelled ``presentation × neuroid`` or ``time_bin ×
        neuroid``, numpy or torch rows × units), whose rows are the points.
    max_dimension
        Largest dimension: 0 components, 1 loops (default), 2 voids (slow beyond some hundred points).
    metric
        Of patterns: any of :func:`scipy.spatial.distance.pdist`.
    largest
        Points farther apart are never joined, which saves time.
    landmarks
        So many points that lie far from each other stand for all; for thousands of points.
    field
        Prime: coefficients are whole numbers modulo it.

    Returns
    -------
    Persistence

    Raises
    ------
    ImportError
        If ripser is not installed.
    ValueError
        If dissimilarities are missing or negative, or there are too few points.

    References
    ----------
    Bauer (2021). Ripser: efficient computation of Vietoris–Rips persistence barcodes. J Appl Comput Topol 5. Gardner
    et al. (2022). Toroidal topology of population activity in grid cells. Nature 602.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import rsa
    >>> rsa.persistent_homology(np.eye(4), max_dimension=0).bars["death"].values.round(2).tolist()
    [1.41, 1.41, 1.41, inf]
    """
    ripser = _import("ripser", "persistent homology").ripser
    whole_number(max_dimension, "max_dimension", 0)
    if any(whole_number(field, "field", 2) % k == 0 for k in range(2, field)):
        raise ValueError(f"field={field} is no prime; use 2, 3, 5, …")
    if not largest > 0:
        raise ValueError(f"largest={largest} must be a distance above 0.")
    matrices, table, attrs = _matrices(rdms_or_patterns, metric)
    n_points = matrices[0].shape[0]
    if landmarks is not None and whole_number(landmarks, "landmarks", 3) > n_points:
        raise ValueError(f"landmarks={landmarks} are more than the {n_points} points; give fewer, or none.")
    parts, rows = [], []
    for k, matrix in enumerate(track(matrices, "persistent homology", total=len(matrices))):
        options = {"maxdim": max_dimension, "thresh": largest, "coeff": field, "n_perm": landmarks}
        diagrams = ripser(matrix, distance_matrix=True, **options)["dgms"]
        for dimension, diagram in enumerate(diagrams):
            parts.append(np.column_stack([diagram, np.full(len(diagram), dimension)]))
            rows += [k] * len(diagram)
    values = np.concatenate(parts)
    bars = xr.Dataset(
        {"birth": ("bar", values[:, 0]), "death": ("bar", values[:, 1])},
        {"dimension": ("bar", values[:, 2].astype(int)), **{n: ("bar", c[rows]) for n, c in table.items()}},
        {**attrs, "max_dimension": max_dimension},
    )
    return Persistence(bars)


def _matrices(data: Any, metric: str) -> tuple[list[Array], dict[str, Array], dict[str, Any]]:
    """Square distances of every RDM, and the labels of the RDMs."""
    if isinstance(data, xr.DataArray) and data.dims == ("rdm", "pair"):
        names = data.coords["neuroid_id"].values
        for problem, wrong in (
            ("missing or infinite", ~np.isfinite(data.values)),
            ("negative", data.values < 0),
        ):
            if wrong.any():
                k = int(wrong.any(axis=1).argmax())
                raise ValueError(
                    f"RDM {quoted(names[k])} has {int(wrong[k].sum())} {problem} dissimilarities, which are no "
                    "distances; leave such stimuli out, or give ranks (rsa.transform_rdms(rdms, 0, 1))."
                )
        index = stimulus_order(check_rdms(data, "the array"), "the array")[1]
        squares = data.values.astype(np.float64)[:, index]
        squares[:, np.arange(len(index)), np.arange(len(index))] = 0
        table = {str(name): c.values for name, c in data.coords.items() if c.dims == ("rdm",)}
        return list(squares), table, {"units": data.attrs["units"]}
    from scipy.spatial.distance import pdist, squareform

    values = to_tensor(data, "cpu", torch.float64).numpy()
    if values.ndim != 2 or len(values) < 3:
        raise ValueError(
            f"the patterns have the shape {values.shape}; give rows × units, three rows at least."
        )
    distances = pdist(values, metric)
    if not np.isfinite(distances).all():
        raise ValueError(
            f"some {metric!r} distances of the patterns are undefined; leave out rows that are constant or missing."
        )
    named = isinstance(data, xr.DataArray)
    label = str(data.name or data.attrs.get("modality", "patterns")) if named else "patterns"
    units = str(data.attrs.get("units", "1")) if named else "1"
    return [squareform(distances)], {"neuroid_id": np.array([label])}, {"units": units, "metric": metric}


def _import(name: str, what: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(
            f"{what} needs {name}; install it with: pip install 'cerebridge[topology]'."
        ) from None
