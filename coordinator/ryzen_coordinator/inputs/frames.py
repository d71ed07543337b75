"""Frames: what a segment file consists of, and how damage is told from an end.

    magic "RyzI" | length | number | CRC-32 of length, number and payload | payload (zlib)

Four bytes each, little-endian.
A file is appended to until its writer dies, so its last frame may be half there: that is an end, and is cut. Whatever
is wrong *before* a good frame cannot come from that, and is damage: refused with its offset. The magic makes good
frames findable behind a frame whose length is wrong, the number tells a missing or a repeated frame.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from ryzen_coordinator.errors import ReplayError

MAGIC = b"RyzI"
_HEADER = struct.Struct("<4sIII")
_SUMMED = struct.Struct("<II")
_LEVEL = 3
"""Measured on updates of eight ranks: level 1 takes no less time, level 6 twice as much for 1 % less."""


class DamageError(ReplayError):
    """A frame is wrong and good ones follow, or a good one holds what was never written."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One good frame. `offset`: of its magic in the file, in bytes; `body`: compressed."""

    offset: int
    body: bytes

    @property
    def payload(self) -> bytes:
        """Raises ValueError if it is none, though its checksum is right."""
        try:
            return zlib.decompress(self.body)
        except zlib.error as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Scan:
    """The good frames from the beginning. `end`: where they end; what is beyond is a torn tail."""

    frames: tuple[Frame, ...]
    end: int
    torn: bool


def pack(number: int, payload: bytes) -> bytes:
    """Frame `number` of a file, compressed."""
    body = zlib.compress(payload, _LEVEL)
    return _HEADER.pack(MAGIC, len(body), number, _sum(len(body), number, body)) + body


def scan(data: bytes, name: str) -> Scan:
    """The frames of a file's content. `name`: of the file, for the error. Raises DamageError."""
    frames: list[Frame] = []
    offset = 0
    while offset < len(data):
        end = _good(data, offset, len(frames))
        if end is None:
            if _good_one_after(data, offset):
                raise DamageError(f"{name}: damaged at offset {offset}: good frames follow, so this is no torn end")
            break
        frames.append(Frame(offset, data[offset + _HEADER.size : end]))
        offset = end
    return Scan(tuple(frames), offset, offset < len(data))


def _good(data: bytes, offset: int, number: int | None) -> int | None:
    """Where the good frame at `offset` ends; None if there is none (with that number, if one is given)."""
    if len(data) - offset < _HEADER.size:
        return None
    magic, length, found, checksum = _HEADER.unpack_from(data, offset)
    end = offset + _HEADER.size + length
    if magic != MAGIC or end > len(data) or (number is not None and found != number):
        return None
    return end if checksum == _sum(length, found, memoryview(data)[offset + _HEADER.size : end]) else None


def _good_one_after(data: bytes, offset: int) -> bool:
    """Some good frame begins at `offset` (then with a wrong number) or beyond."""
    at = data.find(MAGIC, offset)
    while at >= 0:
        if _good(data, at, None) is not None:
            return True
        at = data.find(MAGIC, at + 1)
    return False


def _sum(length: int, number: int, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(_SUMMED.pack(length, number)))
