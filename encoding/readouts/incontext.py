"""In-context encoding of voxels: a network meta-trained over subjects turns a few examples into weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ...models.training import Batch, Precision, seeded, train
from ...neuro.progress import track
from .. import inputs
from ..containers import labels_along, to_tensor
from ..linear import LinearEncoder
from ..parameters import whole_number
from .context import ContextNetwork
from .episodes import Episodes, Subject, hold_out, minus_error, squared_error, stages, z_score

#: parameters that make another network
SIZES = ("width", "layers", "heads", "feedforward", "registers")
#: epochs without gain after which the learning rate falls to a tenth
PLATEAU = 5


class InContextEncoder(LinearEncoder):
    """Linear encoding of voxels of a new subject from few examples, by a network that has seen other subjects.

    :meth:`meta_fit` trains a transformer over many voxels of several subjects: from a set of images with the responses
    of one voxel it has to tell the weights that predict the voxel's responses to other images. :meth:`fit` is
    then one pass of that network over the examples of a new subject, voxel by voxel, without a gradient step.

    Parameters
    ----------
    width, layers, heads, feedforward, registers
        Of the transformer; ``heads`` divides ``width``. The defaults are the paper's, for CLIP embeddings of 512
        values and a GPU; ``width=32, layers=2, heads=4, feedforward=64`` learns a toy in half a minute on a CPU.
    dropout
        While meta-training.
    context
        Fewest and most examples of a voxel while meta-training.
    queries
        Images to predict, of each voxel in each step.
    max_epochs
        Of the three stages: synthetic voxels (random weights on the subjects' images) with the fewest examples;
        synthetic voxels with any number of examples; recorded voxels. 0 leaves a stage out.
    learning_rate, weight_decay
        Of AdamW. The learning rate falls to a tenth where the held-out voxels are predicted no better for 5 epochs.
    batch_size
        Voxels of a step, and of a block when weights are predicted.
    patience
        Epochs without a better prediction of held-out voxels after which a stage ends; ``None``: never early.
    gradient_clip
        Largest norm of the gradient.
    validation
        Share of every subject's voxels held out in :meth:`meta_fit`, unless subjects are.
    standardise
        Whether embeddings are brought to unit norm and responses z-scored (over all of a subject's images in
        :meth:`meta_fit`, over the examples in :meth:`fit`), as in the paper.
    precision
        ``"32-true"``, or ``"bf16-mixed"`` on a GPU.
    device, progress
        As everywhere.
    random_state
        Seeds weights, voxels, images and dropout.
    checkpoint
        Folder in which :meth:`meta_fit` keeps a file a stage; started again, it goes on where it was interrupted.

    Attributes
    ----------
    coef_, intercept_
        ``(targets, features)`` and ``(targets,)``; of embeddings at unit norm where ``standardise``.
    meta_weights_
        Weights of the network by name. A clone keeps them, because :meth:`fit` learns nothing of them.
    meta_history_
        Of every epoch of :meth:`meta_fit`: ``stage``, ``epoch``, ``loss``, ``score`` (minus the squared error of
        held-out voxels), ``learning_rate``.
    n_features_in_
        Number of values of an embedding.

    References
    ----------
    Yu et al. (2025), "Meta-learning an in-context transformer model of human higher visual cortex" (BraInCoRL).

    Examples
    --------
    >>> import numpy as np
    >>> from cerebridge.encoding import readouts
    >>> rng = np.random.default_rng(0)
    >>> embeddings = rng.standard_normal((40, 3))
    >>> subject = embeddings, embeddings @ rng.standard_normal((3, 16))
    >>> encoder = readouts.InContextEncoder(16, 1, 2, 16, context=(4, 8), queries=8, max_epochs=(0, 0, 1))
    >>> encoder.meta_fit([subject]).fit(embeddings[:8], subject[1][:8, :5]).coef_.shape
    (5, 3)
    """

    #: the weights of a voxel depend on its own examples only
    independent_targets = True

    def __init__(
        self,
        width: int = 560,
        layers: int = 20,
        heads: int = 10,
        feedforward: int = 2048,
        registers: int = 4,
        dropout: float = 0.5,
        context: tuple[int, int] = (30, 500),
        queries: int = 100,
        max_epochs: tuple[int, int, int] = (100, 100, 100),
        learning_rate: float = 1e-4,
        weight_decay: float = 0.1,
        batch_size: int = 64,
        patience: int | None = None,
        gradient_clip: float | None = 1.0,
        validation: float = 0.1,
        standardise: bool = True,
        precision: Precision = "32-true",
        device: str | torch.device = "auto",
        random_state: int = 0,
        checkpoint: str | Path | None = None,
        progress: bool | None = False,
    ) -> None:
        self.width = width
        self.layers = layers
        self.heads = heads
        self.feedforward = feedforward
        self.registers = registers
        self.dropout = dropout
        self.context = context
        self.queries = queries
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.patience = patience
        self.gradient_clip = gradient_clip
        self.validation = validation
        self.standardise = standardise
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.progress = progress

    def meta_fit(self, subjects: Sequence[tuple[Any, Any]], held_out: Sequence[tuple[Any, Any]] = ()) -> Any:
        """Train the network over the voxels of several subjects.

        Parameters
        ----------
        subjects
            For each: embeddings ``(images, features)`` of what was seen, and responses ``(images, voxels)``.
        held_out
            Subjects by whose voxels the best epoch is chosen; default: a share of the voxels of ``subjects``.

        Raises
        ------
        ValueError, TypeError
            If a subject has too few images, other embeddings, or missing values; or a checkpoint is of another network.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.encoding import readouts
        >>> rng = np.random.default_rng(0)
        >>> subjects = [(rng.standard_normal((30, 3)), rng.standard_normal((30, 9))) for _ in range(2)]
        >>> encoder = readouts.InContextEncoder(16, 1, 2, 16, context=(4, 8), queries=8, max_epochs=(1, 1, 2))
        >>> encoder.meta_fit(subjects).meta_history_["stage"].tolist()
        ['short', 'long', 'recorded', 'recorded']
        """
        context = self._check_parameters()
        if not len(subjects):
            raise ValueError(
                "there are no subjects to learn from; give (embeddings, responses) of at least one."
            )
        people = [self._subject(k, *subject) for k, subject in enumerate([*subjects, *held_out])]
        trained, tested = people[: len(subjects)], people[len(subjects) :]
        if not tested:
            trained, tested = hold_out(trained, self.validation, self.random_state)
        sizes = {name: getattr(self, name) for name in SIZES}
        with seeded(self.random_state):
            network = ContextNetwork(self.n_features_in_, **sizes, dropout=self.dropout)
        scored = tuple(self._episodes(tested, context).draw(torch.Generator().manual_seed(self.random_state)))
        runs = [
            self._stage(network, name, self._episodes(trained, lengths, synthetic), scored, epochs)
            for (name, lengths, synthetic), epochs in zip(stages(context), self.max_epochs, strict=True)
            if epochs
        ]
        self.meta_sizes_ = sizes
        self.meta_weights_ = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
        history = pd.concat(runs, ignore_index=True)
        self.meta_history_ = {str(name): np.asarray(values.tolist()) for name, values in history.items()}
        return self

    def fit(self, X: Any, y: Any) -> InContextEncoder:
        """Tell the weights of every voxel from its examples, in one pass of the network.

        Parameters
        ----------
        X
            Embeddings of the examples, ``(samples, features)``, of the kind that the network was meta-trained on.
        y
            Responses to them, ``(samples,)`` or ``(samples, targets)``.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            Before :meth:`meta_fit`; if embeddings have another width than there, or input is wrong otherwise.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.encoding import readouts
        >>> rng = np.random.default_rng(0)
        >>> subject = rng.standard_normal((40, 3)), rng.standard_normal((40, 16))
        >>> encoder = readouts.InContextEncoder(16, 1, 2, 16, context=(4, 8), queries=8, max_epochs=(0, 0, 1))
        >>> encoder.meta_fit([subject]).fit(subject[0][:8], subject[1][:8, 0]).predict(subject[0]).shape
        (40,)
        """
        network = self._network()
        self._require_width(X)
        features = inputs.features(self, X, reset=False)
        targets = inputs.targets(y, len(features), X)
        device = self._device(X)
        network.to(device)
        examples = self._embed(features).to(device, torch.float32)
        responses, mean, scale = z_score(targets.reshape(len(targets), -1), self.standardise)
        responses = responses.T.to(device, torch.float32)
        blocks = track(responses.split(self.batch_size), "reading examples", show=self.progress)
        with torch.no_grad():
            weights = torch.cat([network(examples.expand(len(part), -1, -1), part) for part in blocks])
        weights = weights.to(torch.promote_types(features.dtype, targets.dtype)) * scale.to(weights)[:, None]
        intercept = weights[:, -1] + mean.to(weights)
        self._keep(
            X, y, {"coef_": (weights[:, :-1], ("target", "feature")), "intercept_": (intercept, ("target",))}
        )
        return self

    def query(self, embeddings: Any, labels: Sequence[Any] | None = None) -> xr.DataArray:
        """Predicted response of every voxel to embeddings of anything: images, or texts in the same space.

        Parameters
        ----------
        embeddings
            ``(queries, features)``, or ``(features,)`` for one.
        labels
            One for each, such as the texts; default: their numbers.

        Returns
        -------
        xarray.DataArray
            ``(query, neuroid)``, with the labels of the fitted responses.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.encoding import readouts
        >>> rng = np.random.default_rng(0)
        >>> subject = rng.standard_normal((40, 3)), rng.standard_normal((40, 16))
        >>> encoder = readouts.InContextEncoder(16, 1, 2, 16, context=(4, 8), queries=8, max_epochs=(0, 0, 1))
        >>> encoder = encoder.meta_fit([subject]).fit(subject[0][:8], subject[1][:8])
        >>> encoder.query(np.eye(3)[:2], ["a face", "a house"]).sel(query="a face").shape
        (16,)
        """
        check_is_fitted(self, "coef_")
        rows = to_tensor(embeddings, "cpu")
        rows = rows[None] if rows.ndim == 1 else rows
        names = np.arange(len(rows)) if labels is None else np.asarray(labels)
        if names.shape != (len(rows),):
            raise ValueError(
                f"there are {len(rows)} embeddings and {names.size} labels; give one label each."
            )
        self._require_width(rows)
        predicted = np.asarray(to_tensor(self.predict(rows), "cpu")).reshape(len(rows), -1)
        known = self.intercept_
        coords: dict[Any, Any] = {"query": ("query", names)}
        if isinstance(known, xr.DataArray) and known.ndim:
            coords |= labels_along(known, known.dims[0], renamed="neuroid")
        return xr.DataArray(predicted, coords, ("query", "neuroid"))

    def _predict(self, features: torch.Tensor) -> torch.Tensor:
        return super()._predict(self._embed(features))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coef_")

    def __sklearn_clone__(self) -> InContextEncoder:
        """An unfitted copy that knows what meta-training taught."""
        copy = type(self)(
            **{name: clone(value, safe=False) for name, value in self.get_params(deep=False).items()}
        )
        learned = ("meta_sizes_", "meta_weights_", "meta_history_", "n_features_in_")
        copy.__dict__.update({name: vars(self)[name] for name in learned if name in vars(self)})
        return copy

    def _stage(
        self, network: ContextNetwork, name: str, episodes: Episodes, scored: tuple[Batch, ...], epochs: int
    ) -> pd.DataFrame:
        training = train(
            network,
            squared_error,
            episodes,
            validation=scored,
            score=minus_error,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=partial(torch.optim.lr_scheduler.ReduceLROnPlateau, mode="max", patience=PLATEAU),
            max_epochs=epochs,
            patience=self.patience,
            gradient_clip=self.gradient_clip,
            precision=self.precision,
            device=self.device,
            random_state=self.random_state,
            checkpoint=None if self.checkpoint is None else Path(self.checkpoint) / f"{name}.ckpt",
            progress=self.progress,
        )
        return training.history.assign(stage=name)

    def _episodes(
        self, subjects: Sequence[Subject], context: tuple[int, int], synthetic: bool = False
    ) -> Episodes:
        return Episodes(subjects, context, self.queries, self.batch_size, synthetic)

    def _subject(self, number: int, embeddings: Any, responses: Any) -> Subject:
        """A subject's data, checked and standardised."""
        try:
            if number:
                self._require_width(embeddings)
            features = inputs.features(self, embeddings, reset=not number)
            targets = inputs.targets(responses, len(features), embeddings)
        except (TypeError, ValueError) as error:
            raise type(error)(f"subject {number}: {error}") from None
        needed = self.context[1] + self.queries
        if len(features) < needed:
            raise ValueError(
                f"subject {number} has {len(features)} images, and {self.context[1]} examples with {self.queries} "
                f"queries need {needed}; lower context or queries."
            )
        if targets.ndim != 2 or targets.shape[1] < 2:
            raise ValueError(f"subject {number} has a single voxel; give images × voxels.")
        responses, _, _ = z_score(targets, self.standardise)
        return Subject(self._embed(features).to("cpu", torch.float32), responses.to("cpu", torch.float32))

    def _embed(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings as the network takes them."""
        return torch.nn.functional.normalize(features, dim=1) if self.standardise else features

    def _network(self) -> ContextNetwork:
        """The meta-trained network."""
        if not hasattr(self, "meta_weights_"):
            raise NotFittedError(
                f"this {type(self).__name__} has seen no subjects; call meta_fit before fit, or load one that has."
            )
        sizes = {name: getattr(self, name) for name in SIZES}
        if sizes != self.meta_sizes_:
            name = next(name for name, size in sizes.items() if size != self.meta_sizes_[name])
            raise ValueError(
                f"{name} is {sizes[name]}, but the network was meta-trained with {self.meta_sizes_[name]}; set it "
                "back, or call meta_fit again."
            )
        with torch.device("meta"):
            network = ContextNetwork(self.n_features_in_, **sizes, dropout=self.dropout)
        weights = {name: torch.from_numpy(value.copy()) for name, value in self.meta_weights_.items()}
        network.load_state_dict(weights, assign=True)
        return network.eval()

    def _require_width(self, embeddings: Any) -> None:
        shape = np.shape(embeddings)
        if len(shape) == 2 and shape[1] != self.n_features_in_:
            raise ValueError(
                f"the embeddings have {shape[1]} values, but the network was meta-trained on {self.n_features_in_}; "
                "give embeddings of the same model."
            )

    def _check_parameters(self) -> tuple[int, int]:
        """The range of context lengths, once all parameters make sense."""
        for name in (*SIZES, "queries", "batch_size"):
            whole_number(getattr(self, name), name)
        if self.width % self.heads:
            raise ValueError(f"width={self.width} is no multiple of heads={self.heads}; change one of them.")
        context = tuple(self.context)
        if len(context) != 2 or not 2 <= context[0] <= context[1]:
            raise ValueError(f"context={self.context!r} must be the fewest and the most examples, from 2 on.")
        if len(self.max_epochs) != 3 or min(self.max_epochs) < 0 or not any(self.max_epochs):
            raise ValueError(
                f"max_epochs={self.max_epochs!r} must be three numbers, for the stages of training, not all of them 0."
            )
        if not 0 < self.validation < 1:
            raise ValueError(
                f"validation={self.validation!r} must be a share of the voxels, between 0 and 1."
            )
        return int(context[0]), int(context[1])
