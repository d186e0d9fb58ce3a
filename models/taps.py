"""Listening to named layers of a network while it runs, and no longer than needed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .names import nearest

Receiver = Callable[[str, Tensor], None]


class LayerTaps:
    """The layers to listen to, by the names of ``net.named_modules()``.

    Parameters
    ----------
    net
        Any network.
    layers
        Names of modules. A module that runs several times in one forward pass is told apart as ``"relu[0]"``,
        ``"relu[1]"``, ….

    Raises
    ------
    ValueError
        If a name is unknown, given twice, or nothing is asked for.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> from cerebridge.models.taps import LayerTaps
    >>> net = models.load("tiny", weights="random")
    >>> heard = {}
    >>> LayerTaps(net, ["conv2"]).run(torch.zeros(1, 3, 32, 32), heard.__setitem__)
    >>> heard["conv2"].shape
    torch.Size([1, 32, 8, 8])
    """

    def __init__(self, net: nn.Module, layers: Sequence[str]) -> None:
        if not layers:
            raise ValueError("no layers were asked for; give names of net.named_modules().")
        if not isinstance(net, nn.Module):
            raise TypeError(f"expected a torch.nn.Module, got {type(net).__name__}; models.load gives one.")
        twice = [layer for layer, count in Counter(layers).items() if count > 1]
        if twice:
            raise ValueError(f"the layer {twice[0]!r} is asked for more than once.")
        self.net = net
        self.layers = list(layers)
        modules = dict(net.named_modules(remove_duplicate=False))
        modules.pop("", None)
        self._targets: dict[tuple[nn.Module, int], str] = {}
        self._unindexed: set[str] = set()
        for layer in layers:
            name, call = layer, 0
            indexed = re.fullmatch(r"(.+)\[(\d+)\]", layer)
            if layer not in modules and indexed:
                name, call = indexed[1], int(indexed[2])
            else:
                self._unindexed.add(layer)
            if name not in modules:
                raise ValueError(f"the network has no layer {layer!r}; {nearest(name, modules)}.")
            if (modules[name], call) in self._targets:
                other = self._targets[modules[name], call]
                raise ValueError(
                    f"{layer!r} and {other!r} are the same output of the same layer; ask for one."
                )
            self._targets[modules[name], call] = layer

    def run(self, inputs: Tensor, receive: Receiver) -> None:
        """Run the network until the last of the layers has been heard.

        Parameters
        ----------
        inputs
            One batch; its first axis counts stimuli.
        receive
            Called with each layer's name and output, in the order in which they occur. The output is the network's
            own memory, which later layers may overwrite: copy what is to stay.

        Raises
        ------
        ValueError
            If a layer does not run, or its output is no batch of arrays.
        """
        heard = self._forward(inputs, receive, whole=False)
        self._complain(heard)

    def check(self, inputs: Tensor) -> None:
        """Run the whole network once and see that every layer asked for runs, and which of its runs is meant.

        Raises
        ------
        ValueError
            If a layer does not run at all, not often enough, or several times without saying which is meant.
        """
        self._complain(self._forward(inputs, lambda layer, output: None, whole=True))

    def _forward(self, inputs: Tensor, receive: Receiver, whole: bool) -> Counter[nn.Module]:
        calls: Counter[nn.Module] = Counter()
        outstanding = len(self._targets)

        def hear(module: nn.Module, arguments: Any, output: Any) -> None:
            nonlocal outstanding
            layer = self._targets.get((module, calls[module]))
            calls[module] += 1
            if layer is not None:
                receive(layer, _batch_of(output, layer, len(inputs)))
                outstanding -= 1
                if not outstanding and not whole:
                    raise _AllHeard

        handles = [
            module.register_forward_hook(hear) for module in dict.fromkeys(m for m, _ in self._targets)
        ]
        try:
            self.net(inputs)
        except _AllHeard:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return calls

    def _complain(self, calls: Counter[nn.Module]) -> None:
        for (module, call), layer in self._targets.items():
            runs = calls[module]
            if runs == 0:
                raise ValueError(
                    f"the layer {layer!r} does not run in the network's forward pass; choose one that does."
                )
            if call >= runs:
                raise ValueError(
                    f"the layer {layer!r} runs only {runs} times in a forward pass; count from 0."
                )
            if runs > 1 and layer in self._unindexed:
                names = ", ".join(f"'{layer}[{k}]'" for k in range(min(runs, 3))) + (
                    ", …" if runs > 3 else ""
                )
                raise ValueError(
                    f"the layer {layer!r} runs {runs} times in a forward pass; ask for one of {names}."
                )


class _AllHeard(BaseException):
    """Ends a forward pass; no ``except Exception`` within a network may swallow it."""


def _batch_of(output: Any, layer: str, n: int) -> Tensor:
    """The output proper: of a tuple or mapping (recurrent layers, attention, transformers) the first entry."""
    while isinstance(output, tuple | list | Mapping) and len(output):
        output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    if not isinstance(output, Tensor) or output.is_complex():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"the layer {layer!r} gives {kind}, not real numbers; choose a layer inside or after it."
        )
    if output.ndim == 0 or output.shape[0] != n:
        raise ValueError(
            f"the layer {layer!r} gives the shape {tuple(output.shape)} for a batch of {n}: its first axis does not "
            "count stimuli; choose a layer inside or after it."
        )
    return output


@contextmanager
def evaluating(net: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Put a network on a device in evaluation mode without gradients, and leave it as it was.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> from cerebridge.models.taps import evaluating
    >>> net = models.load("tiny", weights="random").train()
    >>> with evaluating(net, torch.device("cpu")):
    ...     net.training
    False
    >>> net.training
    True
    """
    training = {module: module.training for module in net.modules()}
    home = next((tensor.device for tensor in (*net.parameters(), *net.buffers())), device)
    try:
        with torch.no_grad():
            net.to(device).eval()
            yield net
    finally:
        for module, was_training in training.items():
            module.training = was_training
        if home != device:
            net.to(home)
