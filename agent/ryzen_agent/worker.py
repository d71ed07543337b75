"""The process behind a `ryzen-worker`: the rank itself, which is no descendant of torchrun.

torchrun's child is then a stub that ends as its rank ends; the rank was forked by a nursery, which names it in
`jobs/<run_id>/worker-<local_rank>`. The file is a hint from the job's own user: the process that it names must live,
be that user's and of that job, and the stub that it names must be torchrun's child that was found.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ryzen_agent import procfs

_BYTES_MAX = 128


def parse(text: bytes) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """`12 3456 78 9012`: pid and start ticks of the stub, then of the rank. None for anything else."""
    parts = text.split()
    if len(text) >= _BYTES_MAX or len(parts) != 4 or not all(each.isdigit() for each in parts):
        return None
    stub_pid, stub_ticks, pid, ticks = map(int, parts)
    return ((stub_pid, stub_ticks), (pid, ticks)) if 0 < pid < 1 << 22 else None


def behind(path: Path, stub: tuple[int, int], uid: int, run_id: str) -> tuple[int, int] | None:
    """Pid and start ticks of the living rank that stands behind `stub`; None where there is none."""
    found = parse(_read(path, uid))
    if found is None or found[0] != stub:
        return None
    pid, ticks = found[1]
    # A fork shows its parent's environment, and the nursery has that of the job.
    is_of_job = procfs.read_environ(pid).get("TORCHELASTIC_RUN_ID") == run_id
    is_same = procfs.owner_of(pid) == uid and procfs.is_alive(pid, ticks)
    return (pid, ticks) if is_of_job and is_same else None


def _read(path: Path, uid: int) -> bytes:
    """Empty where that user has no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = os.fstat(descriptor)
        return os.read(descriptor, _BYTES_MAX) if stat.S_ISREG(status.st_mode) and status.st_uid == uid else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)
