"""Influential neuron paths: one unit a layer that together carry what a network says of an input."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from ... import __version__
from ...neuro.assembly import Table
from ...neuro.progress import track
from ..changes import Change
from ..devices import resolve_device
from ..interventions import intervene
from ..taps import evaluating, first_tensor
from .states import layers_of

Rule = Literal["joint", "share", "activation", "influence"]
RULES: tuple[Rule, ...] = ("joint", "share", "activation", "influence")


def find_neuron_path(
    net: nn.Module,
    inputs: Tensor,
    target: int | Sequence[int] | None = None,
    layers: Sequence[str] | None = None,
    *,
    rules: Sequence[Rule] = RULES,
    score: Literal["probability", "logit"] = "probability",
    token: int | None = 0,
    n_steps: int = 20,
    n_candidates: int | None = 16,
    batch_size: int = 64,
    presentation: Table | None = None,
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.Dataset:
    """Find the unit of each layer that, together with those before it, an output is attributed to most.

    The joint attribution of units ``w`` is ``(Σ w̄) · ∫₀¹ Σ ∂F(α w̄)/∂w dα``: all of them are scaled together from zero
    to what they are. Layer by layer the unit is chosen whose joint attribution with the path so far is largest.

    As a product of sums it grows with any activation once the path matters: a unit that is more active than those
    that carry the output joins the path although nothing depends on it. The rule ``"share"`` asks for a unit's own part
    instead, which is zero for such units.

    Parameters
    ----------
    net
        A network whose output is batch × classes.
    inputs
        One batch.
    target
        Class of each input; default: the one that the network gives.
    layers
        Layers in order whose channels are units (batch × units, or batch × tokens × units). Default: the neurons of
        MLPs after their nonlinearity, as :func:`models.find_layers` finds them.
    rules
        ``"joint"`` as above; ``"share"``: the unit whose own part ``w̄ ∫₀¹ ∂F(α w̄)/∂w dα``, scaled together with the
        path so far, is largest; and for comparison ``"activation"`` (the most active unit of each layer) and
        ``"influence"`` (what the path so far does to the unit times what this does to the output).
    score
        ``F``: ``"probability"`` (default) or ``"logit"`` of the class.
    token
        Whose units are meant: by default the first (the class token of vision transformers); ``None`` for all at once.
    n_steps
        Steps of the integral.
    n_candidates
        Units a layer whose attribution is computed; they are those with the largest when the whole layer is scaled.
        ``None`` for all units, which is exact and slow.
    batch_size
        Forward passes at a time.
    presentation
        Labels of the inputs, with ``stimulus_id``; default: their numbers.
    device, progress
        As everywhere.

    Returns
    -------
    xarray.Dataset
        ``unit`` and ``activation`` of ``rule × presentation × layer``; ``attribution`` (joint), and the score with the
        path ``zeroed`` and ``doubled`` of ``rule × presentation``; ``clean`` score and ``target`` of ``presentation``.

    Raises
    ------
    ValueError
        If the network has no MLPs, a layer gives something else than units, or there is no such class or token.

    References
    ----------
    Wang et al. (2025). Discovering influential neuron path in vision transformers. ICLR. Lu et al. (2021). Influence
    patterns for explaining information flow in BERT. NeurIPS.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models import decompose
    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(3, 2, bias=False))
    >>> net[1].weight.data = torch.tensor([[0.0, 1, 0], [0, 0, 0]])
    >>> path = decompose.find_neuron_path(net, torch.tensor([[9.0, 2, 1]]), 0, ["0"], score="logit")
    >>> path["unit"].values[:, 0, 0].tolist(), path["zeroed"].values[0].tolist()
    ([1, 1, 0, 1], [0.0])
    """
    unknown = [rule for rule in rules if rule not in RULES]
    if unknown or not len(rules):
        raise ValueError(f"rules={list(rules)!r}: use {', '.join(map(repr, RULES))}.")
    if score not in ("probability", "logit"):
        raise ValueError(f"score={score!r} is unknown; use 'probability' or 'logit'.")
    for option, value in (("n_steps", n_steps), ("n_candidates", n_candidates)):
        if value is not None and value < 1:
            raise ValueError(f"{option} is {value}; give at least 1.")
    if not isinstance(inputs, Tensor) or not inputs.numel() or not torch.isfinite(inputs).all():
        raise ValueError(
            "the inputs are no tensor of finite values; give one batch, as the network takes it."
        )
    names = layers_of(net, "mlp post", layers)
    where = resolve_device(device)
    found = []
    with evaluating(net, where):
        goals = _targets(net, inputs.to(where), target)
        rows = zip(inputs.split(1), goals, strict=True)
        for row, goal in track(rows, "finding paths", total=len(inputs), show=progress):
            paths = _Paths(net, names, row.to(where), goal, score, token, n_steps, batch_size).recorded()
            found.append([paths.describe(rule, n_candidates) for rule in rules])
    return _dataset(found, rules, names, goals, presentation, (score, token, n_steps, n_candidates))


@dataclass(frozen=True, eq=False)
class _Paths:
    """One input, and what its units are (by layer, tokens × units)."""

    net: nn.Module
    layers: list[str]
    inputs: Tensor
    target: int
    score: str
    token: int | None
    n_steps: int
    batch_size: int
    units: tuple[Tensor, ...] = ()

    def recorded(self) -> _Paths:
        """Itself with the units of the clean pass."""
        heard: dict[str, Tensor] = {}

        def listen(layer: str, activations: Tensor) -> Tensor:
            heard[layer] = activations
            return activations

        with torch.no_grad(), intervene(self.net, {layer: partial(listen, layer) for layer in self.layers}):
            self.net(self.inputs)
        return replace(
            self, units=tuple(self._tokens(heard[layer], layer)[0].clone() for layer in self.layers)
        )

    def _tokens(self, activations: Tensor, layer: str) -> Tensor:
        """Batch × the tokens that are meant × units."""
        if activations.ndim not in (2, 3):
            raise ValueError(
                f"the layer {layer!r} gives the shape {tuple(activations.shape)}; give layers of batch × units or "
                "batch × tokens × units."
            )
        if activations.ndim == 2:
            return activations[:, None]
        if self.token is None:
            return activations
        if not -activations.shape[1] <= self.token < activations.shape[1]:
            raise ValueError(
                f"the layer {layer!r} has {activations.shape[1]} tokens, and none with number {self.token}."
            )
        return activations[:, [self.token]]

    def base(self, path: Sequence[int]) -> list[Tensor]:
        """What the units of a path are, each a vector over tokens."""
        return [units[:, unit] for units, unit in zip(self.units, path, strict=False)]

    def run(
        self, paths: Tensor, values: Sequence[Tensor], others: Mapping[str, Change] | None = None
    ) -> Tensor:
        """The score with the units of each path (batch × layers) set to values (by layer, batch × tokens)."""

        def change(layer: str, units: Tensor, wanted: Tensor, activations: Tensor) -> Tensor:
            changed = activations.clone()
            batch = torch.arange(len(units), device=units.device)
            if activations.ndim == 2:
                changed[batch, units] = wanted[:, 0]
            elif self.token is None:
                changed[batch, :, units] = wanted
            else:
                changed[batch, self.token, units] = wanted[:, 0]
            return changed

        changes = {
            layer: partial(change, layer, paths[:, k], values[k])
            for k, layer in enumerate(self.layers[: paths.shape[1]])
        }
        inputs = self.inputs.expand(len(paths), *self.inputs.shape[1:])
        with intervene(self.net, {**changes, **(others or {})}):
            return self.scores(first_tensor(self.net(inputs)))

    def scores(self, output: Tensor) -> Tensor:
        """Of the target class."""
        return (output if self.score == "logit" else output.softmax(-1))[:, self.target]

    def attribute(self, paths: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Of paths of one length: joint attributions, and the own part of each unit (paths × layers)."""
        base = [self.base(path) for path in paths]
        steps = (torch.arange(self.n_steps, device=self.inputs.device) + 0.5) / self.n_steps
        rows = [(k, alpha) for k in range(len(paths)) for alpha in steps]
        slopes, parts = (torch.zeros(len(paths), len(paths[0]), dtype=torch.float64) for _ in range(2))
        for start in range(0, len(rows), self.batch_size):
            part = rows[start : start + self.batch_size]
            values = [
                torch.stack([alpha * base[k][layer] for k, alpha in part]).requires_grad_()
                for layer in range(len(paths[0]))
            ]
            units = torch.tensor([list(paths[k]) for k, _ in part], device=self.inputs.device)
            with torch.enable_grad():
                total = self.run(units, values).sum()
                gradients = torch.autograd.grad(total, values)
            here = [k for k, _ in part]
            for layer, gradient in enumerate(gradients):
                own = torch.stack([base[k][layer] for k in here]) * gradient
                for sums, terms in ((slopes, gradient), (parts, own)):
                    sums[:, layer].index_add_(
                        0, torch.tensor(here), terms.sum(1).double().cpu() / self.n_steps
                    )
        sizes = torch.tensor([[float(vector.sum()) for vector in path] for path in base]).double()
        return sizes.sum(1) * slopes.sum(1), parts

    def screen(self, path: Sequence[int], rule: str, n_candidates: int | None) -> list[int]:
        """Units of the next layer by their attribution when all of it is scaled with the path."""
        here = self.units[len(path)]
        if n_candidates is None or n_candidates >= here.shape[1]:
            return list(range(here.shape[1]))
        steps = ((torch.arange(self.n_steps, device=here.device) + 0.5) / self.n_steps).to(here)
        whole = (steps[:, None, None] * here).requires_grad_()
        values = [(steps[:, None] * vector).requires_grad_() for vector in self.base(path)]

        def change(activations: Tensor) -> Tensor:
            if activations.ndim == 2:
                return whole[:, 0]
            if self.token is None:
                return whole
            changed = activations.clone()
            changed[:, self.token] = whole[:, 0]
            return changed

        paths = torch.tensor(path, dtype=torch.long, device=here.device).expand(self.n_steps, len(path))
        with torch.enable_grad():
            total = self.run(paths, values, {self.layers[len(path)]: change}).sum()
            *slopes, own = torch.autograd.grad(total, [*values, whole])
        if rule == "share":
            attributions = (here * own.mean(0)).sum(0)
        else:
            before = sum(float(vector.sum()) for vector in self.base(path))
            along = sum(float(slope.sum()) / self.n_steps for slope in slopes)
            attributions = (before + here.sum(0)) * (along + own.sum(1).mean(0))
        return attributions.topk(n_candidates).indices.tolist()

    def grow(self, rule: str, n_candidates: int | None) -> list[int]:
        """The path that grows by the unit with the largest joint attribution, or the largest share in it."""
        path: list[int] = []
        for _ in self.layers:
            candidates = self.screen(path, rule, n_candidates)
            joint, parts = self.attribute([[*path, unit] for unit in candidates])
            best = parts[:, -1] if rule == "share" else joint
            path.append(candidates[int(best.argmax())])
        return path

    def influence(self) -> list[int]:
        """The path that grows by the unit through which most of its influence on the output flows."""
        path: list[int] = []
        flow = 1.0
        for number, layer in enumerate(self.layers):
            onward = self._slopes(layer)
            reached = (
                torch.ones_like(onward) if not path else flow * self._reach(number - 1, path[-1], number)
            )
            path.append(int((reached * onward).abs().argmax()))
            flow = float(reached[path[-1]])
        return path

    def _slopes(self, layer: str) -> Tensor:
        """How the score goes with each unit of a layer."""
        added: list[Tensor] = []

        def change(activations: Tensor) -> Tensor:
            added.append(torch.zeros_like(activations).requires_grad_())
            return activations + added[0]

        with torch.enable_grad(), intervene(self.net, {layer: change}):
            total = self.scores(first_tensor(self.net(self.inputs))).sum()
            (slope,) = torch.autograd.grad(total, added)
        return self._tokens(slope, layer)[0].sum(0)

    def _reach(self, start: int, unit: int, end: int) -> Tensor:
        """How each unit of a layer goes with one unit of the layer before."""
        from torch.autograd import forward_ad
        from torch.nn.attention import SDPBackend, sdpa_kernel

        heard: list[Tensor] = []

        def listen(activations: Tensor) -> Tensor:
            heard[:] = [self._tokens(activations, self.layers[end])[0].sum(0)]
            return activations

        def push(activations: Tensor) -> Tensor:
            direction = torch.zeros_like(activations)
            if activations.ndim == 2 or self.token is None:
                direction[..., unit] = 1
            else:
                direction[:, self.token, unit] = 1
            return forward_ad.make_dual(activations, direction)

        # of attention's kernels only the plain one has derivatives forward
        with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            with intervene(self.net, {self.layers[start]: push, self.layers[end]: listen}):
                self.net(self.inputs)
            tangent = forward_ad.unpack_dual(heard[0]).tangent
            return torch.zeros_like(self.units[end][0]) if tangent is None else tangent.clone()

    def describe(self, rule: str, n_candidates: int | None) -> dict[str, Any]:
        """The path by a rule, and what becomes of the score without it and with twice of it."""
        if rule in ("joint", "share"):
            path = self.grow(rule, n_candidates)
        elif rule == "influence":
            path = self.influence()
        else:
            path = [int(units.sum(0).argmax()) for units in self.units]
        base = self.base(path)
        values = [torch.stack([vector, 0 * vector, 2 * vector]) for vector in base]
        with torch.no_grad():
            clean, zeroed, doubled = self.run(
                torch.tensor([path] * 3, device=self.inputs.device), values
            ).tolist()
        return {
            "unit": path,
            "activation": [float(vector.sum()) for vector in base],
            "attribution": float(self.attribute([path])[0]),
            "clean": clean,
            "zeroed": zeroed,
            "doubled": doubled,
        }


