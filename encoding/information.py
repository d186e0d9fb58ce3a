"""Information in representations, in bits: what layers know of their inputs and of the labels.

Two families. Diffusion spectral entropy looks at the shape of the cloud of points and needs few of them. The
information plane counts states of a layer, I(X;T) of the input and I(T;Y) of the label, for deterministic networks with
discrete inputs; binning makes these finite, and what is estimated depends on the bins: compare layers, epochs and
networks under one estimator, and trust none where every input has a state of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from .engine import entropy as engine
from .engine.representations import median_distance
from .informationplane import binned_information, information_plane, kde_information, label_codes, point_rows
from .parameters import whole_number

__all__ = [
    "binned_information",
    "bottleneck_curve",
    "diffusion_spectral_entropy",
    "diffusion_spectral_information",
    "information_plane",
    "kde_information",
]


def diffusion_spectral_entropy(
    embeddings: Any, *, sigma: float | str = 10.0, t: float = 1.0, device: str | torch.device = "auto"
) -> float:
    """Entropy of the spectrum of a diffusion between points: how many regions they spread over, as a logarithm.

    Parameters
    ----------
    embeddings
        ``(n, units)``: numpy, torch or ``presentation × neuroid``.
    sigma
        Width of the Gaussian kernel in the unit of the embeddings; ``"median"``: the median distance of points.
    t
        Diffusion time, usually 1 or 2; the larger, the less noise counts.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    float
        Bits, from 0 (all points coincide) to log₂ n (all are far apart). All eigenvalues are kept (Liao et al.,
        2023).

    Raises
    ------
    ValueError
        If values are missing, or sigma or t are not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import information
    >>> clusters = np.repeat(1000 * np.eye(8), 20, axis=0)
    >>> round(information.diffusion_spectral_entropy(clusters), 3)
    3.0
    """
    points = point_rows(embeddings, "embeddings", device).double()
    return float(engine.spectral_entropy(engine.gaussian_kernel(points, _width(points, sigma, t)), t))


def diffusion_spectral_information(
    embeddings: Any,
    labels: Any,
    *,
    sigma: float | str = 10.0,
    t: float = 1.0,
    n_clusters: int = 10,
    n_draws: int = 5,
    random_state: int | None = 0,
    device: str | torch.device = "auto",
) -> float:
    """Mutual information of embeddings and labels by diffusion spectra: how much less points of one label spread.

    Parameters
    ----------
    embeddings, sigma, t, device
        As for :func:`diffusion_spectral_entropy`.
    labels
        One a point: text or whole numbers are classes; real numbers are cut into ``n_clusters`` groups of equal size;
        vectors ``(n, d)``, for example the inputs, are clustered spectrally into as many.
    n_clusters, n_draws
        Groups of continuous labels, and draws of random points to compare with.
    random_state
        Seeds draws and clusters.

    Returns
    -------
    float
        Bits; about 0, and below by chance, where labels do not matter (Liao et al., 2023).

    Raises
    ------
    ValueError
        If labels and embeddings differ in number, or there is one class only.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import information
    >>> clusters, labels = np.repeat(1000 * np.eye(4), 20, axis=0), np.repeat(np.arange(4), 20)
    >>> round(information.diffusion_spectral_information(clusters, labels), 2)
    2.0
    """
    points = point_rows(embeddings, "embeddings", device).double()
    width = _width(points, sigma, t)
    kernel = engine.gaussian_kernel(points, width)
    codes = _classes(labels, points, whole_number(n_clusters, "n_clusters", 2), random_state)
    if int(codes.max()) == 0:
        raise ValueError("all labels are the same; information on them needs at least two classes.")
    rng = np.random.default_rng(random_state)
    draws = [
        torch.as_tensor(rng.permutation(len(points)), device=points.device)
        for _ in range(whole_number(n_draws, "n_draws"))
    ]
    return engine.spectral_information(kernel, codes, draws, t)


def bottleneck_curve(joint: ArrayLike, betas: ArrayLike | None = None, *, max_iter: int = 5000) -> xr.Dataset:
    """The most that can be known of the label for what is known of the input: the information bottleneck.

    Parameters
    ----------
    joint
        ``inputs × labels``: probabilities, or counts.
    betas
        Trade-offs at which the curve is computed, its inverse slopes; default 60 from 1 to 500.
    max_iter
        Most iterations at each of them (Blahut–Arimoto; Tishby et al., 1999).

    Returns
    -------
    xarray.Dataset
        ``I_XT`` and ``I_TY`` along ``beta``, in bits.

    Raises
    ------
    ValueError
        If ``joint`` is no table of probabilities or counts, or a beta is not positive.

    Examples
    --------
    >>> from cerebridge.encoding import information
    >>> curve = information.bottleneck_curve([[0.4, 0.1], [0.1, 0.4]], betas=[1.0, 1000.0])
    >>> curve["I_TY"].round(3).values.tolist()
    [0.0, 0.278]
    """
    table = np.asarray(joint, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all() or (table < 0).any() or not table.sum():
        raise ValueError(
            "joint must be a table, inputs × labels, of probabilities or counts that are not all zero."
        )
    trade = np.geomspace(1, 500, 60) if betas is None else np.atleast_1d(np.asarray(betas, dtype=np.float64))
    if not (np.isfinite(trade) & (trade > 0)).all():
        raise ValueError("betas must be positive and finite.")
    table = table[table.sum(1) > 0] / table.sum()
    # inputs that say the same of the label are one: no bottleneck tells them apart
    _, same = np.unique(np.round(table / table.sum(1, keepdims=True), 12), axis=0, return_inverse=True)
    merged = np.zeros((same.max() + 1, table.shape[1]))
    np.add.at(merged, same.ravel(), table)
    found = engine.bottleneck(
        torch.from_numpy(merged), trade.tolist(), 1e-9, whole_number(max_iter, "max_iter")
    )
    bits = {name: ("beta", found[:, k].numpy(), {"units": "bit"}) for k, name in enumerate(("I_XT", "I_TY"))}
    return xr.Dataset(bits, {"beta": trade})


def _width(points: torch.Tensor, sigma: float | str, t: float) -> float:
    """Width of the kernel, checked together with the diffusion time."""
    if not t > 0:
        raise ValueError(f"t={t!r} must be positive.")
    if sigma == "median":
        # where most points coincide, any width will do
        return median_distance(points) or 1.0
    if isinstance(sigma, str) or not 0 < sigma < np.inf:
        raise ValueError(f"sigma={sigma!r} must be a positive width, or 'median'.")
    return float(sigma)


def _classes(labels: Any, points: torch.Tensor, n_clusters: int, random_state: int | None) -> torch.Tensor:
    """Classes as they are, real numbers in groups of equal size, vectors in spectral clusters."""
    values = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if values.ndim == 2 and len(values) == len(points):
        values = _clustered(point_rows(labels, "labels", points.device), n_clusters, random_state)
    elif values.dtype.kind == "f" and values.ndim == 1 and np.isfinite(values).all():
        inner = np.quantile(values, np.arange(1, n_clusters) / n_clusters)
        values = np.searchsorted(inner, values, side="right")
    return label_codes(values, points)


def _clustered(points: torch.Tensor, n_clusters: int, random_state: int | None) -> NDArray[np.intp]:
    from sklearn.cluster import SpectralClustering

    if n_clusters >= len(points):
        raise ValueError(f"n_clusters={n_clusters} must be below the number of points, {len(points)}.")
    kernel = engine.gaussian_kernel(points.double(), median_distance(points) or 1.0)
    clustering = SpectralClustering(n_clusters, affinity="precomputed", random_state=random_state)
    return np.asarray(clustering.fit_predict(kernel.cpu().numpy()))
