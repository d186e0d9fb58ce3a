"""How few units of an MLP a network needs: active shares at an equal error, and at an equal loss of perplexity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from ... import __version__
from ..devices import resolve_device
from ..interventions import intervene
from ..selectors import real_tokens
from ..taps import Inputs, evaluating, first_tensor, run_network
from .curves import fit_curve
from .states import cut_batches, layers_of, read_states

#: steps of a layer's threshold between none and all silenced
LEVELS = 65536
#: where the search for a setting ends, as a share of its range
CLOSE = 1e-6


def report_sparsity(
    net: nn.Module,
    inputs: Inputs,
    layers: Sequence[str] | None = None,
    *,
    increase: float = 0.01,
    cett: float | None = None,
    batch_size: int = 8,
    device: str | torch.device = "auto",
) -> xr.Dataset:
    """Find how many units of each MLP a language model needs if its perplexity may rise by a share.

    A unit's contribution to a token is the norm of what it adds, ``|a_i| ‖W_i‖``; units that contribute less than a
    layer's threshold are silenced. ``"cett"`` chooses thresholds so that in every layer the cumulative error of what
    is silenced (norm of the missing over norm of the whole, mean over tokens) has one value, ``"fixed"`` takes one
    threshold for all layers and ``"top_k"`` as many units for every token; each as far as perplexity allows.

    Parameters
    ----------
    net
        A causal language model whose output is, or begins with, logits; with ``cett``, any network.
    inputs
        Token ids, or tensors by name with ``input_ids``; padding is left out.
    layers
        The linear layers that read the MLPs' units (down-projections). Default: those that
        :func:`models.find_layers` finds.
    increase
        Of the perplexity: 0.01 for "PPL-1 %".
    cett
        Measure at this cumulative error instead, without perplexity: 0 to 1, only ``"cett"``.
    batch_size, device
        As everywhere.

    Returns
    -------
    xarray.Dataset
        ``active_share`` (of units and tokens), ``threshold`` (NaN for ``"top_k"``) and ``cett`` of ``rule × layer``;
        of ``rule``: ``setting`` (the common error, the threshold, or the share of units kept) and, without ``cett``,
        ``perplexity_ratio``.
        ``attrs["perplexity"]`` is that of the whole network.

    Raises
    ------
    ValueError
        If a layer is no linear layer, the network is no causal language model, or options are out of range.

    References
    ----------
    Luo et al. (2025). Sparsing law: towards large language models with greater activation sparsity. ICML. Zhang et al.
    (2024). ReLU² wins: discovering efficient activation functions for sparse LLMs (CETT).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models import decompose
    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(4, 3))
    >>> units = torch.tensor([[1.0, -1, -1, -1], [-1, 2, -1, -1]])
    >>> decompose.report_sparsity(net, units, ["1"], cett=0.0)["active_share"].values.tolist()
    [[0.25]]
    """
    if cett is not None and not 0 <= cett <= 1:
        raise ValueError(f"cett is {cett!r}; give a cumulative error from 0 to 1.")
    if not increase > 0:
        raise ValueError(f"increase is {increase!r}; give by what share perplexity may rise, above 0.")
    where = resolve_device(device)
    names = [layer.removesuffix(":input") for layer in layers_of(net, "mlp post", layers)]
    weights = {layer: _weights(net, layer) for layer in names}
    states = read_states(
        net, inputs, [f"{layer}:input" for layer in names], batch_size=batch_size, device=where
    )
    mlps = {layer: _Mlp(states.values[f"{layer}:input"], weights[layer].to(where)) for layer in names}
    facts: dict[str, Any] = {
        "report": "sparsity",
        "increase": increase,
        "cett": cett,
        "cerebridge": __version__,
    }
    if cett is not None:
        found = {"cett": _Found(cett, {layer: mlp.threshold(cett) for layer, mlp in mlps.items()})}
        return _dataset(found, mlps, {"provenance": json.dumps(facts)})
    with evaluating(net, where):
        batches = list(cut_batches(inputs, batch_size, where))
        _require_causal(net, batches[0])
        whole = perplexity(net, batches)
        found = {
            method: _search(net, batches, mlps, method, whole, 1 + increase)
            for method in ("cett", "fixed", "top_k")
        }
    return _dataset(found, mlps, {"provenance": json.dumps(facts), "perplexity": whole})


def fit_activation_ratio(
    amount: Any, share: Any, form: Literal["power", "exponential"] = "power", *, n_starts: int = 32
) -> dict[str, float]:
    """Describe how the active share goes with the amount of training data.

    Parameters
    ----------
    amount
        Of data (tokens), positive.
    share
        Active share at each amount.
    form
        ``"power"``: ``limit - c D^-alpha`` (networks with SiLU); ``"exponential"``: ``exp(b - c D^alpha) + limit``
        (ReLU). ``D`` is the amount as a share of the largest.
    n_starts
        Starts of the fit.

    Returns
    -------
    dict
        ``limit``, ``c``, ``alpha``, of the second form ``b`` (NaN where the share rises), and ``r2``.

    Raises
    ------
    ValueError
        If amounts are not positive or too few, or the form is unknown.

    References
    ----------
    Luo et al. (2025). Sparsing law: towards large language models with greater activation sparsity. ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models import decompose
    >>> amount = np.arange(1, 20) / 19
    >>> fitted = decompose.fit_activation_ratio(amount, 0.4 - 0.02 * amount**-0.5)
    >>> round(fitted["limit"], 3), round(fitted["alpha"], 3)
    (0.4, 0.5)
    """
    amount = np.asarray(amount, float)
    if not (amount > 0).all():
        raise ValueError("amounts of data must be positive.")
    scaled = amount / amount.max()
    if form == "power":
        fit = fit_curve(lambda d, alpha: d**-alpha, scaled, share, [(1e-2, 5)], n_starts=n_starts)
        return {"limit": fit.offset, "c": -fit.scale, "alpha": float(fit.parameters[0]), "r2": fit.r2}
    if form != "exponential":
        raise ValueError(f"form={form!r} is unknown; use 'power' or 'exponential'.")
    bounds = [(1e-2, 1e2), (1e-2, 5)]
    fit = fit_curve(lambda d, c, alpha: np.exp(-c * d**alpha), scaled, share, bounds, n_starts=n_starts)
    c, alpha = (float(value) for value in fit.parameters)
    b = float(np.log(fit.scale)) if fit.scale > 0 else float("nan")
    return {"limit": fit.offset, "c": c, "alpha": alpha, "b": b, "r2": fit.r2}


@dataclass(eq=False)
class _Mlp:
    """The units of one layer: what they are for each token (tokens × units), and their weights (units × outputs)."""

    units: Tensor
    weights: Tensor
    known: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.norms = self.weights.norm(dim=1)
        self.contributions = self.units.abs() * self.norms
        self.whole = (self.units @ self.weights).norm(dim=1)
        self.step = float(self.contributions.max()) / (LEVELS - 1)

    def error(self, silenced: Tensor) -> float:
        """The cumulative error of tail truncation: missing over whole, mean over the tokens that have a whole."""
        missing = ((self.units * silenced) @ self.weights).norm(dim=1)
        some = self.whole > 0
        return float((missing[some] / self.whole[some]).double().mean()) if bool(some.any()) else 0.0

    def error_at(self, level: int) -> float:
        if level not in self.known:
            # the last level lies above all: what rounding leaves of the largest is silenced, too
            threshold = torch.inf if level == LEVELS else level * self.step
            self.known[level] = self.error(self.contributions < threshold)
        return self.known[level]

    def threshold(self, target: float) -> float:
        """The threshold at which the error crosses the target from below."""
        low, high = 0, LEVELS
        if self.error_at(high) <= target:
            return float("inf")
        # errors need not rise from level to level, but they are at most the target at low and above it at high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.error_at(middle) <= target else (low, middle)
        return low * self.step


@dataclass(frozen=True)
class _Found:
    """What a search ended at: the setting, and thresholds by layer (or none and a share of units)."""

    setting: float
    thresholds: dict[str, float]
    ratio: float = float("nan")


def _search(
    net: nn.Module, batches: list[Any], mlps: Mapping[str, _Mlp], method: str, whole: float, target: float
) -> _Found:
    """The setting that silences most while the perplexity stays below ``target`` times the whole network's."""
    top = {
        "cett": 1.0,
        "top_k": 1.0,
        "fixed": 1.001 * max(float(mlp.contributions.max()) for mlp in mlps.values()),
    }[method]

    def attempt(setting: float) -> _Found:
        if method == "top_k":
            thresholds: dict[str, float] = {}
            change = {f"{layer}:input": partial(_keep_top, mlp, 1 - setting) for layer, mlp in mlps.items()}
        else:
            thresholds = {
                layer: mlp.threshold(setting) if method == "cett" else setting for layer, mlp in mlps.items()
            }
            change = {
                f"{layer}:input": partial(_keep_above, mlp, thresholds[layer]) for layer, mlp in mlps.items()
            }
        with intervene(net, change):
            return _Found(setting, thresholds, perplexity(net, batches) / whole)

    low, high = attempt(0.0), attempt(top)
    if high.ratio <= target:
        return high
    # perplexity need not rise with every step either: it is allowed at low, and not at high
    while high.setting - low.setting > CLOSE * top and target - low.ratio > CLOSE:
        middle = attempt((low.setting + high.setting) / 2)
        low, high = (middle, high) if middle.ratio <= target else (low, middle)
    return low


