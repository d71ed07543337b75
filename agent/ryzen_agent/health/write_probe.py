"""A bounded durable write: 4 KiB into a file of its own, fsync, removed. Timed; never touches a file of others.

The name has the host and the pid in it, for many nodes share a checkpoint folder. An agent that was killed meanwhile
leaves its file behind: the first probe of the next agent on this host removes what is an hour older than its own file,
by the file system's own clock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

PROBE_BYTES = 4096
LEFTOVER_S = 3600.0
_ENTRIES_MAX = 10_000
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def probe_prefix(host: str) -> str:
    return f".ryzen-probe-{re.sub('[^A-Za-z0-9.-]', '_', host)}-"


class WriteProbe:
    """`write` may take for ever where a server is gone."""

    def __init__(self, folder: Path, host: str, pid: int, now: Callable[[], float] = time.perf_counter) -> None:
        self._folder = folder
        self._prefix = probe_prefix(host)
        self._path = folder / f"{self._prefix}{pid}"
        self._now = now
        self._is_clean = False

    def write(self) -> float:
        """Seconds that it took. Raises OSError."""
        started_s = self._now()
        try:
            descriptor = os.open(self._path, _FLAGS, 0o600)
        except FileExistsError:  # of a process that had this pid and was killed
            self._path.unlink()
            descriptor = os.open(self._path, _FLAGS, 0o600)
        try:
            mtime_s = self._write(descriptor)
        finally:
            with contextlib.suppress(FileNotFoundError):  # a node of the same name has tidied up
                self._path.unlink()
        took_s = self._now() - started_s
        if not self._is_clean:
            self._remove_leftovers(mtime_s)
            self._is_clean = True
        return took_s

    def _write(self, descriptor: int) -> float:
        """Returns the file's time of change."""
        try:
            if os.write(descriptor, bytes(PROBE_BYTES)) < PROBE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            os.fsync(descriptor)
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)

    def _remove_leftovers(self, now_s: float) -> None:
        with os.scandir(self._folder) as entries:
            for entry in islice(entries, _ENTRIES_MAX):
                if entry.name.startswith(self._prefix) and entry.name[len(self._prefix) :].isdecimal():
                    with contextlib.suppress(FileNotFoundError):
                        if now_s - entry.stat(follow_symlinks=False).st_mtime > LEFTOVER_S:
                            Path(entry.path).unlink()
