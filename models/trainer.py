"""Lightning underneath the one trainer; imported only when something is trained."""

from __future__ import annotations

import logging
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor, nn

from ..neuro.files import aside
from ..neuro.progress import track
from .training import Batch, Batches, Loss, Precision, Score, seeded


class Run(lightning.LightningModule):
    """One training: what it learns, how far it is, and the best that it was."""

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        batches: Batches,
        *,
        validation: Any,
        score: Score | None,
        make_optimizer: Callable[[], torch.optim.Optimizer],
        make_schedule: Callable[[torch.optim.Optimizer], Any] | None,
        patience: int | None,
        random_state: int,
        checkpoint: Path | None,
        key: dict[str, str] | None,
    ) -> None:
        super().__init__()
        self.module = module
        self.loss = loss
        self.batches = batches
        self.validation = validation
        self.score = score
        self.make_optimizer = make_optimizer
        self.make_schedule = make_schedule
        self.patience = patience
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.key = key
        self.history: list[tuple[int, float, float, float]] = []
        self.best_epoch = -1
        self.best_score = -math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.losses: list[Tensor] = []
        self.bar: Iterator[Any] = iter(())
        self.saved: dict[str, Any] = {}
        self.scheduler: Any = None

    @property
    def epoch(self) -> int:
        """The epoch that is next or under way."""
        return len(self.history)

    @property
    def exhausted(self) -> bool:
        """Whether the score has not improved for as long as it may."""
        waited = self.epoch - 1 - max(self.best_epoch, 0)
        return self.score is not None and self.patience is not None and waited >= self.patience

    def seed(self, purpose: int) -> int:
        """Seeds depend on nothing but the epoch, so that resuming needs no state of a generator."""
        return int(np.random.SeedSequence([self.random_state, self.epoch, purpose]).generate_state(1)[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimizer where Lightning has put the weights."""
        optimizer = self.make_optimizer()
        if self.make_schedule is not None:
            self.scheduler = self.make_schedule(optimizer)
        if self.saved:
            optimizer.load_state_dict(self.saved["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(self.saved["schedule"])
        return optimizer

    def on_train_epoch_start(self) -> None:
        """Seed what the module and the loss draw."""
        torch.manual_seed(self.seed(1))
        self.module.train()

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """One step."""
        loss = self.loss(self.module, batch)
        self.losses.append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Score, remember the best, write the checkpoint, stop if there is nothing more to gain."""
        loss = float(torch.stack(self.losses).mean())
        self.losses.clear()
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} in epoch {self.epoch}, training has diverged; use a smaller learning_rate or "
                "gradient_clip, and standardise the data."
            )
        score = self._score()
        rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        # an undefined score is better than none, and worse than any other
        if self.score is None or score > self.best_score or not self.best_weights:
            defined = self.score is None or not math.isnan(score)
            self.best_epoch, self.best_score = self.epoch, score if defined else -math.inf
            self.best_weights = _copy(self.module)
        self.history.append((self.epoch, loss, score, rate))
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(loss if self.score is None else score)
        elif self.scheduler is not None:
            self.scheduler.step()
        if self.checkpoint is not None:
            self._write(self.checkpoint)
        next(self.bar, None)
        self.trainer.should_stop = self.exhausted

    def _score(self) -> float:
        if self.score is None:
            return math.nan
        self.module.eval()
        with torch.no_grad():
            return float(self.score(self.module, self.validation))

    def _write(self, path: Path) -> None:
        state = {
            "key": self.key,
            "history": self.history,
            "weights": self.module.state_dict(),
            "optimizer": self.trainer.optimizers[0].state_dict(),
            "schedule": None if self.scheduler is None else self.scheduler.state_dict(),
            "best": (self.best_epoch, self.best_score, self.best_weights),
        }
        with aside(path) as part:
            torch.save(state, part)

    def resume(self, path: Path) -> None:
        """Take up what a checkpoint of the same training holds."""
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            ours = saved["key"]
        except Exception as error:  # whatever reader fails on a foreign file
            raise ValueError(
                f"{path} is no checkpoint of a training ({type(error).__name__}); delete it or name another file."
            ) from None
        for name, digest in (self.key or {}).items():
            if ours[name] != digest:
                raise ValueError(
                    f"the checkpoint {path} belongs to other {name}; delete it or name another file."
                    if name != "architecture"
                    else f"the checkpoint {path} belongs to another architecture; delete it or name another file."
                )
        self.saved = saved
        self.module.load_state_dict(saved["weights"])
        self.history = [tuple(row) for row in saved["history"]]
        self.best_epoch, self.best_score, self.best_weights = saved["best"]


class Epochs:
    """The batches of a run as Lightning iterates over them, once an epoch."""

    def __init__(self, state: Run) -> None:
        self.state = state

    def __len__(self) -> int:
        return len(self.state.batches)

    def __iter__(self) -> Iterator[Batch]:
        # of the epoch that is under way when the first batch is asked for
        yield from self.state.batches.draw(torch.Generator().manual_seed(self.state.seed(0)))


def run(
    state: Run,
    device: torch.device,
    max_epochs: int,
    gradient_clip: float | None,
    precision: Precision,
    progress: bool | None,
) -> None:
    """Train for at most ``max_epochs`` epochs in all, and give the module its best weights."""
    if state.checkpoint is not None and state.checkpoint.exists():
        state.resume(state.checkpoint)
    epochs = range(state.epoch, max_epochs)
    if epochs and not state.exhausted:
        state.bar = track(epochs, "training", show=progress)
        next(state.bar)
        with _quiet(), seeded(state.random_state, device), _interruptible():
            trainer = lightning.Trainer(
                max_epochs=len(epochs),
                accelerator="gpu" if device.type == "cuda" else device.type,
                devices=[device.index or 0] if device.type == "cuda" else 1,
                precision=precision,
                gradient_clip_val=gradient_clip,
                plugins=[LightningEnvironment()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(state, train_dataloaders=Epochs(state))
    state.module.load_state_dict(state.best_weights)
    state.module.to(device).eval()


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without its advice, which is about its own use and none of the caller's."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C stays Ctrl-C: Lightning turns it into an exit, and ignores further ones."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