def _keep_above(mlp: _Mlp, threshold: float, units: Tensor) -> Tensor:
    return units * (units.abs() * mlp.norms >= threshold)


def _keep_top(mlp: _Mlp, share: float, units: Tensor) -> Tensor:
    kept = max(0, min(units.shape[-1], round(share * units.shape[-1])))
    index = (units.abs() * mlp.norms).topk(kept, dim=-1).indices
    return torch.zeros_like(units).scatter(-1, index, units.gather(-1, index))


def _dataset(found: Mapping[str, _Found], mlps: Mapping[str, _Mlp], attrs: dict[str, Any]) -> xr.Dataset:
    rows: dict[str, list[list[float]]] = {"active_share": [], "threshold": [], "cett": []}
    for method, each in found.items():
        shares, errors = [], []
        for layer, mlp in mlps.items():
            if method == "top_k":
                silenced = _keep_top(mlp, 1 - each.setting, mlp.units) == 0
            else:
                silenced = (mlp.contributions < each.thresholds[layer]) | (mlp.contributions == 0)
            shares.append(1 - float(silenced.double().mean()))
            errors.append(mlp.error(silenced))
        rows["active_share"].append(shares)
        rows["threshold"].append([each.thresholds.get(layer, np.nan) for layer in mlps])
        rows["cett"].append(errors)
    variables: dict[str, Any] = {name: (("rule", "layer"), np.array(values)) for name, values in rows.items()}
    kept = [1 - each.setting if name == "top_k" else each.setting for name, each in found.items()]
    variables["setting"] = ("rule", kept)
    if "perplexity" in attrs:
        variables["perplexity_ratio"] = ("rule", [each.ratio for each in found.values()])
    return xr.Dataset(variables, {"rule": list(found), "layer": list(mlps)}, attrs)


