"""Follows /dev/kmsg (Documentation/ABI/testing/dev-kmsg): one record a read(2), each with a sequence number.

EPIPE says that records were overwritten before they were read; the next read gives the oldest that is left, and the
gap in the numbers says how many. EINVAL is a record longer than the buffer, which the kernel passes over likewise.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ryzen_agent.health.collector import NothingHereError
from ryzen_agent.health.kernel_log.place import Place
from ryzen_agent.health.kernel_log.records import LINE_BYTES
from ryzen_agent.health.kernel_log.source import Source, wait_for

READS = 1024
"""Of one batch; a record takes about 2 microseconds."""


class Device(Source):
    """`oldest_us`: since boot, of records worth telling; `seq`: of the first that was not told, where that is known.

    Earlier records in the ring are passed over, but for the introductions of GPUs, which are printed once a boot.
    """

    def __init__(self, path: Path, boot_id: str, seq: int | None, oldest_us: int) -> None:
        self._path = path
        self._boot_id = boot_id
        self._seq = seq
        self._oldest_us = oldest_us
        self._next = seq
        self._reached_end = False
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def read(self) -> list[bytes]:
        """Raises NothingHereError where the device gives nothing at all (containers get /dev/null in its place)."""
        lines: list[bytes] = []
        self.is_live = self._reached_end
        for _ in range(READS):
            try:
                record = os.read(self._descriptor, LINE_BYTES)
            except BlockingIOError:
                self._reached_end = True
                break
            except OSError as error:
                if error.errno in {errno.EPIPE, errno.EINVAL}:
                    continue
                raise
            if not record:
                raise NothingHereError(f"{self._path} gives no records: it is not the kernel's log here")
            line = record.partition(b"\n")[0]  # what follows are SUBSYSTEM= and DEVICE=
            if self._is_new(line) or _introduces_gpu(line):
                lines.append(line)
        return lines

    def _is_new(self, line: bytes) -> bool:
        try:
            _, seq, usec, _ = line.split(b",", 3)
            at, at_us = int(seq), int(usec)
        except ValueError:
            return True
        if self._next is not None and at > self._next:
            self.lost += at - self._next
        known, self._next = self._seq, at + 1
        if self._reached_end:
            return True  # whatever the kernel's clock says, which drifts by minutes in a month
        return at >= known if known is not None else at_us >= self._oldest_us

    def wait(self, timeout_s: float, wake: int) -> None:
        wait_for((self._descriptor, wake), timeout_s)

    def place(self) -> Place:
        return Place(str(self._path), self._boot_id, seq=self._next or 0)

    def close(self) -> None:
        os.close(self._descriptor)


def _introduces_gpu(line: bytes) -> bool:
    return b";NVRM: GPU at " in line and b": GPU-" in line
