"""Networks in which queries fetch what units need from the tokens of an image."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .base import Standardise

#: share of a query's first map that is spread over all places, so that it can learn to look anywhere
SPREAD = 0.1


def sine_positions(places: Sequence[int], width: int) -> torch.Tensor:
    """Sine position encodings of a line of tokens, or of a grid of rows × columns.

    Parameters
    ----------
    places
        ``(tokens,)``, or ``(rows, columns)``, of which each gets half of the width.
    width
        Number of values a token.

    Returns
    -------
    torch.Tensor
        ``(tokens, width)``, rows first.

    References
    ----------
    Vaswani et al. (2017), NeurIPS; Carion et al. (2020), ECCV.

    Examples
    --------
    >>> from cerebridge.encoding.readouts.routing import sine_positions
    >>> sine_positions((6, 6), 32).shape
    torch.Size([36, 32])
    """
    share = 2 * math.ceil(width / (2 * len(places)))
    frequency = 10_000 ** (-torch.arange(0, share, 2) / share)
    encoded = []
    for axis, length in enumerate(places):
        # once around along the whole axis, so that the encoding does not depend on how fine the grid is
        angle = 2 * math.pi * torch.arange(1, length + 1)[:, None] / length * frequency
        wave = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
        shape = [length if other == axis else 1 for other in range(len(places))]
        encoded.append(wave.reshape(*shape, share).expand(*places, share))
    return torch.cat(encoded, dim=-1).reshape(-1, share * len(places))[:, :width].contiguous()


class Reader(nn.Module):
    """Linear readout of what queries brought: every unit weights the sum of its queries.

    Parameters
    ----------
    masks
        ``(queries, units)``, true where a unit reads a query; or the number of units, each with a query of its own.
    width
        Number of values a query brings.
    """

    patterns: torch.Tensor
    grouped: torch.Tensor
    order: torch.Tensor

    def __init__(self, masks: torch.Tensor | int, width: int) -> None:
        super().__init__()
        self.own = isinstance(masks, int)
        self.queries, self.units = (masks, masks) if isinstance(masks, int) else masks.shape
        if not isinstance(masks, int):
            # units of the same queries read the same sum, so that one product serves them all
            patterns, group, sizes = torch.unique(masks, dim=1, return_inverse=True, return_counts=True)
            self.sizes = sizes.tolist()
            grouped = group.argsort(stable=True)
            self.register_buffer("patterns", patterns.T.to(torch.float32), persistent=False)
            self.register_buffer("grouped", grouped, persistent=False)
            self.register_buffer("order", grouped.argsort(), persistent=False)
        self.weight = nn.Parameter(torch.empty(self.units, width))
        self.bias = nn.Parameter(torch.zeros(self.units))
        nn.init.uniform_(self.weight, -(width**-0.5), width**-0.5)

    def forward(self, brought: torch.Tensor) -> torch.Tensor:
        """``(images, queries, width)`` to ``(images, units)``, where queries are shared by units."""
        pooled = (self.patterns @ brought).unbind(1)
        weights = self.weight[self.grouped].split(self.sizes)
        parts = [group @ weight.T for group, weight in zip(pooled, weights, strict=True)]
        return torch.cat(parts, dim=1)[:, self.order] + self.bias

    def respond(self, brought: torch.Tensor, units: slice) -> torch.Tensor:
        """``(images, units, width)`` to ``(images, units)``, where every unit has a query of its own."""
        return torch.einsum("nuw,uw->nu", brought, self.weight[units]) + self.bias[units]


class Routing(nn.Module):
    """What is common to routed readouts: tokens in, queries in blocks, a linear readout.

    A subclass defines :meth:`prepare`, done once an image, :meth:`fetch`, done for every block of queries, and
    :meth:`look`. It may hold a ``map``, ``(queries, places)``: logits of where queries look whatever the image shows.
    """

    map: nn.Parameter | None

    def __init__(self, masks: torch.Tensor | int, features: int, width: int, queries_at_once: int) -> None:
        super().__init__()
        self.queries_at_once = queries_at_once
        self.standardise = Standardise("maps", features)
        self.reader = Reader(masks, width)

    def prepare(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What all queries read, from tokens ``(images, tokens, features)``."""
        return (tokens,)

    @abstractmethod
    def fetch(self, queries: slice, *prepared: torch.Tensor) -> torch.Tensor:
        """What some queries bring, ``(images, queries, width)``."""

    @abstractmethod
    def look(self, queries: torch.Tensor, *prepared: torch.Tensor) -> torch.Tensor:
        """Where some queries look, ``(images, queries, heads, tokens)``; sums to one over tokens."""

    @torch.no_grad()
    def begin(self, pools: torch.Tensor) -> None:
        """Let queries look at pools ``(queries, places)`` to begin with, each of sum 1."""
        assert self.map is not None
        self.map.copy_(torch.log((1 - SPREAD) * pools + SPREAD / pools.shape[1]))

    def attention(self, maps: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Where some queries look in ``(images, features, places)``: ``(images, queries, heads, places)``."""
        return self.look(queries, *self.prepare(self.standardise(maps).transpose(1, 2)))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Responses ``(images, units)`` to maps ``(images, features, places)``."""
        prepared, queries = self.prepare(self.standardise(maps).transpose(1, 2)), self.reader.queries
        if not self.reader.own:
            return self.reader(self.fetch(slice(queries), *prepared))
        step = self.queries_at_once
        blocks = [slice(first, min(first + step, queries)) for first in range(0, queries, step)]
        if len(blocks) == 1 or not torch.is_grad_enabled():
            return torch.cat([self._respond(block, *prepared) for block in blocks], dim=1)
        # what a block of queries brings is computed again for its gradient, so that one block at a time is held
        parts = [checkpoint(self._respond, block, *prepared, use_reentrant=False) for block in blocks]
        return torch.cat(parts, dim=1)

    def _respond(self, queries: slice, *prepared: torch.Tensor) -> torch.Tensor:
        return self.reader.respond(self.fetch(queries, *prepared), queries)


class AttentionRouting(Routing):
    """One decoder layer of cross-attention from learned queries, which do not see each other.

    Queries start from nothing: what attention brings is all they hold, normalised, passed through a feed-forward
    network with a residual, and normalised again. With a map, a query prefers some places whatever they hold.

    Parameters
    ----------
    masks
        Which unit reads which queries, as for :class:`Reader`.
    places
        ``(tokens,)`` or ``(rows, columns)``.
    features
        Number of values a token.
    width, heads, feedforward, dropout
        Of the decoder layer; ``heads`` divides ``width``.
    queries_at_once
        How many queries of single units are held at a time.
    mapped
        Whether queries have a map of their own, which is added to the scores of all heads.
    """

    positions: torch.Tensor

    def __init__(
        self,
        masks: torch.Tensor | int,
        places: Sequence[int],
        features: int,
        width: int,
        heads: int,
        feedforward: int,
        dropout: float,
        queries_at_once: int = 256,
        mapped: bool = False,
    ) -> None:
        super().__init__(masks, features, width, queries_at_once)
        self.map = nn.Parameter(torch.zeros(self.reader.queries, math.prod(places))) if mapped else None
        self.heads = heads
        self.dropout = dropout
        self.register_buffer("positions", sine_positions(places, features), persistent=False)
        self.embedding = nn.Parameter(torch.randn(self.reader.queries, width))
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(features, width)
        self.value = nn.Linear(features, width)
        self.project = nn.Linear(width, width)
        self.attended = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width)
        )
        self.refined = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    def prepare(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Keys and values, ``(images, heads, tokens, width of a head)``; positions are part of the keys only."""
        return self._heads(self.key(tokens + self.positions)), self._heads(self.value(tokens))

    def fetch(self, queries: slice, *prepared: torch.Tensor) -> torch.Tensor:
        """What some queries bring, ``(images, queries, width)``."""
        keys, values = prepared
        asked = self._asked(queries).expand(len(keys), -1, -1, -1)
        dropout = self.dropout if self.training else 0.0
        prior = None if self.map is None else self.map[queries].expand(len(keys), self.heads, -1, -1)
        brought = functional.scaled_dot_product_attention(asked, keys, values, prior, dropout_p=dropout)
        held = self.attended(self.drop(self.project(brought.transpose(1, 2).flatten(2))))
        return self.refined(held + self.drop(self.feedforward(held)))

    def look(self, queries: torch.Tensor, *prepared: torch.Tensor) -> torch.Tensor:
        """Where some queries look, ``(images, queries, heads, tokens)``; sums to one over tokens."""
        keys, _ = prepared
        scores = self._asked(queries) @ keys.transpose(2, 3) / math.sqrt(keys.shape[3])
        if self.map is not None:
            scores = scores + self.map[queries]
        return scores.softmax(dim=-1).transpose(1, 2)

    def _asked(self, queries: slice | torch.Tensor) -> torch.Tensor:
        return self._heads(self.query(self.embedding[None, queries]))

    def _heads(self, values: torch.Tensor) -> torch.Tensor:
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class StaticRouting(Routing):
    """Queries that look at the same places in every image: a softmax map each, and a linear readout of what is there.

    Parameters
    ----------
    masks
        Which unit reads which queries, as for :class:`Reader`.
    places
        ``(tokens,)`` or ``(rows, columns)``.
    features
        Number of values a token.
    queries_at_once
        How many queries of single units are held at a time.
    """

    map: nn.Parameter

    def __init__(
        self, masks: torch.Tensor | int, places: Sequence[int], features: int, queries_at_once: int = 256
    ) -> None:
        super().__init__(masks, features, features, queries_at_once)
        self.map = nn.Parameter(torch.zeros(self.reader.queries, math.prod(places)))

    def fetch(self, queries: slice, *prepared: torch.Tensor) -> torch.Tensor:
        """What some queries bring, ``(images, queries, features)``."""
        return self.map[queries].softmax(dim=1) @ prepared[0]

    def look(self, queries: torch.Tensor, *prepared: torch.Tensor) -> torch.Tensor:
        """Where some queries look, ``(images, queries, 1, tokens)``, the same for every image."""
        return self.map[queries].softmax(dim=1)[None, :, None].expand(len(prepared[0]), -1, -1, -1)
