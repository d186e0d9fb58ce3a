"""What a network's layers are, and how to ask for them: residual stream, attention heads, MLP neurons and the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from .taps import Inputs, count_stimuli, evaluating, first_tensor, run_network

#: roles of modules by what their types are called, the first that fits
_BY_NAME = (
    ("Norm", "normalisation"),
    ("Embed", "embedding"),
    ("Pool", "pooling"),
    ("Activation", "nonlinearity"),
    ("GELU", "nonlinearity"),
)
#: what is asked for where a role lies in a module's input or has an axis of its own
_PARTS = {"head outputs": ":heads", "mlp post": ":input", "recurrent": ":steps"}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True)
class _Found:
    """One row: what to ask for, the module behind it, its role, and the block that it is in."""

    layer: str
    name: str
    role: str
    block: int | None


def find_layers(net: nn.Module, inputs: Inputs | None = None) -> pd.DataFrame:
    """List the layers of a network with their roles and what to call them in :func:`~cerebridge.models.extract`.

    Parameters
    ----------
    net
        Any network. Roles are read off its modules and their names, so that it is enough to have built it.
    inputs
        One batch. With it the network is run once: what does not run, or gives no entry for each stimulus, is left out,
        and a module that runs several times is listed once for each run.

    Returns
    -------
    pandas.DataFrame
        In the order of the network's modules: ``layer`` (such as ``"blocks.3.attn.proj:heads"``), ``module`` (its
        type), ``role``, ``block`` (number of the block that holds it; missing outside) and ``depth`` (0 the first
        module, 1 the last). Roles are ``"residual stream"`` (output of a transformer's block), ``"block"`` (of a
        convolutional network), ``"attention"``, ``"attention input"`` (queries, keys, values), ``"head outputs"``,
        ``"mlp pre"`` and ``"mlp post"`` (neurons before and after the nonlinearity), ``"recurrent"``,
        ``"convolution"``, ``"linear"``, ``"nonlinearity"``, ``"normalisation"``, ``"pooling"`` and ``"embedding"``.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> net = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    >>> table = models.find_layers(net).set_index("role")
    >>> table.loc["mlp post", "layer"].tolist()
    ['layers.0.linear2:input', 'layers.1.linear2:input']
    >>> table.loc["head outputs", "layer"].tolist()
    ['layers.0.self_attn.out_proj:heads', 'layers.1.self_attn.out_proj:heads']
    """
    modules = dict(net.named_modules())
    found = list(_classify(modules))
    if inputs is not None:
        found = list(_as_run(found, _count_runs(net, inputs), modules))
    leaves = [name for name, module in modules.items() if name and not any(module.children())]
    last = {name: row for row, leaf in enumerate(leaves) for name in (leaf, *_ancestors(leaf))}
    return pd.DataFrame(
        {
            "layer": [each.layer for each in found],
            "module": [type(modules[each.name]).__name__ for each in found],
            "role": [each.role for each in found],
            "block": pd.array([each.block for each in found], dtype="Int64"),
            "depth": [last[each.name] / max(len(leaves) - 1, 1) for each in found],
        }
    )


def _classify(modules: Mapping[str, nn.Module]) -> Iterator[_Found]:
    attentions = {
        name
        for name, module in modules.items()
        if _is_attention(module) and not any(_is_attention(modules[outer]) for outer in _ancestors(name))
    }
    transformer = _transformer_blocks(modules, attentions)
    blocks = {block: number for number, block in enumerate(transformer or _convolutional_blocks(modules))}
    roles: dict[str, str] = {}
    for attention in attentions:
        linears = list(_linears(modules, attention))
        roles |= dict.fromkeys(linears, "attention input")
        roles[_output_projection(modules, linears)] = "head outputs"
        roles[attention] = "attention"
    for block in transformer:
        outside = [name for name in _linears(modules, block) if not attentions & set(_ancestors(name))]
        roles |= _mlp_roles({name: _linear_size(modules[name]) for name in outside})
    roles |= dict.fromkeys(blocks, "residual stream" if transformer else "block")
    for name, module in modules.items():
        role = roles.get(name) or _role_of(module)
        if name and role is not None:
            inside = next((blocks[outer] for outer in (name, *_ancestors(name)) if outer in blocks), None)
            yield _Found(f"{name}{_PARTS.get(role, '')}", name, role, inside)


def _is_attention(module: nn.Module) -> bool:
    """Say whether a module mixes tokens by attention: it is called so and projects."""
    named = isinstance(module, nn.MultiheadAttention) or any(
        part in type(module).__name__ for part in ("Attention", "Attn")
    )
    return named and any(_linear_size(part) for part in module.modules())


def _linear_size(module: nn.Module) -> tuple[int, int] | None:
    """Features in and out of a linear layer; transformers has one of its own with the axes the other way round."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    weight = getattr(module, "weight", None)
    if type(module).__name__ == "Conv1D" and isinstance(weight, Tensor) and weight.ndim == 2:
        return weight.shape[0], weight.shape[1]
    return None


