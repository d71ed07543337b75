"""`ryzen-agent scan-kmsg FILE|-`: what a saved kernel log says, one object or one row a finding.

Reads as a stream, so that a log of any size, a pipe, or the kernel's own device (as far as it goes now) will do.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TextIO

from ryzen_agent.health.kernel_log.finder import Finder, Seen, may_matter
from ryzen_agent.health.kernel_log.lines import Lines
from ryzen_agent.health.kernel_log.records import LINE_BYTES

USAGE_EXIT_CODE = 2
CHUNK_BYTES = 1 << 16
KINDS = frozenset({"xid", "sxid", "oom", "mce", "aer", "hung_task", "lockup", "nfs", "filesystem", "nvme", "ib"})
"""Kinds of the output; every other finding is "other"."""

_HEAD = ("time", "kind", "code", "device", "unit", "pid", "process", "class", "action", "message")
_WIDTHS = (14, 9, 5, 16, 14, 7, 15, 11, 23, 0)


def scan(source: str, as_json: bool, out: TextIO) -> int:
    """`source`: a path, or "-" for standard input. Returns the exit code; a source that cannot be read is one line."""
    lines = found = 0
    try:
        with closing(_open(source)) as stream:
            for line, seen in _seen(stream):
                lines += line
                if seen is not None:
                    found += 1
                    out.write(_object(seen) if as_json else _row(seen, head=found == 1))
                else:
                    out.flush()  # a chunk is done: `dmesg --follow` may take its time with the next
        if not as_json:
            out.write(f"{found} finding{'' if found == 1 else 's'} in {lines} lines\n")
        out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # a reader that has seen enough
    except OSError as error:
        sys.stderr.write(f"ryzen-agent scan-kmsg: {source}: {error.strerror or error}\n")
        return USAGE_EXIT_CODE
    return 0


class _Chunks:
    """Bytes of a descriptor until there are no more: its end, or for the kernel's device its newest record."""

    def __init__(self, descriptor: int, owned: bool) -> None:
        self._descriptor = descriptor
        self._owned = owned
        self._is_device = stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor)
        if self._is_device:
            os.set_blocking(descriptor, False)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                chunk = os.read(self._descriptor, LINE_BYTES if self._is_device else CHUNK_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:  # overwritten before it was read; the next is there
                continue
            if not chunk:
                return
            yield chunk

    def close(self) -> None:
        if self._owned:
            os.close(self._descriptor)


def _open(source: str) -> _Chunks:
    if source == "-":
        return _Chunks(sys.stdin.fileno(), owned=False)
    return _Chunks(os.open(Path(source), os.O_RDONLY | os.O_CLOEXEC), owned=True)


def _seen(chunks: _Chunks) -> Iterator[tuple[int, Seen | None]]:
    """(lines read since the last, a line's finding)."""
    finder, splitter, now_unix_s = Finder(), Lines(), time.time()
    for chunk in chunks:
        yield from _of(finder, splitter.feed(chunk), now_unix_s)
    yield from _of(finder, splitter.end(), now_unix_s)


def _of(finder: Finder, lines: list[bytes], now_unix_s: float) -> Iterator[tuple[int, Seen | None]]:
    for line in lines:
        if may_matter(line) or line.startswith(b"{"):
            seen = finder.look(line, now_unix_s)
            if seen is not None and seen.finding is not None:
                yield 0, seen
    yield len(lines), None


def _object(seen: Seen) -> str:
    """One JSON object. `xid` is null for other kinds, `code` is any kind's number."""
    record, finding = seen.record, seen.finding
    assert finding is not None  # noqa: S101 - only findings come here
    return json.dumps({
        "kind": finding.kind if finding.kind in KINDS else "other",
        "xid": finding.code if finding.kind == "xid" else None,
        "pci": finding.pci or None,
        "pid": finding.pid,
        "process": finding.process,
        "class": finding.fault_class,
        "action": finding.action,
        "time_s": record.time_s,
        "clock": record.clock,
        "code": finding.code or None,
        "device": finding.device or None,
        "unit": finding.unit or None,
        "caused_by": finding.caused_by,
        "message": finding.message,
    }) + "\n"  # fmt: skip


def _row(seen: Seen, head: bool) -> str:
    finding = seen.finding
    assert finding is not None  # noqa: S101 - only findings come here
    cells = (
        _time(seen), finding.kind, str(finding.code or "-"), finding.device or finding.pci or "-", finding.unit or "-",
        str(finding.pid or "-"), finding.process or "-", finding.fault_class or "-", finding.action, finding.message,
    )  # fmt: skip
    rows = [_HEAD, cells] if head else [cells]
    return "".join(_padded(row) for row in rows)


def _time(seen: Seen) -> str:
    record = seen.record
    if record.time_s is None:
        return "-"
    if record.clock == "boot":
        return f"+{record.time_s:.3f}"
    return time.strftime("%m-%d %H:%M:%S", time.localtime(record.time_s))


def _padded(row: tuple[str, ...]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, _WIDTHS, strict=True)).rstrip() + "\n"
