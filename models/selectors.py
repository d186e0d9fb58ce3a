"""Parts of layers, asked for after a colon: ``blocks.3:cls``, ``blocks.3.attn.proj:heads``, ``lstm:last``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .names import nearest

#: what may be asked for, and whether a number may follow in brackets
SELECTORS = {
    "input": False,
    "heads": True,
    "steps": False,
    "cls": False,
    "patches": True,
    "mean": False,
    "last": False,
}
#: how networks call the number of attention heads
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads")
#: how vision transformers call the tokens that stand before the patches
_PREFIX = re.compile(r"(cls|class|dist|distillation|reg|register|storage)_(tokens?|embedding)")

#: a batch of outputs and, for padded sequences, which tokens are real (stimuli × tokens), to what was asked for
Selection = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class LayerSpec:
    """A layer as it is asked for: the module's name, which of its runs, and which part of it.

    Examples
    --------
    >>> from cerebridge.models.selectors import LayerSpec
    >>> LayerSpec.parse("blocks.3.attn.proj[1]:heads(12):cls", {"blocks.3.attn.proj"})
    LayerSpec(name='blocks.3.attn.proj', run=1, selectors=(('heads', 12), ('cls', None)))
    """

    name: str
    run: int | None = None
    selectors: tuple[tuple[str, int | None], ...] = ()

    @classmethod
    def parse(cls, layer: str, modules: Any) -> LayerSpec:
        """Split a layer's name; a module that is called like the whole is meant itself.

        Parameters
        ----------
        layer
            Such as ``"relu"``, ``"relu[1]"``, ``"blocks.3:cls"`` or ``"attn.proj[0]:heads(12):mean"``.
        modules
            Names of the network's modules.

        Raises
        ------
        ValueError
            If the module or the selector is unknown.
        """
        if layer in modules:
            return cls(layer)
        name, *asked = layer.split(":")
        run = None
        indexed = re.fullmatch(r"(.+)\[(\d+)\]", name)
        if name not in modules and indexed:
            name, run = indexed[1], int(indexed[2])
        if name not in modules:
            raise ValueError(f"the network has no layer {layer!r}; {nearest(name, modules)}.")
        spec = cls(name, run, tuple(_parse_selector(each, layer) for each in asked))
        names = [selector for selector, _ in spec.selectors]
        if {"input", "heads"} & set(names[1:]):
            raise ValueError(f"the layer {layer!r} is read wrongly: ':input' and ':heads' come first.")
        if "steps" in names and run is not None:
            raise ValueError(f"the layer {layer!r} asks for one run and for all of them; ask for one.")
        return spec

    @property
    def of_input(self) -> bool:
        """Say whether the module's input is meant instead of its output."""
        return any(name in ("input", "heads") for name, _ in self.selectors)

    @property
    def of_all_runs(self) -> bool:
        """Say whether time steps are meant."""
        return any(name == "steps" for name, _ in self.selectors)


