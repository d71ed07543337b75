"""The ring of check results in a beat page: what a rank found of its own arithmetic, for others to compare.

    at 36864: 8 records of 32 bytes: sequence, step, digest, group, kind, CRC-32

`step` counts steps done: the digest is of the state that a checkpoint of that step has. Digests are compared among
the ranks that give the same `group`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

CHECKS_AT, CHECK_BYTES, CHECKS = 36864, 32, 8
REPLICA = 1
"""Kind: the digest of the parameters after an optimizer step."""
GROUPS = 1 << 16

_CHECK = struct.Struct("<QQQHH")
_CRC = struct.Struct("<I")


class Check(NamedTuple):
    sequence: int
    step: int
    digest: int
    group: int
    kind: int


def pack(check: Check) -> tuple[int, bytes]:
    """Where it goes in the page, and the bytes. Raises struct.error for what does not fit."""
    raw = _CHECK.pack(*check)
    return CHECKS_AT + check.sequence % CHECKS * CHECK_BYTES, raw + _CRC.pack(crc32(raw))


def unpack(ring: bytes) -> tuple[Check, ...]:
    """The whole records of a ring of `CHECKS * CHECK_BYTES` bytes, oldest first."""
    found = []
    for at in range(0, CHECKS * CHECK_BYTES, CHECK_BYTES):
        raw = ring[at : at + _CHECK.size]
        if _CRC.unpack_from(ring, at + _CHECK.size)[0] == crc32(raw):
            found.append(Check(*_CHECK.unpack(raw)))
    return tuple(sorted(found))
