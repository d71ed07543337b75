"""Text that is on every machine: the source of Python's own standard library, as bytes.

Sample number i of a run is a window whose place follows from (seed, i) alone. A step takes the next
`global_batch` numbers, and rank r of micro-batch m takes its slice of them: which samples a step sees does not
depend on the number of ranks, and the position in the data is one number, the samples consumed by all ranks.
"""

from __future__ import annotations

import os
import sysconfig
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchdata.stateful_dataloader import StatefulDataLoader

from ryzen_trainer.errors import BatchError

_MULTIPLIER, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


class Text(Protocol):
    """`bytes` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...


class StandardLibrary:
    """The top-level modules of the standard library in the order of their names, some megabytes in a row. A file is
    read when something of it is asked for: after a fault no rank waits for the whole text."""

    def __init__(self) -> None:
        with os.scandir(sysconfig.get_paths()["stdlib"]) as entries:
            found = sorted((each.name, each.path, each.stat().st_size) for each in entries if _is_module(each))
        self._paths = [path for _, path, _ in found]
        self._ends = list(accumulate(size for _, _, size in found))
        self._read: dict[int, bytes] = {}

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, place: slice) -> bytes:
        """Bytes `place.start` to `place.stop`, both given and within the text."""
        at, pieces = place.start, []
        while at < place.stop:
            file = bisect_right(self._ends, at)
            begin = self._ends[file - 1] if file else 0
            if file not in self._read:
                self._read[file] = Path(self._paths[file]).read_bytes()
            pieces.append(self._read[file][at - begin : place.stop - begin])
            at = self._ends[file]
        return b"".join(pieces)


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Windows of `length` bytes and the bytes that follow each."""

    def __init__(self, text: Text, length: int, seed: int) -> None:
        self.text, self.length, self.seed = text, length, seed

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        start = _mixed(self.seed, number) % (len(self.text) - self.length)
        raw = bytearray(self.text[start : start + self.length + 1])
        window = torch.frombuffer(raw, dtype=torch.uint8).long()
        return window[:-1], window[1:]


class GlobalBatches(Sampler[list[int]]):
    """The sample numbers of one rank, a micro-batch at a time, for ever. Its state is the samples consumed."""

    def __init__(self, division: Division, rank: int) -> None:
        self.division, self.rank = division, rank
        self.micro_batches = 0

    def __iter__(self) -> Iterator[list[int]]:
        return self

    def __next__(self) -> list[int]:
        size, ranks = self.division.micro_batch, self.division.world_size
        start = (self.micro_batches * ranks + self.rank) * size
        self.micro_batches += 1
        return list(range(start, start + size))

    def state_dict(self) -> dict[str, Any]:
        return {"samples": self.micro_batches * self.division.micro_batch * self.division.world_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.move_to(state["samples"])

    def move_to(self, samples: int) -> None:
        """Stand where all ranks together have consumed `samples`, a multiple of the global batch."""
        self.micro_batches = samples // (self.division.micro_batch * self.division.world_size)


class Division:
    """How the global batch is divided over this world."""

    def __init__(self, global_batch: int, micro_batch: int, world_size: int) -> None:
        """Raises BatchError where every rank cannot take the same number."""
        each, rest = divmod(global_batch, world_size)
        if rest:
            raise BatchError(
                f"global batch {global_batch} does not divide by {world_size} ranks: "
                "set training.global_batch to a multiple of every world size that may occur, or allow fewer"
            )
        self.world_size = world_size
        self.micro_batch = next(size for size in range(min(micro_batch, each), 0, -1) if each % size == 0)
        self.accumulation = each // self.micro_batch


def make_loader(windows: Windows, batches: GlobalBatches) -> StatefulDataLoader:
    """torchdata's loader. The generator of its own keeps it from drawing on torch's global one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'set_vital' is deprecated")  # torchdata 0.11 on torch 2.13
        return StatefulDataLoader(windows, batch_sampler=batches, generator=torch.Generator().manual_seed(0))


def _is_module(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(".py") and entry.is_file()


def _mixed(seed: int, number: int) -> int:
    """SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators")."""
    z = (seed * 0xD1342543DE82EF95 + (number + 1) * _MULTIPLIER) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
