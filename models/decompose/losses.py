"""What a loss says about a layer: activations with their gradients, and the loss with other activations there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor, nn

from ... import __version__
from ...neuro.assembly import assemble
from ...neuro.layers import Layer, label_features
from ..batches import Feed, cut_rows, preprocess_by_default
from ..devices import resolve_device
from ..interventions import intervene
from ..stimuli import StimulusSet
from ..taps import evaluating

Inputs = Tensor | Mapping[str, Tensor] | StimulusSet


class LayerLoss:
    """The loss of a network as a function of the activations of one of its layers.

    Called with activations, all samples × units as one tensor, it gives the mean loss with these in the place of the
    layer's own: what :meth:`SparseAutoencoder.report` asks for as ``loss``. :meth:`collect` gives the activations
    and the gradients that a g-SAE learns from.

    Parameters
    ----------
    net
        Any network; it is run in evaluation mode and left as it was.
    layer
        One layer, as :func:`cerebridge.models.intervene` takes it: ``"blocks.3"``, ``"blocks.3.attn.proj:input"``, ….
    inputs
        What the network is run on: a tensor, tensors by name, or stimuli.
    loss
        ``loss(outputs)``, or ``loss(outputs, targets)`` where there are targets: one value a row (in torch's own
        losses: ``reduction="none"``).
    targets
        One a row.
    batch_size, device
        As everywhere; no result depends on them beyond rounding.

    Raises
    ------
    ValueError
        If the layer is unknown or runs several times, or the loss is no value a row.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.decompose import LayerLoss
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    >>> loss = LayerLoss(net, "0", torch.ones(4, 3), lambda outputs: outputs[:, 0])
    >>> x, gradients = loss.collect()
    >>> x.shape, torch.allclose(torch.tensor(gradients.values[0]), net[1].weight[0])
    ((4, 2), True)
    >>> abs(loss(torch.zeros(4, 2)) - net[1].bias.item()) < 1e-6
    True
    """

    def __init__(
        self,
        net: nn.Module,
        layer: str,
        inputs: Inputs,
        loss: Callable[..., Tensor],
        *,
        targets: Tensor | None = None,
        batch_size: int = 64,
        device: str | torch.device = "auto",
    ) -> None:
        self.net, self.layer, self.inputs, self.loss = net, layer, inputs, loss
        self.targets = targets
        self.batch_size = batch_size
        self.device = resolve_device(device)

    def __len__(self) -> int:
        """Rows of the inputs."""
        return len(next(iter(self.inputs.values())) if isinstance(self.inputs, Mapping) else self.inputs)

    def collect(self) -> tuple[xr.DataArray, xr.DataArray]:
        """The layer's activations, and the gradient of each row's loss with respect to them.

        Returns
        -------
        tuple of xarray.DataArray
            Both ``presentation × neuroid``, with the labels that :func:`cerebridge.models.extract` gives.

        Examples
        --------
        See :class:`LayerLoss`.
        """
        parts: list[tuple[Tensor, Tensor]] = []
        heard: list[Tensor] = []

        def hear(activations: Tensor) -> Tensor:
            heard.append(activations.detach().requires_grad_())
            return heard[-1]

        with self._ready(), torch.enable_grad():
            for rows, inputs in self._batches():
                heard.clear()
                losses = self._losses(rows, inputs, hear)
                if len(heard) > 1:
                    raise ValueError(
                        f"the layer {self.layer!r} runs {len(heard)} times in a forward pass; ask for one of "
                        f"'{self.layer}[0]', '{self.layer}[1]', …."
                    )
                if not losses.requires_grad:
                    raise ValueError(f"the loss does not depend on the layer {self.layer!r}; choose another.")
                parts.append((heard[0].detach().cpu(), torch.autograd.grad(losses.sum(), heard)[0].cpu()))
        x, gradients = (torch.cat(side) for side in zip(*parts, strict=True))
        return self._labelled(x, "activation"), self._labelled(gradients, "gradient")

    def __call__(self, x: Tensor) -> float:
        """The mean loss with these activations (samples × units, or every place of a map a sample) in the layer."""
        n = len(self)
        if x.ndim != 2 or len(x) % n:
            raise ValueError(
                f"activations have the shape {tuple(x.shape)}; give samples × units of the {n} rows of the inputs."
            )
        total, places = 0.0, len(x) // n
        with self._ready(), torch.no_grad():
            for rows, inputs in self._batches():
                given = x[rows.start * places : rows.stop * places].to(self.device)
                losses = self._losses(rows, inputs, partial(_shaped, given, places))
                total += float(losses.double().sum())
        return total / n

    def _losses(self, rows: range, inputs: Any, change: Callable[[Tensor], Tensor]) -> Tensor:
        """One loss a row, with a change in the layer."""
        with intervene(self.net, {self.layer: change}):
            outputs = self.net(**inputs) if isinstance(inputs, Mapping) else self.net(inputs)
        if self.targets is None:
            losses = self.loss(outputs)
        else:
            losses = self.loss(outputs, self.targets[rows.start : rows.stop].to(self.device))
        if losses.shape != (len(rows),):
            raise ValueError(
                f"the loss of {len(rows)} rows has the shape {tuple(losses.shape)}; give one value a row, such as with "
                "reduction='none'."
            )
        return losses

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Evaluation mode, and gradients of activations alone."""
        learning = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        try:
            for parameter in learning:
                parameter.requires_grad_(False)
            with evaluating(self.net, self.device):
                yield
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)

    def _batches(self) -> Iterator[tuple[range, Any]]:
        for rows in cut_rows(range(len(self)), self.batch_size):
            if isinstance(self.inputs, Tensor):
                yield rows, self.inputs[rows.start : rows.stop].to(self.device)
            elif isinstance(self.inputs, Mapping):
                yield rows, {k: v[rows.start : rows.stop].to(self.device) for k, v in self.inputs.items()}
            else:
                dtype = next((p.dtype for p in self.net.parameters()), torch.float32)
                feed = Feed(self.inputs, getattr(self.net, "preprocess", preprocess_by_default), dtype)
                yield from feed.ahead([rows], device=self.device)

    def _labelled(self, values: Tensor, modality: str) -> xr.DataArray:
        if isinstance(self.inputs, StimulusSet):
            presentation = self.inputs.table
        else:
            presentation = pd.DataFrame({"stimulus_id": [f"{row:06d}" for row in range(len(self))]})
        shape = tuple(values.shape[1:]) or (1,)
        return assemble(
            values.flatten(1) if values.ndim > 1 else values[:, None],
            presentation=presentation,
            neuroid=label_features([Layer(self.layer, shape, np.dtype(np.float32).str)]),
            modality=modality,
            units="a.u.",
            provenance=f"{type(self.net).__name__}, {self.layer}, cerebridge {__version__}",
        )


def _shaped(given: Tensor, places: int, own: Tensor) -> Tensor:
    """Samples × units in the shape and type of a layer's own activations."""
    if given.numel() != own.numel():
        raise ValueError(
            f"{given.numel()} activations were given for {own.numel()} of the shape {tuple(own.shape)}; give as many."
        )
    if places > 1 and own.ndim > 3:
        # places × channels, where the layer has channels × rows × columns
        channels_last = (len(own), *own.shape[2:], own.shape[1])
        return given.reshape(channels_last).movedim(-1, 1).to(own.dtype)
    return given.reshape(own.shape).to(own.dtype)
