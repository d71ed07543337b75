"""What the first batch of a rank is known by: a digest of its tensors in host memory, taken once.

None is taken of a batch that says nothing: no tensors, few numbers, all of them equal (made up for a measurement, say).
Nor where ranks may share a batch rightly and it is not known which: where there is a process group of some of the ranks
and `attach(role=...)` has not said this one's number among the data-parallel ones.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ryzen_protos.beat_batch import FirstBatch, place_of

NUMBERS_MIN = 16
"""Two batches of fewer numbers may be the same by chance."""
_BYTES_MAX = 1 << 20
_DEPTH = 3


def first_batch(batch: Any, role: str) -> FirstBatch | None:
    """Never raises."""
    try:
        place = place_of(role)
        if place is None or (place == 0 and _some_ranks_have_a_group()):
            return None
        digest = _digest(batch)
    except Exception:  # noqa: BLE001 - a script's batch may be anything, and what looks like a tensor too
        return None
    return FirstBatch(digest, place) if digest else None


def _digest(batch: Any) -> int:
    """64 bits; 0 for a batch that says nothing."""
    known = hashlib.blake2b(digest_size=8)
    numbers = 0
    for tensor in _tensors(batch, _DEPTH):
        if tensor.device.type == "cpu" and tensor.layout is sys.modules["torch"].strided and tensor.numel():
            flat = tensor.detach().reshape(-1)
            if tensor.is_complex() or bool((flat != flat[0]).any()):
                raw = flat.contiguous().view(sys.modules["torch"].uint8)[:_BYTES_MAX]
                known.update(memoryview(raw.numpy()))
                numbers += tensor.numel()
    return int.from_bytes(known.digest()) if numbers >= NUMBERS_MIN else 0


def _tensors(value: Any, depth: int) -> Iterator[Any]:
    if type(value).__module__ == "torch" and hasattr(value, "layout"):
        yield value
    elif depth and isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each, depth - 1)
    elif depth and isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each, depth - 1)


def _some_ranks_have_a_group() -> bool:
    """Whether a process group has more than one rank and not all."""
    c10d = sys.modules.get("torch.distributed.distributed_c10d")
    if c10d is None or not c10d.is_initialized():
        return False
    whole = c10d.get_world_size()
    return any(1 < len(ranks) < whole for ranks in c10d._world.pg_group_ranks.values())
