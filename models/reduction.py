"""Reducing a layer's features while they are extracted: principal components and sparse random projections."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .incremental import IncrementalPCA
from .stimuli import StimulusSet

#: a batch of flattened features to what is kept of it
Reducer: TypeAlias = Callable[[Tensor], Tensor]

#: positions of the sparse matrix that are drawn at once
DRAWN = 1 << 20


@dataclass(frozen=True)
class RandomProjection:
    r"""Very sparse random projection: distances survive in far fewer dimensions, and nothing is fitted.

    Entries of the matrix are :math:`\pm 1/\sqrt{density \cdot k}` with probability ``density``, else 0 (Achlioptas,
    2003, J Comput Syst Sci; Li, Hastie & Church, 2006, KDD). With
    :math:`k \ge (4 \ln n + 2 \ln 1/failure) / (eps^2/2 - eps^3/3)` all squared distances between n stimuli are kept
    to a factor within 1 ± ``eps``, but for a probability of at most ``failure``: proven for ``density`` of at least
    1/3, and approximate below for features without very heavy tails.

    Parameters
    ----------
    n_components
        Dimensions k. A layer with no more features is kept as it is.
    eps
        Instead of ``n_components``: the relative distortion of squared distances that is allowed, between 0 and 1.
    density
        Share of entries that are not zero; ``"auto"`` is one over the root of the number of features.
    failure
        Probability that some distance is distorted more.
    random_state
        Seed. Every layer has a matrix of its own, which depends on nothing but the seed, the layer's name, its
        number of features and k.

    Raises
    ------
    ValueError
        If not exactly one of ``n_components`` and ``eps`` is given, or a value is out of its range.

    Examples
    --------
    >>> from cerebridge import models
    >>> models.RandomProjection(eps=0.5).width(100_000, n_stimuli=100)
    332
    >>> round(models.RandomProjection(n_components=332).distortion(n_stimuli=100), 2)
    0.5
    """

    n_components: int | None = None
    eps: float | None = None
    density: float | Literal["auto"] = "auto"
    failure: float = 0.01
    random_state: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be projected to."""
        if (self.n_components is None) == (self.eps is None):
            raise ValueError("a random projection takes n_components= or eps=; give one of them.")
        if self.n_components is not None:
            _positive(self.n_components, "n_components")
        if self.eps is not None and not 0 < self.eps < 1:
            raise ValueError(f"eps={self.eps!r} must lie between 0 and 1.")
        if self.density != "auto" and not 0 < self.density <= 1:
            raise ValueError(f"density={self.density!r} must be 'auto' or lie above 0, at most 1.")
        if not 0 < self.failure < 1:
            raise ValueError(f"failure={self.failure!r} is a probability between 0 and 1.")

    def width(self, n_features: int, n_stimuli: int) -> int:
        """Count the dimensions that are kept of a layer."""
        if self.n_components is not None:
            return min(self.n_components, n_features)
        eps = float(self.eps or 0)
        return min(math.ceil(self._surprise(n_stimuli) / (eps**2 / 2 - eps**3 / 3)), n_features)

    def distortion(self, n_stimuli: int) -> float:
        """Bound the relative distortion of squared distances among so many stimuli; infinite if there is no bound."""
        if self.eps is not None:
            return self.eps
        wanted = self._surprise(n_stimuli) / float(self.n_components or 1)
        low, high = 0.0, 1.0
        if wanted > 1 / 6:
            return math.inf
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if middle**2 / 2 - middle**3 / 3 < wanted else (low, middle)
        return high

    def state_bytes(self, n_features: int, n_stimuli: int) -> int:
        """Bound the bytes that the matrix of one layer takes."""
        width = self.width(n_features, n_stimuli)
        return 0 if width == n_features else int(24 * self._density(n_features) * width * n_features)

    def facts(self, stimuli: StimulusSet) -> dict[str, Any]:
        """Say what a result depends on."""
        bound = self.distortion(len(stimuli))
        return {
            "method": "random projection",
            "n_components": self.n_components,
            "eps": self.eps,
            "density": self.density,
            "random_state": self.random_state,
            **({"n_stimuli": len(stimuli)} if self.eps is not None else {}),
            "distortion": round(bound, 6) if math.isfinite(bound) else None,
            "failure": self.failure,
        }

    def reducer(self, layer: str, n_features: int, n_stimuli: int, device: torch.device) -> Reducer:
        """Draw the matrix of one layer.

        Returns
        -------
        Callable
            From features (stimuli × features) to components (stimuli × k), float32.
        """
        width = self.width(n_features, n_stimuli)
        if width == n_features:
            return as_they_are
        density = self._density(n_features)
        seed = [self.random_state, *hashlib.sha256(f"{layer}\n{n_features}\n{width}".encode()).digest()[:8]]
        places = _draw_places(np.random.default_rng(seed), width * n_features, density)
        signs = np.random.default_rng([*seed, 1]).integers(0, 2, len(places), dtype=np.int8)
        scale = 1 / math.sqrt(density * width)
        starts = torch.from_numpy(np.searchsorted(places, np.arange(width) * n_features)).to(device)
        features = torch.from_numpy(places % n_features).to(device)
        weights = torch.from_numpy((2 * signs - 1).astype(np.float32) * np.float32(scale)).to(device)

        def project(values: Tensor) -> Tensor:
            # each component is a weighted sum over a bag of features
            sums = functional.embedding_bag(
                features, values.float().T.contiguous(), starts, mode="sum", per_sample_weights=weights
            )
            return sums.T

        return project

    def _surprise(self, n_stimuli: int) -> float:
        return 4 * math.log(max(n_stimuli, 2)) + 2 * math.log(1 / self.failure)

    def _density(self, n_features: int) -> float:
        return 1 / math.sqrt(n_features) if self.density == "auto" else float(self.density)


