"""NodeService: one stream a node. Updates go to the core, the newest desired state comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import structlog

import ryzen_protos
from ryzen_coordinator.core.effects import Desire
from ryzen_coordinator.core.events import NodeGone
from ryzen_coordinator.server import convert, convert_health
from ryzen_coordinator.server.auth import Right, Tokens, require
from ryzen_coordinator.server.driver import Driver
from ryzen_coordinator.server.outbox import Latest
from ryzen_protos import run_dir
from ryzen_protos.v1 import node_pb2 as pb
from ryzen_protos.v1 import node_pb2_grpc

_log = structlog.get_logger("ryzen_coordinator")


class NodeService(node_pb2_grpc.NodeServiceServicer):
    """What agents talk to."""

    def __init__(self, driver: Driver, tokens: Tokens | None) -> None:
        self._driver = driver
        self._tokens = tokens

    async def Attach(  # noqa: N802 - the name on the wire
        self, _updates: AsyncIterator[pb.NodeUpdate], context: grpc.aio.ServicerContext
    ) -> None:
        """Read and written through `context`: an iterator would be one more coroutine that each report goes through
        (measured: 4 of 28 us of the event loop a message)."""
        await require(self._tokens, context, Right.NODE)
        first = await context.read()
        if first is grpc.aio.EOF:
            return
        await self._check(first, context)
        stream = _Stream(self._driver, first.hello.node)
        reader = asyncio.create_task(stream.read(first, context))
        try:
            async for state in stream.states(reader):
                await context.write(state)
        finally:
            reader.cancel()
            stream.close()

    async def _check(self, first: pb.NodeUpdate, context: grpc.aio.ServicerContext) -> None:
        hello = first.hello
        if hello.protocol != ryzen_protos.PROTOCOL:
            older = "agent" if hello.protocol < ryzen_protos.PROTOCOL else "coordinator"
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"agent {hello.version or '?'} speaks protocol {hello.protocol}, coordinator "
                f"{ryzen_protos.__version__} speaks {ryzen_protos.PROTOCOL}: upgrade the {older}",
            )
        try:
            run_dir.check_name("node name", hello.node)
        except run_dir.RunDirError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if (other := self._namesake(hello)) is not None:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, other)

    def _namesake(self, hello: pb.NodeHello) -> str | None:
        """Two machines of one name would take turns in tearing down each other's ranks."""
        cluster = self._driver.core.cluster
        node = cluster.nodes.get(hello.node)
        if node is None or not node.connected or cluster.silent_node(node.name):
            return None
        known = (node.hello.boot_id, node.hello.host)
        if known == (hello.boot_id, hello.host) or not all(known):
            return None
        return f"node {hello.node!r} is connected already from {node.hello.host}: give this agent another --node name"


class _Stream:
    """One connection of one node."""

    def __init__(self, driver: Driver, node: str) -> None:
        self._driver = driver
        self._node = node
        self._acked = 0
        self._goodbye: str | None = None
        self._number, self._outbox = driver.open_stream(node)

    async def read(self, first: pb.NodeUpdate, context: grpc.aio.ServicerContext) -> None:
        """Until the agent closes its side."""
        update = first
        while update is not grpc.aio.EOF:
            self._take(update)
            if update.events:
                await self._keep_events(update)
            update = await context.read()

    async def states(self, reader: asyncio.Task[None]) -> AsyncIterator[pb.DesiredState]:
        """Desired states as they come, until the reader is done."""
        while True:
            desire = await _next(self._outbox, reader)
            if desire is None:
                return
            version = self._driver.next_version()
            state = convert.desired_state(desire.desired, version, self._driver.session, self._acked)
            yield self._driver.name_traces(state)

    def close(self) -> None:
        said = self._goodbye is not None
        self._driver.submit(NodeGone(self._node, self._number, goodbye=said, reason=self._goodbye or ""))

    def _take(self, update: pb.NodeUpdate) -> None:
        if update.HasField("goodbye"):
            self._goodbye = update.goodbye.reason or "goodbye"
        self._driver.take_update(self._node, self._number, update)

    async def _keep_events(self, update: pb.NodeUpdate) -> None:
        """Acknowledge once it is on disk, and what the core has made of it too: it will not be told again."""
        rows = [
            (event.id, event.unix_ns, event.kind, event.run_id, convert_health.fields(event)) for event in update.events
        ]
        if await self._driver.write_events(self._node, rows) and await self._driver.settled():
            self._acked = max(self._acked, *(row[0] for row in rows))
            self._driver.repeat(self._node)


async def _next(outbox: Latest[Desire], reader: asyncio.Task[None]) -> Desire | None:
    """The next desire, or None once the stream is over. A reader that failed raises here."""
    take = asyncio.ensure_future(outbox.take())
    try:
        await asyncio.wait({take, reader}, return_when=asyncio.FIRST_COMPLETED)
        if take.done():
            return take.result()
        reader.result()
        return None
    finally:
        take.cancel()
