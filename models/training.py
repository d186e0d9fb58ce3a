"""The one trainer: any torch module, early stopping, checkpoints that resume, deterministic under a seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .compat import mend_torchvision
from .devices import resolve_device

Batch: TypeAlias = Mapping[str, Tensor]
Loss: TypeAlias = Callable[[nn.Module, Batch], Tensor]
Score: TypeAlias = Callable[[nn.Module, Any], float]
Precision = Literal["32-true", "64-true", "bf16-mixed"]

#: optimizers by name
OPTIMIZERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@runtime_checkable
class Batches(Protocol):
    """What an epoch is drawn from, where it is more than rows of tensors."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def draw(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch; everything random comes from ``generator``."""


class Rows:
    """Batches of rows of tensors in memory, in another order every epoch.

    Parameters
    ----------
    tensors
        By name, all with as many rows.
    batch_size
        Most rows of a batch; batches are of equal size up to one row.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.training import Rows
    >>> [len(batch["x"]) for batch in Rows({"x": torch.zeros(10, 2)}, 4).draw(torch.Generator())]
    [4, 3, 3]
    """

    def __init__(self, tensors: Mapping[str, Tensor], batch_size: int) -> None:
        sizes = {name: len(tensor) for name, tensor in tensors.items()}
        if not sizes or len(set(sizes.values())) > 1 or not min(sizes.values()):
            raise ValueError(
                f"the tensors to train on have these numbers of rows: {sizes}; give at least one tensor, and all "
                "of them as many rows."
            )
        self.tensors = dict(tensors)
        self.batch_size = batch_size
        self.n_rows = next(iter(sizes.values()))

    def __len__(self) -> int:
        return math.ceil(self.n_rows / self.batch_size)

    def draw(self, generator: torch.Generator) -> Iterator[Batch]:
        """All rows once, shuffled."""
        order = torch.randperm(self.n_rows, generator=generator)
        # equal batches: no last batch of one row, for which batch norm is undefined
        for rows in order.tensor_split(len(self)):
            yield {name: tensor[rows.to(tensor.device)] for name, tensor in self.tensors.items()}


@dataclass(frozen=True)
class Training:
    """How a training went.

    Attributes
    ----------
    history
        One row an epoch: ``epoch``, ``loss`` (mean over batches), ``score`` (NaN without validation) and
        ``learning_rate``.
    best_epoch, best_score
        Whose weights the module has: the epoch of the best score, or the last one without validation.
    stopped
        Whether it ended early because the score had stopped improving.
    """

    history: pd.DataFrame
    best_epoch: int
    best_score: float
    stopped: bool


def train(
    module: nn.Module,
    loss: Loss,
    data: Mapping[str, Tensor] | Batches,
    *,
    validation: Any = None,
    score: Score | None = None,
    optimizer: str | Callable[[nn.Module], torch.optim.Optimizer] = "adamw",
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
    batch_size: int = 64,
    max_epochs: int = 100,
    patience: int | None = 10,
    gradient_clip: float | None = None,
    precision: Precision = "32-true",
    device: str | torch.device = "auto",
    random_state: int = 0,
    checkpoint: str | Path | None = None,
    options: Any = None,
    progress: bool | None = False,
) -> Training:
    """Train a module in place, and leave it with the weights of its best epoch, in evaluation mode.

    Parameters
    ----------
    module
        Any torch module.
    loss
        ``loss(module, batch)``, a scalar tensor.
    data
        Tensors by name, whose rows are shuffled into batches every epoch; or :class:`Batches` of another making.
    validation
        What the score is taken on: tensors by name, or whatever ``score`` takes.
    score
        ``score(module, validation)``, larger is better; called after every epoch in evaluation mode without
        gradients. Default: minus the loss on ``validation``.
    optimizer, learning_rate, weight_decay
        ``"adam"``, ``"adamw"`` (default) or ``"sgd"``; or a function that makes an optimizer for the module, which
        then says the other two itself.
    schedule
        Makes a learning-rate scheduler, stepped after every epoch (``ReduceLROnPlateau`` with the score, so
        ``mode="max"``).
    batch_size, max_epochs
        Rows of a batch, and most epochs.
    patience
        Epochs without a better score after which training stops; ``None`` never stops early.
    gradient_clip
        Largest norm of the gradient.
    precision
        ``"32-true"``, ``"64-true"`` or ``"bf16-mixed"``.
    device
        As everywhere; the module ends there.
    random_state
        Seed of everything random in training: order of rows, dropout, sampling. The global generators of torch are
        left as they were. On a CPU equal seeds give equal weights.
    checkpoint
        File written after every epoch (``torch.load(..., weights_only=True)`` reads it). If it exists, training
        goes on where it ended, to the same result as without interruption. In an existing folder every training
        has a file of its own, as the folds of an evaluation need.
    options
        What module and loss depend on that sizes of weights do not tell (penalties, masks): text, tensors, tuples or
        mappings of them. A checkpoint with others is of another training.
    progress
        Whether to draw a progress bar; ``None`` on a terminal only.

    Raises
    ------
    ValueError
        If parameters are wrong, the loss is not finite, or the checkpoint belongs to another architecture, data or
        settings.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.training import train
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> line = torch.nn.Linear(1, 1)
    >>> squared = lambda module, batch: (module(batch["x"]) - batch["y"]).square().mean()
    >>> training = train(line, squared, {"x": x, "y": 3 * x}, learning_rate=0.1, max_epochs=80)
    >>> round(line.weight.item()), training.stopped
    (3, False)
    """
    _require_counts(batch_size=batch_size, max_epochs=max_epochs, patience=patience)
    _require_precision(precision)
    where = resolve_device(device)
    batches = cast(Batches, Rows(data, batch_size) if isinstance(data, Mapping) else data)
    if not isinstance(batches, Batches):
        raise TypeError(f"data is a {type(data).__name__}; give tensors by name, or an object with draw().")
    if isinstance(validation, Mapping):
        validation = {name: tensor.to(where) for name, tensor in validation.items()}
    if validation is not None and score is None:
        score = _minus_loss(loss, batch_size)

    def make_optimizer() -> torch.optim.Optimizer:
        return _optimizer(module, optimizer, learning_rate, weight_decay)

    settings = (batch_size, gradient_clip, precision, random_state)
    told = None if checkpoint is None else repr((make_optimizer(), settings))
    key = None if told is None else _key(module, batches, validation, (told, options))
    trainer = _trainer()
    state = trainer.Run(
        module,
        loss,
        batches,
        validation=validation,
        score=score if validation is not None else None,
        make_optimizer=make_optimizer,
        make_schedule=schedule,
        patience=patience,
        random_state=random_state,
        checkpoint=None if key is None or checkpoint is None else _file(Path(checkpoint), key),
        key=key,
    )
    trainer.run(state, where, max_epochs, gradient_clip, precision, progress)
    history = pd.DataFrame(state.history, columns=["epoch", "loss", "score", "learning_rate"])
    return Training(history.astype({"epoch": int}), state.best_epoch, state.best_score, state.exhausted)


