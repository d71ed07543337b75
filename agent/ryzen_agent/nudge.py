"""Datagrams from ranks: "look at my page now". Their content is ignored; a flood costs one look a loop turn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from ryzen_protos import run_dir


class Nudge:
    """The receiving socket of the run directory."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop, nudged: Callable[[], None]) -> None:
        """Raises OSError where the socket cannot be made."""
        self._path = run_dir.nudge_socket(folder)  # its mode follows the umask; the folder is the guard
        self._path.unlink(missing_ok=True)
        self._loop = loop
        self._nudged = nudged
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.bind(str(self._path))
        loop.add_reader(self._socket.fileno(), self._receive)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _receive(self) -> None:
        try:
            for _ in range(64):
                self._socket.recv(16)
        except (BlockingIOError, InterruptedError):
            pass
        self._nudged()
