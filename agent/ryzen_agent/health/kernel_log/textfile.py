"""Follows a log that is a FIFO, or a file that is appended to, truncated, or renamed and made anew.

A file cannot be polled: inotify says when it was written to. Once a second it is looked at anyway, which is how a
file that was put in its place is noticed (and writes of another machine, of which inotify does not know).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from pathlib import Path

from ryzen_agent.health.kernel_log.lines import Lines
from ryzen_agent.health.kernel_log.place import Place
from ryzen_agent.health.kernel_log.records import parse
from ryzen_agent.health.kernel_log.source import Source, wait_for

CHUNK_BYTES = 1 << 16
TAIL_BYTES = 1 << 20
"""Of a file that is seen for the first time: how much of its end is looked through for lines that are new enough."""
LOOK_S = 1.0
BLIND_LOOK_S = 0.05
"""Between two looks at a file where there is no inotify (a user's watches can be used up)."""

_IN_MODIFY, _IN_MOVE_SELF, _IN_DELETE_SELF = 0x2, 0x800, 0x400  # include/uapi/linux/inotify.h
_libc = ctypes.CDLL(None, use_errno=True)


class Fifo(Source):
    """Opened for writing too: else it would be at its end whenever no writer has it open."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self.is_live = True
        self._place = Place(str(path), boot_id)
        self._lines = Lines()
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def read(self) -> list[bytes]:
        try:
            return self._lines.feed(os.read(self._descriptor, CHUNK_BYTES))
        except BlockingIOError:
            return []

    def wait(self, timeout_s: float, wake: int) -> None:
        wait_for((self._descriptor, wake), timeout_s)

    def place(self) -> Place:
        return self._place

    def close(self) -> None:
        os.close(self._descriptor)


class TextFile(Source):
    """`known`: where it was left. `is_new`: it was not there before, so all of it is news (of a large file its end).
    Otherwise it begins with the first line of its end that states a time from `oldest_unix_s` on, or at the end."""

    def __init__(self, path: Path, boot_id: str, known: Place | None, oldest_unix_s: float, is_new: bool) -> None:
        self._path = path
        self._boot_id = boot_id
        self._lines = Lines()
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._watch = _Watch(path)
        self._offset = self._begin(known, oldest_unix_s, is_new)
        os.lseek(self._descriptor, self._offset, os.SEEK_SET)

    def read(self) -> list[bytes]:
        chunk = os.read(self._descriptor, CHUNK_BYTES)
        if not chunk:
            return self._after_the_end()
        self._offset += len(chunk)
        return self._lines.feed(chunk)

    def wait(self, timeout_s: float, wake: int) -> None:
        self._watch.wait(timeout_s, wake)

    def place(self) -> Place:
        now = os.fstat(self._descriptor)
        offset = self._offset - self._lines.pending
        return Place(str(self._path), self._boot_id, device=now.st_dev, inode=now.st_ino, offset=offset)

    def close(self) -> None:
        self._watch.close()
        os.close(self._descriptor)

    def _begin(self, known: Place | None, oldest_unix_s: float, is_new: bool) -> int:
        now = os.fstat(self._descriptor)
        if known is not None and (known.device, known.inode) == (now.st_dev, now.st_ino):
            return known.offset if known.offset <= now.st_size else 0
        if is_new or known is not None:
            return max(0, now.st_size - TAIL_BYTES)
        return _first_line(self._descriptor, now.st_size, oldest_unix_s)

    def _after_the_end(self) -> list[bytes]:
        """Truncated: from its beginning. Another file at the path: what was left of this one, then that."""
        self.is_live = True
        now = os.fstat(self._descriptor)
        if now.st_size < self._offset:
            self._lines, self._offset = Lines(), os.lseek(self._descriptor, 0, os.SEEK_SET)
            return []
        with contextlib.suppress(FileNotFoundError):
            there = self._path.stat()
            if (there.st_dev, there.st_ino) != (now.st_dev, now.st_ino):
                return self._change_over()
        return []

    def _change_over(self) -> list[bytes]:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        os.close(self._descriptor)
        self._watch.close()
        self._descriptor, self._offset, self._watch = descriptor, 0, _Watch(self._path)
        return self._lines.end()


class _Watch:
    """inotify on one file, or nothing where that is refused."""

    def __init__(self, path: Path) -> None:
        self._descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        mask = _IN_MODIFY | _IN_MOVE_SELF | _IN_DELETE_SELF
        if self._descriptor >= 0 and _libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask) < 0:
            self.close()

    def wait(self, timeout_s: float, wake: int) -> None:
        if self._descriptor < 0:
            wait_for((wake,), min(timeout_s, BLIND_LOOK_S))
        elif self._descriptor in wait_for((self._descriptor, wake), min(timeout_s, LOOK_S)):
            with contextlib.suppress(BlockingIOError):
                os.read(self._descriptor, CHUNK_BYTES)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _first_line(descriptor: int, size: int, oldest_unix_s: float) -> int:
    """Offset of the first line in the file's end that is new enough, or behind its last whole line."""
    begin = max(0, size - TAIL_BYTES)
    *whole, rest = os.pread(descriptor, size - begin, begin).split(b"\n")
    now_unix_s, uptime_s = time.time(), time.monotonic()
    at = begin
    for number, line in enumerate(whole):
        record = parse(line, now_unix_s)
        when = record.unix_s(now_unix_s, uptime_s) if record is not None else None
        if when is not None and when >= oldest_unix_s and (number or not begin):
            return at
        at += len(line) + 1
    return size - len(rest)
