"""Writes the log of inputs: `<journal>.inputs/00000001.segment` and so on, private, bounded in total.

The event loop only appends to a queue (`add`); everything else happens in whatever thread calls `flush`: about once a
second, when 128 calls wait, and before a decision is committed to the journal, so that a decision on disk is never
without the call that made it, however the coordinator dies. The frames are handed to the kernel (a killed process
loses nothing of them); they are forced to the disk only when the coordinator stops, because a second forced write
would double what a decision waits for (2.4 ms beside the commit's 2.7 ms, measured), and after a power cut the
journal, not this log, is what the coordinator needs.

A segment begins with everything that its replay needs: settings, and the records a coordinator started from or the
core's whole state. So the oldest can be removed at any time, and the log can go on after a gap: when the disk fails
or cannot keep up, calls are dropped, that is said once, and a new segment is begun as soon as one can be.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import structlog

import ryzen_protos
from ryzen_coordinator.core import snapshot
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Effect, Journal
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.inputs import entries, frames
from ryzen_coordinator.inputs.entries import Call, End
from ryzen_coordinator.inputs.frames import DamageError

FORMAT = 1
SUFFIX = ".segment"
SEGMENTS_MAX = 1000
"""A coordinator that is restarted in a loop makes many short ones."""
WAITING_MAX = 128
"""So many calls are worth a frame of their own: zlib needs some 50 KiB to find what repeats."""
BACKLOG_MAX = 100_000
"""Calls that may wait for a slow disk: 50 s of 2,048 nodes, about 100 MB."""
_RETRY_S = 60.0
_SEGMENTS_WANTED = 8
_SEGMENT_LEAST = 1 << 16

_log = structlog.get_logger("ryzen_coordinator")


Records: TypeAlias = list[tuple[str, str, dict[str, Any]]]


class _Begin(NamedTuple):
    """A new segment begins here in the queue, from a state of the core that was just taken (or from records)."""

    now_s: float
    start: dict[str, Any]


class _Gap(NamedTuple):
    """Calls were dropped here."""


class InputLog:
    """One folder, one writer. Nothing here raises: what cannot be written is said once and missed."""

    def __init__(self, folder: Path, bytes_max: int, session: str) -> None:
        self.folder = folder
        self.wants_state = False  # read by the event loop: call `begin` between two calls of the core
        self._bytes_max = bytes_max
        self._segment_bytes = max(_SEGMENT_LEAST, bytes_max // _SEGMENTS_WANTED)
        self._session = session
        self._queue: deque[Call | _Begin | _Gap] = deque()
        self._lock = threading.Lock()
        self._file: int | None = None
        self._number = self._index = 0
        self._frames = self._written = 0
        self._good_end = 0
        self._continues = False
        self._settings: dict[str, Any] = {}
        self._unix_offset_s = 0.0
        self._failing = False
        self._retry_at_s = 0.0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._number = _mend(folder)
        except OSError as error:
            self._fail(error)

    # ------------------------------------------------------------ on the event loop

    def start(self, settings: CoreSettings, records: Records, now_s: float, unix_offset_s: float) -> None:
        """The first segment begins from what the core is about to be made of."""
        self._settings, self._unix_offset_s = asdict(settings), unix_offset_s
        kept = [
            (kind, key, snapshot.detached(body)) for kind, key, body in records
        ]  # the core goes on with their lists
        start = {"records": kept, "now_s": now_s, "unix_offset_s": unix_offset_s}
        self._queue.append(_Begin(now_s, start))

    def add(self, call: Call, core: Core) -> bool:
        """Keep a call of the core. True when enough wait for a flush."""
        self._queue.append(Call(call.now_s, call.cause, _kept(call.effects)) if call.effects else call)
        if len(self._queue) > BACKLOG_MAX:
            self._queue.clear()
            self._queue.append(_Gap())
        if self.wants_state:
            self.wants_state = False
            self._queue.append(_Begin(call.now_s, {"state": snapshot.take(core)}))
        return len(self._queue) >= WAITING_MAX

    # ------------------------------------------------------------ in a thread

    def flush(self) -> None:
        """Hand all that waits to the kernel."""
        with self._lock:
            try:
                self._flush()
            except (OSError, snapshot.SnapshotError) as error:
                self._fail(error)
            if self._failing and time.monotonic() >= self._retry_at_s:
                self._retry_at_s = time.monotonic() + _RETRY_S
                self.wants_state = True

    def close(self, now_s: float) -> None:
        """Write the rest and say that the coordinator stops here."""
        self.flush()
        with self._lock:
            try:
                self._end(now_s, "stopped")
            except OSError as error:
                self._fail(error)

    def _flush(self) -> None:
        chunk: list[bytes] = []
        for _ in range(len(self._queue)):
            try:
                item = self._queue.popleft()
            except IndexError:  # the event loop has just given the backlog up
                break
            if isinstance(item, Call):
                if self._file is not None:
                    chunk.append(entries.write(item))
                continue
            if isinstance(item, _Gap):
                self._append(b"".join(chunk))
                raise OSError(0, f"the disk is too slow: {BACKLOG_MAX} calls waited")
            self._append(b"".join(chunk))
            chunk.clear()
            self._end(item.now_s, "continued")
            self._open(item)
        self._append(b"".join(chunk))
        if self._file is not None and self._written >= self._segment_bytes:
            self._written = 0  # asked for once
            self.wants_state = True

    def _append(self, payload: bytes) -> None:
        if self._file is None or not payload:
            return
        rest = memoryview(frames.pack(self._frames, payload))
        size = len(rest)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._frames += 1
        self._written += size
        self._good_end += size

    def _open(self, begin: _Begin) -> None:
        start = begin.start
        header = {
            "format": FORMAT,
            "ryzen": ryzen_protos.__version__,
            "session": self._session,
            "index": self._index,
            "continues": self._continues,
            "unix_s": begin.now_s + self._unix_offset_s,
            "settings": self._settings,
            "schema": snapshot.schema(),
            "start": {"state": snapshot.encode(start["state"])} if "state" in start else start,
        }
        head = json.dumps(header, separators=(",", ":")).encode()
        self._remove_old(len(head))
        self._number += 1
        self._index += 1
        path = self.folder / f"{self._number:08}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._frames = self._good_end = 0
        self._append(head)
        self._written = 0
        if self._failing:
            self._failing = False
            _log.info("the log of inputs is written again", folder=str(self.folder))

    def _end(self, now_s: float, end: End) -> None:
        if self._file is None:
            return
        self._append(entries.write_end(now_s, end))
        if end == "stopped":
            os.fdatasync(self._file)
        os.close(self._file)
        self._file, self._continues = None, True

    def _remove_old(self, head_bytes: int) -> None:
        """Make room for one more segment: its head, which holds the whole state, and the calls after it."""
        found = [(path, path.stat().st_size) for path in segments(self.folder)]
        total = sum(size for _, size in found)
        for index, (path, size) in enumerate(found):
            if total + head_bytes + self._segment_bytes <= self._bytes_max and len(found) - index < SEGMENTS_MAX:
                return
            path.unlink(missing_ok=True)
            total -= size

    def _fail(self, error: Exception) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._good_end)
            with contextlib.suppress(OSError):
                os.close(self._file)
        self._file, self._continues = None, False
        self._retry_at_s = time.monotonic() + _RETRY_S
        if not self._failing:
            self._failing = True
            reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            _log.error(
                "the log of inputs is not written: decisions go on, a replay of this time is not possible",
                folder=str(self.folder),
                reason=reason,
            )


def _kept(effects: Sequence[Effect] | str) -> Sequence[Effect] | str:
    """Effects that stay what they are: a record's body may hold a list that the core goes on with."""
    if isinstance(effects, str):
        return effects
    return [replace(each, body=snapshot.detached(each.body)) if isinstance(each, Journal) else each for each in effects]


def segments(folder: Path) -> list[Path]:
    """The segment files, oldest first."""
    return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and path.stem.isdigit())


def _mend(folder: Path) -> int:
    """Cut the torn end of the newest segment, as a killed coordinator leaves it. The number of that segment."""
    found = segments(folder)
    if not found:
        return 0
    newest = found[-1]
    try:
        seen = frames.scan(newest.read_bytes(), str(newest))
    except (DamageError, OSError) as error:
        _log.warning("the log of inputs is damaged; it is left as it is", reason=str(error))
    else:
        if seen.torn:
            _log.warning("the torn end of the log of inputs is cut", file=str(newest), offset=seen.end)
            os.truncate(newest, seen.end)
        if not seen.frames:  # not even its header was written
            newest.unlink()
    return int(newest.stem)
