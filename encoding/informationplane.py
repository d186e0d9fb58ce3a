"""The information plane: bits that the layers of a network carry on its inputs and on the labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr

from ..models.devices import resolve_device
from ..neuro.assembly import quoted
from ..neuro.progress import track
from .containers import kind_of, to_tensor
from .engine import entropy as engine
from .parameters import whole_number

#: share of the most that the rows can tell, from which an estimate says no more than their number
SATURATED = 0.95


class Information(NamedTuple):
    """Bits that a layer carries on its input and on the label."""

    I_XT: float
    I_TY: float


def binned_information(
    activations: Any,
    labels: Any,
    inputs: Any = None,
    *,
    bins: int = 30,
    limits: tuple[float, float] = (-1.0, 1.0),
    adaptive: bool = False,
    device: str | torch.device = "auto",
) -> Information:
    """Information that the binned state of a layer carries on input and label (Shwartz-Ziv & Tishby, 2017).

    Parameters
    ----------
    activations
        ``(n, units)``, one row an input.
    labels
        Class of every row.
    inputs
        What the input of every row was, as one label a row, where inputs are repeated; default: all rows are
        different inputs.
    bins
        Bins of every unit.
    limits
        Lowest and highest activation, between which bins have equal width; the default is that of tanh units.
    adaptive
        Bins that hold equally many of the values that occur in the layer instead (EBAB; Chelombiev et al., 2019): for
        unbounded units, and not changed by any increasing function of the activations.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …

    Returns
    -------
    Information
        ``I_XT`` and ``I_TY`` in bits. A warning says where nearly every row has a state of its own, because then both
        only say how many rows there are.

    Raises
    ------
    ValueError
        If values are missing or outside ``limits``, or labels differ in number.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import information
    >>> inputs = np.repeat(np.arange(4), 50)
    >>> layer = np.array([[-0.9, -0.9], [-0.9, 0.9], [0.9, 0.0], [0.9, 0.0]])[inputs]
    >>> found = information.binned_information(layer, labels=inputs // 2, inputs=inputs)
    >>> round(found.I_XT, 6), round(found.I_TY, 6)
    (1.5, 1.0)
    """
    points = point_rows(activations, "activations", device)
    found, saturated = _binned(points, labels, inputs, bins=bins, limits=limits, adaptive=adaptive)
    if saturated:
        _warn_of_saturation(1, 1)
    return found


def kde_information(
    activations: Any,
    labels: Any,
    *,
    noise: float = 1e-3,
    bound: str = "upper",
    device: str | torch.device = "auto",
) -> Information:
    """Information that a layer with a little Gaussian noise carries on input and label (aKDE).

    Parameters
    ----------
    activations, labels, device
        As for :func:`binned_information`.
    noise
        Variance of the noise of every unit, as a share of the largest activation of the layer (Chelombiev et al.,
        2019), so that it does not drown small ones nor vanish beside large ones.
    bound
        ``"upper"`` or ``"lower"`` bound of the entropy of the noisy layer (Kolchinsky & Tracey, 2017).

    Returns
    -------
    Information
        ``I_XT`` and ``I_TY`` in bits; the first is a bound, the second a difference of bounds.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import information
    >>> layer = np.repeat(np.eye(4), 10, axis=0)
    >>> found = information.kde_information(layer, np.repeat([0, 1], 20))
    >>> round(found.I_XT, 6), round(found.I_TY, 6)
    (2.0, 1.0)
    """
    points = point_rows(activations, "activations", device)
    found, saturated = _clouds(points, labels, None, noise=noise, bound=bound)
    if saturated:
        _warn_of_saturation(1, 1)
    return found


def information_plane(
    activations: Mapping[Any, Any],
    labels: Any,
    inputs: Any = None,
    *,
    estimator: str = "binned",
    device: str | torch.device = "auto",
    progress: bool | None = None,
    **options: Any,
) -> xr.Dataset:
    """Where the layers of a network lie in the information plane while it is trained.

    Parameters
    ----------
    activations
        By epoch: layers by name, each ``(n, units)``; or a labelled array whose units name their ``layer``.
    labels, inputs
        As for :func:`binned_information`, the same for all epochs.
    estimator
        ``"binned"`` (default; options ``bins``, ``limits``), ``"adaptive"`` (``bins``), or ``"kde"`` (``noise``,
        ``bound``).
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, …
    progress
        Whether to draw a progress bar; ``None`` on a terminal only.

    Returns
    -------
    xarray.Dataset
        ``I_XT`` and ``I_TY``, ``layer × epoch``, in bits, and ``saturated``, where nearly every row has a state of its
        own.

    Raises
    ------
    ValueError
        If epochs have other layers than the first, or as the estimator says.

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import information
    >>> layer = np.repeat([[-0.5], [0.5]], 20, axis=0)
    >>> plane = information.information_plane({0: {"hidden": 0 * layer}, 1: {"hidden": layer}}, layer[:, 0] > 0)
    >>> plane["I_TY"].values.tolist()
    [[0.0, 1.0]]
    """
    estimate = _estimator(estimator, options)
    if not isinstance(activations, Mapping) or not activations:
        raise ValueError(
            "activations must be given by epoch, as {epoch: {layer: array}}, for at least one epoch."
        )
    epochs = {epoch: _layers(given) for epoch, given in activations.items()}
    names = list(next(iter(epochs.values())))
    values = np.zeros((2, len(names), len(epochs)))
    saturated = np.zeros((len(names), len(epochs)), dtype=bool)
    for column, (epoch, layers) in enumerate(
        track(epochs.items(), "estimating information", len(epochs), progress)
    ):
        if list(layers) != names:
            raise ValueError(
                f"epoch {quoted(epoch)} has the layers {list(layers)} and the first {names}; give the same."
            )
        for row, name in enumerate(names):
            points = point_rows(layers[name], f"layer {quoted(name)} of epoch {quoted(epoch)}", device)
            values[:, row, column], saturated[row, column] = estimate(points, labels, inputs)
    if saturated.any():
        _warn_of_saturation(int(saturated.sum()), saturated.size)
    return xr.Dataset(
        {
            "I_XT": (("layer", "epoch"), values[0], {"units": "bit"}),
            "I_TY": (("layer", "epoch"), values[1], {"units": "bit"}),
            "saturated": (("layer", "epoch"), saturated),
        },
        {"layer": names, "epoch": list(epochs)},
        {"estimator": estimator},
    )


def point_rows(values: Any, what: str, device: str | torch.device) -> torch.Tensor:
    """Finite points as rows; float32 as it is, else float64."""
    where = values.device if kind_of(values) == "torch" else resolve_device(device)
    points = to_tensor(values, where)
    if points.ndim != 2 or len(points) < 2 or not points.shape[1]:
        raise ValueError(
            f"{what} has the shape {tuple(points.shape)}; give points × units, at least two points."
        )
    wrong = ~points.isfinite()
    if bool(wrong.any()):
        row, unit = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{what} has {int(wrong.sum())} missing or infinite values, the first in row {row}, unit {unit}; leave "
            "out such rows or units."
        )
    return points


def label_codes(labels: Any, points: torch.Tensor, what: str = "labels") -> torch.Tensor:
    """Labels of the points, numbered from 0."""
    values = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if values.shape != (len(points),):
        raise ValueError(f"{what} has the shape {values.shape} for {len(points)} points; give one a point.")
    codes = pd.factorize(values)[0]
    if (codes < 0).any():
        raise ValueError(
            f"{what} has a missing value at point {int(np.argmax(codes < 0))}; leave out such points."
        )
    return torch.as_tensor(codes, device=points.device)


def _binned(
    points: torch.Tensor,
    labels: Any,
    inputs: Any,
    *,
    bins: int = 30,
    limits: tuple[float, float] = (-1.0, 1.0),
    adaptive: bool = False,
) -> tuple[Information, bool]:
    bins = whole_number(bins, "bins", 2)
    low, high = limits
    smallest, largest = float(points.min()), float(points.max())
    if adaptive:
        binned = engine.adaptive_bins(points, bins)
    elif not low < high or smallest < low or largest > high:
        raise ValueError(
            f"activations from {smallest:.4g} to {largest:.4g} do not lie within limits={limits}; give limits that "
            "hold those of all layers and epochs, or use adaptive bins."
        )
    else:
        binned = engine.equal_bins(points, bins, low, high)
    states = engine.joint_states(binned)
    rows = torch.arange(len(points), device=points.device)
    told = rows if inputs is None else label_codes(inputs, points, "inputs")
    found = Information(
        engine.discrete_information(states, told),
        engine.discrete_information(states, label_codes(labels, points)),
    )
    known = float(engine.entropy(states.bincount()))
    return found, known / float(np.log2(len(points))) > SATURATED


def _clouds(
    points: torch.Tensor, labels: Any, inputs: Any, *, noise: float = 1e-3, bound: str = "upper"
) -> tuple[Information, bool]:
    """``inputs`` may repeat: noise on a deterministic layer has the same entropy whichever input it is."""
    if bound not in ("upper", "lower"):
        raise ValueError(f"bound={bound!r} is unknown; use 'upper' or 'lower'.")
    if not noise > 0:
        raise ValueError(f"noise={noise!r} must be positive.")
    codes = label_codes(labels, points)
    points = points.double()
    variance = noise * float(points.abs().max())
    if variance == 0:
        return Information(0.0, 0.0), False
    found = Information(
        engine.cloud_information(points, variance, bound),
        engine.cloud_label_information(points, codes, variance, bound),
    )
    return found, found.I_XT / float(np.log2(len(points))) > SATURATED


#: what estimates, and the options that it takes
ESTIMATORS: dict[str, tuple[Callable[..., tuple[Information, bool]], tuple[str, ...]]] = {
    "binned": (_binned, ("bins", "limits")),
    "adaptive": (partial(_binned, adaptive=True), ("bins",)),
    "kde": (_clouds, ("bound", "noise")),
}


def _estimator(name: str, options: Mapping[str, Any]) -> Callable[..., tuple[Information, bool]]:
    if name not in ESTIMATORS:
        raise ValueError(f"estimator={name!r} is unknown; use {', '.join(map(repr, ESTIMATORS))}.")
    estimate, taken = ESTIMATORS[name]
    if unknown := [option for option in options if option not in taken]:
        raise ValueError(f"{unknown[0]!r} is no option of estimator={name!r}, which has: {', '.join(taken)}.")
    return partial(estimate, **options)


def _layers(given: Any) -> dict[Any, Any]:
    """Layers of one epoch by name."""
    if isinstance(given, Mapping):
        return dict(given)
    if not isinstance(given, xr.DataArray) or "layer" not in given.coords:
        raise ValueError(
            "each epoch must be {layer: array}, or a labelled array with the coordinate 'layer' along its units."
        )
    names = given.coords["layer"].values
    return {name: given.isel(neuroid=np.flatnonzero(names == name)) for name in pd.unique(names).tolist()}


def _warn_of_saturation(n: int, of: int) -> None:
    which = "nearly every row has" if of == 1 else f"in {n} of {of} layers and epochs nearly every row has"
    warnings.warn(
        f"{which} a state of its own, so that both informations only say how many rows and labels there are; use "
        "fewer bins, more noise or more rows.",
        stacklevel=3,
    )
