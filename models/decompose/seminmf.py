"""Semi-non-negative factors of activations: few signed, sparse features that add up, never cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ...neuro.progress import track
from ..devices import resolve_device
from .rows import give_features, give_units, read_rows
from .starts import STARTS, Start

#: added to the loadings' Gram matrix, so that features that nothing loads on stay defined
RIDGE = 1e-6
#: most sweeps of coordinate descent for the loadings of rows, and the change that ends them
SWEEPS, SETTLED = 2000, 1e-9
TINY = 1e-12


class SemiNMF(TransformerMixin, BaseEstimator):
    """Semi-non-negative matrix factorisation: rows are non-negative sums of signed, sparse features.

    ``X ≈ G F`` with loadings ``G ≥ 0`` (rows × features) and features ``F`` (features × units) of which only the
    largest entries are kept. Features are least squares, loadings multiplicative updates; the best of several starts
    is kept.

    Parameters
    ----------
    n_components
        Number of features.
    density
        Share of the units that a feature may use: its largest entries by magnitude, at least one. ``None`` keeps
        all, and then the features of most data are not identified.
    init
        ``"random"`` (default), ``"kmeans"`` (clusters of rows) or ``"svd"`` (positive parts of singular vectors).
    n_restarts
        Starts, of which the one with the smallest loss is kept.
    max_iter
        Most steps of a start.
    patience
        Steps without an improvement by ``tol`` (relative) after which a start ends.
    tol
        See ``patience``.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …
    random_state
        Seed of the starts.
    progress
        A progress bar over starts; ``None`` on a terminal only.

    Attributes
    ----------
    components_
        Features × units, of the kind that ``fit`` was given (torch, else numpy), largest share of the rows first.
    loss_, loss_curve_
        Share of the sum of squares that is missed, of the best start and after each of its steps.
    losses_
        The same of every start.
    n_iter_, n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Ding, Li & Jordan (2010). Convex and semi-nonnegative matrix factorizations. IEEE PAMI 32. Shafran, Geiger & Geva
    (2025). Decomposing MLP activations into interpretable features via semi-nonnegative matrix factorization.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models import decompose
    >>> rng = np.random.default_rng(0)
    >>> loadings = rng.uniform(size=(200, 2)) * (rng.uniform(size=(200, 2)) < 0.5)
    >>> features = np.array([[1.0, -1, 0, 0], [0, 0, 2, -1]])
    >>> model = decompose.SemiNMF(2, density=0.5).fit(loadings @ features)
    >>> np.abs(np.corrcoef(model.components_, features)[:2, 2:]).max(axis=0).round(3).tolist()
    [1.0, 1.0]
    """

    def __init__(
        self,
        n_components: int = 8,
        *,
        density: float | None = 0.01,
        init: Start = "random",
        n_restarts: int = 5,
        max_iter: int = 5000,
        patience: int = 100,
        tol: float = 1e-6,
        device: str | torch.device = "auto",
        random_state: int = 0,
        progress: bool | None = None,
    ) -> None:
        self.n_components = n_components
        self.density = density
        self.init = init
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.patience = patience
        self.tol = tol
        self.device = device
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> SemiNMF:
        """Find the features.

        Parameters
        ----------
        X
            Rows (tokens, stimuli) × units: numpy, torch or a labelled array.
        y
            Not used.

        Raises
        ------
        ValueError, TypeError
            If a parameter is out of range, or ``X`` is no finite table, all zero, or has fewer rows than features.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.models import decompose
        >>> X = np.abs(np.random.default_rng(0).standard_normal((20, 6)))
        >>> decompose.SemiNMF(2, density=None, n_restarts=1).fit(X).components_.shape
        (2, 6)
        """
        rows = read_rows(self, X, reset=True).to(resolve_device(self.device))
        self._check(rows)
        total = float(rows.double().square().sum())
        if total == 0:
            raise ValueError("X is zero everywhere; there is nothing to decompose.")
        found = []
        for start in track(range(self.n_restarts), "factoring", show=self.progress):
            generator = np.random.default_rng([self.random_state, start])
            loadings = STARTS[self.init](rows, self.n_components, generator)
            found.append(self._descend(rows, loadings, total))
        self.losses_ = np.array([curve.min() for _, curve in found])
        features, curve = found[int(self.losses_.argmin())]
        share = _loadings(rows, features).double().square().sum(0) * features.double().square().sum(1)
        features = features[torch.argsort(share, descending=True, stable=True)]
        self.components_ = features.to(X.device) if isinstance(X, Tensor) else features.cpu().numpy()
        self.loss_curve_, self.loss_, self.n_iter_ = curve, float(curve.min()), len(curve)
        return self

    def transform(self, X: Any) -> Any:
        """Find the loadings of rows: non-negative least squares, every row by itself.

        Parameters
        ----------
        X
            Rows × units.

        Returns
        -------
        numpy.ndarray, torch.Tensor or xarray.DataArray
            Rows × features, non-negative, in the kind of ``X``.

        Raises
        ------
        ValueError, TypeError
            If ``X`` is no finite table of as many units as were fitted.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.models import decompose
        >>> X = np.abs(np.random.default_rng(0).standard_normal((20, 6)))
        >>> bool((decompose.SemiNMF(2, density=None, n_restarts=1).fit(X).transform(X) >= 0).all())
        True
        """
        check_is_fitted(self)
        rows = read_rows(self, X, reset=False).to(resolve_device(self.device))
        return give_features(_loadings(rows, self._features(rows)), X, self, {"loss": self.loss_})

    def inverse_transform(self, X: Any) -> Any:
        """Add the features up again.

        Parameters
        ----------
        X
            Loadings, rows × features.

        Returns
        -------
        numpy.ndarray, torch.Tensor or xarray.DataArray
            Rows × units; of labelled loadings with the labels of the units that were fitted.

        Raises
        ------
        ValueError
            If there are not as many columns as features.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.models import decompose
        >>> X = np.outer([1.0, 2, 3], [1.0, -2])
        >>> model = decompose.SemiNMF(1, density=None).fit(X)
        >>> model.inverse_transform(model.transform(X)).round(6).tolist()
        [[1.0, -2.0], [2.0, -4.0], [3.0, -6.0]]
        """
        check_is_fitted(self)
        loadings = X.detach() if isinstance(X, Tensor) else torch.from_numpy(np.asarray(X))
        features = self._features(loadings)
        if loadings.ndim != 2 or loadings.shape[1] != len(features):
            raise ValueError(
                f"the loadings have the shape {tuple(loadings.shape)}; give rows × {len(features)} features."
            )
        return give_units(loadings.to(features) @ features, X, self)

    def coarsen(self, n_components: int) -> SemiNMF:
        """Factor the features again: the next level of a hierarchy.

        Parameters
        ----------
        n_components
            Fewer than there are.

        Returns
        -------
        SemiNMF
            Fitted to ``components_``; its ``transform(components_)`` says which features belong together.

        Raises
        ------
        ValueError
            If there are not more features than are asked for.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.models import decompose
        >>> X = np.abs(np.random.default_rng(0).standard_normal((30, 8)))
        >>> decompose.SemiNMF(4, density=None, n_restarts=1).fit(X).coarsen(2).components_.shape
        (2, 8)
        """
        check_is_fitted(self)
        if n_components >= len(self.components_):
            raise ValueError(
                f"there are {len(self.components_)} features to factor into {n_components}; ask for fewer."
            )
        return clone(self).set_params(n_components=n_components).fit(self.components_)

    def steering_vectors(self, projection: Callable[[Tensor], Tensor]) -> Tensor:
        """What each feature adds to the residual stream: the features through the layer that reads their units.

        Parameters
        ----------
        projection
            The linear layer after the units (an MLP's down-projection), or it and an unembedding in
            ``torch.nn.Sequential`` for what a feature says of a vocabulary. Its bias plays no part.

        Returns
        -------
        torch.Tensor
            Features × outputs, to be added to that layer's output.

        Examples
        --------
        >>> import numpy as np, torch
        >>> from cerebridge.models import decompose
        >>> model = decompose.SemiNMF(1, density=None).fit(np.outer([1.0, 2, 3], [1.0, -2]))
        >>> model.steering_vectors(torch.nn.Linear(2, 5)).shape
        torch.Size([1, 5])
        """
        check_is_fitted(self)
        features = torch.as_tensor(self.components_)
        weights = next(iter(getattr(projection, "parameters", lambda: ())()), features)
        with torch.no_grad():
            features = features.to(weights)
            return projection(features) - projection(torch.zeros_like(features))

    def top_rows(self, X: Any, n: int = 10) -> pd.DataFrame:
        """List the rows (tokens, stimuli) that load most on each feature.

        Parameters
        ----------
        X
            Rows × units.
        n
            Rows a feature.

        Returns
        -------
        pandas.DataFrame
            ``feature``, ``rank``, ``row``, ``loading``, and of a labelled array all labels of the row.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.models import decompose
        >>> X = np.outer([1.0, 3, 2], [1.0, -2])
        >>> decompose.SemiNMF(1, density=None).fit(X).top_rows(X, 2)["row"].tolist()
        [1, 2]
        """
        loadings = np.asarray(self.transform(X))
        order = np.argsort(-loadings, axis=0, kind="stable")[:n]
        feature, rank = np.meshgrid(np.arange(loadings.shape[1]), np.arange(len(order)))
        table = pd.DataFrame(
            {"feature": feature.T.ravel(), "rank": rank.T.ravel(), "row": order.T.ravel()}
        ).assign(loading=lambda top: loadings[top["row"], top["feature"]])
        if isinstance(X, xr.DataArray):
            for name, coord in X.coords.items():
                if coord.dims == X.dims[:1]:
                    table[str(name)] = coord.values[table["row"]]
        return table

    def _features(self, like: Tensor) -> Tensor:
        dtype = like.dtype if like.is_floating_point() else torch.float64
        return torch.as_tensor(self.components_).to(resolve_device(self.device), dtype)

    def _check(self, rows: Tensor) -> None:
        for name in ("n_components", "n_restarts", "max_iter", "patience"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1.")
        if self.density is not None and not 0 < self.density <= 1:
            raise ValueError(f"density={self.density!r} must be None or a share of the units, up to 1.")
        if self.init not in get_args(Start):
            raise ValueError(f"init={self.init!r} is unknown; use {', '.join(map(repr, get_args(Start)))}.")
        if len(rows) < self.n_components:
            raise ValueError(
                f"X has n_samples={len(rows)}, fewer than n_components={self.n_components}; give more rows or ask "
                "for fewer features."
            )

    def _descend(self, rows: Tensor, loadings: Tensor, total: float) -> tuple[Tensor, np.ndarray]:
        """Features of the best step from one start, and the loss after each step."""
        best, since, curve = np.inf, 0, []
        kept = rows[:0]
        for _ in range(self.max_iter):
            gram = loadings.T @ loadings
            along = loadings.T @ rows
            eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            features = self._sparse(torch.linalg.solve(gram + RIDGE * eye, along))
            # sums in float64: the loss is a small difference of large numbers
            crossed = (features.double() * along.double()).sum()
            modelled = ((features @ features.T).double() * gram.double()).sum()
            curve.append(float(1 - (2 * crossed - modelled) / total))
            since = 0 if curve[-1] < best - self.tol * abs(best) else since + 1
            if curve[-1] < best:
                best, kept = curve[-1], features
            if since >= self.patience:
                break
            loadings = _multiply(rows, features, loadings)
            loadings = loadings / loadings.norm(dim=0).clamp_min(TINY)
        return kept, np.array(curve)

    def _sparse(self, features: Tensor) -> Tensor:
        if self.density is None:
            return features
        n = max(1, round(self.density * features.shape[1]))
        kept = features.abs().topk(n, dim=1).indices
        return torch.zeros_like(features).scatter_(1, kept, features.gather(1, kept))


def _multiply(rows: Tensor, features: Tensor, loadings: Tensor) -> Tensor:
    """One multiplicative update of the loadings, which never raises the loss."""
    along, gram = rows @ features.T, features @ features.T
    up = along.clamp_min(0) + loadings @ (-gram).clamp_min(0)
    down = (-along).clamp_min(0) + loadings @ gram.clamp_min(0)
    return loadings * (up / down.clamp_min(TINY)).sqrt()


def _loadings(rows: Tensor, features: Tensor) -> Tensor:
    """Non-negative least squares of each row on the features, by coordinate descent."""
    along, gram = rows @ features.T, features @ features.T
    loadings = torch.zeros_like(along)
    used = [k for k in range(len(gram)) if float(gram[k, k]) > 0]
    for _ in range(SWEEPS):
        moved = 0.0
        for k in used:
            fresh = (loadings[:, k] + (along[:, k] - loadings @ gram[:, k]) / gram[k, k]).clamp_min(0)
            moved = max(moved, float((fresh - loadings[:, k]).abs().max()))
            loadings[:, k] = fresh
        if moved <= SETTLED * float(loadings.abs().max()):
            break
    return loadings