@dataclass(frozen=True, eq=False)
class PCA:
    """Principal components of each layer, fitted while stimuli stream by and then applied to all of them.

    Incremental singular value decomposition (Ross et al., 2008, Int J Comput Vis): exact where the stimuli that it is
    fitted on fit into one block or vary in no more than ``n_components`` directions, else very nearly the leading
    components. Blocks do not depend on batch size or memory, so neither does the result.

    Parameters
    ----------
    n_components
        How many. A layer with fewer features keeps so many.
    fit_on
        What they are learned from: a stimulus set, or rows of the one that is extracted (numbers or a mask), such as
        the training stimuli alone. Default: all stimuli that are extracted, which the provenance says.
    block_rows
        Stimuli a block; more are more exact and take more memory. Default: ``2 * n_components``.

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import models
    >>> net = models.load("tiny", weights="random")
    >>> pictures = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    >>> stimuli = models.StimulusSet.from_arrays(pictures)
    >>> models.extract(net, stimuli, ["conv1", "conv2"], reduce=models.PCA(3, fit_on=range(8))).shape
    (12, 6)
    """

    n_components: int
    fit_on: StimulusSet | Sequence[int] | NDArray[Any] | None = None
    block_rows: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        _positive(self.n_components, "n_components")
        if self.block_rows is not None and _positive(self.block_rows, "block_rows") < self.n_components:
            raise ValueError(
                f"block_rows={self.block_rows} is less than n_components={self.n_components}; the first block must "
                "determine all components."
            )

    @property
    def block(self) -> int:
        """Stimuli a block."""
        return self.block_rows or 2 * self.n_components

    def rows(self, stimuli: StimulusSet) -> tuple[StimulusSet, list[int]]:
        """Give the stimuli to fit on, and which rows of them.

        Raises
        ------
        ValueError
            If rows are outside, occur twice, or are fewer than the components.
        """
        if self.fit_on is None or isinstance(self.fit_on, StimulusSet):
            source = self.fit_on or stimuli
            rows = list(range(len(source)))
        else:
            source, given = stimuli, np.asarray(self.fit_on)
            if given.dtype == bool and given.shape != (len(stimuli),):
                raise ValueError(f"fit_on is a mask of {given.size} for {len(stimuli)} stimuli.")
            rows = [int(row) for row in (np.flatnonzero(given) if given.dtype == bool else given)]
            if not all(0 <= row < len(stimuli) for row in rows) or len(set(rows)) < len(rows):
                raise ValueError(
                    f"fit_on must be different rows from 0 to {len(stimuli) - 1}, a mask, or a stimulus set."
                )
        if len(rows) < self.n_components:
            raise ValueError(
                f"{self.n_components} components cannot be learned from {len(rows)} stimuli; ask for fewer, or give "
                "more by fit_on=."
            )
        return source, rows

    def width(self, n_features: int, n_stimuli: int) -> int:
        """Count the components of a layer."""
        return min(self.n_components, n_features)

    def state_bytes(self, n_features: int, n_stimuli: int) -> int:
        """Bound the bytes that fitting takes for one layer."""
        return IncrementalPCA.state_bytes(n_features, self.width(n_features, n_stimuli), self.block)

    def facts(self, stimuli: StimulusSet) -> dict[str, Any]:
        """Say what a result depends on."""
        source, rows = self.rows(stimuli)
        whole = len(rows) == len(source)
        everything = self.fit_on is None or (whole and source is stimuli)
        return {
            "method": "PCA",
            "n_components": self.n_components,
            "block_rows": self.block,
            "fitted_on": f"{'all ' if everything else ''}{len(rows)} stimuli",
            "fitted_hash": source.hash if whole else source[rows].hash,
        }


Reduction: TypeAlias = PCA | RandomProjection


def as_they_are(values: Tensor) -> Tensor:
    """Keep a layer that has no more features than it would be reduced to.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.reduction import as_they_are
    >>> as_they_are(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    return values


def _draw_places(rng: np.random.Generator, total: int, density: float) -> NDArray[np.int64]:
    """Places of a long row that are taken with equal probability, in order, by the gaps between them."""
    found, last = [], -1
    while last < total:
        places = last + np.cumsum(rng.geometric(density, DRAWN))
        found.append(places[places < total])
        last = int(places[-1])
    return np.concatenate(found)


def _positive(number: Any, name: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        raise ValueError(f"{name}={number!r} must be a positive whole number.")
    return int(number)
