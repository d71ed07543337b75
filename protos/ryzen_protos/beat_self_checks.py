"""The standing of the checks in which a rank compares its arithmetic with its own, one record a check.

    at 37120: 4 places of 64 bytes: kind, agreed, differed, clean, step, digest, key, CRC-32

A record is replaced, not added: it is a level. It is written when its counts have doubled or something differs, so it
hardly ever changes. Pages of older trainers have zeros here, which no checksum fits.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

AT, PLACE_BYTES, PLACES = 37120, 64, 4
BYTES = PLACE_BYTES * PLACES

KNOWN_ANSWER, RECOMPUTE, REPLAY, NEIGHBOURS = 1, 2, 3, 4
"""Kinds: a fixed computation, a checkpointed segment's output, the gradient of a micro-batch; each done again. The
last: that gradient as two other ranks have it, who agree."""
KINDS = frozenset({KNOWN_ANSWER, RECOMPUTE, REPLAY, NEIGHBOURS})

_RECORD = struct.Struct("<HxxIIQQQQ")
_CRC = struct.Struct("<I")


class SelfCheck(NamedTuple):
    """`agreed`: comparisons that came out equal before the first that did not; `differed`: those that did not.

    `clean`: steps done that stand good: until something differs those from before this process, then those before the
    newest comparison that agreed. `step`: steps done at the first that differed, 0 without one. Of the known answer,
    which is compared with other ranks too: `digest` of the newest answer, `key` of device and software.
    """

    kind: int
    agreed: int = 0
    differed: int = 0
    clean: int = 0
    step: int = 0
    digest: int = 0
    key: int = 0


def pack(found: SelfCheck) -> tuple[int, bytes]:
    """Where it goes in the page, and the bytes. Raises struct.error for what does not fit."""
    raw = _RECORD.pack(*found)
    return AT + found.kind % PLACES * PLACE_BYTES, raw + _CRC.pack(crc32(raw))


def unpack(region: bytes) -> dict[int, SelfCheck]:
    """By kind, the whole records of a region of `BYTES` bytes."""
    found = {}
    for at in range(0, BYTES, PLACE_BYTES):
        raw = region[at : at + _RECORD.size]
        if _CRC.unpack_from(region, at + _RECORD.size)[0] == crc32(raw):
            record = SelfCheck(*_RECORD.unpack(raw))
            if record.kind in KINDS:
                found[record.kind] = record
    return found
