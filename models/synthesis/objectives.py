"""What images are made for: units of a network, and voxels, neurons or regions that are read out from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..changes import UnitSelection
from ..pooling import Pool, resolve_pool
from ..preprocessing import Preprocessing
from ..taps import LayerTaps

#: images (batch × 3 × height × width, from 0 to 1) to one score an image, differentiable
Objective: TypeAlias = Callable[[Tensor], Tensor]
#: images as above to what a network takes
Prepare: TypeAlias = Callable[[Tensor], Tensor]


class Features(nn.Module):
    """Images to a network's features, as ``models.extract`` gives them, but differentiable.

    Parameters
    ----------
    net
        Any network.
    layers
        Layers side by side, as in :func:`models.extract`.
    pool
        As in :func:`models.extract`.
    prepare
        Differentiable: images (batch × 3 × height × width, from 0 to 1) to the network's input. Default: what
        ``net.preprocess`` does, or images as they are where there is none.

    Raises
    ------
    ValueError
        If a layer is unknown, or the network's preprocessing is of a kind that has no differentiable twin here.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> from cerebridge.models.synthesis import Features
    >>> net = models.load("tiny", weights="random")
    >>> Features(net, ["conv2", "readout"], pool="global")(torch.rand(2, 3, 50, 50)).shape
    torch.Size([2, 42])
    """

    def __init__(
        self,
        net: nn.Module,
        layers: str | Sequence[str],
        *,
        pool: Pool = None,
        prepare: Prepare | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.taps = LayerTaps(net, [layers] if isinstance(layers, str) else list(layers))
        self.reduce = resolve_pool(pool, self.taps.layers)
        self.prepare = prepare or prepare_like(getattr(net, "preprocess", None))

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Each layer's pooled output."""
        heard: dict[str, Tensor] = {}

        def receive(layer: str, output: Tensor) -> None:
            # later layers may work in place
            heard[layer] = self.reduce(output).clone()

        self.taps.run(self.prepare(images), receive)
        return {layer: heard[layer] for layer in self.taps.layers}

    def forward(self, images: Tensor) -> Tensor:
        """Return features (batch × features)."""
        return torch.cat([output.flatten(1) for output in self.outputs(images).values()], 1)


class LayerObjective(nn.Module):
    """The activity of one unit of a layer, as an objective.

    Parameters
    ----------
    net, layer
        A network and one of its layers.
    unit
        A channel, averaged over its places; or one place as a tuple, such as ``(channel, row, column)``.
    prepare
        As of :class:`Features`.

    References
    ----------
    Erhan et al. (2009). Visualizing higher-layer features of a deep network. Université de Montréal, TR 1341.

    Examples
    --------
    >>> import torch
    >>> from cerebridge import models
    >>> from cerebridge.models.synthesis import LayerObjective
    >>> net = models.load("tiny", weights="random")
    >>> LayerObjective(net, "conv2", 3)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2])
    """

    def __init__(
        self, net: nn.Module, layer: str, unit: int | tuple[int, ...], *, prepare: Prepare | None = None
    ) -> None:
        super().__init__()
        self.features = Features(net, layer, prepare=prepare)
        self.unit = UnitSelection(units=cast(Any, [unit]))

    def forward(self, images: Tensor) -> Tensor:
        """Return one score an image."""
        (output,) = self.features.outputs(images).values()
        return output[self.unit.index(output)].flatten(1).mean(1)


