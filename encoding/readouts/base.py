"""What all trained readouts share: maps in, an inner validation set, the one trainer, a state without pickles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ...models.training import Batch, Training, seeded, train
from .. import inputs
from ..containers import kind_of, labels_along, to_tensor
from ..engine.moments import Split
from ..engine.scoring import pearsonr
from ..linear import Encoder
from ..maps import Layout, read_maps

#: rows that are predicted at a time
ROWS_AT_ONCE = 256
#: parameters that say how and how far a training goes on, not what it is
GOES_ON = ("checkpoint", "device", "max_epochs", "patience", "progress", "random_state", "queries_at_once")
#: splits of the training samples by which a closed-form start is chosen
STARTS = 3


class MapEncoder(Encoder):
    """An encoder of feature maps or tokens: it knows where in a row of features which place of which channel lies.

    A subclass calls :meth:`_read` in ``fit``; ``_predict`` gets rows of features and asks ``layout_`` for maps.
    """

    #: labelled features come with their labels, plain ones in their own shape
    takes_labels = True
    takes_maps = True
    #: layer whose neuroids describe the image as a whole, where a readout uses that
    semantics: str | None = None

    def predict(self, X: Any) -> Any:
        """Predict the responses to maps like those of ``fit``; see :meth:`Encoder.predict`.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.encoding import readouts
        >>> maps = np.random.default_rng(0).standard_normal((40, 2, 3, 3))
        >>> readouts.PRFReadout().fit(maps, maps[:, :, 1, 1]).predict(maps[:5]).shape
        (5, 2)
        """
        rows, layout = read_maps(X, type(self).__name__, self.semantics)
        fitted: Layout | None = getattr(self, "layout_", None)
        if fitted is not None and layout.shape != fitted.shape:
            raise ValueError(
                f"X holds maps of {layout}, but {type(self).__name__} was fitted to {fitted}; give maps of the same "
                "layer."
            )
        if fitted is not None and (layout.semantics is None) != (fitted.semantics is None):
            missing = "lacks the semantics" if layout.semantics is None else "has semantics"
            raise ValueError(
                f"X {missing}, unlike what {type(self).__name__} was fitted to; give both alike."
            )
        if layout.order is not None or layout.semantics is not None:
            rows = _in_order(rows, layout)
        return super().predict(rows)

    def _read(self, X: Any, y: Any) -> tuple[Any, Tensor, Tensor]:
        """Features in the order of maps and then semantics, of the kind they were and as a tensor; and responses."""
        rows, layout = read_maps(X, type(self).__name__, self.semantics)
        rows = _in_order(rows, layout)
        features = inputs.features(self, rows, reset=True)
        places = None
        if layout.semantics is not None:
            places = np.arange(features.shape[1] - len(layout.semantics), features.shape[1])
        self.layout_ = Layout(layout.shape, None, places)
        return rows, features, inputs.targets(y, len(features), rows)

    def __sklearn_tags__(self) -> Any:
        """Maps, not tables, as scikit-learn from 1.6 asks."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        """The same, as scikit-learn before 1.6 asks."""
        return {"X_types": ["3darray"]}


class Readout(MapEncoder):
    """A readout that is trained by gradients; early stopping on responses that are held out inside ``fit``.

    A subclass defines :meth:`_build`, a module that maps ``maps`` (and ``semantics`` where it reads them) to
    standardised responses. If the module has a method ``penalty``, its value is added to the squared error. It may
    change what the module is given (:meth:`_tensors`), start it somewhere (:meth:`_start`), and keep what it
    learned under names of its own (:meth:`_keep_fit`).
    """

    #: what early stopping looks at
    scoring = "pearsonr"

    validation: float
    optimizer: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    patience: int | None
    gradient_clip: float | None
    random_state: Any
    checkpoint: str | Path | None
    progress: bool | None

    @abstractmethod
    def _build(self, layout: Layout, n_targets: int) -> nn.Module:
        """The untrained module."""

    def _tensors(self, features: Tensor, layout: Layout) -> dict[str, Tensor]:
        """What the module is called with, from rows of features."""
        tensors = {"maps": layout.maps(features).to(torch.float32)}
        if layout.semantics is not None:
            tensors["semantics"] = features[:, layout.semantics].to(torch.float32)
        return tensors

    def _start(self, module: nn.Module, rows: Mapping[str, Tensor], splits: Sequence[Split]) -> None:
        """Bring the module close to a solution, if there is a way that is faster than gradients.

        Parameters
        ----------
        module
            On the CPU or where ``rows`` are.
        rows
            What the module is called with and standardised ``responses``, of the samples that are trained on.
        splits
            Of these rows, to choose by; groups are kept together.
        """

    def fit(self, X: Any, y: Any, groups: Any = None) -> Readout:
        """Train on most samples, and keep the weights that predict the others best.

        Parameters
        ----------
        X
            Maps ``(samples, channels, rows, columns)``, tokens, or a labelled array as ``models.extract`` gives it.
        y
            Responses, ``(samples,)`` or ``(samples, targets)``.
        groups
            One label a sample, or the name of a coordinate; those of a group stay together. Default: the
            stimuli, where they are labelled.

        Raises
        ------
        ValueError, TypeError
            If features are flattened, values are missing, parameters are wrong, or the checkpoint is of another
            training.

        Examples
        --------
        >>> import numpy as np
        >>> from cerebridge.encoding import readouts
        >>> maps = np.random.default_rng(0).standard_normal((40, 2, 3, 3))
        >>> gaussian = readouts.GaussianReadout(max_epochs=2).fit(maps, maps[:, :, 1, 1])
        >>> gaussian.position_.shape
        (2, 2)
        """
        rows, features, targets = self._read(X, y)
        columns = targets.reshape(len(targets), -1)
        split, inner = self._split(rows, y, groups)
        device = self._device(rows)
        mean, scale = standards(columns[split.train])
        tensors = self._tensors(features, self.layout_)
        tensors["responses"] = ((columns - mean) / scale).to(torch.float32)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        seed = int(check_random_state(self.random_state).randint(2**31))
        with seeded(seed, device):
            module = self._build(self.layout_, columns.shape[1]).to(device)
            for part in module.modules():
                if isinstance(part, Standardise):
                    part.learn(tensors[part.name], split.train)
            self._start(module, _rows(tensors, split.train), inner)
        training = self._train(module, tensors, split, seed)
        self.weights_ = {name: value.cpu().numpy() for name, value in module.state_dict().items()}
        self.history_ = {str(name): values.to_numpy() for name, values in training.history.items()}
        self.best_epoch_ = training.best_epoch
        held_out = _rows(tensors, split.test)
        best = pearsonr(held_out["responses"], respond(module, held_out))
        kept = {"intercept_": mean, "scale_": scale, "best_score_": best}
        self._keep_fit(module, rows, y, {name: value.to(columns) for name, value in kept.items()})
        return self

    def _train(self, module: nn.Module, tensors: Mapping[str, Tensor], split: Split, seed: int) -> Training:
        return train(
            module,
            self._loss,
            _rows(tensors, split.train),
            validation=_rows(tensors, split.test),
            score=mean_correlation,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            gradient_clip=self.gradient_clip,
            device=tensors["responses"].device,
            random_state=seed,
            checkpoint=self.checkpoint,
            options=self._options(),
            progress=self.progress,
        )

    def _options(self) -> Mapping[str, Any]:
        """What tells this training from another of the same data and sizes, for its checkpoint."""
        options = self.get_params(deep=False).items()
        return {"parameters": repr([(name, value) for name, value in options if name not in GOES_ON])}

    def _loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of standardised responses, and the module's penalty."""
        given = {name: tensor for name, tensor in batch.items() if name != "responses"}
        error = (module(**given) - batch["responses"]).square().mean()
        penalty: Any = getattr(module, "penalty", None)
        return error if penalty is None else error + penalty()

    def _split(self, rows: Any, y: Any, groups: Any) -> tuple[Split, list[Split]]:
        """Training and validation samples, and splits of the former to start by."""
        if not 0 < self.validation < 1:
            raise ValueError(
                f"validation={self.validation!r} must be a share of the samples between 0 and 1."
            )
        labelled = [array for array in (rows, y) if kind_of(array) == "xarray"]
        if groups is None and any("stimulus_id" in labels_along(array, array.dims[0]) for array in labelled):
            groups = "stimulus_id"
        folds = max(2, round(1 / self.validation))
        *others, split = inputs.splits(folds, len(rows), y, groups, (rows, y))
        if len(others) < 2:
            return split, inputs.splits(STARTS, len(split.train))
        fold = torch.zeros(len(rows), dtype=torch.int64)
        for number, other in enumerate(others):
            fold[other.test] = number % STARTS
        within = fold[split.train]
        parts = [within == number for number in within.unique()]
        return split, [Split((~part).nonzero()[:, 0], part.nonzero()[:, 0]) for part in parts]

    def _keep_fit(self, module: nn.Module, X: Any, y: Any, attributes: Mapping[str, Tensor]) -> None:
        """Set the fitted attributes, ``attributes`` having one number a target."""
        self._keep(X, y, {name: (values, ("target",)) for name, values in attributes.items()})

    def module(self) -> nn.Module:
        """The trained network itself, in evaluation mode: standardised responses from float32 tensors.

        Examples
        --------
        >>> import torch
        >>> from cerebridge.encoding import readouts
        >>> maps = torch.randn(40, 2, 3, 3, generator=torch.Generator().manual_seed(0))
        >>> readouts.GaussianReadout(max_epochs=1).fit(maps, maps[:, :, 1, 1]).module()(maps).shape
        torch.Size([40, 2])
        """
        check_is_fitted(self)
        with seeded(0):  # the first weights are drawn, and then replaced
            module = self._build(self.layout_, to_tensor(self.intercept_).numel())
        module.load_state_dict({name: torch.from_numpy(value) for name, value in self.weights_.items()})
        return module.eval()

    def _predict(self, features: Tensor) -> Tensor:
        mean, scale = (to_tensor(values, features.device) for values in (self.intercept_, self.scale_))
        module = self.module().to(features.device)
        predicted = respond(module, self._tensors(features, self.layout_))
        return predicted.to(mean.dtype).reshape(len(features), *mean.shape) * scale + mean


