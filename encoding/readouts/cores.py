"""Residual convolutional cores, whose filters may be shared over quarter turns."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class TurnedConv(nn.Module):
    """A convolution whose filters are applied at every quarter turn, or plainly.

    Parameters
    ----------
    inputs, outputs
        Channels, each of which has ``turns`` orientations; those of ``lifting`` inputs have none.
    kernel
        Odd width of the filters.
    turns
        1 or 4.
    lifting
        Whether the inputs are plain maps.

    References
    ----------
    Cohen & Welling (2016), ICML.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, turns: int, lifting: bool = False) -> None:
        super().__init__()
        self.turns = turns
        orientations = 1 if lifting else turns
        self.weight = nn.Parameter(torch.empty(outputs, inputs, orientations, kernel, kernel))
        nn.init.normal_(self.weight, std=(2 / (inputs * orientations * kernel**2)) ** 0.5)

    def forward(self, maps: Tensor) -> Tensor:
        """``(samples, inputs * orientations, rows, columns)`` to ``(samples, outputs * turns, rows, columns)``."""
        # a filter that is turned meets each orientation of its input one step further
        turned = [torch.rot90(self.weight.roll(turn, 2), turn, (3, 4)) for turn in range(self.turns)]
        weight = torch.stack(turned, 1)
        weight = weight.reshape(len(self.weight) * self.turns, -1, *self.weight.shape[3:])
        return functional.conv2d(maps, weight, padding=self.weight.shape[-1] // 2)


class TurnedNorm(nn.Module):
    """Batch norm with one mean and scale for all orientations of a channel."""

    def __init__(self, channels: int, turns: int) -> None:
        super().__init__()
        self.turns = turns
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Normalised maps of the same shape."""
        normed: Tensor = self.norm(maps.unflatten(1, (-1, self.turns)))
        return normed.flatten(1, 2)


class Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al., 2016)."""

    def __init__(self, channels: int, kernel: int, turns: int) -> None:
        super().__init__()
        self.steps = nn.Sequential(
            TurnedConv(channels, channels, kernel, turns),
            TurnedNorm(channels, turns),
            nn.ReLU(),
            TurnedConv(channels, channels, kernel, turns),
            TurnedNorm(channels, turns),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Transform maps."""
        return torch.relu(maps + self.steps(maps))


class ResidualCore(nn.Sequential):
    """Features of images: one convolution, then residual blocks, the maps halved on the way.

    Parameters
    ----------
    inputs
        Channels of the images.
    channels
        Channels of the features; with four turns there are four times as many maps.
    blocks
        Residual blocks.
    kernel
        Odd width of the filters; the first are wider by 2.
    halvings
        How many times neighbouring places are averaged two by two, once after the first convolution and then after
        each block.
    turns
        1, or 4 for features that turn with the image.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.readouts.cores import ResidualCore
    >>> ResidualCore(1, 8, 2, 3, 1, 4)(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 32, 8, 8])
    """

    def __init__(
        self, inputs: int, channels: int, blocks: int, kernel: int, halvings: int, turns: int
    ) -> None:
        steps: list[nn.Module] = [
            TurnedConv(inputs, channels, kernel + 2, turns, lifting=True),
            TurnedNorm(channels, turns),
            nn.ReLU(),
        ]
        for block in range(blocks + 1):
            if block:
                steps.append(Residual(channels, kernel, turns))
            if block < halvings:
                steps.append(nn.AvgPool2d(2))
        super().__init__(*steps)
