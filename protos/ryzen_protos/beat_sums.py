"""The ring of gradient sums in a beat page: when each of the newest `SUMS` all-reduces of this rank began and ended.

A region of its own, as another thread than the loop's may write it. Each record carries its place in the count and a
checksum, like those of the other rings.
"""

from __future__ import annotations

import mmap
import struct
from zlib import crc32

AT, SUMS = 32768, 128
_SUM = struct.Struct("<QQQ")
_CRC = struct.Struct("<I")
_RECORD = struct.Struct(f"{_SUM.format}I")
_RECORD_BYTES = _RECORD.size
BYTES = SUMS * _RECORD_BYTES


def write(page: mmap.mmap, count: int, started_ns: int, ended_ns: int) -> None:
    """Enter sum number `count`, from 1. Raises struct.error for times below zero."""
    raw = _SUM.pack(count, started_ns, ended_ns)
    at = AT + count % SUMS * _RECORD_BYTES
    page[at : at + _RECORD_BYTES] = raw + _CRC.pack(crc32(raw))


def read(region: bytes) -> list[tuple[int, int]]:
    """(began, ended) in nanoseconds, oldest first. What is torn, damaged or ends before it begins is left out."""
    found = []
    for place, (count, started_ns, ended_ns, crc) in enumerate(_RECORD.iter_unpack(region)):
        at = place * _RECORD_BYTES
        if count and started_ns <= ended_ns and crc == crc32(region[at : at + _SUM.size]):
            found.append((count, started_ns, ended_ns))
    return [(started_ns, ended_ns) for _, started_ns, ended_ns in sorted(found)]
