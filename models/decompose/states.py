"""Hidden states of several layers, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..anatomy import find_layers
from ..devices import resolve_device
from ..selectors import real_tokens
from ..taps import Inputs, LayerTaps, evaluating


@dataclass(frozen=True)
class States:
    """Hidden states, by layer tokens × channels, and which sequence and position each token is of."""

    values: dict[str, Tensor]
    sequence: NDArray[np.int64]
    position: NDArray[np.int64]


def read_states(
    net: nn.Module,
    inputs: Inputs,
    layers: Sequence[str],
    *,
    batch_size: int = 8,
    device: str | torch.device = "auto",
) -> States:
    """Run a network and keep the states after some layers, of all tokens that are no padding.

    Parameters
    ----------
    net
        Any network; run in evaluation mode and left as it was.
    inputs
        A batch, or tensors by name (``input_ids``, ``attention_mask``, …) with a row a sequence.
    layers
        Their names. Feature maps count every place as a token, outputs without tokens as one.
    batch_size, device
        As everywhere.

    Raises
    ------
    ValueError
        If layers have different tokens or a padded place is not known, or values are not finite.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> from cerebridge.models.decompose.states import read_states
    >>> net = models.load("tiny", weights="random")
    >>> read_states(net, torch.zeros(2, 3, 32, 32), ["conv2"]).values["conv2"].shape
    torch.Size([128, 32])
    """
    where = resolve_device(device)
    taps = LayerTaps(net, list(layers))
    kept: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    shapes: list[NDArray[np.bool_]] = []
    with evaluating(net, where):
        for batch in cut_batches(inputs, batch_size, where):
            heard: dict[str, Tensor] = {}

            def receive(layer: str, output: Tensor, heard: dict[str, Tensor] = heard) -> None:
                heard[layer] = _by_token(output).clone()

            taps.run(batch, receive)
            mask = _mask(heard, batch)
            shapes.extend(mask.cpu().numpy())
            for layer in layers:
                kept[layer].append(heard[layer][mask])
    sequence, position = np.concatenate(
        [[np.full(row.sum(), k), np.flatnonzero(row)] for k, row in enumerate(shapes)], axis=1
    )
    values = {layer: torch.cat(parts) for layer, parts in kept.items()}
    for layer, states in values.items():
        if not bool(torch.isfinite(states.sum())):
            raise ValueError(
                f"the layer {layer!r} gives NaN or infinite values; check the network and its inputs."
            )
    return States(values, sequence, position)


def layers_of(net: nn.Module, role: str, layers: Sequence[str] | None) -> list[str]:
    """The layers that were asked for, or all that have a role.

    Parameters
    ----------
    net
        The network.
    role
        As :func:`models.find_layers` gives it.
    layers
        What was asked for, if anything.

    Raises
    ------
    ValueError
        If the network has no such layers.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.states import layers_of
    >>> net = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
    >>> layers_of(net, "mlp post", None)
    ['layers.0.linear2:input']
    """
    if layers is not None:
        return [layers] if isinstance(layers, str) else list(layers)
    table = find_layers(net)
    found = table.loc[table["role"] == role, "layer"].tolist()
    if not found:
        raise ValueError(
            f"{type(net).__name__} has no layers that are known as {role!r}; name them as layers=."
        )
    return found


def cut_batches(inputs: Inputs, batch_size: int, device: torch.device) -> Iterator[Any]:
    """Batches of a network's inputs, on a device.

    Raises
    ------
    TypeError
        If the inputs are neither a tensor nor a mapping of tensors.
    ValueError
        If there are none, or tensors of several lengths.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.states import cut_batches
    >>> [len(batch) for batch in cut_batches(torch.zeros(5, 2), 3, torch.device("cpu"))]
    [3, 2]
    """
    tensors = dict(inputs) if isinstance(inputs, Mapping) else {"": inputs}
    wrong = next((value for value in tensors.values() if not isinstance(value, Tensor)), None)
    if wrong is not None:
        raise TypeError(
            f"the inputs are {type(wrong).__name__}; give a tensor, or a mapping of tensors as a tokenizer returns it."
        )
    lengths = {len(value) for value in tensors.values()}
    if len(lengths) != 1 or not max(lengths):
        raise ValueError(f"the inputs have {sorted(lengths)} rows; give as many of each, and at least one.")
    for start in range(0, max(lengths), batch_size):
        part = {name: value[start : start + batch_size].to(device) for name, value in tensors.items()}
        yield part if isinstance(inputs, Mapping) else part[""]


def _by_token(output: Tensor) -> Tensor:
    """Batch × tokens × channels."""
    if output.ndim == 2:
        return output[:, None]
    return output.flatten(2).transpose(1, 2) if output.ndim > 3 else output


def _mask(heard: Mapping[str, Tensor], batch: Any) -> Tensor:
    """Tokens that are no padding, batch × tokens."""
    counts = {layer: states.shape[1] for layer, states in heard.items()}
    if len(set(counts.values())) > 1:
        (one, n), (other, m) = sorted(counts.items(), key=lambda item: item[1])[:: len(counts) - 1]
        raise ValueError(
            f"the layer {one!r} gives {n} tokens and {other!r} gives {m}; choose layers of one stream of tokens."
        )
    states = next(iter(heard.values()))
    real = real_tokens(batch)
    if real is None:
        return torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
    if real.shape != states.shape[:2]:
        raise ValueError(
            f"the layers give {states.shape[1]} tokens, but the padding is known for {real.shape[1]}; choose layers "
            "that keep the tokens of the input."
        )
    return real.bool()
