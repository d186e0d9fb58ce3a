"""Features at several delays: finite impulse responses for fMRI, lags for M/EEG."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from . import inputs
from .containers import Kind, kind_of, labels_along, to_kind
from .engine.lagged import Edges, window
from .trials import recordings, split_runs

#: rows of a block of delayed features
BLOCK = 4096


class Delays(TransformerMixin, BaseEstimator):
    """Copies of features, each later by one of several delays.

    A linear model of delayed features has a response of free shape to each feature: the finite impulse response (FIR)
    of fMRI, the temporal response function of M/EEG. Nothing is learned from the data, so that a recording may be
    delayed before it is split; each run is delayed by itself. For many lags :class:`TRF` gives the same model without
    ever holding the copies.

    Parameters
    ----------
    delays
        Samples, or seconds where ``sfreq`` is given (rounded to samples). Positive: a row sees earlier features.
    sfreq
        Samples a second (of fMRI one over the repetition time), if ``delays`` are seconds.
    edges
        What features are before and after a run: ``"zero"`` (nothing is shown) or ``"mean"`` (of the run, where zero
        has no meaning).

    Attributes
    ----------
    delays_
        Delays in samples.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Columns come delay by delay. A labelled array keeps its labels, with ``delay`` (seconds where ``sfreq`` is known,
    else samples) beside them, and ``neuroid_id`` gets the delay as suffix.

    References
    ----------
    Dale (1999), Human Brain Mapping 8; Nishimoto et al. (2011), Current Biology 21.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import encoding
    >>> encoding.Delays([0, 1]).fit_transform([[1.0], [2.0], [3.0]]).tolist()
    [[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]
    >>> encoding.Delays([1]).fit_transform([[1.0], [2.0], [3.0]], groups=[0, 0, 1]).tolist()
    [[0.0], [1.0], [0.0]]
    """

    #: runs end where the labels of samples change
    takes_labels = True
    #: targets are never looked at
    independent_targets = True

    def __init__(
        self, delays: ArrayLike = (1, 2, 3, 4), sfreq: float | None = None, edges: str = "zero"
    ) -> None:
        self.delays = delays
        self.sfreq = sfreq
        self.edges = edges

    def fit(self, X: Any, y: Any = None) -> Delays:
        """Check the delays and remember the features.

        Parameters
        ----------
        X
            Features, ``(samples, features)``.
        y
            Ignored.

        Raises
        ------
        ValueError, TypeError
            If features or parameters are wrong.

        Examples
        --------
        >>> from cerebridge import encoding
        >>> encoding.Delays([0.0, 0.5], sfreq=10).fit([[1.0], [2.0]]).delays_.tolist()
        [0, 5]
        """
        if self.edges not in ("zero", "mean"):
            raise ValueError(f"edges={self.edges!r} is unknown; use 'zero' or 'mean'.")
        self.delays_ = in_samples(self.delays, self.sfreq)
        inputs.features(self, X, reset=True)
        return self

    def transform(self, X: Any, groups: Any = None) -> Any:
        """Features at every delay.

        Parameters
        ----------
        X
            Features, ``(samples, features)``.
        groups
            One label a sample, or the name of a coordinate: runs end where it changes. Labelled arrays also end where
            ``trial``, ``run``, ``session`` or ``subject`` changes and where time jumps.

        Returns
        -------
        array
            ``(samples, delays · features)``, of the kind that ``X`` is.

        Examples
        --------
        >>> from cerebridge import encoding
        >>> encoding.Delays([-1]).fit([[1.0], [2.0]]).transform([[1.0], [2.0]]).tolist()
        [[2.0], [0.0]]
        """
        values = torch.cat([block for _, block in self._blocks(X, groups, None)])
        kind = kind_of(X)
        if kind != "xarray":
            return to_kind(values, kind)
        labels = labels_along(X, X.dims[0]) | self._labels(X)
        return to_kind(values, kind, dims=X.dims, coords=labels, attrs=X.attrs)

    def fit_transform(self, X: Any, y: Any = None, groups: Any = None) -> Any:
        """Check the delays and return the features at each of them.

        Examples
        --------
        >>> from cerebridge import encoding
        >>> encoding.Delays([0, 2]).fit_transform([[1.0], [2.0], [3.0]]).tolist()
        [[1.0, 0.0], [2.0, 0.0], [3.0, 1.0]]
        """
        return self.fit(X, y).transform(X, groups)

    def blocks(self, X: Any, groups: Any = None, size: int = BLOCK) -> Iterator[tuple[slice, Any]]:
        """The same as ``transform``, some rows at a time, for what learns from parts (``partial_fit``).

        Parameters
        ----------
        X, groups
            As for ``transform``.
        size
            Most rows at a time.

        Yields
        ------
        rows, block
            Which rows, and their features at every delay; numpy, or torch where ``X`` is.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge import encoding
        >>> delays = encoding.Delays([0, 1]).fit(np.ones((5, 2)))
        >>> [(rows.start, block.shape) for rows, block in delays.blocks(np.ones((5, 2)), size=3)]
        [(0, (3, 4)), (3, (2, 4))]
        """
        kind: Kind = "torch" if kind_of(X) == "torch" else "numpy"
        for rows, block in self._blocks(X, groups, size):
            yield rows, to_kind(block, kind)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns: feature, ``@`` and delay.

        Examples
        --------
        >>> from cerebridge import encoding
        >>> encoding.Delays([0, 1]).fit([[1.0, 2.0]]).get_feature_names_out().tolist()
        ['x0@0', 'x1@0', 'x0@1', 'x1@1']
        """
        check_is_fitted(self)
        default = [f"x{k}" for k in range(self.n_features_in_)]
        names = getattr(self, "feature_names_in_", default) if input_features is None else input_features
        return np.array([f"{name}@{delay}" for delay in self._named() for name in names], dtype=object)

    def _blocks(self, X: Any, groups: Any, size: int | None) -> Iterator[tuple[slice, torch.Tensor]]:
        check_is_fitted(self)
        table = inputs.features(self, X, reset=False)
        runs, _ = recordings(len(table), groups, [X])
        latest, earliest = int(self.delays_.max()), int(self.delays_.min())
        start = 0
        for run in split_runs(table, runs):
            padded, _ = window(run, -latest, latest - earliest + 1, cast(Edges, self.edges))
            step = len(run) if size is None else size
            for first in range(0, len(run), step):
                last = min(len(run), first + step)
                shifts = (latest - self.delays_).tolist()
                block = torch.cat([padded[first + shift : last + shift] for shift in shifts], 1)
                yield slice(start + first, start + last), block
            start += len(run)

    def _labels(self, X: xr.DataArray) -> dict[Any, Any]:
        labels: dict[Any, Any] = {}
        for name, (dim, values) in labels_along(X, X.dims[1]).items():
            labels[name] = (dim, np.tile(values, len(self.delays_)))
        if "neuroid_id" in labels:
            names = X.coords["neuroid_id"].values
            ids = [f"{name}@{delay}" for delay in self._named() for name in names]
            labels["neuroid_id"] = (X.dims[1], np.array(ids))
        delays = self.delays_ / (self.sfreq or 1)
        return labels | {"delay": (X.dims[1], np.repeat(delays, X.shape[1]))}

    def _named(self) -> list[str]:
        return [f"{delay / self.sfreq:g}s" if self.sfreq else str(delay) for delay in self.delays_]


def in_samples(delays: ArrayLike, sfreq: float | None) -> NDArray[np.int64]:
    """Delays in samples, checked.

    Raises
    ------
    ValueError
        If there are none, two are the same sample, or they are fractions without a sampling rate.

    Examples
    --------
    >>> from cerebridge.encoding.delays import in_samples
    >>> in_samples([0, 0.25], sfreq=64).tolist()
    [0, 16]
    """
    values = np.atleast_1d(np.asarray(delays, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"delays must be a list of numbers, got {delays!r}.")
    if sfreq is not None and not (np.isfinite(sfreq) and sfreq > 0):
        raise ValueError(f"sfreq must be a positive number of samples a second, got {sfreq!r}.")
    if sfreq is None and (values % 1).any():
        raise ValueError(
            f"delays are whole samples unless sfreq is given, got {values[values % 1 != 0][0]}; give sfreq for seconds."
        )
    samples = np.rint(values * (1.0 if sfreq is None else sfreq)).astype(np.int64)
    if len(np.unique(samples)) < len(samples):
        twice = samples[np.unique(samples, return_counts=True)[1].argmax()]
        raise ValueError(f"two delays are the same number of samples ({twice}); give each one once.")
    return samples
