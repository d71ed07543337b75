"""What this process itself takes, from /proc/self: `process.*` of OpenTelemetry's conventions."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ryzen_telemetry.records import Sample

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BEGAN_S = time.monotonic()


def samples() -> list[Sample]:
    """A microsecond each; nothing where /proc does not say."""
    user_s, system_s, *_ = os.times()
    found = [
        Sample("process.cpu.time", user_s, (("cpu.mode", "user"),)),
        Sample("process.cpu.time", system_s, (("cpu.mode", "system"),)),
        Sample("process.uptime", time.monotonic() - _BEGAN_S),
    ]
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - only counted
        files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    except (OSError, ValueError, IndexError):
        return found
    return [
        *found,
        Sample("process.memory.usage", float(pages * _PAGE_BYTES)),
        Sample("process.thread.count", float(threads)),
        Sample("process.unix.file_descriptor.count", float(files)),
    ]
