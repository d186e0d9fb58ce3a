"""From the parameters of an estimator to a dictionary and back to arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ..training import seeded
from .codes import geometric_median
from .dictionaries import Activation, Dictionary, JumpReLU, Mixture, ReLU, TopK

#: smallest whole number that each counting parameter may be
COUNTS = {"n_features": 1, "k": 1, "dead_after": 1, "warmup": 0, "batch_size": 1, "max_epochs": 1}
#: parameters that may be missing, otherwise whole numbers from 1
OPTIONAL_COUNTS = ("n_auxiliary", "resample_every")
CHOICES: dict[str, tuple[str, ...]] = {
    "activation": get_args(Activation),
    "mixture": get_args(Mixture),
    "center": ("median", "mean"),
    "inference": ("encoder", "pursuit"),
}


def require_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters of a sparse autoencoder that make no sense.

    Raises
    ------
    ValueError
        Naming the first one.

    Examples
    --------
    >>> from cerebridge.models.decompose import SparseAutoencoder
    >>> from cerebridge.models.decompose.building import require_parameters
    >>> require_parameters(SparseAutoencoder().get_params())
    """
    for name, choices in CHOICES.items():
        if parameters[name] not in choices:
            raise ValueError(
                f"{name}={parameters[name]!r} is unknown; use {' or '.join(map(repr, choices))}."
            )
    for name in (*COUNTS, *OPTIONAL_COUNTS):
        value, least = parameters[name], COUNTS.get(name, 1)
        if value is None and name in OPTIONAL_COUNTS:
            continue
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number of at least {least}.")
    for name in ("threshold", "bandwidth", "beta", "learning_rate"):
        if not parameters[name] > 0:
            raise ValueError(f"{name}={parameters[name]!r} must be greater than 0.")
    for name in ("sparsity", "auxiliary"):
        if not parameters[name] >= 0:
            raise ValueError(f"{name}={parameters[name]!r} must not be negative.")
    counted = parameters["activation"] in ("topk", "gradient") or parameters["inference"] == "pursuit"
    if counted and parameters["k"] > parameters["n_features"]:
        raise ValueError(
            f"k={parameters['k']} features cannot be on where there are n_features={parameters['n_features']}; lower k "
            "or raise n_features."
        )


def make_dictionary(parameters: Mapping[str, Any], decoder: Tensor, bias: Tensor, scale: float) -> Dictionary:
    """A dictionary with these directions, as the parameters of an estimator ask for.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose import SparseAutoencoder
    >>> from cerebridge.models.decompose.building import make_dictionary
    >>> type(make_dictionary(SparseAutoencoder().get_params(), torch.eye(3), torch.zeros(3), 1.0)).__name__
    'TopK'
    """
    activation = parameters["activation"]
    if activation == "relu":
        names = ["sparsity", "warmup", "resample_every"]
        return ReLU(decoder, bias, scale, **{name: parameters[name] for name in names})
    if activation == "jumprelu":
        names = ["sparsity", "warmup", "threshold", "bandwidth"]
        return JumpReLU(decoder, bias, scale, **{name: parameters[name] for name in names})
    names = ["k", "auxiliary", "dead_after", "beta"]
    return TopK(
        decoder,
        bias,
        scale,
        **{name: parameters[name] for name in names},
        n_auxiliary=parameters["n_auxiliary"] or max(1, decoder.shape[1] // 2),
        by_gradient=parameters["mixture"] if activation == "gradient" else None,
    )


def begin_dictionary(parameters: Mapping[str, Any], x: Tensor) -> Dictionary:
    """An untrained dictionary around the middle of some samples, which trains in their unit.

    Raises
    ------
    ValueError
        If all samples are the same.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose import SparseAutoencoder
    >>> from cerebridge.models.decompose.building import begin_dictionary
    >>> float(begin_dictionary(SparseAutoencoder(center="mean").get_params(), 5 * torch.tensor([[1.0], [-1.0]])).scale)
    5.0
    """
    x = x.double()
    middle = geometric_median(x) if parameters["center"] == "median" else x.mean(0)
    scale = float((x - middle).square().sum(1).mean().sqrt())
    if not scale > 0:
        raise ValueError(
            "all samples are the same, so that there is nothing to explain; check the selection."
        )
    with seeded(parameters["random_state"]):
        directions = torch.randn(parameters["n_features"], x.shape[1])
    return make_dictionary(parameters, directions, middle.float().cpu(), scale)


def to_arrays(module: Dictionary) -> dict[str, Any]:
    """What a dictionary has learned, under the names that an estimator gives it.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose.building import to_arrays
    >>> from cerebridge.models.decompose.dictionaries import TopK
    >>> sorted(to_arrays(TopK(torch.eye(3), torch.zeros(3), k=1)))
    ['bias_', 'components_', 'encoder_', 'encoder_bias_', 'threshold_']
    """
    tensors = {
        "components_": module.decoder,
        "encoder_": module.encoder,
        "encoder_bias_": module.encoder_bias,
        "bias_": module.bias,
    }
    arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}
    threshold = module.log_threshold.detach().exp().cpu().numpy() if isinstance(module, JumpReLU) else None
    return {**arrays, "threshold_": threshold}


def from_arrays(parameters: Mapping[str, Any], arrays: Mapping[str, Any]) -> Dictionary:
    """The inverse of :func:`to_arrays`, in evaluation mode.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose import SparseAutoencoder
    >>> from cerebridge.models.decompose.building import from_arrays, to_arrays
    >>> from cerebridge.models.decompose.dictionaries import TopK
    >>> arrays = to_arrays(TopK(torch.eye(3), torch.zeros(3), k=1))
    >>> from_arrays(SparseAutoencoder(3, k=1).get_params(), arrays).k
    1
    """
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}
    module = make_dictionary(parameters, tensors["components_"], tensors["bias_"], 1.0)
    with torch.no_grad():
        module.decoder.copy_(tensors["components_"])
        module.encoder.copy_(tensors["encoder_"])
        module.encoder_bias.copy_(tensors["encoder_bias_"])
        if isinstance(module, JumpReLU):
            module.log_threshold.copy_(tensors["threshold_"].log())
    return module.eval()
