"""What readouts that route share: queries of regions or units, where they start, and where they look."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ...models.training import Batch
from .. import inputs
from ..containers import kind_of, labels_along
from ..engine.moments import Split
from ..maps import Layout, read_maps
from ..parameters import whole_number
from .base import ROWS_AT_ONCE, Readout
from .prf import SIZES, search_start
from .queries import labels_of, region_queries, unit_queries
from .routing import Routing

MODES = ("unit", "roi", "hemisphere")


class RoutedReadout(Readout):
    """A readout whose units read what queries bring from the places of a map.

    A subclass defines :meth:`_route`, the module.
    """

    mode: str
    regions: Any
    hemispheres: Any
    grid: tuple[int, int] | None
    queries_at_once: int
    start: str | None

    def fit(self, X: Any, y: Any, groups: Any = None) -> Any:
        """Train on most samples, and keep the weights that predict the others best.

        Parameters
        ----------
        X
            Maps ``(samples, channels, rows, columns)``, tokens ``(samples, tokens, features)``, or a labelled array
            as ``models.extract`` gives it.
        y
            Responses, ``(samples,)`` or ``(samples, targets)``.
        groups
            One label a sample, or the name of a coordinate; those of a group stay together. Default: the
            stimuli, where they are labelled.

        Raises
        ------
        ValueError, TypeError
            If features are flattened, there are no labels to make queries of, a region has no units, values are
            missing, parameters are wrong, or the checkpoint is of another training.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.encoding import readouts
        >>> tokens = np.random.default_rng(0).standard_normal((40, 9, 4))
        >>> static = readouts.StaticMapReadout("roi", regions=["V1", "V1", "V4"], max_epochs=2)
        >>> static.fit(tokens, tokens[:, 0, :3]).query_names_.tolist()
        ['V1', 'V4']
        """
        if self.mode not in MODES:
            raise ValueError(f"mode={self.mode!r} is unknown; use {', '.join(map(repr, MODES))}.")
        if self.start not in (None, "prf"):
            raise ValueError(f"start={self.start!r} is unknown; use None or 'prf'.")
        whole_number(self.queries_at_once, "queries_at_once")
        n_units = 1 if np.ndim(y) < 2 else int(np.shape(y)[1])
        if self.mode == "unit":
            queries = unit_queries(y, n_units)
        else:
            queries = region_queries(self.regions if self.mode == "roi" else self.hemispheres, y, n_units)
        self.query_names_, self.masks_ = queries.names, queries.masks
        self.unit_weights_ = self._unit_weights(y, n_units)
        return super().fit(X, y, groups)

    def attention(self, X: Any, queries: Sequence[Any] | None = None) -> xr.DataArray:
        """Where queries look in each image.

        Parameters
        ----------
        X
            Maps or tokens like those of ``fit``.
        queries
            Names of some; default: all, which are many with ``mode="unit"``.

        Returns
        -------
        xarray.DataArray
            ``presentation × query × head × row × column`` (``× token``, where tokens have no grid), with the labels
            of samples and queries. It sums to one over places.

        Raises
        ------
        ValueError
            If there is no such query, or maps are unlike those of ``fit``.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.encoding import readouts
        >>> tokens = np.random.default_rng(0).standard_normal((40, 9, 4))
        >>> readout = readouts.TransformerReadout(heads=2, feedforward=8, max_epochs=1).fit(tokens, tokens[:, 0, :3])
        >>> dict(readout.attention(tokens[:5], queries=[2]).sizes)
        {'presentation': 5, 'query': 1, 'head': 2, 'row': 3, 'column': 3}
        """
        check_is_fitted(self)
        chosen = self._chosen(queries)
        rows = self._rows_like_fit(X)
        tensors = self._tensors(inputs.features(self, rows, reset=False), self.layout_)["maps"]
        device = self._device(rows)
        module, which = cast(Routing, self.module()).to(device), torch.from_numpy(chosen).to(device)
        with torch.no_grad():
            parts = [module.attention(part.to(device), which).cpu() for part in tensors.split(ROWS_AT_ONCE)]
        values = torch.cat(parts).unflatten(3, self._places(self.layout_)).numpy()
        first = "presentation" if kind_of(X) != "xarray" else X.dims[0]
        places = ("row", "column") if values.ndim == 5 else ("token",)
        coords = {} if kind_of(X) != "xarray" else labels_along(X, first)
        coords["query"] = ("query", self.query_names_[chosen])
        return xr.DataArray(values, coords, (first, "query", "head", *places), name="attention")

    @abstractmethod
    def _route(self, masks: Tensor | int, places: tuple[int, ...], features: int) -> Routing:
        """The untrained module."""

    def _build(self, layout: Layout, n_targets: int) -> nn.Module:
        masks = n_targets if self.masks_ is None else torch.from_numpy(self.masks_)
        return self._route(masks, self._places(layout), layout.shape[0 if len(layout.shape) == 3 else 1])

    def _start(self, module: nn.Module, rows: Mapping[str, Tensor], splits: Sequence[Split]) -> None:
        if self.start is None:
            return
        module = cast(Routing, module)
        places = self._places(self.layout_)
        # a line of tokens is a grid of one row
        maps = module.standardise(rows["maps"]).unflatten(2, (1, *places)[-2:])
        found, _, pools = search_start(maps, rows["responses"], splits, SIZES)
        fits = found.profile.nan_to_num()
        if self.masks_ is not None:
            # one pool for all units of a query: the best on average
            fits = fits @ torch.from_numpy(self.masks_.T).to(fits)
        module.begin(pools[fits.argmax(dim=0)])

    def _tensors(self, features: Tensor, layout: Layout) -> dict[str, Tensor]:
        return {"maps": layout.tokens(features).transpose(1, 2).to(torch.float32)}

    def _loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of standardised responses of each hemisphere, summed over hemispheres."""
        error = (module(batch["maps"]) - batch["responses"]).square().mean(0)
        return error @ torch.as_tensor(self.unit_weights_, dtype=error.dtype, device=error.device)

    def _options(self) -> Mapping[str, Any]:
        given = (self.masks_, self.unit_weights_)
        masks, weights = (None if part is None else torch.as_tensor(part) for part in given)
        return {**super()._options(), "masks": masks, "unit_weights": weights}

    def _unit_weights(self, y: Any, n_units: int) -> np.ndarray:
        """What a unit's error counts: all of a hemisphere together 1."""
        given = self.hemispheres
        sides = labels_of(y, given) if isinstance(given, str) else given
        if sides is None:
            return np.full(n_units, 1 / n_units)
        masks = np.asarray(region_queries(sides, y, n_units).masks)
        return np.asarray((masks / masks.sum(axis=1, keepdims=True)).sum(axis=0))

    def _places(self, layout: Layout) -> tuple[int, ...]:
        """Rows and columns of the map, or the number of tokens where they have no grid."""
        if len(layout.shape) == 3:
            return layout.shape[1:]
        n = layout.shape[0]
        side = math.isqrt(n)
        grid = self.grid or ((side, side) if side * side == n else (n,))
        if math.prod(grid) != n:
            raise ValueError(f"grid={self.grid} has {math.prod(grid)} places, but there are {n} tokens.")
        return tuple(grid)

    def _rows_like_fit(self, X: Any) -> Any:
        """Rows of features in the order of maps, checked against what was fitted."""
        rows, layout = read_maps(X, type(self).__name__)
        if layout.shape != self.layout_.shape:
            raise ValueError(f"X holds maps of {layout}, but this readout was fitted to {self.layout_}.")
        return rows if layout.order is None else rows[:, layout.order]

    def _chosen(self, names: Sequence[Any] | None) -> np.ndarray:
        known = self.query_names_.tolist()
        if names is None:
            return np.arange(len(known))
        for name in names:
            if name not in known:
                raise ValueError(
                    f"there is no query {name!r}; there are {len(known)}: {', '.join(map(repr, known[:8]))}"
                    f"{', …' if len(known) > 8 else ''}."
                )
        return np.array([known.index(name) for name in names])
