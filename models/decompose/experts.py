"""Units that are experts for a relation: how well they detect it, and what is lost without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from ...neuro.assembly import quoted
from ...neuro.progress import track
from ..changes import Ablate
from ..devices import resolve_device
from ..interventions import intervene
from .selectivity import false_discovery, few, neuroid_coords, read_labels, tell

#: units whose scores are sorted at a time
BLOCK = 2048
#: sums in another order differ in their last digits
CLOSE = 1e-10

Array = NDArray[Any]


def find_expert_units(
    activations: xr.DataArray,
    relation: str | Sequence[Any] = "relation",
    *,
    relations: Sequence[Any] | None = None,
    prompt: str | None = None,
    over: Literal["max", "mean"] = "max",
    n_permutations: int = 200,
    device: str | torch.device = "auto",
    random_state: int = 0,
    progress: bool | None = None,
) -> xr.Dataset:
    """Rank units by how well they tell the prompts that express a relation from all others.

    A unit's expertise is the average precision of its activation as a detector: positives are the prompts of the
    relation, negatives those of the other relations.

    Parameters
    ----------
    activations
        ``presentation × neuroid``: one row a prompt, or (with ``prompt``) one row a token.
    relation
        Coordinate along ``presentation``, or one label a row.
    relations
        Which to look for; default: all.
    prompt
        Coordinate that is equal for the tokens of one prompt; a unit's score is then taken ``over`` them.
    over
        ``"max"`` (default) or ``"mean"``.
    n_permutations
        Permutations of the labels of prompts, for the null distribution; 0 for none.
    device, progress
        As everywhere.
    random_state
        Seed of the permutations.

    Returns
    -------
    xarray.Dataset
        ``expertise``, ``rank`` (0 is the best unit) and, with permutations, ``p``, ``p_fdr`` (Benjamini and Hochberg,
        over units) and ``p_max`` (family-wise) of ``relation × neuroid``; ``prevalence`` (what chance comes to),
        ``null_mean`` and ``null_max`` (mean over permutations of the mean and the largest expertise) of ``relation``.

    Raises
    ------
    ValueError
        If labels are missing, there is one relation only, one has no prompts, or values are not finite.

    References
    ----------
    Suau, Zappella & Apostoloff (2022). Self-conditioning pre-trained language models. ICML (expert units). Liu et al.
    (2025). On relation-specific neurons in large language models.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge import neuro
    >>> from cerebridge.models import decompose
    >>> values = np.random.default_rng(0).standard_normal((40, 5))
    >>> values[:20, 3] += 9
    >>> prompts = {"stimulus_id": range(40), "relation": np.repeat(["capital", "language"], 20)}
    >>> units = {"neuroid_id": range(5)}
    >>> net = neuro.assemble(values, presentation=prompts, neuroid=units, modality="activation", units="a.u.")
    >>> experts = decompose.find_expert_units(net, n_permutations=99)
    >>> experts["rank"].sel(relation="capital").values[3].item(), float(experts["expertise"].max())
    (0, 1.0)
    """
    labels = read_labels(activations, relation)
    scores, labels = _prompts(activations, labels, prompt, over)
    known = list(dict.fromkeys(labels.tolist()))
    if len(known) < 2:
        raise ValueError(
            f"all prompts express the relation {known[0]!r}; give prompts of other relations as negatives."
        )
    wanted = known if relations is None else list(relations)
    for name in wanted:
        if name not in known:
            raise ValueError(f"no prompt expresses the relation {name!r}; there are {few(known)}.")
    if not isinstance(n_permutations, int | np.integer) or n_permutations < 0:
        raise ValueError(f"n_permutations is {n_permutations!r}; give how many, 0 for none.")
    generator = np.random.default_rng(random_state)
    orders = [np.arange(len(labels)), *(generator.permutation(len(labels)) for _ in range(n_permutations))]
    where = resolve_device(device)
    found = {
        name: torch.from_numpy(np.stack([(labels == name)[order] for order in orders])).to(where)
        for name in wanted
    }
    tallies = [_Tally(n_permutations) for _ in wanted]
    for start in track(range(0, scores.shape[1], BLOCK), "ranking units", show=progress):
        block = torch.from_numpy(np.ascontiguousarray(scores[:, start : start + BLOCK])).to(where)
        for tally, precision in zip(tallies, average_precision(block, list(found.values())), strict=True):
            tally.add(precision.cpu().numpy())
    prevalence = [float((labels == name).mean()) for name in wanted]
    facts = {"over": over, "random_state": random_state, "n_permutations": int(n_permutations)}
    return _experts(activations, wanted, prevalence, tallies, facts)


def ablate_experts(
    net: nn.Module,
    experts: xr.Dataset,
    score: Callable[[nn.Module], Mapping[Any, float]],
    *,
    n_units: int,
    n_controls: int = 5,
    random_state: int = 0,
    progress: bool | None = None,
) -> xr.Dataset:
    """Take the best experts of each relation out of the network, and score every relation without them.

    Parameters
    ----------
    net
        The network that the activations came from.
    experts
        From :func:`find_expert_units`; its units carry ``layer`` and ``channel``. Use other prompts (other entities)
        to find experts than to score them.
    score
        Given the network, returns a score (accuracy) for each relation by name.
    n_units
        How many experts are set to zero, everywhere in their layers' outputs.
    n_controls
        How often as many random other units of the same layers are set to zero instead.
    random_state
        Seed of the controls.
    progress
        As everywhere.

    Returns
    -------
    xarray.Dataset
        ``score`` of ``ablated × tested`` relations, ``control`` (``draw × ablated × tested``), ``clean``
        (``tested``) and ``unit`` (``ablated × place``), the ids of what was taken out.

    Raises
    ------
    ValueError
        If units lack ``layer`` or ``channel``, or are too few for experts and controls.

    References
    ----------
    Liu et al. (2025). On relation-specific neurons in large language models.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models, neuro
    >>> from cerebridge.models import decompose
    >>> net = torch.nn.Sequential(torch.nn.Identity())
    >>> eye = neuro.assemble(
    ...     [[1.0, 0, 0, 0], [0, 1, 0, 0]],
    ...     presentation={"stimulus_id": [0, 1], "relation": ["a", "b"]},
    ...     neuroid={"neuroid_id": range(4), "layer": "0", "channel": range(4)},
    ...     modality="activation",
    ...     units="a.u.",
    ... )
    >>> experts = decompose.find_expert_units(eye, n_permutations=0)
    >>> score = lambda net: dict(zip("ab", net(torch.ones(1, 4))[0].tolist()))
    >>> decompose.ablate_experts(net, experts, score, n_units=1, n_controls=2)["score"].values.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    missing = {"layer", "channel"} - set(experts.coords)
    if missing:
        raise ValueError(
            f"the experts' units have no {sorted(missing)[0]!r}; extract them with models.extract."
        )
    units = experts[["layer", "channel"]].to_dataframe()[["layer", "channel"]].astype({"channel": int})
    units["layer"] = [_whole(layer) for layer in units["layer"]]
    if not 0 < n_units <= len(units):
        raise ValueError(f"n_units is {n_units}; give a number of units from 1 to {len(units)}.")
    clean = dict(score(net))
    tested = list(clean)
    generator = np.random.default_rng(random_state)
    wanted = experts["relation"].values
    rows = [np.flatnonzero(experts["rank"].sel(relation=name).values < n_units) for name in wanted]
    scores = np.full((1 + n_controls, len(wanted), len(tested)), np.nan)
    for k, best in enumerate(track(rows, "ablating experts", show=progress)):
        for draw in range(1 + n_controls):
            out = best if draw == 0 else _matched(units, best, generator)
            found = _score_without(net, units.iloc[out], score)
            scores[draw, k] = [found[name] for name in tested]
    ids = experts["neuroid_id"].values
    variables = {
        "score": (("ablated", "tested"), scores[0]),
        "control": (("draw", "ablated", "tested"), scores[1:]),
        "clean": ("tested", list(clean.values())),
        "unit": (("ablated", "place"), np.stack([ids[best] for best in rows])),
    }
    return xr.Dataset(variables, {"ablated": wanted, "tested": tested}, dict(experts.attrs))


