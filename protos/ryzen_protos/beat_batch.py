"""The first batch of a rank in its beat page: what it is known by, so that two who read the same one are seen.

    at 40704: digest, place, CRC-32; written once, zeros where it is not known

`place` is one more than the rank's number among its data-parallel ones, where the script says it (`attach(role="dp3
tp1")`): ranks of one number read the same batch rightly. 0: not said, and nothing speaks for other parallelism.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple
from zlib import crc32

AT, BYTES = 40704, 256
PLACES = 1 << 20
_BATCH = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_PLACE = re.compile(r"(?:^|[^a-z])(?:dp|data)[\s=:_-]*(\d{1,6})(?!\d)", re.IGNORECASE)


class FirstBatch(NamedTuple):
    digest: int
    place: int


def pack(batch: FirstBatch) -> bytes:
    """Raises struct.error for what does not fit."""
    raw = _BATCH.pack(*batch)
    return raw + _CRC.pack(crc32(raw))


def unpack(region: bytes) -> FirstBatch | None:
    """None where it is not known."""
    raw = region[: _BATCH.size]
    if _CRC.unpack_from(region, _BATCH.size)[0] != crc32(raw):
        return None
    found = FirstBatch(*_BATCH.unpack(raw))
    return found if found.digest and found.place < PLACES else None


def place_of(role: str) -> int | None:
    """Of a role like "dp3 tp1" or "data=3,tensor=1"; 0 for no role, None for one that does not say it."""
    found = _PLACE.search(role)
    return int(found[1]) + 1 if found else None if role else 0
