"""A decoder-only transformer over bytes, in the shape of GPT-2 with pre-normalisation and tied embeddings.

With activation checkpointing a block keeps its input alone and runs its forward again in the backward: a third more
FLOPs for a fraction of the memory, and the same bits (dropout draws what it drew the first time).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ryzen_trainer.examples.gpt.config import Model

VOCABULARY = 256

Segment: TypeAlias = Callable[[nn.Module, Tensor], Tensor]
"""Runs one block on its input."""


def _kept(block: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = block(x)
    return out


recomputed: Segment = partial(checkpoint, use_reentrant=False)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each with a residual around it."""

    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, shape.dropout
        self.attention_norm = nn.LayerNorm(shape.width)
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.attention_out = nn.Linear(shape.width, shape.width, bias=False)
        self.perceptron_norm = nn.LayerNorm(shape.width)
        self.widen = nn.Linear(shape.width, 4 * shape.width)
        self.narrow = nn.Linear(4 * shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, sequence, width) to the same."""
        x = x + self._drop(self._attend(self.attention_norm(x)))
        return x + self._drop(self.narrow(functional.gelu(self.widen(self.perceptron_norm(x)))))

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.query_key_value(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        out: Tensor = self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        return out

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class Gpt(nn.Module):
    """Bytes in, logits of the next byte out."""

    def __init__(self, shape: Model, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.segment: Segment = recomputed if activation_checkpointing else _kept
        self.tokens = nn.Embedding(VOCABULARY, shape.width)
        self.positions = nn.Embedding(shape.sequence_length, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.apply(_initialise)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, sequence) of int64 to (batch, sequence, 256)."""
        x = self.tokens(inputs) + self.positions(torch.arange(inputs.shape[1], device=inputs.device))
        for block in self.blocks:
            x = self.segment(block, x) if self.training else block(x)
        return functional.linear(self.norm(x), self.tokens.weight)


def next_byte_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats a byte, in float32."""
    return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def _initialise(module: nn.Module) -> None:
    """Normal with deviation 0.02, as GPT-2."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