def average_precision(scores: Tensor, positives: Sequence[Tensor]) -> list[Tensor]:
    """Average precision of every column of scores, as scikit-learn defines it, for many labellings at once.

    Parameters
    ----------
    scores
        Prompts × units.
    positives
        Tensors of labellings × prompts, boolean; the scores are sorted once for all of them.

    Returns
    -------
    list of torch.Tensor
        Labellings × units each, float64. Equal scores count as one threshold.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.experts import average_precision
    >>> scores = torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    >>> average_precision(scores, [torch.tensor([[True, False, True]])])[0].round(decimals=3).tolist()
    [[0.833, 0.667]]
    """
    ordered, order = scores.sort(dim=0, descending=True)
    n = len(scores)
    number = torch.arange(n, device=scores.device)[:, None]
    ends = torch.full(ordered.shape, n - 1, device=scores.device)
    ends[:-1] = torch.where(ordered[1:] != ordered[:-1], number[:-1], n - 1)
    # every place looks at the end of its run of equal scores, the next one from it on
    ends = ends.flip(0).cummin(0).values.flip(0)
    out = []
    for labellings in positives:
        rows = []
        for labelling in labellings:
            hits = labelling[order].double()
            precision = hits.cumsum(0).gather(0, ends) / (ends + 1)
            rows.append((hits * precision).sum(0) / labelling.sum())
        out.append(torch.stack(rows))
    return out


