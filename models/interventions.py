"""Changing activations while a network runs, as optogenetics does in a brain."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .changes import Change, Intervention
from .selectors import LayerSpec, Selection, real_tokens, resolve_selectors


@contextmanager
def intervene(net: nn.Module, changes: Mapping[str, Change]) -> Iterator[nn.Module]:
    """Change activations of a network in every forward pass within a ``with`` block; then it is as it was.

    Parameters
    ----------
    net
        Any network. Gradients flow through what is changed.
    changes
        By layer :class:`Clamp`, :class:`Ablate`, :class:`Scale`, :class:`Add`, or any function of the layer's
        activations (batch first) that gives as many. Layers are names of ``net.named_modules()``; ``"relu[1]"`` is the
        second run of a layer in one pass, ``"relu"`` all of them; ``"fc:input"`` is what goes into a layer, and of
        sequences ``":cls"``, ``":patches"`` and ``":last"`` are parts. Of ``"attn.proj:heads"`` the units are heads.
        Of an output that is a tuple or mapping the first entry is changed. Blocks may be nested: the outer change
        comes first.

    Yields
    ------
    torch.nn.Module
        The network.

    Raises
    ------
    ValueError
        If a layer is unknown or did not run in a complete forward pass within the block, or a change does not fit.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(3, 1, bias=False))
    >>> _ = torch.nn.init.ones_(net[1].weight)
    >>> with models.intervene(net, {"0": models.Clamp(5.0, units=[2])}):
    ...     net(torch.ones(1, 3)).item()
    7.0
    >>> net(torch.ones(1, 3)).item()
    3.0
    """
    places = [_Place.find(net, layer, change) for layer, change in changes.items()]
    if not places:
        raise ValueError("no changes were given; give a mapping of layer to change.")
    passes = _Passes(places)
    handles = [
        net.register_forward_pre_hook(passes.start, with_kwargs=True),
        net.register_forward_hook(passes.end),
    ]
    try:
        handles += [place.hook(passes.calls) for place in places]
        yield net
        passes.complain()
    finally:
        for handle in handles:
            handle.remove()


@dataclass(eq=False)
class _Passes:
    """Which runs of which layers there were since the forward pass began."""

    places: list[_Place]
    calls: Counter[_Place] = field(default_factory=Counter)
    complete: int = 0

    def start(self, net: nn.Module, arguments: Any, named: dict[str, Any]) -> None:
        self.calls.clear()
        for place in self.places:
            place.real = real_tokens(named)

    def end(self, net: nn.Module, arguments: Any, output: Any) -> None:
        self.complete += 1
        for place in self.places:
            place.missed = self.calls[place] <= (place.spec.run or 0)

    def complain(self) -> None:
        for place in self.places:
            if self.complete and place.missed:
                raise ValueError(
                    f"the layer {place.layer!r} did not run (often enough) in the network's forward pass, so that "
                    "nothing was changed there; choose one that does."
                )


@dataclass(eq=False)
class _Place:
    """Where a change happens."""

    layer: str
    module: nn.Module
    spec: LayerSpec
    select: Selection
    change: Change
    missed: bool = False
    #: which tokens are no padding, where the network is told so
    real: Tensor | None = None

    @classmethod
    def find(cls, net: nn.Module, layer: str, change: Change) -> _Place:
        modules = dict(net.named_modules(remove_duplicate=False))
        modules.pop("", None)
        if not callable(change):
            raise TypeError(
                f"the change of {layer!r} is a {type(change).__name__}; give Clamp, Ablate, Scale, Add or a function."
            )
        spec = LayerSpec.parse(layer, modules)
        begun = change.begin() if isinstance(change, Intervention) else change
        return cls(layer, modules[spec.name], spec, resolve_selectors(net, spec, layer), begun)

    def hook(self, calls: Counter[_Place]) -> torch.utils.hooks.RemovableHandle:
        def meant() -> bool:
            calls[self] += 1
            return self.spec.run is None or calls[self] == self.spec.run + 1

        def before(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if not meant():
                return None
            if arguments:
                return (self.changed(arguments[0]), *arguments[1:]), named
            return arguments, self.changed(named)

        def after(module: nn.Module, arguments: Any, output: Any) -> Any:
            return self.changed(output) if meant() else None

        if self.spec.of_input:
            return self.module.register_forward_pre_hook(before, with_kwargs=True)
        return self.module.register_forward_hook(after)

    def changed(self, output: Any) -> Any:
        """The output with the change in its first tensor."""
        if isinstance(output, Mapping) and len(output):
            key = next(iter(output))
            entries: Any = copy.copy(output)
            entries[key] = self.changed(output[key])
            return entries
        if isinstance(output, tuple | list) and len(output):
            parts = [self.changed(output[0]), *output[1:]]
            return output._make(parts) if hasattr(output, "_make") else type(output)(parts)
        if not isinstance(output, Tensor):
            raise ValueError(f"the layer {self.layer!r} gives {type(output).__name__}, no array to change.")
        if not self.spec.selectors:
            return self._checked(output)
        whole = output.clone()
        part = self.select(whole, self.real)
        if part.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr() or self.spec.of_all_runs:
            raise ValueError(
                f"{self.layer!r} is computed from the layer, not a part of it; change the layer itself."
            )
        if self.spec.selectors[-1][0] == "heads":
            # heads come where the channels of feature maps are
            part = part.movedim(-2, 1)
        part.copy_(self._checked(part.clone()))
        return whole

    def _checked(self, activations: Tensor) -> Tensor:
        try:
            changed = self.change(activations)
        except ValueError as error:
            raise ValueError(f"at the layer {self.layer!r}: {error}") from None
        if not isinstance(changed, Tensor) or changed.shape != activations.shape:
            given = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise ValueError(
                f"the change of {self.layer!r} gives {given} for activations of the shape "
                f"{tuple(activations.shape)}; give as many as there were."
            )
        return changed
