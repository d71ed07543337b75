"""Events kept on disk until the coordinator has acknowledged them.

An append-only file of records `length, CRC-32, NodeEvent`. It is bounded: beyond `bytes_max` the oldest events are
dropped, those of the node's health only where nothing else is left to drop. A record that was half written by a
dying agent ends the reading and is cut off. Ids grow for ever on one node, restarts of the agent and of the machine
included: the first id of a fresh file is the wall clock in microseconds.

A disk that is full or gone costs the history, never the run: the spool then lives in memory.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from zlib import crc32

from google.protobuf.message import DecodeError

from ryzen_protos.v1 import node_pb2

BYTES_MAX = 4 << 20
EVENTS_A_MESSAGE = 256
ROOM_PART = 8
"""Of the bound, made free at once."""

_FRAME = struct.Struct("<II")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

log = logging.getLogger(__name__)


class Spool:
    """See the module's header."""

    def __init__(self, path: Path, bytes_max: int = BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._events: deque[tuple[node_pb2.NodeEvent, int]] = deque()
        self._bytes = 0
        self._file_bytes = 0
        self._descriptor = -1
        self.error: str | None = None
        """Why the spool lives in memory only; None where it is on disk."""
        self.dropped = 0
        self._open()
        newest = self._events[-1][0].id if self._events else 0
        self._next_id = max(newest + 1, time.time_ns() // 1000)

    def __len__(self) -> int:
        return len(self._events)

    def add(self, kind: str, run_id: str, fields: dict[str, str]) -> None:
        self._add(node_pb2.NodeEvent(unix_ns=time.time_ns(), kind=kind, run_id=run_id, fields=fields))

    def add_health(self, run_id: str, health: node_pb2.HealthEvent, unix_ns: int) -> None:
        """`run_id`: the job it concerns, if any; `unix_ns`: when it happened."""
        self._add(node_pb2.NodeEvent(unix_ns=unix_ns, kind="health", run_id=run_id, health=health))

    def pending(self, after: int = 0) -> list[node_pb2.NodeEvent]:
        """Not yet acknowledged and with an id above `after`, oldest first, as many as fit in one message."""
        return list(islice((event for event, _ in self._events if event.id > after), EVENTS_A_MESSAGE))

    def acknowledge(self, event_id: int) -> None:
        """The coordinator has everything up to `event_id`."""
        if not self._events or self._events[0][0].id > event_id:
            return
        while self._events and self._events[0][0].id <= event_id:
            self._drop_oldest()
        if not self._events:
            self._truncate(0)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _add(self, event: node_pb2.NodeEvent) -> None:
        event.id = self._next_id
        self._next_id += 1
        raw = frame(event)
        self._events.append((event, len(raw)))
        self._bytes += len(raw)
        if self._bytes > self._bytes_max:
            self._make_room()
        if self._file_bytes + len(raw) > 2 * self._bytes_max:
            self._rewrite()
        else:
            self._write(raw)

    def _drop_oldest(self) -> None:
        self._bytes -= self._events.popleft()[1]

    def _make_room(self) -> None:
        """Drop the oldest, telemetry before health, and some more than is needed: each time costs a pass over all."""
        excess = self._bytes - self._bytes_max + self._bytes_max // ROOM_PART
        by_worth = sorted(self._events, key=lambda each: (each[0].HasField("health"), each[0].id))
        dropped = set()
        for event, size in by_worth:
            if excess <= 0:
                break
            dropped.add(event.id)
            excess -= size
            self._bytes -= size
        self._events = deque(each for each in self._events if each[0].id not in dropped)
        self.dropped += len(dropped)

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, _FLAGS, 0o600)
            raw = os.pread(self._descriptor, 2 * self._bytes_max + self._bytes_max, 0)
        except OSError as error:
            self._gave_up(error)
            return
        for event, size in unframe(raw):
            self._events.append((event, size))
            self._bytes += size
        self._truncate(self._bytes)
        if self._bytes > self._bytes_max:
            self._make_room()

    def _write(self, raw: bytes) -> None:
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, raw)
            self._file_bytes += len(raw)
        except OSError as error:
            self._gave_up(error)

    def _truncate(self, size: int) -> None:
        if self._descriptor < 0:
            return
        try:
            os.ftruncate(self._descriptor, size)
            self._file_bytes = size
        except OSError as error:
            self._gave_up(error)

    def _rewrite(self) -> None:
        """Aside and renamed, so that an agent that is killed meanwhile loses nothing. Not synced: it would hold the
        event loop, and a power cut may cost the history."""
        if self._descriptor < 0:
            return
        aside = self._path.with_name(f"{self._path.name}.new")
        try:
            aside.unlink(missing_ok=True)
            fresh = os.open(aside, _FLAGS, 0o600)
            os.close(self._descriptor)
            self._descriptor, self._file_bytes = fresh, 0
            self._write(b"".join(frame(event) for event, _ in self._events))
            aside.rename(self._path)
        except OSError as error:
            self._gave_up(error)

    def _gave_up(self, error: OSError) -> None:
        self.error = f"{self._path}: {error.strerror}: events are kept in memory only"
        log.warning("%s", self.error)
        self.close()


def frame(event: node_pb2.NodeEvent) -> bytes:
    raw = event.SerializeToString()
    return _FRAME.pack(len(raw), crc32(raw)) + raw


def unframe(raw: bytes) -> Iterator[tuple[node_pb2.NodeEvent, int]]:
    """Whole records and their sizes, up to the first that is not whole."""
    at = 0
    while at + _FRAME.size <= len(raw):
        length, checksum = _FRAME.unpack_from(raw, at)
        body = raw[at + _FRAME.size : at + _FRAME.size + length]
        if len(body) < length or crc32(body) != checksum:
            return
        try:
            event = node_pb2.NodeEvent.FromString(body)
        except DecodeError:
            return
        yield event, _FRAME.size + length
        at += _FRAME.size + length
