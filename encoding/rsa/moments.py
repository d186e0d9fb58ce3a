"""Cross-validation of many samples from inner products alone, where similarities are linear.

Fits, predictions, pools of people and similarities are then all linear in the RDMs of models and people, so that the
inner products of these under the counts of the conditions that are trained on, or tested, are all that is needed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..engine.mixtures import RANKED, products
from .folds import Folds, Material, Sample

#: elements of weighted pairs held at once
CHUNK = 1 << 21


class _Batch(NamedTuple):
    """Divisions of samples into folds, as counts.

    ``conditions`` ``(divisions, parts, 2, conditions)``: trained on and tested; ``whole`` ``(divisions, conditions)``;
    ``fitted`` and ``tested`` ``(divisions, folds, people)``; ``everyone`` ``(divisions, people)``.
    """

    conditions: torch.Tensor
    whole: torch.Tensor
    fitted: torch.Tensor
    tested: torch.Tensor
    everyone: torch.Tensor


def is_linear(material: Material) -> bool:
    """Whether inner products tell all scores: similarities are linear and no pair is missing."""
    known = all(bool(rows.isfinite().all()) for rows in (*material.bases, material.data))
    return material.method not in RANKED and known


def mean_scores(material: Material, divisions: list[tuple[Sample, Folds]]) -> NDArray[np.float64]:
    """Mean scores and ceilings of samples divided into folds, ``(divisions, models + 2)``.

    What :func:`~cerebridge.encoding.rsa.folds.evaluate` gives for each part, averaged over test people and then over
    folds, for all divisions at once; NaN where a similarity is undefined.
    """
    n_parts, n_pairs = len(divisions[0][1].stimuli), material.data.shape[1]
    step = max(1, CHUNK // (n_pairs * 2 * n_parts))
    parts = [divisions[start : start + step] for start in range(0, len(divisions), step)]
    return np.concatenate([_mean_scores(material, _counted(material, part)) for part in parts])


def _counted(material: Material, divisions: list[tuple[Sample, Folds]]) -> _Batch:
    n, n_people = len(material.index), len(material.data)
    conditions, whole, fitted, tested, everyone = [], [], [], [], []
    for sample, folds in divisions:
        conditions.append([[np.bincount(side, minlength=n) for side in part] for part in folds.stimuli])
        whole.append(np.bincount(sample.stimuli, minlength=n))
        counts = np.zeros((1 + 2 * len(folds.train), n_people))
        counts[:, sample.people] = sample.counts * np.concatenate(
            [np.ones_like(folds.train[:1]), folds.train, folds.test]
        )
        everyone.append(counts[0])
        fitted.append(counts[1 : 1 + len(folds.train)])
        tested.append(counts[1 + len(folds.train) :])
    lists = (conditions, whole, fitted, tested, everyone)
    return _Batch(*(torch.as_tensor(np.array(each), dtype=torch.float64) for each in lists))


def _mean_scores(material: Material, batch: _Batch) -> NDArray[np.float64]:
    rows = torch.cat([*material.bases, material.data])
    n, n_people = len(material.index), len(material.data)
    places = torch.triu_indices(n, n, 1)
    shape = batch.conditions.shape[:3]
    counts = torch.cat([batch.conditions.flatten(0, 2), batch.whole])
    gram = products(rows, places, material.method, counts)
    whole = gram[-len(batch.whole) :].diagonal(dim1=1, dim2=2)[:, -n_people:]
    # divisions × parts × rows × rows
    seen, unseen = gram[: -len(batch.whole)].view(*shape, *gram.shape[1:]).unbind(2)
    own = unseen.diagonal(dim1=2, dim2=3)[..., -n_people:]
    with_people = unseen[..., -n_people:]
    share = batch.tested / batch.tested.sum(dim=-1, keepdim=True)
    mixed = _mixed(material, seen, batch.fitted)
    scores = [
        (_similarity(weights, unseen, with_people, own) * share[:, None]).sum(dim=-1).mean(dim=-1)
        for weights in mixed
    ]
    # a person is never in its own pool
    others = (batch.fitted.mT @ (batch.tested > 0).to(share)).mT
    others = others * torch.as_tensor(material.groups[:, None] != material.groups)
    among = unseen[..., -n_people:, -n_people:]
    mine = share.mean(dim=1)[:, None]
    lower = _own_similarity(others[:, None] / own.sqrt()[:, :, None], among, own)
    pool = (batch.everyone / whole.sqrt())[:, None, None].nan_to_num(0)
    upper = _similarity(pool, among, among, own)[:, :, 0]
    scores += [torch.where(mine > 0, of_people, 0).mul(mine).sum(dim=-1) for of_people in (lower, upper)]
    return torch.stack(scores, dim=-1).mean(dim=1).numpy()


def _mixed(material: Material, seen: torch.Tensor, fitted: torch.Tensor) -> list[torch.Tensor]:
    """Weights of all rows in the prediction of each model, ``(divisions, parts, folds, rows)``."""
    n_people = len(material.data)
    share = (fitted / fitted.sum(dim=-1, keepdim=True))[:, None]
    length = seen.diagonal(dim1=2, dim2=3)[..., -n_people:].sqrt()
    cross = share @ (seen[..., -n_people:] / length[:, :, None]).nan_to_num(0).mT
    found, start = [], 0
    for model, bases in zip(material.models, material.bases, strict=True):
        here = slice(start, start + len(bases))
        weights = torch.zeros_like(cross)
        if model is None:
            weights[..., start] = 1
        else:
            gram = seen[..., here, here][:, :, None].expand(-1, -1, cross.shape[2], -1, -1)
            weights[..., here] = model.weigh(gram, cross[..., here])
        found.append(weights)
        start += len(bases)
    return found


def _similarity(
    weights: torch.Tensor, gram: torch.Tensor, with_people: torch.Tensor, own: torch.Tensor
) -> torch.Tensor:
    """Similarity of mixtures of rows, ``(…, mixtures, rows)``, to all people, ``(…, mixtures, people)``."""
    length = ((weights @ gram) * weights).sum(dim=-1, keepdim=True)
    return _ratio(weights @ with_people, length * own[:, :, None])


def _own_similarity(weights: torch.Tensor, among: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Similarity of the mixture of people in each row of ``weights`` to the person of that row."""
    weights = weights.nan_to_num(0, posinf=0)
    with_all = weights @ among
    return _ratio(with_all.diagonal(dim1=2, dim2=3), (with_all * weights).sum(dim=-1) * own)


def _ratio(product: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
    """Similarity from an inner product and the product of both squared lengths; NaN where one is rounding."""
    tiny = torch.finfo(square.dtype).eps ** 1.5 * square.amax(dim=0, keepdim=True)
    return product / torch.where(square > tiny, square, torch.nan).sqrt()
