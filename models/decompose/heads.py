"""Which attention heads, and which source positions, the features of a dictionary of attention outputs come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from .autoencoders import SparseAutoencoder
from .samples import open_units


def attribute_heads(
    sae: SparseAutoencoder,
    X: Any = None,
    *,
    n_heads: int,
    attention: Any = None,
    values: Any = None,
    features: Sequence[int] | None = None,
) -> xr.Dataset:
    """Attribute features to heads and source positions.

    Parameters
    ----------
    sae
        Fitted to the outputs of all heads side by side, as they enter the output projection
        (``models.extract(net, stimuli, ["blocks.3.attn.proj:input"])``).
    X
        Samples × (heads · head size), whose pre-activations are split.
    n_heads
        Number of heads.
    attention, values
        Sequences × heads × queries × sources and sequences × heads × sources × head size, whose product is ``X`` (or
        stands for it): the split goes on to source positions, with the attention taken as it is.
    features
        Which ones; default: all. The split by sources has samples × features × heads × sources numbers.

    Returns
    -------
    xarray.Dataset
        ``weight_share`` (``feature × head``): norm of a head's part of the decoder direction, as a share of the sum
        over heads. With samples, ``head_contribution`` (``presentation × feature × head``) and ``constant``
        (``feature``), which add up to ``preactivation``; with attention, ``source_contribution`` (… ``× source``),
        which adds up to ``head_contribution``.

    Raises
    ------
    ValueError
        If units do not divide into heads, features are unknown, or attention and values are not those of ``X``.

    References
    ----------
    Kissane et al. (2024). Interpreting attention layer outputs with sparse autoencoders. arXiv:2406.17759.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose import SparseAutoencoder, attribute_heads
    >>> x = torch.randn(100, 6, generator=torch.Generator().manual_seed(0))
    >>> report = attribute_heads(SparseAutoencoder(8, k=2, max_epochs=1).fit(x), x, n_heads=3)
    >>> report["weight_share"].shape, bool(abs(report["weight_share"].sum("head") - 1).max() < 1e-6)
    ((8, 3), True)
    """
    module = sae.module().double()
    encoder, decoder, bias = module.encoder.detach(), module.decoder.detach(), module.bias.detach()
    chosen = _chosen(features, len(encoder))
    encoder, decoder = (_by_head(weights[chosen], n_heads) for weights in (encoder, decoder))
    norms = decoder.norm(dim=2)
    report = xr.Dataset(
        {"weight_share": (("feature", "head"), (norms / norms.sum(1, keepdim=True)).numpy())},
        {"feature": chosen.numpy(), "head": np.arange(n_heads)},
    )
    if (attention is None) != (values is None):
        raise ValueError("attention and values belong together; give both or neither.")
    x = None if X is None else open_units(sae, X, reset=False).all().detach().cpu().double()
    sources = None
    if attention is not None:
        pattern, moved = (torch.as_tensor(np.asarray(given)).double() for given in (attention, values))
        ours = _mixed(pattern, moved, n_heads, encoder)
        if x is not None and (ours.shape != x.shape or not torch.allclose(ours, x, rtol=1e-3, atol=1e-4)):
            raise ValueError(
                "attention × values do not give X; pass those of the same samples and layer, sequences first."
            )
        x = ours if x is None else x
        sources = torch.einsum("shqk,fhd,shkd->sqfhk", pattern, encoder, moved).flatten(0, 1)
    if x is None:
        return report
    constant = module.encoder_bias.detach()[chosen] - (encoder * _by_head(bias[None], n_heads)).sum((1, 2))
    by_head = torch.einsum("nhd,fhd->nfh", _by_head(x, n_heads), encoder)
    report = report.assign(
        head_contribution=(("presentation", "feature", "head"), by_head.numpy()),
        constant=("feature", constant.numpy()),
        preactivation=(("presentation", "feature"), (by_head.sum(2) + constant).numpy()),
    )
    if sources is not None:
        report = report.assign(
            source_contribution=(("presentation", "feature", "head", "source"), sources.numpy())
        )
    return report


def _chosen(features: Sequence[int] | None, n: int) -> Tensor:
    chosen = torch.arange(n) if features is None else torch.as_tensor(np.asarray(features, dtype=np.int64))
    if chosen.ndim != 1 or not len(chosen) or int(chosen.min()) < 0 or int(chosen.max()) >= n:
        raise ValueError(f"features={features!r} are not among the {n} of the dictionary; count from 0.")
    return chosen


def _by_head(weights: Tensor, n_heads: int) -> Tensor:
    """The last axis cut into heads."""
    if n_heads < 1 or weights.shape[-1] % n_heads:
        raise ValueError(
            f"{weights.shape[-1]} units do not divide into n_heads={n_heads}; give the number of heads of the layer."
        )
    return weights.reshape(*weights.shape[:-1], n_heads, -1)


def _mixed(pattern: Tensor, values: Tensor, n_heads: int, encoder: Tensor) -> Tensor:
    """What the heads give: samples × (heads · head size)."""
    fits = pattern.ndim == values.ndim == 4 and pattern.shape[:2] == values.shape[:2]
    size = (n_heads, encoder.shape[2])
    if not fits or pattern.shape[3] != values.shape[2] or (values.shape[1], values.shape[3]) != size:
        raise ValueError(
            f"attention has the shape {tuple(pattern.shape)} and values {tuple(values.shape)}; give sequences × "
            f"{n_heads} × queries × sources and sequences × {n_heads} × sources × {encoder.shape[2]}."
        )
    return (pattern @ values).transpose(1, 2).flatten(2).flatten(0, 1)
