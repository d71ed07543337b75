"""How a rank that is about to die says so, before the interpreter spends a second on finalising.

An uncaught exception passes through `sys.excepthook`: the hook stamps it in the beat page, wakes the agent with
one datagram and goes on to the hook that stood there before.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType


class Nudge:
    """Wakes the agent: "look at the pages now". An empty datagram that is sent or lost, never waited for."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def send(self) -> None:
        with contextlib.suppress(OSError):  # no agent, or it is busy: it reads the page soon anyway
            self._socket.sendto(b"", self._path)

    def close(self) -> None:
        """A call of `send` after this does nothing."""
        self._socket.close()


def stamp_uncaught(stamp: Callable[[str, str], None]) -> None:
    """From now on `stamp(type, message)` is called for an uncaught exception, then the hook that stood here."""
    former = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        try:
            stamp(kind.__name__, _text(error))
        finally:
            former(kind, error, where)

    sys.excepthook = hook


def _text(error: BaseException) -> str:
    """The message in one line: NCCL puts what matters in the second."""
    try:
        return " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything, and a broken one must not hide the rest
        return "(its message cannot be read)"