def _parse_selector(text: str, layer: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(\w+)(?:\((\d+)\))?", text)
    if not found or found[1] not in SELECTORS:
        raise ValueError(
            f"the part {':' + text!r} of the layer {layer!r} is unknown; there are "
            f"{', '.join(':' + name for name in SELECTORS)}."
        )
    if found[2] and not SELECTORS[found[1]]:
        raise ValueError(f"the part ':{found[1]}' of the layer {layer!r} takes no number.")
    return found[1], int(found[2]) if found[2] else None


def resolve_selectors(net: nn.Module, spec: LayerSpec, layer: str) -> Selection:
    """Turn a layer's selectors into a function of its batch of outputs (or inputs).

    Parameters
    ----------
    net
        The network; from it come the numbers of heads and of the tokens before the patches.
    spec, layer
        The layer, and how it was asked for.

    Raises
    ------
    ValueError
        If the network does not tell a number that is needed.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.selectors import LayerSpec, resolve_selectors
    >>> select = resolve_selectors(torch.nn.ReLU(), LayerSpec("relu", None, (("mean", None),)), "relu:mean")
    >>> select(torch.ones(2, 5, 3), None).shape
    torch.Size([2, 3])
    """
    steps: list[Selection] = []
    for name, number in spec.selectors:
        if name == "heads":
            n_heads = number or _count_heads(net, spec.name, layer)
            steps.append(partial(_cut_heads, n_heads=n_heads, layer=layer))
        elif name == "patches":
            n_prefix = count_prefix_tokens(net) if number is None else number
            if n_prefix is None:
                raise ValueError(
                    f"the network does not tell how many tokens stand before the patches of {layer!r}; say so, as in "
                    f"'{spec.name}:patches(1)'."
                )
            steps.append(partial(_drop_tokens, n=n_prefix, layer=layer))
        elif name == "cls":
            if getattr(net, "num_prefix_tokens", None) == 0:
                raise ValueError(f"the network has no class token for {layer!r}; ask for ':mean'.")
            steps.append(partial(_take_first, layer=layer))
        elif name == "mean":
            steps.append(partial(_average_tokens, layer=layer))
        elif name == "last":
            steps.append(partial(_take_last, layer=layer))

    def select(output: Tensor, real: Tensor | None) -> Tensor:
        for step in steps:
            output = step(output, real)
        return output

    return select


def _cut_heads(inputs: Tensor, real: Tensor | None, n_heads: int, layer: str) -> Tensor:
    if inputs.shape[-1] % n_heads:
        raise ValueError(
            f"the {inputs.shape[-1]} channels that enter {layer!r} cannot be cut into {n_heads} heads; say how many "
            "there are, as in ':heads(4)'."
        )
    return inputs.unflatten(-1, (n_heads, -1))


def _sequence(output: Tensor, layer: str) -> Tensor:
    if output.ndim < 3 or (output.ndim > 3 and ":heads" not in layer and ":steps" not in layer):
        raise ValueError(
            f"the layer {layer!r} gives the shape {tuple(output.shape)}, no sequence (stimuli × tokens × channels); "
            "leave the selector out or choose another layer."
        )
    return output


def _drop_tokens(output: Tensor, real: Tensor | None, n: int, layer: str) -> Tensor:
    return _sequence(output, layer)[:, n:]


def _take_first(output: Tensor, real: Tensor | None, layer: str) -> Tensor:
    output = _sequence(output, layer)
    kept = _fitting(real, output, layer)
    if kept is None:
        return output[:, 0]
    return output[torch.arange(len(output), device=output.device), kept.int().argmax(1)]


def _average_tokens(output: Tensor, real: Tensor | None, layer: str) -> Tensor:
    output = _sequence(output, layer)
    kept = _fitting(real, output, layer)
    if kept is None:
        return output.mean(1, dtype=torch.promote_types(output.dtype, torch.float32))
    weights = kept.reshape(*kept.shape, *(1,) * (output.ndim - 2)).to(
        torch.promote_types(output.dtype, torch.float32)
    )
    return (output * weights).sum(1) / weights.sum(1)


def _take_last(output: Tensor, real: Tensor | None, layer: str) -> Tensor:
    output = _sequence(output, layer)
    kept = _fitting(real, output, layer)
    if kept is None:
        return output[:, -1]
    places = torch.arange(kept.shape[1], device=kept.device)
    return output[torch.arange(len(output), device=output.device), (kept * places).argmax(1)]


def _fitting(real: Tensor | None, output: Tensor, layer: str) -> Tensor | None:
    """The real tokens where some are padding."""
    if real is None or bool(real.all()):
        return None
    if real.shape != output.shape[:2]:
        raise ValueError(
            f"the layer {layer!r} gives {output.shape[1]} tokens, but the padding is known for {real.shape[1]}; take "
            "the layer without ':cls', ':mean' or ':last'."
        )
    return real != 0


def _count_heads(net: nn.Module, name: str, layer: str) -> int:
    """Heads as the nearest module around the projection, one of its parts, or the configuration tells them."""
    around = name.split(".")
    while around:
        around.pop()
        parent = net.get_submodule(".".join(around))
        for module in (parent, *parent.children(), getattr(parent, "config", None)):
            for attribute in _HEADS:
                count = getattr(module, attribute, None)
                if isinstance(count, int) and count > 0:
                    return count
    raise ValueError(
        f"the network does not tell how many heads {layer!r} has; say so, as in '{name}:heads(12)'."
    )


def count_prefix_tokens(net: nn.Module) -> int | None:
    """Class, distillation and register tokens of a vision transformer."""
    told = getattr(net, "num_prefix_tokens", None)
    if isinstance(told, int):
        return told
    found = [
        1 if parameter.ndim < 3 else parameter.shape[1]
        for name, parameter in net.named_parameters()
        if _PREFIX.fullmatch(name.rpartition(".")[2])
    ]
    return sum(found) if found else None


def real_tokens(inputs: Tensor | Mapping[str, Tensor]) -> Tensor | None:
    """Return the attention mask of a batch of padded sequences, where there is one.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.selectors import real_tokens
    >>> real_tokens({"input_ids": torch.ones(1, 2), "attention_mask": torch.tensor([[1, 0]])})
    tensor([[1, 0]])
    """
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    return mask if mask is not None and mask.ndim == 2 else None
