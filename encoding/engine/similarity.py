"""How alike vectors of dissimilarities are: prepared once each, then compared all with all."""

from __future__ import annotations

import math

import torch

from .ranks import kendall_tau_a, midranks, strict_ranks

METHODS = ("pearson", "spearman", "cosine", "tau-a", "rho-a")


def prepare(vectors: torch.Tensor, method: str) -> torch.Tensor:
    """Bring vectors to a form in which their similarities are plain inner products (tau-a: ranks).

    Parameters
    ----------
    vectors
        ``(m, n)``, without NaN.
    method
        One of :data:`METHODS`. ``"rho-a"`` is Spearman's correlation expected under random breaking of ties
        (Schütt et al., 2023, eLife).

    Returns
    -------
    torch.Tensor
        ``(m, n)``, or ``(m, 1 or 2, n)`` for tau-a. NaN rows where the similarity is undefined: constant vectors,
        or zero vectors for the cosine. The last axis may be permuted afterwards.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.similarity import prepare
    >>> prepare(torch.tensor([[3.0, 4.0]]), "cosine").tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    if method == "tau-a":
        return strict_ranks(vectors)
    if method == "cosine":
        return unit_length(vectors)
    if method in ("spearman", "rho-a"):
        vectors = midranks(vectors)
    centred = vectors - vectors.mean(dim=-1, keepdim=True)
    if method == "rho-a":
        n = vectors.shape[-1]
        return centred * math.sqrt(12 / (n**3 - n))
    return unit_length(centred, vectors)


def similarities(a: torch.Tensor, b: torch.Tensor, method: str) -> torch.Tensor:
    """Similarity of every row of ``a`` to every row of ``b``, both from :func:`prepare`.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.similarity import prepare, similarities
    >>> a = prepare(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), "tau-a")
    >>> similarities(a, a, "tau-a").tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    if method == "tau-a":
        return torch.stack([kendall_tau_a(a, row) for row in b.unsqueeze(1)], dim=-1)
    return a @ b.transpose(-1, -2)


def paired_similarities(a: torch.Tensor, b: torch.Tensor, method: str) -> torch.Tensor:
    """Similarity of each row of ``a`` to the same row of ``b``; one row on either side serves all.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.similarity import paired_similarities, prepare
    >>> a = prepare(torch.tensor([[1.0, 2.0, 4.0]]), "rho-a")
    >>> paired_similarities(a, a, "rho-a").round(decimals=6).tolist()
    [1.0]
    """
    if method == "tau-a":
        return kendall_tau_a(a, b)
    return (a * b).sum(dim=-1)


def unit_length(vectors: torch.Tensor, uncentred: torch.Tensor | None = None) -> torch.Tensor:
    """Scale along the last axis to length 1; NaN where nothing but rounding is left after centring.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.similarity import unit_length
    >>> unit_length(torch.tensor([[0.0, 2.0], [0.0, 0.0]])).tolist()
    [[0.0, 1.0], [nan, nan]]
    """
    norm: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    scale = norm if uncentred is None else torch.linalg.vector_norm(uncentred, dim=-1, keepdim=True)
    return vectors / norm.masked_fill(norm <= 16 * torch.finfo(norm.dtype).eps * scale, torch.nan)
