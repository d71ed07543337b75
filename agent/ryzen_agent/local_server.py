"""The agent's side of the run directory's socket: rendezvous handlers and the command line.

One lock file a run directory says which agent serves it. A socket that an agent left behind is removed by the
next one; the handler reconnects to it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import grpc

import ryzen_protos
from ryzen_agent.errors import HandlerRefusedError, RunDirInUseError
from ryzen_agent.places import Place
from ryzen_protos import run_dir
from ryzen_protos.v1 import local_pb2, local_pb2_grpc

_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.http2.bdp_probe", 0),  # a ping for every message, and each wakes gRPC's threads a dozen times
]


class HandlerLink:
    """The stream to one handler; `send` gives it the newest order, a level."""

    def __init__(self) -> None:
        self._order = local_pb2.HandlerOrder()
        self._sent: local_pb2.HandlerOrder | None = None
        self._wake = asyncio.Event()
        self.closed = False

    def send(self, order: local_pb2.HandlerOrder) -> None:
        if order != self._order or self._sent is None:
            self._order = order
            self._wake.set()

    def close(self) -> None:
        self.closed = True
        self._wake.set()

    async def orders(self) -> AsyncIterator[local_pb2.HandlerOrder]:
        """Every order that differs from the one before, until closed."""
        while not self.closed:
            await self._wake.wait()
            self._wake.clear()
            if self._order != self._sent:
                self._sent = self._order
                yield self._order


class Listener(Protocol):
    """What the server needs of the agent."""

    def handler_update(self, link: HandlerLink, update: local_pb2.HandlerUpdate, place: Place) -> None:
        """Take a handler's level. Raises HandlerRefusedError."""

    def handler_gone(self, link: HandlerLink) -> None: ...

    def local_status(self, place: Place) -> local_pb2.LocalStatus: ...


class LocalServer(local_pb2_grpc.LocalAgentServicer):
    """gRPC over the Unix socket."""

    def __init__(self, place: Place, listener: Listener) -> None:
        self._place = place
        self._listener = listener
        self._links: set[HandlerLink] = set()
        self._server = grpc.aio.server(options=_OPTIONS)
        local_pb2_grpc.add_LocalAgentServicer_to_server(self, self._server)

    def bind(self) -> None:
        """Make the socket, with the mode that the umask leaves. Raises RunDirError or OSError."""
        path = run_dir.agent_socket(self._place.inner)
        path.unlink(missing_ok=True)
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise run_dir.RunDirError(f"socket {path} cannot be made: {error}") from error

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        for link in list(self._links):
            link.close()
        await self._server.stop(grace=0.1)
        run_dir.agent_socket(self._place.inner).unlink(missing_ok=True)

    async def Rendezvous(  # noqa: N802 - gRPC's name
        self,
        requests: AsyncIterator[local_pb2.HandlerUpdate],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[local_pb2.HandlerOrder]:
        link = HandlerLink()
        self._links.add(link)
        refusal: list[str] = []
        reader = asyncio.create_task(self._read(requests, link, refusal.append))
        try:
            async for order in link.orders():
                yield order
            if refusal:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, refusal[0])
        finally:
            reader.cancel()
            self._links.discard(link)
            self._listener.handler_gone(link)

    async def Status(  # noqa: N802 - gRPC's name
        self, _request: local_pb2.LocalStatusRequest, _context: grpc.aio.ServicerContext
    ) -> local_pb2.LocalStatus:
        return self._listener.local_status(self._place)

    async def _read(
        self, requests: AsyncIterator[local_pb2.HandlerUpdate], link: HandlerLink, refuse: Callable[[str], None]
    ) -> None:
        try:
            async for update in requests:
                check_protocol(update)
                self._listener.handler_update(link, update, self._place)
        except HandlerRefusedError as error:
            refuse(str(error))
        finally:
            link.close()


def check_protocol(update: local_pb2.HandlerUpdate) -> None:
    """Raises HandlerRefusedError with the line that tells which side is older."""
    if update.protocol == ryzen_protos.LOCAL_PROTOCOL:
        return
    older = "torchrun's environment" if update.protocol < ryzen_protos.LOCAL_PROTOCOL else "the agent"
    raise HandlerRefusedError(
        f"ryzen {update.version} in torchrun's environment (protocol {update.protocol}) and agent "
        f"{ryzen_protos.__version__} (protocol {ryzen_protos.LOCAL_PROTOCOL}) differ: upgrade {older}"
    )


def lock(folder: Path) -> int:
    """Make this process the run directory's agent, for its lifetime. Raises RunDirInUseError."""
    descriptor = os.open(folder / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "?"
        os.close(descriptor)
        raise RunDirInUseError(
            f"an agent (pid {pid}) serves {folder} already: start torchrun beside it, or set {run_dir.ENVIRONMENT}"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
