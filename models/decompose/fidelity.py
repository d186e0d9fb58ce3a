"""Codes of many samples: how well they stand for what they encode, and where they are kept."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator
from torch import Tensor

from ...neuro.store import ShardWriter, load
from .persistence import digest_of
from .rows import give_features, layer_of, table_of

#: parameters that change no code
AFTERWARDS = ("device", "memory", "progress", "checkpoint")


@dataclass(frozen=True)
class Encoded:
    """Some samples, their codes and what is reconstructed of them.

    Attributes
    ----------
    start
        Position of the first among all samples.
    x, codes, reconstructed
        Samples × units, samples × features, samples × units.
    """

    start: int
    x: Tensor
    codes: Tensor
    reconstructed: Tensor

    @property
    def rows(self) -> slice:
        """Their positions among all samples."""
        return slice(self.start, self.start + len(self.x))


def describe_codes(parts: Iterable[Encoded], loss: Callable[[Tensor], float] | None = None) -> xr.Dataset:
    """Explained variance, L0, dead share and loss recovered, and how often and how strongly features are on.

    Parameters
    ----------
    parts
        All samples, some at a time.
    loss
        Of all samples × units in the place of the activations.

    Raises
    ------
    ValueError
        If there is no loss to recover: it is the same with and without the activations.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.fidelity import Encoded, describe_codes
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    >>> report = describe_codes([Encoded(0, x, x, 0.5 * x)])
    >>> float(report["l0"]), report["frequency"].values.round(2).tolist()
    (1.0, [0.33, 0.67])
    """
    others = iter(parts)
    first = next(others)
    n, error = 0, 0.0
    # far from zero, sums of squares around it lose digits
    shift = first.x.double().mean(0)
    total, squares = torch.zeros_like(shift), torch.zeros_like(shift)
    counts = shift.new_zeros(first.codes.shape[1])
    sums = torch.zeros_like(counts)
    pairs: list[tuple[Tensor, Tensor]] = []
    for part in itertools.chain([first], others):
        x = part.x.double()
        n += len(x)
        error += float((part.reconstructed.double() - x).square().sum())
        total += (x - shift).sum(0)
        squares += (x - shift).square().sum(0)
        counts += (part.codes != 0).sum(0)
        sums += part.codes.sum(0, dtype=torch.float64)
        if loss is not None:
            pairs.append((part.x.cpu(), part.reconstructed.cpu()))
    variance = float((squares - total.square() / n).sum())
    used, strength = counts.cpu().numpy(), sums.cpu().numpy()
    with np.errstate(invalid="ignore"):
        per_feature = {"frequency": used / n, "mean_activation": strength / used}
    scalars = {
        "explained_variance": 1 - error / variance if variance > 0 else np.nan,
        "l0": float(used.sum() / n),
        "dead_share": float((used == 0).mean()),
    }
    if loss is not None:
        scalars["loss_recovered"] = _recovered(
            loss, *(torch.cat(all_of) for all_of in zip(*pairs, strict=True))
        )
    return xr.Dataset(
        {**scalars, **{name: ("feature", values) for name, values in per_feature.items()}},
        {"feature": np.arange(len(used))},
    )


def store_codes(
    folder: str | Path, parts: Iterable[Encoded], estimator: BaseEstimator, samples: xr.DataArray | None
) -> xr.DataArray:
    """Write codes block by block into a folder of shards, and open it.

    Parameters
    ----------
    folder
        Complete blocks that are there, of the same estimator and samples, are kept.
    parts
        All samples, some at a time.
    estimator
        Whose codes they are.
    samples
        Labels of the samples.

    Raises
    ------
    ValueError
        If there are no labels, or the folder holds something else.
    """
    if samples is None:
        raise ValueError("store= needs labelled activations, but X has no labels; give a labelled array.")
    told = {name: str(value) for name, value in estimator.get_params().items() if name not in AFTERWARDS}
    meta = {"weights": digest_of(estimator), "parameters": told, "of": samples.attrs.get("provenance", "")}
    axis = str(samples.dims[0])
    with ShardWriter(folder, meta, samples.sizes[axis]) as writer:
        for part in parts:
            if part.start not in writer.done:
                writer.write(part.start, {layer_of(samples): part.codes.cpu().numpy()})
        first = give_features(torch.zeros(1, part.codes.shape[1]), samples[:1], estimator)
        labels = {name: str(first.attrs[name]) for name in ("modality", "units", "provenance")}
        writer.close(table_of(samples, axis), table_of(first, "neuroid"), **labels)
    return load(folder)


def _recovered(loss: Callable[[Tensor], float], x: Tensor, reconstructed: Tensor) -> float:
    zero, ours, clean = (float(loss(given)) for given in (torch.zeros_like(x), reconstructed, x))
    if zero == clean:
        raise ValueError(
            f"the loss is {clean:g} with the activations and without; give one that depends on them."
        )
    return (zero - ours) / (zero - clean)
