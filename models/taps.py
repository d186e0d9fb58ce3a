"""Listening to named layers of a network while it runs, and no longer than needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .maps import Grid, PatchGrids, bring_channels_first, is_on_last_axis
from .selectors import LayerSpec, Selection, count_prefix_tokens, real_tokens, resolve_selectors

Receiver = Callable[[str, Tensor], None]
#: one batch: a tensor, or what the network takes by name
Inputs = Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class _Tap:
    """One layer to listen to, as it was asked for."""

    layer: str
    spec: LayerSpec
    select: Selection
    #: whether the module is torch's own attention, which never calls its output projection, whose input is meant
    inside: bool = False
    #: what runs before the module in the one that holds both
    before: Sequence[nn.Module] = ()
    #: the outputs so far, where all runs are asked for
    runs: list[Tensor] = field(default_factory=list)


class LayerTaps:
    """The layers to listen to, by the names of ``net.named_modules()``.

    Parameters
    ----------
    net
        Any network.
    layers
        Names of modules. A module that runs several times in one forward pass is told apart as ``"relu[0]"``,
        ``"relu[1]"``, …. After a colon stands which part is meant: ``:cls`` the first token, ``:patches`` the tokens
        of a vision transformer without class and register tokens (``:patches(5)`` says how many come before),
        ``:mean`` the mean over tokens, ``:last`` the last token or time step, ``:input`` the module's input instead
        of its output, ``:heads`` the input of an attention's output projection cut into heads (``:heads(12)`` says
        how many), ``:steps`` the time steps of a recurrent layer, or all runs of any other module one after the
        other. They can follow one another: ``"blocks.3.attn.proj:heads:cls"``. Feature maps come with the channels
        first, also of networks that have them last (Swin). Where an ``attention_mask`` is
        among the inputs, means, first and last tokens leave padding out.

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
    >>> LayerTaps(net, ["conv2", "conv2.0:input"]).run(torch.zeros(1, 3, 32, 32), heard.__setitem__)
    >>> heard["conv2"].shape, heard["conv2.0:input"].shape
    (torch.Size([1, 32, 8, 8]), torch.Size([1, 16, 16, 16]))
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
        #: rows and columns of the patches of layers ``":patches"``, as :meth:`check` saw them
        self.grids: dict[str, Grid] = {}
        modules = dict(net.named_modules(remove_duplicate=False))
        modules.pop("", None)
        self._taps: dict[nn.Module, list[_Tap]] = {}
        same: dict[tuple[nn.Module, int, Any], str] = {}
        for layer in layers:
            spec = LayerSpec.parse(layer, modules)
            attention = _torch_attention(spec.name, modules) if spec.of_input else None
            key = (modules[spec.name], spec.run or 0, spec.selectors)
            if key in same:
                raise ValueError(
                    f"{layer!r} and {same[key]!r} are the same output of the same layer; ask for one."
                )
            same[key] = layer
            before = _siblings_before(net, spec.name)
            tap = _Tap(layer, spec, resolve_selectors(net, spec, layer), attention is not None, before)
            self._taps.setdefault(attention or modules[spec.name], []).append(tap)

    def run(self, inputs: Inputs, receive: Receiver) -> None:
        """Run the network until the last of the layers has been heard.

        Parameters
        ----------
        inputs
            One batch, whose first axis counts stimuli: a tensor, or a mapping that the network takes by name.
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

    def check(self, inputs: Inputs) -> None:
        """Run the whole network once and see that every layer asked for runs, and which of its runs is meant.

        Raises
        ------
        ValueError
            If a layer does not run at all, not often enough, or several times without saying which is meant; or if it
            holds nothing but patches where other tokens are asked for or left out.
        """
        maps, tokens = PatchGrids(), dict[str, int]()
        with maps.watching(self.net):
            calls = self._forward(inputs, lambda layer, output: None, whole=True, tokens=tokens)
        self._complain(calls)
        for tap in (tap for taps in self._taps.values() for tap in taps if tap.layer in tokens):
            self._place(tap, tokens[tap.layer], maps)

    def _place(self, tap: _Tap, n_tokens: int, maps: PatchGrids) -> None:
        """See where the patches among a layer's tokens lie."""
        asked = dict(tap.spec.selectors)
        if "steps" in asked or not asked.keys() & {"cls", "patches"}:
            return
        prefix = asked.get("patches")
        prefix = (count_prefix_tokens(self.net) or 0) if prefix is None else prefix
        grid = maps.find(n_tokens - prefix)
        if grid is None and maps.find(n_tokens):
            raise ValueError(
                f"the {n_tokens} tokens of the layer {tap.layer!r} are all patches; ask for "
                f"'{tap.spec.name}:patches(0)' or '{tap.spec.name}:mean'."
            )
        if grid is not None and "cls" in asked and not prefix:
            raise ValueError(
                f"the {n_tokens} tokens of the layer {tap.layer!r} are all patches, and none is a class token; ask for "
                f"'{tap.spec.name}:mean'."
            )
        if grid is not None and "patches" in asked:
            self.grids[tap.layer] = grid

    def _forward(
        self, inputs: Inputs, receive: Receiver, whole: bool, tokens: dict[str, int] | None = None
    ) -> Counter[nn.Module]:
        started: Counter[nn.Module] = Counter()
        finished: Counter[nn.Module] = Counter()
        outstanding = sum(map(len, self._taps.values()))
        n, real = count_stimuli(inputs), real_tokens(inputs)

        def deliver(tap: _Tap, content: Any, real: Tensor | None = real) -> None:
            nonlocal outstanding
            output = _batch_of(content, tap.layer, n)
            if tokens is not None and output.ndim > 2:
                tokens[tap.layer] = output.shape[1]
            receive(tap.layer, tap.select(output, real))
            outstanding -= 1
            if not outstanding and not whole:
                raise _AllHeard

        def before(module: nn.Module, arguments: Any, named: Any) -> None:
            run = started[module]
            started[module] += 1
            for tap in self._taps[module]:
                if tap.spec.of_input and run == (tap.spec.run or 0):
                    deliver(
                        tap,
                        _head_outputs(module, arguments, named)
                        if tap.inside and isinstance(module, nn.MultiheadAttention)
                        else _input_of(module, tap, (*arguments, *named.values())),
                    )

        def after(module: nn.Module, arguments: Any, output: Any) -> None:
            run = finished[module]
            finished[module] += 1
            for tap in self._taps[module]:
                if tap.spec.of_input:
                    continue
                if tap.spec.of_all_runs and not isinstance(module, nn.RNNBase):
                    tap.runs.append(_batch_of(_batch_first(module, output, tap.before), tap.layer, n).clone())
                elif run == (tap.spec.run or 0):
                    steps = _real_steps(output)
                    deliver(tap, _batch_first(module, output, tap.before), real if steps is None else steps)

        handles = [module.register_forward_pre_hook(before, with_kwargs=True) for module in self._taps]
        handles += [module.register_forward_hook(after) for module in self._taps]
        try:
            run_network(self.net, inputs)
            for tap in (tap for taps in self._taps.values() for tap in taps if tap.runs):
                deliver(tap, torch.stack(tap.runs, 1))
        except _AllHeard:
            pass
        finally:
            for handle in handles:
                handle.remove()
            for tap in (tap for taps in self._taps.values() for tap in taps):
                tap.runs.clear()
        return started

    def _complain(self, calls: Counter[nn.Module]) -> None:
        for module, tap in ((module, tap) for module, taps in self._taps.items() for tap in taps):
            runs, spec = calls[module], tap.spec
            if runs == 0:
                raise ValueError(
                    f"the layer {tap.layer!r} does not run in the network's forward pass; {self._advise(spec)}."
                )
            if (spec.run or 0) >= runs:
                raise ValueError(
                    f"the layer {tap.layer!r} runs only {runs} times in a forward pass; count from 0."
                )
            if spec.of_all_runs:
                if runs == 1 and not isinstance(module, nn.RNNBase | nn.RNNCellBase):
                    raise ValueError(
                        f"the layer {tap.layer!r} runs only once in a forward pass and has no time steps; leave "
                        "':steps' out."
                    )
            elif runs > 1 and spec.run is None:
                parts = tap.layer.removeprefix(spec.name)
                names = ", ".join(f"'{spec.name}[{k}]{parts}'" for k in range(min(runs, 3))) + (
                    ", …" if runs > 3 else ""
                )
                raise ValueError(
                    f"the layer {tap.layer!r} runs {runs} times in a forward pass; ask for one of {names}."
                )

    def _advise(self, spec: LayerSpec) -> str:
        parent = spec.name.rpartition(".")[0]
        if parent and isinstance(self.net.get_submodule(parent), nn.MultiheadAttention):
            return f"torch's attention computes it inside: ask for {parent!r}, or for '{spec.name}:heads'"
        return "choose one that does"


