"""The several kinds of images that one unit answers to, and an image made for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from ..stimuli import StimulusSet
from .ascent import Synthesis, maximise
from .images import as_images, as_pictures, score_images
from .objectives import Objective

Array = NDArray[Any]

#: most facets that are tried, and the silhouette from which a structure is more than weak (Kaufman & Rousseeuw, 1990)
MOST_FACETS, WEAK = 10, 0.5


@dataclass(frozen=True)
class Facets:
    """The facets of a unit.

    Attributes
    ----------
    table
        One row a facet: ``n_images``, ``activation`` of its synthesised image, ``share_of_best`` (of the largest over
        real images) and ``gain`` over the mean image.
    facet
        Of each stimulus its facet, or -1 where it does not drive the unit enough to be among the images taken.
    plane
        Where the stimuli lie in two dimensions; NaN for those not taken.
    means
        The mean image of each facet, where the ascent began.
    synthesis
        The images that were made, in the order of the table.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.synthesis import find_facets
    >>> images = np.random.default_rng(0).standard_normal((40, 3))
    >>> facets = find_facets(lambda x: x.sum(1), images, images, n_facets=1, bounds=None, steps=2)
    >>> facets.table.columns.tolist()
    ['n_images', 'activation', 'share_of_best', 'gain']
    """

    table: pd.DataFrame
    facet: NDArray[np.int64]
    plane: Array
    means: Array
    synthesis: Synthesis

    def purity(self, labels: Sequence[Any] | Array) -> float:
        """Share of the images whose label is the commonest one of their facet.

        Parameters
        ----------
        labels
            One a stimulus.

        Examples
        --------
        >>> import numpy as np, pandas as pd
        >>> from cerebridge.models.synthesis.facets import Facets
        >>> Facets(pd.DataFrame(), np.array([0, 0, 1, 1]), None, None, None).purity(["a", "a", "a", "b"])
        0.75
        """
        taken = self.facet >= 0
        counts = pd.crosstab(self.facet[taken], np.asarray(labels)[taken])
        return float(counts.max(axis=1).sum() / counts.to_numpy().sum())


def find_facets(
    objective: Objective,
    stimuli: StimulusSet | Array,
    embedding: xr.DataArray | Array,
    *,
    n_facets: int | Literal["auto"] = "auto",
    n_images: int = 1000,
    n_nearest: int = 15,
    components: int = 50,
    size: int = 224,
    device: str | torch.device = "auto",
    random_state: int = 0,
    progress: bool | None = None,
    **ascent: Any,
) -> Facets:
    """Find the kinds of images that drive a unit, and make one image for each, by multifaceted visualisation.

    The images that drive it most are laid out by what a late layer says of them (principal components, then t-SNE in
    the plane) and grouped by k-means. The mean of the images nearest to the middle of each group is where the ascent
    begins.

    Parameters
    ----------
    objective
        A unit, voxel or neuron, as of :func:`maximise`.
    stimuli
        A stimulus set, images, or n × values, as ``start`` of :func:`maximise`.
    embedding
        Activations of a late layer for the same stimuli (presentation × neuroid, in their order), as
        ``models.extract`` gives them.
    n_facets
        How many, or ``"auto"``: what gives the largest silhouette in the plane, and 1 where that is below 0.5.
    n_images
        How many of the images that drive it most are taken.
    n_nearest
        Images that a mean is taken over.
    components
        Principal components.
    size
        Height and width of a stimulus set's images.
    device, random_state, progress
        As everywhere.
    ascent
        Options of :func:`maximise`; ``centre_bias`` is on by default for images.

    Returns
    -------
    Facets
        The ``table`` of facets, the stimuli's ``facet``, ``means`` and ``synthesis``.

    Raises
    ------
    ValueError
        If there are too few images, or the embedding is not of them.

    References
    ----------
    Nguyen, Yosinski & Clune (2016). Multifaceted feature visualization: uncovering the different types of features
    learned by each neuron in deep neural networks. ICML workshop on visualization.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.synthesis import find_facets
    >>> rng = np.random.default_rng(0)
    >>> images = np.repeat([[4.0, 0.0], [0.0, 4.0]], 30, axis=0) + 0.1 * rng.standard_normal((60, 2))
    >>> unit = lambda x: x.max(1).values
    >>> facets = find_facets(unit, images, images, n_facets=2, bounds=None, steps=5)
    >>> sorted(facets.table["n_images"])
    [30, 30]
    """
    n = len(stimuli)
    described = _described(embedding, stimuli)
    fewest = max(n_nearest, 4)
    taken_most = min(n, n_images)
    if taken_most < fewest:
        raise ValueError(
            f"there are {taken_most} images to find facets in; give at least {fewest}, or fewer n_nearest=."
        )
    if n_facets != "auto" and not 1 <= n_facets <= taken_most // 2:
        raise ValueError(f"n_facets={n_facets} is impossible with {taken_most} images; give 'auto' or fewer.")
    bounds = ascent.get("bounds", (0.0, 1.0))
    scores = score_images(objective, stimuli, size=size, bounds=bounds, device=device, progress=progress)
    taken = np.sort(np.argsort(-scores, kind="stable")[:taken_most])
    points = _laid_out(described[taken], components, random_state)
    groups, centres = _grouped(points, n_facets, random_state)
    means = []
    for facet, centre in enumerate(centres):
        members = taken[groups == facet]
        distance = np.linalg.norm(points[groups == facet] - centre, axis=1)
        nearest = members[np.argsort(distance, kind="stable")[:n_nearest]]
        means.append(as_images(stimuli[nearest], size, bounds).mean(0))
    start = torch.stack(means)
    options = {"centre_bias": start.ndim == 4, **ascent}
    made = maximise(objective, start, device=device, random_state=random_state, progress=progress, **options)
    facet_of, plane = np.full(n, -1), np.full((n, 2), np.nan)
    facet_of[taken], plane[taken] = groups, points
    table = pd.DataFrame(
        {
            "n_images": np.bincount(groups, minlength=len(centres)),
            "activation": made.scores,
            "share_of_best": made.scores / scores.max() if scores.max() > 0 else np.nan,
            "gain": made.scores - made.before,
        }
    )
    return Facets(table.rename_axis("facet"), facet_of, plane, as_pictures(start), made)


def _described(embedding: xr.DataArray | Array, stimuli: StimulusSet | Array) -> Array:
    """The embedding as plain rows, once it is seen to be of the stimuli."""
    if isinstance(embedding, xr.DataArray) and isinstance(stimuli, StimulusSet):
        theirs, ours = embedding.coords["stimulus_id"].values, stimuli.table["stimulus_id"].to_numpy()
        if len(theirs) != len(ours) or (theirs != ours).any():
            raise ValueError(
                "embedding= is of other stimuli, or of another order; extract it from these stimuli."
            )
    rows = np.asarray(embedding)
    if rows.ndim != 2 or len(rows) != len(stimuli) or not np.isfinite(rows).all():
        raise ValueError(
            f"embedding= has the shape {rows.shape} for {len(stimuli)} stimuli; give one row of finite numbers "
            "for each."
        )
    return rows


def _laid_out(rows: Array, components: int, random_state: int) -> Array:
    """Places in the plane."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    kept = min(components, *rows.shape)
    reduced = PCA(kept, svd_solver="full").fit_transform(rows)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    # beginning with principal components has the same groups at the same places at every seed
    layout = TSNE(2, perplexity=perplexity, init="pca" if kept > 1 else "random", random_state=random_state)
    return cast(Array, layout.fit_transform(reduced).astype(np.float64))


def _grouped(points: Array, n_facets: int | str, random_state: int) -> tuple[NDArray[np.int64], Array]:
    """Groups by k-means, the largest first, and their middles."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    tried = range(2, min(MOST_FACETS, len(points) // 2) + 1) if n_facets == "auto" else [int(n_facets)]
    fits = [KMeans(k, n_init=10, random_state=random_state).fit(points) for k in tried]
    best = fits[0]
    if n_facets == "auto":
        worth = [silhouette_score(points, fit.labels_) for fit in fits]
        best = fits[int(np.argmax(worth))]
        if max(worth) < WEAK:
            best = KMeans(1, n_init=1, random_state=random_state).fit(points)
    order = np.argsort(-np.bincount(best.labels_), kind="stable")
    return np.argsort(order)[best.labels_].astype(np.int64), best.cluster_centers_[order]