class _Tally:
    """Expertise of all units for one relation beside what permuted labels give, of which only sums are kept."""

    def __init__(self, n_permutations: int) -> None:
        self.observed: list[Array] = []
        self.reached: list[Array] = []
        self.largest = np.zeros(n_permutations)
        self.total = np.zeros(n_permutations)

    def add(self, precision: Array) -> None:
        """Take more units: the true labels' average precision, then the permuted ones' (1 + permutations × units)."""
        observed, null = precision[0], precision[1:]
        self.observed.append(observed)
        self.reached.append((null >= observed - CLOSE).sum(axis=0))
        if len(null):
            self.largest = np.maximum(self.largest, null.max(axis=1))
            self.total += null.sum(axis=1)


def _experts(
    activations: xr.DataArray,
    wanted: list[Any],
    prevalence: list[float],
    tallies: Sequence[_Tally],
    facts: dict[str, Any],
) -> xr.Dataset:
    observed = np.stack([np.concatenate(tally.observed) for tally in tallies])
    rank = np.argsort(np.argsort(-observed, axis=1, kind="stable"), axis=1, kind="stable")
    both = ("relation", "neuroid")
    variables: dict[str, Any] = {"expertise": (both, observed), "rank": (both, rank)}
    n = facts["n_permutations"]
    if n:
        p = (1 + np.stack([np.concatenate(tally.reached) for tally in tallies])) / (n + 1)
        largest = np.stack([np.sort(tally.largest) for tally in tallies])
        above = [
            n - np.searchsorted(null, each - CLOSE) for null, each in zip(largest, observed, strict=True)
        ]
        variables |= {
            "p": (both, p),
            "p_fdr": (both, np.stack([false_discovery(each) for each in p])),
            "p_max": (both, (1 + np.stack(above)) / (n + 1)),
            "null_mean": ("relation", [tally.total.mean() / observed.shape[1] for tally in tallies]),
            "null_max": ("relation", largest.mean(axis=1)),
        }
    variables["prevalence"] = ("relation", prevalence)
    coords = {"relation": wanted, **neuroid_coords(activations)}
    return xr.Dataset(variables, coords, {"provenance": tell(facts, activations)})


def _prompts(activations: xr.DataArray, labels: Array, prompt: str | None, over: str) -> tuple[Array, Array]:
    """Scores of prompts × units, and the prompts' labels."""
    if over not in ("max", "mean"):
        raise ValueError(f"over={over!r} is unknown; use 'max' or 'mean'.")
    values = activations.values
    if prompt is None:
        return values, labels
    names = read_labels(activations, prompt)
    number = pd.factorize(names)[0]
    first = np.unique(number, return_index=True)[1]
    mixed = labels != labels[first][number]
    if mixed.any():
        raise ValueError(
            f"tokens of the prompt {quoted(names[mixed.argmax()])} have several relations; give them one."
        )
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange(len(first)))
    scores = (np.maximum if over == "max" else np.add).reduceat(values[order], starts, axis=0)
    if over == "mean":
        scores = scores / np.bincount(number)[:, None]
    return scores, labels[first]


def _whole(layer: str) -> str:
    """The layer at all its tokens, whichever of them were read."""
    name, *parts = layer.split(":")
    return ":".join([name, *(part for part in parts if part.startswith(("input", "heads")))])


def _matched(units: pd.DataFrame, best: Array, generator: np.random.Generator) -> Array:
    """As many other units of each layer."""
    out = []
    for layer, count in units["layer"].iloc[best].value_counts(sort=False).items():
        others = np.setdiff1d(np.flatnonzero(units["layer"] == layer), best)
        if len(others) < count:
            raise ValueError(
                f"the layer {layer!r} has {len(others)} units besides its {count} experts; lower n_units= or set "
                "n_controls=0."
            )
        out.append(generator.choice(others, count, replace=False))
    return np.concatenate(out)


def _score_without(
    net: nn.Module, units: pd.DataFrame, score: Callable[[nn.Module], Mapping[Any, float]]
) -> dict[Any, float]:
    changes = {
        str(layer): Ablate(units=sorted(set(group["channel"].tolist())))
        for layer, group in units.groupby("layer")
    }
    with intervene(net, changes):
        return dict(score(net))