def _linears(modules: Mapping[str, nn.Module], outer: str) -> list[str]:
    """Linear layers below a module, in order."""
    return [
        name
        for name, module in modules.items()
        if _linear_size(module) and (not outer or name.startswith(f"{outer}."))
    ]


def _output_projection(modules: Mapping[str, nn.Module], linears: list[str]) -> str:
    """The last layer that leads back to the stream's width: behind it may stand those of relative positions."""
    sizes = {name: _linear_size(modules[name]) or (0, 0) for name in linears}
    width = sizes[linears[0]][0]
    return next((name for name in reversed(linears) if sizes[name][1] == width), linears[-1])


def _mlp_roles(sizes: Mapping[str, tuple[int, int] | None]) -> dict[str, str]:
    """Pairs of linear layers that lead out of the stream's width and back into it; gates have twice the neurons."""
    roles: dict[str, str] = {}
    before: list[tuple[str, tuple[int, int]]] = []
    for name, size in sizes.items():
        assert size is not None
        entering = [
            up for up, (width, neurons) in before if width == size[1] and neurons in (size[0], 2 * size[0])
        ]
        if entering:
            roles |= {entering[0]: "mlp pre", name: "mlp post"}
            before = []
        else:
            before.append((name, size))
    return roles


def _transformer_blocks(modules: Mapping[str, nn.Module], attentions: set[str]) -> list[str]:
    """The numbered modules nearest around an attention that hold an MLP, too."""
    blocks: dict[str, None] = {}
    for attention in (name for name in modules if name in attentions):
        for outer in _ancestors(attention):
            outside = [name for name in _linears(modules, outer) if not attentions & set(_ancestors(name))]
            if (not outer or outer[-1].isdigit()) and len(outside) > 1:
                blocks[outer] = None
                break
    return list(blocks)


def _convolutional_blocks(modules: Mapping[str, nn.Module]) -> list[str]:
    """Numbered modules with several convolutions."""
    return [
        name
        for name, module in modules.items()
        if name[-1:].isdigit() and sum(isinstance(part, _CONVOLUTIONS) for part in module.modules()) > 1
    ]


def _role_of(module: nn.Module) -> str | None:
    if isinstance(module, _RECURRENT):
        return "recurrent"
    if isinstance(module, _CONVOLUTIONS):
        return "convolution"
    kind = type(module).__name__
    named = next((role for part, role in _BY_NAME if part in kind), None)
    if named is not None:
        return named
    if type(module).__module__ == "torch.nn.modules.activation":
        return "nonlinearity"
    return "linear" if _linear_size(module) else None


def _ancestors(name: str) -> list[str]:
    """Names of the modules around one, the nearest first, the network itself (``""``) last."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, -1, -1)] if name else []


def _count_runs(net: nn.Module, inputs: Inputs) -> Counter[str]:
    """How often each module runs and gives one entry a stimulus, which tables of positions do not."""
    runs: Counter[str] = Counter()
    n = count_stimuli(inputs)

    def count(name: str, module: nn.Module, output: Any) -> None:
        output = first_tensor(output)
        is_batch = isinstance(output, Tensor) and output.ndim > 0 and len(output) == n
        runs[name] += is_batch or isinstance(module, _RECURRENT)

    handles = [
        module.register_forward_hook(lambda module, _, output, name=name: count(name, module, output))
        for name, module in net.named_modules()
    ]
    home = next((tensor.device for tensor in (*net.parameters(), *net.buffers())), torch.device("cpu"))
    try:
        with evaluating(net, home):
            run_network(net, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return runs


def _as_run(found: list[_Found], runs: Counter[str], modules: Mapping[str, nn.Module]) -> Iterator[_Found]:
    for each in found:
        parent = each.name.rpartition(".")[0]
        inside = isinstance(modules[parent], nn.MultiheadAttention) and each.role == "head outputs"
        count = runs[parent if inside else each.name]
        if count == 1 or (count and each.role == "recurrent"):
            yield each
        elif count:
            part = each.layer.removeprefix(each.name)
            for run in range(count):
                yield _Found(f"{each.name}[{run}]{part}", each.name, each.role, each.block)
