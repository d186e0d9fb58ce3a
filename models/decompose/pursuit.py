"""Codes found by search for a given dictionary, instead of by an encoder."""

from __future__ import annotations

import torch
from torch import Tensor


def pursue(x: Tensor, dictionary: Tensor, k: int, *, positive: bool = True) -> Tensor:
    """Explain samples by at most ``k`` directions each, by gradient pursuit.

    In every round the direction that fits the rest best joins those of a sample, whose coefficients then make one
    step of steepest descent of the best length. What is missing even so is the dictionary's fault, no encoder's.

    Parameters
    ----------
    x
        Samples × inputs, the bias subtracted.
    dictionary
        Features × inputs, of unit norm.
    k
        Rounds, and most directions a sample.
    positive
        Whether coefficients below zero are refused, as codes of a sparse autoencoder are.

    Returns
    -------
    torch.Tensor
        Samples × features, mostly zeros.

    References
    ----------
    Blumensath & Davies (2008). Gradient pursuits. IEEE Transactions on Signal Processing 56(6).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.pursuit import pursue
    >>> pursue(torch.tensor([[3.0, 0.3, 2.0]]), torch.eye(3), 2).tolist()
    [[3.0, 0.0, 2.0]]
    """
    codes = x.new_zeros(len(x), len(dictionary))
    chosen = torch.zeros_like(codes, dtype=torch.bool)
    rest = x.clone()
    for _ in range(k):
        fit = rest @ dictionary.T
        best = (fit if positive else fit.abs()).masked_fill(chosen, -torch.inf).max(dim=1)
        # a sample that nothing fits any more keeps the directions that it has
        rows = (best.values > 0).nonzero()[:, 0]
        chosen[rows, best.indices[rows]] = True
        slope = fit.masked_fill_(~chosen, 0)
        change = slope @ dictionary
        length = slope.square().sum(1) / change.square().sum(1).clamp_min(torch.finfo(x.dtype).tiny)
        codes.addcmul_(slope, length[:, None])
        if positive:
            codes.clamp_min_(0)
        rest = x - codes @ dictionary
    return codes
