"""Massive activations: single entries of hidden states that tower over all others, and when training makes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import nn

from ... import __version__
from ...neuro.progress import track
from ..taps import Inputs
from .curves import fit_curve
from .states import States, layers_of, read_states

#: an activation is massive above this size, and this many times the median
STRICT_SIZE, STRICT_RATIO = 100.0, 1000.0
#: λ, γ over the whole training, and t₀ of the course that is fitted
BOUNDS = ((1e-6, 20.0), (1e-1, 1e4), (1e-3, 1e2))

Array = NDArray[Any]


def report_massive_activations(
    nets: nn.Module | Mapping[Any, nn.Module | Callable[[], nn.Module]],
    inputs: Inputs,
    layers: Sequence[str] | None = None,
    *,
    size: float = STRICT_SIZE,
    ratio: float = STRICT_RATIO,
    batch_size: int = 8,
    device: str | torch.device = "auto",
    progress: bool | None = None,
) -> xr.Dataset:
    """Compare the largest entry of hidden states with the median one, layer by layer and checkpoint by checkpoint.

    Parameters
    ----------
    nets
        A network; or, by training step, checkpoints of one or functions that load them (one is held at a time).
    inputs
        Sequences (ten in the source): a batch, or tensors by name; padding is left out.
    layers
        Blocks whose output is the hidden state. Default: those that :func:`models.find_layers` calls the residual
        stream.
    size, ratio
        The strict criterion: an activation is massive if its magnitude exceeds ``size`` and is at least ``ratio``
        times the median magnitude of its sequence.
    batch_size, device, progress
        As everywhere.

    Returns
    -------
    xarray.Dataset
        Of ``layer``, or ``checkpoint × layer``: ``ratio`` (largest over median magnitude, mean over sequences),
        ``largest`` and ``median`` (means), ``n_massive``, and ``channel``, ``position`` and ``sequence`` of the
        largest.

    Raises
    ------
    ValueError
        If there are no checkpoints, layers have different tokens, or the median of a layer is 0.

    References
    ----------
    Sun et al. (2024). Massive activations in large language models. COLM. Gallego-Feliciano et al. (2025). Hidden
    dynamics of massive activations in transformer training.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models import decompose
    >>> states = torch.ones(2, 5, 8)
    >>> states[:, 0, 3] = 5000
    >>> report = decompose.report_massive_activations(torch.nn.Sequential(torch.nn.Identity()), states, ["0"])
    >>> report["ratio"].values.tolist(), report["n_massive"].values.tolist(), report["channel"].values.tolist()
    ([5000.0], [2], [3])
    """
    single = isinstance(nets, nn.Module)
    checkpoints = {0: nets} if isinstance(nets, nn.Module) else dict(nets)
    if not checkpoints:
        raise ValueError("there are no checkpoints; give networks by training step.")
    reports = []
    for given in track(list(checkpoints.values()), "reading checkpoints", show=progress):
        net = given if isinstance(given, nn.Module) else given()
        layers = layers_of(net, "residual stream", layers)
        states = read_states(net, inputs, layers, batch_size=batch_size, device=device)
        reports.append([_measure(states, layer, size, ratio) for layer in layers])
    facts = {"report": "massive activations", "size": size, "ratio": ratio, "cerebridge": __version__}
    out = xr.Dataset(
        {
            name: (("checkpoint", "layer"), np.array([[row[name] for row in report] for report in reports]))
            for name in reports[0][0]
        },
        {"checkpoint": list(checkpoints), "layer": layers},
        {"provenance": json.dumps(facts)},
    )
    return out.isel(checkpoint=0, drop=True) if single else out


def fit_massive_course(ratio: xr.DataArray, *, n_starts: int = 32, random_state: int = 0) -> xr.Dataset:
    """Describe how massive activations come about in training: ``f(t) = A exp(-λ x) ln x + K``, ``x = γ t + t₀``.

    Parameters
    ----------
    ratio
        ``ratio`` of :func:`report_massive_activations`: ``checkpoint``, or ``checkpoint × layer``, where the
        coordinate ``checkpoint`` is the training step.
    n_starts, random_state
        Starts of the fit, and their seed.

    Returns
    -------
    xarray.Dataset
        By ``layer``: ``A``, ``lambda``, ``gamma`` (per step), ``t0``, ``K``, ``r2``; ``peak``, the step of the highest
        value (NaN without one within the steps seen); ``kind``: ``"early peak"``, ``"log increase"`` (it rises as far
        as was seen), ``"decrease"`` or ``"constant"``. The parameters trade off with each other: trust the curve
        (:func:`models.decompose.massive.course` draws it), its peak and kind.

    Raises
    ------
    ValueError
        If steps are not numbers, or there are fewer than seven.

    References
    ----------
    Gallego-Feliciano et al. (2025). Hidden dynamics of massive activations in transformer training.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from cerebridge.models import decompose
    >>> step = np.arange(0.0, 60, 2)
    >>> x = 0.5 * step + 1
    >>> course = xr.DataArray(9 * np.exp(-0.3 * x) * np.log(x) + 2, [("checkpoint", step)])
    >>> fitted = decompose.fit_massive_course(course, n_starts=8)
    >>> str(fitted["kind"].values), round(float(fitted["peak"]))
    ('early peak', 4)
    """
    if "checkpoint" not in ratio.dims or ratio["checkpoint"].dtype.kind not in "fiu":
        raise ValueError(
            "the ratios need a dimension 'checkpoint' whose coordinate is the training step, a number."
        )
    steps = ratio["checkpoint"].values.astype(float)
    if len(steps) < 7:
        raise ValueError(
            f"there are {len(steps)} checkpoints; a course of five parameters needs at least seven."
        )
    if np.ptp(steps) == 0:
        raise ValueError(f"all checkpoints are of the training step {steps[0]:g}; give each its own.")
    by_layer = ratio.transpose("checkpoint", ...).values.reshape(len(steps), -1).T
    table = pd.DataFrame([_fit_layer(steps, values, n_starts, random_state) for values in by_layer])
    others = [dim for dim in ratio.dims if dim != "checkpoint"]
    sizes = [ratio.sizes[dim] for dim in others]
    variables = {name: (others, table[name].to_numpy().reshape(sizes)) for name in table}
    return xr.Dataset(variables, {dim: ratio[dim] for dim in others}, dict(ratio.attrs))


def course(t: Any, fitted: Mapping[str, Any]) -> Array:
    """The fitted course at training steps.

    Examples
    --------
    >>> from cerebridge.models.decompose.massive import course
    >>> course([0.0], {"A": 2.0, "lambda": 0.0, "gamma": 1.0, "t0": 1.0, "K": 3.0}).tolist()
    [3.0]
    """
    x = float(fitted["gamma"]) * np.asarray(t, float) + float(fitted["t0"])
    return float(fitted["A"]) * _shape(x, float(fitted["lambda"])) + float(fitted["K"])


def _shape(x: Array, decay: float) -> Array:
    return np.asarray(np.exp(-decay * x) * np.log(x))


def _fit_layer(steps: Array, values: Array, n_starts: int, random_state: int) -> dict[str, Any]:
    from scipy.special import lambertw

    span = float(np.ptp(steps))
    first = float(steps.min())
    fit = fit_curve(
        lambda s, decay, gamma, t0: _shape(gamma * s + t0, decay),
        (steps - first) / span,
        values,
        BOUNDS,
        n_starts=n_starts,
        random_state=random_state,
    )
    decay, gamma, t0 = fit.parameters
    gamma = gamma / span
    t0 = t0 - gamma * first
    # the derivative is zero where x ln x = 1 / λ
    peak = (float(np.exp(lambertw(1 / decay).real)) - t0) / gamma
    within = first < peak < float(steps.max())
    start, end = fit.scale * _shape(gamma * steps[[steps.argmin(), steps.argmax()]] + t0, decay)
    kind = "early peak" if within and fit.scale > 0 else "log increase" if end > start else "decrease"
    kind = "constant" if np.ptp(values) <= 1e-9 * np.abs(values).max() else kind
    return {
        "A": fit.scale,
        "lambda": decay,
        "gamma": gamma,
        "t0": t0,
        "K": fit.offset,
        "r2": fit.r2,
        "peak": peak if kind == "early peak" else np.nan,
        "kind": kind,
    }


def _measure(states: States, layer: str, size: float, ratio: float) -> dict[str, float]:
    """Averages over sequences of one layer."""
    sizes = states.values[layer].abs().cpu()
    rows = []
    for sequence in np.unique(states.sequence):
        here = sizes[torch.from_numpy(states.sequence == sequence)]
        median = float(here.median())
        if median == 0:
            raise ValueError(
                f"half of the activations of {layer!r} are 0, so that their median says nothing; choose a hidden state "
                "before the non-linearity, such as a block's output."
            )
        massive = (here > size) & (here >= ratio * median)
        rows.append((float(here.max()), median, int(massive.sum())))
    largest, medians, counts = np.array(rows).T
    token, channel = divmod(int(sizes.argmax()), sizes.shape[1])
    return {
        "ratio": float((largest / medians).mean()),
        "largest": float(largest.mean()),
        "median": float(medians.mean()),
        "n_massive": int(counts.sum()),
        "channel": channel,
        "position": int(states.position[token]),
        "sequence": int(states.sequence[token]),
    }
