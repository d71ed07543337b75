"""How ranks agree around a checkpoint: a few numbers over gloo, never a pickle of ours.

With one process, or without torch.distributed, each of these is the identity.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import torch.distributed as dist

from ryzen_trainer.leaving import let_gloo_finish_at_exit

_LENGTH_BYTES = 8
_HEAD_BYTES = 1024
"""What rank 0 says comes with its length in one message of this size; what has no room follows in a second one."""


class Ranks:
    """The ranks that save and load together: all of the job."""

    def __init__(self) -> None:
        """Collective: where the default group has no gloo (nccl), one is made."""
        self.together = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if self.together else 0
        self.size = dist.get_world_size() if self.together else 1
        self.group: Any = None
        if self.together:
            let_gloo_finish_at_exit()
            on_cpu = dist.get_backend() == dist.Backend.GLOO
            self.group = dist.group.WORLD if on_cpu else dist.new_group(backend="gloo")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def all_true(self, mine: bool) -> bool:
        """Whether it is true on every rank."""
        flag = torch.tensor([int(mine)])
        if self.together:
            dist.all_reduce(flag, op=dist.ReduceOp.MIN, group=self.group)
        return bool(flag.item())

    def gathered(self, mine: list[int]) -> list[list[int]]:
        """The same number of integers from every rank, by rank, on every rank."""
        row = torch.tensor(mine, dtype=torch.int64)
        rows = [torch.empty_like(row) for _ in range(self.size)]
        if self.together:
            dist.all_gather(rows, row, group=self.group)
        else:
            rows = [row]
        return [each.tolist() for each in rows]

    def from_first(self, value: Any) -> Any:
        """Rank 0's value (anything JSON can say) on every rank."""
        if not self.together:
            return value
        said = json.dumps(value).encode() if self.first else b""
        head = bytearray((len(said).to_bytes(_LENGTH_BYTES, "big") + said)[:_HEAD_BYTES].ljust(_HEAD_BYTES))
        self._broadcast(head)
        length = int.from_bytes(head[:_LENGTH_BYTES], "big")
        begin = bytes(head[_LENGTH_BYTES : _LENGTH_BYTES + length])
        rest = bytearray(said[len(begin) :] if self.first else length - len(begin))
        if rest:
            self._broadcast(rest)
        return json.loads(begin + rest)

    def _broadcast(self, content: bytearray) -> None:
        dist.broadcast(torch.frombuffer(content, dtype=torch.uint8), src=0, group=self.group)
