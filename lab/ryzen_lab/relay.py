"""A wire that can be cut: a TCP relay between one agent and the coordinator.

Cut, it takes nothing from either side and closes nothing: what is written stays in the kernel's buffers, as it
would on the way to a host that no packet reaches. A new connection is accepted and then hears nothing, because a
listening socket cannot refuse in silence. Healed, the connections from before and those made meanwhile are reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: the socket closes with a reset, whatever is unsent."""


class Relay:
    """One node's. `target` gives HOST:PORT, for the coordinator's address is known only later."""

    def __init__(self, target: Callable[[], str]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self._open.set()
        self._reset_all()

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset_all()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            if writer.is_closing():
                return
            host, _, port = self._target().rpartition(":")
            answers, onward = await asyncio.open_connection(host, int(port))
            self._writers.add(onward)
            await asyncio.gather(self._carry(reader, onward), self._carry(answers, writer))
        except OSError:
            pass  # either end is gone: so is the wire
        finally:
            for each in filter(None, (writer, onward)):
                self._writers.discard(each)
                _reset(each)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._open.wait()
            writer.write(chunk)
            await writer.drain()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    found = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    with contextlib.suppress(RuntimeError):
        writer.transport.abort()