class _AllHeard(BaseException):
    """Ends a forward pass; no ``except Exception`` within a network may swallow it."""


class _Unheard(nn.Module):
    """Calls torch's attention past its hooks."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, *arguments: Any, **named: Any) -> Any:
        return self.attention.forward(*arguments, **named)


def _head_outputs(attention: nn.MultiheadAttention, arguments: Any, named: Any) -> Any:
    """Run torch's attention with an identity for its output projection: what it gives then enters the real one."""
    projection = attention.out_proj
    identity = {"attention.out_proj.weight": torch.eye(projection.in_features).to(projection.weight)}
    if projection.bias is not None:
        identity["attention.out_proj.bias"] = torch.zeros_like(projection.bias)
    return _batch_first(attention, functional_call(_Unheard(attention), identity, arguments, named))


def _input_of(module: nn.Module, tap: _Tap, arguments: tuple[Any, ...]) -> Any:
    """What enters a module, feature maps with the channels first unless heads are to be cut from them."""
    given = first_tensor(arguments)
    is_map = isinstance(given, Tensor) and given.ndim == 4 and "heads" not in dict(tap.spec.selectors)
    return given.movedim(-1, 1) if is_map and is_on_last_axis(module) else given


def _siblings_before(net: nn.Module, name: str) -> list[nn.Module]:
    parent, _, child = name.rpartition(".")
    named = dict(net.get_submodule(parent).named_children())
    return list(named.values())[: list(named).index(child)] if child in named else []