def _targets(net: nn.Module, inputs: Tensor, target: int | Sequence[int] | None) -> list[int]:
    with torch.no_grad():
        output = first_tensor(net(inputs))
    if output.ndim != 2:
        raise ValueError(f"the network gives the shape {tuple(output.shape)}; paths need batch × classes.")
    if target is not None and np.shape(target) not in ((), (len(inputs),)):
        raise ValueError(
            f"there are {np.size(target)} targets for {len(inputs)} inputs; give one for each, or one."
        )
    goals = output.argmax(1).tolist() if target is None else np.broadcast_to(target, len(inputs)).tolist()
    for goal in goals:
        if not 0 <= goal < output.shape[1]:
            raise ValueError(f"there is no class {goal}; the network has {output.shape[1]}, counted from 0.")
    return goals


def _dataset(
    found: list[list[dict[str, Any]]],
    rules: Sequence[str],
    layers: list[str],
    goals: list[int],
    presentation: Table | None,
    options: tuple[Any, ...],
) -> xr.Dataset:
    def gather(name: str) -> np.ndarray:
        return np.array([[each[name] for each in row] for row in found]).swapaxes(0, 1)

    labels = {"stimulus_id": np.arange(len(found))} if presentation is None else dict(presentation)
    names = ("score", "token", "n_steps", "n_candidates")
    facts = {"path": "neuron", **dict(zip(names, options, strict=True)), "cerebridge": __version__}
    flat = ("rule", "presentation")
    variables: dict[str, Any] = {name: ((*flat, "layer"), gather(name)) for name in ("unit", "activation")}
    variables |= {name: (flat, gather(name)) for name in ("attribution", "zeroed", "doubled")}
    variables |= {"clean": ("presentation", gather("clean")[0]), "target": ("presentation", goals)}
    coords: dict[str, Any] = {"rule": list(rules), "layer": layers}
    coords |= {name: ("presentation", np.asarray(values)) for name, values in labels.items()}
    return xr.Dataset(variables, coords, {"provenance": json.dumps(facts)})
