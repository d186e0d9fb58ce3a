"""The networks that come with the package, as plain torch modules with the field's own layer names."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

Padding = Literal["symmetric", "tensorflow"]


def _conv_norm(
    channels_in: int,
    channels_out: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    padding: Padding = "symmetric",
) -> nn.Sequential:
    """Convolution, batch norm and ReLU6, named ``0``, ``1``, ``2`` whatever the padding."""
    if padding == "tensorflow" and stride == 2:
        convolution: nn.Conv2d = _EndPaddedConv2d(
            channels_in, channels_out, kernel, stride, groups=groups, bias=False
        )
    else:
        convolution = nn.Conv2d(
            channels_in, channels_out, kernel, stride, padding=(kernel - 1) // 2, groups=groups, bias=False
        )
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU6(inplace=True))


def _check_padding(padding: str) -> None:
    if padding not in ("symmetric", "tensorflow"):
        raise ValueError(f"padding is {padding!r}; it must be 'symmetric' or 'tensorflow'.")


class _EndPaddedConv2d(nn.Conv2d):
    """A strided 3 × 3 convolution that pads right and bottom only, as TensorFlow's "SAME" does for even sizes."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(functional.pad(images, (0, 1, 0, 1)))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a shortcut where the shape stays (Sandler et al., 2018)."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, expansion: int, padding: Padding
    ) -> None:
        super().__init__()
        hidden = channels_in * expansion
        steps: list[nn.Module] = []
        if expansion != 1:
            steps.append(_conv_norm(channels_in, hidden, 1))
        steps.append(_conv_norm(hidden, hidden, 3, stride, groups=hidden, padding=padding))
        steps.append(nn.Conv2d(hidden, channels_out, 1, bias=False))
        steps.append(nn.BatchNorm2d(channels_out))
        self.conv = nn.Sequential(*steps)
        self.has_shortcut = stride == 1 and channels_in == channels_out

    def forward(self, images: Tensor) -> Tensor:
        """Transform feature maps."""
        return images + self.conv(images) if self.has_shortcut else self.conv(images)


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1 with torchvision's layer names (``features.0`` … ``features.18``, ``classifier.1``).

    Parameters
    ----------
    num_classes
        Outputs of the last layer; 1001 where class 0 is "background".
    padding
        How the five convolutions of stride 2 pad: ``"symmetric"`` as torchvision, ``"tensorflow"`` right and
        bottom only. It must be what the weights were trained with.

    References
    ----------
    Sandler et al. (2018). MobileNetV2: inverted residuals and linear bottlenecks. CVPR.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.networks import MobileNetV2
    >>> MobileNetV2(num_classes=10).eval()(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    """

    #: expansion, channels, blocks, stride of the first block
    STAGES = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self, num_classes: int = 1000, padding: Padding = "symmetric") -> None:
        super().__init__()
        _check_padding(padding)
        blocks: list[nn.Module] = [_conv_norm(3, 32, 3, 2, padding=padding)]
        channels = 32
        for expansion, width, repeats, stride in self.STAGES:
            for block in range(repeats):
                blocks.append(
                    InvertedResidual(channels, width, stride if block == 0 else 1, expansion, padding)
                )
                channels = width
        blocks.append(_conv_norm(channels, 1280, 1))
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (batch × classes) of RGB images (batch × 3 × height × width)."""
        return self.classifier(self.features(images).mean((2, 3)))


class MobileNetV1(nn.Module):
    """MobileNetV1: ``features.0``, then 13 pairs of a depthwise and a pointwise convolution, and ``classifier.1``.

    Parameters
    ----------
    width
        Multiplier of all channels: 1, 0.75, 0.5 or 0.25.
    num_classes
        Outputs of the last layer; 1001 where class 0 is "background".
    padding
        How convolutions of stride 2 pad: ``"tensorflow"`` right and bottom only, as the published weights were
        trained, or ``"symmetric"``.

    References
    ----------
    Howard et al. (2017). MobileNets: efficient convolutional neural networks for mobile vision applications.
    arXiv:1704.04861.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.networks import MobileNetV1
    >>> MobileNetV1(0.25, num_classes=10).eval()(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    """

    #: channels and stride of each pair
    PAIRS = (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *(((512, 1),) * 5),
        (1024, 2),
        (1024, 1),
    )

    def __init__(self, width: float = 1.0, num_classes: int = 1001, padding: Padding = "tensorflow") -> None:
        super().__init__()
        _check_padding(padding)
        if not width > 0:
            raise ValueError(f"width is {width}; it must be above 0, such as 0.75.")
        channels = max(8, int(32 * width))
        blocks: list[nn.Module] = [_conv_norm(3, channels, 3, 2, padding=padding)]
        for wanted, stride in self.PAIRS:
            depthwise = _conv_norm(channels, channels, 3, stride, groups=channels, padding=padding)
            wider = max(8, int(wanted * width))
            blocks.append(nn.Sequential(depthwise, _conv_norm(channels, wider, 1)))
            channels = wider
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(nn.Dropout(0.001), nn.Linear(channels, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (batch × classes) of RGB images (batch × 3 × height × width)."""
        return self.classifier(self.features(images).mean((2, 3)))


class VGG16(nn.Module):
    """VGG16 with torchvision's names: ``features.0`` … ``features.30``, ``classifier.0`` … ``classifier.6``.

    Parameters
    ----------
    num_classes
        Outputs of the last layer.

    References
    ----------
    Simonyan & Zisserman (2015). Very deep convolutional networks for large-scale image recognition. ICLR.

    Examples
    --------
    >>> from cerebridge.models.networks import VGG16
    >>> [VGG16.STAGES, VGG16.HIDDEN]
    [((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 4096]
    """

    #: channels and convolutions between two poolings
    STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    HIDDEN = 4096

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, repeats in self.STAGES:
            for _ in range(repeats):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, self.HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(self.HIDDEN, self.HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(self.HIDDEN, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (batch × classes) of RGB images (batch × 3 × height × width)."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


class _CifarBlock(nn.Module):
    """Two 3 × 3 convolutions and a shortcut without parameters: subsampled, padded with empty channels."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.grown = channels_out - channels_in

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        shortcut = images[:, :, :: self.stride, :: self.stride]
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, self.grown // 2, self.grown - self.grown // 2))
        return functional.relu(self.bn2(self.conv2(hidden)) + shortcut)


class CifarResNet(nn.Module):
    """The residual networks for 32 × 32 images: ``layer1`` … ``layer3`` of ``(depth - 2) / 6`` blocks, ``linear``.

    Parameters
    ----------
    depth
        20, 32, 44, 56, …: six times the blocks of a stage, plus two.
    num_classes
        Outputs of the last layer.

    References
    ----------
    He et al. (2016). Deep residual learning for image recognition. CVPR, section 4.2 (shortcut A).

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.networks import CifarResNet
    >>> CifarResNet(20).eval()(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """

    def __init__(self, depth: int = 20, num_classes: int = 10) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth is {depth}; it must be 6 n + 2, such as 20 or 56.")
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1, (depth - 2) // 6)
        self.layer2 = self._stage(16, 32, 2, (depth - 2) // 6)
        self.layer3 = self._stage(32, 64, 2, (depth - 2) // 6)
        self.linear = nn.Linear(64, num_classes)

    @staticmethod
    def _stage(channels_in: int, channels_out: int, stride: int, n_blocks: int) -> nn.Sequential:
        blocks = [_CifarBlock(channels_in, channels_out, stride)]
        blocks += [_CifarBlock(channels_out, channels_out, 1) for _ in range(n_blocks - 1)]
        return nn.Sequential(*blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (batch × classes) of RGB images (batch × 3 × height × width)."""
        hidden = functional.relu(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        return self.linear(hidden.mean((2, 3)))


class TinyNet(nn.Sequential):
    """Three small convolutional layers and a readout (``conv1``, ``conv2``, ``conv3``, ``readout``), for demos.

    Parameters
    ----------
    num_classes
        Outputs of the last layer.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.networks import TinyNet
    >>> TinyNet()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, num_classes: int = 10) -> None:
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 3
        for number, width in enumerate((16, 32, 64), start=1):
            stages[f"conv{number}"] = nn.Sequential(
                nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()
            )
            channels = width
        stages["readout"] = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
        )
        super().__init__(stages)
