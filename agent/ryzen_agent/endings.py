"""Why a rank ended, beyond its exit code and its page: what the kernel and torchrun's error file say.

The kernel counts out-of-memory kills by control group (`memory.events`, cgroup v2) and for the whole node
(`/proc/vmstat`). A rank that died of a SIGKILL that was not ours, while the count grew since the look before, was
killed for its memory. The error file is what `torch.distributed.elastic` records of an exception, for scripts that
use its `record` but no `attach()`.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from ryzen_agent import procfs

CGROUPS = Path("/sys/fs/cgroup")
VMSTAT = Path("/proc/vmstat")
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
ERROR_BYTES = 256 << 10
"""Of an error file; it carries a traceback and, where torchrun adds one, the failures of other ranks."""

_OOM_KILL = b"\noom_kill "
_TYPE = re.compile(r"([A-Za-z_][\w.]*): *(.*)", re.DOTALL)


class OomCount:
    """The kernel's count of out-of-memory kills that may have been of one process."""

    def __init__(self, path: Path) -> None:
        """`path`: a file with a line `oom_kill N`. One that cannot be read counts nothing."""
        self._path = path
        self._last = self._read()

    @classmethod
    def of(cls, pid: int) -> OomCount:
        """Of the process's control group where it has one with a memory controller, else of the node."""
        try:
            path = events_file((procfs.PROC / str(pid) / "cgroup").read_text())
        except OSError:
            path = None
        return cls(path if path is not None and path.is_file() else VMSTAT)

    @staticmethod
    def look_at(counts: Iterable[OomCount]) -> None:
        """Kills until now were not of these processes, for they live. Ranks of a node mostly share one file, and the
        node's has two hundred lines that the kernel adds up: each file is read once."""
        seen: dict[Path, int | None] = {}
        for count in counts:
            if count._path not in seen:
                seen[count._path] = count._read()
            count._last = seen[count._path]

    def has_grown(self) -> bool:
        """Since the last look."""
        now = self._read()
        return now is not None and self._last is not None and now > self._last

    def _read(self) -> int | None:
        try:
            return parse_oom_kills(procfs.read_file(self._path))
        except (OSError, ValueError):
            return None


def events_file(cgroup: str) -> Path | None:
    """From /proc/PID/cgroup: where the control group counts, None without cgroup v2 or with a name that leads out."""
    for line in cgroup.splitlines():
        if line.startswith("0::/") and ".." not in line:
            return CGROUPS / line.removeprefix("0::/") / "memory.events"
    return None


def parse_oom_kills(text: bytes) -> int:
    """Of memory.events or /proc/vmstat. Raises ValueError where there is no such line."""
    _, name, rest = (b"\n" + text).partition(_OOM_KILL)  # not a pattern, which takes ten times as long
    if not name:
        raise ValueError("no line oom_kill")
    return int(rest.partition(b"\n")[0])


def read_error_file(path: Path, uid: int) -> tuple[str, str] | None:
    """Type and message of the exception in a rank's error file; None where there is none of this user."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != uid or status.st_size > ERROR_BYTES:
            return None
        return parse_error(os.read(descriptor, ERROR_BYTES))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def parse_error(text: bytes) -> tuple[str, str] | None:
    """`{"message": {"message": "ValueError: it broke", "extraInfo": {...}}}`; older ones have a plain text inside."""
    try:
        said = json.loads(text)["message"]
        whole = said["message"] if isinstance(said, dict) else said
        found = _TYPE.fullmatch(whole.strip())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    kind, message = (found[1], found[2]) if found else ("", whole)
    line = " ".join(message.split())
    return _printable(kind.rpartition(".")[2]), _printable(line)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)
