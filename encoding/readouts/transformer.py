"""Readouts that route: queries of regions or units fetch features from where they are in each image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ...models.training import Batch
from .. import inputs
from ..containers import kind_of, labels_along
from ..maps import Layout, read_maps
from ..parameters import whole_number
from .base import ROWS_AT_ONCE, Readout
from .queries import labels_of, region_queries, unit_queries
from .routing import AttentionRouting, Routing, StaticRouting

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

    def _route(self, masks: Tensor | int, places: tuple[int, ...], features: int) -> Routing:
        """The untrained module."""
        raise NotImplementedError

    def _build(self, layout: Layout, n_targets: int) -> nn.Module:
        masks = n_targets if self.masks_ is None else torch.from_numpy(self.masks_)
        return self._route(masks, self._places(layout), layout.shape[0 if len(layout.shape) == 3 else 1])

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


class TransformerReadout(RoutedReadout):
    """Attention readout: queries of regions look for what their units read, wherever it is in an image.

    One decoder layer of cross-attention from learned queries to the tokens of an image, whose keys hold features
    and sine encodings of places; queries start from nothing and do not see each other. A unit's response is a
    linear readout of the sum of its queries.

    Parameters
    ----------
    mode
        What has a query: ``"unit"`` (default), ``"roi"`` (units of a region share one, so they share where to look),
        or ``"hemisphere"``.
    regions
        For ``mode="roi"``: name of a coordinate along the units of ``y`` (default ``"region"``); or one label a unit,
        or masks ``(regions, units)``, which may overlap. Units in no region get a query together.
    hemispheres
        Name of a coordinate, or one label a unit: the loss is the mean squared error of each hemisphere, summed.
        Without labels all units count alike.
    grid
        Rows and columns of tokens; default: a square if their number is one, else a line. Maps know theirs.
    width, heads, feedforward, dropout
        Of the decoder layer. ``width`` is a multiple of ``heads``; default the least that holds all features.
    queries_at_once
        How many queries of single units are held in memory at a time. It does not change what is computed without
        dropout.
    validation
        Share of the samples whose mean correlation chooses the best epoch; the last ones, or whole groups.
    optimizer, learning_rate, weight_decay, batch_size, max_epochs, patience, gradient_clip
        Of the trainer, :func:`cerebridge.models.training.train`; the defaults are the paper's.
    device, random_state, checkpoint, progress
        As there.

    Attributes
    ----------
    query_names_
        Names of the queries: regions, hemispheres, or units.
    masks_
        ``(queries, units)``, who reads what; ``None`` where every unit has its own.
    intercept_, scale_
        Mean and standard deviation of the responses that were trained on, ``(targets,)``.
    best_score_
        Correlation on the validation samples, ``(targets,)``. It was used to choose: no estimate of performance.
    weights_, history_, best_epoch_
        Of the network by name; loss and score of every epoch; the epoch whose weights they are.
    layout_
        Shape of the maps.

    Notes
    -----
    Features are standardised channel by channel, and responses unit by unit, by the samples trained on. Maps with few
    channels need fewer heads: 16 heads on 64 channels see 4 values each.

    References
    ----------
    Adeli et al. (2025), "Transformer brain encoders explain human high-level visual responses".

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> tokens = np.random.default_rng(0).standard_normal((40, 9, 4))
    >>> readout = readouts.TransformerReadout("roi", ["V1", "V1", "V4"], heads=2, feedforward=8, max_epochs=2)
    >>> readout.fit(tokens, tokens[:, 0, :3]).predict(tokens[:5]).shape
    (5, 3)
    >>> readout.attention(tokens[:5]).dims
    ('presentation', 'query', 'head', 'row', 'column')
    """

    def __init__(
        self,
        mode: str = "unit",
        regions: Any = "region",
        hemispheres: Any = "hemisphere",
        grid: tuple[int, int] | None = None,
        width: int | None = None,
        heads: int = 16,
        feedforward: int = 1024,
        dropout: float = 0.1,
        queries_at_once: int = 256,
        validation: float = 0.1,
        optimizer: str = "adamw",
        learning_rate: float = 5e-4,
        weight_decay: float = 1e-4,
        batch_size: int = 16,
        max_epochs: int = 15,
        patience: int | None = None,
        gradient_clip: float | None = 0.1,
        device: str | torch.device = "auto",
        random_state: Any = 0,
        checkpoint: str | Path | None = None,
        progress: bool | None = False,
    ) -> None:
        self.mode = mode
        self.regions = regions
        self.hemispheres = hemispheres
        self.grid = grid
        self.width = width
        self.heads = heads
        self.feedforward = feedforward
        self.dropout = dropout
        self.queries_at_once = queries_at_once
        self.validation = validation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.gradient_clip = gradient_clip
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.progress = progress

    def _route(self, masks: Tensor | int, places: tuple[int, ...], features: int) -> Routing:
        heads = whole_number(self.heads, "heads")
        width = (
            heads * math.ceil(features / heads) if self.width is None else whole_number(self.width, "width")
        )
        if width % heads:
            raise ValueError(f"width={width} is no multiple of heads={heads}; change one of them.")
        return AttentionRouting(
            masks, places, features, width, heads, self.feedforward, self.dropout, self.queries_at_once
        )


class StaticMapReadout(RoutedReadout):
    """Baseline of the attention readout: queries look at the same places in every image.

    A softmax map over places for each query; a unit's response is a linear readout of the features that its
    queries' maps pool.

    Parameters
    ----------
    mode, regions, hemispheres, grid, queries_at_once, validation, optimizer, learning_rate, weight_decay, batch_size, \
max_epochs, patience, gradient_clip, device, random_state, checkpoint, progress
        As for :class:`TransformerReadout`.

    Attributes
    ----------
    query_names_, masks_, intercept_, scale_, best_score_, weights_, history_, best_epoch_, layout_
        As for :class:`TransformerReadout`.

    References
    ----------
    Adeli et al. (2025), "Transformer brain encoders explain human high-level visual responses".

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> maps = np.random.default_rng(0).standard_normal((400, 2, 2, 2))
    >>> static = readouts.StaticMapReadout(learning_rate=0.05).fit(maps, maps[:, 0, 1, 0])
    >>> static.attention(maps[:1])[0, 0, 0].round(1).values.tolist()
    [[0.0, 0.0], [1.0, 0.0]]
    """

    def __init__(
        self,
        mode: str = "unit",
        regions: Any = "region",
        hemispheres: Any = "hemisphere",
        grid: tuple[int, int] | None = None,
        queries_at_once: int = 256,
        validation: float = 0.1,
        optimizer: str = "adamw",
        learning_rate: float = 5e-3,
        weight_decay: float = 1e-4,
        batch_size: int = 16,
        max_epochs: int = 15,
        patience: int | None = None,
        gradient_clip: float | None = None,
        device: str | torch.device = "auto",
        random_state: Any = 0,
        checkpoint: str | Path | None = None,
        progress: bool | None = False,
    ) -> None:
        self.mode = mode
        self.regions = regions
        self.hemispheres = hemispheres
        self.grid = grid
        self.queries_at_once = queries_at_once
        self.validation = validation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.gradient_clip = gradient_clip
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.progress = progress

    def _route(self, masks: Tensor | int, places: tuple[int, ...], features: int) -> Routing:
        return StaticRouting(masks, places, features, self.queries_at_once)
