"""Shape of clouds of activity: parallel directions, dimensions."""

from __future__ import annotations

import torch


def mean_cosine(directions: torch.Tensor) -> torch.Tensor:
    """Mean cosine of all pairs of directions.

    Parameters
    ----------
    directions
        ``(..., k, n)``, at least two; the cosine with one of length 0 is 0.

    Returns
    -------
    torch.Tensor
        ``(...)``, from the length of the sum of unit vectors.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.geometry import mean_cosine
    >>> mean_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, -1.0]])).item()
    -0.3333333432674408
    """
    unit = torch.nn.functional.normalize(directions, dim=-1)
    k = directions.shape[-2]
    own = unit.square().sum(dim=(-2, -1))
    return (unit.sum(dim=-2).square().sum(dim=-1) - own) / (k * (k - 1))


def pair_cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosines between all differences of a row of ``b`` and a row of ``a``.

    Parameters
    ----------
    a, b
        ``(n, units)`` and ``(m, units)``.

    Returns
    -------
    torch.Tensor
        ``(n m, n m)``; the difference of rows ``i`` and ``j`` is number ``i m + j``. 0 for differences of length 0.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.geometry import pair_cosines
    >>> pair_cosines(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    unit = torch.nn.functional.normalize((b[None] - a[:, None]).flatten(0, 1), dim=-1)
    return unit @ unit.mT


def spectrum(activity: torch.Tensor) -> torch.Tensor:
    """Variances along the principal axes, largest first.

    Parameters
    ----------
    activity
        ``(..., n, units)``.

    Returns
    -------
    torch.Tensor
        ``(..., min(n, units))``, from a covariance that divides by n - 1.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.geometry import spectrum
    >>> spectrum(torch.tensor([[2.0, 0.0], [-2.0, 0.0]])).round(decimals=4).tolist()
    [8.0, 0.0]
    """
    centred = activity - activity.mean(dim=-2, keepdim=True)
    axes: torch.Tensor = torch.linalg.svdvals(centred)
    return axes.square() / (activity.shape[-2] - 1)


def participation_ratio(variances: torch.Tensor) -> torch.Tensor:
    """How many equal variances would spread as these do.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.geometry import participation_ratio
    >>> participation_ratio(torch.tensor([2.0, 2.0, 0.0])).item()
    2.0
    """
    return variances.sum(dim=-1).square() / variances.square().sum(dim=-1)


def two_nearest_ratio(activity: torch.Tensor) -> torch.Tensor:
    """Distance to the second nearest row over that to the nearest, of every row.

    Parameters
    ----------
    activity
        ``(n, units)``, at least three rows.

    Returns
    -------
    torch.Tensor
        ``(n,)``; NaN where the nearest row is the same point.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.geometry import two_nearest_ratio
    >>> two_nearest_ratio(torch.tensor([[0.0], [1.0], [3.0]])).tolist()
    [3.0, 2.0, 1.5]
    """
    distances = torch.cdist(activity, activity, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(torch.inf)
    near = distances.topk(2, dim=-1, largest=False).values
    return near[:, 1] / near[:, 0].masked_fill(near[:, 0] == 0, torch.nan)