class Standardise(nn.Module):
    """Z-scores a tensor over rows and places, channel by channel, as the training rows say.

    Parameters
    ----------
    name
        Which of the tensors of a readout.
    channels
        Size of its second axis.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, name: str, channels: int) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def learn(self, values: Tensor, rows: Tensor) -> None:
        """Take mean and standard deviation from some rows."""
        kept = values[rows.to(values.device)].movedim(1, -1).flatten(0, -2)
        mean, scale = standards(kept)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, values: Tensor) -> Tensor:
        """``(rows, channels, …)``, standardised."""
        shape = (-1, *[1] * (values.ndim - 2))
        return (values - self.mean.reshape(shape)) / self.scale.reshape(shape)


def respond(module: nn.Module, tensors: Mapping[str, Tensor]) -> Tensor:
    """Responses of a module in evaluation mode, a block of rows at a time."""
    given = {name: tensor for name, tensor in tensors.items() if name != "responses"}
    n = len(next(iter(given.values())))
    module.eval()
    with torch.no_grad():
        blocks = [
            module(**{name: tensor[start : start + ROWS_AT_ONCE] for name, tensor in given.items()})
            for start in range(0, n, ROWS_AT_ONCE)
        ]
    return torch.cat(blocks)


def mean_correlation(module: nn.Module, rows: Mapping[str, Tensor]) -> float:
    """Mean correlation over targets, of those that vary."""
    return float(pearsonr(rows["responses"], respond(module, rows)).nanmean())


def _rows(tensors: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: tensor[rows.to(tensor.device)] for name, tensor in tensors.items()}


def standards(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of columns; one that is zero becomes 1."""
    columns = columns.to(torch.float64)
    mean, scale = columns.mean(0), columns.std(0, correction=0)
    return mean, torch.where(scale > 1e-12 * (1 + mean.abs()), scale, 1.0)


def _in_order(rows: Any, layout: Layout) -> Any:
    """Columns in the order of maps, and then of semantics."""
    if layout.order is None and layout.semantics is None:
        return rows
    order: NDArray[np.int64] = np.arange(int(np.prod(layout.shape))) if layout.order is None else layout.order
    if layout.semantics is not None:
        order = np.concatenate([order, layout.semantics])
    return rows[:, order]
