"""How outputs lie in space: feature maps whose channels come last, and the grid behind the tokens of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

#: (rows, columns) of patches
Grid = tuple[int, int]
#: what torchvision's Permute says of the maps behind it
_PERMUTED = {(0, 2, 3, 1): True, (0, 3, 1, 2): False}


def bring_channels_first(module: nn.Module, output: Any, before: Sequence[nn.Module] = ()) -> Any:
    """Bring feature maps to batch × channels × rows × columns, also where a module has the channels last (Swin).

    Parameters
    ----------
    module
        What gives the output. Its last layers that know their number of channels tell which axis they are.
    output
        Anything; only tensors with four axes are feature maps.
    before
        Modules that run before this one, which tell it where the module has no channels of its own.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.maps import bring_channels_first
    >>> bring_channels_first(torch.nn.Linear(3, 5), torch.zeros(2, 8, 8, 5)).shape
    torch.Size([2, 5, 8, 8])
    """
    if not isinstance(output, Tensor) or output.ndim != 4:
        return output
    first, last = output.shape[1], output.shape[3]
    for each in (module, *reversed(before)):
        said = _have_channels_last(each, first, last)
        if said is not None:
            return output.movedim(-1, 1) if said else output
    return output


def is_on_last_axis(module: nn.Module) -> bool:
    """Say whether a single layer takes the last axis for channels.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.maps import is_on_last_axis
    >>> is_on_last_axis(torch.nn.LayerNorm(3)), is_on_last_axis(torch.nn.BatchNorm2d(3))
    (True, False)
    """
    return isinstance(module, nn.Linear) or type(module) is nn.LayerNorm


def _have_channels_last(module: nn.Module, first: int, last: int) -> bool | None:
    """What a module says of its output, if anything: the last of its layers whose channels fit one of two axes."""
    if hasattr(module, "output_fmt"):
        return str(module.output_fmt).endswith("NHWC")
    leaves = [part for part in module.modules() if not any(part.children())]
    convolves = any(isinstance(leaf, nn.Conv2d) for leaf in leaves)
    for leaf in reversed(leaves):
        if type(leaf).__name__ == "Permute":
            return _PERMUTED.get(tuple(getattr(leaf, "dims", ())))
        channels = _count_channels(leaf)
        if channels not in (first, last):
            continue
        if first != last:
            return channels == last
        # as many columns as channels: blocks that convolve come back to channels first
        if not is_on_last_axis(leaf) or not convolves:
            return is_on_last_axis(leaf)
    return None


def _count_channels(leaf: nn.Module) -> int | None:
    if isinstance(leaf, nn.LayerNorm):
        return leaf.normalized_shape[-1]
    names = ("out_features", "out_channels", "num_features", "num_channels")
    counts = (getattr(leaf, name, None) for name in names)
    return next((count for count in counts if isinstance(count, int)), None)


class PatchGrids:
    """Finds the grid behind tokens of images: that of the convolution which gives as many places.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.maps import PatchGrids
    >>> net, grids = torch.nn.Conv2d(3, 8, 4, stride=4), PatchGrids()
    >>> with grids.watching(net):
    ...     net(torch.zeros(1, 3, 8, 32)).shape
    torch.Size([1, 8, 2, 8])
    >>> grids.find(16), grids.find(9)
    ((2, 8), None)
    """

    def __init__(self) -> None:
        self._found: dict[int, set[Grid]] = {}

    @contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """Note what the convolutions of a network give while it runs."""

        def note(module: nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                rows, columns = output.shape[2:]
                self._found.setdefault(rows * columns, set()).add((rows, columns))

        handles = [
            module.register_forward_hook(note) for module in net.modules() if isinstance(module, nn.Conv2d)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def find(self, n_places: int) -> Grid | None:
        """The grid of so many places, if there is one and only one."""
        grids = self._found.get(n_places, set())
        return next(iter(grids)) if len(grids) == 1 else None
