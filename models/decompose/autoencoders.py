"""Sparse autoencoders of activations, from memory or streamed from a store, as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..devices import resolve_device
from ..memory import format_bytes, parse_bytes
from ..training import train
from .building import begin_dictionary, from_arrays, require_parameters, to_arrays
from .dictionaries import Activation, Dictionary, Mixture
from .fidelity import Encoded, describe_codes, store_codes
from .persistence import Kept
from .pursuit import pursue
from .rows import give_features, give_units
from .samples import Samples, open_gradients, open_samples, open_units
from .streams import make_batches, sample

#: samples from which bias and scale are taken
FIRST_LOOK = 16384
#: parameters that say how and how far a training goes on, not what it is
GOES_ON = ("checkpoint", "device", "inference", "max_epochs", "memory", "progress")

#: what is learned
FITTED = ("components_", "encoder_", "encoder_bias_", "bias_", "threshold_")


class SparseAutoencoder(TransformerMixin, Kept):
    """Explain activations by few of many directions: a sparse autoencoder with a unit-norm decoder.

    Training works in units in which the mean squared norm of the centred activations is 1, so that its loss is a
    share of variance and the penalties below carry over from layer to layer; codes and reconstructions are in the
    units of the activations.

    Parameters
    ----------
    n_features
        Directions of the dictionary; usually several times the number of units.
    activation
        ``"topk"``: the ``k`` largest features of a sample (default). ``"gradient"``: the ``k`` whose change would
        change a loss most, so ``fit`` needs gradients (g-SAE). ``"jumprelu"``: features above thresholds that are
        learned. ``"relu"``: positive features, which cost their size (L1).
    k
        Features that are on, of the first two, and of ``inference="pursuit"``.
    sparsity
        Weight of the penalty of the other two: of the number of features that are on (JumpReLU) or of their sum.
    auxiliary, n_auxiliary, dead_after
        Of the first two: weight of the loss by which dead features learn from the error; how many of them a sample may
        use (default: half the units); samples without being on after which a feature counts as dead.
    mixture, beta
        g-SAE: whether features compete by pre-activation times ``beta`` |effect on the loss| (``"product"``), or by
        that added to the pre-activation (``"sum"``). Values are the pre-activations either way.
    threshold, bandwidth
        JumpReLU: where thresholds begin, and the width of the kernel by which they learn. The paper has 0.001 for both,
        and trains for far longer.
    resample_every
        ReLU: steps between resamplings of dead features; ``None`` (default) never does.
    warmup
        JumpReLU and ReLU: steps over which the penalty grows from zero.
    center
        Where the bias begins: ``"median"`` (geometric, default) or ``"mean"``.
    inference
        ``"encoder"`` (default), or ``"pursuit"``: codes of ``transform`` by gradient pursuit with the decoder.
    layer
        Which layer, of activations of several.
    positions
        Whether each place of a map or token of a sequence is a sample, with the channels as units.
    learning_rate, betas, batch_size, max_epochs, gradient_clip
        Of Adam and the one trainer.
    memory
        Bytes that samples in memory may take where activations are on disk, and a result in memory.
    device, random_state, checkpoint, progress
        As of :func:`cerebridge.models.training.train`.

    Attributes
    ----------
    components_
        Decoder directions, features × units, of unit norm.
    encoder_, encoder_bias_
        Features × units, and one a feature.
    bias_
        Of the units; subtracted before encoding, added after decoding.
    threshold_
        One a feature; ``None`` but for JumpReLU.
    scale_
        Root of the mean squared norm of centred samples: the unit that training works in.
    history_
        ``epoch`` and ``loss``.

    References
    ----------
    Gao et al. (2024), arXiv:2406.04093 (TopK). Rajamanoharan et al. (2024), arXiv:2407.14435 (JumpReLU). Bricken et al.
    (2023), Towards monosemanticity (L1). Olmo et al. (2024), arXiv:2411.10397 (g-SAE).

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.models.decompose import SparseAutoencoder
    >>> x = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
    >>> sae = SparseAutoencoder(12, k=2, max_epochs=3).fit(x)
    >>> codes = sae.transform(x)
    >>> codes.shape, int((codes > 0).sum(1).max())
    ((200, 12), 2)
    """

    components_: Any
    encoder_: Any
    encoder_bias_: Any
    bias_: Any
    threshold_: Any

    def __init__(
        self,
        n_features: int = 512,
        *,
        activation: Activation = "topk",
        k: int = 32,
        sparsity: float = 1e-2,
        auxiliary: float = 1 / 32,
        n_auxiliary: int | None = None,
        dead_after: int = 100_000,
        mixture: Mixture = "product",
        beta: float = 1.0,
        threshold: float = 0.05,
        bandwidth: float = 0.05,
        resample_every: int | None = None,
        warmup: int = 0,
        center: Literal["median", "mean"] = "median",
        inference: Literal["encoder", "pursuit"] = "encoder",
        layer: str | None = None,
        positions: bool = False,
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        batch_size: int = 1024,
        max_epochs: int = 10,
        gradient_clip: float | None = None,
        memory: str | int = "1GiB",
        device: str | torch.device = "auto",
        random_state: int = 0,
        checkpoint: str | Path | None = None,
        progress: bool | None = False,
    ) -> None:
        self.n_features = n_features
        self.activation = activation
        self.k = k
        self.sparsity = sparsity
        self.auxiliary = auxiliary
        self.n_auxiliary = n_auxiliary
        self.dead_after = dead_after
        self.mixture = mixture
        self.beta = beta
        self.threshold = threshold
        self.bandwidth = bandwidth
        self.resample_every = resample_every
        self.warmup = warmup
        self.center = center
        self.inference = inference
        self.layer = layer
        self.positions = positions
        self.learning_rate = learning_rate
        self.betas = betas
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.gradient_clip = gradient_clip
        self.memory = memory
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.progress = progress

    def fit(self, X: Any, y: Any = None, *, gradients: Any = None) -> SparseAutoencoder:
        """Learn the dictionary.

        Parameters
        ----------
        X
            Samples × units: numpy, torch, a labelled array in memory or on disk, or the folder of a store, from which
            batches are streamed within ``memory``.
        y
            Ignored; for pipelines.
        gradients
            Of a loss with respect to every value of ``X``, shaped and stored alike; for ``activation="gradient"``
            (:class:`cerebridge.models.decompose.LayerLoss` collects them).

        Raises
        ------
        ValueError, TypeError
            If parameters are wrong, values or gradients are missing, a store holds several layers and ``layer`` is not
            given, or training diverges.
        """
        require_parameters(self.get_params())
        sources = {"x": open_units(self, X, reset=True)}
        if self.activation == "gradient":
            sources["gradients"] = open_gradients(self, gradients, sources["x"])
        if len(sources["x"]) < 2:
            raise ValueError(
                f"a dictionary cannot be learned from n_samples={len(sources['x'])}; give at least 2 samples."
            )
        batches = make_batches(sources, self.batch_size, parse_bytes(self.memory))
        first = sample(batches, FIRST_LOOK, self.random_state)["x"]
        module = begin_dictionary(self.get_params(), first)
        training = train(
            module,
            module.loss,
            batches,
            optimizer=module.make_optimizer(self.learning_rate, self.betas),
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            gradient_clip=self.gradient_clip,
            device=self.device,
            random_state=self.random_state,
            checkpoint=self.checkpoint,
            options=repr([(name, value) for name, value in self.get_params().items() if name not in GOES_ON]),
            progress=self.progress,
        )
        self.scale_ = float(module.scale)
        module.rescale()
        for name, array in to_arrays(module).items():
            setattr(self, name, array)
        self.history_ = {name: training.history[name].to_numpy() for name in ("epoch", "loss")}
        return self

    def transform(self, X: Any, *, gradients: Any = None, store: str | Path | None = None) -> Any:
        """Encode samples.

        Parameters
        ----------
        X
            As in ``fit``.
        gradients
            g-SAE: choose features by what they do to the loss; without, the largest are kept.
        store
            A folder to which codes are written block by block instead of being kept in memory; called again after a
            crash it goes on where it stopped.

        Returns
        -------
        numpy.ndarray, torch.Tensor or xarray.DataArray
            Samples × features, of the caller's kind, mostly zeros; labelled ones with the neuroid coordinates
            ``feature``, ``layer`` and ``decomposition``, and on disk if a store was given.

        Raises
        ------
        ValueError
            If samples are not as wide as in ``fit``, or codes take more than ``memory``.

        Examples
        --------
        >>> import torch
        >>> from cerebridge.models.decompose import SparseAutoencoder
        >>> x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> SparseAutoencoder(8, k=2, max_epochs=1).fit(x).transform(x).shape
        torch.Size([100, 8])
        """
        check_is_fitted(self)
        samples = open_units(self, X, reset=False)
        slopes = None if gradients is None else open_gradients(self, gradients, samples)
        if store is not None:
            return store_codes(store, self._encoded(samples, slopes), self, samples.template)
        dtype = samples.working_type
        needed = len(samples) * self.n_features * dtype.itemsize
        if samples.on_disk and needed > parse_bytes(self.memory):
            raise ValueError(
                f"the codes take {format_bytes(needed)}, more than memory={self.memory!r}; give a folder as store=, or "
                "raise memory=."
            )
        codes = torch.empty(len(samples), self.n_features, dtype=dtype)
        for part in self._encoded(samples, slopes):
            codes[part.rows] = part.codes.cpu()
        return give_features(codes, X if samples.template is None else samples.template, self)

    def inverse_transform(self, codes: Any) -> Any:
        """Reconstruct activations from codes, with the labels of the units that ``fit`` was given.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.models.decompose import SparseAutoencoder
        >>> x = np.random.default_rng(0).standard_normal((100, 4))
        >>> sae = SparseAutoencoder(8, k=2, max_epochs=1).fit(x)
        >>> sae.inverse_transform(sae.transform(x)).shape
        (100, 4)
        """
        check_is_fitted(self)
        samples = open_samples(codes, name="the codes")
        if samples.n_features != self.n_features:
            raise ValueError(
                f"the codes have {samples.n_features} features, but the dictionary has {self.n_features}; give those "
                "of transform."
            )
        module = self.module().to(samples.working_type)
        with torch.no_grad():
            parts = [module.decode(samples.read(*cut).to(module.bias.dtype)) for cut in samples.cuts(0)]
        return give_units(torch.cat(parts), codes, self)

    def score(self, X: Any, y: Any = None) -> float:
        """Explained variance: 1 minus the squared error over the squared distance from the mean.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.models.decompose import SparseAutoencoder
        >>> x = np.random.default_rng(0).standard_normal((100, 4))
        >>> SparseAutoencoder(8, k=4, max_epochs=30, batch_size=16).fit(x).score(x) > 0.5
        True
        """
        return float(self.report(X)["explained_variance"][0])

    def report(
        self, X: Any, *, gradients: Any = None, loss: Callable[[Tensor], float] | None = None
    ) -> xr.Dataset:
        """Say how well and how sparsely samples are explained, and which features are used.

        Parameters
        ----------
        X
            As in ``fit``; better other samples.
        gradients
            g-SAE: codes chosen with them are reported beside those chosen by size.
        loss
            What the loss downstream is with other activations in the place of ``X``, all samples × units as one
            tensor; :class:`cerebridge.models.decompose.LayerLoss` is one.

        Returns
        -------
        xarray.Dataset
            For each ``selection`` (``"size"``, ``"gradient"``): ``explained_variance``, ``l0`` (features that are on),
            ``dead_share`` (of features that never are), ``loss_recovered`` (``(zero - dictionary) / (zero - clean)``);
            and over ``feature`` their ``frequency`` and ``mean_activation`` where they are on.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.models.decompose import SparseAutoencoder
        >>> x = np.random.default_rng(0).standard_normal((100, 4))
        >>> float(SparseAutoencoder(8, k=2, max_epochs=1).fit(x).report(x)["l0"][0]) <= 2
        True
        """
        check_is_fitted(self)
        samples = open_units(self, X, reset=False)
        chosen: dict[str, Samples | None] = {"size": None}
        if gradients is not None:
            chosen["gradient"] = open_gradients(self, gradients, samples)
        reports = [
            describe_codes(self._encoded(samples, slopes), loss).expand_dims(selection=[name])
            for name, slopes in chosen.items()
        ]
        told = {
            "decomposition": type(self).__name__,
            "n_features": self.n_features,
            "activation": self.activation,
        }
        return xr.concat(reports, "selection").assign_attrs(told)

    def module(self) -> Dictionary:
        """The trained network itself, in evaluation mode, for inputs in their own units.

        Examples
        --------
        >>> import torch
        >>> from cerebridge.models.decompose import SparseAutoencoder
        >>> x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> SparseAutoencoder(8, k=2, max_epochs=1).fit(x).module().encode(x).shape
        torch.Size([100, 8])
        """
        check_is_fitted(self)
        return from_arrays(self.get_params(), {name: getattr(self, name) for name in FITTED})

    def _encoded(self, samples: Samples, slopes: Samples | None) -> Iterator[Encoded]:
        """Samples and their codes, some at a time."""
        where = resolve_device(self.device)
        module = self.module().to(where, samples.working_type)
        for start, stop in samples.cuts(self.n_features):
            block = samples.read(start, stop).to(where, module.bias.dtype)
            effects = None if slopes is None else slopes.read(start, stop).to(where)
            with torch.no_grad():
                if self.inference == "pursuit":
                    codes = pursue(block - module.bias, module.decoder, self.k)
                else:
                    codes = module.encode(block, effects)
                yield Encoded(start * samples.places, block, codes, module.decode(codes))

    def __sklearn_tags__(self) -> Any:
        """Both precisions stay, as scikit-learn from 1.6 asks."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _more_tags(self) -> dict[str, Any]:
        """The same, as scikit-learn before 1.6 asks."""
        return {"preserves_dtype": [np.float64, np.float32]}
