"""Layers that add nothing to a token: which they are, and networks that do without them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from ... import __version__
from ..names import nearest
from ..taps import Inputs
from .states import layers_of, read_states


def report_voids(
    net: nn.Module,
    inputs: Inputs,
    layers: Sequence[str] | None = None,
    *,
    alpha: float = 0.8,
    prompt_length: int | None = None,
    batch_size: int = 8,
    device: str | torch.device = "auto",
) -> xr.Dataset:
    """Say of every layer and token whether the layer is active or void, by how it changes the norm of the state.

    A layer is void for a token where the norm of its state grows by less than ``alpha`` times the range of the changes
    by the layers before it.

    Parameters
    ----------
    net
        Any network of blocks that read from and write to one stream of tokens.
    inputs
        A batch, or tensors by name (``input_ids``, ``attention_mask``, …); padding is left out.
    layers
        The blocks in order. Default: those that :func:`models.find_layers` calls the residual stream.
    alpha
        Share of the range, 0 or more; 0 calls only those layers void that lower the norm.
    prompt_length
        Tokens of each sequence that were its prompt; those after it were generated. Default: all are prompt.
    batch_size, device
        As everywhere.

    Returns
    -------
    xarray.Dataset
        ``active`` (boolean), ``change`` of the norm and ``threshold`` of ``layer × token`` (coordinates ``sequence``,
        ``position``, ``phase``); ``use_share`` of ``phase × layer``, the share of tokens that use the layer.

    Raises
    ------
    ValueError
        If there are no blocks, they have different tokens, or ``alpha`` is negative.

    References
    ----------
    Shemiranifar (2025). Void in language models.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models import decompose
    >>> class Add(torch.nn.Module):
    ...     def forward(self, state):
    ...         return state + 1
    >>> net = torch.nn.Sequential(Add(), torch.nn.Identity(), Add())
    >>> decompose.report_voids(net, torch.ones(1, 1, 4), ["0", "1", "2"])["active"].values[:, 0].tolist()
    [True, True, True]
    """
    if not alpha >= 0:
        raise ValueError(f"alpha is {alpha!r}; give a share of the range of changes, 0 or more.")
    blocks = layers_of(net, "residual stream", layers)
    stream = [f"{blocks[0]}:input", *blocks] if blocks else []
    states = read_states(net, inputs, stream, batch_size=batch_size, device=device)
    norms = torch.stack([states.values[layer].double().norm(dim=1) for layer in stream])
    active, change, threshold = mark_active(norms, alpha)
    generated = np.zeros(len(states.position), bool)
    if prompt_length is not None:
        generated = states.position >= prompt_length
    phase = np.where(generated, "generation", "prompt")
    phases = [name for name in ("prompt", "generation") if (phase == name).any()]
    mask = active.cpu().numpy()
    both = ("layer", "token")
    return xr.Dataset(
        {
            "active": (both, mask),
            "change": (both, change.cpu().numpy()),
            "threshold": (both, threshold.cpu().numpy()),
            "use_share": (
                ("phase", "layer"),
                np.stack([mask[:, phase == name].mean(axis=1) for name in phases]),
            ),
        },
        {
            "layer": blocks,
            "sequence": ("token", states.sequence),
            "position": ("token", states.position),
            "token_phase": ("token", phase),
            "phase": phases,
        },
        {"provenance": json.dumps({"report": "voids", "alpha": alpha, "cerebridge": __version__})},
    )


def mark_active(norms: Tensor, alpha: float = 0.8) -> tuple[Tensor, Tensor, Tensor]:
    """Tell active layers from voids by the norms of states.

    Parameters
    ----------
    norms
        ``(1 + layers, tokens)``: of the stream before the first layer, then after each.
    alpha
        Share of the range of earlier changes that a layer's change must reach.

    Returns
    -------
    tuple of torch.Tensor
        Active (boolean), change and threshold, each ``(layers, tokens)``. The first layer's range is its own: 0.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.voids import mark_active
    >>> norms = torch.tensor([1, 3, 5, 5.01, 5.02, 9, 9, 20], dtype=torch.float64)
    >>> mark_active(norms[:, None])[0][:, 0].int().tolist()
    [1, 1, 1, 0, 1, 0, 1]
    """
    change = norms.diff(dim=0)
    earlier = torch.cat([change[:1], change[:-1]])
    threshold = alpha * (earlier.cummax(0).values - earlier.cummin(0).values)
    return change >= threshold, change, threshold


@contextmanager
def bypass_layers(net: nn.Module, layers: Sequence[str]) -> Iterator[nn.Module]:
    """Run a network as if some blocks were not there: within a ``with`` block each passes its input on.

    Parameters
    ----------
    net
        The network.
    layers
        Blocks whose output has the shape of their first input.

    Raises
    ------
    ValueError
        If a layer is unknown, or changes the shape.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models import decompose
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU())
    >>> with decompose.bypass_layers(net, ["0"]):
    ...     net(torch.tensor([[1.0, -2, 3]])).tolist()
    [[1.0, 0.0, 3.0]]
    """
    modules = _modules(net, layers)

    def bypass(module: nn.Module, arguments: Any, named: Mapping[str, Any], output: Any) -> Any:
        state = arguments[0] if arguments else next(iter(named.values()))
        first = _first(output)
        if not isinstance(state, Tensor) or state.shape != first.shape:
            raise ValueError(
                f"a layer turns {_shape(state)} into {_shape(first)}, so that it cannot be bypassed; choose "
                "blocks that keep the shape."
            )
        return _with_first(output, state)

    handles = [module.register_forward_hook(bypass, with_kwargs=True) for module in modules]
    try:
        yield net
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def keep_last_active(
    net: nn.Module, layers: Sequence[str] | None = None, alpha: float = 0.8
) -> Iterator[nn.Module]:
    """End every token's way through a network at the last layer that is active for it.

    Within a ``with`` block all layers run as ever, since later layers and tokens read from them; but after the last
    one each token has the state of its last active layer. This is how skipping was evaluated by its authors; it saves
    no computation. :func:`bypass_layers` leaves blocks out.

    Parameters
    ----------
    net
        The network.
    layers
        All blocks in order, as for :func:`report_voids`.
    alpha
        As for :func:`report_voids`.

    Raises
    ------
    ValueError
        If a layer is unknown or there are none.

    References
    ----------
    Shemiranifar (2025). Void in language models.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models import decompose
    >>> net = torch.nn.Sequential(torch.nn.ReLU())
    >>> with decompose.keep_last_active(net, ["0"]):
    ...     net(torch.tensor([[1.0, -2, 3]])).tolist()
    [[1.0, -2.0, 3.0]]
    """
    modules = _modules(net, layers_of(net, "residual stream", layers))
    seen: list[Tensor] = []

    def begin(module: nn.Module, arguments: Any, named: Mapping[str, Any]) -> None:
        seen[:] = [_first(arguments[0] if arguments else next(iter(named.values())))]

    def remember(module: nn.Module, arguments: Any, output: Any) -> Any:
        seen.append(_first(output))
        if module is not modules[-1]:
            return None
        states = torch.stack(seen)
        active = mark_active(states.double().norm(dim=-1).flatten(1), alpha)[0]
        number = torch.arange(1, len(states), device=states.device)[:, None]
        last = (active * number).max(0).values.reshape(states.shape[1:-1])
        index = last[None, ..., None].expand(1, *states.shape[1:])
        return _with_first(output, states.gather(0, index)[0])

    handles = [modules[0].register_forward_pre_hook(begin, with_kwargs=True)]
    handles += [module.register_forward_hook(remember) for module in modules]
    try:
        yield net
    finally:
        for handle in handles:
            handle.remove()


def _modules(net: nn.Module, layers: Sequence[str]) -> list[nn.Module]:
    known = dict(net.named_modules())
    for layer in layers:
        if layer not in known or not layer:
            raise ValueError(f"the network has no layer {layer!r}; {nearest(layer, known)}.")
    return [known[layer] for layer in layers]


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def _with_first(output: Any, state: Tensor) -> Any:
    return (state, *output[1:]) if isinstance(output, tuple) else state


def _shape(thing: Any) -> str:
    return str(tuple(thing.shape)) if isinstance(thing, Tensor) else type(thing).__name__