class ReadoutObjective(nn.Module):
    """What a linear encoder predicts from a network's features for a voxel or neuron, or on average for a region.

    Parameters
    ----------
    net, layers, pool, prepare
        As of :class:`Features`, and as the encoder's features were extracted.
    weights
        Of each feature; or units × features, as ``coef_`` of scikit-learn and of ``encoding.RidgeCV``, of which the
        mean over units is taken.
    bias
        A number, or one a unit.

    Raises
    ------
    ValueError
        If the weights are not finite, or there is not one for each feature.

    References
    ----------
    Luo et al. (2023). Brain diffusion for visual exploration. NeurIPS.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from cerebridge import models
    >>> from cerebridge.models.synthesis import ReadoutObjective
    >>> net = models.load("tiny", weights="random")
    >>> region = ReadoutObjective(net, "conv2", np.ones((5, 32)), pool="global")
    >>> region(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2])
    """

    weights: Tensor
    bias: Tensor

    def __init__(
        self,
        net: nn.Module,
        layers: str | Sequence[str],
        weights: Any,
        bias: Any = 0.0,
        *,
        pool: Pool = None,
        prepare: Prepare | None = None,
    ) -> None:
        super().__init__()
        self.features = Features(net, layers, pool=pool, prepare=prepare)
        # the mean of the units' predictions is the prediction of their mean weights
        table = _numbers(weights, "weights")
        self.register_buffer("weights", (table[None] if table.ndim == 1 else table).mean(0).float())
        self.register_buffer("bias", _numbers(bias, "bias").mean().float())

    def forward(self, images: Tensor) -> Tensor:
        """Return one prediction an image."""
        features = self.features(images)
        if features.shape[1] != len(self.weights):
            raise ValueError(
                f"there are {len(self.weights)} weights for {features.shape[1]} features; give the layers and pool= "
                "that the encoder was fitted on."
            )
        return features @ self.weights.to(features.dtype) + self.bias


def prepare_like(preprocess: Any) -> Prepare:
    """Give the differentiable twin of a network's preprocessing.

    Parameters
    ----------
    preprocess
        A :class:`models.Preprocessing`, or ``None``, which leaves images as they are. PIL's Lanczos weights, which
        torch does not have, become bicubic ones.

    Raises
    ------
    ValueError
        If it is of another kind.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models import Preprocessing
    >>> from cerebridge.models.synthesis.objectives import prepare_like
    >>> half = (0.5, 0.5, 0.5)
    >>> prepare_like(Preprocessing(size=8, mean=half, std=half))(torch.ones(1, 3, 20, 20)).shape
    torch.Size([1, 3, 8, 8])
    """
    if preprocess is None:
        return _as_they_are
    if not isinstance(preprocess, Preprocessing):
        raise ValueError(
            f"the network's preprocessing is a {type(preprocess).__name__}, through which no gradient is known; give "
            "prepare=, a differentiable function of images from 0 to 1."
        )
    known, cut = preprocess, cast(Prepare, preprocess._cut)
    modes = {
        "bilinear": "bilinear",
        "bicubic": "bicubic",
        "lanczos": "bicubic",
        "box": "area",
        "nearest": "nearest",
    }

    def prepare(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        side = known.resize or known.size
        sides = [
            int(side * length / min(height, width)) if known.keep_aspect else side
            for length in (height, width)
        ]
        if sides != [height, width]:
            mode = modes[known.resample]
            options: dict[str, Any] = {"antialias": True} if mode in ("bilinear", "bicubic") else {}
            # as PIL: columns before rows, and no room for what bicubic weights add beyond black and white
            for shape in ([height, sides[1]], sides):
                images = functional.interpolate(images, shape, mode=mode, **options).clamp(0, 1)
        # rows and columns first, as the rule for the centre expects them
        images = cut(images.movedim((-2, -1), (0, 1))).movedim((0, 1), (-2, -1))
        mean, std = (images.new_tensor(values)[:, None, None] for values in (known.mean, known.std))
        return (images - mean) / std

    return prepare


def _as_they_are(images: Tensor) -> Tensor:
    return images


def _numbers(values: Any, name: str) -> Tensor:
    tensor = (
        values.detach().cpu()
        if isinstance(values, Tensor)
        else torch.from_numpy(np.array(values, dtype=float))
    )
    if tensor.ndim > 2 or not torch.isfinite(tensor).all():
        raise ValueError(f"{name}= must be finite numbers, one a feature (and unit).")
    return tensor.double()
