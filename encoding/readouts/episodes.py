"""What an in-context encoder is meta-trained on: voxels, each with examples and with images to predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ...models.training import Batch
from .context import respond


@dataclass(frozen=True)
class Subject:
    """Embeddings ``(images, features)`` that a person saw, and responses ``(images, voxels)`` to them."""

    embeddings: torch.Tensor
    responses: torch.Tensor


class Episodes:
    """Every voxel of every subject once an epoch, with other images each time.

    The voxels of a batch belong to one subject; every voxel has its own examples and its own images to predict,
    and all of a batch have equally many, drawn for the batch.

    Parameters
    ----------
    subjects
        Who the voxels belong to.
    context
        Fewest and most examples of a voxel, at most as many as leave ``queries`` images to each subject.
    queries
        Images to predict.
    batch_size
        Voxels of a batch.
    synthetic
        Whether responses are not those recorded but made from random weights on the same images, with the mean
        and variance of the recorded ones; a random share of the variance is noise.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.readouts.episodes import Episodes, Subject
    >>> person = Subject(torch.randn(50, 3), torch.randn(50, 7))
    >>> episodes = Episodes([person], context=(8, 8), queries=20, batch_size=4)
    >>> [tuple(batch["embeddings"].shape) for batch in episodes.draw(torch.Generator())]
    [(4, 8, 3), (3, 8, 3)]
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        context: tuple[int, int],
        queries: int,
        batch_size: int,
        synthetic: bool = False,
    ) -> None:
        self.subjects = subjects
        self.context = context
        self.queries = queries
        self.batch_size = batch_size
        self.synthetic = synthetic

    def __len__(self) -> int:
        return sum(-(-subject.responses.shape[1] // self.batch_size) for subject in self.subjects)

    def draw(self, generator: torch.Generator) -> Iterator[Batch]:
        """All voxels once, shuffled; responses to predict are called ``truth``."""
        batches: list[tuple[Subject, torch.Tensor]] = []
        for subject in self.subjects:
            order = torch.randperm(subject.responses.shape[1], generator=generator)
            batches += [(subject, voxels) for voxels in order.split(self.batch_size)]
        for k in torch.randperm(len(batches), generator=generator).tolist():
            subject, voxels = batches[k]
            yield self._episode(subject, voxels, generator)

    def _episode(self, subject: Subject, voxels: torch.Tensor, generator: torch.Generator) -> Batch:
        shortest, longest = self.context
        n = int(torch.randint(shortest, longest + 1, (), generator=generator))
        # the images with the largest of random numbers are a draw without repetition
        lottery = torch.rand(len(voxels), len(subject.embeddings), generator=generator)
        images = lottery.topk(n + self.queries, dim=1, sorted=False).indices
        embeddings = subject.embeddings[images]
        responses = subject.responses[images, voxels[:, None]]
        if self.synthetic:
            responses = _synthesise(embeddings, subject.responses[:, voxels], generator)
        return {
            "embeddings": embeddings[:, :n],
            "responses": responses[:, :n],
            "queries": embeddings[:, n:],
            "truth": responses[:, n:],
        }


def _synthesise(embeddings: torch.Tensor, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Responses ``(voxels, images)`` of random weights, with mean and variance of ``like`` ``(images, voxels)``."""
    weights = torch.randn(len(embeddings), embeddings.shape[2], 1, generator=generator)
    signal = (embeddings @ weights).squeeze(2)
    signal = signal - signal.mean(1, keepdim=True)
    signal = signal / signal.std(1, keepdim=True).clamp_min(1e-6)
    share = torch.rand(len(embeddings), 1, generator=generator)
    noise = torch.randn(signal.shape, generator=generator)
    mixed = share.sqrt() * signal + (1 - share).sqrt() * noise
    return like.mean(0)[:, None] + like.std(0)[:, None] * mixed


def hold_out(
    subjects: Sequence[Subject], share: float, random_state: int
) -> tuple[list[Subject], list[Subject]]:
    """Subjects with most of their voxels, and with the others; at least one on either side.

    Examples
    --------
    >>> import torch
    >>> from cerebridge.encoding.readouts.episodes import Subject, hold_out
    >>> trained, tested = hold_out([Subject(torch.zeros(5, 2), torch.zeros(5, 10))], 0.2, random_state=0)
    >>> trained[0].responses.shape[1], tested[0].responses.shape[1]
    (8, 2)
    """
    generator = torch.Generator().manual_seed(random_state)
    trained, tested = [], []
    for subject in subjects:
        n = subject.responses.shape[1]
        kept = n - min(max(round(share * n), 1), n - 1)
        order = torch.randperm(n, generator=generator)
        trained.append(Subject(subject.embeddings, subject.responses[:, order[:kept]]))
        tested.append(Subject(subject.embeddings, subject.responses[:, order[kept:]]))
    return trained, tested


def z_score(responses: torch.Tensor, wanted: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Responses ``(samples, voxels)``, z-scored if wanted, and what was subtracted and divided by."""
    mean, scale = responses.new_zeros(responses.shape[1]), responses.new_ones(responses.shape[1])
    if wanted:
        mean, deviation = responses.mean(0), responses.std(0, correction=0)
        scale = torch.where(deviation > 0, deviation, scale)
    return (responses - mean) / scale, mean, scale


def stages(context: tuple[int, int]) -> list[tuple[str, tuple[int, int], bool]]:
    """Of each stage of meta-training: name, fewest and most examples, and whether its voxels are synthetic."""
    return [("short", (context[0], context[0]), True), ("long", context, True), ("recorded", context, False)]


def squared_error(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Mean over the voxels and images of a batch that are predicted from its examples."""
    weights = network(batch["embeddings"], batch["responses"])
    return (respond(weights, batch["queries"]) - batch["truth"]).square().mean()


def minus_error(network: nn.Module, episodes: Sequence[Batch]) -> float:
    """Minus the squared error over several batches; every voxel counts alike."""
    device = next(network.parameters()).device
    batches = [{name: tensor.to(device) for name, tensor in batch.items()} for batch in episodes]
    errors = [len(batch["truth"]) * float(squared_error(network, batch)) for batch in batches]
    return -sum(errors) / sum(len(batch["truth"]) for batch in batches)
