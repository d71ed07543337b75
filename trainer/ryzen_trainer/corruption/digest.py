"""One number for the bits of many tensors, cheap where they lie and the same wherever the bits are the same.

Of each tensor the sum of its bits read as 64-bit integers, modulo 2^64; of all, the sum of those times an odd number
of their place. Any single bit that differs changes it, for a power of two times an odd number is never 0 modulo 2^64.
Integer sums do not depend on the order in which a device adds, so equal bits give equal digests on every device.

Not `torch.hash_tensor`: its xor costs twelve times as much on a CPU (0.56 against 0.045 ms for a million float32, one
thread, torch 2.13), because each element is widened to 64 bits first, and two flips of one bit place cancel in it.
What no sum can see is two changes that make up for each other exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

_ODD = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio (Knuth, TAOCP 3, section 6.4): odd multiples of it are far apart."""
_WORDS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}


def digest_on_device(tensors: Sequence[Tensor]) -> Tensor:
    """A 0-dimensional int64 tensor on the device of the tensors; nothing waits for it. They must share a device."""
    if not tensors:
        return torch.zeros((), dtype=torch.int64)
    sums = torch.stack([bits(each.detach()) for each in tensors])
    return combined(sums)


def combined(sums: Tensor) -> Tensor:
    """The digest of tensors whose `bits` are `sums`, an int64 row in their order."""
    return (sums * _weights(len(sums), sums.device)).sum()


def as_unsigned(value: int) -> int:
    """The digest as it is written: 0 to 2^64 - 1."""
    return value & (1 << 64) - 1


@lru_cache(maxsize=16)
def _weights(count: int, device: torch.device) -> Tensor:
    return torch.tensor([_signed(_ODD * (2 * place + 1)) for place in range(count)], device=device)


def bits(tensor: Tensor) -> Tensor:
    """The sum of the tensor's bits, a 0-dimensional int64 tensor where it lies."""
    if not tensor.is_contiguous():
        tensor = tensor.contiguous()
    row = tensor.reshape(-1)
    if row.is_complex():
        row = torch.view_as_real(row).reshape(-1)
    if row.dtype is torch.bool:
        row = row.view(torch.uint8)
    size = row.element_size()
    whole = row.numel() * size % 8 == 0  # of the values alone: where they happen to lie must not matter
    if whole and row.storage_offset() * size % 8:
        row = row.clone()
    return row.view(torch.int64 if whole else _WORDS[size]).sum(dtype=torch.int64)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
