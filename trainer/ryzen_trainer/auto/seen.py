"""What can be seen in the arguments and the result of a model's call, whatever they are wrapped in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_DEPTH = 3
"""A batch within the arguments, a mapping within the batch. Deeper nesting is another kind of object."""
_ITEMS = 64
_TOKENS = "input_ids"


class Size(NamedTuple):
    tokens: int = 0
    samples: int = 0


def tensors_in(value: Any, depth: int = _DEPTH) -> Iterator[tuple[str, Tensor]]:
    """Tensors with the key they have, "" without one. Looks into tuples, lists and mappings only."""
    if isinstance(value, Tensor):
        yield "", value
    elif depth and isinstance(value, Mapping):
        for key, each in list(value.items())[:_ITEMS]:
            for inner, tensor in tensors_in(each, depth - 1):
                yield inner or str(key), tensor
    elif depth and isinstance(value, tuple | list):
        for each in value[:_ITEMS]:
            yield from tensors_in(each, depth - 1)


def has_embedding(module: nn.Module) -> bool:
    """Whether integers may be tokens to it."""
    return any(isinstance(each, nn.Embedding | nn.EmbeddingBag) for each in module.modules())


def size_of(arguments: Any, embedded: bool) -> Size:
    """Tokens and samples of a call: by the tensor called `input_ids`, else by the first integers of (batch, sequence)
    that a model with an embedding is given; samples by the first tensor of any kind that has a batch."""
    found = [(name, each) for name, each in tensors_in(arguments) if each.dim()]
    named = next((each for name, each in found if name == _TOKENS and each.dim() == 2), None)
    texts = (each for _, each in found if each.dim() == 2 and each.dtype in {torch.int64, torch.int32})
    text = named if named is not None else next(texts, None) if embedded else None
    if text is not None:
        return Size(text.numel(), text.shape[0])
    return Size(0, found[0][1].shape[0]) if found else Size()


def loss_in(result: Any) -> Tensor | None:
    """The loss that a call has returned: a scalar, or what is called `loss` in it."""
    if isinstance(result, Tensor):
        return result.detach() if result.dim() == 0 and result.is_floating_point() else None
    loss = result.get("loss") if isinstance(result, Mapping) else None
    return loss_in(loss) if isinstance(loss, Tensor) else None


def differentiable_in(result: Any) -> Tensor | None:
    """A tensor of the result that the backward begins at: the loss where it is there, else any."""
    found = [(name, each) for name, each in tensors_in(result) if each.requires_grad]
    return next((each for name, each in found if name == "loss"), found[0][1] if found else None)
