"""Become a command that dies with the lab: `python -I -S launch.py LAB_PID COMMAND...`.

PR_SET_PDEATHSIG survives the exec and needs no code between fork and exec in the lab itself, where threads of
gRPC make `preexec_fn` unsafe. It does not reach grandchildren; those are the reaper's (leftovers.py).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(lab_pid: int, command: list[str]) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != lab_pid:  # the lab died before the line above
        os._exit(1)
    os.execvp(command[0], command)  # noqa: S606 - a list, no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