@contextmanager
def seeded(random_state: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """Draw from torch's generators as after a seed, and leave them as they were.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.training import seeded
    >>> with seeded(0):
    ...     first = torch.rand(1)
    >>> with seeded(0):
    ...     first.equal(torch.rand(1))
    True
    """
    where = resolve_device(device)
    with torch.random.fork_rng([where] if where.type == "cuda" else []):
        torch.manual_seed(random_state)
        yield


def architecture(module: nn.Module) -> str:
    """A digest of what a module is made of, whatever its weights.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.models.training import architecture
    >>> architecture(torch.nn.Linear(2, 1)) == architecture(torch.nn.Linear(2, 1))
    True
    """
    tensors = [(name, tuple(value.shape), str(value.dtype)) for name, value in module.state_dict().items()]
    return _digest(repr((repr(module), tensors)))


def _trainer() -> ModuleType:
    """The part that needs Lightning, which takes seconds to import."""
    try:
        mend_torchvision()
        from . import trainer
    except RuntimeError as error:
        raise ImportError(
            f"Lightning cannot be loaded ({error}); if a torchvision is named, install the one that fits torch "
            f"{torch.__version__}, or remove it."
        ) from error
    return trainer


def _optimizer(
    module: nn.Module,
    optimizer: str | Callable[[nn.Module], torch.optim.Optimizer],
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    if not isinstance(optimizer, str):
        return optimizer(module)
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r} is unknown; use {', '.join(map(repr, OPTIMIZERS))}.")
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("the module has no parameters to train; set requires_grad on some.")
    made = OPTIMIZERS[optimizer](trained, lr=learning_rate, weight_decay=weight_decay)
    return cast(torch.optim.Optimizer, made)


def _minus_loss(loss: Loss, batch_size: int) -> Score:
    """Minus the mean loss over rows, for validation sets without a score of their own."""

    def score(module: nn.Module, rows: Mapping[str, Tensor]) -> float:
        n = len(next(iter(rows.values())))
        total = 0.0
        for start in range(0, n, batch_size):
            part = {name: tensor[start : start + batch_size] for name, tensor in rows.items()}
            total += float(loss(module, part)) * min(batch_size, n - start)
        return -total / n

    return score


def _require_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if name == "patience" and count is None:
            continue
        if not isinstance(count, int | np.integer) or count < 1:
            raise ValueError(f"{name}={count!r} must be a whole number of at least 1.")


def _require_precision(precision: str) -> None:
    if precision not in get_args(Precision):
        raise ValueError(
            f"precision={precision!r} is unknown; use {', '.join(map(repr, get_args(Precision)))}."
        )


def _file(checkpoint: Path, key: Mapping[str, str]) -> Path:
    """The file of one training, named after what it is where a folder is given."""
    if not checkpoint.is_dir():
        return checkpoint
    return checkpoint / f"{_digest(tuple(key.values()))}.ckpt"


def _key(module: nn.Module, batches: Batches, validation: Any, settings: Any) -> dict[str, str]:
    """What a checkpoint must share with the training that goes on from it."""
    return {
        "architecture": architecture(module),
        "data": _digest((_sample(batches), validation)),
        "settings": _digest(settings),
    }


def _sample(batches: Batches) -> Any:
    """What tells the data of two trainings apart: all rows, or the first batch of other makings."""
    if isinstance(batches, Rows):
        return batches.tensors
    return next(iter(batches.draw(torch.Generator().manual_seed(0))), None)


def _digest(thing: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)

    def add(part: Any) -> None:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(part, Mapping | tuple):
            for item in part.items() if isinstance(part, Mapping) else part:
                add(item)
        elif isinstance(part, str):
            digest.update(part.encode())

    add(thing)
    return digest.hexdigest()
