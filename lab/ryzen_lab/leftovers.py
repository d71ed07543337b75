"""Nothing of a lab outlives it: how its processes are found, and the reaper that ends them whatever happens.

Every process that a lab starts carries RYZEN_LAB_ID in its environment, and so does everything that those start:
torchrun's ranks are in sessions of their own and survive a SIGKILL of torchrun, but they cannot lose the variable.
The kernel shows the environment of a process at its exec in /proc/PID/environ.

The reaper is this file run as a script, started before anything else. It holds one end of a pipe; when the other
end closes, because the lab is done or because it was killed, it SIGKILLs every process with that id until a whole
pass over /proc finds none, and removes the lab's folder. Only the standard library: it runs with `-I -S`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

VARIABLE = "RYZEN_LAB_ID"

_PASSES_MAX = 400
_PAUSE_S = 0.02
"""Between two passes: killed processes need a moment to die, those in a system call a longer one."""


def processes_of(lab_id: str) -> list[int]:
    """Pids of every living process of the lab, this one excepted."""
    marker = f"{VARIABLE}={lab_id}".encode()
    pids = [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and marker in environment(pid)]


def environment(pid: int) -> list[bytes]:
    """NAME=value entries of a process at its exec; empty where it is gone, a zombie or another user's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def end_all(lab_id: str) -> int:
    """SIGKILL every process of the lab until none is left. Returns how many were found at first."""
    first = 0
    for attempt in range(_PASSES_MAX):
        found = processes_of(lab_id)
        first = first or len(found)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found and attempt:
            break
        time.sleep(_PAUSE_S)
    return first


def main(lab_id: str, folder: str) -> None:
    """The reaper: wait for the end of standard input, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    end_all(lab_id)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