def perplexity(net: nn.Module, batches: Sequence[Any]) -> float:
    """Exponential of the mean negative log-likelihood of each token after the first, given those before it.

    Parameters
    ----------
    net
        Gives logits (batch × tokens × vocabulary), or a tuple or mapping that begins with them.
    batches
        Token ids, or mappings with ``input_ids`` and, for padded ones, ``attention_mask``.

    Raises
    ------
    ValueError
        If there are no token ids, or the network does not give logits for each.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.sparsity import perplexity
    >>> round(perplexity(lambda ids: torch.zeros(*ids.shape, 7), [torch.tensor([[1, 2, 3]])]), 4)
    7.0
    """
    total, count = 0.0, 0
    for batch in batches:
        ids, logits = _ids(batch), _logits(net, batch)
        real = real_tokens(batch)
        mask = torch.ones_like(ids, dtype=torch.bool) if real is None else real.bool()
        scored = mask[:, 1:] & mask[:, :-1]
        logs = torch.log_softmax(logits[:, :-1].double(), dim=-1)
        likely = logs.gather(-1, ids[:, 1:, None])[..., 0][scored]
        total, count = total - float(likely.detach().sum()), count + int(scored.sum())
    if not count:
        raise ValueError(
            "no sequence has two tokens; perplexity needs a token before each that is predicted."
        )
    return float(np.exp(total / count))


def _ids(batch: Any) -> Tensor:
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else batch
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.ndim != 2:
        raise ValueError(
            "perplexity needs token ids (sequences × tokens, whole numbers); give them, or cett=."
        )
    return ids


def _logits(net: nn.Module, batch: Any) -> Tensor:
    output, ids = first_tensor(run_network(net, batch)), _ids(batch)
    if output.ndim != 3 or output.shape[:2] != ids.shape or output.shape[2] <= int(ids.max()):
        raise ValueError(
            f"the network gives the shape {tuple(output.shape)} for {tuple(ids.shape)} token ids, no logits of a "
            "vocabulary; give a language model, or cett=."
        )
    return output


def _require_causal(net: nn.Module, batch: Any) -> None:
    """Refuse networks whose logits know of later tokens."""
    ids = _ids(batch)
    before = _logits(net, batch)
    other = ids.clone()
    middle = ids.shape[1] // 2
    other[:, middle:] = torch.where(ids[:, middle:] == ids.min(), ids.max(), ids.min())
    after = _logits(net, {**batch, "input_ids": other} if isinstance(batch, Mapping) else other)
    seen = (before - after)[:, :middle].abs()
    if seen.numel() and float(seen.max()) > 1e-3 * float(before.abs().max()):
        raise ValueError(
            "the network's logits change with tokens that come later, so that it is no causal language model and "
            "has no perplexity; give cett= instead."
        )


def _weights(net: nn.Module, layer: str) -> Tensor:
    """What each unit adds (units × outputs)."""
    module = dict(net.named_modules()).get(layer)
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        return module.weight.detach().T.clone()
    # transformers' Conv1D keeps inputs × outputs
    if type(module).__name__ == "Conv1D" and isinstance(weight, Tensor) and weight.ndim == 2:
        return weight.detach().clone()
    raise ValueError(
        f"{layer!r} is {'no layer of the network' if module is None else type(module).__name__}; name the "
        "linear layers that read the units of its MLPs."
    )
