"""The two sockets of one run directory: gRPC for the handler and the command line, datagrams from ranks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ryzen_agent.local_server import Listener, LocalServer
from ryzen_agent.nudge import Nudge
from ryzen_agent.places import Place


class Door:
    """Opened for as long as the folder stands."""

    def __init__(
        self, place: Place, loop: asyncio.AbstractEventLoop, listener: Listener, nudged: Callable[[], None]
    ) -> None:
        self.place = place
        self._loop = loop
        self._nudged = nudged
        self._server = LocalServer(place, listener)
        self._nudge: Nudge | None = None

    async def open(self) -> None:
        """Raises RunDirError or OSError."""
        # The folder's mode is the guard. In another user's folder the sockets must be open to that user,
        # and a chmod afterwards could be led astray by the folder's owner.
        before = os.umask(0 if self.place.uid != os.getuid() else 0o077)
        try:
            self._nudge = Nudge(self.place.inner, self._loop, self._nudged)
            self._server.bind()
        finally:
            os.umask(before)
        await self._server.start()

    async def close(self) -> None:
        await self._server.stop()
        if self._nudge is not None:
            self._nudge.close()
        self.place.close()
