"""Local interaction bases: directions of each layer that vary and that the next layer reads, and how they interact."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ... import __version__
from ...neuro.assembly import validate
from ...neuro.progress import track
from ..devices import resolve_device
from ..interventions import intervene
from ..names import nearest
from ..taps import Inputs, LayerTaps, evaluating, run_network
from .bases import Basis, Moments
from .rows import relabel
from .states import cut_batches

#: most units of a layer: their products with each other are held at once
WIDEST = 8192


class LocalInteractionBasis(BaseEstimator):
    """Bases of a sequence of layers, made from the last one back, in which layers interact sparsely.

    The last layer's basis are its principal components. Every layer before is whitened and turned to the principal
    directions of its Jacobian to the basis of the next layer, so that directions are ordered by what they do; those
    that do not vary, or that nothing reads, are left out. Means and biases belong to one constant direction, which is
    no part of the bases.

    Parameters
    ----------
    net
        A network in which each of the layers depends on the data through the one before.
    layers
        Their names, from input to output. All axes of an output are flattened to units.
    tolerance
        Share of a layer's largest eigenvalue below which directions are left out.
    batch_size, device
        As everywhere.
    progress
        A progress bar over layers; ``None`` on a terminal only.

    Attributes
    ----------
    bases_ : dict of Basis
        By layer: ``vectors`` (units × directions), their ``inverse``, the ``mean`` and ``importance`` (mean squared
        effect on the next layer's basis; of the last layer, variance), all float64.
    edges_ : dict of xarray.DataArray
        By layer but the last: mean squared Jacobian from its directions (``source``) to those of the next (``sink``).

    References
    ----------
    Bushnaq et al. (2024). The local interaction basis: identifying computationally-relevant and sparsely interacting
    features in neural networks.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models import decompose
    >>> net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 2))
    >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> basis = decompose.LocalInteractionBasis(net, ["0", "1"]).fit(x)
    >>> basis.edges_["0"].round(6).values.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(
        self,
        net: nn.Module,
        layers: Sequence[str],
        *,
        tolerance: float = 1e-5,
        batch_size: int = 64,
        device: str | torch.device = "auto",
        progress: bool | None = None,
    ) -> None:
        self.net = net
        self.layers = layers
        self.tolerance = tolerance
        self.batch_size = batch_size
        self.device = device
        self.progress = progress

    def fit(self, inputs: Inputs, y: Any = None) -> LocalInteractionBasis:
        """Find the bases on a network's inputs.

        Parameters
        ----------
        inputs
            A batch, or tensors by name.
        y
            Not used.

        Raises
        ------
        ValueError
            If there are fewer than two layers, one is too wide or does not vary, or one does not depend on the one
            before.

        Examples
        --------
        >>> import torch
        >>> from cerebridge.models import decompose
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> basis = decompose.LocalInteractionBasis(net, ["0", "1", "2"]).fit(torch.randn(50, 4))
        >>> list(basis.bases_), list(basis.edges_)
        (['0', '1', '2'], ['0', '1'])
        """
        if isinstance(self.layers, str) or len(self.layers) < 2:
            raise ValueError("interactions need at least two layers, from input to output.")
        where = resolve_device(self.device)
        with evaluating(self.net, where):
            batches = list(cut_batches(inputs, self.batch_size, where))
            self._spectra = self._measure(batches)
            mean, vectors, variances = self._spectra[self.layers[-1]]
            last = Basis(mean, vectors, vectors.T, variances)
            found, edges = {self.layers[-1]: last}, {}
            pairs = list(zip(self.layers[-2::-1], self.layers[:0:-1], strict=True))
            for layer, following in track(pairs, "turning bases", show=self.progress):
                found[layer] = self._turn(layer, following, found[following], batches)
                edges[layer] = self._edges(layer, following, found[layer], found[following], batches)
        self.bases_ = {layer: found[layer] for layer in self.layers}
        self.edges_ = {layer: edges[layer] for layer in self.layers[:-1]}
        return self

    def transform(self, X: Any, layer: str | None = None) -> Any:
        """Bring activations into the bases.

        Parameters
        ----------
        X
            Activations as :func:`models.extract` gives them without pooling (of one or several of the layers), or rows
            × units of one layer.
        layer
            Which, where ``X`` has no labels.

        Returns
        -------
        xarray.DataArray, torch.Tensor or numpy.ndarray
            Rows × directions, most important first; labelled neuroids carry ``layer``, ``feature`` and ``importance``.

        Raises
        ------
        ValueError
            If a layer was not fitted, or there are other units than it has.

        Examples
        --------
        >>> import torch
        >>> from cerebridge.models import decompose
        >>> net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 2))
        >>> x = torch.randn(50, 4)
        >>> decompose.LocalInteractionBasis(net, ["0", "1"]).fit(x).transform(x, "0").shape
        torch.Size([50, 2])
        """
        check_is_fitted(self)
        if not isinstance(X, xr.DataArray):
            rows = X if isinstance(X, Tensor) else torch.from_numpy(np.asarray(X))
            features = self._features(rows, self._known(layer))
            return features if isinstance(X, Tensor) else features.numpy()
        owners = (
            validate(X)["layer"].values if "layer" in X.coords else np.full(X.shape[1], layer, dtype=object)
        )
        parts, tables = [], []
        for name in dict.fromkeys(owners.tolist()):
            values = torch.from_numpy(np.asarray(X.values[:, owners == name]))
            parts.append(self._features(values, self._known(name)))
            tables.append(self._labels(name))
        facts = {
            "decomposition": type(self).__name__,
            "layers": list(self.layers),
            "tolerance": self.tolerance,
        }
        provenance = json.dumps({**facts, "of": X.attrs.get("provenance", ""), "cerebridge": __version__})
        return relabel(torch.cat(parts, 1), X, pd.concat(tables, ignore_index=True), "features", provenance)

    def edges(
        self, inputs: Inputs, kind: Literal["interaction", "pca"] = "interaction", n_steps: int = 1
    ) -> dict[str, xr.DataArray]:
        """Measure how the directions of layers interact on other inputs, or those of principal components.

        Parameters
        ----------
        inputs
            As for :meth:`fit`.
        kind
            ``"interaction"`` (these bases) or ``"pca"`` (principal components of each layer, for comparison).
        n_steps
            1 (default): the Jacobian where the activations are. More: its mean over as many steps on the way there from
            the layer's mean, as integrated gradients take it (Sundararajan et al., 2017).

        Returns
        -------
        dict of xarray.DataArray
            As ``edges_``.

        Examples
        --------
        >>> import torch
        >>> from cerebridge.models import decompose
        >>> net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 2))
        >>> x = torch.randn(50, 4)
        >>> decompose.LocalInteractionBasis(net, ["0", "1"]).fit(x).edges(x, "pca")["0"].shape
        (2, 4)
        """
        check_is_fitted(self)
        if kind not in ("interaction", "pca") or n_steps < 1:
            raise ValueError(
                f"kind={kind!r}, n_steps={n_steps!r}: use 'interaction' or 'pca', and at least one step."
            )
        where = resolve_device(self.device)
        with evaluating(self.net, where):
            batches = list(cut_batches(inputs, self.batch_size, where))
            pairs = zip(self.layers[:-1], self.layers[1:], strict=True)
            return {
                a: self._edges(a, b, self._basis(a, kind), self._basis(b, kind), batches, n_steps)
                for a, b in pairs
            }

    def measure_ablation(
        self,
        inputs: Inputs,
        score: Callable[[Any], float],
        layer: str,
        kept: Sequence[int] | None = None,
    ) -> xr.DataArray:
        """Score the network with only the most important directions of a layer left, beside as many principal ones.

        Parameters
        ----------
        inputs
            All in one batch.
        score
            Of the network's output, such as its accuracy.
        layer
            Where directions are taken out.
        kept
            Numbers of directions; default: 0 to all.

        Returns
        -------
        xarray.DataArray
            ``basis × kept`` (``"interaction"``, ``"pca"``).

        Examples
        --------
        >>> import torch
        >>> from cerebridge.models import decompose
        >>> net = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 2))
        >>> x = torch.randn(50, 4)
        >>> basis = decompose.LocalInteractionBasis(net, ["0", "1"]).fit(x)
        >>> error = lambda y: float((y - net(x)).abs().max())
        >>> bool(basis.measure_ablation(x, error, "0").values[0, -1] < 1e-5)
        True
        """
        check_is_fitted(self)
        full = {kind: self._basis(self._known(layer), kind) for kind in ("interaction", "pca")}
        most = max(len(basis.importance) for basis in full.values())
        numbers = list(range(most + 1)) if kept is None else list(kept)
        where = resolve_device(self.device)
        scores = []
        with evaluating(self.net, where):
            (batch,) = cut_batches(inputs, 2**62, where)
            for basis in full.values():
                for n in numbers:
                    with intervene(self.net, {layer: basis.kept(n).project}):
                        scores.append(float(score(run_network(self.net, batch))))
        values = np.reshape(scores, (len(full), -1))
        return xr.DataArray(values, [("basis", list(full)), ("kept", numbers)], attrs={"layer": layer})

    def _known(self, layer: str | None) -> str:
        if layer not in self.bases_:
            raise ValueError(f"the layer {layer!r} was not fitted; {nearest(str(layer), self.bases_)}.")
        return str(layer)

    def _features(self, rows: Tensor, layer: str) -> Tensor:
        basis = self.bases_[layer]
        if rows.ndim != 2 or rows.shape[1] != len(basis.mean):
            raise ValueError(
                f"the layer {layer!r} has {len(basis.mean)} units, but the activations have the shape "
                f"{tuple(rows.shape)}; give rows × units, without pooling."
            )
        if not bool(torch.isfinite(rows).all()):
            raise ValueError(f"the activations of {layer!r} have NaN or infinite values; drop these rows.")
        features = (rows.double() - basis.mean.to(rows.device)) @ basis.vectors.to(rows.device)
        return features.to(rows.dtype if rows.is_floating_point() else torch.float64)

    def _labels(self, layer: str) -> pd.DataFrame:
        kind, importance = type(self).__name__, self.bases_[layer].importance.numpy()
        ids = [f"{layer}/{kind}/{k:06d}" for k in range(len(importance))]
        table = {"neuroid_id": ids, "layer": layer, "feature": range(len(ids)), "decomposition": kind}
        return pd.DataFrame({**table, "importance": importance})

    def _basis(self, layer: str, kind: str) -> Basis:
        if kind == "interaction":
            return self.bases_[layer]
        mean, vectors, variances = self._spectra[layer]
        return Basis(mean, vectors, vectors.T, variances)

    def _measure(self, batches: list[Any]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Mean, principal directions and variances of every layer."""
        taps = LayerTaps(self.net, list(self.layers))
        seen: dict[str, Moments] = {}

        def receive(layer: str, output: Tensor) -> None:
            flat = output.flatten(1)
            if flat.shape[1] > WIDEST:
                raise ValueError(
                    f"the layer {layer!r} has {flat.shape[1]} units, more than {WIDEST}; take one after pooling."
                )
            seen.setdefault(layer, Moments(flat.shape[1])).add(flat.double().cpu())

        for batch in batches:
            taps.run(batch, receive)
        out = {}
        for layer, moments in seen.items():
            variances, vectors = torch.linalg.eigh(moments.covariance)
            mean = moments.mean
            if float(variances[-1]) <= 1e-12 * float(mean.square().mean() + variances.clamp_min(0).mean()):
                raise ValueError(f"the layer {layer!r} does not vary over the inputs; give others.")
            kept = variances.flip(0) > self.tolerance * variances[-1]
            out[layer] = (mean, vectors.flip(1)[:, kept], variances.flip(0)[kept])
        return out

    def _turn(self, layer: str, following: str, after: Basis, batches: list[Any]) -> Basis:
        """Whiten a layer and turn it to what the next one's basis reads."""
        mean, vectors, variances = self._spectra[layer]
        spread = vectors * variances.sqrt()
        product, n = torch.zeros(len(variances), len(variances), dtype=torch.float64), 0
        for jacobian in self._jacobians(layer, following, after, batches):
            whitened = jacobian @ spread
            product += torch.einsum("bij,bik->jk", whitened, whitened)
            n += len(jacobian)
        effects, turned = torch.linalg.eigh(product / n)
        kept = effects.flip(0) > self.tolerance * effects[-1]
        if float(effects[-1]) <= 0:
            raise ValueError(f"{following!r} does not depend on {layer!r}; give layers in their order.")
        turned, effects = turned.flip(1)[:, kept], effects.flip(0)[kept]
        forth = (vectors / variances.sqrt()) @ turned * effects.sqrt()
        return Basis(mean, forth, (spread @ turned / effects.sqrt()).T, effects)

    def _edges(
        self, layer: str, following: str, before: Basis, after: Basis, batches: list[Any], n_steps: int = 1
    ) -> xr.DataArray:
        total, n = torch.zeros(after.vectors.shape[1], before.vectors.shape[1], dtype=torch.float64), 0
        # one step is the end of the way, several are the middles of its parts
        way = [1.0] if n_steps == 1 else [(step + 0.5) / n_steps for step in range(n_steps)]
        for batch in batches:
            steps = [next(self._jacobians(layer, following, after, [batch], alpha)) for alpha in way]
            jacobian = torch.stack(steps).mean(0)
            total += (jacobian @ before.inverse.T).square().sum(0)
            n += len(jacobian)
        coords = {"sink": range(total.shape[0]), "source": range(total.shape[1])}
        attrs = {"source_layer": layer, "sink_layer": following}
        return xr.DataArray(total / n, coords, ("sink", "source"), attrs=attrs)

    def _jacobians(
        self, layer: str, following: str, after: Basis, batches: list[Any], alpha: float = 1.0
    ) -> Iterator[Tensor]:
        """Of each batch: stimuli × the next layer's directions × units, ``alpha`` of the way from the layer's mean."""
        mean = self._spectra[layer][0]
        for batch in batches:
            inside: list[Tensor] = []
            outside: list[Tensor] = []

            def enter(activations: Tensor, inside: list[Tensor]) -> Tensor:
                middle = mean.to(activations).reshape(activations.shape[1:])
                inside.append((middle + alpha * (activations - middle)).detach().requires_grad_())
                return inside[0]

            def leave(activations: Tensor, outside: list[Tensor]) -> Tensor:
                outside.append(activations.flatten(1))
                return activations

            changes = {layer: partial(enter, inside=inside), following: partial(leave, outside=outside)}
            with torch.enable_grad(), intervene(self.net, changes):
                run_network(self.net, batch)
                features = (outside[0] @ after.vectors.to(outside[0])).sum(0)
            if not features.requires_grad:
                raise ValueError(f"{following!r} does not depend on {layer!r}; give layers in their order.")
            # stimuli do not mix in evaluation mode: the gradient of a sum over them is that of each
            each = torch.eye(len(features)).to(features)
            (gradients,) = torch.autograd.grad(features, inside[0], each, is_grads_batched=True)
            yield gradients.flatten(2).transpose(0, 1).double().cpu()
