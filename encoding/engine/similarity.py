"""How alike vectors of dissimilarities are: prepared once each, then compared all with all."""

from __future__ import annotations

import math

import torch

from . import spd
from .ranks import kendall_tau_a, midranks, strict_ranks, untied_share
from .whitened import contrast_moments, second_moments, symmetric, whitened_form

#: ways of comparing that read the vector as the matrix of all pairs, in the order of ``numpy.triu_indices(n, 1)``
MATRIX_METHODS = ("whitened-pearson", "whitened-cosine", "bures", "riemannian")
METHODS = ("pearson", "spearman", "cosine", "tau-a", "tau-b", "rho-a", *MATRIX_METHODS)


def prepare(
    vectors: torch.Tensor,
    method: str,
    noise: torch.Tensor | None = None,
    known: torch.Tensor | None = None,
) -> torch.Tensor:
    """Bring vectors to a form in which their similarities are plain inner products.

    Of tau-a and tau-b the form is ranks, of Bures and Riemannian it is matrices.

    Parameters
    ----------
    vectors
        ``(m, n)``, without NaN.
    method
        One of :data:`METHODS`. ``"rho-a"`` is Spearman's correlation expected under random breaking of ties
        (Schütt et al., 2023, eLife).
    noise
        For the whitened forms and Riemannian: covariance of the conditions' pattern estimates, conditions ×
        conditions; default: independent and equal.
    known
        Which of all pairs the vectors hold, ``(pairs,)`` booleans; default: all. Only the methods that read matrices
        need to be told.

    Returns
    -------
    torch.Tensor
        ``(m, n)``, whose last axis may be permuted afterwards, as that of ``(m, 1 or 2, n)`` for tau-a and tau-b;
        ``(m, n + conditions)`` for the whitened forms: pairs, then conditions; ``(m, conditions, conditions)`` for
        Bures, with one row and column fewer for Riemannian. Where the similarity is undefined
        :func:`is_undefined` is true.

    Raises
    ------
    ValueError
        If a matrix is to be read and some of its conditions lack some pairs; without ``noise`` the whitened forms do
        not mind, and conditions without any pair are left out.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.similarity import prepare
    >>> prepare(torch.tensor([[3.0, 4.0]]), "cosine").tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    if method in ("tau-a", "tau-b"):
        return strict_ranks(vectors)
    if method == "cosine":
        return unit_length(vectors)
    if method in MATRIX_METHODS:
        return _matrix_form(vectors, method, noise, known)
    if method == "pearson":
        return unit_length(vectors - vectors.mean(dim=-1, keepdim=True), vectors)
    n = vectors.shape[-1]
    ranks = midranks(vectors).sub_((n + 1) / 2)
    return ranks.mul_(math.sqrt(12 / (n**3 - n))) if method == "rho-a" else ranks.div_(_length(ranks, ranks))


def is_undefined(prepared: torch.Tensor, method: str) -> torch.Tensor:
    """Whether each prepared row has no similarity to anything: constant vectors, or zero ones, where that matters.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.similarity import is_undefined, prepare
    >>> is_undefined(prepare(torch.ones(1, 3), "tau-b"), "tau-b").tolist()
    [True]
    """
    if method == "tau-b":
        return untied_share(prepared) == 0
    return prepared.flatten(1)[:, 0].isnan()


def similarities(a: torch.Tensor, b: torch.Tensor, method: str) -> torch.Tensor:
    """Similarity of every row of ``a`` to every row of ``b``, both from :func:`prepare`.

    ``"riemannian"`` is minus a distance, NaN where the second moments of ``b`` are singular.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.engine.similarity import prepare, similarities
    >>> a = prepare(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), "tau-a")
    >>> similarities(a, a, "tau-a").tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    if method in ("bures", "riemannian"):
        rows = torch.split(a, max(1, spd.CHUNK // b.numel()))
        return torch.cat([paired_similarities(some.unsqueeze(1), b, method) for some in rows])
    if method in ("tau-a", "tau-b"):
        return torch.stack([paired_similarities(a, row, method) for row in b.unsqueeze(1)], dim=-1)
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
    if method == "tau-b":
        return kendall_tau_a(a, b) / (untied_share(a) * untied_share(b)).sqrt()
    if method == "bures":
        return spd.bures(a, b)
    if method == "riemannian":
        return spd.negative_riemannian(a, b)
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
    return vectors / _length(vectors, vectors if uncentred is None else uncentred)


def _length(vectors: torch.Tensor, uncentred: torch.Tensor) -> torch.Tensor:
    """Length along the last axis; NaN where it is no more than the rounding of what was centred."""
    norm: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    scale = norm if uncentred is vectors else torch.linalg.vector_norm(uncentred, dim=-1, keepdim=True)
    return norm.masked_fill(norm <= 16 * torch.finfo(norm.dtype).eps * scale, torch.nan)


def _centred(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors about their mean; zero where nothing but rounding is left."""
    centred = vectors - vectors.mean(dim=-1, keepdim=True)
    norm, scale = (torch.linalg.vector_norm(v, dim=-1, keepdim=True) for v in (centred, vectors))
    return centred.masked_fill(norm <= 16 * torch.finfo(norm.dtype).eps * scale, 0)


def _matrix_form(
    vectors: torch.Tensor, method: str, noise: torch.Tensor | None, known: torch.Tensor | None
) -> torch.Tensor:
    if known is not None and not bool(known.all()):
        there = symmetric(known.to(vectors.dtype)).any(dim=-1)
        n = int(there.sum())
        noise = None if noise is None else noise[there][:, there]
        if vectors.shape[-1] == n * (n - 1) // 2:
            known = None
        elif noise is not None or method in ("bures", "riemannian"):
            raise ValueError("some of the pairs of a condition are missing, and others are not")
    else:
        known = None
    if method == "bures":
        moments = second_moments(vectors)
        trace = moments.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[:, None, None]
        return moments.masked_fill(~(trace > 0), torch.nan)
    if method == "riemannian":
        return contrast_moments(vectors, noise)
    if method == "whitened-pearson":
        vectors = _centred(vectors)
    form = whitened_form(vectors, noise, known)
    return form.div_(_length(form, form))
