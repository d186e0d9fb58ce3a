"""A transformer that reads examples of a voxel as a set and answers with the weights of its encoder."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Attention among all tokens and a SwiGLU network, each after a normalisation and with a residual.

    Queries are multiplied by the logarithm of the number of tokens, so that attention stays as sharp in a long
    context as it was in a short one.

    Parameters
    ----------
    width, heads, feedforward, dropout
        Of the layer; ``heads`` divides ``width``.

    References
    ----------
    Shazeer (2020), "GLU variants improve transformer"; Nakanishi (2025), "Scalable-softmax is superior for attention".
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.before_attention = nn.LayerNorm(width)
        self.inputs = nn.Linear(width, 3 * width)
        self.outputs = nn.Linear(width, width)
        self.before_feedforward = nn.LayerNorm(width)
        self.gated = nn.Linear(width, 2 * feedforward)
        self.narrowed = nn.Linear(feedforward, width)
        self.drop = nn.Dropout(dropout)

    def extra_repr(self) -> str:
        """What the sizes of weights do not tell."""
        return f"heads={self.heads}"

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """``(voxels, tokens, width)`` to the same."""
        parts = self.inputs(self.before_attention(tokens)).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        query = query * math.log(tokens.shape[1])
        dropout = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        tokens = tokens + self.drop(self.outputs(attended.transpose(1, 2).flatten(2)))
        gate, content = self.gated(self.before_feedforward(tokens)).chunk(2, dim=2)
        return tokens + self.drop(self.narrowed(functional.silu(gate) * content))


class ContextNetwork(nn.Module):
    """From examples of a voxel, embeddings with its responses, to the weights of its linear encoder.

    Tokens have no positions: the examples are a set.

    Parameters
    ----------
    features
        Number of values an embedding.
    width, layers, heads, feedforward, dropout
        Of the transformer.
    registers
        Learned tokens that stand beside the examples; the first becomes the weights.
    """

    def __init__(
        self,
        features: int,
        width: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        registers: int = 4,
    ) -> None:
        super().__init__()
        self.token = nn.Sequential(nn.Linear(features + 1, width), nn.SiLU(), nn.Linear(width, width))
        self.registers = nn.Parameter(0.02 * torch.randn(registers, width))
        self.blocks = nn.ModuleList(Block(width, heads, feedforward, dropout) for _ in range(layers))
        self.answer = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, features + 1)
        )

    def forward(self, embeddings: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Weights and intercept ``(voxels, features + 1)``.

        Parameters
        ----------
        embeddings
            ``(voxels, examples, features)``.
        responses
            ``(voxels, examples)``.
        """
        examples = self.token(torch.cat([embeddings, responses[..., None]], dim=2))
        tokens = torch.cat([self.registers.expand(len(examples), -1, -1), examples], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.answer(tokens[:, 0])


def respond(weights: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Responses ``(voxels, images)`` to embeddings ``(voxels or 1, images, features)``."""
    return (embeddings @ weights[:, :-1, None]).squeeze(2) + weights[:, -1:]