def _torch_attention(name: str, modules: Mapping[str, nn.Module]) -> nn.MultiheadAttention | None:
    """The attention of torch whose output projection is meant."""
    parent, _, child = name.rpartition(".")
    attention = modules.get(parent)
    return attention if child == "out_proj" and isinstance(attention, nn.MultiheadAttention) else None


def _batch_first(module: nn.Module, output: Any, before: Sequence[nn.Module] = ()) -> Any:
    """Sequences of torch's own layers with the batch first, and unpacked; feature maps with the channels first."""
    if isinstance(output, tuple) and output and isinstance(output[0], nn.utils.rnn.PackedSequence):
        return nn.utils.rnn.pad_packed_sequence(output[0], batch_first=True)[0]
    owner = getattr(module, "self_attn", module)
    if not isinstance(owner, nn.RNNBase | nn.MultiheadAttention) or owner.batch_first:
        return bring_channels_first(module, output, before)
    output = first_tensor(output)
    return output.transpose(0, 1) if isinstance(output, Tensor) and output.ndim == 3 else output


def _real_steps(output: Any) -> Tensor | None:
    """Which steps of packed sequences are no padding (stimuli × steps)."""
    if not (isinstance(output, tuple) and output and isinstance(output[0], nn.utils.rnn.PackedSequence)):
        return None
    lengths = nn.utils.rnn.pad_packed_sequence(output[0], batch_first=True)[1].to(output[0].data.device)
    return torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]


def count_stimuli(inputs: Inputs) -> int:
    """Count the stimuli of one batch.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.taps import count_stimuli
    >>> count_stimuli({"input_ids": torch.zeros(2, 5)})
    2
    """
    if isinstance(inputs, Tensor):
        return len(inputs)
    return len(next(value for value in inputs.values() if isinstance(value, Tensor)))


def run_network(net: nn.Module, inputs: Inputs) -> Any:
    """Run a network on one batch: a tensor, or what it takes by name.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.taps import run_network
    >>> run_network(torch.nn.Identity(), {"input": torch.ones(2)})
    tensor([1., 1.])
    """
    return net(**inputs) if isinstance(inputs, Mapping) else net(inputs)


def first_tensor(output: Any) -> Any:
    """Return the output proper: of a tuple or mapping (recurrent layers, attention, transformers) the first entry.

    Examples
    --------
    >>> from cerebridge.models.taps import first_tensor
    >>> first_tensor({"last_hidden_state": (1, 2), "pooled": 3})
    1
    """
    while isinstance(output, tuple | list | Mapping) and len(output):
        output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    return output


def _batch_of(output: Any, layer: str, n: int) -> Tensor:
    output = first_tensor(output)
    if isinstance(output, Tensor) and output.is_nested:
        raise ValueError(
            f"the layer {layer!r} gives a nested tensor; build the network with enable_nested_tensor=False."
        )
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
