"""What the nursery has forked: ranks, and parked processes that may become one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

from ryzen_trainer.worker.wire import Fields


class Child:
    """What was forked here, until it is reaped: a rank, or a parked process that may become one."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.channel: socket.socket | None = channel
        """To the rank's stub, or to the parked process itself."""
        self.worker_file: Path | None = None
        """Of a rank."""
        self.ended = False
        self.forgotten_at_s: float | None = None

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def kill(self) -> None:
        """With its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)  # it may not lead a group yet


class Parked(Child):
    """A process for the next generation of a local rank; see standby.py."""

    def __init__(self, pid: int, channel: socket.socket, request: Fields) -> None:
        super().__init__(pid, channel)
        self.request = request
        self.device = ""
        """Empty until it is ready."""
        self.seconds = 0.0
