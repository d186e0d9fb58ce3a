"""Population receptive fields in closed form: the best Gaussian pool of a grid, and ridge on the features in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ...neuro.progress import track
from .. import inputs
from ..containers import to_tensor
from ..engine import fields
from ..engine.moments import Split
from ..engine.planning import Problem, make_plan
from ..engine.scoring import Scoring
from ..ridge import ALPHAS
from .base import MapEncoder, standards

#: sizes of the default, in half lengths of the map: from a single place to the whole map
SIZES = (0.1, 0.2, 0.4, 0.8)
#: places a side of the grid on which trained readouts start; more are not worth their time, gradients find the rest
START_SIDE = 12
#: penalties among which the start chooses, in units of standardised features times samples
START_ALPHAS = tuple(10.0**exponent for exponent in range(6))


class PRFReadout(MapEncoder):
    """Ridge on the features inside a Gaussian receptive field, whose place and size are searched on a grid.

    No gradients: for every pool of the grid a ridge on as many features as there are channels, and for every unit
    the pool and penalty with the best inner cross-validated score.

    Parameters
    ----------
    positions
        Places a side of the grid; default: every place of the map.
    sizes
        Standard deviations of the pools, in half lengths of the map's longer side.
    alphas, cv, scoring
        As for :class:`~cerebridge.encoding.RidgeCV`.
    device, progress
        As everywhere.

    Attributes
    ----------
    position_
        Centre of each unit's field ``(x, y)``, from -1 to 1 (centres of the outermost places), ``(targets, 2)``.
    size_
        Its standard deviation, ``(targets,)``.
    coef_, intercept_, alpha_, best_score_
        The ridge on standardised channels in that field; ``(targets, channels)`` and ``(targets,)``. The score
        was used to choose: it is no estimate of performance.
    profile_
        Best score at every cell of the grid, ``(cells, targets)``; cells are positions (row by row) × sizes.

    References
    ----------
    Dumoulin & Wandell (2008), NeuroImage 39; St-Yves & Naselaris (2018), NeuroImage 180.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> maps = np.random.default_rng(0).standard_normal((60, 2, 5, 5))
    >>> readouts.PRFReadout().fit(maps, maps[:, 0, 1, 3]).position_.tolist()
    [0.5, -0.5]
    """

    independent_targets = True

    def __init__(
        self,
        positions: int | None = None,
        sizes: Sequence[float] = SIZES,
        alphas: ArrayLike = ALPHAS,
        cv: Any = 5,
        scoring: str = "r2",
        device: str | torch.device = "auto",
        progress: bool | None = False,
    ) -> None:
        self.positions = positions
        self.sizes = sizes
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.device = device
        self.progress = progress

    def fit(self, X: Any, y: Any, groups: Any = None) -> PRFReadout:
        """Search the grid.

        Parameters
        ----------
        X
            Maps ``(samples, channels, rows, columns)``, or a labelled array as ``models.extract`` gives it.
        y
            Responses, ``(samples,)`` or ``(samples, targets)``.
        groups
            One label a sample, or the name of a coordinate; goes to the inner splitter.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.encoding import readouts
        >>> maps = np.random.default_rng(0).standard_normal((60, 2, 5, 5))
        >>> readouts.PRFReadout(positions=3, sizes=[0.3]).fit(maps, maps[:, :, 0, 0]).profile_.shape
        (9, 2)
        """
        rows, features, targets = self._read(X, y)
        columns = targets.reshape(len(targets), -1)
        splits = inputs.splits(self.cv, len(features), y, groups, (rows, y))
        if self.scoring not in get_args(Scoring):
            raise ValueError(
                f"scoring={self.scoring!r} is unknown; use {' or '.join(map(repr, get_args(Scoring)))}."
            )
        centres, sizes = grid(self.layout_.shape, self.positions, self.sizes, type(self).__name__)
        device = self._device(rows)
        maps = self.layout_.maps(features).to(device).flatten(2)
        self.mean_, self.scale_ = (value.to(maps) for value in standards(maps.movedim(1, 2).flatten(0, 1)))
        alphas = torch.as_tensor(np.atleast_1d(np.asarray(self.alphas, dtype=np.float64)), device=device)
        found = search_grid(
            (maps - self.mean_[:, None]) / self.scale_[:, None],
            fields.gaussian_pools(centres, sizes, *self.layout_.shape[1:]),
            columns.to(device),
            [Split(train.to(device), test.to(device)) for train, test in splits],
            alphas,
            cast(Scoring, self.scoring),
            self.progress,
        )
        self.cell_ = found.cell
        self._keep(
            rows,
            y,
            {
                "coef_": (found.coef, ("target", "channel")),
                "intercept_": (found.intercept, ("target",)),
                "position_": (centres.to(device)[found.cell], ("target", "axis")),
                "size_": (sizes.to(device)[found.cell], ("target",)),
                "alpha_": (alphas[found.chosen], ("target",)),
                "best_score_": (found.score, ("target",)),
                "profile_": (found.profile, ("cell", "target")),
            },
            {"axis": ("axis", np.array(["x", "y"]))},
        )
        inputs.warn_of_missing_scores(found.score, targets, y)
        return self

    def _predict(self, features: Tensor) -> Tensor:
        coef, intercept = (to_tensor(values, features.device) for values in (self.coef_, self.intercept_))
        flat, bias = coef.reshape(-1, coef.shape[-1]), intercept.reshape(-1)
        centres, sizes = grid(self.layout_.shape, self.positions, self.sizes, type(self).__name__)
        pools = fields.gaussian_pools(centres, sizes, *self.layout_.shape[1:]).to(features)
        maps = self.layout_.maps(features).flatten(2)
        cells = self.cell_.to(features.device)
        predicted = torch.empty(len(features), len(flat), dtype=coef.dtype, device=features.device)
        for cell in cells.unique():
            here = cells == cell
            pooled = ((maps @ pools[cell]) - self.mean_.to(features)) / self.scale_.to(features)
            predicted[:, here] = pooled.to(coef.dtype) @ flat[here].T + bias[here]
        return predicted.reshape(len(features), *intercept.shape)


def grid(
    shape: Sequence[int], most: int | None, sizes: Sequence[float], reader: str
) -> tuple[Tensor, Tensor]:
    """Centres ``(cells, 2)`` and sizes ``(cells,)`` of a grid over maps of a shape.

    Raises
    ------
    ValueError
        If these are no maps, or the grid is empty.
    """
    require_maps(shape, reader)
    if most is not None and most < 1:
        raise ValueError(f"positions={most!r} must be a whole number of at least 1, or None for every place.")
    wanted = torch.as_tensor(sizes, dtype=torch.float32).reshape(-1)
    if not len(wanted) or not bool((wanted > 0).all()):
        raise ValueError(f"sizes={list(sizes)!r} must be positive numbers, at least one.")
    centres = fields.positions(shape[1], shape[2], most)
    return centres.repeat_interleave(len(wanted), 0), wanted.repeat(len(centres))


def require_maps(shape: Sequence[int], reader: str) -> None:
    """Raise a ``ValueError`` if what has a shape are tokens, which lie nowhere."""
    if len(shape) != 3:
        raise ValueError(
            f"{reader} reads places of a map, but X holds tokens ({shape[0]} × {shape[1]}) without rows and columns; "
            "give samples × channels × rows × columns, or use a TransformerReadout."
        )


def search_grid(
    maps: Tensor,
    pools: Tensor,
    targets: Tensor,
    splits: Sequence[Split],
    alphas: Tensor,
    scoring: Scoring,
    progress: bool | None = False,
) -> fields.Fields:
    """The best pool of every target, on the cheapest path of the ridge engine.

    Parameters
    ----------
    maps
        ``(samples, channels, places)``, standardised.
    pools, targets, splits, alphas, scoring
        As for :func:`cerebridge.encoding.engine.fields.search`.
    """
    n, channels = maps.shape[:2]
    problem = Problem(
        samples=n,
        features=channels,
        targets=targets.shape[1],
        alphas=len(alphas),
        splits=len(splits),
        held_out=max(len(split.test) for split in splits),
        complementary=all(len(split.train) + len(split.test) == n for split in splits),
        itemsize=maps.dtype.itemsize,
    )
    plan = make_plan(problem, maps.device)
    follow: Callable[[Iterable[Tensor]], Iterable[Tensor]] = partial(
        track, description="searching receptive fields", total=len(pools), show=progress
    )
    return fields.search(
        maps, pools, targets, splits, alphas, scoring, plan.path, plan.targets_at_once, follow
    )


def search_start(
    maps: Tensor, responses: Tensor, splits: Sequence[Split], sizes: Sequence[float]
) -> tuple[fields.Fields, Tensor, Tensor]:
    """Where a readout that is then trained by gradients starts: the best pool of a coarse grid for every unit.

    Parameters
    ----------
    maps
        ``(samples, channels, rows, columns)``, standardised.
    responses
        ``(samples, units)``, standardised.
    splits
        Of the samples, to choose by.
    sizes
        Of the pools, in half lengths of the map.

    Returns
    -------
    tuple
        What was found, the centres ``(cells, 2)`` and the pools ``(cells, places)``.
    """
    height, width = maps.shape[2:]
    positions = fields.positions(height, width, START_SIDE)
    centres = positions.repeat_interleave(len(sizes), 0)
    pools = fields.gaussian_pools(centres, torch.tensor(sizes).repeat(len(positions)), height, width).to(maps)
    alphas = torch.tensor(START_ALPHAS, dtype=torch.float64, device=maps.device)
    splits = [Split(train.to(maps.device), test.to(maps.device)) for train, test in splits]
    found = search_grid(maps.flatten(2), pools, responses, splits, alphas, "pearsonr")
    return found, centres.to(maps), pools
