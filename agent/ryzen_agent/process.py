"""One process, named for good by a pidfd, watched without being its parent.

The kernel wakes the event loop when the process ends. A process that is not our child gives us no wait
status, so the exit code is read from the zombie's stat file (field 52) at that moment: torchrun reaps within
0.1 s. Where it was faster, Linux 6.15 and later still tell through the pidfd itself (PIDFD_GET_INFO). On
older kernels the code is then unknown (None), which differs from 0.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
from collections.abc import Callable

from ryzen_agent import procfs

_INFO = struct.Struct("<QQ11Ii")  # struct pidfd_info of linux/pidfd.h, 64 bytes; exit_code is the last
_INFO_EXIT = 1 << 3
_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11  # _IOWR(0xFF, 11, struct pidfd_info)


class Process:
    """A watched process. `exit_code` is negative for a signal, None while alive or where nobody could read it."""

    def __init__(
        self,
        pid: int,
        start_ticks: int,
        loop: asyncio.AbstractEventLoop,
        on_exit: Callable[[Process], None],
    ) -> None:
        """Raises ProcessLookupError where this process is no more, PermissionError where it may not be watched."""
        self.pid = pid
        self.start_ticks = start_ticks
        self.exited = False
        self.exit_code: int | None = None
        self._loop = loop
        self._on_exit = on_exit
        self._stat_descriptor = -1
        self._pidfd = os.pidfd_open(pid)
        try:
            stat = procfs.read_stat(pid)
            if stat.start_ticks != start_ticks:
                raise ProcessLookupError(f"pid {pid} is another process now")
            self.group = stat.group
            # The thread's file, not the process's: the same state letter without summing over all threads.
            self._stat_descriptor = os.open(f"/proc/{pid}/task/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            os.close(self._pidfd)
            raise ProcessLookupError(f"no process {pid}") from error
        loop.add_reader(self._pidfd, self._ended)

    def state(self) -> str:
        """R S D T t Z as in /proc/PID/stat; X when it is gone."""
        if self.exited:
            return "X"
        try:
            return procfs.state_letter(os.pread(self._stat_descriptor, 512, 0))
        except OSError:
            return "X"

    def is_same(self) -> bool:
        """Whether the pid still names this process (a zombie included): asked before every signal."""
        try:
            return procfs.read_stat(self.pid).start_ticks == self.start_ticks
        except ProcessLookupError:
            return False

    def close(self) -> None:
        """Stop watching. The exit code stays."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            os.close(self._stat_descriptor)
            self._pidfd = self._stat_descriptor = -1

    def _ended(self) -> None:
        self.exit_code = self._read_exit_code()
        self.exited = True
        self.close()
        self._on_exit(self)

    def _read_exit_code(self) -> int | None:
        try:
            stat = procfs.read_stat(self.pid)
            if stat.start_ticks == self.start_ticks and stat.state in "ZX":
                return os.waitstatus_to_exitcode(stat.wait_status)
        except (ProcessLookupError, ValueError):
            pass
        return exit_code_from_pidfd(self._pidfd)


def exit_code_from_pidfd(pidfd: int) -> int | None:
    """What the kernel keeps of a reaped process (Linux 6.15 and later); None where it keeps nothing."""
    buffer = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
        mask, *_, status = _INFO.unpack(buffer)
        return os.waitstatus_to_exitcode(status) if mask & _INFO_EXIT else None
    except (OSError, ValueError):
        return None
