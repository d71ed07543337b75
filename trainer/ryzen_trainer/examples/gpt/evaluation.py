"""Loss on text that is not trained on: the packages inside the standard library, while training takes the top level.

Nothing is drawn from a random generator and no state of the model is changed, so a training with evaluations ends with
the bits of one without.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from ryzen_trainer.examples.gpt.config import Config
from ryzen_trainer.examples.gpt.data import Windows
from ryzen_trainer.examples.gpt.model import next_byte_loss

PACKAGE = "asyncio"


class Evaluation:
    """`evaluation_batches` micro-batches, divided over the ranks; the same ones each time."""

    def __init__(
        self, config: Config, device: torch.device, precision: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        training = config.training
        folder = Path(sysconfig.get_paths()["stdlib"]) / PACKAGE
        text = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
        windows = Windows(text, config.model.sequence_length, training.seed)
        self._batches = [
            tuple(torch.stack(each).to(device) for each in zip(*(windows[number] for number in numbers), strict=True))
            for numbers in _numbers(training.evaluation_batches, training.micro_batch)
        ]
        self._device = device
        self._precision = precision

    def loss(self, model: nn.Module) -> float:
        """Mean over all ranks, in nats a byte. Collective."""
        was_training = model.training
        model.eval()
        total = torch.zeros((), device=self._device)
        with torch.no_grad():
            for inputs, targets in self._batches:
                with self._precision():
                    total += next_byte_loss(model(inputs), targets)
        model.train(was_training)
        dist.all_reduce(total)
        return float(total) / (len(self._batches) * dist.get_world_size())


def _numbers(batches: int, size: int) -> list[range]:
    """The sample numbers of this rank's batches: as many on each, for a sharded forward is collective."""
    ranks, rank = dist.get_world_size(), dist.get_rank()
    each = -(-batches // ranks)
    return [range(first * size, (first + 1) * size) for first in range(rank * each, (rank + 1) * each)]
