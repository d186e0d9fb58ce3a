"""Weights from ``.tflite`` files: 8-bit integers with scales, turned back into the float networks they came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def read_tflite(path: Path, net: nn.Module) -> dict[str, Tensor]:
    """Read the convolutions of a file in their order and name them as a network's.

    A file has its batch norms folded into the convolutions before them: in the network these become one, shifted by
    the file's bias.

    Parameters
    ----------
    path
        The file.
    net
        Whose convolutions and linear layers have the same order; each may be followed by a batch norm.

    Returns
    -------
    dict
        Tensors by the names of ``net.state_dict()``.

    Raises
    ------
    ImportError
        If the package ``tflite`` is not installed.
    ValueError
        If the file is damaged, or holds another number of layers.
    """
    try:
        import tflite
    except ImportError:
        raise ImportError(
            "reading .tflite weights needs tflite; install it with: pip install 'cerebridge[zoo]'."
        ) from None
    try:
        layers = list(_layers(path, tflite))
    except Exception as error:  # a damaged file sends its reader anywhere
        raise ValueError(f"{path} is damaged or no TFLite file ({error}); fetch it again.") from None
    modules = list(net.named_modules())
    targets = [
        (name, module, _norm_after(modules, index))
        for index, (name, module) in enumerate(modules)
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    if len(layers) != len(targets):
        raise ValueError(
            f"{path} holds {len(layers)} layers with weights, but the network has {len(targets)}; load the network "
            "that the file was made from."
        )
    state: dict[str, Tensor] = {}
    for (name, module, norm), (weight, bias) in zip(targets, layers, strict=True):
        state[f"{name}.weight"] = torch.from_numpy(
            weight if weight.ndim == module.weight.ndim else weight[..., 0, 0]
        )
        shift = torch.from_numpy(bias)
        if norm is None:
            state[f"{name}.bias"] = shift
        else:
            norm_name, epsilon = norm
            state[f"{norm_name}.bias"] = shift
            state[f"{norm_name}.weight"] = torch.ones_like(shift)
            state[f"{norm_name}.running_mean"] = torch.zeros_like(shift)
            state[f"{norm_name}.running_var"] = torch.full_like(shift, 1 - epsilon)
    return state


def _norm_after(modules: list[tuple[str, nn.Module]], index: int) -> tuple[str, float] | None:
    following = modules[index + 1] if index + 1 < len(modules) else None
    return (
        (following[0], following[1].eps)
        if following is not None and isinstance(following[1], nn.BatchNorm2d)
        else None
    )


def _layers(path: Path, tflite: Any) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weight (out × in × height × width) and bias of each convolution, in the order in which they run."""
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError("it does not begin as one")
    model = tflite.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    # axes of the file in the order of torch
    orders = {
        tflite.BuiltinOperator.CONV_2D: (0, 3, 1, 2),
        tflite.BuiltinOperator.DEPTHWISE_CONV_2D: (3, 0, 1, 2),
    }
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if kind in orders:
            weight, bias = (
                _dequantised(model, graph.Tensors(operator.Inputs(place)), tflite) for place in (1, 2)
            )
            yield np.ascontiguousarray(weight.transpose(orders[kind])), bias


def _dequantised(model: Any, tensor: Any, tflite: Any) -> NDArray[np.float32]:
    """``(q - zero point) × scale``, with one scale for the tensor or one for each entry of an axis."""
    types = {
        tflite.TensorType.FLOAT32: np.float32,
        tflite.TensorType.INT8: np.int8,
        tflite.TensorType.UINT8: np.uint8,
        tflite.TensorType.INT32: np.int32,
    }
    shape = tensor.ShapeAsNumpy()
    values = model.Buffers(tensor.Buffer()).DataAsNumpy().view(types[tensor.Type()]).reshape(shape)
    quantisation = tensor.Quantization()
    if values.dtype == np.float32:
        return values
    across = np.ones(len(shape), int)
    if quantisation.ScaleLength() > 1:
        across[quantisation.QuantizedDimension()] = -1
    scale = quantisation.ScaleAsNumpy().astype(np.float64).reshape(across)
    zero = quantisation.ZeroPointAsNumpy() if quantisation.ZeroPointLength() else np.zeros(1, int)
    return ((values - zero.astype(np.float64).reshape(across if zero.size > 1 else -1)) * scale).astype(
        np.float32
    )
